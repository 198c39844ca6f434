"""/api/reminders and /api/schedules: what agents will be sent, and when."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hyperhive.core.names import OPERATOR, parse_known_agent_name
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_reminder
from hyperhive.wire.operator.records import Reminder, ScheduledMessage

Agent = Annotated[str | None, Query(max_length=200, description="Left out: all.")]
# SQLite's integers are 64 bits wide.
Id = Annotated[int, Path(ge=1, lt=2**63)]


def schedule_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["schedules"])
    schedule = services.schedule

    @routes.get("/api/reminders")
    async def list_reminders(agent: Agent = None) -> list[Reminder]:
        """Those that wait, the next one first, a thousand at most; those of destroyed agents wait, too."""
        return [show_reminder(reminder) for reminder in await schedule.list_reminders(_parse_agent(agent))]

    @routes.delete("/api/reminders/{reminder_id}", status_code=204)
    async def cancel_reminder(reminder_id: Id) -> None:
        """Drops a reminder. Again is no error; once it was sent, it is."""
        await schedule.cancel(reminder_id, OPERATOR)

    @routes.get("/api/schedules")
    async def list_schedules(agent: Agent = None) -> list[ScheduledMessage]:
        """The schedules of deployed configs, with the time each entry comes next."""
        return await schedule.list_scheduled(_parse_agent(agent))

    return routes


def _parse_agent(agent: str | None) -> str | None:
    return None if agent is None else parse_known_agent_name(agent)
