"""A real hive for tests: the daemon as a process of its own, on a data folder of the test's, spoken to by HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from nursery import Forked, Nursery

READY_TIMEOUT_S = 60.0
REHEARSAL = ("--rehearsal",)
# For a daemon that is patched in what runs containers, or from a file that only root can reach: no helper does it then.
KEEP_ROOT = ("--rehearsal", "--keep-root")


@dataclass
class HiveProcess:
    """Start it, kill it, start it again on the same data. `client` acts as the operator over `hive.sock`.

    Where there is a nursery, the daemon is forked there: started in a fraction of the time. Not if it is given an
    environment or a Python of its own, or is to be `fresh`, for a test that looks at what it needs of memory.
    """

    nursery: ClassVar[Nursery | None] = None

    data: Path
    flags: tuple[str, ...] = REHEARSAL
    environment: dict[str, str] = field(default_factory=dict[str, str])
    python: tuple[str, ...] = (sys.executable,)
    program: tuple[str, ...] = ("-m", "hyperhive.host.main")
    port: int = 0
    login_url: str = ""
    fresh: bool = False
    process: "subprocess.Popen[str] | Forked | None" = None

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def log_file(self) -> Path:
        """Beside the data folder, which is the daemon's to make."""
        return self.data.with_name(f"{self.data.name}.log")

    def start(self) -> "HiveProcess":
        """Returns once the hive has printed its address."""
        if self.process is not None and self.process.stdout is not None:
            # An earlier one may have ended by itself.
            self.process.stdout.close()
        self.process = self._start_process()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("dashboard: "), f"the hive did not start: {line}{self.log}"
        self.login_url = line.removeprefix("dashboard: ").strip()
        self.port = urlsplit(self.login_url).port or 0
        return self

    def _start_process(self) -> "subprocess.Popen[str] | Forked":
        command = [*self.program, "--data", str(self.data), "--port", str(self.port), *self.flags]
        environment = {**os.environ, **self.environment}
        plain = self.python == (sys.executable,) and not self.environment and not self.fresh
        with self.log_file.open("a") as log:
            if plain and self.nursery is not None:
                return self.nursery.start(command, environment, log)
            return subprocess.Popen(
                [*self.python, *command], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )

    def kill(self) -> None:
        """As a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """In order, the agents left running. Returns the exit status."""
        return self._end(signal.SIGTERM)

    def down(self) -> int:
        """As `hive down`: agents and daemon. Returns the exit status."""
        with self.client() as client:
            client.post("/api/shutdown").raise_for_status()
        return self._wait()

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self._wait()

    def _wait(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status

    def client(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.run / "hive.sock")), base_url="http://hive", timeout=30
        )

    def get(self, path: str) -> Any:
        with self.client() as client:
            response = client.get(path)
            response.raise_for_status()
            return response.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self.client() as client:
            response = client.post(path, json=body or {})
            response.raise_for_status()
            return response.json() if response.content else None

    def session_cookies(self) -> dict[str, str]:
        """The cookies of a fresh operator session."""
        response = httpx.get(self.post("/api/login-links")["url"])
        assert response.status_code == 303, response.text
        return dict(response.cookies)

    def browser_session(self) -> httpx.Client:
        """A logged-in client of the TCP listener, as a browser is one."""
        headers = {"origin": self.origin}
        return httpx.Client(base_url=self.origin, headers=headers, cookies=self.session_cookies(), timeout=30)

    def agent(self, name: str) -> dict[str, Any]:
        return next(row for row in self.get("/api/agents") if row["name"] == name)

    def wait_state(self, name: str, *states: str, timeout_s: float = 60) -> dict[str, Any]:
        return wait_for(
            lambda: (row := self.agent(name))["state"] in states and row, f"{name} to be {states}", timeout_s, self
        )

    def wait_inbox(self, needle: str, timeout_s: float = 60) -> dict[str, Any]:
        return wait_for(
            lambda: next((m for m in self.get("/api/inbox") if needle in m["body"]), None),
            f"{needle!r} in the operator's inbox",
            timeout_s,
            self,
        )

    def link(self, agent: str) -> socket.socket:
        """A raw connection to an agent's link, as a harness of ours or an adversary would make it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(20)
        connection.connect(str(self.run / "agents" / agent / "hive.sock"))
        return connection


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 30, hive: HiveProcess | None = None) -> Any:
    """Polls until `condition` gives something true, and returns that. Fails with the daemon's log."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    rows = json.dumps(hive.get("/api/agents"), indent=1) if hive else ""
    raise AssertionError(f"waited {timeout_s} s in vain for {what}\n{rows}\n{hive.log[-4000:] if hive else ''}")


def end_hive(hive: HiveProcess) -> None:
    """Ends daemon and containers, whatever the test left; fails if a process of a container is left then."""
    if hive.process is None or hive.process.poll() is not None:
        hive.start()
    hive.down()
    wait_for(lambda: find_leftovers(hive) == [], "every container to be gone", timeout_s=10)


def find_leftovers(hive: HiveProcess) -> list[int]:
    """The processes that still have a folder of this hive mounted."""
    return _find_mounted(f"{hive.run}/agents/")


def find_processes(hive: HiveProcess, agent: str) -> list[int]:
    """The processes in an agent's container, the first one first."""
    return sorted(_find_mounted(f"{hive.run}/agents/{agent} "))


def _find_mounted(source: str) -> list[int]:
    found: list[int] = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if source in mounts.read_text():
                found.append(int(mounts.parent.name))
        except OSError:
            continue
    return found
