"""What a container has of packages is what this machine has: asked of dpkg, or looked for as a program."""

from pathlib import Path

import pytest

from hyperhive.host.drivers.packages import DriverError, observe_packages


class Machine:
    """A machine of two folders: where the daemon finds dpkg-query, and where containers find programs."""

    def __init__(self, folder: Path) -> None:
        self.tools, self.programs = folder / "tools", folder / "usr/bin"
        for place in (self.tools, self.programs):
            place.mkdir(parents=True)

    def add_dpkg(self, script: str) -> None:
        self.add(self.tools / "dpkg-query", f"#!/bin/sh\n{script}\n")

    def add(self, path: Path, content: str = "") -> None:
        path.write_text(content)
        path.chmod(0o755)

    async def observe(self, *packages: str, timeout_s: float = 10) -> dict[str, str]:
        return await observe_packages(
            packages,
            {"PATH": str(self.tools)},
            programs_path=str(self.programs),
            visible=[self.programs.parent],
            timeout_s=timeout_s,
        )

    async def refuse(self, *packages: str, timeout_s: float = 10) -> DriverError:
        with pytest.raises(DriverError) as caught:
            await self.observe(*packages, timeout_s=timeout_s)
        return caught.value


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_what_dpkg_says_is_installed_has_its_version(machine: Machine) -> None:
    machine.add_dpkg(r"printf 'git\tinstalled\t1:2.39.5-0+deb12u2\ng++\tinstalled\t4:12.2\n'")
    assert await machine.observe("g++", "git") == {"g++": "4:12.2", "git": "1:2.39.5-0+deb12u2"}


@pytest.mark.parametrize("status", ["not-installed", "config-files", "half-installed", "unpacked", "half-configured"])
async def test_what_is_not_wholly_installed_is_missing(machine: Machine, status: str) -> None:
    machine.add_dpkg(rf"printf 'git\tinstalled\t1\njq\t{status}\t1.6\n'; exit 1")
    error = await machine.refuse("git", "jq", "nmap", "jq")
    assert error.message == "not installed on this machine: jq, nmap"
    assert error.hint == "apt-get install jq nmap"


async def test_a_program_that_dpkg_does_not_know_is_there_all_the_same(machine: Machine) -> None:
    machine.add_dpkg("echo 'no packages found' >&2; exit 1")
    machine.add(machine.programs / "uv")
    assert await machine.observe("uv") == {"uv": "unknown"}


async def test_without_dpkg_programs_are_looked_for_and_no_command_is_made_up(machine: Machine) -> None:
    machine.add(machine.programs / "git")
    assert await machine.observe("git") == {"git": "unknown"}
    error = await machine.refuse("git", "jq")
    assert "jq" in error.message and "git" not in error.message
    assert "apt-get" not in error.hint and error.hint.endswith(": jq")


async def test_a_program_that_a_link_takes_out_of_the_container_is_missing(machine: Machine, tmp_path: Path) -> None:
    machine.add(tmp_path / "elsewhere")
    (machine.programs / "tool").symlink_to(tmp_path / "elsewhere")
    assert "tool" in (await machine.refuse("tool")).message


async def test_a_dpkg_that_fails_or_hangs_is_a_failure_and_not_an_answer(machine: Machine) -> None:
    machine.add_dpkg("echo 'the database is broken' >&2; exit 2")
    assert "the database is broken" in (await machine.refuse("git")).message
    machine.add_dpkg("while :; do :; done")
    assert "did not end within 0.2 s" in (await machine.refuse("git", timeout_s=0.2)).message


async def test_dpkg_is_asked_nothing_but_names(machine: Machine, tmp_path: Path) -> None:
    machine.add_dpkg(f"echo called >>{tmp_path}/calls; exit 1")
    for name in ("*", "-f", "--admindir=/x", "a/b", "..", "", "git;id", "gi t", "x" * 65):
        error = await machine.refuse("git", name)
        assert "not installed" not in error.message
    assert await machine.observe() == {}
    assert not (tmp_path / "calls").exists()
