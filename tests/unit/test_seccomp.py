"""The filter of system calls, run on a small machine of our own: what the kernel would say to each call."""

import errno
import os
import socket
import struct

import pytest

from hyperhive.host.drivers.protocol import DriverError
from hyperhive.host.drivers.seccomp import render_filter

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.ENOSYS
NO_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
X86_64, AARCH64, RISCV64, I386 = 0xC000003E, 0xC00000B7, 0xC00000F3, 0x40000003


def judge(program: bytes, processor: int, number: int, argument: int = socket.AF_UNIX) -> int:
    """What the filter returns for a call with this first argument; it ends, as jumps go forward only."""
    data = struct.pack("=IIQQ", number, processor, 0, argument)
    accumulator = place = 0
    while True:
        code, then, otherwise, operand = struct.unpack_from("=HBBI", program, place * 8)
        place += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return operand
        else:
            assert code in {0x15, 0x35}
            jumps = accumulator == operand if code == 0x15 else accumulator >= operand
            place += then if jumps else otherwise


@pytest.mark.parametrize(
    ("machine", "processor", "denied"),
    [
        ("x86_64", X86_64, {103, 248, 249, 250, 298, 321, 323, 425}),
        ("aarch64", AARCH64, {116, 217, 218, 219, 241, 280, 282, 425}),
        ("riscv64", RISCV64, {116, 217, 218, 219, 241, 280, 282, 425}),
    ],
)
def test_the_denied_calls_are_refused_and_no_others(machine: str, processor: int, denied: set[int]) -> None:
    program = render_filter(machine)
    assert len(program) % 8 == 0
    answers = {number: judge(program, processor, number) for number in range(600)}
    assert {number for number, answer in answers.items() if answer != ALLOW} == denied
    assert {answers[number] for number in denied} == {REFUSE}


@pytest.mark.parametrize(
    ("machine", "processor", "number"), [("x86_64", X86_64, 41), ("aarch64", AARCH64, 198), ("riscv64", RISCV64, 198)]
)
def test_sockets_are_of_families_that_a_network_namespace_holds(machine: str, processor: int, number: int) -> None:
    program = render_filter(machine)
    answers = {family: judge(program, processor, number, family) for family in range(64)}
    allowed = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert {family for family, answer in answers.items() if answer == ALLOW} == allowed
    assert {answers[family] for family in answers.keys() - allowed} == {NO_FAMILY}
    # The kernel looks at the lower half of the argument only.
    assert judge(program, processor, number, 1 << 32 | socket.AF_VSOCK) == NO_FAMILY
    assert judge(program, processor, number + 1, socket.AF_VSOCK) == ALLOW


def test_calls_of_another_kind_have_no_way_around() -> None:
    program = render_filter("x86_64")
    # 32-bit programs have other numbers: 250 is exit_group's neighbour there, and 288 is keyctl.
    assert {judge(program, I386, number) for number in range(600)} == {REFUSE}
    assert {judge(program, AARCH64, number) for number in range(600)} == {REFUSE}
    # The x32 kind: the same numbers with a bit more.
    assert {judge(program, X86_64, 0x40000000 | number) for number in range(600)} == {REFUSE}
    assert judge(program, X86_64, 0xFFFFFFFF) == REFUSE


def test_a_processor_whose_calls_are_not_known_gets_no_sandbox() -> None:
    with pytest.raises(DriverError, match="s390x"):
        render_filter("s390x")
    assert render_filter(os.uname().machine)
