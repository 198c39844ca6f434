"""What the nixos driver does on a host of NixOS containers, a step at a time: `nixos_steps.py STEP INPUTS` prints JSON.

Each step is a process of its own, as a daemon would be that was started again. The agents are alice and bob.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hyperhive.core.errors import HiveError
from hyperhive.core.limits import Limits
from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH
from hyperhive.host.drivers.nixos import NixosDriver
from hyperhive.host.drivers.nixos_flake import parse_nix_inputs
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Mount, Observation

HOME = Path("/srv/hive")
UIDS = {"alice": FIRST_RANGED_UID, "bob": FIRST_RANGED_UID + RANGE_WIDTH}
MEMORY_BYTES = 512 * 1024**2
TASKS = 300
ENVIRONMENT = {"HOME": "/home/agent", "GREETING": 'of "two" words, $HOME'}
# In the place of the harness, which has no hive here.
AGENT_NIX = """\
{{ lib, ... }}:
{{
  hyperhive.model = "sonnet";
  systemd.services.hyperhive-harness.serviceConfig.ExecStart = lib.mkForce "/usr/bin/sh /config/run.sh";
  systemd.services.hyperhive-harness.environment.VERSION = "{version}";
}}
"""
RUN = """\
echo "version $VERSION says $GREETING"
echo "$(id -u) $(id -g) $VERSION" >/state/told.new && mv /state/told.new /state/told
trap 'echo was told to end; exit 0' TERM
while :; do sleep 0.2; done
"""


class Steps:
    def __init__(self, inputs: str) -> None:
        self.driver = NixosDriver(HOME / "containers", parse_nix_inputs(inputs), path=os.environ["PATH"])

    # -- the steps -----------------------------------------------------------------------------------------

    async def evaluate(self) -> Any:
        """Of carol, who has no container; this needs no command."""
        (HOME / "containers").mkdir(mode=0o700, exist_ok=True)
        told: list[str] = []
        for name in ("model", "modle"):
            files = self.files("carol") | {"agent.nix": f'{{\n  hyperhive.{name} = "sonnet";\n}}\n'.encode()}
            try:
                told.append(json.loads(await self.driver.evaluate("carol", files))["model"])
            except HiveError as error:
                told.append(f"{type(error).__name__}: {error.message}")
        return told

    async def packages(self) -> Any:
        """What another package is to carol's system, and to the store; needs no command either."""
        (HOME / "containers").mkdir(mode=0o700, exist_ok=True)
        base = self.files("carol")
        more = base | {"agent.nix": b'{ hyperhive.packages = [ "hello" ]; }\n'}
        before, after = [await self.driver.list_packages("carol", files) for files in (base, more)]
        sides = [[package.path for package in packages] for packages in (before, after)]
        return {
            "before": {package.name: package.path for package in before},
            "after": {package.name: package.path for package in after},
            "more": asdict(await self.driver.compare_packages(*sides)),
            "less": asdict(await self.driver.compare_packages(*reversed(sides))),
        }

    async def create(self) -> Any:
        spec = self.spec("alice")
        evaluated = json.loads(await self.driver.evaluate("alice", self.files("alice")))
        await self.driver.build_system("alice", self.files("alice"))
        await self.driver.create(spec)
        return {"model": evaluated["model"], **self.show(await self.driver.observe("alice"))}

    async def start(self) -> Any:
        await self.driver.start(self.spec("alice"))
        return self.show(await self.wait_told("alice", "1"))

    async def look(self) -> Any:
        """At what runs."""
        inside = await self.driver.exec("alice", ("sh", "-c", "id -u; cat /proc/self/uid_map; ip -brief link"), 20)
        usage = await self.driver.find_usage("alice")
        log, _ = await self.driver.logs("alice", 0, 1024 * 1024)
        owner = (HOME / "alice/state/told").stat().st_uid
        seen = self.show(await self.driver.observe("alice"))
        return {
            **seen,
            "inside": inside.stdout.decode().splitlines(),
            "error": inside.stderr.decode(),
            "owner": owner,
            "uid": UIDS["alice"],
            "memory": usage.memory_bytes,
            "log": log.decode(errors="replace"),
        }

    async def rebuild(self) -> Any:
        """From other files: built while it runs, then stopped, made and started again."""
        before = self.show(await self.driver.observe("alice"))
        files = self.files("alice", "2")
        await self.driver.build_system("alice", files)
        between = self.show(await self.driver.observe("alice"))
        await self.driver.stop("alice", 10)
        stopped = self.show(await self.driver.observe("alice"))
        spec = self.spec("alice", "2")
        await self.driver.create(spec)
        await self.driver.start(spec)
        return [before, between, stopped, self.show(await self.wait_told("alice", "2"))]

    async def stop(self) -> Any:
        await self.driver.stop("alice", 10)
        return self.show(await self.driver.observe("alice"))

    async def die(self) -> Any:
        """It is killed, and not by the hive."""
        await self.driver.start(self.spec("alice", "2"))
        await self.wait_told("alice", "2")
        observed = await self.driver.observe("alice")
        assert observed.pid is not None
        os.kill(observed.pid, 9)
        return self.show(await self.wait_state("alice", ContainerState.EXITED))

    async def end(self) -> Any:
        """Its command ends by itself."""
        await self.driver.start(self.spec("alice", "2"))
        await self.wait_told("alice", "2")
        await self.driver.exec("alice", ("sh", "-c", "kill -TERM $(systemctl show -P MainPID hyperhive-harness)"), 20)
        return self.show(await self.wait_state("alice", ContainerState.EXITED))

    async def destroy(self) -> Any:
        await self.driver.destroy("alice")
        return self.show(await self.driver.observe("alice"))

    async def revive(self) -> Any:
        told = (HOME / "alice/state/told").read_text()
        spec = self.spec("alice", "3")
        await self.driver.create(spec)
        await self.driver.start(spec)
        return {"kept": told, **self.show(await self.wait_told("alice", "3"))}

    async def share_network(self) -> Any:
        """bob is in the host's network."""
        spec = replace(self.spec("bob"), host_network=True)
        await self.driver.create(spec)
        await self.driver.start(spec)
        shown = self.show(await self.wait_told("bob", "1"))
        return {
            **shown,
            "network": str(Path(f"/proc/{shown['pid']}/ns/net").readlink()),
            "own": str(Path("/proc/self/ns/net").readlink()),
        }

    async def refuse(self) -> Any:
        """Files that no system can be made of; bob goes on."""
        files = self.files("bob") | {"agent.nix": b'{\n  hyperhive.modle = "sonnet";\n}\n'}
        told: list[str] = []
        for doing in (self.driver.evaluate, self.driver.build_system):
            try:
                await doing("bob", files)
            except HiveError as error:
                told.append(f"{type(error).__name__}: {error.message}")
        return {"told": told, **self.show(await self.driver.observe("bob"))}

    # -- what they are made of -----------------------------------------------------------------------------

    def files(self, name: str, version: str = "1") -> dict[str, bytes]:
        return {"agent.nix": AGENT_NIX.format(version=version).encode(), "run.sh": RUN.encode()}

    def spec(self, name: str, version: str = "1") -> ContainerSpec:
        config = HOME / name / f"config-{version}"
        config.mkdir(parents=True, exist_ok=True)
        for file, content in self.files(name, version).items():
            (config / file).write_bytes(content)
        state = HOME / name / "state"
        if not state.exists():
            state.mkdir()
            os.chown(state, UIDS[name], UIDS[name])
        mounts = (Mount(state, Path("/state"), writable=True), Mount(config, Path("/config")))
        limits = Limits(MEMORY_BYTES, 1.5, TASKS)
        return ContainerSpec(name, ("hive-harness",), ENVIRONMENT, mounts, UIDS[name], limits=limits)

    def show(self, observed: Observation) -> dict[str, Any]:
        cause = observed.cause.value if observed.cause else None
        return {
            "state": observed.state.value,
            "pid": observed.pid,
            "cause": cause,
            "code": observed.exit_code,
            "reason": observed.reason,
            "revision": observed.revision,
        }

    async def wait_told(self, name: str, version: str) -> Observation:
        told = HOME / name / "state/told"

        async def is_told() -> bool:
            return told.exists() and told.read_text().endswith(f" {version}\n")

        await wait(is_told, f"{name} to tell")
        return await self.driver.observe(name)

    async def wait_state(self, name: str, state: ContainerState) -> Observation:
        async def is_so() -> bool:
            return (await self.driver.observe(name)).state is state

        await wait(is_so, f"{name} to be {state}")
        return await self.driver.observe(name)


async def wait(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


async def main() -> None:
    step, inputs = sys.argv[1:]
    steps = Steps(inputs)
    if step not in ("evaluate", "packages"):
        await steps.driver.prepare()
    print(json.dumps(await getattr(steps, step)()))


if __name__ == "__main__":
    os.umask(0o022)
    HOME.mkdir(mode=0o711, parents=True, exist_ok=True)
    asyncio.run(main())
