"""What is forked in the nursery is a process of its own, and ends like one."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nursery import Nursery

PROGRAM = """
import os, signal, sys
print(sys.argv[1:], os.environ["WORD"], os.getcwd(), "hyperhive.host.app" in sys.modules, flush=True)
print("trouble", file=sys.stderr)
if sys.argv[1] == "wait":
    signal.pause()
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def test_a_program_has_its_own_arguments_environment_output_and_exit_status(
    nursery: Nursery, program: str, tmp_path: Path
) -> None:
    for status in (0, 3):
        with (tmp_path / "errors").open("w") as errors:
            forked = nursery.start([program, "end", str(status)], {"WORD": "amber"}, errors)
        with forked.stdout:
            assert forked.stdout.read() == f"['end', '{status}'] amber {Path.cwd()} True\n"
        assert forked.wait(60) == status
        assert forked.poll() == status
        assert (tmp_path / "errors").read_text() == "trouble\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_killed_is_told_as_that(nursery: Nursery, program: str, number: signal.Signals) -> None:
    forked = nursery.start([program, "wait", "0"], {"WORD": ""}, sys.__stderr__ or sys.stderr)
    with forked.stdout:
        assert forked.stdout.readline()
        assert forked.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            forked.wait(0.01)
        forked.send_signal(number)
        assert forked.wait(60) == -number
    # Nobody else may have its number by now.
    forked.send_signal(number)
