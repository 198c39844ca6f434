"""/api/needs, and what is done about dead letters."""

from fastapi import APIRouter

from hyperhive.core.names import parse_known_agent_name
from hyperhive.host.api.message_routes import Id
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_message
from hyperhive.wire.operator.messages import Message
from hyperhive.wire.operator.needs import Need


def needs_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["decisions"])
    needs = services.needs

    @routes.get("/api/needs")
    async def list_needs() -> list[Need]:
        """All that waits for the operator, the most urgent first."""
        return [Need.model_validate(need, from_attributes=True) for need in await needs.list_needs()]

    @routes.post("/api/messages/{message_id}/requeue")
    async def requeue(message_id: Id) -> Message:
        """Queues a dead letter again, with all its attempts before it. 404 for a message that is not dead."""
        return show_message(await services.broker.requeue_dead(message_id))

    @routes.post("/api/messages/{message_id}/dismiss", status_code=204)
    async def dismiss(message_id: Id) -> None:
        """A dead letter needs nobody any more; it stays dead and in the flow. Again is no error."""
        await needs.dismiss(message_id)

    @routes.post("/api/runaways/{one}/{other}/release", status_code=204)
    async def release(one: str, other: str) -> None:
        """Lets two agents write to each other again. 404 if their messages are not held back."""
        await services.protection.release(parse_known_agent_name(one), parse_known_agent_name(other))

    return routes
