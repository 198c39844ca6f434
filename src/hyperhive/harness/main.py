"""The harness: `python -m hyperhive.harness.main`, the first program of an agent's container. Assembly only."""

import hyperhive.harness.without_ssl  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]  # before asyncio

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from hyperhive.core.errors import ConflictError, HiveError
from hyperhive.core.turns import TurnState
from hyperhive.harness.config import Configs
from hyperhive.harness.engine_client import Services
from hyperhive.harness.events import EventStore
from hyperhive.harness.feed import Feed
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Greeting, Link, SupersededError
from hyperhive.harness.local_port import LocalPort
from hyperhive.harness.login import LoginDesk
from hyperhive.harness.loop import TurnLoop
from hyperhive.harness.notes import INSTRUCTIONS, NotesKeeper
from hyperhive.harness.own_login import find_claude_folder, observe_login
from hyperhive.harness.park import parse_park
from hyperhive.harness.permissions import Permissions
from hyperhive.harness.runner import TurnRunner
from hyperhive.harness.settings import Settings, load_settings, observe_model, save_model
from hyperhive.harness.side_session import SideSession
from hyperhive.harness.status import StatusBoard
from hyperhive.harness.terminals import TERMINAL_METHODS, Terminals
from hyperhive.harness.tools import Toolbox
from hyperhive.harness.warm_engine import WarmEngine
from hyperhive.wire import agent_link
from hyperhive.wire.agent_link import HarnessConfig, LoginFields
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND, ProtocolError

log = logging.getLogger("hive.harness")

# With 3 s for the engine, ending takes less than the 5 s that a stop allows.
_FLUSH_S = 1.0


class Harness:
    """All parts of one harness, wired. `run` ends when another harness took over, or when it is cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._store = EventStore(settings.state)
        self._feed = Feed(self._store)
        self._settings = settings
        self._status = StatusBoard(
            self._feed,
            lambda: observe_model(settings.state, ""),
            _observe_login,
        )
        self._inbox = Inbox()
        self._configs = Configs(self._configured)
        self._config: HarnessConfig | None = None
        self._hello: asyncio.Future[Greeting] = asyncio.get_running_loop().create_future()
        socket = settings.sockets / "hive.sock"
        self._link = Link(socket, settings.generation, self._inbox.holding, self._greeted, self._answer)
        self._terminals = Terminals(self._link, settings.sockets, settings.state, settings.generation)
        self._egress = LocalPort(settings.egress_port, settings.sockets / "egress.sock")
        self._model = LocalPort(settings.model_port, settings.sockets / "model.sock")
        self._logins = LoginDesk(settings.claude, os.environ, self._make_room, _observe_login, self._status.refresh)
        self._permissions = Permissions(self._link, self._status.explain)
        self._engine = WarmEngine(
            settings.claude,
            settings.state,
            settings.warm_s,
            self._store,
            Services(Toolbox(self._link, self._inbox).call, self._permissions.ask),
            self._take_event,
            self._feed.notice,
            self._engine_ended,
        )
        side = SideSession(settings.claude, settings.state, INSTRUCTIONS, self._find_model)
        self._notes = NotesKeeper(settings.state, self._store, self._link, side.ask)
        self._runner = TurnRunner(
            settings,
            self._configs,
            self._feed,
            self._status,
            self._engine,
            lambda: self._permissions.waits,
            self._logins.wait_until_quiet,
        )
        self._loop = TurnLoop(
            self._configs,
            self._link,
            self._inbox,
            self._feed,
            self._status,
            self._engine,
            self._runner,
            self._store,
            self._notes,
        )

    async def run(self) -> None:
        """Raises SupersededError when another harness took over, and whatever a part fails with."""
        if self._feed.open():
            self._loop.count_crash()
        parts = (self._link.run(), self._feed.run(self._link), self._egress.run(), self._model.run())
        sending = [asyncio.create_task(part) for part in parts]
        working = [asyncio.create_task(part) for part in (self._status.run(self._link), self._work())]
        try:
            done, _ = await asyncio.wait([*sending, *working], return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            await _cancel(working)
            await asyncio.gather(self._terminals.close(), self._logins.close())
            await self._engine.close()
            await self._loop.farewell()
            await self._feed.flush(_FLUSH_S)
            await _cancel(sending)
            self._store.close()

    async def _work(self) -> None:
        await self._loop.run(await self._hello)

    def _take_event(self, event: dict[str, Any]) -> None:
        # The loop drives the engine, and so is made after it.
        self._loop.take_event(event)

    async def _make_room(self) -> None:
        """For a login: ends a claude that is open, which would go on with what it knows of the one before."""
        if self._status.state in {TurnState.THINKING, TurnState.COMPACTING}:
            raise ConflictError("a turn runs", "wait for its end, or cancel it: then log in")
        await self._engine.cool()

    def _engine_ended(self) -> None:
        self._runner.report()

    def _find_model(self) -> str:
        """What a session beside the conversation runs on: the same as that."""
        config = self._configs.current
        return observe_model(self._settings.state, config["model"] if config else "")

    def _greeted(self, hello: Greeting) -> None:
        self._terminals.greeted()
        self._feed.greeted(hello.events_stored_seq)
        self._status.refresh()
        try:
            self._configs.take(hello.config)
            self._loop.take_park(parse_park(hello.park))
        except HiveError as error:
            self._feed.notice(error.message)
        if not self._hello.done():
            self._hello.set_result(hello)

    def _configured(self, config: HarnessConfig) -> None:
        before, self._config = self._config, config
        if before is None:
            return
        self._feed.notice(f"a new config, {config['commit'][:12]}: it counts from the next turn on")
        if before["policy"] != config["policy"]:
            self._permissions.forget()
        self._loop.take_config(config)

    async def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method in TERMINAL_METHODS:
            await self._terminals.carry_out(method, params)
            return {}
        return await self._answer_of_turns(method, params)

    async def _answer_of_turns(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case agent_link.CANCEL_TURN:
                return {"cancelled": await self._loop.cancel()}
            case agent_link.COMPACT:
                return {"accepted": self._loop.wish_compact()}
            case agent_link.SET_PARK:
                self._loop.take_park(parse_park(params.get("park")))
                return {}
            case agent_link.SET_MODEL:
                save_model(self._settings.state, str(params.get("model") or ""))
                self._status.refresh()
                return {}
            case agent_link.SET_NOTES:
                return {**self._notes.take(params)}
            case agent_link.LOGIN_START:
                return {"url": await self._logins.start()}
            case agent_link.LOGIN_FINISH:
                return {**await self._logins.finish(str(params.get("code") or ""))}
            case agent_link.LOGIN_CANCEL:
                await self._logins.cancel()
                return {}
            case agent_link.SET_CONFIG:
                self._configs.take(params.get("config"))
                return {}
            case _:
                raise ProtocolError(METHOD_NOT_FOUND, f"there is no method {method[:80]!r}")


def _observe_login() -> LoginFields:
    return observe_login(find_claude_folder(os.environ), os.environ)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _run(settings: Settings) -> None:
    """Runs until the end, or until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    running = asyncio.create_task(Harness(settings).run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    # Once, however many signals come: being stopped while it stops would leave claude behind.
    (running if stopping.done() else stopping).cancel()
    try:
        await running
    except asyncio.CancelledError:
        log.info("stopped")
    except SupersededError as error:
        log.warning("another harness took over: %r", str(error))


def main() -> None:
    """Exit status 0 when it was stopped or superseded, 1 when it cannot run."""
    # The time as `hive logs --since` reads it.
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s harness: %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    try:
        asyncio.run(_run(load_settings(os.environ)))
    except HiveError as error:
        log.critical("%s (%s)", error.message, error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
