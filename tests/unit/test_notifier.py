"""The service on a real store, with a clock that the test sets: told once, by whatever way the daemon ends."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, StorageError
from hyperhive.core.needs import Need, NeedKind
from hyperhive.core.notify_text import Notification
from hyperhive.core.notifying import RUSHES_PER_HOUR, Hold, Rules
from hyperhive.core.paths import Roots
from hyperhive.core.quiet_hours import parse_quiet_hours
from hyperhive.host.notifier import LOOK_EVERY_S, SENDS_AT_ONCE, Notifier, Notifying
from hyperhive.host.notify_sender import SEND_TIMEOUT_S
from hyperhive.host.notify_settings import load_notifying, load_zone
from hyperhive.host.notify_urls import CHANNELS_LIMIT, FILE_LIMIT_BYTES, UrlFile, parse_urls
from hyperhive.host.settings import Settings
from hyperhive.host.store.store import Store, Transaction

T = TypeVar("T")

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
PHONE = "ntfys://phone.example/secret-topic-1"
MAIL = "mailto://secret-user:secret-password@mail.example"
DEADLINE_S = 10.0


@dataclass
class Service:
    """Takes messages in the place of the network. `faults` are by the URL; one that hangs waits for `release`."""

    taken: list[tuple[str, Notification]] = field(default_factory=list[tuple[str, Notification]])
    faults: dict[str, str] = field(default_factory=dict[str, str])
    hanging: set[str] = field(default_factory=set[str])
    # Those that take a message and never say so.
    silent: set[str] = field(default_factory=set[str])
    release: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def send(self, url: SecretStr, message: Notification, receipt: Path | None) -> str:
        self.calls += 1
        address = url.get_secret_value()
        if address in self.hanging:
            await self.release.wait()
        if self.faults.get(address):
            return self.faults[address]
        self.taken.append((address, message))
        if receipt is not None:
            receipt.touch()
        if address in self.silent:
            await self.release.wait()
        return ""

    def titles(self, url: str = PHONE) -> list[str]:
        return [message.title.removeprefix("hyperhive: ") for address, message in self.taken if address == url]


class Disk(Store):
    """A store that refuses what is written while it is `full`."""

    full = False
    refused = 0

    async def write(self, change: Callable[[Transaction], T]) -> T:
        if self.full:
            self.refused += 1
            raise StorageError("the disk is full")
        return await super().write(change)


@dataclass
class Desk:
    folder: Path
    store: Disk
    notifier: Notifier
    service: Service
    clock: list[datetime]
    needs: dict[str, Need]

    def add(self, ref: object, kind: NeedKind = NeedKind.APPROVAL, lasts: timedelta | None = None) -> None:
        deadline = None if lasts is None else self.clock[0] + lasts
        need = Need(kind, str(ref), "alice", f"need {ref}", "secret detail", self.clock[0], deadline, "", ())
        self.needs[need.key] = need

    def remove(self, key: str) -> None:
        del self.needs[key]
        self.notifier.on_edge([], [key])

    async def pass_time(self, *steps: timedelta) -> "Desk":
        """Looks after each step, and waits until what is sent by that is settled."""
        for step in steps:
            self.clock[0] += step
            await self.notifier.look()
            await self.settle()
        return self

    async def settle(self, *, but: int = 0) -> None:
        """Waits until at most `but` channels are being told."""
        async with asyncio.timeout(DEADLINE_S):
            while len([one for one in (await self.notifier.describe()).channels if one.sending]) > but:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def open_desk(
    folder: Path, *urls: str, rules: Rules | None = None, before: Desk | None = None, works: bool = True
) -> AsyncGenerator[Desk]:
    """Opened again on the same folder it is the daemon's next start. Not `works`: it ends as by a crash."""
    clock = before.clock if before else [START]
    needs = before.needs if before else {}
    service = before.service if before else Service()
    file = folder / "notify.urls"
    if urls:
        write_urls(file, *urls)
    store = Disk(folder / "hive.sqlite", "hive")

    async def list_needs() -> list[Need]:
        return list(needs.values())

    notifying = Notifying(file, rules or Rules())
    notifier = Notifier(store, list_needs, notifying, folder / "receipts", service.send, lambda: clock[0])
    notifier.serve_links("http://127.0.0.1:7000/")
    try:
        yield Desk(folder, store, notifier, service, clock, needs)
    finally:
        if works:
            service.release.set()
            await notifier.finish()
        store.close()
        await notifier.finish()


def write_urls(file: Path, *urls: str) -> None:
    file.write_text("# mine\n\n" + "".join(f"{url}\n" for url in urls))
    file.chmod(0o600)


async def find_holds(desk: Desk) -> set[Hold]:
    """Why what is held back is, on any channel, but for reminders."""
    plans = [channel.plan for channel in (await desk.notifier.describe()).channels]
    return {held.by for plan in plans if plan is not None for held in plan.held if held.until < START + 3 * HOUR}


# -- telling -----------------------------------------------------------------------------------------------


async def test_every_channel_is_told_once_with_a_link_and_without_details(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, MAIL) as desk:
        desk.add(12)
        await desk.pass_time(timedelta(), MINUTE, MINUTE, HOUR)
        assert desk.service.titles(PHONE) == desk.service.titles(MAIL) == ["need 12"]
        [message] = [message for url, message in desk.service.taken if url == PHONE]
        assert message.link == "http://127.0.0.1:7000/#need-approval-12"
        assert "secret" not in repr(message)


async def test_a_restart_in_the_dwell_or_in_the_cooldown_forgets_nothing_and_tells_nothing_twice(
    tmp_path: Path,
) -> None:
    async with open_desk(tmp_path, PHONE) as first:
        first.add(1)
        await first.pass_time(timedelta(), MINUTE / 2)
    async with open_desk(tmp_path, before=first) as second:
        await second.pass_time(MINUTE / 2)
        assert second.service.titles() == ["need 1"]
        second.add(2)
        await second.pass_time(timedelta(), MINUTE)
    async with open_desk(tmp_path, before=second) as third:
        await third.pass_time(timedelta())
        assert await find_holds(third) == {Hold.COOLDOWN}
        await third.pass_time(4 * MINUTE, 3 * HOUR)
        assert third.service.titles() == ["need 1", "need 2"]
    async with open_desk(tmp_path, before=third) as fourth:
        await fourth.pass_time(HOUR, HOUR, HOUR)
        assert fourth.service.titles()[2:] == ["2 things need you: 2 approvals"]


async def test_what_an_ended_daemon_was_sending_is_not_sent_again_if_it_was_taken(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, works=False) as first:
        first.service.silent.add(PHONE)
        first.add(1)
        await first.pass_time(timedelta())
        first.clock[0] += MINUTE
        await first.notifier.look()
        await wait_for_calls(first.service, 1)
    first.service.silent.clear()
    async with open_desk(tmp_path, before=first) as second:
        await second.pass_time(timedelta(), MINUTE, HOUR)
        assert second.service.titles() == ["need 1"]
        assert list((tmp_path / "receipts").iterdir()) == []


async def test_what_an_ended_daemon_was_sending_is_sent_again_if_it_was_not_taken(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, works=False) as first:
        first.service.hanging.add(PHONE)
        first.add(1)
        await first.pass_time(timedelta())
        first.clock[0] += MINUTE
        await first.notifier.look()
        await wait_for_calls(first.service, 1)
    first.service.hanging.clear()
    async with open_desk(tmp_path, before=first) as second:
        # Its sender may have outlived the daemon.
        await second.notifier.look()
        assert second.service.calls == 1
    async with open_desk(tmp_path, before=second) as third:
        await third.pass_time(timedelta(seconds=SEND_TIMEOUT_S), HOUR)
        assert third.service.titles() == ["need 1"]


async def test_a_daemon_that_ends_in_order_lets_a_message_arrive_and_remembers_it(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE) as first:
        first.service.hanging.add(PHONE)
        first.add(1)
        await first.pass_time(timedelta())
        first.clock[0] += MINUTE
        await first.notifier.look()
        await wait_for_calls(first.service, 1)
    async with open_desk(tmp_path, before=first) as second:
        await second.pass_time(HOUR)
        assert second.service.titles() == ["need 1"]


async def test_one_that_hangs_holds_up_no_other_and_is_told_what_still_waits(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, MAIL, rules=Rules(remind_s=0)) as desk:
        desk.service.hanging.add(PHONE)
        desk.add(1)
        await desk.notifier.look()
        desk.clock[0] += MINUTE
        assert await desk.notifier.look() <= LOOK_EVERY_S
        await desk.settle(but=1)
        desk.add(2)
        desk.remove("approval-1")
        for _ in range(2):
            await desk.notifier.look()
            desk.clock[0] += 10 * MINUTE
        await desk.notifier.look()
        await desk.settle(but=1)
        assert desk.service.titles(MAIL) == ["need 1", "need 2"]
        desk.service.faults[PHONE] = "there was no answer"
        desk.service.release.set()
        desk.service.hanging.clear()
        await desk.settle()
        desk.service.faults.clear()
        await desk.pass_time(HOUR)
        assert desk.service.titles(PHONE) == ["need 2"]


async def test_many_that_hang_leave_no_others_told_of_what_is_over(tmp_path: Path) -> None:
    urls = [f"json://h{number}.example/x" for number in range(SENDS_AT_ONCE + 2)]
    async with open_desk(tmp_path, *urls) as desk:
        desk.service.hanging.update(urls[:SENDS_AT_ONCE])
        desk.add(1)
        await desk.notifier.look()
        desk.clock[0] += MINUTE
        await desk.notifier.look()
        await wait_for_calls(desk.service, SENDS_AT_ONCE)
        desk.remove("approval-1")
        desk.service.release.set()
        await desk.settle()
        await desk.pass_time(MINUTE)
        assert {url for url, _ in desk.service.taken} == set(urls[:SENDS_AT_ONCE])


async def test_a_failure_is_kept_shown_and_tried_again_later_also_after_a_restart(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE) as first:
        first.service.faults[PHONE] = "the service answered with status 403"
        first.add(1)
        await first.pass_time(timedelta(), MINUTE, timedelta(seconds=10))
        assert first.service.calls == 1
    async with open_desk(tmp_path, before=first) as second:
        await second.pass_time(timedelta(seconds=10), MINUTE / 2)
        assert second.service.calls == 2
        [channel] = (await second.notifier.describe()).channels
        assert (channel.health.fault, channel.record.failures) == ("the service answered with status 403", 2)
        assert channel.record.retry_at == second.clock[0] + MINUTE
        assert await find_holds(second) == set()
        second.service.faults.clear()
        await second.pass_time(MINUTE)
        assert second.service.titles() == ["need 1"]
        [channel] = (await second.notifier.describe()).channels
        assert (channel.health.fault, channel.record.failures, channel.record.retry_at) == ("", 0, None)


async def test_what_does_not_wait_for_the_cooldown_is_counted_over_restarts(tmp_path: Path) -> None:
    before: Desk | None = None
    for number in range(3):
        async with open_desk(tmp_path, PHONE, rules=Rules(cooldown_s=24 * 3600), before=before) as desk:
            for step in range(5):
                desk.add(f"{number}-{step}", NeedKind.PERMISSION, 10 * MINUTE)
                await desk.pass_time(timedelta(), MINUTE)
            before = desk
    assert before is not None
    # The first waits for no cooldown.
    assert before.service.calls == 1 + RUSHES_PER_HOUR
    async with open_desk(tmp_path, before=before) as desk:
        await desk.pass_time(HOUR)
        assert desk.service.calls == 2 + RUSHES_PER_HOUR


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -400 * 24 * HOUR, 400 * 24 * HOUR])
async def test_a_clock_that_jumps_has_nothing_told_twice_or_never(tmp_path: Path, jump: timedelta) -> None:
    async with open_desk(tmp_path, PHONE, rules=Rules(remind_s=0)) as desk:
        desk.add(1)
        await desk.pass_time(timedelta(), MINUTE)
        desk.add(2)
        await desk.pass_time(timedelta(), jump, MINUTE, 4 * MINUTE)
        desk.add(3)
        await desk.pass_time(timedelta(), 6 * MINUTE, -jump, 6 * MINUTE)
        assert desk.service.titles() == ["need 1", "need 2", "need 3"]


async def test_a_full_disk_sends_nothing_that_could_not_be_remembered(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE) as desk:
        desk.add(1)
        await desk.pass_time(timedelta())
        desk.clock[0] += MINUTE
        desk.store.full = True
        await desk.notifier.look()
        while not desk.store.refused:
            await asyncio.sleep(0.005)
        desk.store.full = False
        await desk.settle()
        assert desk.service.calls == 0
        await desk.pass_time(timedelta())
        assert desk.service.titles() == ["need 1"]


async def test_what_was_sent_while_the_disk_got_full_is_remembered_once_it_is_not(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, rules=Rules(remind_s=0)) as desk:
        desk.service.hanging.add(PHONE)
        desk.add(1)
        await desk.pass_time(timedelta())
        desk.clock[0] += MINUTE
        await desk.notifier.look()
        await wait_for_calls(desk.service, 1)
        desk.store.full = True
        desk.service.release.set()
        while not desk.service.taken:
            await asyncio.sleep(0.005)
        await desk.notifier.look()
        desk.store.full = False
        await desk.settle()
        await desk.pass_time(HOUR)
        assert desk.service.titles() == ["need 1"]


async def wait_for_calls(service: Service, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while service.calls < count:
            await asyncio.sleep(0.005)


async def test_the_loop_tells_what_is_due_without_being_asked_and_an_edge_wakes_it(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, rules=Rules(dwell_s=0, cooldown_s=0)) as desk:
        loop = asyncio.create_task(desk.notifier.run_forever())
        await asyncio.sleep(0)
        desk.add(1)
        desk.notifier.on_edge(list(desk.needs.values()), [])
        await wait_for_calls(desk.service, 1)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await desk.settle()
        assert desk.service.titles() == ["need 1"]


# -- testing -----------------------------------------------------------------------------------------------


async def test_a_test_message_goes_out_at_once_and_ends_a_back_off_but_counts_for_nothing_else(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, MAIL) as desk:
        desk.service.faults[PHONE] = "it was not taken"
        desk.add(1)
        await desk.pass_time(timedelta(), MINUTE)
        assert await desk.notifier.test("ntfys") == {"ntfys": "it was not taken"}
        desk.service.faults.clear()
        assert await desk.notifier.test(None) == {"ntfys": "", "mailto": ""}
        await desk.pass_time(timedelta())
        assert desk.service.titles(PHONE) == ["a test", "need 1"]
        assert desk.service.titles(MAIL) == ["need 1", "a test"]


async def test_a_test_of_nothing_or_two_at_once_are_refused(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        with pytest.raises(NotFoundError) as nothing:
            await desk.notifier.test(None)
        assert "notify.urls" in nothing.value.hint
        write_urls(tmp_path / "notify.urls", PHONE)
        with pytest.raises(NotFoundError):
            await desk.notifier.test("mailto")
        desk.service.hanging.add(PHONE)
        first = asyncio.create_task(desk.notifier.test(None))
        await wait_for_calls(desk.service, 1)
        with pytest.raises(ConflictError):
            await desk.notifier.test(None)
        desk.service.release.set()
        assert await first == {"ntfys": ""}


# -- the file ----------------------------------------------------------------------------------------------


def test_channels_are_shown_by_their_scheme_alone() -> None:
    channels = parse_urls(f"# a comment\n{PHONE}\n\n  {PHONE}2 \n{MAIL}\n")
    assert [channel.name for channel in channels] == ["ntfys", "ntfys-2", "mailto"]
    assert "secret" not in repr(channels)


@pytest.mark.parametrize(
    "text", ["secret", "http:/x/secret", "://secret", "a b://secret", f"{PHONE}\n{PHONE}", "x://se\x7fcret"]
)
def test_what_is_no_url_is_refused_by_its_line_and_not_quoted(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_urls(f"# one\n{text}")
    assert "line " in refused.value.message
    assert "secret" not in refused.value.message + refused.value.hint


def test_too_many_channels_are_refused() -> None:
    parse_urls("".join(f"json://h{number}\n" for number in range(CHANNELS_LIMIT)))
    with pytest.raises(InvalidInputError):
        parse_urls("".join(f"json://h{number}\n" for number in range(CHANNELS_LIMIT + 1)))


def test_a_file_that_others_can_read_does_not_count_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "notify.urls"
    file = UrlFile(path)
    file.look()
    assert (file.channels, file.problem) == ([], "")
    write_urls(path, PHONE)
    path.chmod(0o640)
    file.look()
    assert file.channels == []
    assert "chmod 600" in file.problem
    path.chmod(0o600)
    file.look()
    assert ([channel.name for channel in file.channels], file.problem) == (["ntfys"], "")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (FILE_LIMIT_BYTES + 1), b"nonsense"])
def test_a_file_that_gets_worse_leaves_the_last_good_one_in_force_and_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notify.urls"
    write_urls(path, PHONE)
    file = UrlFile(path)
    file.look()
    path.write_bytes(content)
    file.look()
    assert [channel.name for channel in file.channels] == ["ntfys"]
    assert file.problem
    write_urls(path, MAIL)
    file.look()
    assert ([channel.name for channel in file.channels], file.problem) == (["mailto"], "")
    path.unlink()
    file.look()
    assert file.channels == []


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "notify.urls"
    os.mkfifo(path, 0o600)
    file = UrlFile(path)
    file.look()
    assert "plain file" in file.problem
    path.unlink()
    path.mkdir()
    file.look()
    assert file.problem


async def test_a_channel_that_is_added_is_told_what_waits_and_one_that_is_taken_out_nothing(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE) as desk:
        desk.add(1)
        await desk.pass_time(timedelta(), MINUTE)
        write_urls(tmp_path / "notify.urls", MAIL)
        await desk.pass_time(timedelta(), HOUR)
        desk.add(2)
        await desk.pass_time(timedelta(), HOUR)
        assert desk.service.titles(PHONE) == ["need 1"]
        assert desk.service.titles(MAIL) == ["need 1", "need 2"]


async def test_no_url_is_in_the_database(tmp_path: Path) -> None:
    async with open_desk(tmp_path, PHONE, MAIL) as desk:
        desk.service.faults[MAIL] = "it was not taken"
        desk.add(1)
        await desk.pass_time(timedelta(), MINUTE)
        await desk.notifier.test(None)
    for file in tmp_path.glob("hive.sqlite*"):
        content = file.read_bytes()
        assert [word for word in (b"secret-topic", b"secret-user", b"secret-password") if word in content] == []


# -- settings ----------------------------------------------------------------------------------------------


def test_the_rules_come_from_the_settings(tmp_path: Path) -> None:
    roots = Roots(tmp_path, tmp_path / "run")
    given = Settings(notify_dwell_s=5, notify_quiet="22:00-08:00", time_zone="Europe/Berlin", notify_remind_s=0)
    notifying = load_notifying(given, roots.notify_urls)
    quiet = parse_quiet_hours("22:00-08:00", ZoneInfo("Europe/Berlin"))
    assert notifying == Notifying(
        tmp_path / "notify.urls", Rules(dwell_s=5, remind_s=0, quiet=quiet), ZoneInfo("Europe/Berlin"), "Europe/Berlin"
    )


@pytest.mark.parametrize("fields", [{"notify_quiet": "at night"}, {"time_zone": "Mars/Olympus"}, {"time_zone": "../x"}])
def test_a_daemon_with_hours_that_nobody_understands_does_not_start(tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        load_notifying(Settings.model_validate(fields), tmp_path / "notify.urls")


def test_the_time_zone_is_the_named_one_or_the_machines(tmp_path: Path) -> None:
    berlin = Path("/usr/share/zoneinfo/Europe/Berlin")
    local = tmp_path / "localtime"
    assert load_zone("Asia/Tokyo", {"TZ": "Europe/Rome"}, local)[1] == "Asia/Tokyo"
    assert load_zone("", {"TZ": ":Europe/Rome"}, local)[1] == "Europe/Rome"
    assert load_zone("", {"TZ": "nonsense"}, local) == (UTC, "UTC")
    local.write_text("no zone at all")
    assert load_zone("", {}, local) == (UTC, "UTC")
    local.unlink()
    local.symlink_to(berlin)
    zone, name = load_zone("", {}, local)
    assert name == "Europe/Berlin"
    assert START.astimezone(zone).hour == 13
