"""The nixos driver with programs that stand in for those of NixOS, in folders of its own."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from driver_rig import DEADLINE_S, ENVIRONMENT, FIRST_UID, wait_until
from hyperhive.core.errors import HiveError
from hyperhive.core.uids import RANGE_WIDTH
from hyperhive.host.drivers.nixos import NixosDriver
from hyperhive.host.drivers.nixos_flake import NixInputs
from hyperhive.host.drivers.nixos_machines import Places
from hyperhive.host.drivers.nixos_programs import Deadlines
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Mount, Observation
from hyperhive.system.pids import find_process
from nixos_stand_in import Files, install

NAMES = ("alice", "bob", "hm1nd")
AGENT = b'{ hyperhive.model = "haiku"; }\n'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Call:
    """One call of a program that stands in."""

    argv: list[str]
    folder: str
    environment: dict[str, str]
    pid: int


@dataclass
class NixosRig:
    """`driver` is the one under test. `files` is where the programs keep what they know."""

    folder: Path
    files: Files
    inputs: NixInputs
    driver: NixosDriver = field(init=False)
    # Which flakes were evaluated first, and how many calls of nix there were before; what is said of them.
    evaluated: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    refusal: HiveError | None = None

    def __post_init__(self) -> None:
        self.driver = self.make_driver()

    def make_driver(self, inputs: NixInputs | None = None, deadlines: Deadlines | None = None) -> NixosDriver:
        """One as a restarted daemon has it."""
        files = self.files
        places = Places(files.confs, files.roots, files.profiles, self.folder / "units", self.folder / "cgroups")
        path = f"{self.files.bin}:{_PATH}"
        folder = self.folder / "containers"
        return NixosDriver(
            folder,
            inputs or self.inputs,
            path=path,
            places=places,
            deadlines=deadlines,
            evaluate_first=self.note_evaluated,
        )

    async def note_evaluated(self, flake: Path) -> None:
        """In the place of nix, which would need a nixpkgs."""
        self.evaluated.append((flake.name, len(self.calls("nix"))))
        if self.refusal is not None:
            raise self.refusal

    # -- what is given ---------------------------------------------------------------------------------------

    def uid(self, name: str = "alice") -> int:
        return FIRST_UID + NAMES.index(name) * RANGE_WIDTH

    def owned(self, name: str, what: str) -> Path:
        folder = self.folder / "agents" / name / what
        if not folder.exists():
            folder.mkdir(parents=True)
            os.chown(folder, self.uid(name), self.uid(name))
        return folder

    def config(self, name: str = "alice") -> Path:
        return self.folder / "agents" / name / "config"

    def write_config(self, files: Mapping[str, bytes], name: str = "alice") -> None:
        """The files of the config, in the place of those before."""
        shutil.rmtree(self.config(name), ignore_errors=True)
        for path, content in files.items():
            file = self.config(name) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def spec(self, name: str = "alice", **changes: Any) -> ContainerSpec:
        if not self.config(name).exists():
            self.write_config({"agent.nix": AGENT}, name)
        mounts = (
            Mount(self.owned(name, "state"), Path("/state"), writable=True),
            Mount(self.owned(name, "claude"), Path("/home/agent/.claude"), writable=True),
            Mount(self.owned(name, "sockets"), Path("/run/hive")),
            Mount(self.config(name), Path("/config")),
        )
        return replace(ContainerSpec(name, ("harness",), ENVIRONMENT, mounts, self.uid(name)), **changes)

    async def run(self, name: str = "alice", payload: str = "") -> ContainerSpec:
        """Makes and starts a container; `payload` is what it runs after it came up."""
        spec = self.spec(name)
        if payload:
            (self.files.state / "payload").write_text(payload)
        await self.driver.create(spec)
        await self.driver.start(spec)
        return spec

    # -- what the programs do --------------------------------------------------------------------------------

    def misbehave(self, call: str, kind: str, text: str = "", status: int = 1, times: int | None = None) -> None:
        """Has a program, or one verb of it, fail with `text`, hang, or do what the stand-in knows by `kind`."""
        fault = {"kind": kind, "text": text, "status": status, "times": times}
        (self.files.faults / call).write_text(json.dumps(fault))

    def behave(self) -> None:
        for fault in self.files.faults.iterdir():
            fault.unlink()

    def set_unit(self, name: str, **unit: str) -> None:
        """What systemd says of a container's unit from now on."""
        self.files.save_unit(self.machine(name), {"SubState": "failed", "Result": "success", **unit})

    # -- what is seen ----------------------------------------------------------------------------------------

    def machine(self, name: str) -> str:
        return name if name == "hm1nd" else f"h-{name}"

    def conf_file(self, name: str = "alice") -> Path:
        return self.files.confs / f"{self.machine(name)}.conf"

    def conf(self, name: str = "alice") -> list[str]:
        return self.conf_file(name).read_text().splitlines()

    def place(self, name: str = "alice") -> Path:
        return self.folder / "containers" / name

    def calls(self, *start: str) -> list[Call]:
        """The calls so far whose arguments begin with `start`."""
        lines = self.files.calls.read_text().splitlines() if self.files.calls.exists() else []
        calls = [Call(**json.loads(line)) for line in lines]
        return [call for call in calls if call.argv[: len(start)] == list(start)]

    def forget_calls(self) -> None:
        self.files.calls.unlink(missing_ok=True)

    async def wait_call(self, *start: str) -> Call:
        """The first call that begins with `start`, once it was made."""

        async def seen() -> bool:
            return bool(self.calls(*start))

        await wait_until(seen, f"{' '.join(start)} is called")
        return self.calls(*start)[0]

    async def wait_calls_ended(self) -> None:
        """Waits until nothing that was called runs any more: all are killed at once, and gone within a moment."""

        async def gone() -> bool:
            return not any(find_process(call.pid) for call in self.calls())

        await wait_until(gone, "every call has ended")

    async def wait_state(self, state: ContainerState, name: str = "alice") -> Observation:
        async def seen() -> bool:
            return (await self.driver.observe(name)).state is state

        await wait_until(seen, f"{name} is {state}")
        return await self.driver.observe(name)

    async def ask(self, *command: str, name: str = "alice") -> str:
        done = await self.driver.exec(name, command, DEADLINE_S)
        assert done.ok, done
        return done.stdout.decode()

    def end_all(self) -> None:
        """Ends every container that the programs have started."""
        for name in NAMES:
            unit = self.files.load_unit(self.machine(name))
            for key in ("leader", "main"):
                with contextlib.suppress(ProcessLookupError):
                    if key in unit:
                        os.kill(unit[key], signal.SIGKILL)


@asynccontextmanager
async def open_nixos_rig(folder: Path, script: Path | None = None) -> AsyncGenerator[NixosRig]:
    """A rig below `folder` whose driver is prepared; its containers end with it.

    With `script`, that is nixos-container: it finds the folders of the other programs where NixOS has them, in a view
    of its own, and nothing of this machine's.
    """
    folder.chmod(0o755)
    for name in ("units", "cgroups", "hyperhive", "nixpkgs"):
        (folder / name).mkdir()
    rig = NixosRig(folder, install(folder / "nixos"), NixInputs(folder / "hyperhive", folder / "nixpkgs"))
    if script is not None:
        _wrap(rig.files, folder, script)
    try:
        await rig.driver.prepare()
        yield rig
    finally:
        rig.end_all()


def _wrap(files: Files, folder: Path, script: Path) -> None:
    (files.fs / "run/lock").mkdir(parents=True)
    places = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve(), script)
    shown = [place for place in dict.fromkeys(places) if not place.is_relative_to("/usr")]
    arguments = [
        *("bwrap", "--die-with-parent", "--cap-add", "ALL", "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"),
        *("--bind", "/sys", "/sys", "--ro-bind", "/usr", "/usr"),
        *(part for name in ("bin", "sbin", "lib", "lib64") for part in ("--symlink", f"usr/{name}", f"/{name}")),
        *(part for place in shown for part in ("--ro-bind", str(place), str(place))),
        *(part for name in ("etc", "var", "nix", "run") for part in ("--bind", str(files.fs / name), f"/{name}")),
        *("--bind", str(folder), str(folder)),
    ]
    program = files.bin / "nixos-container"
    program.unlink()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(arguments)} --chdir "$PWD" -- {shlex.quote(str(script))} "$@"\n')
    program.chmod(0o755)
