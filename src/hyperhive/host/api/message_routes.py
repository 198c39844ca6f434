"""/api/messages, /api/inbox: what is said, and saying something."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hyperhive.core.names import OPERATOR
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_message
from hyperhive.wire.operator import Created, Message, SendRequest

# SQLite's integers are 64 bits wide.
NEWEST = 2**63 - 1

Before = Annotated[int, Query(ge=0, le=NEWEST, description="Only messages with a smaller id.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Id = Annotated[int, Path(ge=0, le=NEWEST)]


def message_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["messages"])
    broker = services.broker

    @routes.get("/api/messages")
    async def list_messages(
        before: Before = NEWEST, limit: Limit = 50, agent: Annotated[str | None, Query(max_length=200)] = None
    ) -> list[Message]:
        """The newest first, of all agents or of one."""
        return [show_message(message) for message in await broker.list_messages(agent, before, limit)]

    @routes.post("/api/messages", status_code=201)
    async def send_message(request: SendRequest) -> Created:
        """Sends as the operator. Answers once the message is durable."""
        message = await broker.send(
            OPERATOR,
            request.to,
            request.body,
            in_reply_to=request.in_reply_to,
            idempotency_key=request.idempotency_key,
        )
        return Created(id=message.id)

    @routes.get("/api/inbox")
    async def list_inbox(before: Before = NEWEST, limit: Limit = 50) -> list[Message]:
        """What was sent to the operator, the newest first."""
        return [show_message(message) for message in await broker.list_inbox(before, limit)]

    @routes.post("/api/inbox/{message_id}/ack", status_code=204)
    async def mark_read(message_id: Id) -> None:
        await broker.mark_read(message_id)

    return routes
