"""Fixtures that more than one kind of test needs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive
from nursery import Nursery


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(FailuresAtOnce(terminal))
    HiveProcess.nursery = Nursery()


def pytest_unconfigure() -> None:
    if HiveProcess.nursery is not None:
        HiveProcess.nursery.close()


class FailuresAtOnce:
    """Shows a failure when it happens: a long run that is cut off has said what it knew."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\n{report.nodeid} ({report.when}), {report.duration:.0f} s:")
            self._terminal.write_line("\n".join(report.longreprtext.splitlines()[-20:]))


@pytest.fixture
def hive() -> Iterator[HiveProcess]:
    """A running hive on an empty data folder, with nobody behind the model; all of it ends with the test."""
    yield from run_hive()


@pytest.fixture(scope="module")
def shared_hive() -> Iterator[HiveProcess]:
    """One hive for all tests of a module that do not change it."""
    yield from run_hive()


def run_hive() -> Iterator[HiveProcess]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data")
        hive.start()
        try:
            yield hive
        finally:
            end_hive(hive)
