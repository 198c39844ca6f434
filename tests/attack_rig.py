"""A running hive to attack: the test plays the manager, and everything that an agent could send or leave lying."""

import base64
import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_rig import Object, bundle_of, plain_tree, read_folder
from git_rig import commit as make_commit
from hive_process import KEEP_ROOT, HiveProcess, end_hive, wait_for
from proposer import Proposer, git, read_generation

HELD_DAEMON = Path(__file__).parent / "held_daemon.py"
ENDED = {"deployed", "failed", "denied"}


@dataclass
class Arena:
    """The manager's container is stopped; `manager` speaks in its place."""

    hive: HiveProcess
    folder: Path
    manager: Proposer
    agents: list[str] = field(default_factory=list[str])

    def spawn(self, name: str = "") -> str:
        """An agent of its own for one test, running; its name."""
        name = name or f"a{uuid.uuid4().hex[:8]}"
        self.hive.post("/api/agents", {"name": name})
        self.hive.wait_state(name, "idle")
        self.agents.append(name)
        return name

    def stop(self, name: str) -> int:
        """Ends the container of an agent, for the test to speak in its place. Returns its generation."""
        self.hive.post(f"/api/agents/{name}/stop")
        self.hive.wait_state(name, "stopped")
        return self.generation(name)

    def purge_agents(self) -> None:
        """Ends what was spawned."""
        while self.agents:
            with self.hive.client() as client:
                client.delete(f"/api/agents/{self.agents.pop()}?purge=true")

    def draft(self) -> str:
        name = f"d{uuid.uuid4().hex[:8]}"
        self.manager.request("request_spawn_draft", {"name": name})
        return name

    # -- folders -------------------------------------------------------------------------------------------

    def applied(self, name: str) -> Path:
        return self.hive.data / "applied" / name

    def proposed(self, name: str) -> Path:
        return self.hive.data / "proposed" / name

    def state(self, name: str) -> Path:
        return self.hive.data / "agents" / name / "state"

    def main(self, name: str) -> str:
        return git(self.applied(name), "rev-parse", "refs/heads/main").decode().strip()

    def refs(self, name: str) -> dict[str, str]:
        lines = git(self.applied(name), "for-each-ref", "--format=%(refname) %(objectname)").decode().splitlines()
        return dict(line.split(" ") for line in lines)

    def files_in_use(self, name: str) -> dict[str, bytes]:
        """The config's files as the container of an agent sees them."""
        container = json.loads((self.hive.run / "containers" / name / "container.json").read_text())
        return read_folder(Path(f"/proc/{container['init']['pid']}/root/config"))

    def generation(self, name: str) -> int:
        return read_generation(self.hive, name)

    @property
    def manager_uid(self) -> int | None:
        """Whose the manager's folders are; None where the hive has no uids to give."""
        return self.hive.data.joinpath("proposed").stat().st_uid if os.geteuid() == 0 else None

    # -- approvals -----------------------------------------------------------------------------------------

    def approval(self, number: int) -> dict[str, Any]:
        return self.hive.get(f"/api/approvals/{number}")

    def approvals_of(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.hive.get("/api/approvals") if row["agent"] == name]

    def approve(self, number: int) -> None:
        self.hive.post(f"/api/approvals/{number}/approve")

    def wait_ended(self, number: int) -> dict[str, Any]:
        """The approval once it ended, with its tags and main where they belong."""
        row = wait_for(
            lambda: (found := self.approval(number))["status"] in ENDED and found,
            f"the end of approval {number}",
            hive=self.hive,
        )
        name, tag = row["agent"], f"refs/tags/{row['status']}/{number}"
        wait_for(lambda: not self.applied(name).exists() or tag in self.refs(name), tag, hive=self.hive)
        if row["status"] == "deployed":
            wait_for(lambda: self.main(name) == self.hive.agent(name)["commit"], "main to follow", hive=self.hive)
        return row

    def wait_tagged(self, numbers: Sequence[int]) -> None:
        """Waits until the applied repo shows these proposals."""
        for number in numbers:
            name, tag = self.approval(number)["agent"], f"refs/tags/proposal/{number}"
            wait_for(lambda name=name, tag=tag: tag in self.refs(name), tag, hive=self.hive)

    def deploy(self, name: str, files: Mapping[str, str]) -> str:
        """Proposes and approves `files`; the commit that is deployed then."""
        number, commit = self.manager.propose(name, files)
        self.approve(number)
        row = self.wait_ended(number)
        assert (row["status"], row["reason"]) == ("deployed", None)
        return commit

    def send_bundle(self, name: str, commit: str, content: bytes, *, key: str = "", notes: str | None = None) -> int:
        """Submits any bytes as a bundle, as a spawn if `notes` are given. The approval's id; raises LinkError."""
        method = "request_apply_commit" if notes is None else "request_spawn_commit"
        params = {
            **({"agent": name} if notes is None else {"name": name, "notes": notes}),
            "commit": commit,
            "bundle": base64.b64encode(content).decode(),
            "description": "",
            "idempotency_key": key or uuid.uuid4().hex,
        }
        return self.manager.request(method, params)["approval_id"]

    def bundle_files(self, name: str, files: Mapping[str, bytes]) -> tuple[str, bytes]:
        """A commit with exactly `files` on what is deployed, and a bundle of it."""
        root, *blobs = plain_tree(files)
        return self.bundle_tree(name, root, *blobs)

    def bundle_tree(self, name: str, root: Object, *others: Object) -> tuple[str, bytes]:
        main = self.main(name)
        tip = make_commit(root, [main])
        return tip.oid, bundle_of(tip, [root, *others], [main])

    def residue(self, name: str) -> dict[str, bytes]:
        """All that a submission could leave: the bytes of the applied repo and of what is staged."""
        staging = self.hive.data / "staging"
        return {**read_folder(self.applied(name)), **{f"staging/{path}": b"" for path in read_folder(staging)}}

    # -- what the manager may do to its own folders ----------------------------------------------------------

    def own(self, path: Path) -> None:
        """Makes what the test put into a folder of the manager the manager's."""
        if self.manager_uid is not None:
            for item in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
                os.chown(item, self.manager_uid, self.manager_uid, follow_symlinks=False)


@contextlib.contextmanager
def open_arena(*, holdable: bool = False) -> Generator[Arena]:
    """An arena; with `holdable` its daemon starts no container while the file `hold` is in the arena's folder."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        # What an agent's uid is to reach below it, it must be able to.
        folder.chmod(0o755)
        hive = HiveProcess(folder / "data")
        if holdable:
            hive.program, hive.flags = (str(HELD_DAEMON), str(folder / "hold")), KEEP_ROOT
        hive.start()
        with make_arena(hive, folder) as arena:
            yield arena


@contextlib.contextmanager
def make_arena(hive: HiveProcess, folder: Path) -> Generator[Arena]:
    """An arena of a hive that runs, in whose manager's place the test is. The hive ends with it."""
    arena = Arena(hive, folder, Proposer(hive, folder / "copies"))
    try:
        hive.wait_state("manager", "idle")
        hive.post("/api/agents/manager/stop")
        hive.wait_state("manager", "stopped")
        arena.manager.generation = read_generation(hive)
        arena.manager.connect()
        yield arena
    finally:
        arena.manager.close()
        (folder / "hold").unlink(missing_ok=True)
        end_hive(hive)
