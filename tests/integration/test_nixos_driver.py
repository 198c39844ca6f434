"""What the nixos driver writes, calls and builds, with programs that stand in for those of NixOS and note each call."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from driver_checks import refuses
from driver_rig import DEADLINE_S
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.limits import Limits
from hyperhive.core.uids import INNER_UID
from hyperhive.host.drivers.nixos_flake import NixInputs
from hyperhive.host.drivers.protocol import BuildsSystems, ContainerState, Driver, Mount
from hyperhive.host.drivers.seccomp import DENIED
from nixos_rig import AGENT, NixosRig, open_nixos_rig

NIX_ERROR = """\
\x1b[31;1merror:\x1b[0m undefined variable 'pkgz'

       at /nix/store/0c0kcbbsqzbgcq8r4dc4h2xr1x9k0bla-source/config/agent.nix:2:16:

            1| { ... }: {
            2|   hyperhive.x = pkgz.hello;
             |                ^
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[NixosRig]:
    async with open_nixos_rig(tmp_path) as rig:
        yield rig


def test_it_is_a_driver_that_builds_systems(rig: NixosRig) -> None:
    driver: Driver = rig.driver
    assert isinstance(driver, BuildsSystems) and driver.revision == rig.inputs.revision
    assert dict(driver.unlimited) == {}


# -- what is written ---------------------------------------------------------------------------------------


def expect_conf(rig: NixosRig, name: str, *, private: bool = True) -> list[str]:
    """The lines of a conf, but for the flags of nspawn, with which it ends."""
    return [
        f"PRIVATE_NETWORK={int(private)}",
        *("HOST_ADDRESS=", "LOCAL_ADDRESS=", "HOST_ADDRESS6=", "LOCAL_ADDRESS6=", "LOCAL_MAC_ADDRESS="),
        *("HOST_BRIDGE=", "HOST_PORT="),
        f"PRIVATE_USERS={rig.uid(name) - INNER_UID}",
        f"COPY_RESOLV_CONF={int(not private)}",
        *("AUTO_START=0", f"FLAKE=path:{rig.place(name)}/flake"),
    ]


def expect_flags(rig: NixosRig, name: str) -> list[str]:
    agent, place = rig.folder / "agents" / name, rig.place(name)
    return [
        *("--settings=no", "--private-users-ownership=auto", "--tmpfs=/nix/var/nix/daemon-socket:mode=0555,size=4k"),
        *(f"--system-call-filter=~{call}" for call in DENIED),
        f"--bind={agent}/state:/state",
        f"--bind={agent}/claude:/home/agent/.claude",
        f"--bind-ro={agent}/sockets:/run/hive",
        f"--bind-ro={agent}/config:/config",
        f"--bind-ro={place}/environment:/run/hyperhive/environment",
    ]


def assert_conf(rig: NixosRig, name: str = "alice", *, private: bool = True, more: tuple[str, ...] = ()) -> None:
    *lines, flags = [line for line in rig.conf(name) if line not in more]
    assert lines == expect_conf(rig, name, private=private)
    key, _, value = flags.partition("=")
    assert key == "EXTRA_NSPAWN_FLAGS"
    assert sorted(value.strip('"').split()) == sorted(expect_flags(rig, name))
    assert [line for line in rig.conf(name) if line in more] == list(more)


@pytest.mark.parametrize("private", [True, False])
async def test_a_conf_is_right_line_by_line_after_create_and_after_update(rig: NixosRig, private: bool) -> None:
    spec = rig.spec(host_network=not private)
    await rig.driver.create(spec)
    assert_conf(rig, private=private)
    assert rig.conf_file().stat().st_mode & 0o777 == 0o644
    # Lines of the operator's stay, and what was turned round is put right.
    with rig.conf_file().open("a") as file:
        file.write("# mine\nTIDE=high\nHOST_ADDRESS=10.233.9.1\nPRIVATE_NETWORK=1\n")
    rig.write_config({"agent.nix": AGENT, "more.nix": b"{ }\n"})
    await rig.driver.create(spec)
    assert [call.argv[1] for call in rig.calls("nixos-container")] == ["create", "update"]
    assert_conf(rig, private=private, more=("# mine", "TIDE=high"))


async def test_another_network_is_in_the_conf_by_the_next_start(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.create(spec)
    await rig.driver.start(replace(spec, host_network=True))
    assert_conf(rig, private=False)


async def test_the_manager_has_the_machine_that_it_always_had(rig: NixosRig) -> None:
    await rig.driver.create(rig.spec("hm1nd"))
    assert_conf(rig, "hm1nd")
    identity = (rig.place("hm1nd") / "flake/identity.json").read_text()
    assert '"manager"' in identity and '"hm1nd"' in identity and "8000" in identity


async def test_two_made_at_once_get_in_each_others_way_nowhere(rig: NixosRig) -> None:
    await asyncio.gather(*(rig.driver.create(rig.spec(name)) for name in ("alice", "bob", "hm1nd")))
    for name in ("alice", "bob", "hm1nd"):
        assert_conf(rig, name)
    systems = [(rig.files.profiles / rig.machine(name) / "system").readlink() for name in ("alice", "bob", "hm1nd")]
    assert len(set(systems)) == 3


async def test_an_odd_path_is_refused_and_the_conf_is_left_as_nixos_container_wrote_it(rig: NixosRig) -> None:
    odd = rig.folder / "a folder"
    odd.mkdir()
    spec = rig.spec()
    error = await refuses(rig.driver.create(replace(spec, mounts=(*spec.mounts, Mount(odd, Path("/odd"))))))
    assert str(odd) in error.message
    assert "EXTRA_NSPAWN_FLAGS" not in rig.conf_file().read_text()
    await rig.driver.create(spec)
    assert_conf(rig)


# -- what is called ----------------------------------------------------------------------------------------


async def test_no_two_builds_have_the_same_working_folder_and_none_is_left(rig: NixosRig) -> None:
    spec = rig.spec()
    await asyncio.gather(rig.driver.create(spec), rig.driver.create(rig.spec("bob")))
    rig.write_config({"agent.nix": AGENT + b"# 2\n"})
    await rig.driver.build_system("alice", {"agent.nix": AGENT + b"# 2\n"})
    await rig.driver.create(spec)
    folders = [call.folder for call in rig.calls("nix")]
    assert len(folders) == 4 == len(set(folders))
    assert not any(Path(folder).exists() for folder in folders)
    assert not list(rig.place().glob("work-*"))


async def test_each_make_names_the_flake_and_forbids_to_build_in_order_to_evaluate(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.build_system("alice", {"agent.nix": AGENT})
    await rig.driver.create(spec)
    rig.write_config({"agent.nix": AGENT + b"# 2\n"})
    await rig.driver.create(spec)
    flake = ["--flake", f"path:{rig.place()}/flake#container"]
    pure = ["--option", "allow-import-from-derivation", "false", "--no-write-lock-file"]
    made = [call.argv for call in rig.calls("nixos-container")]
    assert made == [["nixos-container", verb, "h-alice", *flake, *pure] for verb in ("create", "update")]
    for call in rig.calls("nix"):
        text = " ".join(call.argv)
        assert "--option allow-import-from-derivation false" in text and text.endswith(".config.system.build.toplevel")
        assert "allow-import-from-derivation = false" in call.environment["NIX_CONFIG"]
        assert "pure-eval = true" in call.environment["NIX_CONFIG"]


async def test_what_evaluates_an_agents_text_is_bounded_in_memory(rig: NixosRig) -> None:
    await rig.driver.build_system("alice", {"agent.nix": AGENT})
    await rig.driver.create(rig.spec())
    scopes = rig.calls("systemd-run")
    assert [call.argv[call.argv.index("--") + 1] for call in scopes] == ["nix", "nixos-container"]
    for call in scopes:
        assert {"--scope", f"--property=MemoryMax={8 * 1024**3}", "--property=MemorySwapMax=0"} <= set(call.argv)


async def test_nothing_of_the_daemons_environment_is_in_any_call(
    rig: NixosRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("NIX_PATH", "/home/somebody")
    await rig.driver.build_system("alice", {"agent.nix": AGENT})
    await rig.run()
    await rig.ask("true")
    await rig.driver.logs("alice", 0, 100)
    await rig.driver.destroy("alice")
    calls = rig.calls()
    assert {call.argv[0] for call in calls} >= {"nix", "nix-env", "nixos-container", "systemctl", "machinectl"}
    for call in calls:
        assert "sk-secret" not in str(call.environment) and "NIX_PATH" not in call.environment, call
    # The last is what Python sets where nothing else is said.
    ours = {"PATH", "LC_ALL", "HOME", "NIX_CONFIG", "NIX_REMOTE", "LC_CTYPE"}
    assert all(set(call.environment) <= ours for call in calls)


async def test_a_name_that_could_be_an_option_or_a_path_is_refused_before_any_call(rig: NixosRig) -> None:
    spec = rig.spec()
    rig.forget_calls()
    for name in ("-rf", "--flake", "", ".", "..", "a/b", "A", "a b", "a\nb", "a.b", "x" * 64):
        bad = replace(spec, name=name)
        for work in (
            rig.driver.create(bad),
            rig.driver.start(bad),
            rig.driver.stop(name, 1),
            rig.driver.destroy(name),
            rig.driver.observe(name),
            rig.driver.find_usage(name),
            rig.driver.exec(name, ("true",), 1),
            rig.driver.logs(name, 0, 10),
            rig.driver.log_range(name),
            rig.driver.build_system(name, {"agent.nix": AGENT}),
            rig.driver.evaluate(name, {"agent.nix": AGENT}),
            rig.driver.list_packages(name, {"agent.nix": AGENT}),
        ):
            await refuses(work)
    assert not rig.calls()


async def test_of_an_agent_whose_name_is_too_long_there_is_nothing_and_nothing_can_be_made(rig: NixosRig) -> None:
    spec, name = rig.spec(), "tencharact"
    rig.forget_calls()
    long = replace(spec, name=name)
    for work in (
        rig.driver.create(long),
        rig.driver.start(long),
        rig.driver.exec(name, ("true",), 1),
        rig.driver.build_system(name, {"agent.nix": AGENT}),
        rig.driver.evaluate(name, {"agent.nix": AGENT}),
        rig.driver.list_packages(name, {"agent.nix": AGENT}),
    ):
        assert "10 characters" in (await refuses(work)).message
    # Else such an agent could never be destroyed, where the hive had another driver before.
    assert (await rig.driver.observe(name)).state is ContainerState.ABSENT
    assert (await rig.driver.find_usage(name)).tasks is None
    assert await rig.driver.logs(name, 0, 10) == (b"", 0)
    assert await rig.driver.log_range(name) == (0, 0)
    await rig.driver.stop(name, 1)
    await rig.driver.destroy(name)
    assert not rig.calls()
    await rig.driver.create(replace(spec, name="ninechars"))


async def test_nothing_that_an_agent_wrote_is_a_part_of_any_call(rig: NixosRig) -> None:
    marks = {"agent.nix": b'{ hyperhive.environment.MARK_1 = "--impure"; } # MARK_2\n', "sub/MARK_3.nix": b"{ }\n"}
    rig.write_config(marks)
    spec = rig.spec(environment={"HOME": "/home/agent", "MARK_4": "$(MARK_5)"})
    await rig.driver.build_system("alice", marks)
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    assert "MARK" not in "".join(str(call.argv) + str(call.environment) for call in rig.calls())
    assert "MARK" not in rig.conf_file().read_text()


async def test_systemd_reads_its_units_again_only_when_the_limits_have_changed(rig: NixosRig) -> None:
    spec = rig.spec(limits=Limits(memory_bytes=512 * 1024**2, cpus=1.5, tasks=300))
    drop_in = rig.folder / "units/container@h-alice.service.d/50-hyperhive.conf"
    await rig.driver.create(spec)
    text = drop_in.read_text()
    assert f"MemoryMax={512 * 1024**2}" in text and "MemorySwapMax=0" in text and "TasksMax=300" in text
    assert "CPUQuota=150" in text and "Restart=no" in text
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    assert len(rig.calls("systemctl", "daemon-reload")) == 1
    await rig.driver.stop("alice", DEADLINE_S)
    await rig.driver.start(replace(spec, limits=Limits(tasks=20)))
    assert len(rig.calls("systemctl", "daemon-reload")) == 2 and "TasksMax=20" in drop_in.read_text()
    await rig.driver.destroy("alice")
    assert len(rig.calls("systemctl", "daemon-reload")) == 3 and not drop_in.parent.exists()


async def test_limits_that_systemd_was_not_told_of_are_told_by_the_next_create(rig: NixosRig) -> None:
    rig.misbehave("systemctl daemon-reload", "fail", "Failed to reload daemon: Connection timed out\n")
    error = await refuses(rig.driver.create(rig.spec()))
    assert "Connection timed out" in error.message
    rig.behave()
    await rig.driver.create(rig.spec())
    assert len(rig.calls("systemctl", "daemon-reload")) == 2


# -- systems -----------------------------------------------------------------------------------------------


async def test_a_system_is_made_again_only_if_something_of_it_has_changed(rig: NixosRig) -> None:
    spec = rig.spec()
    for _ in range(2):
        await rig.driver.build_system("alice", {"agent.nix": AGENT})
    assert len(rig.calls("nix")) == 1
    assert (rig.place() / "built").readlink().is_dir(), "what was built is kept until it is used"
    for _ in range(2):
        await rig.driver.create(spec)
        await rig.driver.build_system("alice", {"agent.nix": AGENT})
    assert len(rig.calls("nixos-container")) == 1 and len(rig.calls("nix")) == 2
    assert not (rig.place() / "built").is_symlink()
    # One that was tried in between, and was not taken: the container has another one from then on.
    rig.write_config({"agent.nix": AGENT + b"# tried\n"})
    await rig.driver.create(spec)
    rig.write_config({"agent.nix": AGENT})
    await rig.driver.create(spec)
    assert [call.argv[1] for call in rig.calls("nixos-container")] == ["create", "update", "update"]


async def test_each_system_is_evaluated_without_any_right_before_root_builds_it(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.build_system("alice", {"agent.nix": AGENT})
    await rig.driver.create(spec)
    assert rig.evaluated == [("next", 0)]
    rig.write_config({"agent.nix": AGENT + b"# 2\n"})
    await rig.driver.create(spec)
    assert rig.evaluated == [("next", 0), ("flake", 2)]
    rig.forget_calls()
    rig.refusal = InvalidInputError("agent.nix: it is not evaluated within 60 s")
    rig.write_config({"agent.nix": AGENT + b"# 3\n"})
    with pytest.raises(InvalidInputError):
        await rig.driver.build_system("alice", {"agent.nix": AGENT + b"# 3\n"})
    assert "within 60 s" in (await refuses(rig.driver.create(spec))).message
    assert not rig.calls("nix") and not rig.calls("nixos-container")


async def test_inputs_that_moved_are_told_and_make_another_system(rig: NixosRig) -> None:
    spec = await rig.run()
    assert (await rig.driver.observe("alice")).revision == rig.inputs.revision
    (rig.folder / "newer").mkdir()
    newer = rig.make_driver(NixInputs(rig.folder / "newer", rig.inputs.nixpkgs))
    assert (await newer.observe("alice")).revision == rig.inputs.revision != newer.revision
    await newer.stop("alice", DEADLINE_S)
    await newer.create(spec)
    assert (await newer.observe("alice")).revision == newer.revision
    assert (rig.place() / "flake/flake.nix").read_text().count(str(rig.folder / "newer")) == 1


async def test_a_build_that_fails_says_where_and_leaves_nothing(rig: NixosRig) -> None:
    bad = {"agent.nix": b"{ ... }: {\n  hyperhive.x = pkgz.hello;\n}\n"}
    rig.write_config(bad)
    rig.misbehave("nix build", "fail", NIX_ERROR)
    with pytest.raises(InvalidInputError) as raised:
        await rig.driver.build_system("alice", bad)
    assert raised.value.message == "agent.nix line 2: undefined variable 'pkgz'"
    error = await refuses(rig.driver.create(rig.spec()))
    assert error.message == "agent.nix line 2: undefined variable 'pkgz'"
    assert not rig.conf_file().exists() and [call.argv[1] for call in rig.calls("nixos-container")][-1] == "destroy"
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    assert "pkgz.hello" in (rig.place() / "build.log").read_text()
    rig.behave()
    rig.write_config({"agent.nix": AGENT})
    await rig.driver.create(rig.spec())
    assert_conf(rig)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("error: unable to download 'https://cache.example': Couldn't resolve host name (6)\n", "unable to download"),
        ("error: \x1b]0;owned\x07\x1b[2Jno space left on device\n", "no space left on device"),
        ("error: " + "very " * 100_000 + "long\n", "very very"),
        ("", ""),
    ],
)
async def test_a_build_that_the_machine_fails_is_not_the_configs_fault(rig: NixosRig, said: str, told: str) -> None:
    rig.misbehave("nix build", "fail", said)
    for work in (rig.driver.build_system("alice", {"agent.nix": AGENT}), rig.driver.create(rig.spec())):
        error = await refuses(work)
        assert told in error.message and len(error.message) < 1000 and error.message.isprintable()
        assert "build.log" in error.hint
    assert (rig.place() / "build.log").stat().st_size <= 256 * 1024


async def test_a_build_that_fails_leaves_what_runs_as_it_is(rig: NixosRig) -> None:
    spec = await rig.run()
    before, conf = await rig.driver.observe("alice"), rig.conf()
    system = (rig.files.profiles / "h-alice/system").readlink()
    rig.write_config({"agent.nix": b"{\n"})
    for fault in ("nix build", "nix-env"):
        rig.misbehave(fault, "fail", "error: it cannot be done\n")
        await refuses(rig.driver.create(spec))
        rig.behave()
    assert (rig.files.profiles / "h-alice/system").readlink() == system and rig.conf() == conf
    seen = await rig.driver.observe("alice")
    assert replace(seen, revision="") == replace(before, revision="")


async def test_a_profile_that_cannot_be_set_leaves_nothing(rig: NixosRig) -> None:
    rig.misbehave("nix-env", "fail", "error: creating symlink: No space left on device\n")
    error = await refuses(rig.driver.create(rig.spec()))
    assert "No space left on device" in error.message
    assert not rig.conf_file().exists()
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    rig.behave()
    await rig.driver.create(rig.spec())
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def test_a_conf_that_a_failed_create_left_behind_is_removed_by_the_next(rig: NixosRig) -> None:
    rig.misbehave("nix build", "fail", "error: it cannot be done\n")
    rig.misbehave("nixos-container destroy", "fail", "rm: cannot remove\n")
    await refuses(rig.driver.create(rig.spec()))
    assert "HOST_ADDRESS=10.233.1.1" in rig.conf()
    rig.behave()
    rig.forget_calls()
    await rig.driver.create(rig.spec())
    assert [call.argv[1] for call in rig.calls("nixos-container")] == ["destroy", "create"]
    assert_conf(rig)


async def test_a_config_with_anything_but_plain_files_is_not_read(rig: NixosRig) -> None:
    secret = rig.folder / "secret"
    secret.write_text("sk-secret")
    spec = rig.spec()
    path = rig.config() / "more.nix"
    for make in (partial(path.symlink_to, secret), partial(os.mkfifo, path), partial(path.hardlink_to, secret)):
        rig.write_config({"agent.nix": AGENT})
        make()
        error = await refuses(rig.driver.create(spec))
        assert "more.nix" in error.message and not rig.calls("nixos-container")
    rig.write_config({"other.nix": AGENT})
    assert "agent.nix" in (await refuses(rig.driver.create(spec))).message
    rig.write_config({"agent.nix": b"x" * 300_000})
    await refuses(rig.driver.create(spec))
    assert "/config" in (await refuses(rig.driver.create(replace(spec, mounts=())))).message
    assert not rig.calls("nixos-container")


async def test_a_config_without_agent_nix_is_not_evaluated(rig: NixosRig) -> None:
    with pytest.raises(InvalidInputError, match="has no agent"):
        await rig.driver.evaluate("alice", {"agent.toml": b""})
    with pytest.raises(InvalidInputError, match="has no agent"):
        await rig.driver.list_packages("alice", {"agent.toml": b""})
    assert not list((rig.folder / "containers").glob(".evaluation-*"))


# -- the machine -------------------------------------------------------------------------------------------


@contextmanager
def without(rig: NixosRig, program: str) -> Generator[None]:
    (rig.files.bin / program).rename(rig.folder / "aside")
    yield
    (rig.folder / "aside").rename(rig.files.bin / program)


async def test_a_machine_that_is_no_nixos_is_told_what_it_lacks(rig: NixosRig) -> None:
    with without(rig, "nixos-container"):
        error = await refuses(rig.driver.prepare())
    assert "nixos-container" in error.message and "services.hyperhive" in error.hint
    moved = NixInputs(rig.folder / "gone", rig.inputs.nixpkgs)
    assert str(moved.hyperhive) in (await refuses(rig.make_driver(moved).prepare())).message
    rig.files.save_unit("hyperhive", {"ActiveState": "inactive", "LoadState": "not-found"})
    assert "boot.enableContainers" in (await refuses(rig.driver.prepare())).hint
    rig.misbehave("systemctl", "fail", "System has not been booted with systemd as init system (PID 1).\n")
    assert "not been booted with systemd" in (await refuses(rig.driver.prepare())).message


async def test_what_a_daemon_left_that_was_killed_is_swept(rig: NixosRig) -> None:
    await rig.driver.create(rig.spec())
    left = (rig.place() / "work-abc", rig.place().parent / ".evaluation-abc")
    for folder in left:
        folder.mkdir()
    await rig.make_driver().prepare()
    assert not any(folder.exists() for folder in left) and rig.place().is_dir()
