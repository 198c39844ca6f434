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
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperhive.host.drivers.bubblewrap_argv import keep, render_argv
from hyperhive.host.drivers.detached import ENVIRONMENT, DetachedDriver, find_programs, run_program
from hyperhive.host.drivers.packages import observe_packages
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError
from hyperhive.host.drivers.records import Record
from hyperhive.host.drivers.sandbox import ACCOUNT_FILES, observe_machine, plan_sandbox
from hyperhive.host.drivers.userns import explain_refusal
from hyperhive.system.cgroups import Group
from hyperhive.system.files import write_atomically
from hyperhive.system.pids import ProcessId, find_parent, find_process, find_program_name, list_children
from hyperhive.system.process import ProcessError, run, start_detached

# Making namespaces takes some milliseconds; a machine under load more.
START_TIMEOUT_S = 20.0
# The first with --disable-userns.
_OLDEST_VERSION = (0, 8)
_POLL_S = 0.002
_PROGRAMS = {"bwrap": "bubblewrap", "setsid": "util-linux", "setpriv": "util-linux"}
# What watches a container from outside, by the names that the kernel gives.
_WATCHERS = frozenset({"bwrap", "setsid"})
# Whom the trial at the start runs as, where any user but root will do.
_TRIAL_UID = 65534


class BubblewrapDriver(DetachedDriver):
    """Keeps the contract of `protocol.Driver`. As root every spec needs a uid."""

    name = "bubblewrap"

    async def prepare(self) -> None:
        find_programs(_PROGRAMS)
        version = await run_program(["bwrap", "--version"], 10)
        if _parse_version(version.stdout) < _OLDEST_VERSION:
            text = version.stdout.decode("utf-8", "replace").strip()
            raise DriverError(f"{text} is too old", "install bubblewrap 0.8 or later")
        await self._open()
        await self._try_sandbox()

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        # Containers see the host's own /usr: there is nothing to make.
        return await observe_packages(packages, ENVIRONMENT)

    # -- starting ------------------------------------------------------------------------------------------

    def _check_uid(self, spec: ContainerSpec) -> None:
        if self._as_root and not spec.uid:
            raise DriverError(f"{spec.name} has no uid of its own", "as root every container needs one but 0")
        if not self._as_root and spec.uid not in {None, os.geteuid()}:
            raise DriverError(f"{spec.name} cannot run as uid {spec.uid}", "only root can use another uid")

    def _fill_place(self, place: Path) -> None:
        _write_accounts(place / "etc")

    async def _launch(self, spec: ContainerSpec, group: Group) -> ProcessId:
        folder, log = self._records.container(spec.name), self._records.log(spec.name)
        await asyncio.to_thread(log.shorten)
        said_before = log.size_bytes()
        with contextlib.ExitStack() as handles:
            ended, alive = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            keep(handles, ended)
            with contextlib.ExitStack() as given:
                keep(given, alive)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                report = keep(given, os.open(folder / "report", flags, 0o600))
                sandbox = plan_sandbox(
                    spec,
                    observe_machine(),
                    folder / "etc",
                    status_fd=report,
                    alive_fd=alive,
                    as_root=self._as_root,
                )
                documents, argv = render_argv(sandbox, spec.uid, spec.command, given)
                # Opened twice, see there.
                output, errors = (keep(given, log.open_for_writing(spec.uid)) for _ in range(2))
                passed = (report, alive, *documents)
                await start_detached(group.wrap(argv), output=output, errors=errors, pass_fds=passed, env=ENVIRONMENT)
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
                    report = self._records.read_report(name)
                    init = self._find_reported_init(report)
                    if init is not None and self._find_command(init, report) is not None:
                        return init
                    if "exit-code" in report and is_over:
                        # It ran and ended at once: a start, too, and observed as exited.
                        return ProcessId(report["child-pid"], 0)
                    if is_over:
                        raise DriverError(f"{name} cannot be started: {self._records.log(name).last_line(said_before)}")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), _POLL_S)
        except TimeoutError as error:
            raise DriverError(f"{name} did not start within {START_TIMEOUT_S:g} s", "see its log") from error
        finally:
            loop.remove_reader(ended)

    async def _try_sandbox(self) -> None:
        """Runs `true` in a sandbox as it will be. Raises DriverError with what mends the machine."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, contextlib.ExitStack() as handles:
            _write_accounts(Path(folder) / "etc")
            uid = _TRIAL_UID if self._as_root else None
            trial = ContainerSpec("trial", ("true",), ENVIRONMENT, uid=uid, working_folder=Path("/"))
            null = keep(handles, os.open("/dev/null", os.O_RDWR))
            sandbox = plan_sandbox(
                trial,
                observe_machine(),
                Path(folder) / "etc",
                status_fd=null,
                alive_fd=null,
                as_root=self._as_root,
            )
            documents, argv = render_argv(sandbox, uid, trial.command, handles)
            try:
                done = await run(argv, timeout_s=30, env=ENVIRONMENT, pass_fds=(null, *documents))
            except ProcessError as error:
                raise DriverError(str(error)) from error
        if not done.ok:
            raise DriverError(f"bubblewrap cannot make a sandbox: {done.error_text}", explain_refusal())

    # -- what is known -------------------------------------------------------------------------------------

    def _find_reported_init(self, report: Mapping[str, Any]) -> ProcessId | None:
        # If it is that one: the number alone may be another's by now.
        pid, namespace = report.get("child-pid"), report.get("pid-namespace")
        process = find_process(pid) if isinstance(pid, int) else None
        try:
            same = process is not None and str(Path(f"/proc/{pid}/ns/pid").readlink()) == f"pid:[{namespace}]"
        except OSError:
            return None
        return process if same else None

    def _find_command(self, init: ProcessId, report: Mapping[str, Any]) -> ProcessId | None:
        # It is the first child of the first process; before it is executed, that is bubblewrap still.
        for child in list_children(init.pid)[:1]:
            process = find_process(child)
            if process is not None and find_program_name(child) not in {"bwrap", None}:
                return process
        return None

    def _list_watchers(self, init: ProcessId, report: Mapping[str, Any]) -> list[ProcessId]:
        watchers: list[ProcessId] = []
        process = find_parent(init.pid)
        while process is not None and find_program_name(process.pid) in _WATCHERS:
            watchers.append(process)
            process = find_parent(process.pid)
        return watchers

    def _find_reporter(self, record: Record, report: Mapping[str, Any]) -> ProcessId | None:
        # Until the first process is gone for good, its end was not taken note of.
        watcher = find_parent(record.init.pid) if record.init is not None else None
        return watcher if watcher is not None and find_program_name(watcher.pid) in _WATCHERS else None


def _write_accounts(folder: Path) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, content in ACCOUNT_FILES.items():
        write_atomically(folder / name, content.encode(), 0o644)


def _parse_version(text: bytes) -> tuple[int, ...]:
    """The numbers in `bubblewrap 0.8.0`; (0,) if there are none."""
    found = re.search(rb"(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else (0,)
