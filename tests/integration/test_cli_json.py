"""Every command that reads prints JSON for programs, on a running hive; exit statuses are the documented ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli_process import call
from hive_process import HiveProcess
from hyperhive.cli.main import app

# What only acts, draws on a terminal, or speaks to a program: no JSON.
ACTS = {
    *("up", "demo", "down", "start", "stop", "restart", "rebuild", "cancel", "destroy", "ack", "answer", "resume"),
    *("compact", "release", "requeue", "dismiss", "completion", "top", "mcp", "token revoke"),
    *("webhook remove", "webhook test", "webhook drop", "webhook retry"),
    *("install", "uninstall"),
    "egress revoke",
    "audit export",
    "snapshot rm",
    "images rm",
}

# The arguments of each command that reads. {message} and {approval} are there, and `writer` is an agent.
READS: dict[str, list[str]] = {
    "status": [],
    "url": [],
    "version": [],
    "doctor": [],
    "ps": [],
    "kept": [],
    "drafts": [],
    "inbox": [],
    "questions": [],
    "pending": [],
    "needs": [],
    "notify": [],
    "devices": [],
    "budget": [],
    "egress show": [],
    "egress grants": [],
    "quota": [],
    "images list": [],
    "images verify": [],
    "reminders": [],
    "snapshots": [],
    "stats": [],
    "config": ["manager"],
    "policy show": ["manager"],
    "policy check": ["manager", "--bash", "ls"],
    "notes": ["manager"],
    "model": ["manager"],
    "logs": ["manager", "-n", "5"],
    "files": ["manager"],
    "search": ["hello"],
    "message": ["{message}"],
    "token list": [],
    "audit list": [],
    "audit verify": [],
    "audit head": [],
    "webhook list": [],
}
# These write, and say in JSON what came of it; or they go on for ever. Others' tests have them.
WRITES = {
    *("spawn", "send", "approve", "deny", "revert", "discard", "revive", "purge", "pause", "grant", "login", "tail"),
    *("show", "shell", "egress allow", "token create", "webhook add", "backup", "restore", "images prune"),
    "import-first-hive",
    *("snapshot take", "snapshot restore", "snapshot fork", "snapshot export", "snapshot import"),
}
POLICY_VERDICTS = {0, 1, 4}


def walk(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{name} ")
        else:
            yield prefix + name, command


COMMANDS = dict(walk(get_command(app)))


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HiveProcess]:
    hive = HiveProcess(tmp_path_factory.mktemp("json") / "data").start()
    hive.wait_state("manager", "idle")
    yield hive
    hive.down()


def has_json(command: Any) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_command_that_is_no_mere_act_has_json() -> None:
    assert {name for name, command in COMMANDS.items() if not has_json(command)} <= ACTS
    asked = {name for name, command in COMMANDS.items() if has_json(command)}
    assert asked - READS.keys() - WRITES == set(), "a new command: say here how it is asked"


@pytest.mark.parametrize("name", [name for name in READS if name in COMMANDS])
async def test_what_is_read_is_json_line_by_line(hive: HiveProcess, name: str) -> None:
    number = hive.post("/api/messages", {"to": "manager", "body": "hello"})["id"]
    arguments = [text.format(message=number) for text in READS[name]]
    done = await call(hive.data, *name.split(), *arguments, "--json")
    assert done.status in (POLICY_VERDICTS if name == "policy check" else {0, 1} if name == "doctor" else {0})
    lines = done.stdout.decode("ascii").splitlines()
    assert lines
    for line in lines:
        json.loads(line)
    assert b"\x1b" not in done.stdout


async def test_every_exit_status_is_as_documented(hive: HiveProcess, tmp_path: Path) -> None:
    async def status(data: Path, *args: str) -> int:
        return (await call(data, *args)).status

    assert await status(hive.data, "ps") == 0
    assert await status(hive.data, "start", "nobody") == 1
    assert await status(hive.data, "logs", "nobody") == 1
    assert await status(hive.data, "no-such-command") == 2
    assert await status(hive.data, "ps", "--no-such-option") == 2
    assert await status(hive.data, "completion", "tcsh") == 2
    for args in (["ps"], ["logs", "manager"], ["top"], ["status", "--json"]):
        expected = 1 if args == ["top"] else 3
        assert await status(tmp_path / "none", *args) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_names_are_completed_from_the_running_hive(hive: HiveProcess, shell: str, tmp_path: Path) -> None:
    words = {
        "_HIVE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "hive logs man",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "hive logs man",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = await call(hive.data, stdin=b"", **words)
    assert (done.status, b"manager" in done.stdout) == (0, True)
    down = await call(tmp_path / "none", stdin=b"", **words)
    assert b"manager" not in down.stdout
    assert down.stderr == b""
    script = await call(hive.data, "completion", shell)
    assert (script.status, b"_HIVE_COMPLETE" in script.stdout) == (0, True)


async def test_lines_of_the_journal_are_the_last_the_matching_and_the_new_ones(hive: HiveProcess) -> None:
    every = (await call(hive.data, "logs", "manager")).stdout.decode()
    assert "linked as" in every
    assert (await call(hive.data, "logs", "manager", "-n", "1")).stdout.decode() == every.splitlines()[-1] + "\n"
    matching = (await call(hive.data, "logs", "manager", "--grep", "LINKED AS")).stdout.decode()
    assert matching
    assert all("linked as" in line for line in matching.splitlines())
    assert (await call(hive.data, "logs", "manager", "--since", "1h")).stdout.decode() == every
    assert (await call(hive.data, "logs", "manager", "--since", "2099-01-01T00:00:00Z")).stdout == b""
