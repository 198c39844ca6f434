"""The system calls that no container has, as a filter for the kernel: what namespaces do not separate.

Above all the kernel's keyrings: a process inherits its session's, and with it whatever secrets the operator's own
session keeps there; and sockets of families that know no network namespace, such as vsock, by which a virtual machine
speaks to its host. The rest is what a sandbox can do without and kernel bugs are most often reached through.
"""

import errno
import os
import struct

from hyperhive.host.drivers.protocol import DriverError

# Numbers on x86-64, and on the processors that came after the kernel's one list for all: arch/x86/entry/syscalls/
# syscall_64.tbl and include/uapi/asm-generic/unistd.h.
DENIED = {
    # Where kernel.dmesg_restrict is off, anybody may read the machine's log.
    "syslog": (103, 116),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
_SOCKET = (41, 198)
# include/linux/socket.h: unix, internet of both versions, netlink. The kernel keeps these apart by namespaces.
_FAMILIES = (1, 2, 10, 16)
# What the kernel calls a processor (include/uapi/linux/audit.h), and which of the two numbers is its own.
_PROCESSORS = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}
# Calls of the x32 kind have this bit and the same numbers otherwise.
_X32_BIT = 0x40000000

# include/uapi/linux/seccomp.h and bpf_common.h: where the call's number, processor and first argument are (the lower
# half of it: all these processors have it first, and the kernel takes no more for a family), and what to do with them.
_NUMBER_OFFSET, _PROCESSOR_OFFSET, _ARGUMENT_OFFSET = 0, 4, 16
_LOAD, _IF_EQUAL, _IF_ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def render_filter(machine: str) -> bytes:
    """The filter for a processor as `os.uname` calls it: a denied call fails as on a kernel that has it not.

    So do sockets of all other families, and all calls of another processor's kind, such as those of 32-bit programs:
    their numbers are others. Raises DriverError for a processor whose numbers are not known here.
    """
    if machine not in _PROCESSORS:
        raise DriverError(f"sandboxes are not known to hold on a {machine}", f"they are on: {', '.join(_PROCESSORS)}")
    processor, column = _PROCESSORS[machine]
    denied = sorted(numbers[column] for numbers in DENIED.values())
    # A jump counts the instructions that it skips. At the end: no such family, allow, deny.
    sockets = [
        _instruction(_IF_EQUAL, _SOCKET[column], otherwise=len(_FAMILIES) + 2),
        _instruction(_LOAD, _ARGUMENT_OFFSET),
        *(_instruction(_IF_EQUAL, family, then=len(_FAMILIES) - place) for place, family in enumerate(_FAMILIES)),
    ]
    to_end = len(denied) + len(sockets) + 2
    program = [
        _instruction(_LOAD, _PROCESSOR_OFFSET),
        _instruction(_IF_EQUAL, processor, otherwise=to_end + 2),
        _instruction(_LOAD, _NUMBER_OFFSET),
        _instruction(_IF_ABOVE, _X32_BIT, then=to_end),
        *(_instruction(_IF_EQUAL, number, then=to_end - 1 - place) for place, number in enumerate(denied)),
        *sockets,
        _instruction(_RETURN, _FAIL | errno.EAFNOSUPPORT),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _FAIL | errno.ENOSYS),
    ]
    return b"".join(program)


def render_own_filter() -> bytes:
    """The filter for this machine's processor."""
    return render_filter(os.uname().machine)


def _instruction(code: int, operand: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, operand)
