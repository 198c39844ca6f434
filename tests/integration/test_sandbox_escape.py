"""An agent in its sandbox tries what it can think of, and gets nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import escape_checks
import escape_file_checks
import sandbox_checks
from driver_runner import KINDS, OWN_KERNEL_KINDS, check_kind, unprivileged_place


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with unprivileged_place() as place:
        yield place


@pytest.mark.parametrize("kind", (*KINDS, *OWN_KERNEL_KINDS))
@pytest.mark.parametrize("name", sandbox_checks.CHECKS)
async def test_from_inside_a_sandbox(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("sandbox_checks", name, kind, place, tmp_path)


@pytest.mark.parametrize("kind", (*KINDS, *OWN_KERNEL_KINDS))
@pytest.mark.parametrize("name", escape_checks.CHECKS)
async def test_out_of_a_sandbox(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("escape_checks", name, kind, place, tmp_path)


@pytest.mark.parametrize("kind", (*KINDS, *OWN_KERNEL_KINDS))
@pytest.mark.parametrize("name", escape_file_checks.CHECKS)
async def test_by_what_is_left_in_its_folder(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("escape_file_checks", name, kind, place, tmp_path)
