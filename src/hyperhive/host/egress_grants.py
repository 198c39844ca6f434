"""What the operator lets an agent reach for a while, beside its config: until a moment, or until it is revoked.

A grant is a row with its end, so that it survives the daemon; it ends with its agent. What goes on by it ends with it.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from hyperhive.core.egress import BadConnectError, Target, is_address, is_public_address, parse_target
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.host.agent_records import get_agent
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import from_millis, now, to_millis
from hyperhive.wire.operator.records import EgressGrant

GRANTS_EACH_LIMIT = 50
# After so long it is looked anew when the next one ends: the clock may have been set.
LOOK_EVERY_S = 30.0
# A grant that begins later than this from now was made before the clock was set back while no daemon ran.
_SLACK_MS = 60_000


class EgressGrants:
    """`find_mode` is the network.mode of an agent; `cut` ends what goes on between an agent and a target by a grant."""

    def __init__(
        self, store: Store, find_mode: Callable[[str], Awaitable[str]], cut: Callable[[str, Target], None]
    ) -> None:
        self._store = store
        self._find_mode = find_mode
        self._cut = cut
        self._changed = asyncio.Event()

    async def find_targets(self, agent: str) -> tuple[Target, ...]:
        """What `agent` may reach by a grant now."""
        return tuple(Target(row["host"], row["port"]) for row in await self._list(agent))

    async def list_grants(self, agent: str) -> list[EgressGrant]:
        """Those that hold now; of all agents if `agent` is empty. Raises InvalidInputError."""
        return [_show(row) for row in await self._list(parse_known_agent_name(agent) if agent else "")]

    async def grant(self, agent: str, host: str, port: int, minutes: int) -> EgressGrant:
        """Lets `agent` reach the host for `minutes` from now on; again sets the end anew.

        Raises InvalidInputError for what is no host or can never be reached, NotFoundError for an unknown agent,
        ConflictError for one that uses no proxy, TooLargeError if it has too many.
        """
        parse_known_agent_name(agent)
        target = parse_reachable(host, port)
        await self._store.read(lambda view: get_agent(view, agent))
        if await self._find_mode(agent) == "host":
            raise ConflictError(f"{agent} shares the host's network", "it reaches all that this machine does")

        def insert(tx: Transaction) -> EgressGrant:
            get_agent(tx, agent)
            if tx.get("count_egress_grants", agent=agent)["grants"] >= GRANTS_EACH_LIMIT:
                raise TooLargeError(f"{agent} has {GRANTS_EACH_LIMIT} grants already", "allow hosts for good instead")
            until = to_millis(tx.at + timedelta(minutes=minutes))
            row = tx.get(
                "insert_egress_grant", agent=agent, host=target.host, port=target.port, at=tx.at_ms, until=until
            )
            made = _show(row)
            tx.emit(EventName.EGRESS_GRANTED, agent, {"grant": made.model_dump(mode="json")})
            return made

        made = await self._store.write(insert)
        self._changed.set()
        return made

    async def revoke(self, grant_id: int) -> None:
        """Ends a grant, and what goes on by it. Raises NotFoundError."""

        def delete(tx: Transaction) -> sqlite3.Row:
            row = tx.find("delete_egress_grant", id=grant_id)
            if row is None:
                raise NotFoundError(f"there is no grant {grant_id}", "it may have ended: see `hive egress grants`")
            _tell_end(tx, row, "revoked")
            return row

        self._cut_all([await self._store.write(delete)])

    async def run_forever(self) -> None:
        """Ends each grant at its time, for as long as the daemon runs."""
        while True:
            await self.end_due()
            self._changed.clear()
            row = await self._store.read(lambda view: view.get("next_egress_end"))
            left_s = LOOK_EVERY_S if row["until"] is None else (row["until"] - to_millis(now())) / 1000
            try:
                async with asyncio.timeout(max(0.05, min(left_s, LOOK_EVERY_S))):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def end_due(self) -> None:
        """Ends those whose time is over."""

        def delete(tx: Transaction) -> list[sqlite3.Row]:
            rows = tx.list("delete_ended_egress_grants", at=tx.at_ms, slack_ms=_SLACK_MS)
            for row in rows:
                _tell_end(tx, row, "over")
            return rows

        at = to_millis(now())
        row = await self._store.read(lambda view: view.get("count_ended_egress_grants", at=at, slack_ms=_SLACK_MS))
        if row["ended"]:
            self._cut_all(await self._store.write(delete))

    async def _list(self, agent: str) -> list[sqlite3.Row]:
        at = to_millis(now())
        return await self._store.read(
            lambda view: view.list("list_egress_grants", agent=agent, at=at, slack_ms=_SLACK_MS)
        )

    def _cut_all(self, rows: Sequence[sqlite3.Row]) -> None:
        for row in rows:
            self._cut(row["agent"], Target(row["host"], row["port"]))


def parse_reachable(host: str, port: int) -> Target:
    """A target that may ever be reached. Raises InvalidInputError."""
    hint = "a host is a name such as example.org, or a public address"
    try:
        target = parse_target(f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}")
    except BadConnectError as error:
        raise InvalidInputError(error.reason, hint) from error
    if is_address(target.host) and not is_public_address(target.host):
        raise InvalidInputError(f"{target.host} is no public address: it is never reached", hint)
    return target


def _tell_end(tx: Transaction, row: sqlite3.Row, why: str) -> None:
    tx.emit(EventName.EGRESS_REVOKED, row["agent"], {"grant": _show(row).model_dump(mode="json"), "why": why})


def _show(row: sqlite3.Row) -> EgressGrant:
    return EgressGrant(
        id=row["id"],
        agent=row["agent"],
        host=row["host"],
        port=row["port"],
        granted_at=from_millis(row["granted_at"]),
        until=from_millis(row["until"]),
    )
