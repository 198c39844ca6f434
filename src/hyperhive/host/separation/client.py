"""The daemon's side of its root helper: a driver and images whose work is done over there."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.host.drivers.image_manifest import Change
from hyperhive.host.drivers.image_shelf import ManagedImages, Shelf
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError, Observation, Package, SizeDifference
from hyperhive.host.separation.frames import FrameError, encode_frame, read_frame
from hyperhive.host.separation.verbs import (
    PIECE_LIMIT_BYTES,
    Prepared,
    Verb,
    parse_helper_error,
    parse_result,
    render_files,
    render_spec,
)
from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed

log = structlog.get_logger(__name__)

_LOST_HINT = "start the hive anew: systemctl restart hyperhive"


class Helper:
    """The connection to the helper; `connection` is a stream socket, and this one's from now on.

    It is used by the event loop that the first call is made in.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._opening = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._lost = ""
        self._is_closing = False
        self._on_lost: Callable[[], None] | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Has `callback` called, once, when the helper is gone without having been left by `close`."""
        self._on_lost = callback

    async def call(self, verb: Verb, arguments: Mapping[str, Any]) -> Any:
        """What the helper's answer says, see `verbs.parse_result`.

        A call that is cancelled is cancelled over there, too, and ends once it has ended there. Raises the HiveError
        that the helper answers; DriverError if the helper is gone, or goes.
        """
        writer = await self._open()
        self._last_id += 1
        call_id = self._last_id
        try:
            frame = encode_frame({"id": call_id, "verb": verb.value, "arguments": arguments})
        except FrameError as error:
            raise DriverError(f"the helper cannot be asked: {error}") from error
        answer = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        writer.write(frame)
        try:
            return _read_answer(verb, await _wait(answer, lambda: self._cancel(call_id)))
        finally:
            self._waiting.pop(call_id, None)

    async def close(self) -> None:
        """Leaves the helper, which ends then. Calls that wait raise DriverError."""
        self._is_closing = True
        async with self._opening:
            if self._reading is None:
                self._connection.close()
                self._lose("it was left")
                return
        self._reading.cancel()
        await asyncio.wait({self._reading})
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _open(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._lost:
                raise _gone(self._lost)
            if self._writer is None:
                try:
                    reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
                except OSError as error:
                    self._lose(str(error))
                    raise _gone(self._lost) from error
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        why = "it has ended"
        try:
            while (message := await read_frame(reader)) is not None:
                waiting = self._waiting.get(message["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        except (FrameError, OSError) as error:
            why = str(error)
        finally:
            writer.close()
            self._lose(why)

    def _lose(self, why: str) -> None:
        self._lost = why
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone(why))
        if self._is_closing:
            return
        log.warning("helper.lost", reason=why)
        if self._on_lost is not None:
            self._on_lost()

    def _cancel(self, call_id: int) -> None:
        if self._writer is not None and not self._lost:
            self._writer.write(encode_frame({"cancel": call_id}))


class HelperDriver:
    """Keeps the contract of `drivers.protocol.Driver`, by the helper's driver `name`.

    `images` are those that its containers have for their system, None for this machine's own.
    """

    def __init__(self, name: str, helper: Helper, images: ManagedImages | None) -> None:
        self.name = name
        self.images = images
        self._helper = helper
        self._prepared = Prepared({}, "")

    @property
    def unlimited(self) -> Mapping[str, str]:
        return self._prepared.unlimited

    async def prepare(self) -> None:
        self._prepared = await self._call(Verb.PREPARE, {})

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        if self.images is not None:
            # Nobody finds an image while it is decided which ones go.
            async with self.images.removing:
                pass
        return await self._call(Verb.BUILD, {"packages": list(packages)})

    async def create(self, spec: ContainerSpec) -> None:
        await self._call(Verb.CREATE, render_spec(spec))

    async def observe(self, name: str) -> Observation:
        return await self._call(Verb.OBSERVE, {"name": name})

    async def find_usage(self, name: str) -> Usage:
        return await self._call(Verb.FIND_USAGE, {"name": name})

    async def start(self, spec: ContainerSpec) -> None:
        await self._call(Verb.START, render_spec(spec))

    async def stop(self, name: str, timeout_s: float) -> None:
        await self._call(Verb.STOP, {"name": name, "timeout_s": timeout_s})

    async def destroy(self, name: str) -> None:
        await self._call(Verb.DESTROY, {"name": name})

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        """As the contract has it; of what the command says each `PIECE_LIMIT_BYTES` at most."""
        arguments = {"name": name, "command": list(command), "timeout_s": timeout_s}
        return Completed(command, *await self._call(Verb.EXEC, arguments))

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        """As the contract has it; a piece has `PIECE_LIMIT_BYTES` at most."""
        arguments = {"name": name, "offset": offset, "limit_bytes": min(limit_bytes, PIECE_LIMIT_BYTES)}
        return await self._call(Verb.LOGS, arguments)

    async def log_range(self, name: str) -> tuple[int, int]:
        return await self._call(Verb.LOG_RANGE, {"name": name})

    async def _call(self, verb: Verb, arguments: Mapping[str, Any]) -> Any:
        """Raises DriverError only: what is more than that the contract does not know."""
        try:
            return await self._helper.call(verb, arguments)
        except DriverError:
            raise
        except HiveError as error:
            raise DriverError(error.message, error.hint) from error


class HelperBuilder(HelperDriver):
    """Keeps `drivers.protocol.BuildsSystems`, too, for a driver of the helper's that does."""

    @property
    def revision(self) -> str:
        return self._prepared.revision

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        return await self._ask(Verb.EVALUATE, render_files(name, files))

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        await self._ask(Verb.BUILD_SYSTEM, render_files(name, files))

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        return await self._ask(Verb.LIST_PACKAGES, render_files(name, files))

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        return await self._ask(Verb.COMPARE_PACKAGES, {"before": list(before), "after": list(after)})

    async def _ask(self, verb: Verb, arguments: Mapping[str, Any]) -> Any:
        """Raises InvalidInputError for what is the config's fault, else DriverError."""
        try:
            return await self._helper.call(verb, arguments)
        except (DriverError, InvalidInputError):
            raise
        except HiveError as error:
            raise DriverError(error.message, error.hint) from error


class HelperImages:
    """Keeps `drivers.image_shelf.ManagedImages`, by the helper's images."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self.removing = asyncio.Lock()

    async def observe(self, wanted: Collection[tuple[str, ...]]) -> Shelf:
        return await self._helper.call(Verb.OBSERVE_IMAGES, {"wanted": [list(packages) for packages in wanted]})

    async def compare(self, image_id: str) -> list[Change] | None:
        return await self._helper.call(Verb.COMPARE_IMAGE, {"image_id": image_id})

    async def remove(self, image_id: str) -> None:
        await self._helper.call(Verb.REMOVE_IMAGE, {"image_id": image_id})

    async def remove_unused(self, keep: Iterable[Sequence[str]], unused_s: float = 0.0) -> list[str]:
        arguments = {"keep": [list(packages) for packages in keep], "unused_s": unused_s}
        return await self._helper.call(Verb.REMOVE_UNUSED_IMAGES, arguments)


async def _wait(answer: asyncio.Future[dict[str, Any]], cancel: Callable[[], None]) -> dict[str, Any]:
    """The answer. Cancelled, it calls `cancel` and waits on for what comes of that; the second time it does not."""
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if not answer.done():
            cancel()
            # An error in it is nobody's any more.
            await asyncio.wait({answer})
        raise


def _read_answer(verb: Verb, message: Mapping[str, Any]) -> Any:
    if "error" in message:
        raise parse_helper_error(message["error"])
    return parse_result(verb, message["result"])


def _gone(why: str) -> DriverError:
    return DriverError(f"the root helper is gone: {why}", _LOST_HINT)
