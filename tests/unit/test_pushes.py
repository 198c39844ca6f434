"""Web push on a real store, against the push stand-in: told once, withdrawn, tried again, given up, never too much."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.events import Event, EventName
from hyperhive.host.background import Background
from hyperhive.host.endpoints import AddressBook
from hyperhive.host.push.devices import DEVICES_LIMIT, Device
from hyperhive.host.push.encryption import BrowserKeys
from hyperhive.host.push.notices import BOX_LIMIT, Box, render_topic, tell, withdraw
from hyperhive.host.push.post import Fate, Poster, Push
from hyperhive.host.push.pushes import RETRY_LIMIT_S, Pushes, PushSettings, plan_pause
from hyperhive.host.push.vapid import Vapid, load_vapid
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now
from hyperhive.testing.oauth.certificates import make_certificates
from hyperhive.testing.push.browser import Subscription
from push_rig import PushService, need, run_push_service

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def service() -> Iterator[PushService]:
    yield from run_push_service()


@dataclass
class Rig:
    """`pauses` are the back-offs that were asked for; each ends once `go_on` is set."""

    store: Store
    service: PushService
    folder: Path
    background: Background
    events: list[Event]
    pauses: list[float] = field(default_factory=list[float])
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    seen: int = 0

    async def open(self) -> Pushes:
        vapid = load_vapid(self.folder / "vapid.pem", PushSettings().contact)
        poster = Poster(vapid, AddressBook(private=True), private=True)
        pushes = Pushes(self.store, poster, self.background.soon, private=True, pause=self._pause)
        await pushes.load()
        return pushes

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.go_on.wait()

    async def add(self, pushes: Pushes, name: str = "phone") -> tuple[Device, dict[str, str]]:
        made = await asyncio.to_thread(self.service.subscribe, pushes.public_key)
        return await pushes.add_device(made["endpoint"], made["p256dh"], made["auth"], name), made

    async def settle(self) -> list[str]:
        """What browsers read since the last time, once all is sent."""
        await wait_for(lambda: self.background.count() == 0)
        contents = await asyncio.to_thread(self.service.list_contents)
        fresh, self.seen = contents[self.seen :], len(contents)
        return [f"{content['kind']} {content['key']}" for content in fresh]


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig(tmp_path: Path, service: PushService) -> AsyncIterator[Rig]:
    events: list[Event] = []
    store = Store(tmp_path / "hive.sqlite", "hive", events.extend)
    background = Background()
    rig = Rig(store, service, tmp_path, background, events, seen=len(service.list_contents()))
    yield rig
    await background.finish()
    store.close()


async def test_a_need_is_told_to_every_device_and_never_with_an_agents_own_words(rig: Rig) -> None:
    pushes = await rig.open()
    await rig.add(pushes, "phone")
    await rig.add(pushes, "laptop")
    pushes.on_edge([need("1")], [])
    assert await rig.settle() == ["need approval-1", "need approval-1"]
    push = rig.service.list_pushes()[-1]
    assert push["content"] == {
        "kind": "need",
        "key": "approval-1",
        "need": "approval",
        "title": "a change of the config of alice waits for approval",
        "acts": ["approve", "deny"],
    }
    assert (push["urgency"], push["topic"], push["contact"]) == (
        "high",
        render_topic("approval-1"),
        "mailto:operator@example.com",
    )
    assert 86_000 < push["ttl"] <= 86_400
    devices = await pushes.list_devices()
    assert all(device.sent_at is not None and device.error == "" for device in devices)


async def test_nothing_is_sent_without_an_edge_and_nothing_for_a_device_that_is_new(rig: Rig) -> None:
    pushes = await rig.open()
    pushes.on_edge([need("1")], [])
    await rig.add(pushes)
    assert await rig.settle() == []


async def test_what_is_dealt_with_is_withdrawn_where_it_was_told_also_after_a_restart(rig: Rig) -> None:
    pushes = await rig.open()
    await rig.add(pushes)
    pushes.on_edge([need("1"), need("2")], [])
    assert sorted(await rig.settle()) == ["need approval-1", "need approval-2"]
    pushes.on_edge([], ["approval-1", "approval-7"])
    assert await rig.settle() == ["gone approval-1"]
    assert rig.service.list_pushes()[-1]["topic"] == render_topic("approval-1")
    again = await rig.open()
    again.on_edge([], ["approval-1", "approval-2"])
    assert await rig.settle() == ["gone approval-2"]


async def test_the_time_a_push_is_kept_ends_with_the_needs_deadline(rig: Rig) -> None:
    pushes = await rig.open()
    await rig.add(pushes)
    pushes.on_edge([need("1", datetime.now(UTC) + timedelta(minutes=10))], [])
    assert await rig.settle() == ["need approval-1"]
    assert 590 <= rig.service.list_pushes()[-1]["ttl"] <= 600
    pushes.on_edge([need("2", datetime.now(UTC) - timedelta(seconds=1))], [])
    assert await rig.settle() == []


async def test_a_muted_device_is_told_nothing_new_but_what_is_dealt_with_is_withdrawn_there(rig: Rig) -> None:
    pushes = await rig.open()
    device, made = await rig.add(pushes)
    pushes.on_edge([need("1")], [])
    assert await rig.settle() == ["need approval-1"]
    await pushes.mute_device(device.id, True)
    pushes.on_edge([need("2")], ["approval-1"])
    assert await rig.settle() == ["gone approval-1"]
    # The page says that it is still there: that does not unmute it.
    renewed = await pushes.add_device(made["endpoint"], made["p256dh"], made["auth"], "phone")
    assert (renewed.id, renewed.muted) == (device.id, True)
    with pytest.raises(ConflictError):
        pushes.try_device(device.id)
    await pushes.mute_device(device.id, False)
    pushes.on_edge([need("3")], ["approval-2"])
    assert await rig.settle() == ["need approval-3"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_is_over_is_dropped(rig: Rig, status: int) -> None:
    pushes = await rig.open()
    _, made = await rig.add(pushes)
    if status == 410:
        await asyncio.to_thread(rig.service.end, made["endpoint"])
    else:
        await asyncio.to_thread(rig.service.answer_next, 404)
    pushes.on_edge([need("1"), need("2")], [])
    assert await rig.settle() == []
    assert await pushes.list_devices() == []
    assert pushes.count_waiting() == 0
    removed = [event for event in rig.events if event.name is EventName.DEVICE_REMOVED]
    assert removed[0].body["reason"] == f"the push service answered {status}"


async def test_a_service_that_fails_is_asked_again_later_and_what_went_meanwhile_is_not_sent(rig: Rig) -> None:
    pushes = await rig.open()
    device, _ = await rig.add(pushes)
    await asyncio.to_thread(lambda: rig.service.answer_next(429, 503, **{"retry-after": "120"}))
    pushes.on_edge([need("1"), need("2")], [])
    await wait_for(lambda: len(rig.pauses) == 1)
    assert rig.pauses[0] == 120.0
    [shown] = await pushes.list_devices()
    assert shown.error == "the push service answered 429"
    pushes.on_edge([], ["approval-1"])
    rig.go_on.set()
    assert await rig.settle() == ["need approval-2"]
    assert len(rig.pauses) == 2
    [shown] = await pushes.list_devices()
    assert (shown.id, shown.error) == (device.id, "")


async def test_a_service_that_is_not_there_is_one_devices_trouble(rig: Rig) -> None:
    pushes = await rig.open()
    _, made = await rig.add(pushes, "laptop")
    await pushes.add_device("http://127.0.0.1:9/nobody", made["p256dh"], made["auth"], "lost")
    pushes.on_edge([need("1")], [])
    await wait_for(lambda: len(rig.pauses) == 1)
    await wait_for(lambda: rig.background.count() == 1)
    contents = await asyncio.to_thread(rig.service.list_contents)
    assert [content["key"] for content in contents[rig.seen :]] == ["approval-1"]
    lost = next(device for device in await pushes.list_devices() if device.name == "lost")
    assert lost.error == "127.0.0.1 could not be reached"
    await pushes.remove_device(lost.id)
    rig.go_on.set()
    await wait_for(lambda: rig.background.count() == 0)


async def test_a_refused_push_is_not_sent_again_and_the_reason_is_shown(rig: Rig) -> None:
    pushes = await rig.open()
    made = await asyncio.to_thread(rig.service.subscribe, Vapid(ec.generate_private_key(ec.SECP256R1()), "").public_key)
    await pushes.add_device(made["endpoint"], made["p256dh"], made["auth"], "of another hive")
    pushes.on_edge([need("1")], [])
    assert await rig.settle() == []
    [shown] = await pushes.list_devices()
    assert shown.error == "the push service answered 403"
    assert rig.pauses == []


async def test_a_redirect_is_not_followed(rig: Rig) -> None:
    pushes = await rig.open()
    _, made = await rig.add(pushes)
    before = len(rig.service.list_pushes())
    await asyncio.to_thread(lambda: rig.service.answer_next(307, location=made["endpoint"]))
    pushes.on_edge([need("1")], [])
    assert await rig.settle() == []
    assert len(rig.service.list_pushes()) == before + 1


async def test_a_service_that_answers_without_end_costs_nothing(rig: Rig) -> None:
    endless = await _start_endless_service()
    async with endless:
        port = endless.sockets[0].getsockname()[1]
        pushes = await rig.open()
        made = await asyncio.to_thread(rig.service.subscribe, pushes.public_key)
        await pushes.add_device(f"http://127.0.0.1:{port}/x", made["p256dh"], made["auth"], "endless")
        pushes.on_edge([need("1")], [])
        await wait_for(lambda: rig.background.count() == 0)
        [shown] = await pushes.list_devices()
        assert shown.sent_at is not None


async def _start_endless_service() -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 99999999999\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_devices_are_few_and_each_is_known_by_its_endpoint(rig: Rig) -> None:
    pushes = await rig.open()
    device, made = await rig.add(pushes)
    for number in range(DEVICES_LIMIT - 1):
        await pushes.add_device(f"{made['endpoint']}{number}", made["p256dh"], made["auth"], "more")
    with pytest.raises(ConflictError):
        await pushes.add_device(f"{made['endpoint']}-more", made["p256dh"], made["auth"], "more")
    again = await pushes.add_device(made["endpoint"], made["p256dh"], made["auth"], "renamed")
    assert (again.id, again.name) == (device.id, "renamed")
    with pytest.raises(InvalidInputError):
        await pushes.add_device("http://10.0.0.1/x", made["p256dh"], made["auth"], "inside")
    added = [event for event in rig.events if event.name is EventName.DEVICE_ADDED]
    assert len(added) == DEVICES_LIMIT
    assert "endpoint" not in str(added)


async def test_a_device_that_is_not_there_is_said_to_be_so(rig: Rig) -> None:
    pushes = await rig.open()
    with pytest.raises(NotFoundError):
        await pushes.mute_device(7, True)
    with pytest.raises(NotFoundError):
        await pushes.remove_device(7)
    with pytest.raises(NotFoundError):
        pushes.try_device(7)


async def test_a_device_can_be_tried_out(rig: Rig) -> None:
    pushes = await rig.open()
    device, _ = await rig.add(pushes)
    pushes.try_device(device.id)
    assert await rig.settle() == ["test test"]


async def test_a_storm_of_needs_waits_in_a_bounded_box_the_newest_of_each(rig: Rig) -> None:
    pushes = await rig.open()
    await rig.add(pushes)
    await asyncio.to_thread(rig.service.answer_next, 503)
    pushes.on_edge([need("0")], [])
    await wait_for(lambda: len(rig.pauses) == 1)
    for number in range(3 * BOX_LIMIT):
        pushes.on_edge([need(str(number % (2 * BOX_LIMIT)))], [])
        assert pushes.count_waiting() <= BOX_LIMIT
    assert rig.background.count() == 1
    rig.go_on.set()
    told = await rig.settle()
    assert len(told) == len(set(told)) == BOX_LIMIT


async def test_what_is_withdrawn_while_it_is_under_way_is_withdrawn_after_it() -> None:
    box, at = Box(), now()
    first = tell(need("1"), at)
    box.put(first)
    box.send(first)
    box.put(withdraw("approval-1", at))
    box.land(taken=True)
    found = box.find_first(at)
    assert found is not None
    assert found.kind == "gone"
    box.send(found)
    box.land(taken=True)
    assert box.find_first(at) is None
    assert box.told == set()


async def test_a_certificate_must_be_the_names_although_an_address_is_connected_to(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, ["push.example"])
    with contextlib.contextmanager(run_push_service)(made.certificate, made.key) as running:
        port = int(running.url.rpartition(":")[2])
        vapid = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:me@example.com")
        tls = ssl.create_default_context(cafile=made.ca)
        addresses = AddressBook(private=True, look_up=lambda _: ["127.0.0.1"])
        poster = Poster(vapid, addresses, private=True, tls=tls)
        subscription = Subscription()
        keys = BrowserKeys(subscription.point, subscription.auth)
        push = Push(b"{}", 60, "high", "topic")
        # Nobody subscribed there: that it is told so shows that the certificate was taken.
        answer = await poster.post(f"https://push.example:{port}/push/x", keys, push)
        assert answer.fate is Fate.GONE
        answer = await poster.post(f"https://other.example:{port}/push/x", keys, push)
        assert (answer.fate, answer.reason) == (Fate.LATER, "other.example could not be reached")
        await poster.close()


def test_pauses_double_up_to_a_limit_and_last_as_long_as_the_service_asks() -> None:
    pauses = [plan_pause(failures, None) for failures in (1, 2, 3, 30, 3000)]
    assert pauses[0] <= 5.0 < pauses[2]
    assert all(pause <= RETRY_LIMIT_S for pause in pauses)
    assert plan_pause(1, 1800.0) == 1800.0


def test_a_topic_is_one_that_push_services_take_and_of_one_need() -> None:
    topics = {render_topic(key) for key in ("approval-1", "approval-2", "runaway-alice>bob", "x" * 200)}
    assert len(topics) == 4
    assert all(len(topic) == 32 and topic.isascii() for topic in topics)
