"""Fixtures that more than one kind of test needs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive


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
