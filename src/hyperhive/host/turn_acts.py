"""What the operator does about an agent's turns: pause and resume, choose the model, compact."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hyperhive.core.config_values import parse_model
from hyperhive.core.errors import ConflictError, InvalidInputError, StorageError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.parking import EVERYONE, REASON_LIMIT_CHARS, Park, ParkKind
from hyperhive.core.paths import Roots
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.host.agent_records import get_agent
from hyperhive.host.link.connection import LinkConnection
from hyperhive.host.link.server import LinkServer
from hyperhive.host.parking import Parking
from hyperhive.host.roster import Roster
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store
from hyperhive.host.troubles import Troubles
from hyperhive.system.files import read_beneath, replace_beneath
from hyperhive.wire.agent_link import COMPACT, SET_MODEL

# In the agent's state folder; the harness reads it before each turn.
MODEL_FILE = "hyperhive-model"
MODEL_LIMIT_BYTES = 256
CALL_TIMEOUT_S = 10.0


class TurnActs:
    """`agent` is a name, where that is said also EVERYONE. Each raises NotFoundError for an unknown one.

    `wake` has the harness of a hibernated agent there.
    """

    def __init__(
        self,
        store: Store,
        roots: Roots,
        parking: Parking,
        troubles: Troubles,
        roster: Roster,
        links: LinkServer,
        wake: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._roots = roots
        self._parking = parking
        self._troubles = troubles
        self._roster = roster
        self._links = links
        self._wake = wake

    async def load(self) -> None:
        """At the daemon's start: which models were chosen, as far as that can be seen. Harnesses tell it again."""
        rows = await self._store.read(lambda view: view.list("list_agents"))
        names = [row["name"] for row in rows]
        for name, model in zip(names, await asyncio.to_thread(self._read_models, names), strict=True):
            self._roster.live(name).chosen_model = model

    async def pause(self, agent: str, reason: str) -> Park:
        """Keeps an agent, or the hive (EVERYONE), from running turns until it is resumed. A running turn goes on."""
        if agent != EVERYONE:
            await self._get(agent)
        told = cut_text(render_safe_line(reason.strip()), REASON_LIMIT_CHARS) or "by the operator"
        await self._parking.park(agent, ParkKind.PAUSED, told)
        park = self._parking.find_own(agent, ParkKind.PAUSED)
        if park is None:
            raise ConflictError(f"{agent} was destroyed or resumed meanwhile", "see `hive ps`")
        return park

    async def resume(self, agent: str) -> None:
        """Ends all that parks an agent, or the hive (EVERYONE), but a spent budget. Nothing to end is no error.

        Raises ConflictError if it is parked all the same: by its budget, or with the hive. All else has ended then.
        """
        if agent != EVERYONE:
            await self._get(agent)
        await self._parking.release(agent)
        self._troubles.forget(agent)
        left = self._parking.find(agent)
        if left is not None:
            raise ConflictError(*_tell_left(left))

    async def choose_model(self, agent: str, text: str) -> None:
        """The model from the next turn on, kept over restarts; empty for the config's.

        Raises InvalidInputError for what names no model, UnavailableError if its harness is there and does not answer,
        StorageError if the choice could not be kept.
        """
        try:
            model = parse_model(text)
        except ValueError as error:
            raise InvalidInputError(f"model: {error}", "as the service names it, such as claude-sonnet-4-5") from error
        record = await self._get(agent)
        connection = self._find_connection(agent)
        if connection is None:
            # Whichever harness comes reads it before a turn.
            await asyncio.to_thread(self._keep_model, record, model)
        else:
            await connection.call(SET_MODEL, {"model": model}, CALL_TIMEOUT_S)
        self._roster.live(agent).chosen_model = model
        await self._store.write(lambda tx: tx.emit(EventName.AGENT_MODEL_CHOSEN, agent, {"model": model}))

    async def compact(self, agent: str) -> bool:
        """Has an agent compact its conversation once no turn runs. False: there is none to compact.

        Raises ConflictError if it is parked, UnavailableError if its harness is away, DriverError if the container of
        one that hibernates cannot be looked at.
        """
        await self._get(agent)
        park = self._parking.find(agent)
        if park is not None:
            # As its harness would answer, which need not be woken for that.
            raise ConflictError(f"{agent} is parked: {park.reason}", "resume it first")
        await self._wake(agent)
        answer: Any = await self._links.get_connection(agent).call(COMPACT, {}, CALL_TIMEOUT_S)
        return isinstance(answer, dict) and answer.get("accepted") is True  # pyright: ignore[reportUnknownMemberType]

    def _find_connection(self, agent: str) -> LinkConnection | None:
        try:
            return self._links.get_connection(agent)
        except UnavailableError:
            return None

    def _read_models(self, names: Sequence[str]) -> list[str]:
        """What is kept for each; the agents can write there, so that what is no model is none."""
        return [self._read_model(name) for name in names]

    def _read_model(self, name: str) -> str:
        try:
            text = read_beneath(self._roots.state_folder(name), MODEL_FILE, MODEL_LIMIT_BYTES)
            return parse_model(text.decode("utf-8").strip())
        except (OSError, ValueError):
            return ""

    def _keep_model(self, record: AgentRecord, model: str) -> None:
        content = f"{model}\n".encode() if model else b""
        try:
            replace_beneath(self._roots.state_folder(record.name), MODEL_FILE, content, mode=0o644, uid=record.uid)
        except FileNotFoundError as error:
            raise UnavailableError(f"{record.name} has not run yet", "start it, then choose its model") from error
        except OSError as error:
            raise StorageError(
                f"the model could not be kept: {error.strerror}",
                "is the disk full, or a folder of that name in the way?",
            ) from error

    async def _get(self, name: str) -> AgentRecord:
        parse_known_agent_name(name)
        return await self._store.read(lambda view: get_agent(view, name))


def _tell_left(left: Park) -> tuple[str, str]:
    who = "the hive" if left.agent == EVERYONE else left.agent
    if left.kind is ParkKind.BUDGET:
        name = "" if left.agent == EVERYONE else f" {left.agent}"
        return f"the budget of {who} is spent: {left.reason}", f"grant more: `hive grant{name}`; or wait"
    hint = "resume the hive, too: `hive resume`" if left.agent == EVERYONE else "that is new: look at it, and try again"
    return f"{who} is parked all the same ({left.kind}): {left.reason}", hint
