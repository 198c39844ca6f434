"""The commands about configs, policies, drafts and kept state: what they ask, what they print, how they exit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_process import asked, call
from fake_hive import (
    AGENT,
    APPLY,
    CONFIG,
    DECISION,
    NOW,
    REVERT,
    REVIEW,
    VERSION,
    FakeHive,
    Received,
    answer_with,
    refuse_with,
    run_fake_hive,
)
from hyperhive.cli.configs import CONFIG_FILES, parse_version, render_config, render_file, render_history
from hyperhive.cli.policy import EXIT_STATUSES, render_decision, render_permissions
from hyperhive.cli.rendering import Screen
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.policy import Verdict
from hyperhive.wire import agent_config, agent_nix
from hyperhive.wire.operator.base import Model

SCREEN = Screen(now=NOW)
HOSTILE = "\x1b[2J\r\u202e\u200bevil\n#99 forged"


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        yield fake


def row(made: Model, /, **changes: Any) -> dict[str, Any]:
    return made.model_dump(mode="json") | changes


def answer_in_turn(*values: Any) -> Any:
    """One answer after the other; the last one stays."""
    left = [answer_with(value) for value in values]

    def answer(received: Received) -> tuple[int, Any]:
        return (left.pop(0) if len(left) > 1 else left[0])(received)

    return answer


# -- approvals ---------------------------------------------------------------------------------------------


async def test_pending_asks_for_the_review_of_each_config_and_shows_it(hive: FakeHive) -> None:
    hive.answers["GET /api/approvals"] = answer_with([APPLY, APPLY.model_copy(update={"id": 8})])
    hive.answers["GET /api/approvals/8/review"] = refuse_with(ConflictError("it was\x1b[2J decided", ""), 409)
    done = await call(hive.data, "pending")
    assert done.status == 0, done.error_text
    text = done.stdout.decode()
    assert "jq" in text
    assert "hive show 7 for the diff" in text
    assert "the change cannot be shown:\n    it was\\x1b[2J decided" in text
    assert asked(hive)[1:] == ["GET /api/approvals/7/review", "GET /api/approvals/8/review"]


async def test_show_prints_the_review_and_its_json(hive: FakeHive) -> None:
    text = (await call(hive.data, "show", "7", "--since", "--full", "--side-by-side")).stdout.decode()
    assert "since #5" in text
    assert "packages" in text
    assert json.loads((await call(hive.data, "show", "7", "--json")).stdout) == row(REVIEW)
    assert set(asked(hive)) == {"GET /api/approvals/7/review"}


async def test_an_approval_that_is_not_there_is_refused_with_the_hives_hint(hive: FakeHive) -> None:
    hive.answers["GET /api/approvals/99/review"] = refuse_with(NotFoundError("no approval 99", "`hive pending`"), 404)
    done = await call(hive.data, "show", "99")
    assert (done.status, done.stderr) == (1, b"hive: no approval 99\nhint: `hive pending`\n")


async def test_approve_says_what_happens_next(hive: FakeHive) -> None:
    done = await call(hive.data, "approve", "7")
    assert done.status == 0
    assert done.stdout == b"approved 7\nalice: approved; `hive show 7` tells how it ends\n"


def answer_build(hive: FakeHive, end: str, reason: str | None = None) -> None:
    building = row(APPLY, status="building")
    hive.answers["GET /api/approvals/7"] = answer_in_turn(building, building, row(APPLY, status=end, reason=reason))


async def test_approve_waits_until_it_is_deployed(hive: FakeHive) -> None:
    answer_build(hive, "deployed")
    done = await call(hive.data, "approve", "7", "--wait")
    assert done.status == 0, done.error_text
    steps = ["approved 7", "alice: approved …", "alice: building …", "alice: deployed; `hive ps` shows it"]
    assert done.stdout.decode().splitlines() == steps
    assert asked(hive) == ["POST /api/approvals/7/approve", *["GET /api/approvals/7"] * 3]


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_build_that_fails_is_no_success(hive: FakeHive, as_json: bool) -> None:
    answer_build(hive, "failed", "no package\x1b[2J")
    done = await call(hive.data, "approve", "7", "--wait", *(["--json"] if as_json else []))
    assert done.status == 1
    assert done.stderr.startswith(b"hive: approval 7 failed: no package\\x1b[2J\nhint: the previous config of alice is")
    if as_json:
        assert json.loads(done.stdout)["status"] == "failed"


async def test_a_hive_that_ends_meanwhile_ends_the_wait(hive: FakeHive) -> None:
    def answer(received: Received) -> tuple[int, Any]:
        raise ConnectionAbortedError

    hive.answers["GET /api/approvals/7"] = answer
    done = await call(hive.data, "approve", "7", "--wait")
    assert done.status == 1
    assert b"went away" in done.stderr


# -- configs -----------------------------------------------------------------------------------------------


async def test_a_config_is_shown_with_commit_files_and_text(hive: FakeHive) -> None:
    text = (await call(hive.data, "config", "alice")).stdout.decode()
    assert text.startswith(f"alice has commit {'c' * 40}\n")
    assert 'agent.toml\n    packages = ["git"]\n' in text
    assert "logo.png    2 KiB  executable, binary or large\n" in text
    assert json.loads((await call(hive.data, "config", "alice", "--json")).stdout) == row(CONFIG)


async def test_a_config_that_is_written_in_nix_is_shown_with_its_text(hive: FakeHive) -> None:
    files = [row(CONFIG.files[0], path="agent.nix", text="{ }\n")]
    hive.answers["GET /api/agent-config/alice"] = answer_with(row(CONFIG, files=files))
    assert "agent.nix\n    { }\n" in (await call(hive.data, "config", "alice")).stdout.decode()


async def test_a_file_of_the_config_is_printed_alone_and_safely(hive: FakeHive) -> None:
    files = [row(CONFIG.files[0], text="\ta\x1b[2J\u200b\nb\n")]
    hive.answers["GET /api/agent-config/alice"] = answer_with(row(CONFIG, files=files))
    done = await call(hive.data, "config", "alice", "--file", "agent.toml")
    assert done.stdout == b"\ta\\x1b[2J\\u200b\nb\n"
    as_json = await call(hive.data, "config", "alice", "--file", "agent.toml", "--json")
    assert json.loads(as_json.stdout) == files[0]


@pytest.mark.parametrize(("file", "word"), [("logo.png", b"binary"), ("../secret", b"it has agent.toml, logo.png")])
async def test_a_file_that_cannot_be_printed_is_refused(hive: FakeHive, file: str, word: bytes) -> None:
    done = await call(hive.data, "config", "alice", "--file", file)
    assert (done.status, done.stdout) == (1, b"")
    assert word in done.stderr


def test_a_config_that_cannot_be_used_says_so_first() -> None:
    view = row(CONFIG, problem="line 3: unknown key 'pakages'\ndid you mean 'packages'?", config=None, permissions=[])
    assert render_config(view, SCREEN).splitlines()[1:4] == [
        "this config cannot be used, so the agent does not start:",
        "    line 3: unknown key 'pakages'",
        "    did you mean 'packages'?",
    ]
    assert "line 3" in render_permissions(view, SCREEN)
    assert "nothing is known to be allowed" in render_permissions(view, SCREEN)


def test_the_files_of_a_config_have_the_names_that_the_contract_gives_them() -> None:
    assert CONFIG_FILES == (agent_config.CONFIG_FILE, agent_nix.NIX_FILE)


async def test_the_history_marks_what_runs_and_tells_reasons(hive: FakeHive) -> None:
    denied = VERSION.model_copy(
        update={
            "approval": 4,
            "tag": "denied/4",
            "status": ApprovalStatus.DENIED,
            "current": False,
            "reason": "no network",
        }
    )
    hive.answers["GET /api/agent-config/alice/history"] = answer_with([denied, VERSION])
    lines = (await call(hive.data, "config", "alice", "--history")).stdout.decode().splitlines()
    assert lines[1].split() == ["denied/4", "denied", "cccccccc", "1", "d", "git", "for", "alice", "(no", "network)"]
    assert lines[2].split()[:3] == ["*", "deployed/3", "deployed"]
    as_json = await call(hive.data, "config", "alice", "--history", "--json")
    assert [version["approval"] for version in json.loads(as_json.stdout)] == [4, 3]


def test_an_agent_without_versions_has_none() -> None:
    assert render_history([], "alice", SCREEN) == "alice has no config yet"


async def test_the_schema_is_json(hive: FakeHive) -> None:
    assert json.loads((await call(hive.data, "config", "--schema")).stdout) == {"type": "object"}


@pytest.mark.parametrize("to", ["3", "deployed/3"])
async def test_revert_asks_for_one_deployed_version(hive: FakeHive, to: str) -> None:
    done = await call(hive.data, "revert", "alice", to)
    assert done.status == 0, done.error_text
    assert done.stdout.startswith(b"#9 brings back deployed/3 of alice\n")
    assert (hive.received[0].path, hive.received[0].body) == ("/api/agent-config/alice/revert", {"to": 3})
    assert json.loads((await call(hive.data, "revert", "alice", to, "--json")).stdout) == row(REVERT)


async def test_revert_waits_for_its_end(hive: FakeHive) -> None:
    ended = REVERT.model_copy(update={"status": ApprovalStatus.FAILED, "reason": "did not start"})
    hive.answers["GET /api/approvals/9"] = answer_with(ended)
    done = await call(hive.data, "revert", "alice", "3", "--wait", "--yes")
    assert done.status == 1
    assert b"did not start" in done.stderr


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("deployed/0", 0), ("12", 12), ("deployed/12", 12)])
def test_a_version_is_a_number_or_a_tag(text: str, number: int) -> None:
    assert parse_version(text) == number


@pytest.mark.parametrize(
    "text", ["", "denied/3", "deployed/", "deployed/x", "03", "+3", "-3", "3 ", "٣", "3\n", "9" * 40]
)
def test_anything_else_is_no_version(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_version(text)


def test_no_field_of_a_config_controls_the_terminal() -> None:
    file = row(CONFIG.files[0], path=HOSTILE, text=HOSTILE)
    toml = row(CONFIG.files[0], text=HOSTILE)
    permission = row(CONFIG.permissions[0], area=HOSTILE, subject=HOSTILE, verdict=HOSTILE, rule=HOSTILE)
    view = row(CONFIG, agent=HOSTILE, commit=HOSTILE, files=[file, toml], problem=HOSTILE, permissions=[permission])
    version = row(VERSION, status=HOSTILE, commit=HOSTILE, at=HOSTILE, description=HOSTILE, reason=HOSTILE, tag=HOSTILE)
    decision = row(DECISION, verdict=HOSTILE, rule=HOSTILE, reason=HOSTILE)
    for screen in (SCREEN, replace(SCREEN, width=40)):
        for text in (
            render_config(view, screen),
            render_permissions(view, screen),
            render_history([version], "alice", screen),
            render_decision(decision, screen),
        ):
            assert not set(text) & set("\x1b\r\u202e\u200b")
            assert not [line for line in text.splitlines() if line.startswith("#99")]
    assert not set(render_file(file)) & set("\x1b\r\u202e\u200b")


# -- policy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "body"),
    [
        (["--bash", "git status; curl x"], {"bash": "git status; curl x"}),
        (["--tool", "Read"], {"tool": "Read"}),
        (["--tool", "Read", "--arguments", '{"file_path": "/x"}'], {"tool": "Read", "arguments": {"file_path": "/x"}}),
        (["--send", "bob"], {"recipient": "bob"}),
    ],
)
async def test_policy_check_asks_the_hive_one_thing(hive: FakeHive, args: list[str], body: dict[str, Any]) -> None:
    done = await call(hive.data, "policy", "check", "alice", *args)
    assert done.status == 0, done.error_text
    assert done.stdout == b"allow, by bash.allow: git *\n    git status is listed\n"
    assert (hive.received[0].path, hive.received[0].body) == ("/api/agent-config/alice/check", body)


@pytest.mark.parametrize(("verdict", "status"), [("allow", 0), ("deny", 1), ("ask", 4), ("maybe", 1)])
async def test_the_exit_status_is_the_verdict(hive: FakeHive, verdict: str, status: int) -> None:
    hive.answers["POST /api/agent-config/alice/check"] = answer_with(row(DECISION, verdict=verdict))
    done = await call(hive.data, "policy", "check", "alice", "--bash", "x", "--json")
    assert done.status == status
    assert json.loads(done.stdout)["verdict"] == verdict


def test_every_verdict_has_an_exit_status() -> None:
    assert set(EXIT_STATUSES) == set(Verdict)


@pytest.mark.parametrize("arguments", ["", "[1]", "{", "null", "[" * 100_000])
async def test_arguments_that_are_no_object_are_refused(hive: FakeHive, arguments: str) -> None:
    done = await call(hive.data, "policy", "check", "alice", "--tool", "Read", "--arguments", arguments)
    assert (done.status, done.stdout) == (1, b"")
    assert b"--arguments is no JSON" in done.stderr
    assert hive.received == []


async def test_policy_show_lists_the_permissions_with_their_rules(hive: FakeHive) -> None:
    lines = (await call(hive.data, "policy", "show", "alice")).stdout.decode().splitlines()
    assert lines[1].split() == ["run", "git", "*", "allow", "bash.allow:", "git", "*"]
    as_json = await call(hive.data, "policy", "show", "alice", "--json")
    assert json.loads(as_json.stdout) == row(CONFIG)["permissions"]


# -- drafts and kept state ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "request_line", "shown"),
    [
        (["discard", "tester"], "DELETE /api/drafts/tester", b"discarded the draft of tester\n"),
        (["discard", "tester", "--json"], "DELETE /api/drafts/tester", b'{"discarded": "tester"}\n'),
        (["purge", "gone", "--yes"], "DELETE /api/kept/gone", b"purged gone\n"),
        (["purge", "gone", "--json"], "DELETE /api/kept/gone", b'{"purged": "gone"}\n'),
        (["revive", "gone"], "POST /api/kept/gone/revive", b"revived gone: `hive ps` shows how it starts\n"),
    ],
)
async def test_an_order_is_one_request(hive: FakeHive, args: list[str], request_line: str, shown: bytes) -> None:
    done = await call(hive.data, *args)
    assert (done.status, done.stdout) == (0, shown), done.error_text
    assert asked(hive) == [request_line]


async def test_revive_prints_the_agent_as_json(hive: FakeHive) -> None:
    assert json.loads((await call(hive.data, "revive", "gone", "--json")).stdout) == row(AGENT)


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["discard", "nobody"], b"hint: `hive drafts`"),
        (["revive", "nobody"], b"hint: `hive kept`"),
        (["purge", "nobody"], b"`hive destroy --purge nobody` ends one that lives"),
    ],
)
async def test_a_name_that_is_not_there_is_refused_with_a_way_on(hive: FakeHive, args: list[str], hint: bytes) -> None:
    done = await call(hive.data, *args)
    assert done.status == 1
    assert hint in done.stderr


NAMED = [
    ["config"],
    ["config", "--history"],
    ["policy", "show"],
    ["policy", "check", "--bash", "x"],
    ["discard"],
    ["revive"],
    ["purge"],
]


@pytest.mark.parametrize("name", ["..", "../..", "a/b", "Alice", "-x", "a\nb", "manager/../alice"])
@pytest.mark.parametrize("args", NAMED, ids=" ".join)
async def test_a_bad_name_is_refused_before_anything_is_sent(hive: FakeHive, args: list[str], name: str) -> None:
    done = await call(hive.data, *args, "--", name)
    assert done.status == 1
    assert b"is not an agent name" in done.stderr
    assert hive.received == []


async def test_a_bad_version_or_name_reverts_nothing(hive: FakeHive) -> None:
    for args in (["..", "3"], ["alice", "denied/3"]):
        assert (await call(hive.data, "revert", *args)).status == 1
    assert hive.received == []


@pytest.mark.parametrize(
    "args",
    [
        ["config"],
        ["config", "alice", "--schema"],
        ["config", "alice", "--history", "--file", "x"],
        ["policy"],
        ["policy", "check", "alice"],
        ["policy", "check", "alice", "--bash", "x", "--send", "bob"],
        ["policy", "check", "alice", "--bash", "x", "--arguments", "{}"],
        ["show", "0"],
        ["show", "x"],
        ["revert", "alice"],
    ],
    ids=" ".join,
)
async def test_wrong_use_exits_2(hive: FakeHive, args: list[str]) -> None:
    assert (await call(hive.data, *args)).status == 2
    assert hive.received == []


COMMANDS = [
    *[[*args, "alice"] for args in NAMED],
    ["config", "--schema"],
    ["show", "1"],
    ["approve", "1", "--wait"],
    ["revert", "alice", "3"],
    ["drafts"],
    ["kept"],
]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
async def test_without_a_hive_every_command_exits_3(tmp_path: Path, args: list[str]) -> None:
    done = await call(tmp_path, *args)
    assert (done.status, done.stdout) == (3, b"")
    assert b"no hive is running" in done.stderr


@pytest.mark.parametrize("args", [["show", "7"], ["config", "alice"], ["config", "alice", "--history"], ["pending"]])
@pytest.mark.parametrize("answer", [b"[1]", b"{}", b'{"files": 3, "approval": 1, "permissions": "x"}'])
async def test_an_answer_of_another_version_is_an_error_and_no_crash(
    hive: FakeHive, args: list[str], answer: bytes
) -> None:
    for path in ("approvals", "approvals/7/review", "agent-config/alice", "agent-config/alice/history"):
        hive.answers[f"GET /api/{path}"] = lambda _: (200, answer)
    done = await call(hive.data, *args)
    assert done.status == 1
    assert done.stderr.startswith(b"hive: the hive answered")
