"""Runs a program as an operator's login does: with a secret in the session's keyring of the kernel.

python with_session_key.py SECRET PROGRAM ARGUMENTS…

The system calls have no functions in the C library. A kernel without keyrings just runs the program.
"""

import ctypes
import os
import sys

# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h: add_key and keyctl.
ADD_KEY, KEYCTL = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
# include/uapi/linux/keyctl.h
JOIN_SESSION, SEARCH, READ = 1, 10, 11
SESSION_KEYRING = -3
KEY_NAME = b"hive-test"

libc = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    secret, program, *arguments = sys.argv[1:]
    libc.syscall(KEYCTL, JOIN_SESSION, None)
    libc.syscall(ADD_KEY, b"user", KEY_NAME, secret.encode(), ctypes.c_size_t(len(secret)), SESSION_KEYRING)
    os.execv(program, [program, *arguments])
