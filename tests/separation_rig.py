"""Whoever has taken over the daemon, before root's helper with its checks and a driver that remembers what it does."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helper_rig import HelperRig, Peer, make_agent, make_checks, make_spec, open_helper_rig
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, Observation, Package, SizeDifference
from hyperhive.host.separation.verbs import Verb, render_spec
from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed

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

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        self.calls.append("list_packages")
        self.files = files
        return []

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        self.calls.append("compare_packages")
        return SizeDifference(0, 0, 0, 0, ())


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
