"""An agent of a real hive, or root of its container, that tries what it can to get out while two others exchange
messages: at the kernel, at what the daemon reads, at the proxy.

The attempts themselves are those of `test_sandbox_escape.py` and `test_egress_attacks.py`, here with a hive to be
found. Every kind of driver: what they have in common is what is attacked.
"""

import gzip
import json
import os
import socketserver
import sys
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import escape_checks
import sandbox_checks
from driver_runner import OWN_KERNEL_KINDS
from egress_attacks import connect, list_requests
from escape_file_checks import LEAVE_TRAPS, SWAP
from escape_rig import Yard, endure_while, open_yard, spawn
from escape_root import enter_as_root, run_in_gvisor
from hyperhive.cli.backups.take import take_backup

KINDS = ("bubblewrap", "nspawn", *OWN_KERNEL_KINDS) if os.geteuid() == 0 else ("bubblewrap",)
CANARY = f"canary-{uuid.uuid4().hex}"
# What gVisor's kernel does for an agent, see docs/decisions/0033-gvisor.md.
OWN_KERNELS = {"make memory", "unshare user"}


class Server(socketserver.ThreadingTCPServer):
    """The one host that the proxy lets the agent reach: says back what it hears, and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Echo)


class Echo(socketserver.BaseRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] - only this one is served

    def handle(self) -> None:
        heard = b""
        while piece := self.request.recv(65536):
            heard += piece
            self.request.sendall(piece)
        self.server.heard.append(heard)


@contextmanager
def serve() -> Generator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Place:
    """A yard with things of the operator's to be found, and with the one host of the proxy."""

    yard: Yard
    server: Server
    has_own_kernel: bool
    secret: Path

    def run_as_root(self, name: str, *command: str) -> str:
        """Standard output of a command that is run as root of the container."""
        containers = self.yard.hive.run / "containers"
        if self.has_own_kernel:
            done = run_in_gvisor(containers, name, *command)
        else:
            init = self.yard.find_init(name)
            assert init is not None
            done = enter_as_root(init, *command)
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    kind = str(request.param)
    with serve() as server, tempfile.TemporaryDirectory(prefix="operator-") as name:
        at = f"127.0.0.1:{server.server_address[1]}"
        secret = Path(name) / "notes.md"
        secret.write_text(CANARY)
        (Path(name) / CANARY).touch()
        for path, mode in ((Path(name), 0o755), (secret, 0o644)):
            path.chmod(mode)
        with open_yard(kind, "--egress-map", f"example.org={at},example.org:80={at}") as yard:
            yield Place(yard, server, kind in OWN_KERNEL_KINDS, secret)


@pytest.fixture
def mallory(place: Place) -> Iterator[str]:
    with spawn(place.yard) as name:
        yield name


# -- the kernel, and what of the hive is there -------------------------------------------------------------


def list_wanted(place: Place, name: str) -> dict[str, Any]:
    """What `sandbox_probe.py` is to look for: the hive itself, another agent, the operator's files."""
    hive = place.yard.hive
    assert hive.process is not None
    notes = hive.data / "agents/anna/state/notes.md"
    notes.write_text(CANARY[::-1])
    disk = hive.data.stat().st_dev
    sockets = [str(hive.run / "agents/anna" / f"{socket}.sock") for socket in ("hive", "model", "egress", "terminal")]
    container = hive.run / "containers" / name
    return {
        "files": [
            *map(str, (place.secret, notes, hive.data / "hive.sqlite", hive.log_file, container / "container.json")),
            *(f"/proc/{hive.process.pid}/environ", f"/proc/1/root{place.secret}", "/etc/shadow", "/proc/kcore"),
            *("/dev/mem", "/dev/vda", "/dev/sda", "/var/run/docker.sock"),
        ],
        "folders": [*map(str, (hive.data, hive.run, hive.data / "agents", notes.parent, container)), "/agents"],
        "kernel_files": ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/power/state", "/dev/kmsg"],
        "sockets": [str(hive.run / "hive.sock"), *sockets, f"/proc/1/root{hive.run}/hive.sock"],
        "abstract": CANARY,
        "port": hive.port,
        "disk": [os.major(disk), os.minor(disk)],
        "uid": notes.parent.stat().st_uid,
        "host_pid": hive.process.pid,
    }


def test_messages_while_the_agent_tries_every_call_of_the_kernel(place: Place, mallory: str) -> None:
    hive = place.yard.hive
    plain = list_wanted(place, mallory)
    plain["spared"] = ["unshare user"] if place.has_own_kernel else []

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        with escape_checks.prepared(place.secret.parent, plain["uid"]) as wanted:
            wanted["host_pid"] = plain["host_pid"]
            wanted["spared"] = ["pivot_root"] if place.has_own_kernel else []
            wanted["addresses"] += [("127.0.0.1", hive.port), ("::1", hive.port)]
            calls = place.yard.ask(mallory, sys.executable, "-c", escape_checks.PROBE, json.dumps(wanted))
        found = place.yard.ask(mallory, sys.executable, "-c", sandbox_checks.PROBE, json.dumps(plain))
        return json.loads(calls), json.loads(found)

    calls, found = endure_while(place.yard, "every call, as the agent", work)
    escape_checks.check_agents_attempts(calls, has_own_kernel=place.has_own_kernel)
    attempts = {name: outcome for name, outcome in found.items() if isinstance(outcome, str) and " " in name}
    assert len(attempts) > 40
    done = {name for name, outcome in attempts.items() if outcome == "done"}
    assert done <= (OWN_KERNELS if place.has_own_kernel else set())
    told = (found["environs"] + found["cmdlines"]).replace(json.dumps(plain), "")
    assert CANARY not in told


def test_messages_while_its_root_tries_every_call_of_the_kernel(place: Place, mallory: str) -> None:
    if not place.yard.has_root(mallory):
        # `test_out_of_a_sandbox` asserts that there is none.
        return
    plain = list_wanted(place, mallory)
    plain["spared"] = escape_checks.list_spared(has_own_kernel=place.has_own_kernel)

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        # First this: the other raises, among all that it can, how many namespaces it may have.
        found = place.run_as_root(mallory, sys.executable, "-c", sandbox_checks.PROBE, json.dumps(plain))
        with escape_checks.prepared(place.secret.parent, plain["uid"]) as wanted:
            wanted |= {"place": "/tmp/root", "host_pid": plain["host_pid"]}
            wanted["spared"] = ["pivot_root"] if place.has_own_kernel else []
            calls = place.run_as_root(mallory, sys.executable, "-c", escape_checks.PROBE, json.dumps(wanted))
        return json.loads(calls), json.loads(found)

    with escape_checks.settings_kept() as changed:
        calls, found = endure_while(place.yard, "every call, as its root", work)
        changed |= calls["changed"]
    escape_checks.check_roots_attempts(calls, is_filtered=False, has_own_kernel=place.has_own_kernel)
    escape_checks.check_roots_plain_attempts(found, has_own_kernel=place.has_own_kernel)


# -- what the daemon reads ---------------------------------------------------------------------------------

SWAPPED = (
    *("folder", "folder/notes.md", "file", "pipe", "hard", "depth/a/b", "depth/a/b/notes.md", "other-folder"),
    *("other-folder/notes.md", "other-file", "other-pipe", "other-depth/a/b/notes.md"),
)
TRAPS = (
    *("pipe", "socket", "device0", "device1", "whiteout", "zero", "secret", "up", "magic", "itself", "linked"),
    *("holes", "closed", "plain"),
)
# Far above what it takes, and below what a pipe that nobody writes to would.
READ_S = 20.0


def hand_over(place: Place, name: str) -> None:
    """Makes the operator's things the agent's own: then nothing but the way to them says that they are not."""
    if os.geteuid() == 0:
        uid = (place.yard.hive.data / "agents" / name / "state").stat().st_uid
        for path in (place.secret.parent, *place.secret.parent.iterdir()):
            os.chown(path, uid, uid)


def read_through(place: Place, name: str, paths: tuple[str, ...]) -> bytes:
    """All that the daemon shows of these files: as a listing, as text, and as what is saved."""
    seen = b""
    transport = httpx.HTTPTransport(uds=str(place.yard.hive.run / "hive.sock"))
    with httpx.Client(transport=transport, base_url="http://hive", timeout=READ_S) as client:
        for path in ("", *paths):
            for way in ("state", "state/file", "state/download"):
                answer = client.get(f"/api/agents/{name}/{way}", params={"path": path})
                assert answer.status_code in {200, 400, 403, 404, 409, 413, 422}, (way, path, answer.text)
                seen += answer.content
        for path in ("/api/agents", f"/api/quotas?agent={name}", "/api/kept"):
            seen += client.get(path).raise_for_status().content
    return seen


def back_up(place: Place) -> bytes:
    """What a backup of the running hive holds."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "backup.tar.gz"
        take_backup(place.yard.hive.data, target, with_credentials=False, advance=lambda _: None)
        return gzip.decompress(target.read_bytes())


def test_messages_while_an_agent_swaps_what_the_daemon_reads(place: Place, mallory: str) -> None:
    command = f"rm -rf /state/race; exec {sys.executable} -c '{SWAP}' {place.secret}"
    hand_over(place, mallory)

    def work() -> bytes:
        seen = b""
        for _ in range(4):
            seen += read_through(place, mallory, tuple(f"race/{path}" for path in SWAPPED))
            seen += back_up(place)
        return seen

    with place.yard.attack(mallory, "sh", "-c", command):
        seen = endure_while(place.yard, "swaps while it is read", work)
    assert CANARY.encode() not in seen
    assert b"its own" in seen
    assert place.secret.read_text() == CANARY


@pytest.mark.parametrize("as_root", [False, True])
def test_messages_while_the_daemon_reads_traps(place: Place, mallory: str, as_root: bool) -> None:
    if as_root and not place.yard.has_root(mallory):
        return
    hand_over(place, mallory)
    leave = (sys.executable, "-c", LEAVE_TRAPS, str(place.secret))
    # No device can be made.
    assert (place.run_as_root(mallory, *leave) if as_root else place.yard.ask(mallory, *leave)) == ""
    hive = place.yard.hive

    def work() -> bytes:
        seen = read_through(place, mallory, tuple(f"traps/{path}" for path in TRAPS)) + back_up(place)
        with hive.client() as client:
            taken = client.post("/api/snapshots", json={"agent": mallory}, timeout=60)
            assert taken.status_code == 201, taken.text
        return seen + b"".join(gzip.decompress(path.read_bytes()) for path in find_archives(place, mallory))

    seen = endure_while(place.yard, f"traps left by {'its root' if as_root else 'the agent'}", work)
    assert CANARY.encode() not in seen
    assert b"plain" in seen
    hive.wait_state(mallory, "idle")


def find_archives(place: Place, name: str) -> list[Path]:
    found = [path for path in (place.yard.hive.data / "snapshots" / name).rglob("*.gz") if path.is_file()]
    assert found
    return found


# -- the proxy ---------------------------------------------------------------------------------------------

ASK = """
import json, socket, sys
answers = []
for request in json.loads(sys.stdin.read() if sys.argv[1] == "-" else open(sys.argv[1]).read()):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect("/run/hive/egress.sock")
        answer = b""
        try:
            client.sendall(bytes.fromhex(request))
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        answers.append(answer.decode("latin-1"))
print(json.dumps(answers))
"""


def test_messages_while_an_agent_smuggles_through_the_proxy(place: Place, mallory: str) -> None:
    hive = place.yard.hive
    for port in (80, 443):
        hive.post("/api/egress/grants", {"agent": mallory, "host": "example.org", "port": port})
    place.server.heard.clear()
    inner = connect("evil.test:443")
    requests = [*list_requests(), connect("example.org:443") + inner]
    (hive.data / "agents" / mallory / "state/requests").write_text(json.dumps([text.hex() for text in requests]))

    def work() -> list[str]:
        return json.loads(place.yard.ask(mallory, sys.executable, "-c", ASK, "/state/requests", timeout_s=120))

    *refused, allowed = endure_while(place.yard, "smuggling", work)
    for request, answer in zip(requests, refused, strict=False):
        assert answer.split(" ")[1] in {"400", "403", "405", "408", "411"}, (request, answer)
        assert answer.count("HTTP/1.1 ") == 1
    # One was let through, and what came behind it was bytes for that server: nobody else was reached.
    assert allowed.startswith("HTTP/1.1 200 ") and allowed.endswith(inner.decode())
    assert place.server.heard == [inner]
