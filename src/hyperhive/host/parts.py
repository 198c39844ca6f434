"""The parts of the daemon below its API, built and joined: the same for the program and for tests of it."""

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from hyperhive.core.egress import EgressPolicy, Target
from hyperhive.core.paths import Roots
from hyperhive.core.policy import Policy
from hyperhive.core.questions import QuestionKind
from hyperhive.host.agent_images import AgentImages
from hyperhive.host.agent_ports import AgentPorts, CheckPort
from hyperhive.host.agent_questions import AgentQuestions
from hyperhive.host.agents import Agents
from hyperhive.host.applies import Applies
from hyperhive.host.approvals import Approvals
from hyperhive.host.audit import Audit
from hyperhive.host.background import Background
from hyperhive.host.broker import Broker
from hyperhive.host.budgets import Budgets
from hyperhive.host.clock_jumps import ClockJumps
from hyperhive.host.configs.configs import Configs
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.disk_quotas import DiskQuotas, DiskSettings
from hyperhive.host.drafts import Drafts
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.drivers.registry import check_name, find_images, find_revision
from hyperhive.host.egress import Egress
from hyperhive.host.egress_dial import Dialer, Place
from hyperhive.host.egress_grants import EgressGrants
from hyperhive.host.egress_log import EgressLog
from hyperhive.host.egress_proposals import EgressProposals
from hyperhive.host.endpoints import AddressBook
from hyperhive.host.feed import Feed
from hyperhive.host.gateway import Gateway
from hyperhive.host.journals import Journals
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.link.methods import LinkMethods
from hyperhive.host.link.server import LinkServer
from hyperhive.host.link_quotas import LinkQuotas
from hyperhive.host.log_watch import LogWatch
from hyperhive.host.logins import Logins, call_over
from hyperhive.host.message_index import MessageIndex
from hyperhive.host.message_views import MessageViews
from hyperhive.host.metrics import Metrics
from hyperhive.host.need_views import view_runaway
from hyperhive.host.needs import Needs
from hyperhive.host.notes import Notes
from hyperhive.host.notifier import Notifier, Notifying
from hyperhive.host.park_pushes import ParkPushes
from hyperhive.host.parking import Parking
from hyperhive.host.permissions import Permissions
from hyperhive.host.price_file import PriceFile
from hyperhive.host.protection import Protection, Rates, plan_rates
from hyperhive.host.push.pushes import Pushes, PushSettings, open_pushes
from hyperhive.host.questions import Questions
from hyperhive.host.quotas import Quotas
from hyperhive.host.recipients import Recipients
from hyperhive.host.refusals import Refusals
from hyperhive.host.retention import Retention
from hyperhive.host.roster import Roster
from hyperhive.host.schedule import Schedule
from hyperhive.host.settings import Credential
from hyperhive.host.snapshots.restores import Restores
from hyperhive.host.snapshots.takes import Takes
from hyperhive.host.snapshots.turn_ends import TurnEnds
from hyperhive.host.state_files import StateFiles
from hyperhive.host.stats.stats import Stats
from hyperhive.host.store.store import Store, View
from hyperhive.host.terminals import Terminals
from hyperhive.host.throttles import Throttles
from hyperhive.host.transcripts import Transcripts
from hyperhive.host.troubles import Troubles
from hyperhive.host.turn_acts import TurnActs
from hyperhive.host.updates import Updates
from hyperhive.host.watch import Watch
from hyperhive.host.webhook_post import HookPoster
from hyperhive.host.webhooks import Webhooks

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """None of them works yet: `prepare`, then `reconcile`, then what is to run for ever."""

    store: Store
    audit: Audit
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
    ports: AgentPorts
    journals: Journals
    applies: Applies
    approvals: Approvals
    drafts: Drafts
    kept: Kept
    takes: Takes
    restores: Restores
    images: AgentImages
    broker: Broker
    message_index: MessageIndex
    message_views: MessageViews
    retention: Retention
    protection: Protection
    disk_quotas: DiskQuotas
    log_watch: LogWatch
    quotas: Quotas
    questions: Questions
    permissions: Permissions
    notes: Notes
    needs: Needs
    notifier: Notifier
    pushes: Pushes
    transcripts: Transcripts
    state_files: StateFiles
    stats: Stats
    links: LinkServer
    egress: Egress
    egress_grants: EgressGrants
    egress_proposals: EgressProposals
    schedule: Schedule
    clock_jumps: ClockJumps
    terminals: Terminals
    updates: Updates
    metrics: Metrics
    webhooks: Webhooks

    async def prepare(self) -> None:
        """Mends what a crash left half-made. To be called once, before anything else."""
        await self.audit.prepare()
        await self.stats.load()
        await self.metrics.load()
        await self.webhooks.load()
        await self.broker.load()
        await self.protection.load()
        await self.parking.load()
        await self.troubles.begin()
        await self.turn_acts.load()
        await self.configs.prepare()
        await self.restores.prepare()
        await self.budgets.load()
        await self.needs.load()
        await self.pushes.load()
        await self.terminals.load()
        await self.disk_quotas.load()
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
            self.clock_jumps.watch_forever,
            self.audit.run_forever,
            self.roster.tell_forever,
            self.watch.watch_forever,
            self.broker.expire_forever,
            self.message_index.follow_forever,
            self.retention.run_forever,
            self.questions.expire_forever,
            self.parking.expire_forever,
            self.budgets.recheck_forever,
            self.stats.run_forever,
            self.schedule.run_forever,
            self.applies.run_forever,
            self.approvals.fail_orphans_forever,
            self.needs.watch_forever,
            self.notifier.run_forever,
            self.terminals.run_forever,
            self.updates.run_forever,
            self.disk_quotas.watch_forever,
            self.log_watch.watch_forever,
            self.egress_grants.run_forever,
            self.images.run_forever,
            *([self.ports.run_forever] if self.ports.enabled else []),
        ]


def build_parts(
    roots: Roots,
    driver: Driver,
    harness: HarnessSettings,
    upstream: str,
    credential: Credential | None,
    stack: contextlib.AsyncExitStack,
    broken: Callable[[], None] = lambda: None,
    egress_places: Mapping[Target, Place] | None = None,
    push: PushSettings | None = None,
    notifying: Notifying | None = None,
    rates: Rates | None = None,
    retention_days: int = 30,
    terminal_idle_s: float = 3600.0,
    webhook_private: bool = False,
    agent_ports: bool = False,
    disk: DiskSettings | None = None,
) -> Parts:
    """Opens the databases and builds all parts; `stack` closes them.

    `broken` is called once the disk failed in a way after which nothing can be confirmed. Raises StorageError.
    """
    feed = Feed()
    store = Store(roots.database, "hive", feed.publish_events, broken)
    stack.callback(store.close)
    background = Background()
    audit = Audit(store, roots.audit_heads, roots.audit_notes, background, driver.name)
    stack.push_async_callback(audit.finish)
    message_index = MessageIndex(roots.message_index, roots.database)
    stack.callback(message_index.close)
    feed.listen(message_index.on_event)
    telemetry = Store(roots.telemetry, "telemetry")
    stack.callback(telemetry.close)
    parking = Parking(store)
    configs = Configs(store, roots, driver, account=credential is None)
    budgets = Budgets(store, telemetry, configs, parking, PriceFile(roots.prices))
    throttles = Throttles(store, background)
    gateway = Gateway(upstream, credential, telemetry, budgets, note_refused=throttles.note)
    stack.push_async_callback(gateway.close)
    roster = Roster(store, feed, driver.name, parking, budgets.describe, find_revision(driver))
    budgets.on_change(roster.changed)
    needs = Needs(store, feed, roster)
    pushes = open_pushes(store, roots.vapid_key, push or PushSettings(), background.soon)
    stack.push_async_callback(pushes.close)
    needs.on_edge(pushes.on_edge)
    notifying = notifying or Notifying(roots.notify_urls)
    notifier = Notifier(store, needs.list_needs, notifying, roots.receipts_folder)
    stack.push_async_callback(notifier.finish)
    needs.on_edge(notifier.on_edge)
    lifecycle = Lifecycle(store, driver, roots, roster, harness, configs, parking, background)
    disk_quotas = DiskQuotas(store, roots, configs, lifecycle, roster.list_running, disk or DiskSettings())
    stack.push_async_callback(disk_quotas.close)
    needs.include(disk_quotas.list_needs)
    log_watch = LogWatch(driver, roots.run, lifecycle, throttles, roster.list_running)
    watch = Watch(store, roster, configs, harness, lifecycle, background)
    journals = Journals(store, driver, roots)
    ports = AgentPorts(store, feed, enabled=agent_ports)
    stack.push_async_callback(ports.close)
    check_new, check_rebuild = (
        _check_name_first(driver.name, check) for check in (ports.check_new, ports.check_rebuild)
    )
    agents = Agents(store, journals, roster, lifecycle, configs, check_new)
    agents.guard_starts(disk_quotas.check_start)
    terminals = Terminals(store, background, lifecycle.wake, terminal_idle_s)
    watch.spare(terminals.is_needed)
    stack.push_async_callback(terminals.save)
    applies = Applies(store, roots, configs, lifecycle, check_rebuild)
    approvals = Approvals(store, configs, roots, agents.first_uid, applies.wake, check_new, check_rebuild)
    updates = Updates(store, roster, lifecycle, approvals, background, check_rebuild)
    drafts = Drafts(store, roots, configs, check_new)
    protection = Protection(store, background, rates or plan_rates(0, 0))
    needs.include(lambda: [view_runaway(*runaway) for runaway in protection.list_runaways()])
    broker = Broker(
        store, configs.get_policy, lambda name: _find_policy(configs, name), protection.check, protection.note_full
    )
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
    webhooks = Webhooks(
        store, HookPoster(AddressBook(private=webhook_private), private=webhook_private), private=webhook_private
    )
    stack.push_async_callback(webhooks.close)
    metrics = Metrics(store, telemetry, roster, feed, driver.name, find_disk_bytes=disk_quotas.find_used_bytes)
    link_quotas = LinkQuotas(throttles, disk_quotas.check_room)
    quotas = Quotas(
        store, disk_quotas, link_quotas, gateway, terminals, transcripts, protection, log_watch, throttles, driver
    )
    # First of all: the others ask it.
    feed.listen(parking.on_event, traffic=False)
    for listener in (watch.on_event, protection.on_event, broker.on_event, roster.on_event, stats.on_event):
        feed.listen(listener)
    for listener in (
        budgets.on_event,
        schedule.on_event,
        applies.on_event,
        permissions.on_event,
        needs.on_event,
        terminals.on_event,
        updates.on_event,
        metrics.on_event,
        webhooks.on_event,
        ports.on_event,
        audit.on_event,
        disk_quotas.on_event,
        quotas.on_event,
    ):
        feed.listen(listener, traffic=False)

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
        AgentQuestions(store, questions, Recipients(store, configs.get_policy, protection.check)),
        terminals,
        link_quotas,
        audit,
    )
    egress, egress_grants = _build_egress(store, configs, credential, egress_places or {}, EgressLog(telemetry, store))
    purges = (transcripts.purge, egress.log.purge)
    kept = Kept(store, roots, configs, roster, lifecycle.converge_soon, purges, check_new)
    ends = TurnEnds(store, roster, lifecycle)
    takes = Takes(store, telemetry, roots, configs, ends)
    restores = Restores(store, roots, configs, lifecycle, applies, kept, takes, ends, agents.first_uid, check_new)
    links = LinkServer(roots, methods.serve, refusals.watch(gateway.application), egress.open, terminals.accept)
    stack.push_async_callback(links.close_all)
    agents.attach(links)
    notes.attach(links)
    terminals.call_over(links.get_connection)
    lifecycle.attach(links)
    stack.push_async_callback(background.finish)
    parking.on_change(roster.on_park)
    parking.on_change(watch.on_park)
    parking.on_change(lifecycle.retries.on_park)
    parking.on_change(ParkPushes(parking, links, background.soon).on_change)
    turn_acts = TurnActs(store, roots, parking, troubles, roster, links, lifecycle.wake)
    return Parts(
        store=store,
        audit=audit,
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
        ports=ports,
        journals=journals,
        applies=applies,
        approvals=approvals,
        drafts=drafts,
        kept=kept,
        takes=takes,
        restores=restores,
        images=AgentImages(store, configs, find_images(driver)),
        broker=broker,
        message_index=message_index,
        message_views=MessageViews(message_index),
        retention=Retention(store, message_index, retention_days),
        protection=protection,
        disk_quotas=disk_quotas,
        log_watch=log_watch,
        quotas=quotas,
        questions=questions,
        permissions=permissions,
        notes=notes,
        needs=needs,
        notifier=notifier,
        pushes=pushes,
        transcripts=transcripts,
        state_files=StateFiles(store, roots),
        stats=stats,
        links=links,
        egress=egress,
        egress_grants=egress_grants,
        egress_proposals=EgressProposals(store, configs),
        schedule=schedule,
        clock_jumps=ClockJumps(store),
        terminals=terminals,
        updates=updates,
        metrics=metrics,
        webhooks=webhooks,
    )


def _check_name_first(driver: str, check_port: CheckPort) -> CheckPort:
    """What asks the driver about a name before `check_port`: both are asked where an agent comes to be, or is built."""

    def check(view: View, name: str) -> None:
        check_name(driver, name)
        check_port(view, name)

    return check


def _build_egress(
    store: Store,
    configs: Configs,
    credential: Credential | None,
    places: Mapping[Target, Place],
    record: EgressLog,
) -> tuple[Egress, EgressGrants]:
    async def find_mode(agent: str) -> str:
        return (await configs.get_deployed(agent)).config.network.mode

    async def find_policy(agent: str) -> EgressPolicy:
        granted = await grants.find_targets(agent)
        network = (await configs.get_deployed(agent)).config.network
        # With a credential of the hive's, claude talks to nobody but the gateway.
        return EgressPolicy(network.mode, tuple(network.allow), account=credential is None, granted=granted)

    egress = Egress(find_policy, Dialer(places).connect, record)
    grants = EgressGrants(store, find_mode, egress.cut)
    return egress, grants


def _find_policy(configs: Configs, agent: str) -> Policy | None:
    version = configs.find_cached(agent)
    return None if version is None else version.policy


def _resumes(configs: Configs, agent: str) -> bool:
    """Whether the deployed config of an agent lets it go on by itself; of one that has not run, that is not known."""
    version = configs.find_cached(agent)
    return version is None or version.config.resume_after_limit
