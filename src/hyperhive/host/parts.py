"""The parts of the daemon below its API, built and joined: the same for the program and for tests of it."""

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hyperhive.core.paths import Roots
from hyperhive.host.agents import Agents
from hyperhive.host.applies import Applies
from hyperhive.host.approvals import Approvals
from hyperhive.host.broker import Broker
from hyperhive.host.configs.configs import Configs
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drafts import Drafts
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.feed import Feed
from hyperhive.host.gateway import Gateway
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.link.methods import LinkMethods
from hyperhive.host.link.server import LinkServer
from hyperhive.host.permissions import Permissions
from hyperhive.host.questions import Questions
from hyperhive.host.roster import Roster
from hyperhive.host.settings import Credential
from hyperhive.host.store.store import Store
from hyperhive.host.transcripts import Transcripts

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """None of them works yet: `prepare`, then `reconcile`, then what is to run for ever."""

    store: Store
    feed: Feed
    roster: Roster
    configs: Configs
    lifecycle: Lifecycle
    agents: Agents
    applies: Applies
    approvals: Approvals
    drafts: Drafts
    kept: Kept
    broker: Broker
    questions: Questions
    permissions: Permissions
    transcripts: Transcripts
    links: LinkServer

    async def prepare(self) -> None:
        """Mends what a crash left half-made. To be called once, before anything else."""
        await self.configs.prepare()
        for name, summary in (await self.transcripts.summaries()).items():
            self.roster.live(name).turns, self.roster.live(name).last_outcome = summary.turns, summary.last_outcome

    async def reconcile(self) -> None:
        """Brings the world to what the store says: folders of drafts, builds, containers."""
        await self.drafts.ensure_folders()
        await self.applies.clean_up()
        await self.lifecycle.reconcile()

    def list_works(self) -> list[Work]:
        """What is to run for as long as the daemon does."""
        return [
            self.roster.tell_forever,
            self.lifecycle.watch_forever,
            self.questions.expire_forever,
            self.applies.run_forever,
            self.approvals.fail_orphans_forever,
        ]


def build_parts(
    roots: Roots,
    driver: Driver,
    harness: HarnessSettings,
    upstream: str,
    credential: Credential | None,
    stack: contextlib.AsyncExitStack,
    broken: Callable[[], None] = lambda: None,
) -> Parts:
    """Opens the databases and builds all parts; `stack` closes them.

    `broken` is called once the disk failed in a way after which nothing can be confirmed. Raises StorageError.
    """
    feed = Feed()
    store = Store(roots.database, "hive", feed.publish_events, broken)
    stack.callback(store.close)
    telemetry = Store(roots.telemetry, "telemetry")
    stack.callback(telemetry.close)
    gateway = Gateway(upstream, credential, telemetry)
    stack.push_async_callback(gateway.close)

    roster = Roster(store, feed, driver.name)
    configs = Configs(store, roots, driver)
    lifecycle = Lifecycle(store, driver, roots, roster, harness, configs)
    agents = Agents(store, driver, roster, lifecycle, configs)
    applies = Applies(store, roots, configs, lifecycle)
    approvals = Approvals(store, configs, roots, agents.first_uid, applies.wake)
    drafts = Drafts(store, roots, configs)
    kept = Kept(store, roots, configs, roster, lifecycle.converge_soon)
    broker = Broker(store, configs.get_policy)
    questions = Questions(store)
    permissions = Permissions(store)
    transcripts = Transcripts(telemetry, feed)
    for listener in (broker.on_event, roster.on_event, applies.on_event, permissions.on_event):
        feed.listen(listener)

    methods = LinkMethods(broker, questions, approvals, agents, transcripts, drafts, permissions)
    links = LinkServer(roots, methods.serve, gateway.application)
    stack.push_async_callback(links.close_all)
    agents.attach(links)
    lifecycle.attach(links)
    stack.push_async_callback(lifecycle.finish)
    return Parts(
        store=store,
        feed=feed,
        roster=roster,
        configs=configs,
        lifecycle=lifecycle,
        agents=agents,
        applies=applies,
        approvals=approvals,
        drafts=drafts,
        kept=kept,
        broker=broker,
        questions=questions,
        permissions=permissions,
        transcripts=transcripts,
        links=links,
    )
