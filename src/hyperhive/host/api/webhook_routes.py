"""/api/webhooks: addresses of the operator's that are told of events."""

from urllib.parse import urlsplit

from fastapi import APIRouter

from hyperhive.host import webhooks as host
from hyperhive.host.api.message_routes import Id
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.programs import NewWebhook, WaitingEvent, Webhook, WebhookDrop, WebhookRequest, WebhookTest


def webhook_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["webhooks"])
    webhooks = services.webhooks

    @routes.get("/api/webhooks")
    async def list_webhooks() -> list[Webhook]:
        return [_show_webhook(hook) for hook in await webhooks.list_hooks()]

    @routes.post("/api/webhooks", status_code=201)
    async def add_webhook(request: WebhookRequest) -> NewWebhook:
        """Adds one, told of what happens from now on. The secret of its signatures is in this answer alone."""
        hook, secret = await webhooks.add_hook(request.url, request.events, bodies=request.bodies)
        return NewWebhook(webhook=_show_webhook(hook), secret=secret)

    @routes.delete("/api/webhooks/{webhook_id}", status_code=204)
    async def remove_webhook(webhook_id: Id) -> None:
        await webhooks.remove_hook(webhook_id)

    @routes.post("/api/webhooks/{webhook_id}/test")
    async def try_webhook(webhook_id: Id) -> WebhookTest:
        """Sends something that is no event, once. Answers once it was taken, or was not."""
        return WebhookTest(fault=await webhooks.test_hook(webhook_id))

    @routes.post("/api/webhooks/{webhook_id}/retry")
    async def retry_webhook(webhook_id: Id) -> WebhookTest:
        """Sends the event that waits, now. Answers once it was taken, or was not."""
        return WebhookTest(fault=await webhooks.retry_hook(webhook_id))

    @routes.post("/api/webhooks/{webhook_id}/drop", status_code=204)
    async def drop_event(webhook_id: Id, request: WebhookDrop) -> None:
        """Gives up the event that waits, so that those behind it are sent."""
        await webhooks.drop_event(webhook_id, request.event)

    return routes


def _show_webhook(hook: host.Webhook) -> Webhook:
    parts = urlsplit(hook.url)
    return Webhook(
        id=hook.id,
        place=f"{parts.scheme}://{parts.netloc}",
        events=list(hook.events),
        bodies=hook.bodies,
        added_at=hook.added_at,
        ok_at=hook.ok_at,
        error=hook.error,
        dead=hook.dead,
        dead_at=hook.dead_at,
        dead_reason=hook.dead_reason,
        waiting=None if hook.waiting is None else _show_waiting(hook.waiting),
    )


def _show_waiting(waiting: host.Waiting) -> WaitingEvent:
    return WaitingEvent(id=waiting.id, name=waiting.name, agent=waiting.agent, at=waiting.at, count=waiting.count)
