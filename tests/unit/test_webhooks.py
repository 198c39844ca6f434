"""Webhooks on a real store and a real web server: signed, in order, again after a failure, given up at last."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Generator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hook_receiver import Receiver, run_receiver
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, TooManyError
from hyperhive.core.events import EventName
from hyperhive.host.endpoints import AddressBook
from hyperhive.host.feed import Feed
from hyperhive.host.store.store import Store
from hyperhive.host.webhook_post import Delivery, HookPoster, parse_hook_url, render_signature
from hyperhive.host.webhooks import HOOKS_LIMIT, RETRY_LIMIT_S, Webhook, Webhooks, plan_pause
from hyperhive.system.clock import now


class Desk:
    """A store with a service that can be ended and begun again, as a daemon does."""

    def __init__(self, path: Path) -> None:
        self.feed = Feed()
        self.store = Store(path, "hive", self.feed.publish_events)
        self.feed.listen(lambda event: self.hooks.on_event(event))
        self.pauses: list[float] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.later = timedelta(0)
        self.hooks = self.make()

    def make(self) -> Webhooks:
        poster = HookPoster(AddressBook(private=True), private=True)
        return Webhooks(self.store, poster, private=True, pause=self._pause, clock=self._now)

    def _now(self) -> datetime:
        return now() + self.later

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        await self.may_go_on.wait()

    async def restart(self) -> None:
        await self.hooks.close()
        self.hooks = self.make()
        await self.hooks.load()

    async def tell(self, *notes: str, name: EventName = EventName.AGENT_CRASHED) -> None:
        for note in notes:
            await self.store.write(lambda tx, note=note: tx.emit(name, "alice", {"note": note}))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "hive.sqlite")
    yield desk
    await desk.hooks.close()
    desk.store.close()


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def until_noted(desk: Desk, receiver: Receiver) -> None:
    """A receiver has an event before the daemon knows that it was taken; one that ends between sends it again."""
    async with asyncio.timeout(30):
        while receiver.taken[-1]["id"] > (await desk.store.read(lambda view: view.get("list_webhooks")))["cursor"]:
            await asyncio.sleep(0.01)


async def test_an_event_is_sent_signed_and_without_its_body(desk: Desk, receiver: Receiver) -> None:
    await desk.tell("before")
    _, secret = await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=False)
    await desk.tell("a secret of alice's")
    await until(lambda: receiver.taken)
    headers, body = receiver.requests[0]
    signed = f"{headers['x-hive-timestamp']}.".encode() + body
    assert headers["x-hive-signature"] == f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
    [event] = receiver.taken
    assert set(event) == {"id", "at", "name", "agent"}
    assert (event["name"], event["agent"]) == ("agent.crashed", "alice")
    assert headers["x-hive-id"] == str(event["id"])
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert len(receiver.requests) == 1


async def test_events_come_in_order_and_only_those_that_were_asked_for(desk: Desk, receiver: Receiver) -> None:
    await desk.hooks.add_hook(receiver.url, ["agent.crashed"], bodies=True)
    for number in range(150):
        await desk.tell(str(number))
        await desk.tell("of another kind", name=EventName.AGENT_FAILED)
    await until(lambda: len(receiver.taken) >= 150)
    assert receiver.list_notes() == [str(number) for number in range(150)]


async def test_what_was_not_taken_is_tried_again_before_the_next(desk: Desk, receiver: Receiver) -> None:
    receiver.statuses = [500, 302, 404]
    hook, _ = await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=True)
    await desk.tell("one", "two")
    await until(lambda: len(receiver.taken) == 2)
    assert receiver.list_notes() == ["one", "two"]
    assert [headers["x-hive-id"] for headers, _ in receiver.requests][:4] == [receiver.requests[0][0]["x-hive-id"]] * 4
    assert len(desk.pauses) == 3
    assert desk.pauses == sorted(desk.pauses)
    [shown] = await desk.hooks.list_hooks()
    assert (shown.id, shown.error, shown.dead) == (hook.id, "", 0)
    assert shown.ok_at is not None


async def test_what_waits_is_sent_by_the_next_daemon(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 503
    desk.may_go_on.clear()
    await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=True)
    await desk.tell("one")
    await until(lambda: desk.pauses)
    assert "503" in (await desk.hooks.list_hooks())[0].error
    await desk.hooks.close()
    await desk.tell("two")
    receiver.status = 200
    await desk.restart()
    await until(lambda: len(receiver.taken) == 2)
    assert receiver.list_notes() == ["one", "two"]
    await until_noted(desk, receiver)
    await desk.restart()
    await desk.tell("three")
    await until(lambda: len(receiver.taken) == 3)
    assert receiver.list_notes() == ["one", "two", "three"]


async def test_what_is_a_day_old_is_given_up_and_the_rest_goes_on(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 500
    desk.may_go_on.clear()
    await desk.hooks.add_hook(receiver.url, ["agent.crashed"], bodies=True)
    await desk.tell("one", "two", "three")
    await until(lambda: desk.pauses)
    desk.later = timedelta(hours=25)
    desk.may_go_on.set()

    async def count_dead() -> int:
        return (await desk.hooks.list_hooks())[0].dead

    async with asyncio.timeout(30):
        while await count_dead() < 3:
            await asyncio.sleep(0.01)
    receiver.status = 200
    desk.later = timedelta(0)
    await desk.tell("four")
    await until(lambda: receiver.taken)
    assert receiver.list_notes() == ["four"]


async def get_only(desk: Desk) -> Webhook:
    [hook] = await desk.hooks.list_hooks()
    return hook


async def block(desk: Desk, receiver: Receiver) -> Webhook:
    """A hook that two events wait for, the second one behind the first, and whose pause does not end."""
    receiver.status = 500
    desk.may_go_on.clear()
    await desk.hooks.add_hook(receiver.url, ["agent.crashed"], bodies=True)
    await desk.tell("of another kind", name=EventName.AGENT_FAILED)
    await desk.tell("one", "two")
    await until(lambda: desk.pauses)
    return await get_only(desk)


async def test_the_event_that_is_in_the_way_is_shown_with_how_many_wait(desk: Desk, receiver: Receiver) -> None:
    hook = await block(desk, receiver)
    assert hook.waiting is not None
    assert (hook.waiting.name, hook.waiting.agent, hook.waiting.count) == ("agent.crashed", "alice", 2)
    assert receiver.requests[0][0]["x-hive-id"] == str(hook.waiting.id)


async def test_a_retry_does_not_wait_for_the_pause(desk: Desk, receiver: Receiver) -> None:
    hook = await block(desk, receiver)
    assert await desk.hooks.retry_hook(hook.id) == "127.0.0.1 answered 500"
    assert len(desk.pauses) == 1
    receiver.status = 200
    assert await desk.hooks.retry_hook(hook.id) == ""
    await until(lambda: len(receiver.taken) == 2)
    assert receiver.list_notes() == ["one", "two"]
    await until_noted(desk, receiver)
    shown = await get_only(desk)
    assert (shown.error, shown.dead, shown.waiting) == ("", 0, None)
    with pytest.raises(ConflictError):
        await desk.hooks.retry_hook(hook.id)


async def test_an_event_that_is_dropped_is_counted_and_the_next_one_is_sent(desk: Desk, receiver: Receiver) -> None:
    hook = await block(desk, receiver)
    assert hook.waiting is not None
    receiver.status = 200
    await desk.hooks.drop_event(hook.id, hook.waiting.id)
    await until(lambda: receiver.taken)
    assert receiver.list_notes() == ["two"]
    await until_noted(desk, receiver)
    shown = await get_only(desk)
    assert (shown.dead, shown.dead_reason) == (1, "dropped by the operator: 127.0.0.1 answered 500")
    assert shown.dead_at is not None
    await desk.restart()
    await desk.tell("three")
    await until(lambda: len(receiver.taken) == 2)
    assert receiver.list_notes() == ["two", "three"]


async def test_another_event_than_the_one_that_was_seen_is_never_dropped(desk: Desk, receiver: Receiver) -> None:
    hook = await block(desk, receiver)
    assert hook.waiting is not None
    for event in (hook.waiting.id + 1, hook.waiting.id - 1):
        with pytest.raises(ConflictError):
            await desk.hooks.drop_event(hook.id, event)
    await desk.hooks.drop_event(hook.id, hook.waiting.id)
    with pytest.raises(ConflictError):
        await desk.hooks.drop_event(hook.id, hook.waiting.id)
    assert (await get_only(desk)).dead == 1
    with pytest.raises(NotFoundError):
        await desk.hooks.drop_event(99, 1)
    with pytest.raises(NotFoundError):
        await desk.hooks.retry_hook(99)


async def test_an_event_is_sent_once_however_often_it_is_tried_at_the_same_time(desk: Desk, receiver: Receiver) -> None:
    hook = await block(desk, receiver)
    receiver.status = 200
    desk.may_go_on.set()
    await asyncio.gather(*(desk.hooks.retry_hook(hook.id) for _ in range(5)), return_exceptions=True)
    await until(lambda: len(receiver.taken) >= 2)
    assert receiver.list_notes() == ["one", "two"]


async def test_a_hook_that_was_removed_is_told_nothing_more(desk: Desk, receiver: Receiver) -> None:
    hook, _ = await desk.hooks.add_hook(receiver.url, [], bodies=True)
    other, _ = await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=True)
    await desk.hooks.remove_hook(hook.id)
    sent = len(receiver.requests)
    await desk.tell("one")
    await until(lambda: receiver.taken and receiver.taken[-1]["name"] == "agent.crashed")
    assert len([event for event in receiver.taken[sent:] if event["name"] == "agent.crashed"]) == 1
    with pytest.raises(NotFoundError):
        await desk.hooks.remove_hook(hook.id)
    await desk.hooks.remove_hook(other.id)
    assert await desk.hooks.list_hooks() == []


async def test_a_test_tells_what_became_of_it(desk: Desk, receiver: Receiver) -> None:
    hook, _ = await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=False)
    assert await desk.hooks.test_hook(hook.id) == ""
    assert receiver.taken[0]["id"] == 0
    receiver.status = 401
    assert await desk.hooks.test_hook(hook.id) == "127.0.0.1 answered 401"
    with pytest.raises(NotFoundError):
        await desk.hooks.test_hook(99)


async def test_a_redirect_is_not_followed(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 307
    hook, _ = await desk.hooks.add_hook(receiver.url, ["agent.*"], bodies=False)
    assert await desk.hooks.test_hook(hook.id) == "127.0.0.1 answered 307"
    assert len(receiver.requests) == 1


async def test_a_name_that_stands_for_a_private_address_by_now_is_not_connected_to(receiver: Receiver) -> None:
    """Judged at each request, by the address that is then connected to."""
    poster = HookPoster(AddressBook(look_up=lambda _: ["127.0.0.1", "10.0.0.1"]), private=False)
    fault = await poster.post("https://hooks.example/in", "x", Delivery(1, "agent.crashed", {}), 0)
    await poster.close()
    assert fault == "hooks.example is at no public address"
    assert receiver.requests == []


async def test_bad_names_of_events_and_too_many_hooks_are_refused(desk: Desk) -> None:
    for events in (["agent.exploded"], ["*"], ["message.sent"], ["agent"], [""]):
        with pytest.raises(InvalidInputError):
            await desk.hooks.add_hook("https://hooks.example/", events, bodies=False)
    for _ in range(HOOKS_LIMIT):
        await desk.hooks.add_hook("https://hooks.example/", ["budget.warned"], bodies=False)
    with pytest.raises(TooManyError):
        await desk.hooks.add_hook("https://hooks.example/", ["budget.warned"], bodies=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://hooks.example:8443/",
        "https://user:pass@hooks.example/",
        "https://hooks.example/#x",
        "file:///etc/passwd",
        "https://hooks.example/\r\nx: y",
        "",
    ],
)
def test_an_address_that_is_not_public_https_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_hook_url(url, private=False)


def test_a_signature_is_what_the_documents_say() -> None:
    expected = hmac.new(b"secret", b'1700000000.{"id":1}', hashlib.sha256).hexdigest()
    assert render_signature("secret", 1700000000, b'{"id":1}') == f"v1={expected}"


def test_pauses_grow_and_end_at_a_quarter_of_an_hour() -> None:
    assert plan_pause(1) <= 5.0
    assert 0.75 * RETRY_LIMIT_S <= plan_pause(1000) <= RETRY_LIMIT_S
