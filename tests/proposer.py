"""The manager's end of proposals, without a model: a working copy of a config, bundles of it, requests on the link."""

import base64
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hive_process import HiveProcess
from hyperhive.wire.agent_link import COMMIT_REF, NOTES_REF

IDENTITY = {
    "GIT_AUTHOR_NAME": "manager",
    "GIT_AUTHOR_EMAIL": "manager@hive",
    "GIT_COMMITTER_NAME": "manager",
    "GIT_COMMITTER_EMAIL": "manager@hive",
    # What clones starts another git, which knows nothing of options of the first one.
    "GIT_CONFIG_GLOBAL": str(Path(__file__).parent / "data/gitconfig"),
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Runs git in `folder` as a manager would. Returns what it printed."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **IDENTITY},
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
    return done.stdout


def commit_files(folder: Path, files: Mapping[str, str], message: str = "a change") -> str:
    """Writes and commits `files`. Returns the commit."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD").decode().strip()


def make_bundle(folder: Path, commit: str, notes: str = "") -> bytes:
    """A bundle of all history of `commit`, as the harness makes one."""
    refs = [COMMIT_REF]
    git(folder, "update-ref", COMMIT_REF, commit)
    if notes:
        git(folder, "update-ref", NOTES_REF, notes)
        refs.append(NOTES_REF)
    return git(folder, "bundle", "create", "-q", "-", *refs)


class LinkError(Exception):
    """The daemon refused a request. `code` and the texts are its HiveError."""

    def __init__(self, data: Mapping[str, str]) -> None:
        super().__init__(f"{data.get('message')} ({data.get('hint')})")
        self.code = data.get("code", "")


@dataclass
class Proposer:
    """Speaks on the manager's socket as its harness. The manager's container must be stopped, or they would fight."""

    hive: HiveProcess
    folder: Path
    generation: int = 0
    _socket: socket.socket | None = None
    _buffer: bytes = b""
    _next_id: int = 0
    _greeted: dict[str, Any] = field(default_factory=dict[str, Any])

    def connect(self) -> "Proposer":
        self.close()
        self._socket = self.hive.link("manager")
        self._buffer = b""
        self._greeted = self.request("hello", {"protocol": 1, "generation": self.generation, "holding": []})
        return self

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one request. Raises LinkError."""
        assert self._socket is not None
        self._next_id += 1
        line = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": dict(params)}
        self._socket.sendall(json.dumps(line).encode() + b"\n")
        while True:
            answer = json.loads(self._read_line())
            if answer.get("id") == self._next_id and "method" not in answer:
                break
        if "error" in answer:
            raise LinkError(answer["error"].get("data") or {"message": answer["error"]["message"]})
        return answer["result"]

    def _read_line(self) -> bytes:
        assert self._socket is not None
        while b"\n" not in self._buffer:
            piece = self._socket.recv(65536)
            assert piece, "the daemon closed the connection"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    # -- configs -------------------------------------------------------------------------------------------

    def clone(self, agent: str) -> Path:
        """A fresh working copy of what is deployed for `agent`."""
        target = self.folder / f"{agent}-{uuid.uuid4().hex[:6]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        git(self.folder, "clone", "-q", str(self.hive.data / "applied" / agent), str(target))
        return target

    def submit(self, agent: str, working_copy: Path, commit: str, description: str = "", key: str = "") -> int:
        """Proposes a commit of a working copy. Returns the approval's id."""
        answer = self.request(
            "request_apply_commit",
            {
                "agent": agent,
                "commit": commit,
                "bundle": base64.b64encode(make_bundle(working_copy, commit)).decode(),
                "description": description,
                "idempotency_key": key or uuid.uuid4().hex,
            },
        )
        return answer["approval_id"]

    def propose(self, agent: str, files: Mapping[str, str], description: str = "") -> tuple[int, str]:
        """Commits `files` on top of what is deployed and proposes that. Returns the approval's id and the commit."""
        working_copy = self.clone(agent)
        commit = commit_files(working_copy, files, description or "a change")
        return self.submit(agent, working_copy, commit, description), commit


def read_generation(hive: HiveProcess, agent: str = "manager") -> int:
    """The newest generation of an agent's container, from its environment as the driver recorded it."""
    container = "hm1nd" if agent == "manager" else agent
    record = json.loads((hive.run / "containers" / container / "container.json").read_text())
    return int(record["environment"]["HIVE_GENERATION"])
