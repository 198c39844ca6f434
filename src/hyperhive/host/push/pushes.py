"""Web push: each device is told what newly needs the operator, and what does no more.

Nothing waits for it: what is to be said stands in a bounded box a device, and one task a device empties it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.needs import Need
from hyperhive.host.endpoints import AddressBook, parse_endpoint
from hyperhive.host.push.devices import (
    Device,
    load_devices,
    mute_device,
    note_failed,
    note_taken,
    remove_device,
    save_device,
    to_device,
)
from hyperhive.host.push.encryption import parse_browser_keys
from hyperhive.host.push.notices import Box, Notice, tell, try_out, withdraw
from hyperhive.host.push.post import Answer, Fate, Poster
from hyperhive.host.push.vapid import load_vapid
from hyperhive.host.store.store import Store, View
from hyperhive.system.clock import now

log = structlog.get_logger(__name__)

RETRY_FIRST_S = 5.0
RETRY_LIMIT_S = 900.0
# Takes every push that shows nothing for an offence, and ends the subscription at the third.
_MUST_SHOW = ".push.apple.com"

Soon = Callable[[Awaitable[None]], None]


@dataclass(frozen=True, slots=True)
class PushSettings:
    """`contact` as for `Vapid`, `private` as for `parse_endpoint`."""

    contact: str = "mailto:operator@example.com"
    private: bool = False


def open_pushes(store: Store, key: Path, settings: PushSettings, soon: Soon) -> "Pushes":
    """Web push with the key in the file `key`, which is made the first time. Raises StorageError."""
    poster = Poster(load_vapid(key, settings.contact), AddressBook(private=settings.private), private=settings.private)
    return Pushes(store, poster, soon, private=settings.private)


class Pushes:
    """`soon` does work in the background; `private` as for `parse_endpoint`."""

    def __init__(
        self,
        store: Store,
        poster: Poster,
        soon: Soon,
        *,
        private: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._poster = poster
        self._soon = soon
        self._private = private
        self._pause = pause
        self._devices: dict[int, Device] = {}
        self._boxes: dict[int, Box] = {}
        self._sending: set[int] = set()

    async def load(self) -> None:
        """To be called once, before the first edge. Nothing is sent for what is there."""

        devices, told = await self._store.write(load_devices)
        self._devices = {device.id: device for device in devices}
        for device_id, key in told:
            self._box(device_id).told.add(key)

    @property
    def public_key(self) -> str:
        """What a browser subscribes with."""
        return self._poster.public_key

    async def close(self) -> None:
        await self._poster.close()

    # -- devices ---------------------------------------------------------------------------------------------

    async def list_devices(self) -> list[Device]:
        def look(view: View) -> list[Device]:
            return [to_device(row) for row in view.list("list_devices")]

        return await self._store.read(look)

    async def add_device(self, endpoint: str, p256dh: str, auth: str, name: str) -> Device:
        """Adds a browser, or renews it: it is known by its endpoint. Raises InvalidInputError, ConflictError."""
        parse_endpoint(endpoint, private=self._private)
        keys = parse_browser_keys(p256dh, auth)
        device = await self._store.write(lambda tx: save_device(tx, endpoint, keys, name))
        self._devices[device.id] = device
        return device

    async def mute_device(self, device_id: int, muted: bool) -> Device:
        """Raises NotFoundError."""
        device = await self._store.write(lambda tx: mute_device(tx, device_id, muted))
        self._devices[device.id] = device
        return device

    async def remove_device(self, device_id: int, reason: str = "the operator removed it") -> None:
        """Raises NotFoundError."""
        await self._store.write(lambda tx: remove_device(tx, device_id, reason))
        self._devices.pop(device_id, None)
        self._boxes.pop(device_id, None)

    def try_device(self, device_id: int) -> None:
        """Sends something to be seen. Raises NotFoundError, ConflictError."""
        if device_id not in self._devices:
            raise NotFoundError(f"there is no device {device_id}", "list them: hive devices")
        if self._devices[device_id].muted:
            raise ConflictError("the device is muted", "unmute it first")
        self._put(device_id, try_out(now()))

    # -- telling ---------------------------------------------------------------------------------------------

    def on_edge(self, new: Sequence[Need], gone: Sequence[str]) -> None:
        """The listener of `Needs.on_edge`: returns at once. A muted device is told of nothing new."""
        at = now()
        for device in self._devices.values():
            notices = [] if device.muted else [tell(need, at) for need in new]
            notices += [withdraw(key, at) for key in gone]
            for notice in notices:
                self._put(device.id, notice)

    def count_waiting(self) -> int:
        """How many notices were not taken by a push service yet."""
        return sum(len(box) for box in self._boxes.values())

    def _box(self, device_id: int) -> Box:
        return self._boxes.setdefault(device_id, Box())

    def _put(self, device_id: int, notice: Notice) -> None:
        box = self._box(device_id)
        box.put(notice)
        if len(box) and device_id not in self._sending:
            self._sending.add(device_id)
            self._soon(self._empty(device_id))

    async def _empty(self, device_id: int) -> None:
        """Sends all that waits for a device. Ends with the box, or with the device."""
        failures = 0
        try:
            while (device := self._devices.get(device_id)) and (notice := self._box(device_id).find_first(now())):
                answer = await self._send(device, notice)
                if answer.fate is Fate.LATER:
                    failures += 1
                    await self._pause(plan_pause(failures, answer.retry_s))
                else:
                    failures = 0
        finally:
            self._sending.discard(device_id)

    async def _send(self, device: Device, notice: Notice) -> Answer:
        box = self._box(device.id)
        if device.muted and notice.kind != "gone":
            box.drop(notice)
            return Answer(Fate.TAKEN)
        box.send(notice)
        if notice.kind == "gone" and self._must_show(device):
            answer, at = Answer(Fate.TAKEN), None
        else:
            answer, at = await self._poster.post(device.endpoint, device.keys, notice.render_push(now())), now()
        box.land(taken=answer.fate is Fate.TAKEN)
        await self._note(device, notice, answer, at)
        return answer

    def _must_show(self, device: Device) -> bool:
        return parse_endpoint(device.endpoint, private=self._private).host.endswith(_MUST_SHOW)

    async def _note(self, device: Device, notice: Notice, answer: Answer, at: datetime | None) -> None:
        match answer.fate:
            case Fate.TAKEN:
                row = await self._store.write(lambda tx: note_taken(tx, device.id, notice, at))
                self._renew(row)
            case Fate.GONE:
                log.info("push.device_gone", device=device.id, reason=answer.reason)
                await self._forget(device, answer.reason)
            case Fate.LATER:
                await self._note_failed(device, answer)
            case Fate.REFUSED:
                self._box(device.id).drop(notice)
                await self._note_failed(device, answer)

    async def _note_failed(self, device: Device, answer: Answer) -> None:
        if device.error == answer.reason:
            return
        log.warning("push.not_taken", device=device.id, reason=answer.reason)
        self._renew(await self._store.write(lambda tx: note_failed(tx, device.id, answer.reason)))

    def _renew(self, device: Device | None) -> None:
        # It may have been removed meanwhile.
        if device is not None and device.id in self._devices:
            self._devices[device.id] = device

    async def _forget(self, device: Device, reason: str) -> None:
        self._box(device.id).clear()
        try:
            await self.remove_device(device.id, reason)
        except NotFoundError:
            # The operator was faster.
            return


def plan_pause(failures: int, retry_s: float | None) -> float:
    """How long to wait after so many failures in a row: doubling, with jitter, and what the service asks at least."""
    limit = min(RETRY_FIRST_S * 2 ** min(failures - 1, 16), RETRY_LIMIT_S)
    return max(limit * (0.75 + random.random() / 4), retry_s or 0.0)  # noqa: S311 - jitter, no secret
