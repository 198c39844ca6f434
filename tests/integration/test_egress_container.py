"""From the container of an agent of a real hive, with the real claude: which hosts are reached, and by what."""

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
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attack_rig import Arena
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.system.process import Completed
from hyperhive.testing.oauth.certificates import make_certificates
from proposer import Proposer, read_generation

PAGE = "the page of the stand-in\n"
TOML = '[network]\nallow = ["web.test", "*.git.test", "away.test", "localhost"]\n'
HOSTS = ("web.test", "code.git.test", "hidden.test")
CA = "/state/ca.pem"


@dataclass
class Swarm:
    """A hive whose agent alice may reach some hosts, which are servers of this test."""

    hive: HiveProcess
    arena: Arena

    def run_inside(self, *command: str) -> Completed:
        driver = BubblewrapDriver(self.hive.run / "containers")
        # With the environment that its container was started with: so do claude's own tools.
        spec = json.loads((self.hive.run / "containers/alice/container.json").read_text())
        variables = [f"{key}={value}" for key, value in spec["environment"].items()]
        return asyncio.run(driver.exec("alice", ("env", *variables, *command), timeout_s=60))

    def ask(self, *command: str) -> str:
        done = self.run_inside(*command)
        assert done.ok, done
        return done.stdout.decode()

    def requests(self) -> list[dict[str, Any]]:
        return self.hive.get("/api/egress?agent=alice&limit=1000")

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


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A model service that has agents run what they are told to."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0", "--rules", "rehearsal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening: ").strip()
        process.terminate()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called there
        pass


@contextmanager
def serve_files(folder: Path, certificate: Path, key: Path) -> Generator[int]:
    """The files of `folder` over https on the loopback; the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=os.fspath(folder)))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_site(folder: Path) -> None:
    """A page, and a git repository as plain files."""
    folder.mkdir()
    (folder / "page.txt").write_text(PAGE)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@test", "-c", "init.defaultBranch=main")
    subprocess.run([*git, "init", "--quiet", "work"], cwd=folder, check=True)
    (folder / "work/file.txt").write_text("cloned\n")
    subprocess.run([*git, "add", "."], cwd=folder / "work", check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], cwd=folder / "work", check=True)
    subprocess.run([*git, "clone", "--quiet", "--bare", "work", "repo.git"], cwd=folder, check=True)
    subprocess.run([*git, "update-server-info"], cwd=folder / "repo.git", check=True)


@pytest.fixture(scope="module")
def swarm(upstream: str) -> Iterator[Swarm]:
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = make_certificates(folder / "tls", HOSTS)
        make_site(folder / "site")
        with serve_files(folder / "site", made.certificate, made.key) as port:
            places = ",".join(f"{host}=127.0.0.1:{port}" for host in HOSTS)
            hive = HiveProcess(
                folder / "data",
                ("--upstream", upstream, "--egress-map", places),
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
                arena.deploy("alice", {"agent.toml": TOML})
                hive.wait_state("alice", "idle")
                (arena.state("alice") / "ca.pem").write_bytes(made.ca.read_bytes())
                yield Swarm(hive, arena)
            finally:
                arena.manager.close()
                end_hive(hive)


def tell(swarm: Swarm, command: str) -> str:
    """Has alice's claude run `command`; what it answered."""
    mark = f"mark-{uuid.uuid4().hex[:8]}"
    swarm.hive.post("/api/messages", {"to": "alice", "body": f"run: {command}; echo {mark[:5]}''{mark[5:]}"})
    return swarm.hive.wait_inbox(mark)["body"]


def test_claude_talks_to_the_model_by_its_socket_and_its_tools_to_the_web_by_the_proxy(swarm: Swarm) -> None:
    swarm.forget_requests()
    answer = tell(swarm, f"curl -sS --cacert {CA} https://web.test/page.txt")
    assert PAGE.strip() in answer
    request = swarm.wait_request(host="web.test", port=443, verdict="allowed", rule="network.allow: web.test")
    assert request["bytes_up"] > 100 and request["bytes_down"] > len(PAGE)
    # The answer may be here before the gateway's record of the request that it belongs to.
    wait_for(lambda: swarm.count_model_requests() >= 2, "two requests to the model", timeout_s=15, hive=swarm.hive)
    assert {row["host"] for row in swarm.requests()} == {"web.test"}


def test_what_is_not_listed_is_refused_and_the_command_says_so(swarm: Swarm) -> None:
    answer = tell(swarm, f"curl -sS -v --cacert {CA} https://hidden.test/page.txt 2>&1 | tail -n 20")
    assert "403" in answer and PAGE.strip() not in answer
    assert swarm.wait_request(host="hidden.test")["rule"] == "network.allow"


def test_git_clones_over_https(swarm: Swarm) -> None:
    swarm.ask("env", f"GIT_SSL_CAINFO={CA}", "git", "clone", "--quiet", "https://code.git.test/repo.git", "/tmp/copy")
    assert swarm.ask("cat", "/tmp/copy/file.txt") == "cloned\n"
    swarm.wait_request(host="code.git.test", rule="network.allow: *.git.test")


def test_python_reaches_what_is_listed(swarm: Swarm) -> None:
    # As pip does: by http.client, which asks for a tunnel in HTTP/1.0.
    code = "import sys, urllib.request as u; print(u.urlopen('https://web.test/page.txt', timeout=20).read().decode())"
    assert swarm.ask("env", f"SSL_CERT_FILE={CA}", sys.executable, "-c", code).startswith(PAGE)


def test_http_without_s_gets_an_answer_that_says_what_to_do(swarm: Swarm) -> None:
    answer = swarm.ask("curl", "-sS", "-w", "%{http_code}", "http://web.test/page.txt")
    assert answer.endswith("405") and "use https" in answer


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://web.test:8443/", "port"),
        ("https://sub.web.test/", "network.allow"),
        ("https://git.test/", "network.allow"),
        ("https://1.1.1.1/", "network.allow"),
        ("https://[2606:4700::1111]/", "network.allow"),
        ("https://api.anthropic.com/v1/models", "network.allow"),
    ],
)
def test_nothing_else_is_reached(swarm: Swarm, url: str, rule: str) -> None:
    done = swarm.run_inside("curl", "-sS", "--cacert", CA, url)
    assert not done.ok and b"403" in done.stderr
    assert swarm.wait_request(host=url.split("/")[2].removesuffix(":8443").strip("[]"))["rule"] == rule


def test_the_machine_itself_is_not_reached_by_a_name_either(swarm: Swarm) -> None:
    # NO_PROXY has it: through the proxy only by asking for it.
    command = ("curl", "-sS", "--noproxy", "", "--cacert", CA, f"https://localhost:443/{swarm.hive.port}")
    assert b"403" in swarm.run_inside(*command).stderr
    assert swarm.wait_request(host="localhost")["rule"] == "address"


def test_certificates_of_the_host_are_there(swarm: Swarm) -> None:
    command = (
        "env",
        "-i",
        "/usr/bin/python3",
        "-c",
        "import ssl; print(ssl.create_default_context().cert_store_stats())",
    )
    outside = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert swarm.ask(*command) == outside


def test_the_proxy_works_again_after_the_daemon_was_started_anew(swarm: Swarm) -> None:
    swarm.arena.manager.close()
    swarm.hive.kill()
    assert not swarm.run_inside("curl", "-sS", "--cacert", CA, "https://web.test/page.txt").ok
    swarm.hive.start()
    wait_for(
        lambda: swarm.run_inside("curl", "-sS", "--cacert", CA, "https://web.test/page.txt").stdout == PAGE.encode(),
        "the page",
        timeout_s=30,
    )


def test_the_command_line_shows_what_was_asked_for(swarm: Swarm) -> None:
    command = [sys.executable, "-m", "hyperhive.cli.main", "egress", "alice"]
    environment = {**os.environ, "HIVE_DATA": str(swarm.hive.data)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "hidden.test:443" in shown and "network.allow: web.test" in shown
    assert shown.splitlines()[0].split() == ["AGO", "AGENT", "HOST", "VERDICT", "UP", "DOWN", "RULE"]
