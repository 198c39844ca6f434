"""The services around configs on a real store and real repositories, without containers."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.events import Event
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import insert_agent, mark_destroyed, save_deployed
from hyperhive.host.approval_records import resolve
from hyperhive.host.approvals import Approvals
from hyperhive.host.budgets import Spending
from hyperhive.host.config_views import ConfigViews
from hyperhive.host.configs.configs import Configs
from hyperhive.host.drafts import Drafts
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.drivers.registry import make_driver
from hyperhive.host.feed import Feed
from hyperhive.host.kept import Kept
from hyperhive.host.parking import Parking
from hyperhive.host.questions import Questions
from hyperhive.host.review import Reviews
from hyperhive.host.roster import Roster
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now
from proposer import commit_files, git, make_bundle

UID = 1_900_000_000 if os.geteuid() == 0 else None


@dataclass
class ConfigRig:
    """`woken` are the agents that were to be started."""

    roots: Roots
    store: Store
    configs: Configs
    approvals: Approvals
    drafts: Drafts
    kept: Kept
    reviews: Reviews
    views: ConfigViews
    questions: Questions
    work: Path
    woken: list[str] = field(default_factory=list[str])
    events: list[Event] = field(default_factory=list[Event])

    async def spawn(self, name: str, files: Mapping[str, str] | None = None) -> str:
        """An agent with a deployed config and folders, as if it had been started. Returns the deployed commit."""
        await self.store.write(lambda tx: insert_agent(tx, name, UID))
        commit = await self.configs.ensure(name)
        await self.store.write(lambda tx: save_deployed(tx, name, commit))
        self.roots.state_folder(name).mkdir(parents=True)
        self.roots.claude_folder(name).mkdir(parents=True)
        if files:
            commit = (await self.deploy(await self.propose(name, files))).commit or ""
        return commit

    async def destroy(self, name: str) -> None:
        await self.store.write(lambda tx: mark_destroyed(tx, name))
        self.configs.forget(name)

    def clone(self, name: str, at: str = "main") -> Path:
        """A working copy of what is applied; `at` a commit or a tag of it."""
        folder = self.work / f"{name}-{uuid.uuid4().hex[:6]}"
        git(self.work, "clone", "-q", "--no-checkout", str(self.roots.applied_repo(name)), str(folder))
        git(folder, "fetch", "-q", "origin", "+refs/*:refs/all/*")
        git(folder, "checkout", "-q", "-B", "work", at if at != "main" else "origin/main")
        return folder

    async def propose(
        self, name: str, files: Mapping[str, str], *, on: str = "main", remove: tuple[str, ...] = ()
    ) -> Approval:
        """Proposes a change of an agent's config on top of the commit `on`."""
        folder = await asyncio.to_thread(self.clone, name, on)
        for path in remove:
            (folder / path).unlink()
        return await self.propose_folder(name, folder, files)

    async def propose_folder(self, name: str, folder: Path, files: Mapping[str, str] | None = None) -> Approval:
        """Proposes what is in a working copy, and `files`."""
        commit = commit_files(folder, files or {})
        return await self.approvals.request_apply(
            name, commit, make_bundle(folder, commit), "a change", MANAGER, uuid.uuid4().hex
        )

    async def propose_spawn(self, name: str, files: Mapping[str, str], notes: Mapping[str, str]) -> Approval:
        """Proposes a drafted agent, with staged notes."""
        folder = await asyncio.to_thread(self.clone, name)
        commit = commit_files(folder, files)
        staged = ""
        if notes:
            git(folder, "checkout", "-q", "--orphan", "notes")
            git(folder, "rm", "-q", "-rf", ".")
            staged = commit_files(folder, notes)
        return await self.approvals.request_spawn_commit(
            name, commit, staged, make_bundle(folder, commit, staged), "a new one", MANAGER, uuid.uuid4().hex
        )

    async def deploy(self, approval: Approval) -> Approval:
        """Ends an approval as deployed, without a container."""
        steps = [ApprovalStatus.APPROVED, ApprovalStatus.BUILDING, ApprovalStatus.DEPLOYED]
        for status in steps[0 if approval.status is ApprovalStatus.PENDING else 1 :]:
            approval = await self.end(approval, status)
        assert approval.commit is not None
        commit = approval.commit
        await self.store.write(lambda tx: save_deployed(tx, approval.agent, commit))
        self.configs.forget(approval.agent)
        await self.configs.repository(approval.agent).advance_main(commit)
        return approval

    async def end(self, approval: Approval, status: ApprovalStatus, reason: str | None = None) -> Approval:
        """Moves an approval on and tags its commit."""
        approval = await self.store.write(lambda tx: resolve(tx, approval.id, status, reason))
        repository = self.configs.repository(approval.agent)
        if approval.commit is not None:
            await repository.pin(approval.id, approval.commit, approval.notes, {status: reason or status}, now())
        if status is ApprovalStatus.APPROVED and approval.kind is ApprovalKind.SPAWN:
            await self.store.write(lambda tx: insert_agent(tx, approval.agent, UID))
        await self.store.write(lambda tx: tx.list("set_tagged", id=approval.id, status=status))
        return approval

    async def status(self, approval: Approval) -> tuple[ApprovalStatus, str | None]:
        found = await self.approvals.get_approval(approval.id)
        return found.status, found.reason

    async def list_facts(self) -> list[dict[str, Any]]:
        """What the manager was told, the oldest first."""
        rows = await self.store.read(lambda view: view.list("list_messages", agent=MANAGER, before=2**62, limit=500))
        return [json.loads(row["body"]) for row in reversed(rows) if row["sender"] == "system"]


@asynccontextmanager
async def open_config_rig(
    folder: Path, wrap: Callable[[Driver], Driver] = lambda driver: driver
) -> AsyncGenerator[ConfigRig]:
    """A hive's services on `folder`, with a manager. Opened again on the same folder it is the daemon's next start."""
    roots = Roots(folder / "data", folder / "run")
    roots.data.mkdir(exist_ok=True)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    feed = Feed()
    store = Store(roots.database, "hive", feed.publish_events)
    driver = wrap(make_driver("bubblewrap", roots))
    parking = Parking(store)
    feed.listen(parking.on_event)
    roster = Roster(store, feed, driver.name, parking, lambda _: Spending(0, 0.0, False, None, None))
    configs = Configs(store, roots, driver)
    await configs.prepare()
    woken: list[str] = []
    rig = ConfigRig(
        roots=roots,
        store=store,
        configs=configs,
        approvals=Approvals(store, configs, roots, UID, lambda: None),
        drafts=Drafts(store, roots, configs),
        kept=Kept(store, roots, configs, roster, woken.append),
        reviews=Reviews(store, configs),
        views=ConfigViews(store, configs),
        questions=Questions(store),
        work=work,
        woken=woken,
    )
    feed.listen(rig.events.append)
    try:
        if await store.read(lambda view: view.find("get_agent", name=MANAGER)) is None:
            await rig.spawn(MANAGER)
        yield rig
    finally:
        store.close()
