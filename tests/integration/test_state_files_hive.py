"""The files of an agent in a running hive: what its container makes, as the API and the command show it."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from attack_rig import Arena
from cli_process import call
from hive_process import HiveProcess, wait_for

# What an agent can do in its own container: no device, no file of another's.
MAKE = r"""
cd /state
printf 'hello\n' > plain.txt
printf '<script>alert(1)</script>' > page.html
ln -s /etc/passwd passwd
ln -s . again
mkfifo pipe
mkdir -p 'a&b=c/%2e%2e'
printf 'deep\n' > 'a&b=c/%2e%2e/#x?y'
printf 'odd\n' > "$(printf 'new\nline \033[2J')"
printf 'raw\n' > "$(printf '\377\376')"
touch 'made'
"""


@dataclass
class Agent:
    hive: HiveProcess
    name: str
    state: Path

    def ask(self, rest: str, path: str | None = None, **query: str) -> httpx.Response:
        with self.hive.client() as client:
            params = query if path is None else {"path": path}
            return client.get(f"/api/agents/{self.name}/state{rest}", params=params)

    def entries(self, path: str = "") -> dict[str, Any]:
        answer = self.ask("", path)
        answer.raise_for_status()
        return {entry["name"]: entry for entry in answer.json()["entries"]}


@pytest.fixture
def agent(arena: Arena) -> Iterator[Agent]:
    name = arena.spawn()
    state = arena.state(name)
    order = f"please\n%% tool Bash {json.dumps({'command': MAKE})}\n%% say done"
    arena.hive.post("/api/messages", {"to": name, "body": order})
    wait_for((state / "made").exists, "the files", timeout_s=120, hive=arena.hive)
    yield Agent(arena.hive, name, state)


async def test_what_an_agent_makes_is_listed_shown_and_saved(agent: Agent, tmp_path: Path) -> None:
    entries = agent.entries()
    kinds = {name: entry["kind"] for name, entry in entries.items()}
    assert kinds["plain.txt"] == kinds["page.html"] == kinds["\\xff\\xfe"] == kinds["new\\x0aline \\x1b[2J"] == "file"
    assert (kinds["passwd"], kinds["again"], kinds["pipe"], kinds["a&b=c"]) == ("link", "link", "other", "folder")

    # Every file that is listed opens by its own spelling.
    for name, text in (("plain.txt", "hello\n"), ("\\xff\\xfe", "raw\n"), ("new\\x0aline \\x1b[2J", "odd\n")):
        assert agent.ask("/file", name).json()["text"] == text
        assert agent.ask("/download", name).content == text.encode()
    assert list(agent.entries("a&b=c/%2e%2e")) == ["#x?y"]
    assert agent.ask("/file", "a&b=c/%2e%2e/#x?y").json()["text"] == "deep\n"

    for path, status in (("passwd", 403), ("pipe", 403), ("again/plain.txt", 403), ("a&b=c", 409), ("nothing", 404)):
        for rest in ("/file", "/download"):
            answer = agent.ask(rest, path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), path
            assert answer.json()["hint"]
            assert "root:" not in answer.text
    await check_the_command(agent, tmp_path)
    check_climbing(agent)


async def check_the_command(agent: Agent, tmp_path: Path) -> None:
    done = await call(agent.hive.data, "files", agent.name)
    assert done.status == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert b"new\\x0aline \\x1b[2J" in done.stdout
    assert (await call(agent.hive.data, "files", agent.name, "plain.txt")).stdout == b"hello\n"
    shown = await call(agent.hive.data, "files", agent.name, "plain.txt", "--json")
    assert json.loads(shown.stdout)["text"] == "hello\n"
    target = tmp_path / "saved"
    assert (await call(agent.hive.data, "files", agent.name, "page.html", "-o", str(target))).status == 0
    assert target.read_text() == "<script>alert(1)</script>"
    refused = await call(agent.hive.data, "files", agent.name, "passwd")
    assert (refused.status, b"is a link" in refused.stderr, b"root:" in refused.stdout) == (1, True, False)


def check_climbing(agent: Agent) -> None:
    secrets = [agent.hive.data / "hive.sqlite", Path("/etc/passwd")]
    climbs = [
        *("..", "../config", "../../../hive.sqlite", "\\x2e\\x2e/config", "a&b=c/../../config", "./../config"),
        *(str(secret) for secret in secrets),
        *(os.path.relpath(secret, agent.state) for secret in secrets),
        *("plain.txt\0", "\\x00", "/", "//", "\\x2fetc"),
    ]
    for path in climbs:
        for rest in ("", "/file", "/download"):
            assert agent.ask(rest, path).status_code == 400, path
    # A name is decoded once: what is left is a name like another.
    for raw in ("%252e%252e", "%25%32%65%2e/x", "%c0%ae%c0%ae/", "%ff", "a%00b", "..%2f..%2fconfig"):
        with agent.hive.client() as client:
            answer = client.get(f"/api/agents/{agent.name}/state/file?path={raw}")
        assert answer.status_code in {400, 404}, raw
        assert "root:" not in answer.text


def test_no_file_is_ever_shown_by_a_browser(agent: Agent) -> None:
    """What an agent wrote is saved and not shown: it would be a page of ours."""
    with agent.hive.browser_session() as client:
        for path, name in (
            ("page.html", "page.html"),
            ("\\xff\\xfe", "__"),
            ("new\\x0aline \\x1b[2J", "new_line___2J"),
        ):
            answer = client.get(f"/api/agents/{agent.name}/state/download", params={"path": path})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"


def test_a_large_file_is_saved_whole_and_a_larger_one_refused(agent: Agent) -> None:
    owner = agent.state.stat()
    for name, size in (("large", 64 * 2**20), ("larger", 64 * 2**20 + 1)):
        with (agent.state / name).open("wb") as file:
            file.truncate(size)
        os.chown(agent.state / name, owner.st_uid, owner.st_gid)
    assert len(agent.ask("/download", "large").content) == 64 * 2**20
    answer = agent.ask("/download", "larger")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert agent.ask("/file", "larger").json()["binary"] is True


def test_a_token_that_may_read_may_read_files_and_one_that_may_send_may_not(agent: Agent) -> None:
    hive = agent.hive
    for scope, status in (("read", 200), ("send", 403)):
        token = hive.post("/api/tokens", {"name": f"files-{scope}", "scopes": [scope]})["secret"]
        headers = {"authorization": f"Bearer {token}"}
        for rest in ("?path=", "/file?path=plain.txt", "/download?path=plain.txt"):
            answer = httpx.get(f"{hive.origin}/api/agents/{agent.name}/state{rest}", headers=headers)
            assert answer.status_code == status
