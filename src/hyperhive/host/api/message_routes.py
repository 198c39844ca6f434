"""/api/messages, /api/inbox: what is said, and saying something."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import MessageState, SenderKind
from hyperhive.core.names import OPERATOR
from hyperhive.core.search import UNSEARCHED_HEADER, parse_search
from hyperhive.host.api.services import Services
from hyperhive.host.message_views import NEWEST, MessageFilter
from hyperhive.host.present import show_message
from hyperhive.host.sends import Sending
from hyperhive.wire.operator.messages import Message, SendRequest, Sent

Before = Annotated[int, Query(ge=0, le=NEWEST, description="Only messages with a smaller id.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Id = Annotated[int, Path(ge=0, le=NEWEST)]
Agent = Annotated[str | None, Query(max_length=200, description="From or to this one.")]
Recipient = Annotated[str | None, Query(max_length=200, description="To this one.")]
After = Annotated[int | None, Query(ge=0, le=NEWEST, description="Only messages with a larger id, the oldest first.")]
Thread = Annotated[int | None, Query(ge=0, le=NEWEST, description="The message of that id and all of its thread.")]
SearchText = Annotated[str, Query(max_length=2000, description='Words that are all in it; "a phrase"; a beginning*.')]


def message_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["messages"])
    broker = services.broker
    views = services.message_views

    @routes.get("/api/messages")
    async def list_messages(
        response: Response,
        before: Before = NEWEST,
        after: After = None,
        limit: Limit = 50,
        agent: Agent = None,
        recipient: Recipient = None,
        state: MessageState | None = None,
        kind: SenderKind | None = None,
        thread: Thread = None,
        search: SearchText = "",
    ) -> list[Message]:
        """The newest first, of all agents or narrowed down; `kind` is the sender's.

        While a part of the messages cannot be searched yet, a header tells how many they are.
        """
        wanted = MessageFilter(
            agent=agent, recipient=recipient, state=state, kind=kind, thread=thread, search=parse_search(search)
        )
        if after is not None:
            if wanted.search is not None or thread is not None or before != NEWEST:
                raise InvalidInputError(
                    "after goes with agent, recipient, state and kind alone", "leave the others out"
                )
            return [show_message(message) for message in await views.list_messages_after(wanted, after, limit)]
        found = await views.find_messages(wanted, before, limit)
        if found.unsearched:
            response.headers[UNSEARCHED_HEADER] = str(found.unsearched)
        return [show_message(message) for message in found.messages]

    @routes.get("/api/messages/{message_id}")
    async def get_message(message_id: Id) -> Message:
        return show_message(await views.get_message(message_id))

    @routes.get("/api/messages/{message_id}/receipts")
    async def list_receipts(message_id: Id) -> list[Message]:
        """What became of a message: of a broadcast, by the id of any of them, of all of them."""
        return [show_message(message) for message in await views.list_receipts(message_id)]

    @routes.post("/api/messages", status_code=201)
    async def send_message(request: SendRequest) -> Sent:
        """Sends as the operator, to `*` to all agents. Answers once the message is durable."""
        ids = await broker.send_checked(
            Sending(
                OPERATOR,
                request.to,
                request.body,
                request.in_reply_to,
                request.idempotency_key,
                request.priority,
                request.ttl_s,
            )
        )
        return Sent(id=ids[0], ids=list(ids))

    @routes.get("/api/inbox")
    async def list_inbox(
        before: Before = NEWEST, limit: Limit = 50, thread: Thread = None, unread: bool = False
    ) -> list[Message]:
        """What was sent to the operator, the newest first."""
        messages = await views.list_inbox(before, limit, thread, unread=unread)
        return [show_message(message) for message in messages]

    @routes.post("/api/inbox/{message_id}/ack", status_code=204)
    async def mark_read(message_id: Id) -> None:
        await broker.mark_read(message_id)

    return routes
