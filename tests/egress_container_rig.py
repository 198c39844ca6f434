"""A real hive with an agent in a bubblewrap container, and https servers of the test that it may reach."""

import asyncio
import functools
import http.server
import json
import os
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack_rig import Arena
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.system.process import Completed
from hyperhive.testing.oauth.certificates import make_certificates
from proposer import Proposer, read_generation

CA = "/state/ca.pem"
Handler = Callable[..., http.server.BaseHTTPRequestHandler]


@dataclass
class Swarm:
    """A hive whose agent alice may reach some hosts, which are servers of this test."""

    hive: HiveProcess
    arena: Arena
    folder: Path

    def run_inside(self, *command: str, agent: str = "alice", timeout_s: float = 60) -> Completed:
        driver = BubblewrapDriver(self.hive.run / "containers")
        # With the environment that its container was started with: so do claude's own tools.
        spec = json.loads((self.hive.run / "containers" / agent / "container.json").read_text())
        variables = [f"{key}={value}" for key, value in spec["environment"].items()]
        return asyncio.run(driver.exec(agent, ("env", *variables, *command), timeout_s=timeout_s))

    def ask(self, *command: str, agent: str = "alice", timeout_s: float = 60) -> str:
        done = self.run_inside(*command, agent=agent, timeout_s=timeout_s)
        assert done.ok, done
        return done.stdout.decode()

    def requests(self, agent: str = "alice") -> list[dict[str, Any]]:
        return self.hive.get(f"/api/egress?agent={agent}&limit=1000")

    def forget_requests(self) -> None:
        with closing(sqlite3.connect(self.hive.data / "telemetry.sqlite")) as connection:
            connection.execute("delete from egress_requests")
            connection.commit()

    def count_model_requests(self) -> int:
        with closing(sqlite3.connect(self.hive.data / "telemetry.sqlite")) as connection:
            [(count,)] = connection.execute(
                "select count(*) from model_requests where agent = 'alice' and status = 200"
            )
        return int(count)

    def wait_request(self, **fields: Any) -> dict[str, Any]:
        return wait_for(
            lambda: next((row for row in self.requests() if fields.items() <= row.items()), None),
            f"a request with {fields}",
            timeout_s=15,
            hive=self.hive,
        )

    def tell(self, command: str) -> str:
        """Has alice's claude run `command`; what it answered."""
        mark = f"mark-{uuid.uuid4().hex[:8]}"
        self.hive.post("/api/messages", {"to": "alice", "body": f"run: {command}; echo {mark[:5]}''{mark[5:]}"})
        return self.hive.wait_inbox(mark)["body"]


@contextmanager
def run_model() -> Generator[str]:
    """A model service that has agents run what they are told to; its address."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0", "--rules", "rehearsal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening: ").strip()
        process.terminate()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called there
        pass


@contextmanager
def serve_http(handler: Handler, tls: ssl.SSLContext | None = None) -> Generator[int]:
    """A server on the loopback, by https with `tls`; the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve_folder(folder: Path) -> Handler:
    return functools.partial(Quiet, directory=os.fspath(folder))


@contextmanager
def run_swarm(secure: Mapping[str, Handler], plain: Mapping[str, Handler], toml: str) -> Generator[Swarm]:
    """A hive whose agent alice has `toml` as its config. By https and by http the hosts named are served."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        made = make_certificates(folder / "tls", list(secure))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(made.certificate, made.key)
        places = [f"{host}=127.0.0.1:{stack.enter_context(serve_http(at, tls))}" for host, at in secure.items()]
        places += [f"{host}=127.0.0.1:{stack.enter_context(serve_http(at))}" for host, at in plain.items()]
        upstream = stack.enter_context(run_model())
        hive = HiveProcess(
            folder / "data",
            ("--upstream", upstream, "--egress-map", ",".join(places)),
            {"ANTHROPIC_API_KEY": "sk-ant-api03-egress-test", "CLAUDE_CODE_OAUTH_TOKEN": ""},
        ).start()
        arena = Arena(hive, folder, Proposer(hive, folder / "copies"))
        try:
            hive.wait_state("manager", "idle")
            hive.post("/api/agents/manager/stop")
            hive.wait_state("manager", "stopped")
            arena.manager.generation = read_generation(hive)
            arena.manager.connect()
            arena.spawn("alice")
            arena.deploy("alice", {"agent.toml": toml})
            hive.wait_state("alice", "idle")
            (arena.state("alice") / "ca.pem").write_bytes(made.ca.read_bytes())
            yield Swarm(hive, arena, folder)
        finally:
            arena.manager.close()
            end_hive(hive)
