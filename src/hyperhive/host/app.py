"""The daemon's assembly: builds the objects, joins them, runs them until it is told to stop."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from hyperhive import __version__
from hyperhive.core.audit import AuditName
from hyperhive.core.egress import parse_egress_map
from hyperhive.core.errors import ConflictError, HiveError, StorageError, UnavailableError
from hyperhive.core.limits import parse_default_limits
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.api.app import create_app
from hyperhive.host.api.guard import Guard, name_local_callers
from hyperhive.host.api.hive_routes import login_url
from hyperhive.host.api.services import Services
from hyperhive.host.config_views import ConfigViews
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.desktop.assembly import open_desktop
from hyperhive.host.disk_quotas import parse_disk_settings
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.drivers.registry import NIXOS, WITH_IMAGES, make_driver
from hyperhive.host.notify_settings import load_notifying
from hyperhive.host.parts import Work, build_parts
from hyperhive.host.protection import plan_rates
from hyperhive.host.push.pushes import PushSettings
from hyperhive.host.push.vapid import parse_contact
from hyperhive.host.readiness import Readiness
from hyperhive.host.rehearsal import run_stand_in
from hyperhive.host.review import Reviews
from hyperhive.host.separation.client import Helper, HelperBuilder, HelperDriver, HelperImages
from hyperhive.host.separation.peers import Peers
from hyperhive.host.separation.start import HelperSockets
from hyperhive.host.sessions import Sessions
from hyperhive.host.settings import (
    DEFAULT_UPSTREAM,
    Credential,
    Settings,
    parse_credential,
)
from hyperhive.host.store.store import Transaction
from hyperhive.host.system_changes import SystemChanges
from hyperhive.host.tokens import Tokens
from hyperhive.system.cgroup_trees import observe_memory_bytes
from hyperhive.system.clock import now
from hyperhive.system.http_server import own_uid_or_root, serve_http
from hyperhive.system.sd_notify import Systemd, take_systemd
from hyperhive.system.sockets import bind_unix, peer_uid
from hyperhive.wire.operator.hive import Hive

log = structlog.get_logger(__name__)

# An old daemon that is about to end may still hold the port: 12 tries, about 22 s in all.
BIND_TRIES = 12
BIND_WAIT_LIMIT_S = 2.0
# Browsers hold their event stream open for good: what runs longer is cut off.
CLOSE_TIMEOUT_S = 2.0
BACKGROUND_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Given:
    """What was got before the event loop: in part as root, if that is who started us.

    `credential` is the operator's, None without one. `helper` are the connections to who is root still; without them
    we are as we were started. All paths are absolute.
    """

    roots: Roots
    credential: Credential | None
    ca_file: Path | None
    notify: Path | None
    helper: HelperSockets | None = None


async def run(settings: Settings, given: Given) -> None:
    """Runs the hive until SIGTERM, SIGINT or an operator's shutdown. Raises HiveError if it cannot start."""
    async with contextlib.AsyncExitStack() as stack:
        systemd = take_systemd(os.environ, os.getpid())
        stack.callback(systemd.close)
        await stack.enter_async_context(_beating(systemd))
        await _run_locked(settings, given, stack, systemd)


async def _run_locked(settings: Settings, given: Given, stack: contextlib.AsyncExitStack, systemd: Systemd) -> None:
    stop = _stop_on_signals()
    roots, ca_file = given.roots, given.ca_file
    systemd.status(f"prepares the driver {settings.driver}")
    upstream, credential = await _choose_model(settings, given, stack)
    lost = asyncio.Event()
    driver = _make_driver(settings, given, stack, lost.set)
    await driver.prepare()

    kind = "none" if credential is None else credential.kind
    total_bytes = observe_memory_bytes()
    limits = parse_default_limits(settings.limit_memory, settings.limit_cpu, settings.limit_tasks, total_bytes)
    harness = HarnessSettings(kind, settings.warm_s, settings.claude, ca_file, settings.hibernate_s, limits)
    broken = asyncio.Event()
    places = parse_egress_map(settings.egress_map)
    push = PushSettings(parse_contact(settings.push_contact), settings.push_private)
    notifying = load_notifying(settings, given.notify or roots.notify_urls)
    rates = plan_rates(settings.messages_per_minute, settings.messages_per_minute_pair)
    parts = build_parts(
        roots,
        driver,
        harness,
        upstream,
        credential,
        stack,
        broken.set,
        places,
        push,
        notifying,
        rates,
        retention_days=settings.message_retention_days,
        terminal_idle_s=settings.terminal_idle_s,
        webhook_private=settings.webhook_private,
        agent_ports=settings.agent_ports,
        disk=parse_disk_settings(settings.state_limit, settings.disk_reserve),
    )
    systemd.status("opens what is stored")
    await parts.prepare()

    listener = await _bind_dashboard(settings.port)
    port = listener.getsockname()[1]
    parts.ports.place(port)
    parts.notifier.serve_links(str(settings.public_url or f"http://127.0.0.1:{port}"))
    shutdown = asyncio.Event()
    tokens = Tokens(parts.store, refused=lambda: parts.audit.count_refused(AuditName.TOKEN_REFUSED))
    await tokens.load()
    reviews = Reviews(parts.store, parts.configs)
    services = Services(
        hive=Hive(
            version=__version__,
            rehearsal=settings.is_rehearsed,
            upstream=_without_userinfo(upstream),
            credential="none" if settings.is_rehearsed else kind,
            driver=driver.name,
            started_at=now(),
            park=None,
            port_problems=[],
            unlimited=dict(driver.unlimited),
        ),
        origin=f"http://127.0.0.1:{port}",
        parking=parts.parking,
        budgets=parts.budgets,
        turn_acts=parts.turn_acts,
        logins=parts.logins,
        store=parts.store,
        feed=parts.feed,
        broker=parts.broker,
        protection=parts.protection,
        quotas=parts.quotas,
        message_views=parts.message_views,
        questions=parts.questions,
        approvals=parts.approvals,
        reviews=reviews,
        system_changes=SystemChanges(reviews, parts.configs, driver),
        audit=parts.audit,
        agents=parts.agents,
        ports=parts.ports,
        journals=parts.journals,
        lifecycle=parts.lifecycle,
        config_views=ConfigViews(parts.store, parts.configs, account=credential is None),
        drafts=parts.drafts,
        kept=parts.kept,
        takes=parts.takes,
        restores=parts.restores,
        images=parts.images,
        notes=parts.notes,
        needs=parts.needs,
        notifier=parts.notifier,
        pushes=parts.pushes,
        transcripts=parts.transcripts,
        state_files=parts.state_files,
        stats=parts.stats,
        terminals=parts.terminals,
        updates=parts.updates,
        egress=parts.egress.log,
        egress_grants=parts.egress_grants,
        egress_proposals=parts.egress_proposals,
        schedule=parts.schedule,
        sessions=Sessions(parts.store),
        tokens=tokens,
        readiness=Readiness(parts.store, driver, roots.data),
        metrics=parts.metrics,
        webhooks=parts.webhooks,
        shutdown=shutdown,
    )
    app = create_app(services)
    guard = Guard(app, port, services.sessions.is_open, tokens.identify)
    dashboard = await serve_http(guard, listener, web_sockets=True)
    stack.push_async_callback(dashboard.close, CLOSE_TIMEOUT_S)
    stack.callback(roots.hive_socket.unlink, missing_ok=True)
    find_uid = peer_uid if given.helper is None else Peers(given.helper.peers).find_uid
    local = await serve_http(
        name_local_callers(app), bind_unix(roots.hive_socket), own_uid_or_root, find_uid=find_uid, web_sockets=True
    )
    stack.push_async_callback(local.close, CLOSE_TIMEOUT_S)
    public_url = None if settings.public_url is None else str(settings.public_url)
    desktop = await open_desktop(parts, roots.host_socket, public_url, services.origin, find_uid)
    stack.push_async_callback(desktop.close)

    await parts.store.write(lambda tx: _ensure_manager(tx, parts.agents.first_uid))
    await parts.reconcile()
    await stack.enter_async_context(_background(*parts.list_works()))

    if not systemd.is_there:
        # What a service prints everybody reads who may read the journal: there `hive url` gives the link.
        print(f"dashboard: {await login_url(services)}", flush=True)
    systemd.ready(f"serves {services.origin} with the driver {driver.name}")
    log.info("hive.ready", version=__version__, port=port, driver=driver.name, data=str(roots.data))
    if credential is None:
        log.warning("hive.no_credential", hint="each agent needs a login: hive login NAME")
    await _first_of(stop, shutdown, broken, lost)
    systemd.stopping("the disk failed" if broken.is_set() else "ends")
    if lost.is_set() and not (stop.is_set() or shutdown.is_set()):
        raise UnavailableError("the helper ended, without which no container can be started", "see the log")
    if broken.is_set():
        raise StorageError("the disk failed: the hive ends rather than confirm what may be lost", "see the log")
    log.info("hive.stopping", agents="stopped" if shutdown.is_set() else "left running")


async def _choose_model(
    settings: Settings, given: Given, stack: contextlib.AsyncExitStack
) -> tuple[str, Credential | None]:
    if settings.is_rehearsed:
        return await stack.enter_async_context(run_stand_in()), parse_credential("rehearsal")
    return str(settings.upstream or DEFAULT_UPSTREAM), given.credential


def _make_driver(
    settings: Settings, given: Given, stack: contextlib.AsyncExitStack, lost: Callable[[], None]
) -> Driver:
    """The driver, or what asks the helper for its doings; `lost` is called once there is no helper any more."""
    if given.helper is None:
        return make_driver(settings.driver, given.roots, settings.image_suite, nix_inputs=settings.nix_inputs)
    helper = Helper(given.helper.verbs)
    helper.on_lost(lost)
    stack.push_async_callback(helper.close)
    kind = HelperBuilder if settings.driver == NIXOS else HelperDriver
    return kind(settings.driver, helper, HelperImages(helper) if settings.driver in WITH_IMAGES else None)


def _ensure_manager(tx: Transaction, first_uid: int | None) -> None:
    if tx.find("get_agent", name=MANAGER) is None:
        insert_agent(tx, MANAGER, first_uid)


async def _bind_dashboard(port: int) -> socket.socket:
    """A listening socket on the loopback. Raises ConflictError if another program keeps the port."""
    for attempt in range(1, BIND_TRIES + 1):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            log.warning("hive.port_taken", port=port, attempt=attempt, of=BIND_TRIES, error=error.strerror)
            await asyncio.sleep(min(0.5 * attempt, BIND_WAIT_LIMIT_S))
        else:
            return listener
    raise ConflictError(f"port {port} is taken by another program", "end it, or choose another with --port")


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def _background(*works: Work) -> AsyncGenerator[None]:
    """Runs `works` for as long as the context lasts."""
    tasks = [asyncio.create_task(_keep_running(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _beating(systemd: Systemd) -> AsyncGenerator[None]:
    """Shows systemd, while the context lasts, that the event loop goes round."""
    task = asyncio.create_task(systemd.beat())
    try:
        yield
    finally:
        task.cancel()


async def _keep_running(work: Work) -> None:
    """A full disk or a failing driver passes: the work goes on. Anything else is a bug, and told as one."""
    while True:
        try:
            await work()
        except HiveError as error:
            log.warning("hive.background_failed", work=work.__qualname__, message=error.message)
        except Exception:
            log.exception("hive.background_failed", work=work.__qualname__)
        await asyncio.sleep(BACKGROUND_RETRY_S)


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _without_userinfo(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")
