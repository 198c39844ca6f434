"""What desktop clients ask for, done by the same services as the pages' requests.

Whoever may connect to host.sock may decide: that is what the group is for. Each act is in the log with the uid.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from hyperhive.core.approvals import Approval, ApprovalStatus
from hyperhive.core.audit import AuditName
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, StorageError, UnavailableError
from hyperhive.core.names import OPERATOR, parse_known_agent_name
from hyperhive.core.parking import EVERYONE, ParkKind
from hyperhive.host.agent_records import get_agent
from hyperhive.host.agents import Agents
from hyperhive.host.approvals import Approvals
from hyperhive.host.desktop.statuses import Statuses
from hyperhive.host.desktop.views import show_approval
from hyperhive.host.parking import Parking
from hyperhive.host.store.store import Store, View
from hyperhive.host.turn_acts import TurnActs
from hyperhive.wire.host_sock import (
    Command,
    Request,
    Scope,
    Urls,
    render_approvals,
    render_done,
    render_name,
    render_names,
    render_statuses,
    render_urls,
)

log = structlog.get_logger(__name__)

# The wire has no field for a reason; this one reaches whoever asked for the approval.
DENIED = "denied from the desktop"
PAUSED = "from the desktop"


class Desktop:
    def __init__(
        self,
        store: Store,
        agents: Agents,
        approvals: Approvals,
        turn_acts: TurnActs,
        parking: Parking,
        statuses: Statuses,
        urls: Urls,
    ) -> None:
        self.statuses = statuses
        self._store = store
        self._agents = agents
        self._approvals = approvals
        self._turn_acts = turn_acts
        self._parking = parking
        self._urls = urls

    async def answer(self, request: Request, uid: int) -> bytes:
        """The line that answers any request but `subscribe_agent_status`. Raises HiveError: nothing was changed.

        `uid` is who asks. An act is done once the wish for it is stored: the row tells how it goes on.
        """
        match request.command:
            case Command.LIST:
                return render_names([row.name for row in await self._agents.rows()])
            case Command.AGENT_STATUS:
                return render_statuses(await self.statuses.list_all())
            case Command.URLS:
                return render_urls(self._urls)
            case Command.PENDING:
                return render_approvals([show_approval(approval) for approval in await self._list_approvals()])
            case _:
                await self._record(request)
                await self._act(request)
                log.info("desktop.acted", cmd=request.command, uid=uid, about=_name_target(request))
                return render_done()

    async def _record(self, request: Request) -> None:
        """Before it is tried: the rows after this one tell what came of it."""
        body = {"method": str(request.command), "path": _name_target(request), "program": ""}
        try:
            await self._store.write(lambda tx: tx.audit(AuditName.OPERATOR_ACTED, request.name or None, body))
        except StorageError as error:
            log.warning("audit.act_not_recorded", cmd=request.command, message=error.message)

    async def _act(self, request: Request) -> None:
        match request.command:
            case Command.APPROVE:
                await self._approve(request.id)
            case Command.DENY:
                await self._approvals.deny(request.id, DENIED)
            case Command.SET_PAUSED:
                await self._set_paused(request.name, request.paused)
            case Command.START:
                names = await self._find_all(request.scope)
                await _each(*(self._agents.start(name, OPERATOR) for name in names))
            case Command.STOP:
                # Graceful or not: its harness is asked to end, and has a deadline for it.
                names = await self._find_all(request.scope)
                await _each(*(self._agents.stop(name, OPERATOR) for name in names))
            case Command.RESTART:
                [name] = await self._find_names([request.name])
                await self._agents.restart(name, OPERATOR)
            case _:
                raise InvalidInputError(f"{request.command} cannot be asked for here")

    async def _list_approvals(self) -> list[Approval]:
        """The newest of all, and what waits however old it is; the newest first."""
        newest = await self._approvals.list_approvals(None)
        pending = await self._approvals.list_approvals(ApprovalStatus.PENDING)
        # What was decided between the two looks is as it was in the later one.
        found = {approval.id: approval for approval in [*newest, *pending]}
        return sorted(found.values(), key=lambda approval: approval.id, reverse=True)

    async def _approve(self, approval_id: int) -> None:
        approval = await self._approvals.approve(approval_id)
        if approval.status is ApprovalStatus.FAILED:
            raise ConflictError(f"approval {approval_id} cannot be applied: {approval.reason}")

    async def _set_paused(self, name: str, paused: bool) -> None:
        """Pauses or ends that; what is as wished already stays as it is. Other parks are not touched."""
        await self._find_names([name])
        if paused:
            if self._parking.find_own(name, ParkKind.PAUSED) is None:
                await self._turn_acts.pause(name, PAUSED)
            return
        await self._parking.release(name, ParkKind.PAUSED)
        if self._parking.find_own(EVERYONE, ParkKind.PAUSED) is not None:
            raise ConflictError(f'agent "{name}" stays paused: the whole hive is')

    async def _find_all(self, scope: Scope) -> list[str]:
        """The agents a scope is about. Raises before anything is done if one part of it cannot be."""
        if scope.services:
            raise UnavailableError(f"this hive does not run {' or '.join(scope.services)}")
        named = await self._find_names(scope.agent_names)
        return [row.name for row in await self._agents.rows()] if scope.agents else named

    async def _find_names(self, names: Sequence[str]) -> list[str]:
        """`names`, all of them agents' that are not destroyed. Raises NotFoundError for the first one that is not."""

        def check(view: View) -> None:
            for name in names:
                _check_agent(view, name)

        await self._store.read(check)
        return list(names)


def _check_agent(view: View, name: str) -> None:
    try:
        get_agent(view, parse_known_agent_name(name))
    except (InvalidInputError, NotFoundError):
        raise NotFoundError(f'agent "{render_name(name)}" is not managed by this hive') from None


async def _each(*acts: Coroutine[Any, Any, None]) -> None:
    """All at once, so that they share a commit. Raises the first error, after all are done."""
    for outcome in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _name_target(request: Request) -> str:
    """What an act was about, for the log."""
    if request.command in {Command.APPROVE, Command.DENY}:
        return f"approval {request.id}"
    if request.name:
        return f"{request.name} {request.paused}" if request.command is Command.SET_PAUSED else request.name
    return "all agents" if request.scope.agents else ", ".join(request.scope.agent_names)
