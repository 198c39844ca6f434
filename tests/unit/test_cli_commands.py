"""The `hive` command as a program: what it sends, what it prints, and how it exits."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import (
    AGENT,
    APPROVAL,
    HIVE,
    PARK,
    QUESTION,
    FakeHive,
    Received,
    answer_journal,
    answer_with,
    refuse_with,
    run_fake_hive,
)
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.messages import BODY_LIMIT_BYTES
from hyperhive.system.pids import find_process
from hyperhive.system.process import run
from hyperhive.system.sockets import bind_unix


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        yield fake


# -- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "request_line", "fields"),
    [
        (["ps"], "GET /api/agents", {"name", "state", "reason", "driver", "model"}),
        (["ps", "--kept"], "GET /api/kept", {"name", "size_bytes"}),
        (["kept"], "GET /api/kept", {"name", "size_bytes", "spawned_at", "destroyed_at", "credentials"}),
        (["drafts"], "GET /api/drafts", {"name", "size_bytes", "created_at", "requested_by"}),
        (["pending"], "GET /api/approvals?status=pending", {"id", "kind", "agent", "status"}),
        (["inbox", "--limit", "5"], "GET /api/inbox?limit=5", {"id", "sender", "body", "sent_at"}),
        (["questions"], "GET /api/questions?status=open", {"id", "agent", "question", "options"}),
        (["questions", "--all"], "GET /api/questions?everyone=true", {"id", "agent", "asked", "question"}),
    ],
)
async def test_a_list_is_json_with_the_fields_scripts_rely_on(
    hive: FakeHive, args: list[str], request_line: str, fields: set[str]
) -> None:
    done = await call(hive.data, *args, "--json")
    assert done.status == 0, done.error_text
    (row,) = json.loads(done.stdout)
    assert fields <= set(row)
    assert asked(hive) == [request_line]
    table = await call(hive.data, *args)
    assert table.status == 0
    assert str(row.get("name") or row["id"]) in table.stdout.decode()


async def test_status_tells_what_needs_the_operator(hive: FakeHive) -> None:
    done = await call(hive.data, "status", "--json")
    summary = json.loads(done.stdout)
    assert (summary["agents"], summary["pending_approvals"], summary["open_questions"]) == ({"idle": 1}, 1, 1)
    shown = (await call(hive.data, "status")).stdout.decode()
    assert "rehearsal: no model behind this" in shown
    assert "1 to approve (hive pending)" in shown


async def test_logs_are_read_to_their_end_and_shown_safely(hive: FakeHive) -> None:
    hive.answers["GET /api/journal/alice"] = answer_journal("one\n\x1b[2Jtwo\nthree\n")
    done = await call(hive.data, "logs", "alice")
    assert done.stdout == b"one\n\\x1b[2Jtwo\nthree\n"
    pieces = (await call(hive.data, "logs", "alice", "--json")).stdout.splitlines()
    assert "".join(json.loads(piece)["text"] for piece in pieces) == "one\n\x1b[2Jtwo\nthree\n"


# It goes away while there is nothing new, or before all that was there is read.
@pytest.mark.parametrize("told", [["first\n", "", None, None, "second\n"], ["first\n", None, None, "", "second\n"]])
async def test_followed_logs_go_on_when_the_hive_is_back(hive: FakeHive, told: list[str | None]) -> None:
    pieces = iter(told)
    asked_from: list[str] = []

    def answer(received: Received) -> tuple[int, object]:
        asked_from.append(received.path.partition("offset=")[2])
        text = next(pieces, "over")
        if text is None:
            # What a client sees when the daemon dies: a connection that ends without an answer.
            raise ConnectionAbortedError
        if text == "over":
            return refuse_with(NotFoundError("there is no agent alice"), 404)(received)
        return 200, {"text": text, "next_offset": 7}

    hive.answers["GET /api/journal/alice"] = answer
    done = await call(hive.data, "logs", "-f", "alice")
    assert done.stdout == b"first\nsecond\n"
    assert all(offset.startswith("7") for offset in asked_from[1:])
    assert done.stderr.count(b"went away") == 1
    assert done.stderr.count(b"hive: it is back\n") == 1
    # What no waiting mends ends it.
    assert done.status == 1
    assert b"there is no agent alice" in done.stderr


async def test_url_prints_the_link_alone(hive: FakeHive) -> None:
    assert (await call(hive.data, "url")).stdout == b"http://127.0.0.1:7000/login?token=t\n"


# -- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "request_line", "body"),
    [
        (["spawn", "bob"], "POST /api/agents", {"name": "bob"}),
        (["start", "alice"], "POST /api/agents/alice/start", {}),
        (["stop", "alice"], "POST /api/agents/alice/stop", {}),
        (["restart", "alice"], "POST /api/agents/alice/restart", {}),
        (["cancel", "alice"], "POST /api/agents/alice/cancel", {}),
        (["pause", "alice", "--reason", "lunch"], "POST /api/agents/alice/pause", {"reason": "lunch"}),
        (["pause"], "POST /api/pause", {"reason": ""}),
        (["resume", "alice"], "POST /api/agents/alice/resume", {}),
        (["resume"], "POST /api/resume", {}),
        (["compact", "alice"], "POST /api/agents/alice/compact", {}),
        (["destroy", "alice"], "DELETE /api/agents/alice?purge=false", None),
        (["destroy", "--purge", "alice"], "DELETE /api/agents/alice?purge=true", None),
        (["approve", "3"], "POST /api/approvals/3/approve", {}),
        (["deny", "3", "--reason", "no need"], "POST /api/approvals/3/deny", {"reason": "no need"}),
        (["ack", "12"], "POST /api/inbox/12/ack", {}),
        (["questions", "--cancel", "5"], "POST /api/questions/5/cancel", {}),
        (
            ["answer", "5", "green", "-o", "amber"],
            "POST /api/questions/5/answer",
            {"options": ["amber"], "text": "green"},
        ),
    ],
)
async def test_an_order_is_one_request(
    hive: FakeHive, args: list[str], request_line: str, body: dict[str, object] | None
) -> None:
    done = await call(hive.data, *args)
    assert done.status == 0, done.error_text
    assert done.stdout
    assert asked(hive) == [request_line]
    assert hive.received[0].body == body


@pytest.mark.parametrize(("arg", "model"), [("claude-x", "claude-x"), ("--default", "")])
async def test_a_model_is_chosen_and_then_shown(hive: FakeHive, arg: str, model: str) -> None:
    chosen = AGENT.model_copy(update={"chosen_model": model})
    hive.answers["GET /api/agents"] = answer_with([chosen])
    done = await call(hive.data, "model", "alice", arg)
    assert done.status == 0, done.error_text
    assert asked(hive) == ["POST /api/model/alice", "GET /api/agents"]
    assert hive.received[0].body == {"model": model}
    assert (model or "that of its config") in done.stdout.decode()


async def test_without_a_model_the_one_in_force_is_shown(hive: FakeHive) -> None:
    shown = json.loads((await call(hive.data, "model", "alice", "--json")).stdout)
    assert shown == {"name": "alice", "model": "claude-test", "chosen_model": ""}
    assert asked(hive) == ["GET /api/agents"]
    assert (await call(hive.data, "model", "nobody")).status == 1
    assert (await call(hive.data, "model", "alice", " ")).status == 1


async def test_status_tells_why_the_whole_hive_stands_still(hive: FakeHive) -> None:
    assert b"parked" not in (await call(hive.data, "status")).stdout
    hive.answers["GET /api/hive"] = answer_with(HIVE.model_copy(update={"park": PARK}))
    assert b"parked     paused: by the operator" in (await call(hive.data, "status")).stdout


async def test_a_resume_that_leaves_a_spent_budget_is_no_success(hive: FakeHive) -> None:
    hive.answers["POST /api/agents/alice/resume"] = refuse_with(ConflictError("the budget is spent", "grant more"), 409)
    done = await call(hive.data, "resume", "alice")
    assert (done.status, done.stdout) == (1, b"")
    assert b"grant more" in done.stderr


async def test_spawn_and_send_print_what_was_made(hive: FakeHive) -> None:
    assert json.loads((await call(hive.data, "spawn", "bob", "--json")).stdout)["name"] == "alice"
    assert json.loads((await call(hive.data, "send", "alice", "hi", "--json")).stdout) == {"id": 77, "ids": [77]}


@pytest.mark.parametrize("args", [["send", "alice"], ["send", "alice", "-"]])
async def test_send_reads_standard_input(hive: FakeHive, args: list[str]) -> None:
    done = await call(hive.data, *args, stdin="zwei\nZeilen ü\n".encode())
    assert done.status == 0, done.error_text
    assert hive.received[0].body["body"] == "zwei\nZeilen ü"


async def test_two_equal_messages_have_keys_of_their_own(hive: FakeHive) -> None:
    for _ in range(2):
        await call(hive.data, "send", "alice", "hi", "--reply-to", "4")
    first, second = (received.body for received in hive.received)
    assert first["idempotency_key"] != second["idempotency_key"]
    assert first["in_reply_to"] == 4


async def test_purging_what_was_destroyed_before_removes_what_is_kept(hive: FakeHive) -> None:
    done = await call(hive.data, "destroy", "--purge", "gone")
    assert done.status == 0, done.error_text
    assert asked(hive)[-1] == "DELETE /api/kept/gone"


async def test_several_agents_are_started_in_turn(hive: FakeHive) -> None:
    assert (await call(hive.data, "start", "alice", "alice")).status == 0
    assert len(hive.received) == 2


async def test_down_returns_once_the_daemon_is_gone(tmp_path: Path) -> None:
    daemon = await start_fake_hive(tmp_path)
    # It lives on for a while after it has answered, as a daemon does that stops its agents.
    done = await call(tmp_path, "down")
    assert (done.status, done.stdout) == (0, b"the hive is down\n")
    assert find_process(daemon.pid) is None
    assert await daemon.wait() == 0


async def start_fake_hive(data: Path) -> asyncio.subprocess.Process:
    """A fake hive that is a process of its own and ends half a second after it was asked to."""
    code = (
        "import sys, threading, pathlib, fake_hive\n"
        "over = threading.Event()\n"
        "with fake_hive.run_fake_hive(pathlib.Path(sys.argv[1])) as hive:\n"
        "    hive.answers['POST /api/shutdown'] = lambda _: (over.set(), (200, {'left_running': []}))[1]\n"
        "    print('ready', flush=True)\n"
        "    over.wait(60)\n"
        "    threading.Event().wait(0.5)\n"
    )
    tests = Path(__file__).parent.parent
    search_path = f"{tests}:{os.environ.get('PYTHONPATH', '')}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(data)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": search_path},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
    return process


# -- refusals ------------------------------------------------------------------------------------------------


async def test_a_refusal_exits_1_with_message_and_hint_on_standard_error(hive: FakeHive) -> None:
    hive.answers["POST /api/approvals/3/approve"] = refuse_with(
        ConflictError("approval 3 is already denied", "nothing was changed"), 409
    )
    done = await call(hive.data, "approve", "3")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr == b"hive: approval 3 is already denied\nhint: nothing was changed\n"


async def test_an_approval_that_failed_is_no_success(hive: FakeHive) -> None:
    failed = APPROVAL.model_dump(mode="json") | {"status": "failed", "reason": "no disk\x1b[2J"}
    hive.answers["POST /api/approvals/3/approve"] = answer_with(failed)
    done = await call(hive.data, "approve", "3")
    assert done.status == 1
    assert b"no disk\\x1b[2J" in done.stderr


async def test_destroying_nobody_is_refused_without_purging(hive: FakeHive) -> None:
    hive.answers["DELETE /api/agents/gone"] = refuse_with(NotFoundError("no agent gone"), 404)
    assert (await call(hive.data, "destroy", "gone")).status == 1
    assert asked(hive) == ["DELETE /api/agents/gone?purge=false"]


NAMED = [
    "spawn",
    "start",
    "stop",
    "restart",
    "cancel",
    "destroy",
    "logs",
    "send",
    "pause",
    "resume",
    "model",
    "compact",
]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *[(command, "../..") for command in NAMED],
        *[("spawn", name) for name in ("Alice", "a/../b", "", "a" * 64, "x-", "hm1nd", "*")],
    ],
)
async def test_a_bad_name_is_refused_before_anything_is_sent(hive: FakeHive, command: str, name: str) -> None:
    done = await call(hive.data, command, "--", name, *(["hi"] if command == "send" else []))
    assert done.status == 1
    assert b"name" in done.stderr
    assert hive.received == []


async def test_one_bad_name_among_several_stops_nothing(hive: FakeHive) -> None:
    assert (await call(hive.data, "stop", "alice", "..")).status == 1
    assert hive.received == []


async def test_a_reserved_name_is_not_spawned(hive: FakeHive) -> None:
    for name in ("manager", "operator", "system"):
        assert (await call(hive.data, "spawn", name)).status == 1
    assert hive.received == []


@pytest.mark.parametrize("body", [b"", b" \n", b"\xff\xfe", b"x" * (BODY_LIMIT_BYTES + 1)])
async def test_a_message_that_cannot_be_sent_is_refused_before_it_is_sent(hive: FakeHive, body: bytes) -> None:
    done = await call(hive.data, "send", "alice", stdin=body)
    assert done.status == 1
    assert hive.received == []


async def test_an_empty_answer_is_refused(hive: FakeHive) -> None:
    assert QUESTION.id == 5
    assert (await call(hive.data, "answer", "5")).status == 1
    assert hive.received == []


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["approve", "three"],
        ["approve", "0"],
        ["approve"],
        ["send"],
        ["ps", "--bad"],
        ["up", "--port", "x"],
        ["model"],
        ["model", "alice", "claude-x", "--default"],
    ],
)
async def test_wrong_use_exits_2(tmp_path: Path, args: list[str]) -> None:
    assert (await call(tmp_path, *args)).status == 2


COMMANDS = [
    *[[command, "alice"] for command in NAMED if command != "send"],
    ["send", "alice", "hi"],
    ["ps"],
    ["ps", "--json"],
    ["pause"],
    ["resume"],
    ["status"],
    ["inbox"],
    ["ack", "1"],
    ["pending"],
    ["approve", "1"],
    ["deny", "1"],
    ["questions"],
    ["answer", "1", "x"],
    ["url"],
    ["down"],
]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
async def test_without_a_hive_every_command_exits_3_and_says_how_to_start(tmp_path: Path, args: list[str]) -> None:
    done = await call(tmp_path, *args)
    assert (done.status, done.stdout) == (3, b"")
    assert b"no hive is running" in done.stderr
    assert b"hive up" in done.stderr


async def test_a_socket_that_a_dead_daemon_left_is_no_hive(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    bind_unix(tmp_path / "run/hive.sock").close()
    assert (await call(tmp_path, "ps")).status == 3


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"[1]"), (200, b"{}"), (500, b"oops"), (500, b"{}")]
)
async def test_an_answer_of_another_version_is_an_error_and_no_crash(hive: FakeHive, status: int, body: bytes) -> None:
    hive.answers["GET /api/agents"] = lambda _: (status, body)
    done = await call(hive.data, "ps")
    assert done.status == 1
    assert done.stderr.startswith(b"hive: the hive answered")


async def test_the_way_to_the_socket_may_be_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path / "data"):
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        (tmp_path / "data").rename(deep / "data")
        assert (await call(deep / "data", "ps")).status == 0
        (deep / "data").rename(tmp_path / "data")


# -- the program itself --------------------------------------------------------------------------------------


async def test_version_and_help_need_no_hive(tmp_path: Path) -> None:
    assert (await call(tmp_path, "version")).stdout.startswith(b"hyperhive ")
    assert json.loads((await call(tmp_path, "version", "--json")).stdout)["version"]
    assert (await call(tmp_path, "--help")).status == 0


async def test_a_locale_that_lacks_a_character_is_no_failure(hive: FakeHive) -> None:
    hive.answers["GET /api/journal/alice"] = answer_journal("你好\n")
    done = await call(hive.data, "logs", "alice", PYTHONIOENCODING="ascii")
    assert (done.status, done.stdout) == (0, b"\\u4f60\\u597d\n")


async def test_up_becomes_the_daemon_and_takes_no_module_from_the_working_folder(tmp_path: Path) -> None:
    # A stand-in for the interpreter's packages: it is found by PYTHONPATH, the trap in the working folder is not.
    package = tmp_path / "packages/hyperhive/host"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text("import json, os, sys; print(json.dumps([os.getpid(), *sys.argv[1:]]))")
    source = Path(sys.modules["hyperhive"].__path__[0])
    for name in ("core", "system", "cli", "wire", "__init__.py"):
        (tmp_path / "packages/hyperhive" / name).symlink_to(source / name)
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "json.py").write_text("raise SystemExit('taken from the working folder')")
    done = await run(
        [
            *(sys.executable, "-P", "-m", "hyperhive.cli.main", "demo"),
            *("--data", str(tmp_path / "my data"), "--port", "0", "--driver", "bubblewrap", "--upstream", "http://x"),
        ],
        timeout_s=60,
        cwd=trap,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "packages")},
    )
    assert done.status == 0, done.error_text
    _, *argv = json.loads(done.stdout)
    assert argv == [
        "--rehearsal",
        f"--data={tmp_path / 'my data'}",
        "--port=0",
        "--driver=bubblewrap",
        "--upstream=http://x",
    ]
