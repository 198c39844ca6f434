"""File systems laid out like the kernel's control groups of version 2, of which a test's machine may have none."""

from dataclasses import dataclass, field
from pathlib import Path

from hyperhive.system.cgroup_trees import Kernel

_FILES = {
    "memory": {"memory.max": "max", "memory.swap.max": "max", "memory.current": "4096", "memory.stat": "anon 1\n"},
    "cpu": {"cpu.max": "max 100000", "cpu.weight": "100"},
    "pids": {"pids.max": "max", "pids.current": "0"},
}
_ALWAYS = {
    "cgroup.procs": "",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.subtree_control": "",
    "cgroup.type": "domain\n",
}


@dataclass
class Machine:
    """A hierarchy of version 2 in which `place` is the group of a process with `pid`; `parents` has the others'."""

    folder: Path
    place: str = "/"
    controllers: str = "cpu memory pids"
    pid: int = 1000
    parents: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        self.make_group(self.mount, self.controllers)
        # The root of all has neither.
        (self.mount / "cgroup.type").unlink()
        (self.mount / "cgroup.events").unlink()
        for part in [*reversed(Path(self.place).parents), Path(self.place)][1:]:
            self.make_group(self.mount / str(part).lstrip("/"), self.controllers)
        own = self.proc / "self"
        own.mkdir(parents=True)
        (own / "mountinfo").write_text(f"30 23 0:26 / {self.mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
        (own / "cgroup").write_text(f"0::{self.place}\n")
        (self.proc / "meminfo").write_text("MemTotal:       1000000 kB\nMemFree: 1 kB\n")
        (self.proc / "sys/kernel").mkdir(parents=True)
        (self.proc / "sys/kernel/pid_max").write_text("40000\n")
        for pid, parent in self.parents.items():
            (self.proc / str(pid)).mkdir()
            (self.proc / str(pid) / "stat").write_text(f"{pid} (any) name) S {parent} 1 1")
        (self.base / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in (self.pid, *self.parents)))

    @property
    def mount(self) -> Path:
        return self.folder / "cgroup"

    @property
    def proc(self) -> Path:
        return self.folder / "proc"

    @property
    def base(self) -> Path:
        return self.mount / self.place.lstrip("/")

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.proc, self.make, self.remove)

    def make(self, folder: Path) -> None:
        """As mkdir: what the group above hands on is there."""
        handed = (folder.parent / "cgroup.subtree_control").read_text().replace("+", "")
        if folder.exists():
            raise FileExistsError(folder)
        self.make_group(folder, handed)

    def make_group(self, folder: Path, controllers: str) -> None:
        folder.mkdir(parents=True)
        files = {**_ALWAYS, "cgroup.controllers": controllers}
        for controller in controllers.split():
            files |= _FILES.get(controller, {})
        for name, content in files.items():
            (folder / name).write_text(content)

    def remove(self, folder: Path) -> None:
        """As rmdir: the kernel's own files are no reason to refuse."""
        if any(entry.is_dir() for entry in folder.iterdir()):
            raise OSError(39, "Directory not empty")
        if (folder / "cgroup.procs").read_text().strip():
            raise OSError(16, "Device or resource busy")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
