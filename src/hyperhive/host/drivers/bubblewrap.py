"""The bubblewrap driver: containers on any Linux, as root or not, without a daemon of their own.

A container is a chain of processes: a `setsid` that only waits, as root a bubblewrap that prepares files, the
bubblewrap that watches, the first process of the pid namespace, the command. That first process dies with the one
that watches, which ends with the command; and the kernel ends all of a pid namespace with its first process. None of
them is the daemon's child.

What must be known of a container is in its folder `<containers>/<name>/`: `container.json` (our record), `report`
(bubblewrap's), `log`, and the `etc` that it sees. A restarted daemon reads it all from there.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hyperhive.host.drivers import enter
from hyperhive.host.drivers.container_log import ContainerLog
from hyperhive.host.drivers.kill_watch import KillWatch
from hyperhive.host.drivers.packages import observe_packages
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, DriverError, ExitCause, Observation
from hyperhive.host.drivers.sandbox import ACCOUNT_FILES, Sandbox, check_mounts, observe_machine, plan_sandbox
from hyperhive.host.drivers.seccomp import render_filter
from hyperhive.host.drivers.userns import explain_refusal
from hyperhive.system.clock import now
from hyperhive.system.files import write_atomically
from hyperhive.system.pids import (
    ProcessId,
    find_parent,
    find_process,
    find_program_name,
    is_alive,
    list_children,
    load_boot_id,
    send_signal,
    wait_gone,
)
from hyperhive.system.process import Completed, ProcessError, run, start_detached

# Making namespaces takes some milliseconds; a machine under load more.
START_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 10.0
DESTROY_TIMEOUT_S = 5.0
# What watches a container reports its end within a millisecond; a machine under load lets it wait.
REPORT_TIMEOUT_S = 1.0
# The first with --disable-userns.
_OLDEST_VERSION = (0, 8)
_POLL_S = 0.002
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
# bubblewrap and what it starts get nothing of the daemon's environment: it may hold a key.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_PROGRAMS = {"bwrap": "bubblewrap", "setsid": "util-linux", "setpriv": "util-linux"}
# What watches a container from outside, by the names that the kernel gives.
_WATCHERS = frozenset({"bwrap", "setsid"})
_KILLED = 128 + signal.SIGKILL
_EXPLAINED = {
    ExitCause.OUT_OF_MEMORY: "the kernel killed it: out of memory",
    ExitCause.MACHINE: "the machine was started anew",
}
# Whom the trial at the start runs as, where any user but root will do.
_TRIAL_UID = 65534


@dataclass(frozen=True, slots=True)
class _Record:
    """What `container.json` holds. `init` is the first process of the container's pid namespace.

    `started_at` is set before the launch and `init` after it: a daemon that ended in between left only the former.
    """

    environment: dict[str, str]
    working_folder: str
    uid: int | None
    init: ProcessId | None = None
    boot_id: str = ""
    started_at: str | None = None
    stop_asked: bool = False


class BubblewrapDriver:
    """Keeps the contract of `protocol.Driver`. `folder` is the driver's own; no agent can reach it.

    As root every spec needs a uid. A container's commands see PWD beside the environment of the spec.
    What `exec` runs gets that environment, too; of what it leaves in the background at its deadline, only its
    own process group is ended before the container is.
    """

    name = "bubblewrap"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_root = os.geteuid() == 0
        self._boot_id = load_boot_id()
        self._kills = KillWatch()

    async def prepare(self) -> None:
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=_ENVIRONMENT["PATH"]) is None:
                raise DriverError(f"{program} is not installed", f"apt-get install {package}")
        version = await _run(["bwrap", "--version"], 10)
        if _parse_version(version.stdout) < _OLDEST_VERSION:
            text = version.stdout.decode("utf-8", "replace").strip()
            raise DriverError(f"{text} is too old", "install bubblewrap 0.8 or later")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DriverError(f"the driver's folder cannot be made: {error}", "") from error
        await self._try_sandbox()

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        # Containers see the host's own /usr: there is nothing to make.
        return await observe_packages(packages, _ENVIRONMENT)

    async def create(self, spec: ContainerSpec) -> None:
        folder = self._container(spec.name)
        self._check_uid(spec)
        fresh = _Record(dict(spec.environment), str(spec.working_folder), spec.uid)
        record = self._load(spec.name)
        if record is not None:
            changed = {"environment": fresh.environment, "working_folder": fresh.working_folder, "uid": fresh.uid}
            fresh = replace(record, **changed)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_accounts(folder / "etc")
            self._save(spec.name, fresh)
        except OSError as error:
            raise DriverError(f"the container's folder cannot be written: {error}", "is the disk full?") from error

    async def observe(self, name: str) -> Observation:
        seen = self._look(name)
        if seen.cause is ExitCause.UNKNOWN and await self._wait_reported(name):
            return self._look(name)
        return seen

    def _look(self, name: str) -> Observation:
        try:
            record = self._load(name)
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)
        if record is None:
            return Observation(ContainerState.ABSENT)
        if record.started_at is None:
            return Observation(ContainerState.STOPPED)
        started_at = datetime.fromisoformat(record.started_at)
        # Whoever watches containers bounds their logs by that: nobody else may look for days.
        with contextlib.suppress(OSError):
            self._log(name).shorten()
        # Looked at before the report is: what has ended by then has reported.
        init = self._find_init(name, record)
        code = self._read_report(name).get("exit-code")
        if init is not None:
            if code is None:
                self._kills.look(name, init.pid)
            reason = "" if code is None else f"{_explain_end(code)}, other processes are left"
            return Observation(ContainerState.RUNNING, init.pid, started_at, code, reason)
        state = ContainerState.STOPPED if record.stop_asked else ContainerState.EXITED
        cause = self._find_cause(name, record, code)
        reason = _EXPLAINED.get(cause) or _explain_end(code)
        return Observation(state, started_at=started_at, exit_code=code, reason=reason, cause=cause)

    async def start(self, spec: ContainerSpec) -> None:
        record = self._load(spec.name)
        if record is None:
            raise DriverError(f"the container {spec.name} was not created", "create it first")
        self._check_uid(spec)
        check_mounts(spec.mounts)
        seen = await self.observe(spec.name)
        if seen.state is ContainerState.RUNNING and seen.exit_code is None:
            return
        # What an agent has kept alive of the last one must not meet the next.
        await self._end(spec.name, record, 0)
        launched = replace(record, init=None, started_at=now().isoformat(), boot_id=self._boot_id, stop_asked=False)
        try:
            self._save(spec.name, launched)
            self._kills.forget(spec.name)
            init = await self._launch(spec)
            self._kills.look(spec.name, init.pid)
            self._save(spec.name, replace(launched, init=init))
        except (DriverError, ProcessError, OSError) as error:
            await self._end(spec.name, launched, 0)
            self._save(spec.name, replace(launched, started_at=None))
            if isinstance(error, DriverError):
                raise
            raise DriverError(f"{spec.name} cannot be started: {error}", "see `hive doctor`") from error

    async def stop(self, name: str, timeout_s: float) -> None:
        record = self._load(name)
        if record is None or record.started_at is None:
            return
        try:
            self._save(name, replace(record, stop_asked=True))
        finally:
            # Also when the disk is full.
            await self._end(name, record, timeout_s)

    async def destroy(self, name: str) -> None:
        try:
            await self.stop(name, DESTROY_TIMEOUT_S)
        except DriverError:
            # Without a record that can be read, bubblewrap's report still says what to end.
            await self._end(name, _Record({}, "/", None, None, self._boot_id, now().isoformat()), DESTROY_TIMEOUT_S)
        self._kills.forget(name)
        try:
            shutil.rmtree(self._container(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DriverError(f"the folder of {name} cannot be removed: {error}", "") from error

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        record = self._load(name)
        init = self._find_init(name, record) if record is not None else None
        if record is None or init is None:
            raise DriverError(f"{name} does not run", "start it first")
        uid = os.geteuid() if record.uid is None else record.uid
        program = [sys.executable, "-I", "-S", enter.__file__]
        place = [str(init.pid), str(uid), str(self._container(name) / "container.json"), _render_filter().hex()]
        done = await _run([*program, *place, "--", *command], timeout_s)
        if done.status == enter.CANNOT_ENTER and done.stderr.startswith(enter.COMPLAINT.encode()):
            raise DriverError(f"{name} cannot be entered: {done.error_text}", "it may just have ended")
        return done

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        try:
            return self._log(name).read(offset, limit_bytes)
        except OSError as error:
            raise DriverError(f"the log of {name} cannot be read: {error}", "") from error

    async def log_range(self, name: str) -> tuple[int, int]:
        try:
            return self._log(name).range()
        except OSError as error:
            raise DriverError(f"the log of {name} cannot be read: {error}", "") from error

    # -- starting ------------------------------------------------------------------------------------------

    async def _launch(self, spec: ContainerSpec) -> ProcessId:
        """Starts the container and returns its first process once the command was executed.

        Raises DriverError, ProcessError or OSError; something may then be left of it.
        """
        folder, log = self._container(spec.name), self._log(spec.name)
        log.shorten()
        said_before = log.size_bytes()
        with contextlib.ExitStack() as handles:
            ended, alive = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            _keep(handles, ended)
            with contextlib.ExitStack() as given:
                _keep(given, alive)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                report = _keep(given, os.open(folder / "report", flags, 0o600))
                sandbox = plan_sandbox(
                    spec,
                    observe_machine(),
                    folder / "etc",
                    status_fd=report,
                    alive_fd=alive,
                    as_root=self._as_root,
                )
                documents, argv = _render_argv(sandbox, spec.uid, spec.command, given)
                output = _keep(given, log.open_for_writing(spec.uid))
                passed = (report, alive, *documents)
                await start_detached(argv, output=output, pass_fds=passed, env=_ENVIRONMENT)
            return await self._wait_executed(spec.name, ended, said_before)

    async def _wait_executed(self, name: str, ended: int, said_before: int) -> ProcessId:
        """Waits until the command itself runs, or has run: it is the first child of the first process.

        `ended` is readable once no process of the container is left.
        """
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(ended, over.set)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    # The order matters: what is over has reported all.
                    is_over = over.is_set()
                    report = self._read_report(name)
                    init = self._find_reported(report)
                    if init is not None and _find_command(init) is not None:
                        return init
                    if "exit-code" in report and is_over:
                        # It ran and ended at once: a start, too, and observed as exited.
                        return ProcessId(report["child-pid"], 0)
                    if is_over:
                        raise DriverError(f"{name} cannot be started: {self._log(name).last_line(said_before)}")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), _POLL_S)
        except TimeoutError as error:
            raise DriverError(f"{name} did not start within {START_TIMEOUT_S:g} s", "see its log") from error
        finally:
            loop.remove_reader(ended)

    def _check_uid(self, spec: ContainerSpec) -> None:
        if self._as_root and not spec.uid:
            raise DriverError(f"{spec.name} has no uid of its own", "as root every container needs one but 0")
        if not self._as_root and spec.uid not in {None, os.geteuid()}:
            raise DriverError(f"{spec.name} cannot run as uid {spec.uid}", "only root can use another uid")

    async def _try_sandbox(self) -> None:
        """Runs `true` in a sandbox as it will be. Raises DriverError with what mends the machine."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, contextlib.ExitStack() as handles:
            _write_accounts(Path(folder) / "etc")
            uid = _TRIAL_UID if self._as_root else None
            trial = ContainerSpec("trial", ("true",), _ENVIRONMENT, uid=uid, working_folder=Path("/"))
            null = _keep(handles, os.open("/dev/null", os.O_RDWR))
            sandbox = plan_sandbox(
                trial,
                observe_machine(),
                Path(folder) / "etc",
                status_fd=null,
                alive_fd=null,
                as_root=self._as_root,
            )
            documents, argv = _render_argv(sandbox, uid, trial.command, handles)
            try:
                done = await run(argv, timeout_s=30, env=_ENVIRONMENT, pass_fds=(null, *documents))
            except ProcessError as error:
                raise DriverError(str(error)) from error
        if not done.ok:
            raise DriverError(f"bubblewrap cannot make a sandbox: {done.error_text}", explain_refusal())

    # -- ending --------------------------------------------------------------------------------------------

    async def _end(self, name: str, record: _Record, timeout_s: float) -> None:
        """TERM to the command, after `timeout_s` KILL to all; returns when no process of the container is left."""
        init = self._find_init(name, record)
        if init is None:
            return
        watchers = _list_watchers(init)
        command = _find_command(init)
        if command is not None and timeout_s > 0:
            send_signal(command, signal.SIGTERM)
            await wait_gone(init, timeout_s)
        # The first process of a pid namespace takes all others with it, and is gone when they are.
        send_signal(init, signal.SIGKILL)
        if not await wait_gone(init, KILL_TIMEOUT_S):
            raise DriverError(f"{name} cannot be killed", "a process of it hangs in the kernel: see `ps`")
        for watcher in watchers:
            if not await wait_gone(watcher, KILL_TIMEOUT_S):
                send_signal(watcher, signal.SIGKILL)

    # -- what is known -------------------------------------------------------------------------------------

    def _find_init(self, name: str, record: _Record) -> ProcessId | None:
        """The first process of the container, if it lives: also one that an earlier daemon only just launched."""
        if record.started_at is None or record.boot_id != self._boot_id:
            return None
        if record.init is not None:
            return record.init if is_alive(record.init) else None
        return self._find_reported(self._read_report(name))

    def _find_cause(self, name: str, record: _Record, code: int | None) -> ExitCause:
        """Why a container ended that did. `code` is None when what would have reported it was killed."""
        if record.stop_asked:
            return ExitCause.ASKED
        if record.boot_id != self._boot_id:
            return ExitCause.MACHINE
        if code in {None, _KILLED} and self._kills.is_killed(name):
            return ExitCause.OUT_OF_MEMORY
        if code is None:
            return ExitCause.UNKNOWN
        # What its command returned may look like that, too: sh tells of its last child in the same way.
        return ExitCause.SIGNAL if _find_signal(code) else ExitCause.EXITED

    async def _wait_reported(self, name: str) -> bool:
        """Gives what watches a container that just ended the time to say how. False if nobody is left who could."""
        record = self._load(name)
        # Until it is gone for good, its end was not taken note of.
        watcher = find_parent(record.init.pid) if record is not None and record.init is not None else None
        if watcher is None or find_program_name(watcher.pid) not in _WATCHERS:
            return False
        await wait_gone(watcher, REPORT_TIMEOUT_S)
        return True

    def _find_reported(self, report: dict[str, Any]) -> ProcessId | None:
        """The process that bubblewrap reported, if it is that one: the number alone may be another's by now."""
        pid, namespace = report.get("child-pid"), report.get("pid-namespace")
        process = find_process(pid) if isinstance(pid, int) else None
        try:
            same = process is not None and str(Path(f"/proc/{pid}/ns/pid").readlink()) == f"pid:[{namespace}]"
        except OSError:
            return None
        return process if same else None

    def _read_report(self, name: str) -> dict[str, Any]:
        """What bubblewrap reported so far: objects, one after another, merged. No agent can write this file."""
        try:
            text = (self._container(name) / "report").read_text()
        except FileNotFoundError:
            return {}
        report: dict[str, Any] = {}
        for line in text.splitlines():
            # The last line may be half written.
            with contextlib.suppress(ValueError):
                report |= json.loads(line)
        return report

    def _log(self, name: str) -> ContainerLog:
        return ContainerLog(self._container(name) / "log")

    def _container(self, name: str) -> Path:
        """The container's folder. Checked again here: what follows removes and writes below it."""
        if not _NAME.fullmatch(name):
            raise DriverError(f"{name[:80]!r} is not a container's name")
        return self._folder / name

    def _load(self, name: str) -> _Record | None:
        try:
            data = json.loads((self._container(name) / "container.json").read_bytes())
            data["init"] = ProcessId(**data["init"]) if data["init"] else None
            return _Record(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DriverError(
                f"the record of {name} cannot be read: {error!r}", "destroy it and make it anew"
            ) from error

    def _save(self, name: str, record: _Record) -> None:
        path = self._container(name) / "container.json"
        try:
            write_atomically(path, json.dumps(asdict(record)).encode(), 0o600)
        except OSError as error:
            raise DriverError(f"the record of {name} cannot be written: {error}", "is the disk full?") from error


def _render_argv(
    sandbox: Sandbox, uid: int | None, command: Sequence[str], handles: contextlib.ExitStack
) -> tuple[list[int], list[str]]:
    """The handles to pass on, and the argv. What the sandbox is made of is in the former: anyone can read an argv."""
    denied = _keep(handles, _make_document(_render_filter()))
    isolated = _render_document(("--seccomp", str(denied), *sandbox.arguments))
    inner = _keep(handles, _make_document(isolated))
    argv = ["bwrap", "--args", str(inner), "--", *command]
    if sandbox.prepare is None:
        return [denied, inner], argv
    outer = _keep(handles, _make_document(_render_document(sandbox.prepare)))
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
    return [denied, inner, outer], ["bwrap", "--args", str(outer), "--", *drop, *argv]


def _render_filter() -> bytes:
    return render_filter(os.uname().machine)


def _render_document(arguments: Sequence[str]) -> bytes:
    """Arguments as bubblewrap reads them from a file."""
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def _make_document(content: bytes) -> int:
    """A file in memory, to be read from its beginning. Raises OSError."""
    handle = os.memfd_create("document")
    with os.fdopen(os.dup(handle), "wb") as file:
        file.write(content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _keep(handles: contextlib.ExitStack, handle: int) -> int:
    """Has `handle` closed with `handles`."""
    handles.callback(os.close, handle)
    return handle


def _write_accounts(folder: Path) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, content in ACCOUNT_FILES.items():
        write_atomically(folder / name, content.encode(), 0o644)


def _find_command(init: ProcessId) -> ProcessId | None:
    """The command of a container; None before it is executed. It is the first child of the first process."""
    for child in list_children(init.pid)[:1]:
        process = find_process(child)
        if process is not None and find_program_name(child) not in {"bwrap", None}:
            return process
    return None


def _list_watchers(init: ProcessId) -> list[ProcessId]:
    """The processes that watch a container from outside, the innermost first."""
    watchers: list[ProcessId] = []
    process = find_parent(init.pid)
    while process is not None and find_program_name(process.pid) in _WATCHERS:
        watchers.append(process)
        process = find_parent(process.pid)
    return watchers


async def _run(argv: Sequence[str], timeout_s: float) -> Completed:
    try:
        return await run(argv, timeout_s=timeout_s, env=_ENVIRONMENT, cwd=Path("/"))
    except ProcessError as error:
        raise DriverError(str(error)) from error


def _parse_version(text: bytes) -> tuple[int, ...]:
    """The numbers in `bubblewrap 0.8.0`; (0,) if there are none."""
    found = re.search(rb"(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _explain_end(code: int | None) -> str:
    if code is None:
        return "it was killed from outside"
    name = _find_signal(code)
    return f"its command was ended by {name}" if name else f"its command ended with status {code}"


def _find_signal(code: int) -> str:
    """The signal that an exit status tells of, as shells and bubblewrap write it; empty if it tells of none."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return signal.Signals(code - 128).name
    return ""
