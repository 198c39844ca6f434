"""The parts of the daemon below its API, built and joined: the same for the program and for tests of it."""

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from hyperhive.core.egress import EgressPolicy
from hyperhive.core.paths import Roots
from hyperhive.core.questions import QuestionKind
from hyperhive.host.agents import Agents
from hyperhive.host.applies import Applies
from hyperhive.host.approvals import Approvals
from hyperhive.host.background import Background
from hyperhive.host.broker import Broker
from hyperhive.host.budgets import Budgets
from hyperhive.host.configs.configs import Configs
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drafts import Drafts
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.egress import Egress
from hyperhive.host.egress_dial import Dialer, Place
from hyperhive.host.egress_log import EgressLog
from hyperhive.host.feed import Feed
from hyperhive.host.gateway import Gateway
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.link.methods import LinkMethods
from hyperhive.host.link.server import LinkServer
from hyperhive.host.logins import Logins, call_over
from hyperhive.host.notes import Notes
from hyperhive.host.park_pushes import ParkPushes
from hyperhive.host.parking import Parking
from hyperhive.host.permissions import Permissions
from hyperhive.host.price_file import PriceFile
from hyperhive.host.questions import Questions
from hyperhive.host.refusals import Refusals
from hyperhive.host.roster import Roster
from hyperhive.host.schedule import Schedule
from hyperhive.host.settings import Credential
from hyperhive.host.stats.stats import Stats
from hyperhive.host.store.store import Store
from hyperhive.host.transcripts import Transcripts
from hyperhive.host.troubles import Troubles
from hyperhive.host.turn_acts import TurnActs
from hyperhive.host.watch import Watch

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """None of them works yet: `prepare`, then `reconcile`, then what is to run for ever."""

    store: Store
    feed: Feed
    parking: Parking
    budgets: Budgets
    troubles: Troubles
    turn_acts: TurnActs
    logins: Logins
    roster: Roster
    configs: Configs
    background: Background
    lifecycle: Lifecycle
    watch: Watch
    agents: Agents
    applies: Applies
    approvals: Approvals
    drafts: Drafts
    kept: Kept
    broker: Broker
    questions: Questions
    permissions: Permissions
    notes: Notes
    transcripts: Transcripts
    stats: Stats
    links: LinkServer
    egress: Egress
    schedule: Schedule

    async def prepare(self) -> None:
        """Mends what a crash left half-made. To be called once, before anything else."""
        await self.stats.load()
        await self.parking.load()
        await self.troubles.begin()
        await self.turn_acts.load()
        await self.configs.prepare()
        await self.budgets.load()
        for name, summary in (await self.transcripts.summaries()).items():
            self.roster.live(name).turns, self.roster.live(name).last_outcome = summary.turns, summary.last_outcome

    async def reconcile(self) -> None:
        """Brings the world to what the store says: folders of drafts, builds, containers."""
        await self.drafts.ensure_folders()
        await self.applies.clean_up()
        await self.watch.load()
        await self.lifecycle.reconcile()

    def list_works(self) -> list[Work]:
        """What is to run for as long as the daemon does."""
        return [
            self.roster.tell_forever,
            self.watch.watch_forever,
            self.questions.expire_forever,
            self.parking.expire_forever,
            self.budgets.recheck_forever,
            self.stats.run_forever,
            self.schedule.run_forever,
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
    egress_places: Mapping[str, Place] | None = None,
) -> Parts:
    """Opens the databases and builds all parts; `stack` closes them.

    `broken` is called once the disk failed in a way after which nothing can be confirmed. Raises StorageError.
    """
    feed = Feed()
    store = Store(roots.database, "hive", feed.publish_events, broken)
    stack.callback(store.close)
    telemetry = Store(roots.telemetry, "telemetry")
    stack.callback(telemetry.close)
    parking = Parking(store)
    configs = Configs(store, roots, driver)
    budgets = Budgets(store, telemetry, configs, parking, PriceFile(roots.prices))
    gateway = Gateway(upstream, credential, telemetry, budgets)
    stack.push_async_callback(gateway.close)
    roster = Roster(store, feed, driver.name, parking, budgets.describe)
    budgets.on_change(roster.changed)
    background = Background()
    lifecycle = Lifecycle(store, driver, roots, roster, harness, configs, parking, background)
    watch = Watch(store, roster, configs, harness, lifecycle, background)
    agents = Agents(store, driver, roster, lifecycle, configs)
    applies = Applies(store, roots, configs, lifecycle)
    approvals = Approvals(store, configs, roots, agents.first_uid, applies.wake)
    drafts = Drafts(store, roots, configs)
    broker = Broker(store, configs.get_policy, parking.find)
    questions = Questions(store)
    permissions = Permissions(store)
    notes = Notes(store, roots)
    questions.settle_with(QuestionKind.NOTES, notes.settle)
    transcripts = Transcripts(telemetry, feed)
    stats = Stats(store, telemetry, roster.online)
    schedule = Schedule(store, configs.get_deployed)
    stack.push_async_callback(stats.finish)
    refusals = Refusals()
    troubles = Troubles(
        store, parking, refusals, shared=harness.credential != "none", resumes=lambda name: _resumes(configs, name)
    )
    # First of all: the others ask it.
    feed.listen(parking.on_event)
    feed.listen(watch.on_event)
    feed.listen(budgets.on_event)
    feed.listen(schedule.on_event)
    for listener in (broker.on_event, roster.on_event, applies.on_event, permissions.on_event, stats.on_event):
        feed.listen(listener)

    methods = LinkMethods(
        broker,
        questions,
        approvals,
        agents,
        transcripts,
        drafts,
        permissions,
        stats,
        parking,
        troubles,
        notes,
        schedule,
    )
    egress = _build_egress(configs, credential, egress_places or {}, EgressLog(telemetry))
    purges = (transcripts.purge, egress.log.purge)
    kept = Kept(store, roots, configs, roster, lifecycle.converge_soon, purges)
    links = LinkServer(roots, methods.serve, refusals.watch(gateway.application), egress.open)
    stack.push_async_callback(links.close_all)
    agents.attach(links)
    notes.attach(links)
    lifecycle.attach(links)
    stack.push_async_callback(background.finish)
    parking.on_change(roster.on_park)
    parking.on_change(watch.on_park)
    parking.on_change(lifecycle.retries.on_park)
    parking.on_change(ParkPushes(parking, links, background.soon).on_change)
    turn_acts = TurnActs(store, roots, parking, troubles, roster, links, lifecycle.wake)
    return Parts(
        store=store,
        feed=feed,
        parking=parking,
        budgets=budgets,
        troubles=troubles,
        turn_acts=turn_acts,
        logins=Logins(store, call_over(links, lifecycle.wake), harness.credential),
        roster=roster,
        configs=configs,
        background=background,
        lifecycle=lifecycle,
        watch=watch,
        agents=agents,
        applies=applies,
        approvals=approvals,
        drafts=drafts,
        kept=kept,
        broker=broker,
        questions=questions,
        permissions=permissions,
        notes=notes,
        transcripts=transcripts,
        stats=stats,
        links=links,
        egress=egress,
        schedule=schedule,
    )


def _build_egress(
    configs: Configs, credential: Credential | None, places: Mapping[str, Place], record: EgressLog
) -> Egress:
    async def find_policy(agent: str) -> EgressPolicy:
        network = (await configs.get_deployed(agent)).config.network
        # With a credential of the hive's, claude talks to nobody but the gateway.
        return EgressPolicy(network.mode, tuple(network.allow), account=credential is None)

    return Egress(find_policy, Dialer(places).connect, record)


def _resumes(configs: Configs, agent: str) -> bool:
    """Whether the deployed config of an agent lets it go on by itself; of one that has not run, that is not known."""
    version = configs.find_cached(agent)
    return version is None or version.config.resume_after_limit
