"""/api/notifier: what tells the operator outside of the pages what needs them."""

from fastapi import APIRouter

from hyperhive.core.notifying import Hold, Plan, Reason
from hyperhive.host import notifier as host
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.needs import HeldNeed, NotifierState, NotifyChannel, NotifyTest, NotifyTestRequest


def notifier_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["notifier"])
    notifier = services.notifier

    @routes.get("/api/notifier")
    async def show_notifier() -> NotifierState:
        """The rules, each channel's last success and trouble, and what is held back."""
        return _show_state(await notifier.describe())

    @routes.post("/api/notifier/test")
    async def try_notifier(request: NotifyTestRequest) -> list[NotifyTest]:
        """Sends a test message now, whatever the rules say. Answers once each channel took it or did not."""
        faults = await notifier.test(request.channel)
        return [NotifyTest(channel=name, fault=fault) for name, fault in faults.items()]

    return routes


def _show_state(state: host.NotifierState) -> NotifierState:
    rules = state.notifying.rules
    return NotifierState(
        file=str(state.notifying.urls),
        problem=state.problem,
        dwell_s=rules.dwell_s,
        cooldown_s=rules.cooldown_s,
        remind_s=rules.remind_s,
        quiet="" if rules.quiet is None else str(rules.quiet),
        quiet_deadlines=rules.quiet_deadlines,
        quiet_until=state.quiet_until,
        time_zone=state.notifying.zone_name,
        channels=[_show_channel(channel) for channel in state.channels],
    )


def _show_channel(channel: host.ChannelState) -> NotifyChannel:
    return NotifyChannel(
        name=channel.name,
        sending=channel.sending,
        last_sent_at=channel.record.last_sent_at,
        ok_at=channel.health.ok_at,
        fault=channel.health.fault,
        fault_at=channel.health.fault_at,
        failures=channel.record.failures,
        retry_at=channel.record.retry_at,
        held=[] if channel.plan is None else _show_held(channel.plan),
    )


def _show_held(plan: Plan) -> list[HeldNeed]:
    """A reminder that is not due yet is not held back: it was told."""
    return [
        HeldNeed(key=held.item.need.key, title=held.item.need.title, by=held.by, until=held.until)
        for held in plan.held
        if held.item.reason is Reason.NEW or held.by is not Hold.DWELL
    ]
