/* A disk that can lose its power, put in front of the C library with LD_PRELOAD.
 *
 * Every change of a file in one watched folder is written to a log before it is made; power_cut.py works out of the log
 * what a disk would have kept. The log says when a sync was asked for and when it was done: only what was written before
 * a sync was asked for that was then done is safe. The kernel is not asked to sync: the log is the disk.
 *
 * Not watched: folders below the folder, the shared memory of SQLite (-shm), duplicates of descriptors, and what is
 * written through mmap. What goes past the log is found: it is compared with the files after each cut.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE, RESIZE, SYNC_ASKED, SYNC_DONE, UNLINK, RENAME };

/* As power_cut.py reads it. `file` is the inode, 0 for the folder itself. */
struct record {
  uint32_t kind;
  uint32_t length;
  uint64_t file;
  uint64_t value;
};

#define FD_LIMIT 4096
#define FOLDER_FD UINT64_MAX

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t watched[FD_LIMIT]; /* by descriptor: the inode, FOLDER_FD, or 0 */
static char folder[PATH_MAX];
static struct stat folder_status;
static int log_fd = -1;
static unsigned sync_limit_us;
static unsigned random_state;
static uint64_t sync_count;
static uint64_t records_left; /* until the power is cut; 0: never */

static void fail(const char *why) {
  fprintf(stderr, "power_cut: %s: %s\n", why, strerror(errno));
  abort();
}

static void *find_next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) fail(name);
  return found;
}

/* ISO C knows no cast from an object pointer to a function pointer: POSIX does, through a copy. */
#define REAL(name, ...)                                  \
  static int (*real)(__VA_ARGS__);                       \
  do {                                                   \
    void *found_ = find_next(name);                      \
    memcpy(&real, &found_, sizeof real);                 \
  } while (0)

/* -- the log ----------------------------------------------------------------------------------------------- */

static void cut_power(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Called with the lock held. */
static void put(enum kind kind, uint64_t file, uint64_t value, const void *data, size_t length) {
  struct record record = {kind, (uint32_t)length, file, value};
  struct iovec parts[] = {{&record, sizeof record}, {(void *)(uintptr_t)data, length}};
  if (writev(log_fd, parts, 2) != (ssize_t)(sizeof record + length)) fail("the log");
  if (records_left > 0 && --records_left == 0) cut_power();
}

/* From now on what happens in `path` is logged to `log`. A sync takes up to `limit_us`. */
void power_watch(const char *path, const char *log, unsigned limit_us, unsigned seed) {
  if (realpath(path, folder) == NULL || stat(folder, &folder_status) != 0) fail(path);
  sync_limit_us = limit_us;
  random_state = seed;
  log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_fd < 0) fail(log);
}

/* The process is killed with the `count`th record from now on. */
void power_cut_after(uint64_t count) {
  pthread_mutex_lock(&lock);
  records_left = count;
  pthread_mutex_unlock(&lock);
}

/* -- which files are watched ------------------------------------------------------------------------------- */

static uint64_t find_file(int fd) { return fd >= 0 && fd < FD_LIMIT && log_fd >= 0 ? watched[fd] : 0; }

static int is_file(uint64_t file) { return file != 0 && file != FOLDER_FD; }

/* Writes the name of `path` within the folder to `name`. 0 if it is elsewhere, or not to be watched. */
static int find_name(int at, const char *path, char name[NAME_MAX + 1]) {
  char parent[PATH_MAX];
  struct stat status;
  if (log_fd < 0 || strlen(path) >= sizeof parent) return 0;
  strcpy(parent, path);
  char *slash = strrchr(parent, '/');
  const char *base = slash == NULL ? path : path + (slash - parent) + 1;
  if (slash == NULL) {
    strcpy(parent, ".");
  } else {
    slash[slash == parent] = '\0';
  }
  size_t length = strlen(base);
  if (length == 0 || length > NAME_MAX) return 0;
  if (length > 4 && strcmp(base + length - 4, "-shm") == 0) return 0;
  if (fstatat(at, parent, &status, 0) != 0) return 0;
  if (status.st_dev != folder_status.st_dev || status.st_ino != folder_status.st_ino) return 0;
  strcpy(name, base);
  return 1;
}

static void note_opened(int fd, const char *name, int is_new, int flags) {
  struct stat status;
  if (fd >= FD_LIMIT || fstat(fd, &status) != 0) fail("a new descriptor");
  if (name == NULL || !S_ISREG(status.st_mode)) {
    int is_folder = status.st_dev == folder_status.st_dev && status.st_ino == folder_status.st_ino;
    watched[fd] = is_folder ? FOLDER_FD : 0;
    return;
  }
  watched[fd] = status.st_ino;
  put(OPEN, status.st_ino, (uint64_t)is_new, name, strlen(name));
  if (flags & O_TRUNC) put(RESIZE, status.st_ino, 0, NULL, 0);
}

/* -- what replaces the C library's ------------------------------------------------------------------------- */

static int open_watched(int at, const char *path, int flags, mode_t mode) {
  char name[NAME_MAX + 1];
  struct stat status;
  REAL("openat64", int, const char *, int, mode_t);
  if (log_fd < 0) return real(at, path, flags, mode);
  pthread_mutex_lock(&lock);
  int is_inside = find_name(at, path, name);
  int is_new = is_inside && fstatat(at, path, &status, AT_SYMLINK_NOFOLLOW) != 0;
  int fd = real(at, path, flags, mode);
  int error = errno;
  if (fd >= 0) note_opened(fd, is_inside ? name : NULL, is_new, flags);
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define MODE_OF(flags)                                           \
  mode_t mode = 0;                                               \
  if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
    va_list more;                                                \
    va_start(more, flags);                                       \
    mode = va_arg(more, mode_t);                                 \
    va_end(more);                                                \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(at, path, flags, mode);
}

/* As the fortified headers of others call them. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);
int __open_2(const char *path, int flags) { return open_watched(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_watched(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_watched(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_watched(at, path, flags, 0); }

int close(int fd) {
  REAL("close", int);
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < FD_LIMIT) watched[fd] = 0;
  int result = real(fd);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static ssize_t write_watched(int fd, uint64_t file, const void *data, size_t length, off64_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  void *found = find_next("pwrite64");
  memcpy(&real, &found, sizeof real);
  put(WRITE, file, (uint64_t)offset, data, length);
  ssize_t written = real(fd, data, length, offset);
  if (written != (ssize_t)length) fail("a write that was logged");
  return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  uint64_t file = find_file(fd);
  if (!is_file(file)) {
    void *found = find_next("pwrite64");
    memcpy(&real, &found, sizeof real);
    return real(fd, data, length, offset);
  }
  pthread_mutex_lock(&lock);
  ssize_t written = write_watched(fd, file, data, length, offset);
  pthread_mutex_unlock(&lock);
  return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
  static ssize_t (*real)(int, const void *, size_t);
  uint64_t file = find_file(fd);
  if (!is_file(file)) {
    void *found = find_next("write");
    memcpy(&real, &found, sizeof real);
    return real(fd, data, length);
  }
  pthread_mutex_lock(&lock);
  int from_end = fcntl(fd, F_GETFL) & O_APPEND;
  off64_t offset = lseek64(fd, 0, from_end ? SEEK_END : SEEK_CUR);
  if (offset < 0) fail("the place of a write");
  /* On Linux, pwrite to a descriptor with O_APPEND appends as well. */
  ssize_t written = write_watched(fd, file, data, length, offset);
  if (lseek64(fd, offset + written, SEEK_SET) < 0) fail("the place after a write");
  pthread_mutex_unlock(&lock);
  return written;
}

int ftruncate64(int fd, off64_t size) {
  REAL("ftruncate64", int, off64_t);
  uint64_t file = find_file(fd);
  if (!is_file(file)) return real(fd, size);
  pthread_mutex_lock(&lock);
  put(RESIZE, file, (uint64_t)size, NULL, 0);
  if (real(fd, size) != 0) fail("a change of size that was logged");
  pthread_mutex_unlock(&lock);
  return 0;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_watched(uint64_t file) {
  file = file == FOLDER_FD ? 0 : file;
  pthread_mutex_lock(&lock);
  uint64_t number = ++sync_count;
  unsigned wait_us = sync_limit_us == 0 ? 0 : (unsigned)rand_r(&random_state) % sync_limit_us;
  put(SYNC_ASKED, file, number, NULL, 0);
  pthread_mutex_unlock(&lock);
  if (wait_us > 0) usleep(wait_us);
  pthread_mutex_lock(&lock);
  put(SYNC_DONE, file, number, NULL, 0);
  pthread_mutex_unlock(&lock);
  return 0;
}

int fsync(int fd) {
  REAL("fsync", int);
  uint64_t file = find_file(fd);
  return file == 0 ? real(fd) : sync_watched(file);
}

int fdatasync(int fd) {
  REAL("fdatasync", int);
  uint64_t file = find_file(fd);
  return file == 0 ? real(fd) : sync_watched(file);
}

int unlinkat(int at, const char *path, int flags) {
  char name[NAME_MAX + 1];
  REAL("unlinkat", int, const char *, int);
  pthread_mutex_lock(&lock);
  int is_there = faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_there && find_name(at, path, name)) put(UNLINK, 0, 0, name, strlen(name));
  int result = real(at, path, flags);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int renameat(int at, const char *path, int to_at, const char *to_path) {
  char names[2 * (NAME_MAX + 1)];
  REAL("renameat", int, const char *, int, const char *);
  pthread_mutex_lock(&lock);
  if (find_name(at, path, names)) {
    size_t length = strlen(names) + 1;
    /* What leaves the folder or comes into it is nothing that this disk knows. */
    if (!find_name(to_at, to_path, names + length)) fail("a move out of the folder");
    put(RENAME, 0, 0, names, length + strlen(names + length));
  }
  int result = real(at, path, to_at, to_path);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int rename(const char *path, const char *to_path) { return renameat(AT_FDCWD, path, AT_FDCWD, to_path); }
