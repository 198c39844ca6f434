"""What nixos-container has made of containers: their confs and profiles, and the roots that they start on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.nixos_conf import ConfPlan, read_conf, rewrite_conf, write_conf
from hyperhive.host.drivers.nixos_names import plan_machine
from hyperhive.host.drivers.nixos_programs import Programs
from hyperhive.host.drivers.protocol import DriverError, Mount
from hyperhive.system.files import make_folders_beneath


@dataclass(frozen=True, slots=True)
class Places:
    """Where NixOS has what nixos-container and systemd go by."""

    confs: Path = Path("/etc/nixos-containers")
    roots: Path = Path("/var/lib/nixos-containers")
    profiles: Path = Path("/nix/var/nix/profiles/per-container")
    units: Path = Path("/run/systemd/system")
    cgroups: Path = Path("/sys/fs/cgroup")


class ForeignError(DriverError):
    """There is a container of that name that we have not made."""


class Machines:
    """`folder` has the folders of our containers. Names are containers', and all methods may raise DriverError."""

    def __init__(self, folder: Path, places: Places, programs: Programs) -> None:
        self._folder = folder
        self._places = places
        self._programs = programs

    def plan_flake(self, name: str) -> str:
        """What a container of ours is made from: by that its conf tells whose it is."""
        return f"path:{self._folder / name / 'flake'}"

    def has_profile(self, name: str) -> bool:
        """Whether it was ever given a system."""
        return os.path.lexists(self._places.profiles / plan_machine(name) / "system")

    def is_there(self, name: str) -> bool:
        """Whether we have made it, if only by half. Raises ForeignError for somebody else's."""
        return self.find_conf(name) is not None

    def find_conf(self, name: str) -> str | None:
        """The conf of a container of ours; None if there is none. Raises ForeignError for somebody else's."""
        path = self._plan_conf(name)
        if not os.path.lexists(path):
            return None
        # What NixOS itself declares is a link.
        text = "" if path.is_symlink() else read_conf(path)
        if f"FLAKE={self.plan_flake(name)}" in (line.strip() for line in text.splitlines()):
            return text
        raise ForeignError(
            f"there is a container {path.stem} that this hive has not made",
            f"if nobody needs it: nixos-container destroy {path.stem}; or rename the agent",
        )

    def configure(self, name: str, mounts: Sequence[Mount], range_start: int, *, private_network: bool) -> None:
        """Has the conf say what we know, and its mounts find their places."""
        conf = self.find_conf(name)
        if conf is None:
            raise DriverError(f"the container {name} was not created", "create it first")
        plan = ConfPlan(tuple(mounts), range_start, private_network=private_network, flake=self.plan_flake(name))
        try:
            wanted = rewrite_conf(conf, plan)
            self._make_mount_points(name, mounts)
        except InvalidInputError as error:
            raise DriverError(error.message, error.hint) from error
        except OSError as error:
            raise DriverError(f"the root of {name} cannot be prepared: {error}", "is the disk full?") from error
        if wanted != conf:
            write_conf(self._plan_conf(name), wanted)

    async def remove(self, name: str) -> None:
        """Has nixos-container remove what it has made. What is bound into a container is not a part of that."""
        machine, limit_s = plan_machine(name), self._programs.deadlines.destroy_s
        done = await self._programs.run("nixos-container", "destroy", machine, timeout_s=limit_s)
        if not done.ok or self._plan_conf(name).exists():
            reason = done.error_text or "its conf is still there"
            raise DriverError(f"{machine} cannot be removed: {reason}", f"try: nixos-container destroy {machine}")

    def _plan_conf(self, name: str) -> Path:
        return self._places.confs / f"{plan_machine(name)}.conf"

    def _make_mount_points(self, name: str, mounts: Sequence[Mount]) -> None:
        """The folders that mounts are in, but for those in memory. Made by nspawn they would be nobody's inside: not
        even its root could give the agent its home. What is inside may be a link by now, and none is followed.
        Raises OSError.
        """
        roots, machine = self._places.roots, plan_machine(name)
        roots.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_folders_beneath(roots, (machine,), mode=0o755, uid=None)
        for mount in mounts:
            if not mount.target.is_relative_to("/run"):
                make_folders_beneath(roots / machine, mount.target.parts[1:-1], mode=0o755, uid=None)
