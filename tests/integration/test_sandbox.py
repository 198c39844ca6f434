"""From inside the container of an agent of a real hive: what cannot be seen, reached or done."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import sandbox_probe
import with_session_key
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.system.process import Completed
from hyperhive.wire.agent_link import EGRESS_PORT

# Never written in one piece where an agent could see it, or a search would find itself.
KEY = "-".join(("sk-ant-api03", "canary", f"{os.getpid():06}"))
SESSION_SECRET = "-".join(("session", "secret", f"{os.getpid():06}"))
NOTES = "the-notes-of-alice"
AGENTS = ("alice", "bob", "manager")


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A model service that has agents run what they are told to."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0", "--rules", "rehearsal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening: ").strip()
        process.terminate()


@pytest.fixture(scope="module")
def swarm(upstream: str) -> Iterator[HiveProcess]:
    """A hive that holds a key, with two agents that have had a turn: claude and its engine are open in each."""
    environment = {"ANTHROPIC_API_KEY": KEY, "CLAUDE_CODE_OAUTH_TOKEN": ""}
    python = (sys.executable, with_session_key.__file__, SESSION_SECRET, sys.executable)
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", ("--upstream", upstream), environment, python).start()
        try:
            for name in ("alice", "bob"):
                hive.post("/api/agents", {"name": name})
            for name in AGENTS:
                hive.wait_state(name, "idle")
                hive.post("/api/messages", {"to": name, "body": f"run: echo $((40 + 2)) is {name}; cat /etc/hostname"})
                hive.wait_inbox(f"42 is {name}")
            yield hive
        finally:
            end_hive(hive)


def run_inside(hive: HiveProcess, agent: str, *command: str) -> Completed:
    driver = BubblewrapDriver(hive.run / "containers")
    container = "hm1nd" if agent == "manager" else agent
    return asyncio.run(driver.exec(container, command, timeout_s=60))


def ask(hive: HiveProcess, agent: str, *command: str) -> str:
    """Standard output of a command in the agent's container, which has to succeed."""
    done = run_inside(hive, agent, *command)
    assert done.ok, done
    return done.stdout.decode("utf-8", "replace")


def try_inside(hive: HiveProcess, agent: str, code: str, *arguments: str) -> str:
    """What a piece of Python prints in the agent's container."""
    return ask(hive, agent, sys.executable, "-c", code, *arguments).strip()


# -- the network -------------------------------------------------------------------------------------------

CONNECT = """
import errno, json, socket, sys
found = {}
for family, kind, host, port in json.loads(sys.argv[1]):
    with socket.socket(family, kind) as client:
        client.settimeout(3)
        try:
            client.connect((host, port))
            client.send(b"x")
            found[f"{host} {port}"] = "done"
        except OSError as error:
            found[f"{host} {port}"] = errno.errorcode.get(error.errno, str(error))
print(json.dumps(found))
"""


def list_host_addresses() -> list[str]:
    done = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("agent", AGENTS)
def test_there_is_no_network_but_a_loopback_with_the_port_of_the_proxy(
    swarm: HiveProcess, upstream: str, agent: str
) -> None:
    interfaces = "import socket; print(*(name for _, name in socket.if_nameindex()))"
    assert try_inside(swarm, agent, interfaces) == "lo"
    assert try_inside(swarm, agent, "print(len(open('/proc/net/route').readlines()))") == "1"
    ports = [swarm.port, int(upstream.rpartition(":")[2])]
    inet, tcp, udp = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM
    loopback = [(inet, tcp, "127.0.0.1", port) for port in (*ports, 22, 80)]
    hosts = (*list_host_addresses(), "192.0.2.1", "169.254.169.254", "::1", "2001:db8::1")
    away = [(socket.AF_INET6 if ":" in host else inet, tcp, host, port) for host in hosts for port in ports]
    away += [(inet, udp, host, 53) for host in ("192.0.2.1", "224.0.0.1", "255.255.255.255")]
    found = json.loads(try_inside(swarm, agent, CONNECT, json.dumps([*loopback, *away])))
    assert len(found) == len({*loopback, *away})
    assert {found[f"{host} {port}"] for _, _, host, port in loopback} == {"ECONNREFUSED"}
    proxy = [(inet, tcp, "127.0.0.1", EGRESS_PORT)]
    assert json.loads(try_inside(swarm, agent, CONNECT, json.dumps(proxy))) == {f"127.0.0.1 {EGRESS_PORT}": "done"}
    assert set(found.values()) <= {"ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EACCES", "EAFNOSUPPORT"}


def test_nothing_of_the_host_is_found_among_the_abstract_sockets(swarm: HiveProcess) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0hive-test-abstract")
        listener.listen()
        assert "hive-test-abstract" in Path("/proc/net/unix").read_text()
        assert "hive-test-abstract" not in ask(swarm, "alice", "cat", "/proc/net/unix")


# -- the operator ------------------------------------------------------------------------------------------

HTTP = """
import json, socket, sys
answers = []
for path, request in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(request.encode())
        answer = b""
        try:
            while piece := client.recv(65536):
                answer += piece
                if b"\\r\\n\\r\\n" in answer or answer.endswith(b"\\n"):
                    break
        except TimeoutError:
            answer += b"<silence>"
        except ConnectionResetError:
            answer += b"<reset>"
        answers.append(answer.decode("utf-8", "replace"))
print(json.dumps(answers))
"""


def test_the_only_sockets_from_outside_are_the_three_of_the_agent(swarm: HiveProcess) -> None:
    for agent in AGENTS:
        sockets = {path.name for path in (swarm.run / "agents" / agent).iterdir()}
        assert sockets == {"hive.sock", "model.sock", "egress.sock", "terminal.sock"}
        inside = ask(swarm, agent, "sh", "-c", "find / -xdev -type s 2>/dev/null; find /tmp /state /home /dev -type s")
        # claude has some for itself.
        assert all(path.startswith("/tmp/cc-socks/") for path in inside.split()), inside
        assert run_inside(swarm, agent, "ls", "/run").stdout == b"hive\n"


def test_no_operator_endpoint_answers_on_a_socket_of_the_agent(swarm: HiveProcess) -> None:
    document = swarm.get("/api/openapi.json")
    host = f"127.0.0.1:{swarm.port}"
    operations = [
        (method.upper(), path.replace("{name}", "bob").replace("{act}", "stop").replace("{id}", "1"))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert len(operations) > 20
    requests: list[tuple[str, str]] = []
    for number, (method, path) in enumerate(operations):
        target = path if number % 2 else f"http://{host}{path}"
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 2\r\n\r\n{{}}"
        requests += [("/run/hive/model.sock", head), ("/run/hive/hive.sock", head + "\n")]
    requests += [("/run/hive/egress.sock", head) for path, head in requests if path.endswith("model.sock")]
    requests.append(("/run/hive/egress.sock", f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    requests.append(("/run/hive/model.sock", f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    before = state_of(swarm)
    answers = json.loads(try_inside(swarm, "alice", HTTP, json.dumps(requests)))
    for (path, request), answer in zip(requests, answers, strict=True):
        if path.endswith("egress.sock"):
            assert answer.split(" ")[1] in {"400", "403", "405"}, (request, answer)
        elif path.endswith("model.sock"):
            assert answer.split(" ")[1] in {"400", "404", "405"}, (request, answer)
        else:
            assert {json.loads(line)["error"]["code"] for line in answer.splitlines()} <= {-32700, -32600}, (
                request,
                answer,
            )
    assert state_of(swarm) == before


def test_an_agent_cannot_do_what_only_the_operator_or_the_manager_may(swarm: HiveProcess) -> None:
    code = """
import json, socket, sys
for method in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect("/run/hive/hive.sock")
        params = {"agent": "bob", "name": "eve", "id": 1, "generation": 0, "holding": []}
        client.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\\n")
        print(client.makefile().readline().strip())
"""
    methods = ["approve", "approvals.approve", "shutdown", "spawn", "agents.spawn", "request_spawn", "kill", "start"]
    methods += ["restart", "list_agents", "agents.list", "approvals.resolve", "login_links", "hello"]
    before = state_of(swarm)
    for line in try_inside(swarm, "alice", code, *methods).splitlines():
        assert "error" in json.loads(line), line
    assert state_of(swarm) == before


def state_of(hive: HiveProcess) -> list[Any]:
    return [
        sorted((row["name"], row["state"]) for row in hive.get("/api/agents")),
        hive.get("/api/approvals"),
        hive.get("/api/kept"),
    ]


# -- others' files -----------------------------------------------------------------------------------------


def test_an_agent_sees_its_own_files_and_no_others(swarm: HiveProcess) -> None:
    ask(
        swarm,
        "alice",
        "sh",
        "-c",
        f"echo {NOTES} | tee /state/{NOTES}.md; mkdir -p ~/.claude/{NOTES}; touch /tmp/{NOTES}",
    )
    assert (swarm.data / "agents/alice/state" / f"{NOTES}.md").exists()
    find = f"find / -name '{NOTES}*' -not -path '/proc/*' 2>/dev/null; true"
    assert len(ask(swarm, "alice", "sh", "-c", find).split()) == 3
    for agent in ("bob", "manager"):
        assert ask(swarm, agent, "sh", "-c", find) == ""
        places = "/state /home /tmp /run /dev/shm /etc /agents"
        assert run_inside(swarm, agent, "grep", "-rlsF", NOTES, *places.split()).stdout == b""


def test_the_hives_own_folders_are_not_there(swarm: HiveProcess) -> None:
    for agent in AGENTS:
        folders = [swarm.data, swarm.run, swarm.data / "agents", swarm.run / "containers", swarm.run / "agents"]
        for folder in folders:
            for path in (
                folder,
                Path(f"/proc/1/root{folder}"),
                Path(f"/proc/self/root{folder}"),
                Path(f"/state/..{folder}"),
            ):
                assert run_inside(swarm, agent, "ls", str(path)).status == 2, path
        mounts = ask(swarm, agent, "cat", "/proc/self/mounts")
        assert str(swarm.data) not in mounts


def test_a_link_to_another_agents_files_leads_nowhere(swarm: HiveProcess) -> None:
    notes = swarm.data / "agents/alice/state/private.md"
    ask(swarm, "alice", "sh", "-c", "echo private >/state/private.md")
    for target in (notes, f"/proc/1/cwd/../alice/state/{notes.name}", f"../../alice/state/{notes.name}"):
        done = run_inside(swarm, "bob", "sh", "-c", f"ln -sfn {target} /state/link && cat /state/link")
        assert not done.ok
        assert b"private" not in done.stdout


# -- the key -----------------------------------------------------------------------------------------------

SEARCH = """
import glob, os, sys
needle = sys.argv[1][::-1].encode()
places = glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/task/*/environ")
places += glob.glob("/proc/[0-9]*/cmdline")
for top in ("/state", "/home", "/tmp", "/run", "/dev/shm", "/etc", "/agents"):
    for folder, _, names in os.walk(top):
        places += [os.path.join(folder, name) for name in names]
seen = 0
for place in places:
    try:
        if not os.path.isfile(place):
            continue
        with open(place, "rb") as file:
            content = file.read()
    except OSError:
        continue
    seen += 1
    if needle in content:
        print("found in", place)
print("seen:", seen, file=sys.stderr)
"""

MEMORY = """
import glob, os, sys
needle = sys.argv[1][::-1].encode()
for folder in glob.glob("/proc/[0-9]*"):
    if folder == f"/proc/{os.getpid()}" or folder == "/proc/1":
        continue
    print(open(folder + "/comm").read().strip(), file=sys.stderr)
    try:
        with open(folder + "/maps") as maps, open(folder + "/mem", "rb", 0) as memory:
            for line in maps:
                span, rights, _, device, *_ = line.split()
                first, last = (int(part, 16) for part in span.split("-"))
                if rights[1] == "w":
                    while first < last:
                        length = min(last - first, 64 * 1024 * 1024)
                        try:
                            memory.seek(first)
                            if needle in memory.read(length):
                                print("found in the memory of", folder)
                        except OSError:
                            pass
                        first += length
    except OSError as error:
        print("not seen", folder, error, file=sys.stderr)
"""


def test_the_key_was_used(swarm: HiveProcess, upstream: str) -> None:
    requests = httpx.get(f"{upstream}/_requests").json()["requests"]
    assert {request["x_api_key"] for request in requests if request["model"]} == {KEY}


@pytest.mark.parametrize("agent", AGENTS)
def test_the_key_is_nowhere_in_a_container(swarm: HiveProcess, agent: str) -> None:
    # What is searched for is given backwards, or the search would find itself.
    done = run_inside(swarm, agent, sys.executable, "-c", SEARCH, KEY[::-1])
    assert (done.status, done.stdout) == (0, b"")
    assert int(done.stderr.split()[-1]) > 10


def test_the_key_is_in_no_memory_of_a_container(swarm: HiveProcess) -> None:
    done = run_inside(swarm, "alice", sys.executable, "-c", MEMORY, KEY[::-1])
    assert (done.status, done.stdout) == (0, b"")
    assert b"claude" in done.stderr
    assert b"not seen" not in done.stderr


def test_the_search_finds_a_key_that_is_there(swarm: HiveProcess) -> None:
    needle = "held-by-the-hive"
    assert "found in /proc/" in try_inside(swarm, "alice", SEARCH, needle[::-1])
    assert "found in the memory" in try_inside(swarm, "alice", MEMORY, needle[::-1])


def test_the_key_is_nowhere_outside_but_in_the_daemon_itself(swarm: HiveProcess) -> None:
    assert KEY not in swarm.log
    files = [path for path in swarm.data.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"hive.sqlite", "telemetry.sqlite", "container.json", "log"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert swarm.process is not None
    assert KEY.encode() in Path(f"/proc/{swarm.process.pid}/environ").read_bytes()
    found: list[tuple[str, str]] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            found += [(folder.name, file) for file in ("environ", "cmdline") if KEY.encode() in read(folder / file)]
    assert found == [(str(swarm.process.pid), "environ")]


def test_the_key_is_on_no_page_and_in_no_answer(swarm: HiveProcess) -> None:
    document = swarm.get("/api/openapi.json")
    paths = [path for path, methods in document["paths"].items() if "get" in methods and "stream" not in path]
    with swarm.client() as client:
        for path in paths:
            for agent in AGENTS:
                assert KEY not in client.get(path.replace("{name}", agent).replace("{id}", "1")).text


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# -- the kernel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", AGENTS)
def test_nothing_that_an_agent_tries_on_the_machine_is_done(swarm: HiveProcess, agent: str) -> None:
    assert swarm.process is not None
    disk = Path("/").stat().st_dev
    secrets = [swarm.data / "hive.sqlite", swarm.log_file, Path("/etc/shadow"), Path("/etc/gshadow")]
    wanted = {
        "files": [*map(str, secrets), f"/proc/{swarm.process.pid}/environ", "/proc/1/mem", "/proc/kcore", "/dev/mem"],
        "folders": [str(swarm.data), str(swarm.run), "/root/.ssh", "/var", "/sys", "/boot"],
        "kernel_files": [
            "/proc/sys/kernel/core_pattern",
            "/proc/sysrq-trigger",
            "/dev/kmsg",
            "/proc/sys/vm/drop_caches",
        ],
        "sockets": [str(swarm.run / "hive.sock"), f"/proc/1/root{swarm.run}/hive.sock", "/run/dbus/system_bus_socket"],
        "abstract": "hive-test",
        "port": swarm.port,
        "disk": [os.major(disk), os.minor(disk)],
        "uid": 1_900_000_000,
        "host_pid": swarm.process.pid,
    }
    code = Path(sandbox_probe.__file__).read_text()
    found = json.loads(try_inside(swarm, agent, code, json.dumps(wanted)))
    attempts = {name: outcome for name, outcome in found.items() if isinstance(outcome, str) and " " in name}
    assert len(attempts) > 30
    assert [name for name, outcome in attempts.items() if outcome == "done"] == []
    status = {line[0].rstrip(":"): line[1:] for line in found["status"] if line}
    assert {status[kind][0] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])


def test_claude_itself_is_as_confined_as_what_the_driver_runs(swarm: HiveProcess) -> None:
    look = "grep -hE '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/self/status"
    swarm.post("/api/messages", {"to": "alice", "body": f"run: echo look; {look}"})
    said = swarm.wait_inbox("NoNewPrivs")["body"].split()
    driver = ask(swarm, "alice", "sh", "-c", look).split()
    assert any(said[start : start + len(driver)] == driver for start in range(len(said))), said
    assert "1000" in driver


def test_the_operators_keyring_is_closed_and_agents_share_none(swarm: HiveProcess) -> None:
    module = with_session_key
    code = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
calls = [
    ({module.KEYCTL}, 0, {module.SESSION_KEYRING}, 0),
    ({module.KEYCTL}, {module.SEARCH}, {module.SESSION_KEYRING}, b"user", {module.KEY_NAME!r}, 0),
    ({module.KEYCTL}, {module.JOIN_SESSION}, None),
    ({module.ADD_KEY}, b"user", b"mine", b"x", ctypes.c_size_t(1), {module.SESSION_KEYRING}),
    (425, 1, None),
]
print(*(errno.errorcode[ctypes.get_errno()] if libc.syscall(*call) < 0 else "done" for call in calls))
"""
    assert try_inside(swarm, "alice", code).split() == ["ENOSYS"] * 5
    (swarm.data / "agents/bob/state/keys.py").write_text(code)
    swarm.post("/api/messages", {"to": "bob", "body": f"run: {sys.executable} /state/keys.py"})
    assert "ENOSYS ENOSYS ENOSYS ENOSYS ENOSYS" in swarm.wait_inbox("ENOSYS")["body"]
    for folder in (swarm.data / "agents/alice", swarm.data / "agents/bob"):
        assert not any(SESSION_SECRET.encode() in read(path) for path in folder.rglob("*") if path.is_file())


# -- last: what ends a container ---------------------------------------------------------------------------


def test_an_agent_that_kills_all_it_can_kills_only_itself_and_comes_back(swarm: HiveProcess) -> None:
    def started(agent: str) -> Any:
        return json.loads((swarm.run / "containers" / agent / "container.json").read_text())["started_at"]

    before = {agent: started(agent) for agent in ("alice", "bob", "hm1nd")}
    run_inside(swarm, "alice", "sh", "-c", "kill -KILL -1")
    is_back: Callable[[], bool] = lambda: started("alice") != before["alice"]  # noqa: E731
    wait_for(is_back, "alice's container to be started anew", hive=swarm)
    swarm.wait_state("alice", "idle")
    assert {agent: started(agent) for agent in ("bob", "hm1nd")} == {name: before[name] for name in ("bob", "hm1nd")}
    assert swarm.process is not None
    assert swarm.process.poll() is None
    assert ask(swarm, "alice", "cat", f"/state/{NOTES}.md") == f"{NOTES}\n"
