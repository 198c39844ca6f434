"""The daemon below its API in a process of its own, made by a fork: started in no time, and killed for real.

An effect is a call through one of the doors: a program that is run, a file or folder that is moved into place, a
transaction, an act of the driver. Each is a step twice: just before it, and just after. At a step of choice the process
kills itself with SIGKILL: nothing is cleaned up, whatever git it has begun goes on.
"""

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from file_containers import FileDriver
from hyperhive.core.errors import HiveError
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.host import folders
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.configs import configs, repository
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.parts import Parts, Work, build_parts
from hyperhive.host.store.rows import Desired, to_agent
from hyperhive.host.store.store import Transaction
from hyperhive.system import git, sqlite
from hyperhive.system.log import configure_log

SETTLE_TIMEOUT_S = 30.0
# In a forked process nothing is quick when the machine is busy; only the mute ones wait that long.
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 90.0


class LostError(Exception):
    """The daemon died."""


class RefusedError(Exception):
    """The daemon refused a request; `code` is the HiveError's."""

    @property
    def code(self) -> str:
        return str(self.args[0])


# -- in the test's process -----------------------------------------------------------------------------------


class ForkedDaemon:
    """Requests name a method of a part, such as `approvals.approve`, or one of `Served`."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.log = roots.data / "log"
        self._numbers = itertools.count(1)
        self._process: BaseProcess | None = None
        self._connection: Connection
        self._waiting: dict[int, Callable[[Any], None]] = {}

    def start(self, crash_at: int = 0) -> None:
        """Starts it, to die at its step `crash_at` (0: never)."""
        self.kill()
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_serve_and_exit, args=(theirs, ours, self.roots, self.log, crash_at)
        )
        process.start()
        theirs.close()
        self._process, self._connection = process, ours

    def kill(self) -> None:
        """Kills it, if it runs. What was asked and not answered is never answered."""
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._process = None
        self._waiting.clear()

    def ask(self, method: str, *arguments: Any) -> Any:
        """The answer. Raises RefusedError, or LostError if the daemon died before it came."""
        answers: list[Any] = []
        self.send(answers.append, method, *arguments)
        while not answers:
            self._receive()
        if isinstance(answers[0], RefusedError):
            raise answers[0]
        return answers[0]

    def send(self, then: Callable[[Any], None], method: str, *arguments: Any) -> None:
        """Asks without waiting: `then` is called with the answer or a RefusedError, during a later call."""
        number = next(self._numbers)
        self._waiting[number] = then
        try:
            self._connection.send((number, method, arguments))
        except OSError as error:
            raise LostError from error

    def collect(self) -> None:
        """Waits for all answers that are due."""
        while self._waiting:
            self._receive()

    def _receive(self) -> None:
        try:
            assert self._connection.poll(ANSWER_TIMEOUT_S), f"no answer\n{self.log.read_text()[-5000:]}"
            number, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise LostError from error
        then = self._waiting.pop(number)
        assert not isinstance(answer, str), answer
        then(answer)


# -- in the daemon's -----------------------------------------------------------------------------------------


class Doors:
    """Counts steps, and kills the process at one of them."""

    def __init__(self, crash_at: int) -> None:
        self._left = crash_at
        self.commit_delay_s = 0.0
        self._lock = threading.Lock()

    def arm(self, crash_at: int) -> None:
        self._left = crash_at

    def step(self, what: str) -> None:
        with self._lock:
            self._left -= 1
            print(f"step {what}", file=sys.stderr)
            if self._left == 0:
                print("is killed", file=sys.stderr)
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Makes all doors tell their steps. For good: the process has no other purpose."""
        git.run = folders.run = self._watched_run(git.run)
        repository.move_beneath = self._watched(repository.move_beneath)
        repository.write_folder = self._watched(repository.write_folder)
        configs.write_atomically = self._watched(configs.write_atomically)
        commit = sqlite.Writer._commit  # pyright: ignore[reportPrivateUsage]
        sqlite.Writer._commit = self._watched(self._slowed(commit))  # pyright: ignore[reportPrivateUsage]

    def _slowed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def commit(*arguments: Any) -> Any:
            time.sleep(self.commit_delay_s)
            return function(*arguments)

        return commit

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.step(f"before {function.__name__}")
            done = function(*arguments, **options)
            self.step(f"after {function.__name__}")
            return done

        return call

    def _watched_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        async def call(argv: Sequence[str], **options: Any) -> Any:
            what = " ".join(argv)[-100:]
            self.step(f"before {what}")
            done = await run(argv, **options)
            self.step(f"after {what}")
            return done

        return call


class Served:
    """What the test asks of the daemon besides its parts' methods."""

    def __init__(self, parts: Parts, driver: FileDriver, doors: Doors) -> None:
        self._parts = parts
        self._driver = driver
        self._doors = doors

    async def arm(self, crash_at: int) -> None:
        self._doors.arm(crash_at)

    async def slow_disk(self, delay_s: float) -> None:
        """From now on each transaction takes longer: who only reads overtakes who writes."""
        self._doors.commit_delay_s = delay_s

    async def crash_container(self, agent: str) -> None:
        await self._driver.crash(container_name(agent))

    async def race(self, approval: int, decisions: Sequence[str]) -> list[str]:
        """Decides one approval in several ways at once. Returns what came of each: `done`, or the refusal's code."""
        approvals = self._parts.approvals

        async def decide(decision: str) -> str:
            try:
                await (approvals.approve(approval) if decision == "approve" else approvals.deny(approval, "raced"))
            except HiveError as error:
                return error.code
            return "done"

        return await asyncio.gather(*(decide(decision) for decision in decisions))

    async def settle(self) -> list[str]:
        """Waits until nothing is at work. Returns what still is after a while: that is never to be."""
        # Its timer's work, now.
        await self._parts.approvals.fail_orphans()
        end = time.monotonic() + SETTLE_TIMEOUT_S
        quiet = 0
        restless: list[str] = []
        while quiet < 2 and time.monotonic() < end:
            # The worker takes the sign away when it begins a round: whatever it did before is done then.
            worker: Any = self._parts.applies
            worker.wake()
            while worker._woken.is_set() and time.monotonic() < end:
                await asyncio.sleep(0.002)
            restless = await self._list_restless()
            quiet = 0 if restless else quiet + 1
            if restless:
                await asyncio.sleep(0.005)
        return restless

    async def _list_restless(self) -> list[str]:
        at_work_behind = self._parts.background.count()
        at_work, untagged, records = await self._parts.store.read(
            lambda view: (
                view.list("list_approvals_at_work"),
                [row for row in view.list("list_approvals", status=None) if row["tagged"] != row["status"]],
                [to_agent(row) for row in view.list("list_agents")],
            )
        )
        restless = [f"approval {row['id']} is {row['status']}" for row in at_work]
        restless += [f"approval {row['id']} is not tagged" for row in untagged]
        restless += [f"{at_work_behind} things are done in the background" for _ in range(bool(at_work_behind))]
        for record in records:
            seen = (await self._driver.observe(container_name(record.name))).state
            wanted = record.desired is Desired.RUNNING and not record.failure
            if wanted != (seen is ContainerState.RUNNING):
                restless.append(f"{record.name} is {seen}, and should be {record.desired} {record.failure!r}")
            if wanted and not self._is_connected(record.name):
                restless.append(f"the harness of {record.name} is not connected")
        return restless

    def _is_connected(self, agent: str) -> bool:
        with contextlib.suppress(HiveError):
            return self._parts.links.get_connection(agent).caller is not None
        return False


def _serve_and_exit(connection: Connection, other_end: Connection, roots: Roots, log: Path, crash_at: int) -> None:
    other_end.close()
    sys.stderr = log.open("a", buffering=1)
    logging.getLogger().handlers.clear()
    configure_log()
    doors = Doors(crash_at)
    doors.watch()
    try:
        asyncio.run(_serve(connection, roots, doors))
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        raise
    finally:
        # Neither the test's own exit handlers nor the rest of the test are to be run here.
        os._exit(0)


def _retry_soon(failures: int) -> float:
    return 0.01


async def _serve(connection: Connection, roots: Roots, doors: Doors) -> None:
    driver = FileDriver(roots.containers_folder, doors.step)
    await driver.prepare()
    async with contextlib.AsyncExitStack() as stack:
        parts = build_parts(roots, driver, HarnessSettings("none", 60.0), "http://localhost:9", None, stack)
        pace = parts.lifecycle.pace
        pace.connect_timeout_s, pace.look_every_s, pace.retry_s = CONNECT_TIMEOUT_S, 0.02, _retry_soon
        await parts.prepare()
        await parts.store.write(lambda tx: _ensure_manager(tx, parts.agents.first_uid))
        await parts.reconcile()
        works = [asyncio.create_task(_keep_running(work)) for work in parts.list_works()]
        parts.feed.listen(lambda event: print(f"event {event.name} {event.agent} {event.body}"[:200], file=sys.stderr))
        served = Served(parts, driver, doors)
        answers: set[asyncio.Task[None]] = set()
        ended = asyncio.Event()

        def receive() -> None:
            try:
                number, method, arguments = connection.recv()
            except EOFError:
                ended.set()
                return
            task = asyncio.create_task(_answer(connection, number, _find(parts, served, method), arguments))
            answers.add(task)
            task.add_done_callback(answers.discard)

        asyncio.get_running_loop().add_reader(connection.fileno(), receive)
        await ended.wait()
        for work in works:
            work.cancel()


def _find(parts: Parts, served: Served, method: str) -> Callable[..., Any]:
    part, _, name = method.rpartition(".")
    return getattr(getattr(parts, part) if part else served, name)


async def _answer(connection: Connection, number: int, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    answer: Any
    print(f"request {number}: {function.__name__} {str(arguments)[:200]}", file=sys.stderr)
    try:
        answer = await function(*arguments)
    except HiveError as error:
        answer = RefusedError(error.code, error.message)
    except Exception:  # noqa: BLE001 - it is told to the test, which fails by it
        answer = traceback.format_exc()
    print(f"answer {number}: {str(answer)[:200]}", file=sys.stderr)
    connection.send((number, answer))


def _ensure_manager(tx: Transaction, first_uid: int | None) -> None:
    if tx.find("get_agent", name=MANAGER) is None:
        insert_agent(tx, MANAGER, first_uid)


async def _keep_running(work: Work) -> None:
    """As the daemon does, but at once."""
    while True:
        try:
            await work()
        except HiveError as error:
            print(f"{work.__qualname__}: {error.message}", file=sys.stderr)
        except Exception:
            logging.getLogger().exception("%s failed", work.__qualname__)
        await asyncio.sleep(0.01)
