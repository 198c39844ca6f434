"""The programs of NixOS that the driver calls, as one small program that stands in for each of them.

`install` puts it into a folder under all their names. It keeps its state beside that folder, notes each call, and
misbehaves as it was told. What it stands for: the command `nixos-container` with the files that it writes; nix, that
builds nothing and only names what it would have built; systemd and machined. The containers are real: systemd-nspawn
starts them as the unit's script would, with the flags of the conf, on a root of their own that has this machine's /usr
in it.

Standard library only, and nothing of the hive's: it runs by itself.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

NAMES = ("nixos-container", "nix", "nix-env", "systemctl", "systemd-run", "machinectl", "journalctl")
WAIT_S = 30.0
# What the container runs unless it is told otherwise: it ends well when the machine is told to halt.
PAYLOAD = "echo up; sleep 100000 & wait"
_FIRST = """\
mkdir -p /run/current-system/sw
ln -s /usr/bin /run/current-system/sw/bin
trap 'echo halted; exit 0' RTMIN+3
"""
# nspawn wants its places below /run/systemd, which only a systemd makes.
_NSPAWN = """\
mount --make-rslave / && mount -t tmpfs tmpfs /run/systemd && mkdir -p /run/systemd/inaccessible/dir || exit 1
(cd /run/systemd/inaccessible && touch reg && mkfifo fifo && mknod chr c 0 0 && mknod sock p) || exit 1
exec systemd-nspawn "$@"
"""
_ROOT_FOLDERS = ("usr", "etc", "run", "proc", "sys", "dev", "tmp", "var")
_FLAGS_WITH_ONE = ("--flake", "--log-format", "--config", "--bridge", "--port", "--host-address", "--local-address")


class StandInError(Exception):
    """What a program says on standard error before it ends with `status`."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Files:
    """Where the programs keep what they know: `fs` has the folders of NixOS, as below its root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.state = folder / "state"
        self.calls = self.state / "calls"
        self.faults = self.state / "faults"
        self.fs = folder / "fs"
        self.confs = self.fs / "etc/nixos-containers"
        self.roots = self.fs / "var/lib/nixos-containers"
        self.profiles = self.fs / "nix/var/nix/profiles/per-container"
        self.store = self.fs / "nix/store"

    def make(self) -> None:
        for folder in (self.bin, self.state, self.faults, self.confs, self.roots, self.profiles, self.store):
            folder.mkdir(parents=True, exist_ok=True)

    def unit(self, machine: str) -> Path:
        return self.state / f"{machine}.unit"

    def console(self, machine: str) -> Path:
        return self.state / f"{machine}.console"

    def load_unit(self, machine: str) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            return json.loads(self.unit(machine).read_bytes())
        return {"ActiveState": "inactive", "SubState": "dead", "Result": "success"}

    def save_unit(self, machine: str, unit: dict[str, Any]) -> None:
        draft = self.unit(machine).with_suffix(f".{os.getpid()}.new")
        draft.write_text(json.dumps(unit))
        draft.rename(self.unit(machine))


def install(folder: Path) -> Files:
    """Makes the programs in `folder/bin`, with what they keep beside it."""
    files = Files(folder)
    files.make()
    (files.state / "outside").write_text(str(os.getpid()))
    program = files.bin / ".program"
    program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    for name in NAMES:
        (files.bin / name).symlink_to(program.name)
    return files


def main() -> int:
    called = Path(sys.argv[0])
    files, name, arguments = Files(called.parent.parent), called.name, sys.argv[1:]
    _note(files, name, arguments)
    try:
        _misbehave(files, name, arguments)
        _PROGRAMS[name](files, arguments)
    except StandInError as failure:
        sys.stderr.write(failure.text)
        return failure.status
    return 0


def _note(files: Files, name: str, arguments: list[str]) -> None:
    call = {"argv": [name, *arguments], "folder": str(Path.cwd()), "environment": dict(os.environ), "pid": os.getpid()}
    with files.calls.open("a") as notes:
        notes.write(json.dumps(call) + "\n")


def _misbehave(files: Files, name: str, arguments: list[str]) -> None:
    """Does what a fault says that is meant for this call: `systemctl` or, more exactly, `systemctl start`."""
    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    for key in (f"{name} {verb}", name):
        file = files.faults / key
        if not file.exists():
            continue
        fault = json.loads(file.read_bytes())
        if fault.get("times") is not None:
            fault["times"] -= 1
            file.write_text(json.dumps(fault)) if fault["times"] else file.unlink()
        if fault["kind"] == "hang":
            while True:
                signal.pause()
        if fault["kind"] == "fail":
            raise StandInError(fault["text"], fault["status"])


def _find_fault(files: Files, key: str) -> str:
    file = files.faults / key
    return json.loads(file.read_bytes())["kind"] if file.exists() else ""


# -- nixos-container ---------------------------------------------------------------------------------------


def _nixos_container(files: Files, arguments: list[str]) -> None:
    words, flake, passed = _parse_nixos_container(arguments)
    if len(words) < 2:
        raise StandInError("nixos-container: no container name specified\n")
    verb, name = words[:2]
    if not all(char.isalnum() or char in "_-" for char in name):
        raise StandInError("nixos-container: invalid container name\n")
    conf = files.confs / f"{name}.conf"
    if verb == "create":
        _create(files, name, conf, flake, passed)
        return
    if not conf.exists():
        if verb == "destroy":
            return
        raise StandInError(f"nixos-container: container {name!r} does not exist\n")
    if verb == "update":
        _update(files, name, flake, passed)
    elif verb in {"start", "stop"}:
        if _call("systemctl", verb, f"container@{name}") != 0:
            raise StandInError(f"nixos-container: failed to {verb} container\n")
    elif verb == "destroy":
        _clear(files, name, conf)
    else:
        raise StandInError(f"nixos-container: unknown action {verb!r}\n")


def _update(files: Files, name: str, flake: str, passed: list[str]) -> None:
    conf = (files.confs / f"{name}.conf").read_text()
    flake = flake or next(line[6:] for line in conf.splitlines() if line.startswith("FLAKE="))
    _set_profile(files, name, _build(flake, passed), "failed to set container configuration")
    if files.load_unit(name)["ActiveState"] == "active":
        _call("systemctl", "reload", f"container@{name}")


def _parse_nixos_container(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    words: list[str] = []
    flake = ""
    passed: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            words.append(argument)
        elif argument == "--flake":
            flake = rest.pop(0)
        elif argument == "--option":
            passed += [argument, rest.pop(0), rest.pop(0)]
        elif argument in {"--no-write-lock-file", "--no-registries", "--impure"}:
            passed.append(argument)
        elif argument in _FLAGS_WITH_ONE:
            rest.pop(0)
        else:
            raise StandInError(f"Unknown option: {argument.lstrip('-')}\n")
    return words, flake, passed


def _create(files: Files, name: str, conf: Path, flake: str, passed: list[str]) -> None:
    with (files.state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if conf.exists():
            raise StandInError(f"nixos-container: container {name!r} already exists\n")
        if len(name) > 11:
            raise StandInError(f"nixos-container: container name {name!r} is too long\n")
        used = "".join(other.read_text() for other in files.confs.glob("*.conf"))
        number = next(number for number in range(1, 255) if f"=10.233.{number}." not in used)
        uri, _, attribute = flake.partition("#")
        conf.write_text(
            f"PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.{number}.1\nLOCAL_ADDRESS=10.233.{number}.2\n"
            f"HOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\nFLAKE={uri}\n"
        )
    sys.stderr.write(f"host IP is 10.233.{number}.1, container IP is 10.233.{number}.2\n")
    (files.profiles / name).mkdir(parents=True, exist_ok=True)
    system = _build(f"{uri}#{attribute or 'container'}", passed)
    try:
        _set_profile(files, name, system, "failed to set initial container configuration")
    except StandInError:
        _clear(files, name, conf)
        raise


def _build(flake: str, passed: list[str]) -> str:
    uri, _, attribute = flake.partition("#")
    what = f'{uri}#nixosConfigurations."{attribute or "container"}".config.system.build.toplevel'
    if _call("nix", "build", "-o", ".tmp", *passed, "--", what) != 0:
        raise StandInError(f"nixos-container: failed to build container from flake '{uri}'\n")
    return str(Path(".tmp").readlink())


def _set_profile(files: Files, name: str, system: str, failure: str) -> None:
    if _call("nix-env", "-p", str(files.profiles / name / "system"), "--set", system) != 0:
        raise StandInError(f"nixos-container: {failure}\n")


def _clear(files: Files, name: str, conf: Path) -> None:
    shutil.rmtree(files.profiles / name, ignore_errors=True)
    if _find_fault(files, "nixos-container destroy") == "half":
        raise StandInError("rm: cannot remove 'var/empty': Operation not permitted\n")
    shutil.rmtree(files.roots / name, ignore_errors=True)
    conf.unlink()


def _call(*argv: str) -> int:
    return subprocess.run(argv, check=False).returncode


# -- nix ---------------------------------------------------------------------------------------------------


def _nix(files: Files, arguments: list[str]) -> None:
    if arguments[:1] != ["build"] or "nix-command flakes" not in os.environ.get("NIX_CONFIG", ""):
        raise StandInError("error: experimental Nix feature 'nix-command' is disabled\n")
    link = arguments[next(place for place, word in enumerate(arguments) if word in {"-o", "--out-link"}) + 1]
    flake = Path(arguments[-1].partition("#")[0].removeprefix("path:"))
    if arguments[-2] != "--" or not (flake / "flake.nix").is_file():
        raise StandInError(f"error: path '{flake}' does not contain a 'flake.nix', searching up\n")
    content = hashlib.sha256()
    for file in sorted(flake.rglob("*")):
        content.update(f"{file.relative_to(flake)}\0".encode() + (file.read_bytes() if file.is_file() else b""))
    system = files.store / f"{content.hexdigest()[:32]}-nixos-system"
    system.mkdir(exist_ok=True)
    (system / "system").write_text("x86_64-linux")
    Path(link).unlink(missing_ok=True)
    Path(link).symlink_to(system)
    sys.stderr.write(f"building '{system}.drv'...\n")


def _nix_env(files: Files, arguments: list[str]) -> None:
    flag, profile, set_flag, system = arguments
    if (flag, set_flag) != ("-p", "--set") or not Path(system).is_relative_to(files.store):
        raise StandInError(f"error: '{system}' is not in the Nix store\n")
    Path(profile).unlink(missing_ok=True)
    Path(profile).symlink_to(system)


# -- systemd and machined ----------------------------------------------------------------------------------


def _systemctl(files: Files, arguments: list[str]) -> None:
    words = [argument for argument in arguments if not argument.startswith("-")]
    verb, machine = words[0], words[1].partition("@")[2].removesuffix(".service") if len(words) > 1 else ""
    unit = files.load_unit(machine)
    if verb == "show":
        _show(unit, arguments)
    elif verb == "start":
        _start(files, machine, unit)
    elif verb == "stop":
        _stop(files, machine, unit)
    elif verb == "kill":
        number = next(signal.Signals[f"SIG{word[9:]}"] for word in arguments if word.startswith("--signal="))
        for key in ("leader", "main"):
            with contextlib.suppress(ProcessLookupError):
                if key in unit:
                    os.kill(unit[key], number)
    elif verb == "reset-failed" and unit["ActiveState"] == "failed":
        files.unit(machine).unlink(missing_ok=True)


def _show(unit: dict[str, Any], arguments: list[str]) -> None:
    wanted = next(word[11:].split(",") for word in arguments if word.startswith("--property="))
    known = {"LoadState": "loaded", "ExecMainCode": "0", "ExecMainStatus": "0", **unit}
    for key in wanted:
        print(f"{key}={known.get(key, '')}")


def _start(files: Files, machine: str, unit: dict[str, Any]) -> None:
    if unit["ActiveState"] == "active":
        return
    fault = _find_fault(files, "systemctl start")
    if fault == "timeout":
        files.save_unit(machine, {"ActiveState": "failed", "SubState": "failed", "Result": "timeout"})
        raise StandInError(f"Job for container@{machine}.service failed because a timeout was exceeded.\n")
    if fault == "leaderless":
        files.save_unit(machine, {"ActiveState": "active", "SubState": "running", "Result": "success"})
        return
    _spawn(files, machine)
    if _wait(lambda: files.load_unit(machine)["ActiveState"] != "activating") and _has_ended_badly(files, machine):
        raise StandInError(f"Job for container@{machine}.service failed because the control process exited.\n")


def _has_ended_badly(files: Files, machine: str) -> bool:
    return files.load_unit(machine)["ActiveState"] == "failed"


def _spawn(files: Files, machine: str) -> None:
    """Starts what stands for systemd: it outlives this call, and writes down how the container ends."""
    files.save_unit(machine, {"ActiveState": "activating", "SubState": "start", "Result": "success"})
    if os.fork():
        return
    os.setsid()
    outside = (files.state / "outside").read_text()
    console = files.console(machine)
    said_before = console.stat().st_size if console.exists() else 0
    null = os.open("/dev/null", os.O_RDWR)
    output = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(3):
        os.dup2(output if number else null, number)
    # Wherever this was called from: containers are started by the machine's own systemd.
    argv = ["nsenter", f"--mount=/proc/{outside}/ns/mnt", "--wd=/", "unshare", "--mount", "sh", "-c", _NSPAWN, "nspawn"]
    process = subprocess.Popen([*argv, *_plan_nspawn(files, machine)])
    started = int(time.time())
    end = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < end:
        if b"up\n" in console.read_bytes()[said_before:] and (leader := _find_leader(process.pid)):
            up = {"ActiveState": "active", "SubState": "running", "Result": "success", "leader": leader}
            up |= {"main": process.pid, "ActiveEnterTimestamp": f"@{started}", "ControlGroup": f"/machine/{machine}"}
            files.save_unit(machine, up)
            break
        time.sleep(0.005)
    status = process.wait()
    ended = {"ActiveEnterTimestamp": f"@{started}", "ExecMainCode": "1", "ExecMainStatus": str(status)}
    if status == 0:
        ended |= {"ActiveState": "inactive", "SubState": "dead", "Result": "success"}
    elif status > 0:
        ended |= {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
    else:
        ended |= {"ActiveState": "failed", "SubState": "failed", "Result": "signal"}
        ended |= {"ExecMainCode": "2", "ExecMainStatus": str(-status)}
    files.save_unit(machine, ended)
    os._exit(0)


def _find_leader(nspawn: int) -> int | None:
    children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    return int(children[-1]) if children else None


def _plan_nspawn(files: Files, machine: str) -> list[str]:
    """As the script of the unit has it: from the conf, whose flags are taken apart at blanks."""
    lines = (files.confs / f"{machine}.conf").read_text().splitlines()
    conf = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    root = files.roots / machine
    for name in _ROOT_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/os-release").touch()
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    payload = (files.state / "payload").read_text() if (files.state / "payload").exists() else PAYLOAD
    return [
        *("--quiet", "--register=no", "--console=pipe", "--link-journal=no", "--bind-ro=/usr:/usr"),
        *("--keep-unit", "-M", machine, "-D", str(root)),
        *(["--private-network"] if conf.get("PRIVATE_NETWORK") == "1" else []),
        *([f"--private-users={conf['PRIVATE_USERS']}"] if conf.get("PRIVATE_USERS") else []),
        *(["--network-veth"] if conf.get("HOST_ADDRESS") or conf.get("LOCAL_ADDRESS") else []),
        "--kill-signal=SIGRTMIN+3",
        *conf.get("EXTRA_NSPAWN_FLAGS", "").strip('"').split(),
        *("/bin/sh", "-c", _FIRST + payload),
    ]


def _stop(files: Files, machine: str, unit: dict[str, Any]) -> None:
    main = unit.get("main")
    if unit["ActiveState"] in {"active", "activating"} and main is None:
        files.unit(machine).unlink(missing_ok=True)
        return
    if main is None:
        return
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(main)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        select.select([handle], [], [])
    _wait(lambda: files.load_unit(machine).get("main") is None)


def _wait(is_so: Any) -> bool:
    end = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _systemd_run(files: Files, arguments: list[str]) -> NoReturn:
    command = arguments[arguments.index("--") + 1 :]
    os.execvp(command[0], command)


def _machinectl(files: Files, arguments: list[str]) -> None:
    words = [argument for argument in arguments if not argument.startswith("-") and argument != "Leader"]
    verb, machine = words[0], words[1]
    leader = files.load_unit(machine).get("leader")
    if leader is None:
        raise StandInError(f"Could not get path to machine: No machine '{machine}' known\n")
    if verb == "show":
        print(f"Leader={leader}")
    elif verb == "terminate":
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGKILL)


def _journalctl(files: Files, arguments: list[str]) -> None:
    """A console line by line, in JSON. A cursor is the number of a line."""
    options = dict(word[2:].split("=", 1) for word in arguments if "=" in word)
    console = files.console(options["unit"].partition("@")[2].removesuffix(".service"))
    is_there = console.exists() and _find_fault(files, "journalctl") != "empty"
    lines = console.read_text("utf-8", "replace").splitlines() if is_there else []
    most = int(options["lines"])
    after = int(options["after-cursor"]) if "after-cursor" in options else max(0, len(lines) - most)
    for number, line in enumerate(lines[after : after + most], after + 1):
        print(json.dumps({"MESSAGE": line, "__CURSOR": str(number)}))


_PROGRAMS: dict[str, Any] = {
    "nixos-container": _nixos_container,
    "nix": _nix,
    "nix-env": _nix_env,
    "systemctl": _systemctl,
    "systemd-run": _systemd_run,
    "machinectl": _machinectl,
    "journalctl": _journalctl,
}

if __name__ == "__main__":
    sys.exit(main())
