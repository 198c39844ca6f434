"""A real harness with the real claude CLI, between a stand-in daemon (`link_peer`) and the stand-in model service."""

import asyncio
import base64
import contextlib
import copy
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, TypeVar

import link_peer

T = TypeVar("T")

DEADLINE_S = 40.0


async def eventually(look: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """What `look` sees, once that is something. Fails after `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < end_s, f"not seen within {deadline_s} s"
        await asyncio.sleep(0.02)
    return seen


def make_config(commit: str = "1" * 40, **fields: Any) -> dict[str, Any]:
    """A config without rules, but for `fields`: those of the config itself, or of its policy."""
    config: dict[str, Any] = copy.deepcopy(link_peer.CONFIG) | {"commit": commit}
    for name, value in fields.items():
        (config if name in config else config["policy"])[name] = value
    return config


class ModelRelay:
    """The model's unix socket: forwards to the stand-in, and keeps what claude said to it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.said = bytearray()
        self.first_byte_at_s: list[float] = []

    async def serve(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._relay, path)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while chunk := await source.read(65536):
                    if keep:
                        if b"POST /v1/messages" in chunk:
                            self.first_byte_at_s.append(time.monotonic())
                        self.said += chunk
                    sink.write(chunk)
                    await sink.drain()
            sink.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(forward(reader, there_writer, True), forward(there_reader, writer, False))


class Rig:
    """Starts and stops the parts, and looks at what they did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets = folder / "run"
        self.state = folder / "state"
        self.home = folder / "home"
        for path in (self.sockets, self.state, self.home):
            path.mkdir(exist_ok=True)
        self.harness: asyncio.subprocess.Process | None = None
        self._peer: asyncio.subprocess.Process | None = None
        self._standin: asyncio.subprocess.Process | None = None
        self.model: ModelRelay | None = None
        self._model_server: asyncio.Server | None = None
        self._log = (folder / "harness.log").open("ab")

    # -- the parts ----------------------------------------------------------------------------------------

    async def start_model(self) -> None:
        self._standin = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0", stdout=asyncio.subprocess.PIPE
        )
        assert self._standin.stdout is not None
        line = (await self._standin.stdout.readline()).decode()
        self.model = ModelRelay(int(line.rsplit(":", 1)[1]))
        self._model_server = await self.model.serve(self.sockets / "model.sock")

    async def start_peer(self, *options: str) -> None:
        self._peer = await asyncio.create_subprocess_exec(
            sys.executable, link_peer.__file__, self.sockets / "hive.sock", self.folder / "peer.json", *options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._peer.stdout is not None
        assert json.loads(await self._peer.stdout.readline()) == {"listening": True}

    async def kill_peer(self) -> None:
        assert self._peer is not None
        self._peer.kill()
        await self._peer.wait()

    async def start_harness(self, generation: int = 1, **environment: str) -> None:
        self.harness = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "hyperhive.harness.main",
            cwd=self.state,
            stderr=self._log,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "HOME": str(self.home),
                "CLAUDE_CONFIG_DIR": str(self.home / ".claude"),
                "TMPDIR": str(self.home),
                "ANTHROPIC_BASE_URL": "http://model.hive",
                "ANTHROPIC_UNIX_SOCKET": str(self.sockets / "model.sock"),
                "ANTHROPIC_API_KEY": "held-by-the-gateway",
                "CLAUDE_CODE_MAX_RETRIES": "0",
                "HIVE_SOCKETS": str(self.sockets),
                "HIVE_STATE": str(self.state),
                "HIVE_GENERATION": str(generation),
                # Free ones: these harnesses share the machine's loopback.
                "HIVE_EGRESS_PORT": "0",
                "HIVE_MODEL_PORT": "0",
            } | environment,
        )  # fmt: skip

    async def stop_harness(self) -> int:
        """SIGTERM, and the exit status; 5 s are all it may take."""
        assert self.harness is not None
        self.harness.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.harness.wait(), 5.0)

    async def close(self) -> None:
        if self.harness is not None and self.harness.returncode is None:
            await self.stop_harness()
        for process in (self._peer, self._standin):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
        if self._model_server is not None:
            self._model_server.close()
        self._log.close()

    # -- what the daemon does -----------------------------------------------------------------------------

    async def tell_peer(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._peer is not None
        assert self._peer.stdin is not None
        assert self._peer.stdout is not None
        self._peer.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await asyncio.wait_for(self._peer.stdout.readline(), DEADLINE_S))

    async def put(self, body: str, sender: str = "operator") -> int:
        return (await self.tell_peer({"put": {"sender": sender, "body": body}}))["id"]

    async def set_config(self, **fields: Any) -> dict[str, Any]:
        """Sends a config: the one without rules, but for `fields`. What the harness says to it."""
        return await self.tell_peer({"config": make_config(**fields)})

    async def put_config(self, **fields: Any) -> None:
        """As `set_config`, but the harness gets it only with its next hello."""
        await self.tell_peer({"config": make_config(**fields), "quietly": True})

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The harness's answer to a request of the daemon, or why it refused."""
        return await self.tell_peer({"ask": method, "params": params})

    async def set_park(self, park: dict[str, Any] | None) -> None:
        await self.tell_peer({"park": park})

    async def decide(self, decision: str, reason: str = "") -> None:
        await self.tell_peer({"decide": decision, "reason": reason})

    async def write_raw(self, line: bytes) -> None:
        await self.tell_peer({"raw": base64.b64encode(line).decode()})

    # -- what there is to see -----------------------------------------------------------------------------

    def observe(self) -> dict[str, Any]:
        path = self.folder / "peer.json"
        return json.loads(path.read_text()) if path.exists() else {"messages": [], "events": [], "log": [], "sent": {}}

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event["body"] for event in self.observe()["events"] if event["kind"] == kind]

    def calls(self, method: str) -> list[dict[str, Any]]:
        return [entry["params"] for entry in self.observe()["log"] if entry["method"] == method]

    def message(self, number: int) -> dict[str, Any]:
        return self.observe()["messages"][number - 1]

    async def acked(self, number: int) -> None:
        await eventually(lambda: self.message(number)["state"] == "acked")

    async def turns_ended(self, count: int) -> list[dict[str, Any]]:
        return await eventually(lambda: ended if len(ended := self.events("turn.ended")) >= count else None)

    def save_meta(self, key: str, value: str) -> None:
        """Writes what the harness keeps; while it does not run."""
        database = sqlite3.connect(self.state / "hyperhive-events.sqlite")
        with contextlib.closing(database), database:
            database.execute("insert or replace into meta (key, value) values (?, ?)", (key, value))

    def parks(self) -> list[dict[str, Any]]:
        return self.calls("park")

    def notices(self) -> list[str]:
        return [event["text"] for event in self.events("notice")]

    def states(self) -> list[str]:
        return [call["state"] for call in self.calls("turn.state")]

    async def in_state(self, state: str) -> None:
        await eventually(lambda: self.states()[-1:] == [state])

    def processes(self, part: str) -> list[int]:
        """The harness's descendants (and what they left) whose command line holds `part`."""
        marker = f"HIVE_STATE={self.state}".encode()
        return [pid for pid, command in _list_processes(marker) if part in command]

    def log(self) -> str:
        return (self.folder / "harness.log").read_text(errors="replace")


def _list_processes(marker: bytes) -> list[tuple[int, str]]:
    """The living processes with `marker` in their environment, and their command lines."""
    found: list[tuple[int, str]] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


@contextlib.asynccontextmanager
async def open_rig(folder: Path) -> AsyncGenerator[Rig]:
    rig = Rig(folder)
    try:
        yield rig
    finally:
        await rig.close()
