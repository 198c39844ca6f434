"""Tells the operator outside of the pages what needs them: by mail, chat, push services, whatever apprise knows.

`core.notifying` decides what is told when; what was told is remembered in the database. Each channel has its own
memory, its own messages and its own troubles: one that hangs or refuses keeps no other from being told, and is told
what still waits once it works again. A message is noted before it leaves; a daemon that finds one it did not finish
looks for the receipt that its sender leaves, so that even after a crash it is told once.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import structlog
from pydantic import SecretStr

from hyperhive.core.errors import ConflictError, HiveError, NotFoundError
from hyperhive.core.needs import Need
from hyperhive.core.notify_text import Notification, render_notification, render_test
from hyperhive.core.notifying import ChannelRecord, Plan, Rules, Sighting, decide_message, reduce_sightings, settle
from hyperhive.host.notify_records import (
    Health,
    Memory,
    Sending,
    begin_send,
    load_memory,
    note_arrived,
    note_failed,
    note_lost,
    note_tested,
    save_sightings,
    settle_clock,
)
from hyperhive.host.notify_sender import SEND_TIMEOUT_S, send
from hyperhive.host.notify_urls import Channel, UrlFile
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now

log = structlog.get_logger(__name__)

# The clock may be set, a machine may sleep, and the file of URLs may change: it is looked again after this long.
LOOK_EVERY_S = 30.0
# Each sender takes 50 MB while it works.
SENDS_AT_ONCE = 4
# A test of all channels must end while the command line waits for it.
TESTS_AT_ONCE = 8
# A daemon that ends lets a message that is on its way arrive, for so long.
FINISH_TIMEOUT_S = 3.0
RECORD_RETRY_S = 2.0

Send = Callable[[SecretStr, Notification, Path | None], Awaitable[str]]
"""Sends a message; gives what went wrong, or nothing. May leave a receipt at the path, once it was taken."""


@dataclass(frozen=True, slots=True)
class Notifying:
    """What the settings say: the file of URLs, the rules, the operator's clock."""

    urls: Path
    rules: Rules = field(default_factory=Rules)
    zone: tzinfo = UTC
    zone_name: str = "UTC"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel as it is now, for whoever asks. `plan` says what is held back, and why."""

    name: str
    health: Health
    record: ChannelRecord
    plan: Plan | None
    sending: bool


@dataclass(frozen=True, slots=True)
class NotifierState:
    notifying: Notifying
    problem: str
    quiet_until: datetime | None
    channels: tuple[ChannelState, ...]


class Notifier:
    def __init__(
        self,
        store: Store,
        list_needs: Callable[[], Awaitable[list[Need]]],
        notifying: Notifying,
        receipts: Path,
        send: Send = send,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """`receipts` is a folder that only the daemon's user can write. It is made when something is sent."""
        self._store = store
        self._list_needs = list_needs
        self._notifying = notifying
        self._receipts = receipts
        self._send = send
        self._clock = clock
        self._file = UrlFile(notifying.urls)
        self._base = "http://127.0.0.1"
        self._woken = asyncio.Event()
        # The needs that were seen to go since the last look, by their keys.
        self._left: set[str] = set()
        self._plans: dict[str, Plan] = {}
        self._sends: dict[str, asyncio.Task[None]] = {}
        # The channels of which it is not known yet what became of an earlier daemon's message.
        self._unknown: dict[str, asyncio.TimerHandle] = {}
        self._test_slots = asyncio.Semaphore(TESTS_AT_ONCE)
        self._testing = False

    def serve_links(self, base: str) -> None:
        """Says where the pages are, for the links in messages."""
        self._base = base.rstrip("/")

    def on_edge(self, _: Sequence[Need], left: Sequence[str]) -> None:
        """Looks again: something new waits, or something is gone."""
        self._left.update(left)
        self._woken.set()

    async def run_forever(self) -> None:
        """Tells everything at its time, for as long as the daemon runs."""
        while True:
            self._woken.clear()
            wait_s = await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def look(self) -> float:
        """Starts to send what is due now. Returns how long it is until something is, LOOK_EVERY_S at most.

        Raises StorageError: nothing was told, and the next look finds the same.
        """
        self._file.look()
        self._plans = {digest: plan for digest, plan in self._plans.items() if self._find_channel(digest) is not None}
        if not self._file.channels:
            self._left.clear()
            return LOOK_EVERY_S
        needs = await self._list_needs()
        at = self._clock()
        sightings, memory = await self._remember(needs, at)
        waits = [LOOK_EVERY_S]
        for channel in self._file.channels:
            record = settle(memory.channels.get(channel.digest, ChannelRecord()), at)
            plan = decide_message(self._notifying.rules, needs, sightings, record, at)
            self._plans[channel.digest] = plan
            if plan.wake_at is not None:
                waits.append((plan.wake_at - at).total_seconds())
            if plan.items and self._may_send(channel.digest):
                self._start(channel, plan, record)
        # Never at once again because of what the store rounds off.
        return max(min(waits), 0.01)

    async def test(self, name: str | None) -> dict[str, str]:
        """Sends a test message to each channel, or to one, at once. Returns what went wrong by name, "" for nothing.

        Raises NotFoundError if there is no such channel or none at all, ConflictError while another test runs.
        """
        self._file.look()
        channels = [channel for channel in self._file.channels if name in {None, channel.name}]
        if not channels:
            path = self._notifying.urls
            reason = f"{path}: {self._file.problem}" if self._file.problem else f"write apprise URLs into {path}"
            raise NotFoundError("there is no notifier" if name is None else f"there is no notifier {name}", reason)
        if self._testing:
            raise ConflictError("a test is under way", "wait for its end")
        self._testing = True
        try:
            faults = await asyncio.gather(*(self._test(channel) for channel in channels))
        finally:
            self._testing = False
        # What waited for the next try does so no longer.
        self._woken.set()
        return {channel.name: fault for channel, fault in zip(channels, faults, strict=True)}

    async def describe(self) -> NotifierState:
        """What is set up, how it went, and what is held back."""
        self._file.look()
        at = self._clock()
        memory = await self._store.read(lambda view: load_memory(view, at))
        quiet = self._notifying.rules.quiet
        return NotifierState(
            notifying=self._notifying,
            problem=self._file.problem,
            quiet_until=quiet.find_end(at) if quiet is not None and quiet.is_quiet(at) else None,
            channels=tuple(
                ChannelState(
                    name=channel.name,
                    health=memory.health.get(channel.digest, Health()),
                    record=memory.channels.get(channel.digest, ChannelRecord()),
                    plan=self._plans.get(channel.digest),
                    sending=channel.digest in self._sends or channel.digest in self._unknown,
                )
                for channel in self._file.channels
            ),
        )

    async def finish(self) -> None:
        """Ends what is being sent, before the daemon ends: what does not arrive soon is told by the next one."""
        if self._sends:
            await asyncio.wait(list(self._sends.values()), timeout=FINISH_TIMEOUT_S)
        tasks = list(self._sends.values())
        for waiting in [*tasks, *self._unknown.values()]:
            waiting.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is remembered --------------------------------------------------------------------------------

    async def _remember(self, needs: Sequence[Need], at: datetime) -> tuple[dict[str, Sighting], Memory]:
        """Brings what is stored up to now, and returns it."""
        memory = await self._store.read(lambda view: load_memory(view, at))
        busy = self._sends.keys() | self._unknown.keys()
        lost = [sending for sending in memory.sends if sending.channel not in busy]
        if memory.needs_settling or lost:
            await self._store.write(lambda tx: settle_clock(tx, at))
            for sending in lost:
                await self._resume(sending, at)
            memory = await self._store.read(lambda view: load_memory(view, at))
        left, self._left = self._left, set()
        seen = reduce_sightings(memory.sightings, needs, left, at)
        if seen == memory.sightings:
            return seen, memory
        try:
            digests = [channel.digest for channel in self._file.channels]
            stored = await self._store.write(lambda tx: save_sightings(tx, memory.sightings, seen, digests))
        except HiveError:
            self._left |= left
            raise
        return stored, memory

    async def _resume(self, sending: Sending, at: datetime) -> None:
        """Finds out what became of a message that a daemon before this one was sending, as soon as that is known."""
        receipt = self._receipts / sending.receipt
        if receipt.exists():
            await self._store.write(lambda tx: note_arrived(tx, sending.channel, sending.receipt, at))
            receipt.unlink(missing_ok=True)
        elif sending.at <= at < (end := sending.at + timedelta(seconds=SEND_TIMEOUT_S)):
            # Its sender may still be at work; it ends by itself.
            loop = asyncio.get_running_loop()
            self._unknown[sending.channel] = loop.call_later(
                (end - at).total_seconds(), self._look_again, sending.channel
            )
        else:
            await self._store.write(lambda tx: note_lost(tx, sending.channel, sending.receipt))

    def _look_again(self, digest: str) -> None:
        del self._unknown[digest]
        self._woken.set()

    # -- sending -------------------------------------------------------------------------------------------

    def _may_send(self, digest: str) -> bool:
        """Whether it may begin now. If not, the end of what is in the way has it looked again: nothing gets stale."""
        return len(self._sends) < SENDS_AT_ONCE and digest not in self._sends and digest not in self._unknown

    def _start(self, channel: Channel, plan: Plan, record: ChannelRecord) -> None:
        task = asyncio.create_task(self._tell(channel, plan, record))
        self._sends[channel.digest] = task

        def ended(_: asyncio.Task[None]) -> None:
            del self._sends[channel.digest]
            self._woken.set()

        task.add_done_callback(ended)

    async def _tell(self, channel: Channel, plan: Plan, record: ChannelRecord) -> None:
        try:
            await self._tell_now(channel, plan, record)
        except (HiveError, OSError) as error:
            log.warning("notifier.not_sent", channel=channel.name, error=str(error))
            await asyncio.sleep(RECORD_RETRY_S)
        except Exception:
            log.exception("notifier.broken", channel=channel.name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _tell_now(self, channel: Channel, plan: Plan, record: ChannelRecord) -> None:
        receipt = secrets.token_hex(8)
        at = self._clock()
        message = render_notification(plan.items, at, self._notifying.zone, self._base)
        self._receipts.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._store.write(lambda tx: begin_send(tx, channel.digest, receipt, plan, at))
        fault = await self._send(channel.url, message, self._receipts / receipt)
        failures = record.failures + 1
        if fault:
            log.warning("notifier.failed", channel=channel.name, fault=fault, failures=failures)
        else:
            log.info("notifier.sent", channel=channel.name, needs=len(plan.items))

        def note(tx: Transaction) -> None:
            if fault:
                note_failed(tx, channel.digest, receipt, fault, failures, self._clock())
            else:
                note_arrived(tx, channel.digest, receipt, self._clock())

        await self._record(note)
        (self._receipts / receipt).unlink(missing_ok=True)

    async def _record(self, note: Callable[[Transaction], None]) -> None:
        """Until it is stored that this was told, the channel is told nothing else: nor this again."""
        while True:
            try:
                await self._store.write(note)
            except HiveError as error:
                log.warning("notifier.not_recorded", message=error.message)
                await asyncio.sleep(RECORD_RETRY_S)
            else:
                return

    async def _test(self, channel: Channel) -> str:
        async with self._test_slots:
            fault = await self._send(channel.url, render_test(self._base), None)
        await self._store.write(lambda tx: note_tested(tx, channel.digest, fault, self._clock()))
        return fault

    def _find_channel(self, digest: str) -> Channel | None:
        return next((channel for channel in self._file.channels if channel.digest == digest), None)
