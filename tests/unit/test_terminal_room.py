"""Terminals are bounded for what has a mount of its own for them, and for nothing else."""

import os
import subprocess
import sys

import pytest

from hyperhive.system.terminal_room import limit_terminals


def test_the_machines_own_terminals_are_left_as_they_are() -> None:
    with pytest.raises(FileNotFoundError, match="this machine's"):
        limit_terminals(os.getpid(), 1)
    ours, theirs = os.openpty()
    os.close(ours)
    os.close(theirs)


def test_of_a_process_that_has_ended_nothing_is_bounded() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(FileNotFoundError):
        limit_terminals(process.pid)
