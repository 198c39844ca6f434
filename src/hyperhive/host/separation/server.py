"""The helper's side: reads what the daemon asks, has it checked, lets the driver do it, and notes it."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import structlog

from hyperhive.core.errors import HiveError, NotFoundError, RefusedError, TooManyError
from hyperhive.host.drivers.image_shelf import ManagedImages, Shelf
from hyperhive.host.drivers.protocol import BuildsSystems, Driver, DriverError, Package, SizeDifference
from hyperhive.host.drivers.registry import find_revision
from hyperhive.host.separation.frames import FrameError, encode_frame, read_frame
from hyperhive.host.separation.notes import Outcome
from hyperhive.host.separation.verbs import (
    PIECE_LIMIT_BYTES,
    Arguments,
    BuildArguments,
    ComparisonArguments,
    ExecArguments,
    ImageArguments,
    LogsArguments,
    NameArguments,
    NoArguments,
    ObserveImagesArguments,
    Prepared,
    RemoveUnusedArguments,
    SpecArguments,
    StopArguments,
    SystemArguments,
    Verb,
    parse_arguments,
    parse_verb,
    render_result,
)

log = structlog.get_logger(__name__)

TASKS_LIMIT: Final = 512
# Each takes gigabytes if what it evaluates is meant to.
EVALUATIONS_AT_ONCE: Final = 4
# Each may wait for caches on the network.
COMPARISONS_AT_ONCE: Final = 2
# What is noted of what names no verb.
_NO_VERB = "-"
_ERROR_LIMIT_CHARS = 20_000

GivenT = TypeVar("GivenT", bound=Arguments)
_Act = Callable[[Arguments], Awaitable[Any]]


class Gate(Protocol):
    """What decides what is done, see `checks.py`."""

    def check(self, arguments: Arguments) -> None:
        """Raises RefusedError."""
        ...


class Notes(Protocol):
    """Where it is written down, see `notes.py`."""

    def note(self, verb: str, name: str, outcome: Outcome, message: str = "") -> None: ...
    def close(self) -> None: ...


class HelperServer:
    """Serves one daemon with `driver` and `images`, which are None if the driver has none."""

    def __init__(self, driver: Driver, images: ManagedImages | None, checks: Gate, notes: Notes) -> None:
        self._checks = checks
        self._notes = notes
        self._acts = _Acts(driver, images)

    async def serve(self, connection: socket.socket) -> None:
        """Answers until the daemon leaves, or says what is no request. What is under way is cancelled then."""
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        serving = _Serving(writer, self._acts, self._checks, self._notes)
        try:
            await serving.read(reader)
        finally:
            await serving.end()
            self._notes.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Serving:
    """The requests of one connection. The first error of form ends it: who makes such is not our daemon any more."""

    def __init__(self, writer: asyncio.StreamWriter, acts: "_Acts", checks: Gate, notes: Notes) -> None:
        self._writer = writer
        self._acts = acts
        self._checks = checks
        self._notes = notes
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last_id = 0
        self._is_ending = False

    async def read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await read_frame(reader)) is not None:
                await self._take(message)
        except FrameError as error:
            self._notes.note(_NO_VERB, "", Outcome.REFUSED, f"no request: {error}")
            log.warning("helper.no_request", reason=str(error))
        except OSError as error:
            log.warning("helper.connection_lost", reason=str(error))

    async def end(self) -> None:
        self._is_ending = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, message: Mapping[str, Any]) -> None:
        """Raises FrameError for what is neither a request nor gives one up."""
        fields = set(message)
        if fields == {"cancel"}:
            self._cancel(message["cancel"])
            return
        if fields != {"id", "verb", "arguments"}:
            raise FrameError("it has not the fields of a request")
        call_id = message["id"]
        # True is an int, too.
        if type(call_id) is not int or call_id <= self._last_id:
            raise FrameError("its id is none that could come next")
        self._last_id = call_id
        if len(self._tasks) >= TASKS_LIMIT:
            error = TooManyError(f"the helper does {TASKS_LIMIT} things at once already", "try again")
            self._notes.note(_NO_VERB, "", Outcome.REFUSED, error.message)
            # Waits for the daemon to read it: else what it does not read would pile up.
            await self._write(_encode_error(call_id, error))
            return
        task = asyncio.create_task(self._answer(call_id, message["verb"], message["arguments"]))
        self._tasks[call_id] = task
        task.add_done_callback(lambda task: self._finish(call_id, task))

    def _cancel(self, call_id: object) -> None:
        if type(call_id) is not int or not 0 < call_id <= self._last_id:
            raise FrameError("it gives up what was never asked for")
        task = self._tasks.get(call_id)
        # Without one its answer is under way.
        if task is not None:
            task.cancel()

    async def _answer(self, call_id: int, verb: object, arguments: object) -> None:
        try:
            frame = encode_frame({"id": call_id, "result": await self._do(verb, arguments)})
        except HiveError as error:
            frame = _encode_error(call_id, error)
        except FrameError as error:
            frame = _encode_error(call_id, DriverError(f"the helper's answer cannot be sent: {error}"))
        except Exception as error:
            log.exception("helper.failed", verb=str(verb)[:80])
            frame = _encode_error(call_id, DriverError(f"the root helper failed: {error!r}", "see its log"))
        await self._write(frame)

    def _finish(self, call_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[call_id]
        # Here, as what is cancelled at once has not even begun. Who gave it up waits for that.
        if task.cancelled() and not self._is_ending:
            self._writer.write(_encode_error(call_id, DriverError("it was given up")))

    async def _write(self, frame: bytes) -> None:
        """Waits until most of it was read; a daemon that is gone is noticed elsewhere."""
        self._writer.write(frame)
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def _do(self, verb: object, given: object) -> Any:
        """What is to be answered. Raises what the driver raises, and RefusedError."""
        known, arguments = self._check(verb, given)
        name, detail = arguments.find_name(), arguments.render()
        try:
            result = render_result(known, await self._acts.run(known, arguments))
        except (Exception, asyncio.CancelledError) as error:
            self._notes.note(known, name, Outcome.FAILED, _join(detail, _explain(error)))
            raise
        self._notes.note(known, name, Outcome.OK, detail)
        return result

    def _check(self, verb: object, given: object) -> tuple[Verb, Arguments]:
        shown, name = _NO_VERB, ""
        try:
            known = parse_verb(verb)
            shown = known.value
            arguments = parse_arguments(known, given)
            name = arguments.find_name()
            self._checks.check(arguments)
        except Exception as error:
            outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.FAILED
            self._notes.note(shown, name, outcome, _explain(error))
            log.warning("helper.refused", verb=shown, message=_explain(error))
            raise
        return known, arguments


class _Acts:
    """What each verb does."""

    def __init__(self, driver: Driver, images: ManagedImages | None) -> None:
        self._driver = driver
        self._images = images
        self._evaluating = asyncio.Semaphore(EVALUATIONS_AT_ONCE)
        self._comparing = asyncio.Semaphore(COMPARISONS_AT_ONCE)
        self._acts: Mapping[Verb, _Act] = {
            Verb.PREPARE: _taking(NoArguments, self._prepare),
            Verb.BUILD: _taking(BuildArguments, lambda given: driver.build(given.packages)),
            Verb.CREATE: _taking(SpecArguments, lambda given: driver.create(given.to_spec())),
            Verb.OBSERVE: _taking(NameArguments, lambda given: driver.observe(given.name)),
            Verb.FIND_USAGE: _taking(NameArguments, lambda given: driver.find_usage(given.name)),
            Verb.START: _taking(SpecArguments, lambda given: driver.start(given.to_spec())),
            Verb.STOP: _taking(StopArguments, lambda given: driver.stop(given.name, given.timeout_s)),
            Verb.DESTROY: _taking(NameArguments, lambda given: driver.destroy(given.name)),
            Verb.EXEC: _taking(ExecArguments, self._exec),
            Verb.LOGS: _taking(LogsArguments, lambda given: driver.logs(given.name, given.offset, given.limit_bytes)),
            Verb.LOG_RANGE: _taking(NameArguments, lambda given: driver.log_range(given.name)),
            Verb.OBSERVE_IMAGES: _taking(ObserveImagesArguments, self._observe_images),
            Verb.COMPARE_IMAGE: _taking(ImageArguments, lambda given: self._get_images().compare(given.image_id)),
            Verb.REMOVE_IMAGE: _taking(ImageArguments, lambda given: self._get_images().remove(given.image_id)),
            Verb.REMOVE_UNUSED_IMAGES: _taking(
                RemoveUnusedArguments, lambda given: self._get_images().remove_unused(given.keep, given.unused_s)
            ),
            Verb.EVALUATE: _taking(SystemArguments, self._evaluate),
            Verb.LIST_PACKAGES: _taking(SystemArguments, self._list_packages),
            Verb.COMPARE_PACKAGES: _taking(ComparisonArguments, self._compare_packages),
            Verb.BUILD_SYSTEM: _taking(
                SystemArguments, lambda given: self._get_builder().build_system(given.name, given.files)
            ),
        }

    async def run(self, verb: Verb, arguments: Arguments) -> Any:
        return await self._acts[verb](arguments)

    async def _prepare(self, _: NoArguments) -> Prepared:
        await self._driver.prepare()
        return Prepared(dict(self._driver.unlimited), find_revision(self._driver))

    async def _exec(self, given: ExecArguments) -> tuple[int, bytes, bytes]:
        done = await self._driver.exec(given.name, tuple(given.command), given.timeout_s)
        return done.status, done.stdout[:PIECE_LIMIT_BYTES], done.stderr[:PIECE_LIMIT_BYTES]

    async def _observe_images(self, given: ObserveImagesArguments) -> Shelf:
        return await self._get_images().observe([tuple(packages) for packages in given.wanted])

    def _get_images(self) -> ManagedImages:
        if self._images is None:
            raise NotFoundError("there are no images", "this hive's driver has none")
        return self._images

    async def _evaluate(self, given: SystemArguments) -> bytes:
        async with self._evaluating:
            return await self._get_builder().evaluate(given.name, given.files)

    async def _list_packages(self, given: SystemArguments) -> list[Package]:
        async with self._evaluating:
            return await self._get_builder().list_packages(given.name, given.files)

    async def _compare_packages(self, given: ComparisonArguments) -> SizeDifference:
        async with self._comparing:
            return await self._get_builder().compare_packages(given.before, given.after)

    def _get_builder(self) -> BuildsSystems:
        if not isinstance(self._driver, BuildsSystems):
            raise NotFoundError("there are no systems to build", "this hive's driver builds none")
        return self._driver


def _taking(model: type[GivenT], act: Callable[[GivenT], Awaitable[Any]]) -> _Act:
    """`act` for arguments of any kind. They are of the verb's own, as `verbs.ARGUMENTS` says."""

    def run(arguments: Arguments) -> Awaitable[Any]:
        if not isinstance(arguments, model):
            raise TypeError(f"{type(arguments).__name__} are not the arguments of this verb")
        return act(arguments)

    return run


def _encode_error(call_id: int, error: HiveError) -> bytes:
    """Cut, and without what JSON cannot say: an error can always be told."""
    told = {key: text.encode("utf-8", "replace").decode()[:_ERROR_LIMIT_CHARS] for key, text in error.to_dict().items()}
    return encode_frame({"id": call_id, "error": told})


def _explain(error: BaseException) -> str:
    """For the audit: of what is no refusal and no failure that was foreseen the kind alone."""
    if isinstance(error, asyncio.CancelledError):
        return "given up"
    return error.message if isinstance(error, HiveError) else type(error).__name__


def _join(*parts: str) -> str:
    return ": ".join(part for part in parts if part)
