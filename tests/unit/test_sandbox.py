"""The arguments of a sandbox, as values: what is bound how, in which order, and what is refused."""

from pathlib import Path

import pytest

from hyperhive.host.drivers.protocol import ContainerSpec, DriverError, Mount
from hyperhive.host.drivers.sandbox import Machine, check_mounts, plan_program_mounts, plan_sandbox
from hyperhive.host.drivers.userns import explain_refusal

USR = Mount(Path("/usr"), Path("/usr"))
STATE = Mount(Path("/srv/alice/state"), Path("/state"), writable=True)
CLAUDE = Mount(Path("/srv/alice/claude"), Path("/home/agent/.claude"), writable=True)
SOCKETS = Mount(Path("/run/hive/alice"), Path("/run/hive"))
PROGRAM = Mount(Path("/tmp/copy/hyperhive"), Path("/tmp/copy/hyperhive"))
MACHINE = Machine((USR, PROGRAM), (("usr/bin", Path("/bin")),))
SPEC = ContainerSpec("alice", ("true",), {"B": "2", "A": "1"}, (STATE, CLAUDE, SOCKETS), 1234)


def plan(as_root: bool) -> tuple[list[str], list[str]]:
    sandbox = plan_sandbox(SPEC, MACHINE, Path("/accounts"), status_fd=7, alive_fd=8, as_root=as_root)
    return list(sandbox.arguments), list(sandbox.prepare or ())


def position(arguments: list[str], *wanted: str) -> int:
    """Where `wanted` stands one after the other; an AssertionError if it does not."""
    found = [at for at in range(len(arguments)) if tuple(arguments[at : at + len(wanted)]) == wanted]
    assert found, wanted
    return found[-1]


@pytest.mark.parametrize("as_root", [True, False])
def test_the_sandbox_is_closed_whoever_makes_it(as_root: bool) -> None:
    arguments, _ = plan(as_root)
    for flag in ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"):
        assert flag in arguments
    assert "--share-net" not in arguments
    assert not any(argument.startswith("--cap-add") for argument in arguments)
    position(arguments, "--uid", "1000", "--gid", "1000", "--hostname", "alice")
    position(arguments, "--json-status-fd", "7", "--sync-fd", "8")
    end = position(arguments, "--remount-ro", "/", "--clearenv", "--setenv", "A", "1", "--setenv", "B", "2")
    assert position(arguments, "--chdir", "/state") > end


def test_not_as_root_one_bubblewrap_does_it_all() -> None:
    arguments, prepare = plan(as_root=False)
    assert prepare == []
    position(arguments, "--ro-bind", "/usr", "/usr")
    position(arguments, "--bind", "/srv/alice/state", "/state")
    position(arguments, "--ro-bind", "/run/hive/alice", "/run/hive")
    position(arguments, "--ro-bind", "/accounts/passwd", "/etc/passwd")
    position(arguments, "--symlink", "usr/bin", "/bin")
    assert "--dev-bind" not in arguments


def test_as_root_the_outer_one_binds_and_the_inner_one_sees_only_that() -> None:
    arguments, prepare = plan(as_root=True)
    position(prepare, "--bind", "/srv/alice/claude", "/home/agent/.claude")
    position(prepare, "--ro-bind", "/usr", "/usr")
    assert prepare[-2:] == ["--remount-ro", "/"]
    assert position(arguments, "--bind", "/", "/") < position(arguments, "--proc", "/proc")
    # The inner one runs as the agent's uid: it could not even walk to these.
    assert not any(argument.startswith(("/srv", "/accounts")) for argument in arguments)


@pytest.mark.parametrize("as_root", [True, False])
def test_what_is_below_a_scratch_folder_is_bound_on_top_of_it(as_root: bool) -> None:
    arguments, _ = plan(as_root)
    claude = "/home/agent/.claude" if as_root else "/srv/alice/claude"
    home, tmp = position(arguments, "--tmpfs", "/home/agent"), position(arguments, "--tmpfs", "/tmp")
    assert position(arguments, "--bind", claude, "/home/agent/.claude") > home
    assert position(arguments, "--ro-bind", "/tmp/copy/hyperhive", "/tmp/copy/hyperhive") > tmp


@pytest.mark.parametrize("as_root", [True, False])
def test_memory_of_the_container_is_bounded(as_root: bool) -> None:
    arguments, _ = plan(as_root)
    for at, argument in enumerate(arguments):
        if argument == "--tmpfs":
            assert arguments[at - 2] == "--size"


@pytest.mark.parametrize("as_root", [True, False])
def test_every_folder_above_a_mount_is_made_for_everyone_before_it(as_root: bool) -> None:
    arguments, prepare = plan(as_root)
    binding = prepare or arguments
    assert position(binding, "--perms", "0755", "--dir", "/run") < position(binding, "/run/hive/alice", "/run/hive")
    assert position(binding, "--perms", "0755", "--dir", "/home") < position(binding, "/home/agent/.claude")


def test_program_folders_are_bound_once() -> None:
    places = ["/usr/lib/python3", "/opt/hive/.venv", "/opt/hive/.venv/lib/x/hyperhive", "/opt/python/3.11", "/opt/hive"]
    found = [mount.target for mount in plan_program_mounts(Path(place) for place in places)]
    assert found == [Path("/opt/hive"), Path("/opt/python/3.11")]


@pytest.mark.parametrize("target", ["/", "/usr", "/usr/x", "/etc/passwd", "/proc", "/dev/x", "/tmp", "/a/../etc", "x"])
def test_a_mount_over_the_sandbox_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(DriverError):
        check_mounts([Mount(tmp_path, Path(target))])


def test_a_mount_inside_another_or_of_nothing_is_refused(tmp_path: Path) -> None:
    state = Mount(tmp_path, Path("/state"), writable=True)
    check_mounts([state, Mount(tmp_path, Path("/stately"))])
    for bad in (Mount(tmp_path, Path("/state/inner")), state, Mount(tmp_path / "missing", Path("/missing"))):
        with pytest.raises(DriverError):
            check_mounts([state, bad])


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces="),
    ],
)
def test_the_hint_is_the_command_for_this_kernel(setting: str, value: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / setting
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    assert hint in explain_refusal(tmp_path)


def test_without_a_known_cause_the_hint_says_what_is_needed(tmp_path: Path) -> None:
    assert "user namespaces" in explain_refusal(tmp_path)
