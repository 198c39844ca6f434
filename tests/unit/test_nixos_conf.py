"""A NixOS container's conf as the hive wants it, whatever stood there before.

What systemd makes of it is told here by a reader of its own, written after systemd.exec(5), a character at a time;
`tests/integration/test_nixos_conf.py` holds it against a real one.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from environment_file import Statement, list_statements, read_assignments
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.uids import FIRST_RANGED_UID, range_start
from hyperhive.host.drivers.nixos_conf import LIMIT_BYTES, ConfPlan, read_conf, rewrite_conf, write_conf
from hyperhive.host.drivers.protocol import DriverError, Mount

STATE = Mount(Path("/var/lib/hyperhive/agents/alice/state"), Path("/state"), writable=True)
CONFIG = Mount(Path("/run/hyperhive/configs/alice@3"), Path("/config"))
PLAN = ConfPlan(
    mounts=(STATE, CONFIG),
    range_start=range_start(FIRST_RANGED_UID),
    private_network=True,
    flake="path:/var/lib/hyperhive/flakes/alice",
)
FLAGS = (
    "--settings=no --private-users-ownership=auto --tmpfs=/nix/var/nix/daemon-socket:mode=0555,size=4k "
    "--system-call-filter=~syslog --system-call-filter=~add_key "
    "--system-call-filter=~request_key --system-call-filter=~keyctl --system-call-filter=~perf_event_open "
    "--system-call-filter=~bpf --system-call-filter=~userfaultfd --system-call-filter=~io_uring_setup "
    "--bind=/var/lib/hyperhive/agents/alice/state:/state --bind-ro=/run/hyperhive/configs/alice@3:/config"
)
# As `nixos-container create` writes it.
CREATED = """\
PRIVATE_NETWORK=1
HOST_ADDRESS=10.233.1.1
LOCAL_ADDRESS=10.233.1.2
HOST_BRIDGE=
HOST_PORT=
AUTO_START=0
FLAKE=path:/tmp/elsewhere
"""
OURS = f"""\
PRIVATE_NETWORK=1
HOST_ADDRESS=
LOCAL_ADDRESS=
HOST_ADDRESS6=
LOCAL_ADDRESS6=
LOCAL_MAC_ADDRESS=
HOST_BRIDGE=
HOST_PORT=
PRIVATE_USERS=1900064536
COPY_RESOLV_CONF=0
AUTO_START=0
FLAKE=path:/var/lib/hyperhive/flakes/alice
EXTRA_NSPAWN_FLAGS="{FLAGS}"
"""
KEYS = set(read_assignments(OURS))


def is_kept(statement: Statement) -> bool:
    return statement.value is None or statement.key not in KEYS


# -- what it says ------------------------------------------------------------------------------------------


def test_an_agent_without_the_hosts_network_has_only_its_loopback() -> None:
    assert rewrite_conf(CREATED, PLAN) == OURS


def test_an_agent_in_the_hosts_network_looks_up_names_as_the_host_does() -> None:
    expected = OURS.replace("PRIVATE_NETWORK=1", "PRIVATE_NETWORK=0").replace(
        "COPY_RESOLV_CONF=0", "COPY_RESOLV_CONF=1"
    )
    assert rewrite_conf(CREATED, replace(PLAN, private_network=False)) == expected


def test_a_plan_that_changed_leaves_nothing_of_the_one_before() -> None:
    before = rewrite_conf(CREATED + "# a note\n", replace(PLAN, private_network=False, mounts=()))
    assert rewrite_conf(before, PLAN) == OURS + "# a note\n"


@pytest.mark.parametrize("uid", [0, 1000, FIRST_RANGED_UID, -1])
def test_a_range_that_is_no_agents_is_refused(uid: int) -> None:
    with pytest.raises(InvalidInputError, match="no agent's range"):
        rewrite_conf(CREATED, replace(PLAN, range_start=uid))


# -- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("# a comment\r\n\r\nFOO=1\r\nHOST_PORT=80\r\nBAR=2", "# a comment\r\n\r\nFOO=1\r\nBAR=2"),
        ("FOO=1\rHOST_PORT=80\rBAR=2\r", "FOO=1\rBAR=2\r"),
        ("HOST_PORT=1\nFOO=1\nHOST_PORT=2\n \tHOST_PORT \t=3\nFOO=2", "FOO=1\nFOO=2"),
        ("HOST_PORT='1\n2\n' 3\nFOO=1\n", "FOO=1\n"),
        ('HOST_PORT="1\\"\n2\nFOO=1\n', ""),
        ("BAR=1\nHOST_PORT='1\n2\nFOO=1\n", "BAR=1\n"),
        ('BAR=1\nHOST_PORT="1\nFOO=1\\', "BAR=1\n"),
        ("HOST_PORT= '1\n2' \t\"3\nFOO=1\"\nBAR=1\n", "BAR=1\n"),
        ("HOST_PORT=1\\\n2\\\nFOO=1\nBAR=1\n", "BAR=1\n"),
        # Quotes behind a bare character are characters, and so is what is escaped.
        ("HOST_PORT=1'\nFOO=1\n", "FOO=1\n"),
        ("HOST_PORT=\\'\nFOO=1\n", "FOO=1\n"),
        # What looks as if it were ours is in the value of another.
        ('NOTE="\nHOST_PORT=80\n"\n', 'NOTE="\nHOST_PORT=80\n"\n'),
        ("NOTE=\\\nHOST_PORT=80\n", "NOTE=\\\nHOST_PORT=80\n"),
        ("#HOST_PORT=80\n;HOST_PORT=80\nHOST_PORT\n", "#HOST_PORT=80\n;HOST_PORT=80\nHOST_PORT\n"),
        ("export HOST_PORT=80\nHOST_PORT2=1\nhost_port=1\n", "export HOST_PORT=80\nHOST_PORT2=1\nhost_port=1\n"),
        ("\ufeffHOST_PORT=80\nHOST_PORT=80\n", "\ufeffHOST_PORT=80\n"),
        ('="\nHOST_PORT=80\n', '="\n'),
        ("# a comment \\\nHOST_PORT=80\n", "# a comment \\\n"),
        # What is open takes in all that follows, and that is nothing of ours.
        ("FOO='", "FOO='"),
        ("FOO=1\\", "FOO=1\\"),
    ],
)
def test_every_line_that_is_not_ours_is_kept(text: str, kept: str) -> None:
    assert rewrite_conf(text, PLAN) == OURS + kept


@pytest.mark.parametrize("line", ["FOO_{}=bar\n", "# {}\r\n", "HOST_PORT={}\n", "FOO='{}\n'\n", "'{}\n", "=\\\n"])
def test_a_conf_of_a_hundred_thousand_lines_is_rewritten(line: str) -> None:
    text = "".join(line.format(number) for number in range(100_000))
    kept = "" if line.startswith("HOST_PORT") else text
    assert rewrite_conf(text, PLAN) == OURS + kept


FRAGMENTS = (
    *("HOST_PORT", "EXTRA_NSPAWN_FLAGS", "PRIVATE_USERS", "FOO", "export ", "\ufeff", "é", "value", "--bind=/:/"),
    *(
        "=",
        "=",
        "=",
        "\n",
        "\n",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\t",
        "'",
        '"',
        "\\",
        "\\\n",
        "#",
        ";",
        "$",
        "\v",
        "\f",
        "\x85",
    ),
)
DENSE = ("HOST_PORT=", "HOST_PORT=", "FOO=", "\n", "\n", "'", '"', "\\", " ", "x")
TEXTS = st.one_of(*(st.lists(st.sampled_from(some), max_size=40).map("".join) for some in (FRAGMENTS, DENSE)))


@given(TEXTS)
@example("FOO=1\rHOST_PORT=1\r\n\nFOO=2")
@settings(max_examples=1000, deadline=None)
def test_what_systemd_reads_is_ours_and_all_others_as_they_were(text: str) -> None:
    rewritten = rewrite_conf(text, PLAN)
    others = {key: value for key, value in read_assignments(text).items() if key not in KEYS}
    assert read_assignments(rewritten) == others | read_assignments(OURS)
    assert rewritten == OURS + "".join(found.text for found in list_statements(text) if is_kept(found))
    assert rewrite_conf(rewritten, PLAN) == rewritten


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_every_key_of_ours_is_assigned_once(text: str) -> None:
    keys = [found.key for found in list_statements(rewrite_conf(text, PLAN)) if found.value is not None]
    assert sorted(key for key in keys if key in KEYS) == sorted(KEYS)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"FOO=1\n# \0\n", "line 2 of the container's conf has a NUL byte"),
        (b"FOO=1\r\n\r\nBAR=\xff\r\n", "line 3 of the container's conf has a value that is not UTF-8"),
        (b"FOO=1\rB\xffR=1\r", "line 2 of the container's conf has a value that is not UTF-8"),
        # U+FFFE, U+FDD0, a surrogate
        (b"FOO='\xef\xbf\xbe'", "line 1 of the container's conf has a value that is not UTF-8"),
        (b"FOO=\xef\xb7\x90", "line 1 of the container's conf has a value that is not UTF-8"),
        (b"FOO=\xed\xa0\x80", "line 1 of the container's conf has a value that is not UTF-8"),
    ],
)
def test_what_systemd_would_not_read_at_all_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    conf = tmp_path / "h-alice.conf"
    conf.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        rewrite_conf(read_conf(conf), PLAN)


def test_a_value_of_ours_that_cannot_be_read_is_gone_with_its_line(tmp_path: Path) -> None:
    conf = tmp_path / "h-alice.conf"
    conf.write_bytes(b"FOO=1\nHOST_PORT=\xff\n# \xff\n")
    write_conf(conf, rewrite_conf(read_conf(conf), PLAN))
    assert conf.read_bytes() == OURS.encode() + b"FOO=1\n# \xff\n"


def test_a_conf_that_systemd_could_find_too_long_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="more than"):
        rewrite_conf("#" * (LIMIT_BYTES - len(OURS) + 1), PLAN)
    assert len(rewrite_conf("#" * (LIMIT_BYTES - len(OURS)), PLAN)) == LIMIT_BYTES


@pytest.mark.parametrize(
    "line",
    [
        *("NETWORK_NAMESPACE_PATH=/proc/1/ns/net", "INTERFACES=eth1", "MACVLANS='eth0'", "root=/", "INSTANCE=h-bob"),
        *(" SYSTEM_PATH = /nix/store/other", "SYSTEM_PATH=\\\n/nix/store/other"),
    ],
)
def test_lines_that_make_another_container_of_it_are_refused(line: str) -> None:
    with pytest.raises(InvalidInputError, match="line 2 of the container's conf has") as refused:
        rewrite_conf(f"FOO=1\n{line}\n", PLAN)
    assert refused.value.hint == "remove the line"


def test_such_lines_that_say_nothing_are_kept() -> None:
    text = "INTERFACES=\nMACVLANS=''\nSYSTEM_PATH=\"\" \n#INTERFACES=eth1\nNOTE='\nINTERFACES=eth1\n'\n"
    assert rewrite_conf(text, PLAN) == OURS + text


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a*", "a?", "[a]", "a\\b", "$HOME", "a:b", "a\nb", "a\x7f", "é", "a/../b"]
)
def test_paths_that_the_start_script_would_not_keep_whole_are_refused(name: str) -> None:
    odd = Path("/srv") / name
    for mount in (Mount(odd, Path("/state")), Mount(Path("/srv"), odd)):
        with pytest.raises(InvalidInputError, match="cannot be bound into a NixOS container") as refused:
            rewrite_conf(CREATED, replace(PLAN, mounts=(mount,)))
        assert repr(str(odd)) in refused.value.message
        assert "move" in refused.value.hint


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be bound"):
        rewrite_conf(CREATED, replace(PLAN, mounts=(Mount(Path("state"), Path("/state")),)))


@pytest.mark.parametrize("flake", ["", "path:/srv\nHOST_ADDRESS=1", "path:/srv/a b", "path:/srv#container"])
def test_a_flake_that_would_not_be_read_as_it_is_is_refused(flake: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a conf's flake"):
        rewrite_conf(CREATED, replace(PLAN, flake=flake))


def test_what_is_not_refused_is_one_word_to_a_shell(tmp_path: Path) -> None:
    """In a folder where every pattern would match something."""
    mounts: list[Mount] = []
    for number in range(1, 0x250):
        mount = Mount(Path(f"/srv/a{chr(number)}b{chr(number)}"), Path(f"/{chr(number)}"), writable=bool(number % 2))
        try:
            rewrite_conf("", replace(PLAN, mounts=(mount,)))
        except InvalidInputError:
            continue
        mounts.append(mount)
    assert len(mounts) > 26 + 26 + 10
    flags = read_assignments(rewrite_conf("", replace(PLAN, mounts=tuple(mounts))))["EXTRA_NSPAWN_FLAGS"]
    for name in ("--settings=no", "x", "~", "--bind=", "srv"):
        (tmp_path / name).mkdir()
    script = 'shopt -s extglob dotglob nocaseglob; printf "%s\\0" $EXTRA_NSPAWN_FLAGS'
    environment = {"EXTRA_NSPAWN_FLAGS": flags, "HOME": "/root", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, check=True, capture_output=True)
    words = said.stdout.decode().split("\0")[:-1]
    binds = [f"--bind{'' if mount.writable else '-ro'}={mount.source}:{mount.target}" for mount in mounts]
    assert words[-len(binds) :] == binds
    assert len(words) == FLAGS.count(" ") - 1 + len(binds)


# -- the file ----------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_the_bytes_of_a_conf_are_kept(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    conf = tmp_path_factory.mktemp("etc") / "h-alice.conf"
    conf.write_bytes(content)
    write_conf(conf, read_conf(conf))
    assert conf.read_bytes() == content


def test_a_conf_is_readable_for_everybody_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    conf = tmp_path / "h-alice.conf"
    conf.write_text(CREATED)
    conf.chmod(0o600)
    write_conf(conf, OURS)
    assert conf.read_text() == OURS
    assert conf.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [conf]


def test_a_conf_of_the_machines_own_configuration_is_left_alone(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_text(CREATED)
    conf = tmp_path / "h-alice.conf"
    conf.symlink_to(stored)
    for act in (lambda: read_conf(conf), lambda: write_conf(conf, OURS)):
        with pytest.raises(DriverError) as refused:
            act()
        assert "containers.h-alice" in refused.value.hint
    assert conf.is_symlink()
    assert stored.read_text() == CREATED


def test_a_conf_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"h-alice\.conf cannot be read: No such file"):
        read_conf(tmp_path / "h-alice.conf")
    with pytest.raises(DriverError, match=r"h-alice\.conf cannot be written: No such file"):
        write_conf(tmp_path / "missing" / "h-alice.conf", OURS)
