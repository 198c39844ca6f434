"""The login desk of the harness: with the real CLI against the OAuth stand-in, and with programs that misbehave."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness_rig import eventually
from hyperhive.core.errors import ConflictError, InvalidInputError, UnavailableError
from hyperhive.core.login import PLACEHOLDER
from hyperhive.harness.login import LOGIN_DEADLINE_S, LoginDesk, find_bundled_claude
from hyperhive.harness.own_login import find_claude_folder, observe_login
from oauth_rig import OAuth, run_connect_proxy, run_oauth
from stand_in import CLAUDE

GOOD = (
    "https://claude.com/cai/oauth/authorize?code_challenge=c&state=S"
    "&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback"
)


@pytest.fixture(scope="module")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OAuth]:
    yield from run_oauth(tmp_path_factory.mktemp("oauth"))


async def nothing_runs() -> None:
    """As long as no turn does."""


class Changes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def make_environment(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "CLAUDE_CONFIG_DIR": str(home / ".claude"), **more}


def make_desk(environment: dict[str, str], claude: Path | None = None, **more: Any) -> LoginDesk:
    folder = find_claude_folder(environment)
    more = {"make_room": nothing_runs, "changed": Changes(), **more}
    return LoginDesk(claude, environment, observe=lambda: observe_login(folder, environment), **more)


def write_program(folder: Path, text: str) -> Path:
    """A claude that is a shell script; it leaves its process id in the file `pid`."""
    path = folder / "claude"
    path.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def is_running(folder: Path) -> bool:
    pid = (folder / "pid").read_text().strip()
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_bundled_claude_is_found_without_importing_the_sdk() -> None:
    assert find_bundled_claude() == CLAUDE


# -- the real claude ---------------------------------------------------------------------------------------


async def test_claude_logs_in_with_the_code_and_keeps_the_tokens_itself(oauth: OAuth, tmp_path: Path) -> None:
    changed = Changes()
    async with run_connect_proxy(oauth.port) as (proxy, asked):
        desk = make_desk(
            make_environment(tmp_path, HTTPS_PROXY=proxy, NODE_EXTRA_CA_CERTS=str(oauth.ca)), changed=changed
        )
        url = await desk.start()
        assert await desk.start() == url
        login = await desk.finish(f" {oauth.get_code(url)}\n")
        assert (login["kind"], login["account"], changed.count) == ("own", "operator@example.com", 1)
        assert set(asked) <= {"platform.claude.com:443", "api.anthropic.com:443"}
        with pytest.raises(ConflictError, match="no login"):
            await desk.finish("a#b")


async def test_claude_needs_no_more_than_the_platforms_host(oauth: OAuth, tmp_path: Path) -> None:
    async with run_connect_proxy(oauth.port, only="platform.claude.com:443") as (proxy, _):
        desk = make_desk(make_environment(tmp_path, HTTPS_PROXY=proxy, NODE_EXTRA_CA_CERTS=str(oauth.ca)))
        assert (await desk.finish(oauth.get_code(await desk.start())))["account"] == "operator@example.com"


async def test_a_wrong_code_is_refused_in_claudes_words(oauth: OAuth, tmp_path: Path) -> None:
    async with run_connect_proxy(oauth.port) as (proxy, _):
        desk = make_desk(make_environment(tmp_path, HTTPS_PROXY=proxy, NODE_EXTRA_CA_CERTS=str(oauth.ca)))
        code = oauth.get_code(await desk.start())
        with pytest.raises(InvalidInputError, match="That code wasn't accepted"):
            await desk.finish(f"x{code}")
        assert observe_login(tmp_path / ".claude", {})["kind"] == "none"
        assert (await desk.finish(oauth.get_code(await desk.start())))["kind"] == "own"


async def test_an_authority_that_claude_does_not_know_is_told(oauth: OAuth, tmp_path: Path) -> None:
    async with run_connect_proxy(oauth.port) as (proxy, _):
        desk = make_desk(make_environment(tmp_path, HTTPS_PROXY=proxy))
        with pytest.raises(InvalidInputError, match="certificate"):
            await desk.finish(oauth.get_code(await desk.start()))


# -- programs that misbehave -------------------------------------------------------------------------------


async def test_a_link_that_leads_elsewhere_is_never_given_on(tmp_path: Path) -> None:
    desk = make_desk(
        make_environment(tmp_path), write_program(tmp_path, "echo visit: https://evil.example/login; exec sleep 60")
    )
    with pytest.raises(UnavailableError, match="does not lead to"):
        await desk.start()
    assert not is_running(tmp_path)


async def test_a_claude_that_ends_without_a_link_tells_why_on_one_safe_line(tmp_path: Path) -> None:
    program = write_program(tmp_path, r"printf 'no \033[2J\nway' >&2; exit 3")
    with pytest.raises(UnavailableError, match=r"claude gave no link: no \\x1b\[2J way"):
        await make_desk(make_environment(tmp_path), program).start()


async def test_a_claude_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be started"):
        await make_desk(make_environment(tmp_path), tmp_path / "nothing").start()


async def test_endless_output_costs_nothing(tmp_path: Path) -> None:
    program = write_program(tmp_path, f"echo '{GOOD}'; exec yes $(seq 1000)")
    desk = make_desk(make_environment(tmp_path), program)
    assert await desk.start() == GOOD
    await desk.close()
    assert not is_running(tmp_path)


async def test_a_login_nobody_finishes_ends_at_its_deadline(tmp_path: Path) -> None:
    program = write_program(tmp_path, f"trap '' TERM; echo '{GOOD}'; sleep 60 & wait")
    desk = make_desk(make_environment(tmp_path), program, deadline_s=0.2)
    await desk.start()
    await eventually(lambda: not is_running(tmp_path))
    with pytest.raises(ConflictError, match="took too long"):
        await desk.finish("a#S")
    await desk.close()
    assert LOGIN_DEADLINE_S == 900


async def test_giving_up_ends_it_and_giving_up_nothing_is_no_error(tmp_path: Path) -> None:
    desk = make_desk(make_environment(tmp_path), write_program(tmp_path, f"echo '{GOOD}'; exec sleep 60"))
    await desk.cancel()
    await desk.start()
    assert is_running(tmp_path)
    await desk.cancel()
    assert not is_running(tmp_path)


@pytest.mark.parametrize("code", ["", "a", "a#", "#S", "a#b#c", "a b#S", "a#other", "a\n#S"])
async def test_a_code_that_cannot_be_right_is_not_handed_in(tmp_path: Path, code: str) -> None:
    taken = tmp_path / "taken"
    program = write_program(tmp_path, f"echo '{GOOD}'; read code; echo $code > {taken}; exit 1")
    desk = make_desk(make_environment(tmp_path), program)
    await desk.start()
    with pytest.raises(InvalidInputError):
        await desk.finish(code)
    assert is_running(tmp_path)
    await desk.close()
    assert not taken.exists()


async def test_a_claude_that_says_yes_and_keeps_nothing_is_not_believed(tmp_path: Path) -> None:
    desk = make_desk(make_environment(tmp_path), write_program(tmp_path, f"echo '{GOOD}'; read code; exit 0"))
    await desk.start()
    with pytest.raises(UnavailableError, match="kept no tokens"):
        await desk.finish("a#S")


async def test_while_a_turn_runs_no_login_begins_and_a_code_keeps(tmp_path: Path) -> None:
    turns = [True]

    async def make_room() -> None:
        if turns[0]:
            raise ConflictError("a turn runs")

    desk = make_desk(
        make_environment(tmp_path), write_program(tmp_path, f"echo '{GOOD}'; read code; exit 1"), make_room=make_room
    )
    with pytest.raises(ConflictError, match="a turn runs"):
        await desk.start()
    turns[0] = False
    await desk.start()
    turns[0] = True
    with pytest.raises(ConflictError, match="a turn runs"):
        await desk.finish("a#S")
    assert is_running(tmp_path)
    await desk.close()


async def test_a_turn_waits_until_the_code_is_handed_in(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = write_program(tmp_path, f"echo '{GOOD}'; read code; read go < {gate}; exit 1")
    desk = make_desk(make_environment(tmp_path), program)
    await desk.start()
    await desk.wait_until_quiet()
    finishing = asyncio.create_task(desk.finish("a#S"))
    # Opened for both ways it waits for nobody.
    handle = os.open(gate, os.O_RDWR)
    waiting = asyncio.create_task(desk.wait_until_quiet())
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    os.write(handle, b"go\n")
    with pytest.raises(InvalidInputError):
        await finishing
    await asyncio.wait_for(waiting, 5)
    os.close(handle)


async def test_with_the_hives_credential_there_is_nothing_to_log_in(tmp_path: Path) -> None:
    desk = make_desk(make_environment(tmp_path, ANTHROPIC_API_KEY=PLACEHOLDER))
    with pytest.raises(ConflictError, match="the hive holds"):
        await desk.start()
