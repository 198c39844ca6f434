"""What root's helper refuses of whoever has taken over the daemon: each attempt leaves a line, and never a deed."""

import base64
import copy
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helper_rig import COMMIT, HelperRig, Peer, make_agent, make_checks, make_spec, open_helper_rig
from hyperhive.core.names import container_name
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID, FIRST_RANGED_UID, FIRST_UID, LAST_UID, RANGE_WIDTH
from hyperhive.host.configs.trees import FILE_LIMIT_BYTES, FILES_LIMIT, TREE_LIMIT_BYTES
from hyperhive.host.container_spec import HARNESS, HarnessSettings, plan_container
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, Observation
from hyperhive.host.separation.frames import FRAME_LIMIT_BYTES
from hyperhive.host.separation.verbs import PIECE_LIMIT_BYTES, Verb, render_spec
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed
from hyperhive.wire.agent_config import AgentConfig

Json = dict[str, Any]


@dataclass
class Recorder:
    """A driver that does nothing but remember what it was asked."""

    name: str = "recorder"
    calls: list[str] = field(default_factory=list[str])
    specs: list[ContainerSpec] = field(default_factory=list[ContainerSpec])
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    revision: str = "0123abcd"

    @property
    def unlimited(self) -> Mapping[str, str]:
        return {"cpu": "nobody counts it"}

    async def prepare(self) -> None:
        self.calls.append("prepare")

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        self.calls.append("build")
        return dict.fromkeys(packages, "1")

    async def create(self, spec: ContainerSpec) -> None:
        self.calls.append("create")
        self.specs.append(spec)

    async def observe(self, name: str) -> Observation:
        self.calls.append("observe")
        return Observation(ContainerState.ABSENT)

    async def find_usage(self, name: str) -> Usage:
        self.calls.append("find_usage")
        return Usage()

    async def start(self, spec: ContainerSpec) -> None:
        self.calls.append("start")
        self.specs.append(spec)

    async def stop(self, name: str, timeout_s: float) -> None:
        self.calls.append("stop")

    async def destroy(self, name: str) -> None:
        self.calls.append("destroy")

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        self.calls.append("exec")
        return Completed(command, 0, b"", b"")

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        self.calls.append("logs")
        return b"", 0

    async def log_range(self, name: str) -> tuple[int, int]:
        self.calls.append("log_range")
        return 0, 0

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        self.calls.append("evaluate")
        self.files = files
        return b"{}"

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        self.calls.append("build_system")
        self.files = files


@dataclass
class Attack:
    """`peer` speaks for the daemon of the hive in `roots`."""

    roots: Roots
    driver: Recorder
    rig: HelperRig
    peer: Peer

    async def is_done(self, verb: object, arguments: object) -> None:
        answer = await self.peer.ask(verb, arguments)
        assert "error" not in answer, answer
        assert self.rig.notes()[-1]["outcome"] == "ok"

    async def is_refused(self, verb: object, arguments: object) -> str:
        """The reason. The refusal must have come from the checks, left a line, and the driver alone."""
        before = len(self.rig.notes())
        answer = await self.peer.ask(verb, arguments)
        assert answer.get("error", {}).get("code") == "refused", answer
        assert self.driver.calls == []
        [line] = self.rig.notes()[before:]
        assert (line["outcome"], line["count"]) == ("refused", 1)
        assert line["message"] == answer["error"]["message"][:300]
        assert line["verb"] == (verb if verb in list(Verb) else "-")
        return line["message"]

    async def ends_all(self) -> None:
        """The helper has hung up, with a line that says so, and has done nothing."""
        assert await self.peer.receive() is None
        await self.rig.serving
        line = self.rig.notes()[-1]
        assert (line["outcome"], line["verb"], line["message"][:10]) == ("refused", "-", "no request")
        assert self.driver.calls == []

    def spec(self, agent: str = "alice") -> Json:
        return render_spec(make_spec(self.roots, agent))


async def open_attack(stack: AsyncExitStack, folder: Path, claude: str = "", ca_file: Path | None = None) -> Attack:
    roots = Roots(data=folder / "data", run=folder / "run")
    for agent in ("alice", "bob", "manager"):
        make_agent(roots, agent)
    driver = Recorder()
    checks = make_checks(roots, claude, ca_file)
    checked: Driver = driver
    rig = await stack.enter_async_context(open_helper_rig(folder, checked, checks=checks))
    peer = await rig.open_peer()
    stack.callback(peer.writer.close)
    return Attack(roots, driver, rig, peer)


@pytest.fixture
async def attack(tmp_path: Path) -> AsyncIterator[Attack]:
    async with AsyncExitStack() as stack:
        yield await open_attack(stack, tmp_path)


def put(value: Any, *place: Any) -> Callable[[Json], Json]:
    """Has `value` at a place of the arguments, which must be there before."""

    def change(arguments: Json) -> Json:
        changed: Any = copy.deepcopy(arguments)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        assert place[-1] in inner or isinstance(inner, list)
        inner[place[-1]] = value
        return changed

    return change


def without(key: str) -> Callable[[Json], Json]:
    return lambda arguments: {name: value for name, value in arguments.items() if name != key}


def add(key: str, value: Any) -> Callable[[Json], Json]:
    return lambda arguments: {**arguments, key: value}


# What no agent's container is called.
BAD_NAMES = (
    *(
        "",
        ".",
        "..",
        "../alice",
        "alice/../bob",
        "/etc",
        "a/b",
        "Alice",
        "alice\0",
        "alice\n",
        "-rf",
        "alice-",
        "ålice",
    ),
    *("manager", "operator", "system", "hyperhive", "*", "x" * 64, "x" * 201, "alice ", "trial.json"),
)
NO_TEXTS = (None, 7, True, ["alice"], {"alice": 1}, 1.5)
BAD_PACKAGES = (
    "",
    "x",
    "--force",
    "-o=APT::X",
    "a b",
    "../x",
    "sl=1",
    "sl:amd64",
    "sl;id",
    "*",
    "SL",
    "a\0b",
    "x" * 65,
)


# -- what is asked for properly --------------------------------------------------------------------------------


async def test_what_the_hive_plans_for_its_agents_is_done(tmp_path: Path) -> None:
    record = AgentRecord("alice", FIRST_RANGED_UID, 3, Desired.RUNNING, "", datetime(2026, 1, 1, tzinfo=UTC), None)
    claude, ca_file = "/opt/claude/claude", Path("/etc/ssl/hive.pem")
    settings = HarnessSettings("api_key", 300, claude, ca_file)
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path, claude, ca_file)
        for name in ("alice", "manager"):
            changed = AgentRecord(name, record.uid, 3, Desired.RUNNING, "", record.spawned_at, None)
            folder = attack.roots.versions_folder(name) / COMMIT
            config = AgentConfig().model_copy(update={"packages": ["sl"], "environment": {"A_1": "x\ny"}})
            spec = plan_container(changed, attack.roots, settings, config_folder=folder, config=config)
            for verb in ("create", "start"):
                await attack.is_done(verb, render_spec(spec))
                assert attack.driver.specs[-1] == spec
        assert [line["name"] for line in attack.rig.notes()] == ["alice", "alice", "hm1nd", "hm1nd"]
        assert attack.rig.notes()[0]["message"] == f"uid {FIRST_RANGED_UID}, packages sl"


async def test_each_verb_reaches_the_driver(attack: Attack) -> None:
    name = {"name": container_name("manager")}
    await attack.is_done("prepare", {})
    await attack.is_done("build", {"packages": ["sl", "libc6.1+"]})
    await attack.is_done("observe", name)
    await attack.is_done("find_usage", name)
    await attack.is_done("stop", {**name, "timeout_s": 3600})
    await attack.is_done("destroy", name)
    await attack.is_done("exec", {**name, "command": ["sh", "-c", "true"], "timeout_s": 0.5})
    await attack.is_done("logs", {**name, "offset": 2**63 - 1, "limit_bytes": PIECE_LIMIT_BYTES})
    await attack.is_done("log_range", name)
    await attack.is_done("evaluate", {**name, "files": {}})
    await attack.is_done("build_system", {**name, "files": {}})
    asked = ["prepare", "build", "observe", "find_usage", "stop", "destroy", "exec", "logs", "log_range"]
    asked += ["evaluate", "build_system"]
    assert attack.driver.calls == asked == [line["verb"] for line in attack.rig.notes()]


async def test_the_audit_has_no_environment_and_no_end_of_a_long_command(attack: Attack) -> None:
    await attack.is_done("create", put("hunter2", "environment", "GREETING")(attack.spec()))
    await attack.is_done("exec", {"name": "alice", "command": ["say", "x" * 400], "timeout_s": 1})
    first, second = attack.rig.notes()
    assert "hunter2" not in json.dumps(first)
    assert second["message"] == ("say " + "x" * 400)[:300]


# -- specs -----------------------------------------------------------------------------------------------------

SPECS: dict[str, Callable[[Json], Json]] = {
    **{f"the name {name!r:.20}": put(name, "name") for name in (*BAD_NAMES, *NO_TEXTS)},
    "the name of another": put("bob", "name"),
    "the manager's name": put("hm1nd", "name"),
    "no command": put([], "command"),
    "another command": put(["/bin/sh", "-c", "id"], "command"),
    "a longer command": put([*HARNESS, "--help"], "command"),
    "a shorter command": put(list(HARNESS[:-1]), "command"),
    "the command in one": put(" ".join(HARNESS), "command"),
    "a command with a zero byte": put([*HARNESS[:-1], "hyperhive\0.harness.main"], "command"),
    "a command of numbers": put([1, 2], "command"),
    **{f"the uid {uid}": put(uid, "uid") for uid in (0, 1, 1000, 65534, DAEMON_UID, FIRST_UID, None, True, "0", 1.0)},
    **{
        f"the uid {uid}": put(uid, "uid")
        for uid in (
            FIRST_RANGED_UID + 1,
            FIRST_RANGED_UID - 1,
            FIRST_RANGED_UID + RANGE_WIDTH // 2,
            LAST_UID,
            2**31,
            2**32,
            2**63,
            2**64,
            10**30,
            -1,
            1e300,
            -FIRST_RANGED_UID,
        )
    },
    **{
        f"the variable {name!r}": add("environment", {name: "x"}) for name in ("", "A=B", "1A", "A B", "A\0", "Ä", "-i")
    },
    "a variable with a zero byte": put("a\0LD_PRELOAD=/x", "environment", "GREETING"),
    "a variable that is a number": put(1, "environment", "GREETING"),
    "a variable that is none": put(None, "environment", "GREETING"),
    "a list for variables": put(["A=B"], "environment"),
    **{
        f"the working folder {place!r}": put(place, "working_folder")
        for place in ("", "state", "../state", "/state/../etc", "/st\0ate", 7, None)
    },
    "a working folder that is too long": put("/" + "x" * 5000, "working_folder"),
    **{f"the package {name!r:.12}": put([name], "packages") for name in (*BAD_PACKAGES, 7, None)},
    "packages in a text": put("sl", "packages"),
    "packages without end": put(["sl"] * 10_001, "packages"),
    **{
        f"{key} of {value!r:.20}": put(value, "limits", key)
        for key in ("memory_bytes", "cpus", "tasks")
        for value in (0, -1, "1", True, [1], 10**30)
    },
    "memory in fractions": put(1.5, "limits", "memory_bytes"),
    "tasks of 64 bits": put(2**63, "limits", "tasks"),
    "limits that are missing": put({}, "limits"),
    "no limits at all": put(None, "limits"),
    "a limit more": lambda spec: {**spec, "limits": {**spec["limits"], "swap": 1}},
    "a network of another kind": put("yes", "host_network"),
    "a network by number": put(1, "host_network"),
    "a field more": add("privileged", True),
    "a field more in a mount": put({"source": "/", "target": "/", "writable": True, "propagation": "x"}, "mounts", 0),
    **{
        f"without {key}": without(key)
        for key in ("name", "command", "environment", "mounts", "uid", "working_folder", "packages", "limits")
    },
}


@pytest.mark.parametrize("verb", ["create", "start"])
@pytest.mark.parametrize("what", SPECS)
async def test_a_container_that_is_not_as_the_hive_makes_them_is_refused(what: str, verb: str, attack: Attack) -> None:
    await attack.is_refused(verb, SPECS[what](attack.spec()))


def _first(spec: Json) -> Json:
    return spec["mounts"][0]


def _with_mounts(spec: Json, mounts: list[Json]) -> Json:
    return {**spec, "mounts": mounts}


MOUNTS: dict[str, Callable[[Json], Json]] = {
    "none": lambda spec: _with_mounts(spec, []),
    "one less": lambda spec: _with_mounts(spec, spec["mounts"][1:]),
    "the last one less": lambda spec: _with_mounts(spec, spec["mounts"][:-1]),
    "in another order": lambda spec: _with_mounts(spec, spec["mounts"][::-1]),
    "one twice": lambda spec: _with_mounts(spec, [*spec["mounts"], _first(spec)]),
    "one more": lambda spec: _with_mounts(
        spec, [*spec["mounts"], {"source": "/", "target": "/mnt", "writable": False}]
    ),
    "one before": lambda spec: _with_mounts(spec, [{"source": "/", "target": "/m", "writable": True}, *spec["mounts"]]),
    "a hundred more": lambda spec: _with_mounts(spec, [_first(spec)] * 101),
    "a second config": lambda spec: _with_mounts(spec, [*spec["mounts"], spec["mounts"][3]]),
    **{
        f"number {number} from {source!r}": put(source, "mounts", number, "source")
        for number in range(4)
        for source in ("/", "/etc", "", "state", "..", "/proc/self/root", "\0", 7, None)
    },
    **{
        f"number {number} at {target!r}": put(target, "mounts", number, "target")
        for number in range(4)
        for target in ("/", "/etc", "/usr", "state", "", "/state/..", "/state\0", None)
    },
    **{
        f"number {number} with {writable!r} for writable": put(writable, "mounts", number, "writable")
        for number, writable in ((0, False), (1, False), (2, True), (3, True), (0, 1), (0, "true"), (0, None))
    },
    **{
        f"number {number} without {key}": lambda spec, number=number, key=key: _with_mounts(
            spec, [without(key)(one) if place == number else one for place, one in enumerate(spec["mounts"])]
        )
        for number, key in ((0, "source"), (1, "target"), (2, "writable"))
    },
    **{
        f"its folder with {end}": lambda spec, end=end: put(spec["mounts"][0]["source"] + end, "mounts", 0, "source")(
            spec
        )
        for end in ("/..", "/../../bob/state", "/../state", "x")
    },
    **{
        f"its config with {end}": lambda spec, end=end: put(spec["mounts"][3]["source"] + end, "mounts", 3, "source")(
            spec
        )
        for end in ("/..", "/../..", "/x", "0", "/../" + "A" * 40, "/../" + "b" * 40)
    },
}


@pytest.mark.parametrize("what", MOUNTS)
async def test_mounts_are_what_the_hive_plans_and_nothing_else(what: str, attack: Attack) -> None:
    spec = attack.spec()
    changed = MOUNTS[what](spec)
    assert json.dumps(changed) != json.dumps(spec)
    await attack.is_refused("start", changed)


async def test_nobody_gets_what_is_anothers(attack: Attack) -> None:
    alice, bob, manager = (attack.spec(name) for name in ("alice", "bob", "manager"))
    for other in (bob, manager):
        await attack.is_refused("start", {**alice, "mounts": other["mounts"]})
        await attack.is_refused("start", {**other, "mounts": alice["mounts"]})
        for number in range(4):
            await attack.is_refused("start", put(other["mounts"][number]["source"], "mounts", number, "source")(alice))
    await attack.is_refused("start", {**alice, "mounts": manager["mounts"][:4]})
    await attack.is_refused("start", {**alice, "mounts": [*alice["mounts"], *manager["mounts"][4:]]})
    await attack.is_done("start", alice)


async def test_what_the_settings_name_is_mounted_from_there_alone(tmp_path: Path) -> None:
    settings: Json = {"claude": "/opt/claude", "ca_file": Path("/etc/ca.pem")}
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path, **settings)
        right = render_spec(make_spec(attack.roots, "alice", settings))
        for other in ({"claude": "/etc/shadow"}, {"ca_file": Path("/etc/shadow")}, {"claude": "/usr/bin/claude"}):
            await attack.is_refused("start", render_spec(make_spec(attack.roots, "alice", {**settings, **other})))
        await attack.is_refused("start", put("/usr", "mounts", 4, "target")(right))
        await attack.is_refused("start", put(True, "mounts", 4, "writable")(right))
        await attack.is_refused("start", render_spec(make_spec(attack.roots, "alice")))
        await attack.is_done("start", right)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("up", range(3))
@pytest.mark.parametrize("leads_to", ["/etc", "the same", "nowhere"])
async def test_no_link_leads_to_what_is_mounted(number: int, up: int, leads_to: str, attack: Attack) -> None:
    spec = attack.spec()
    place = Path(spec["mounts"][number]["source"])
    for _ in range(up):
        place = place.parent
    if place in (attack.roots.data, attack.roots.run):
        place = Path(spec["mounts"][number]["source"])
    moved = place.with_name("moved")
    place.rename(moved)
    place.symlink_to({"/etc": Path("/etc"), "the same": moved, "nowhere": moved / "gone"}[leads_to])
    reason = await attack.is_refused("start", spec)
    assert "is reached by a link" in reason or "cannot be found" in reason
    place.unlink()
    moved.rename(place)
    await attack.is_done("start", spec)


async def test_what_is_mounted_is_there_and_no_pipe(attack: Attack) -> None:
    spec = attack.spec()
    place = attack.roots.state_folder("alice")
    place.rmdir()
    assert "cannot be found" in await attack.is_refused("start", spec)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        assert "is neither a folder nor a file" in await attack.is_refused("start", spec)
    place.unlink()
    place.symlink_to(place)
    assert "cannot be found" in await attack.is_refused("start", spec)


async def test_the_hives_own_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path)
        await attack.is_done("start", attack.spec())


async def test_a_run_folder_in_the_data_is_no_way_around(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path)
        roots = Roots(data=attack.roots.data, run=attack.roots.data / "run")
        make_agent(roots, "alice")
        other = await stack.enter_async_context(open_helper_rig(roots.data, attack.driver, checks=make_checks(roots)))
        peer = await other.open_peer()
        stack.callback(peer.writer.close)
        inner = Attack(roots, attack.driver, other, peer)
        roots.run.rename(tmp_path / "elsewhere")
        roots.run.symlink_to(tmp_path / "elsewhere")
        assert "is reached by a link" in await inner.is_refused("start", inner.spec())


# -- the other verbs -------------------------------------------------------------------------------------------

NAMED: dict[str, Json] = {
    "observe": {},
    "find_usage": {},
    "stop": {"timeout_s": 1},
    "destroy": {},
    "exec": {"command": ["true"], "timeout_s": 1},
    "logs": {"offset": 0, "limit_bytes": 1},
    "log_range": {},
    "evaluate": {"files": {}},
    "build_system": {"files": {}},
}


@pytest.mark.parametrize("verb", NAMED)
async def test_only_agents_have_containers(verb: str, attack: Attack) -> None:
    for name in (*BAD_NAMES, *NO_TEXTS):
        await attack.is_refused(verb, {"name": name, **NAMED[verb]})
    await attack.is_refused(verb, NAMED[verb])
    await attack.is_refused(verb, {"name": "alice", **NAMED[verb], "force": True})
    wrong: list[object] = [[], None, "alice", 1, {}]
    for other in wrong:
        await attack.is_refused(verb, other)
    await attack.is_done(verb, {"name": "alice", **NAMED[verb]})


@pytest.mark.parametrize("verb", ["stop", "exec"])
async def test_nothing_waits_for_ever(verb: str, attack: Attack) -> None:
    wrong: list[object] = [-1, -0.1, 3600.1, 1e300, 10**30, 2**70, "1", None, True, []]
    for timeout_s in wrong:
        await attack.is_refused(verb, {"name": "alice", **NAMED[verb], "timeout_s": timeout_s})


async def test_a_command_is_a_list_of_texts(attack: Attack) -> None:
    for command in ([], "id", None, [1], [None], ["a\0b"], [["id"]], ["x"] * 10_001):
        await attack.is_refused("exec", {"name": "alice", "command": command, "timeout_s": 1})


async def test_logs_are_read_in_pieces_that_fit(attack: Attack) -> None:
    for offset in (-1, 2**63, 10**30, 1.5, "0", None, True):
        await attack.is_refused("logs", {"name": "alice", "offset": offset, "limit_bytes": 1})
    for limit_bytes in (-1, PIECE_LIMIT_BYTES + 1, 2**63, 0.5, "1", None, True):
        await attack.is_refused("logs", {"name": "alice", "offset": 0, "limit_bytes": limit_bytes})


async def test_packages_are_names_wherever_they_stand(attack: Attack) -> None:
    for name in (*BAD_PACKAGES, 7, None, ["sl"]):
        await attack.is_refused("build", {"packages": ["sl", name]})
        await attack.is_refused("observe_images", {"wanted": [["sl"], [name]]})
        await attack.is_refused("remove_unused_images", {"keep": [["sl"], [name]], "unused_s": 0})
    for lists in ("sl", None, ["sl"], {"sl": 1}):
        await attack.is_refused("observe_images", {"wanted": lists})
        await attack.is_refused("remove_unused_images", {"keep": lists, "unused_s": 0})
    for unused_s in (-1, None, "0", True):
        await attack.is_refused("remove_unused_images", {"keep": [], "unused_s": unused_s})
    for image_id in (None, 7, ["base"], "x" * 201):
        await attack.is_refused("compare_image", {"image_id": image_id})
        await attack.is_refused("remove_image", {"image_id": image_id})
    await attack.is_refused("prepare", {"force": True})


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_the_files_of_a_config_come_as_they_are_and_are_only_counted(attack: Attack) -> None:
    quarter = TREE_LIMIT_BYTES // FILE_LIMIT_BYTES
    files = {f"folder/{number}.nix": bytes([number, 255]) * (FILE_LIMIT_BYTES // 2) for number in range(quarter)}
    files |= {f"{number} ä.txt": b"" for number in range(FILES_LIMIT - quarter)}
    for verb in ("evaluate", "build_system"):
        await attack.is_done(verb, {"name": "alice", "files": {path: encode(files[path]) for path in files}})
        assert attack.driver.files == files
        attack.driver.files = {}
    assert [line["message"] for line in attack.rig.notes()] == [f"{FILES_LIMIT} files"] * 2


BAD_PATHS = (
    *("", ".", "..", "/etc/passwd", "../x", "a/../x", "a//x", "a/", "./x", "a\0", "a\n", "-x", "a\\b", " a", "\u202e"),
    *(".git/config", "x/.gitmodules", "x" * 201, "x" * 5000, "a/" * 8 + "x"),
)
BAD_CONTENTS = (*("x", "eA", "eA=", "eA===", "e A==", "e-_=", "hunter2\0", "ä"), *NO_TEXTS, {"x": "eA=="})


@pytest.mark.parametrize("verb", ["evaluate", "build_system"])
async def test_files_are_those_that_a_config_may_have(verb: str, attack: Attack) -> None:
    async def is_refused(files: object) -> str:
        return await attack.is_refused(verb, {"name": "alice", "files": files})

    for path in BAD_PATHS:
        await is_refused({"agent.nix": "", path: ""})
    for content in BAD_CONTENTS:
        await is_refused({"agent.nix": "", "x": content})
    for files in (None, 7, True, "agent.nix", ["agent.nix"], [["agent.nix", ""]]):
        await is_refused(files)
    assert "is below a file" in await is_refused({"a/b/c": "", "a": ""})
    await is_refused({"x": encode(bytes(FILE_LIMIT_BYTES + 1))})
    await is_refused({"x": "A" * 4_000_000})
    await is_refused({str(number): "" for number in range(FILES_LIMIT + 1)})
    quarters = {str(number): encode(bytes(FILE_LIMIT_BYTES)) for number in range(TREE_LIMIT_BYTES // FILE_LIMIT_BYTES)}
    assert "together" in await is_refused({**quarters, "one byte more": encode(b"x")})
    assert "hunter2" not in json.dumps(attack.rig.notes())


async def test_there_are_no_other_verbs(attack: Attack) -> None:
    others = (
        "",
        "Start",
        "START",
        "start ",
        "eval",
        "__init__",
        "_start",
        "unlimited",
        "name",
        "images",
        None,
        1,
        True,
    )
    for verb in (*others, ["start"], {"start": 1}, "x" * 100_000):
        assert await attack.is_refused(verb, attack.spec()) == "there is no such verb"
    await attack.is_done("start", attack.spec())


async def test_a_hive_without_images_has_none(attack: Attack) -> None:
    answer = await attack.peer.ask("remove_image", {"image_id": "base-0"})
    assert answer["error"]["code"] == "not_found"
    assert attack.rig.notes()[-1]["outcome"] == "failed"


async def test_what_a_refusal_says_is_not_what_was_secret(attack: Attack) -> None:
    for verb, wrong in (("start", put(7, "uid")), ("create", put("hunter2\0", "environment", "GREETING"))):
        answer = await attack.peer.ask(verb, wrong(put("hunter2", "environment", "GREETING")(attack.spec())))
        assert answer["error"]["code"] == "refused"
        assert "hunter2" not in json.dumps([answer, attack.rig.notes()])


# -- what is no request ----------------------------------------------------------------------------------------


def _raw(**fields: str) -> bytes:
    """A request of which some fields are as they stand here, wrong as JSON or not."""
    told = {"id": "1", "verb": '"destroy"', "arguments": '{"name":"alice"}', **fields}
    return ("{" + ",".join(f'"{key}":{value}' for key, value in told.items()) + "}").encode()


BODIES = {
    "empty": b"",
    "no JSON": b"start",
    "cut off": _raw()[:-1],
    "two": _raw() + _raw(id="2"),
    "no UTF-8": b'{"id":1,"verb":"\xff","arguments":{}}',
    "half a pair": _raw(verb='"\\ud800"'),
    "a list": b"[" + _raw() + b"]",
    "a text": b'"destroy"',
    "null": b"null",
    "NaN": _raw(arguments='{"name":"alice","timeout_s":NaN}'),
    "infinity": _raw(arguments='{"name":"alice","timeout_s":Infinity}'),
    "a number of 400 digits": _raw(arguments='{"name":"alice","timeout_s":%s}' % ("9" * 400)),
    "more than a double": _raw(arguments='{"name":"alice","timeout_s":1e999}'),
    "deep lists": _raw(arguments="[" * 100_000 + "]" * 100_000),
    "deep objects": _raw(arguments='{"a":' * 100_000 + "1" + "}" * 100_000),
    "open lists": b"[" * 1_000_000,
    "a field more": _raw(uid="0"),
    "an answer": b'{"id":1,"result":null}',
    "nothing in it": b"{}",
    "both": _raw(cancel="1"),
    **{f"the id {number}": _raw(id=number) for number in ("0", "-1", "null", '"1"', "1.0", "true", "[1]", "1e300")},
    **{
        f"to cancel {number}": b'{"cancel":%s}' % number.encode()
        for number in ("1", "0", "-1", "null", "true", '"1"', "1.0", "[]", "9" * 400)
    },
}


@pytest.mark.parametrize("what", BODIES)
async def test_what_is_no_request_ends_it(what: str, attack: Attack) -> None:
    attack.peer.send_body(BODIES[what])
    # What follows is not even looked at.
    attack.peer.send_body(_raw(id="5"))
    await attack.ends_all()


async def test_a_frame_that_is_too_long_ends_it_before_it_is_read(attack: Attack) -> None:
    attack.peer.writer.write((FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"))
    await attack.ends_all()


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\x05{}", (2**32 - 1).to_bytes(4, "big")])
async def test_a_frame_that_is_cut_off_ends_it(sent: bytes, attack: Attack) -> None:
    attack.peer.writer.write(sent)
    attack.peer.writer.write_eof()
    await attack.ends_all()


async def test_an_id_comes_once(attack: Attack) -> None:
    await attack.peer.ask("observe", {"name": "alice"})
    attack.driver.calls.clear()
    attack.peer.send({"id": 1, "verb": "destroy", "arguments": {"name": "alice"}})
    await attack.ends_all()


async def test_what_was_answered_may_be_given_up(attack: Attack) -> None:
    await attack.peer.ask("observe", {"name": "alice"})
    attack.peer.send({"cancel": 1})
    await attack.is_done("destroy", {"name": "alice"})


async def test_the_longest_frame_is_read(attack: Attack) -> None:
    body = _raw(arguments='{"name":"bob"}')
    attack.peer.last_id = 1
    attack.peer.send_body(body + b" " * (FRAME_LIMIT_BYTES - len(body)))
    answer = await attack.peer.receive()
    assert answer == {"id": 1, "result": None}
    assert attack.driver.calls == ["destroy"]
