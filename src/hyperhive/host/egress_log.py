"""What the agents asked of the egress proxy: a row for each request, bounded, and refusals not one by one."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable

import structlog

from hyperhive.core.egress import Target
from hyperhive.core.errors import StorageError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.text import cut_text
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import from_millis
from hyperhive.wire.operator.records import EgressRequest

log = structlog.get_logger(__name__)

# Some weeks of an agent that works with the web.
REQUESTS_LIMIT = 10_000
TRIM_EVERY = 500
# What was refused is told once in so many seconds for each host …
REFUSED_EVERY_S = 10.0
# … and for so many hosts; the others are told together, as the host below.
REFUSED_HOSTS_LIMIT = 32
OTHERS = "*"
PATH_LIMIT_CHARS = 300
# Events stay for good: of what is refused again and again there is one in so many seconds.
EVENT_EVERY_S = 600.0


class EgressLog:
    """`telemetry` gets a row for each request, `store` an event now and then for what is refused."""

    def __init__(self, telemetry: Store, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._telemetry = telemetry
        self._store = store
        self._clock = clock
        self._told: dict[str, dict[str, float]] = defaultdict(dict)
        self._events: dict[str, dict[str, float]] = defaultdict(dict)
        self._inserted: dict[str, int] = defaultdict(int)

    async def record(
        self,
        agent: str,
        target: Target | None,
        *,
        verdict: str,
        rule: str,
        bytes_up: int,
        bytes_down: int,
        elapsed_ms: int,
        method: str = "",
        path: str = "",
    ) -> None:
        """Stores one request; `verdict` is allowed, refused or failed. What cannot be stored is logged.

        `method` and `path` are those of a plain http request.
        """
        host, port = ("", 0) if target is None else (target.host, target.port)
        if verdict != "allowed":
            # What is let through after it was refused may fail, and that is news.
            shown = self._choose(self._told, agent, f"{verdict} {host}", REFUSED_EVERY_S)
            if shown is None:
                return
            if shown == OTHERS:
                host, port, method, path = shown, 0, "", ""
        if verdict == "refused":
            await self._tell_refused(agent, host, port, rule)
        self._inserted[agent] += 1
        trims = self._inserted[agent] % TRIM_EVERY == 1

        def insert(tx: Transaction) -> None:
            tx.list(
                "insert_egress_request",
                agent=agent,
                at=tx.at_ms,
                host=host,
                port=port,
                verdict=f"{verdict} {rule}",
                bytes_up=bytes_up,
                bytes_down=bytes_down,
                elapsed_ms=elapsed_ms,
                method=method,
                path=cut_text(path, PATH_LIMIT_CHARS),
            )
            if trims:
                tx.list("trim_egress_requests", agent=agent, keep=REQUESTS_LIMIT)

        try:
            await self._telemetry.write(insert)
        except StorageError as error:
            log.warning("egress.not_recorded", agent=agent, message=error.message)

    async def _tell_refused(self, agent: str, host: str, port: int, rule: str) -> None:
        shown = self._choose(self._events, agent, host, EVENT_EVERY_S)
        if shown is None:
            return
        body = {"host": shown, "port": port if shown == host else 0, "rule": rule}
        try:
            await self._store.write(lambda tx: tx.emit(EventName.EGRESS_REFUSED, agent, body))
        except StorageError as error:
            log.warning("egress.not_told", agent=agent, message=error.message)

    def _choose(self, table: dict[str, dict[str, float]], agent: str, told_of: str, every_s: float) -> str | None:
        """What a refusal is told as: `told_of`, or OTHERS; None if that was told just now."""
        now = self._clock()
        told = {name: at for name, at in table[agent].items() if now - at < every_s}
        table[agent] = told
        shown = told_of if told_of in told or len(told) < REFUSED_HOSTS_LIMIT else OTHERS
        if shown in told:
            return None
        told[shown] = now
        return shown

    async def list_requests(self, agent: str, limit: int) -> list[EgressRequest]:
        """The last requests, the newest first; of all agents if `agent` is empty. Raises InvalidInputError."""
        query = "list_egress_requests_of" if agent else "list_egress_requests"
        values = {"agent": parse_known_agent_name(agent)} if agent else {}
        rows = await self._telemetry.read(lambda view: view.list(query, limit=limit, **values))
        return [_show(row) for row in rows]

    async def purge(self, agent: str) -> None:
        self._events.pop(agent, None)
        await self._telemetry.write(lambda tx: tx.list("delete_egress_requests", agent=agent))

    def forget(self, agent: str) -> None:
        """To be called when the agent's socket is closed."""
        self._told.pop(agent, None)


def _show(row: sqlite3.Row) -> EgressRequest:
    verdict, _, rule = row["verdict"].partition(" ")
    return EgressRequest(
        agent=row["agent"],
        at=from_millis(row["at"]),
        host=row["host"],
        port=row["port"],
        verdict=verdict,
        rule=rule,
        bytes_up=row["bytes_up"],
        bytes_down=row["bytes_down"],
        elapsed_ms=row["elapsed_ms"],
        method=row["method"],
        path=row["path"],
    )
