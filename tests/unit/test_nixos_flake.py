"""The flake of an agent's container, and what nix says about it in the words of the agent's files."""

import json
from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.nix_errors import parse_failure
from hyperhive.host.drivers.nixos_flake import (
    Identity,
    NixInputs,
    load_inputs,
    parse_nix_inputs,
    render_flake,
    render_nix_inputs,
    write_flake,
)
from hyperhive.host.drivers.protocol import DriverError

HIVE, STABLE, UNSTABLE = (Path(f"/nix/store/{letter * 32}-source") for letter in "abc")
INPUTS = NixInputs(HIVE, STABLE, UNSTABLE)
ALICE = Identity("alice", "h-alice", 8945, "x86_64-linux")


def test_inputs_are_read_as_they_are_written() -> None:
    for inputs in (INPUTS, NixInputs(HIVE, STABLE)):
        assert parse_nix_inputs(render_nix_inputs(inputs)) == inputs
    assert parse_nix_inputs(f"  nixpkgs={STABLE}\n hyperhive={HIVE} ") == NixInputs(HIVE, STABLE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "hyperhive is missing"),
        (f"hyperhive={HIVE}", "nixpkgs is missing"),
        (f"nixpkgs={STABLE} unstable={UNSTABLE}", "hyperhive is missing"),
        (f"hyperhive={HIVE} nixpkgs={STABLE} nixpkgs={STABLE}", "is no input"),
        (f"hyperhive={HIVE} nixpkgs={STABLE} other={STABLE}", "is no input"),
        (f"hyperhive={HIVE} nixpkgs", "is no input"),
        *(
            (f"hyperhive={HIVE} nixpkgs={path}", "not a plain absolute path")
            for path in ("", "/", "nixpkgs", "/a/", "/a//b", "/a/../b", "/a/./b", "/a/.hidden", "github:NixOS/nixpkgs")
        ),
        *(
            (f"hyperhive={HIVE} nixpkgs=/a{char}b", "not a plain absolute path")
            for char in ('"', "'", "$", "{", "\\", "?", "#", "%", "&", ";", ":", "*", "~", "\0", "\x1b", "ä", "\uff0c")
        ),
    ],
)
def test_inputs_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        parse_nix_inputs(text)


def test_the_revision_is_another_one_whenever_an_input_moves() -> None:
    moved = Path("/nix/store/elsewhere")
    others = [NixInputs(moved, STABLE, UNSTABLE), NixInputs(HIVE, moved, UNSTABLE), NixInputs(HIVE, STABLE, moved)]
    revisions = {inputs.revision for inputs in (INPUTS, NixInputs(HIVE, STABLE), *others)}
    assert len(revisions) == 5
    assert NixInputs(HIVE, STABLE, UNSTABLE).revision == INPUTS.revision


def test_a_flake_takes_everything_from_paths_and_nothing_from_the_network() -> None:
    for inputs in (INPUTS, NixInputs(HIVE, STABLE)):
        files = render_flake(inputs, ALICE)
        text = files["flake.nix"].decode()
        assert text.count(".url = ") == text.count('.url = "path:/nix/store/') == len(inputs.list_paths())
        follows = "unstable" if inputs.unstable else "nixpkgs"
        assert f'hyperhive.inputs.unstable.follows = "{follows}";' in text
        assert 'hyperhive.inputs.nixpkgs.follows = "nixpkgs";' in text
        identity = {"name": "alice", "machine": "h-alice", "port": 8945, "system": "x86_64-linux"}
        assert json.loads(files["identity.json"]) == identity


def test_nothing_of_an_agent_is_in_the_text_of_its_flake() -> None:
    odd = Identity('"; evil = "${x}', "''${y}", 1, "\\")
    assert render_flake(INPUTS, odd)["flake.nix"] == render_flake(INPUTS, ALICE)["flake.nix"]
    assert json.loads(render_flake(INPUTS, odd)["identity.json"])["name"] == odd.name


def test_a_flake_is_written_whole_in_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "flakes" / "alice"
    write_flake(folder, INPUTS, ALICE, {"agent.nix": b"{ }", "parts/old.nix": b"{ }"})
    (folder / "flake.lock").write_text("{}")
    write_flake(folder, INPUTS, ALICE, {"agent.nix": b"{ a = 1; }", "parts/deep/new.nix": b"\xff"})
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    own = render_flake(INPUTS, ALICE)
    assert found == own | {"config/agent.nix": b"{ a = 1; }", "config/parts/deep/new.nix": b"\xff"}
    assert list(folder.parent.iterdir()) == [folder]
    assert load_inputs(folder) == INPUTS
    # Whoever evaluates it is nobody.
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_a_config_of_another_kind_or_that_leads_out_is_no_flake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"has no agent\.nix"):
        write_flake(tmp_path / "alice", INPUTS, ALICE, {"agent.toml": b""})
    for path in ("../flake.nix", "/etc/x", "a/../../flake.nix", "a//b", "./a", "a/", "", "a\0b"):
        with pytest.raises(InvalidInputError, match="no path of a config"):
            write_flake(tmp_path / "alice", INPUTS, ALICE, {"agent.nix": b"", path: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_flake_that_cannot_be_written_or_read_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DriverError, match="cannot be written"):
        write_flake(tmp_path / "file" / "alice", INPUTS, ALICE, {"agent.nix": b""})
    with pytest.raises(DriverError, match="no flake of an agent"):
        load_inputs(tmp_path)
    (tmp_path / "flake.nix").write_text("{ }")
    with pytest.raises(DriverError, match="no flake of an agent"):
        load_inputs(tmp_path)


SOURCE = "/nix/store/" + "0123456789abcdfghijklmnpqrsvwxyz" + "-source"
FILES = {"agent.nix": b"{\n  hyperhive.model = 3;\n  hyperhive.bash.allow = [ 4 ];\n}\n", "parts/x.nix": b"\n\n{ }\n"}
OLD = f"""\
warning: not writing modified lock file of flake 'path:/run/evaluation/flake':
trace: error: it was bob
error: attribute 'foo' missing

       at {SOURCE}/config/parts/x.nix:3:11:

            2|
            3| {{ a = b.foo; }}
             |       ^

       … while evaluating the attribute 'value'

       at {SOURCE}/config/agent.nix:2:3:

       … while calling a function

       at {SOURCE}/lib/modules.nix:849:21:
"""
NEW = f"""\
error:
       … while calling a function
         at {SOURCE}/lib/modules.nix:402:9:
          401|
          402|         config = 1;

       … from call site
         at {SOURCE}/config/agent.nix:2:3:

       … while evaluating the attribute 'value'
         at {SOURCE}/lib/modules.nix:849:21:

       error: attribute 'foo' missing
       at {SOURCE}/config/parts/x.nix:3:11:
            3| {{ a = b.foo; }}
"""


FOO = "attribute 'foo' missing"
AGENT_NIX = f"{SOURCE}/config/agent.nix"
NOT_A_STRING = "A definition for option `hyperhive.model' is not of type `string'. Definition values:"
ENTRY = "option `hyperhive.bash.allow.\"[definition 1-entry 1]\"' is not of type `string'. - In"
WITHIN = "".join(f"       … while evaluating the option `{name}':\n\n" for name in ("hyperhive.model", "hyperhive"))
SAID = [
    (OLD, f"parts/x.nix line 3: {FOO}"),
    (NEW, f"parts/x.nix line 3: {FOO}"),
    # A place of somebody else is none of the agent's: the nearest of its own counts.
    (OLD.replace("config/parts/x.nix", "config/other.nix"), f"agent.nix line 2: {FOO}"),
    (NEW.replace("config/parts/x.nix", "lib/x.nix"), f"agent.nix line 2: {FOO}"),
    # Newer ones name what they did not copy.
    (NEW.replace(SOURCE, "«path:/run/evaluation/flake?lastModified=1»"), f"parts/x.nix line 3: {FOO}"),
    (f"error: it is bad, at {AGENT_NIX}:2:7", "agent.nix line 2: it is bad, at agent.nix:2:7"),
    # Definitions have a file: the line is where the option is named.
    (
        f"error: {NOT_A_STRING}\n       - In `/run/evaluation/scratch/store{AGENT_NIX}': 3\n",
        f"agent.nix line 2: {NOT_A_STRING} - In `agent.nix': 3",
    ),
    (
        f"error:\n       … while evaluating\n\n       error: A definition for {ENTRY} `{AGENT_NIX}'",
        f"agent.nix line 3: A definition for {ENTRY} `agent.nix'",
    ),
    # What an agent throws has no place with nix 2.8, but for that of its definition.
    (
        f"error: no\n\n       … while evaluating definitions from `{AGENT_NIX}':\n\n{WITHIN}",
        "agent.nix line 2: no",
    ),
    # Nowhere, or in several places: then no line is told.
    (f"error: The option `x.none' is not in `{AGENT_NIX}'", "agent.nix: The option `x.none' is not in `agent.nix'"),
    (f"error: The option `hyperhive' in `{AGENT_NIX}'", "agent.nix: The option `hyperhive' in `agent.nix'"),
    (
        "error: stack overflow (possible infinite recursion)\n",
        "agent.nix: stack overflow (possible infinite recursion)",
    ),
    (
        "error: access to path '/run/evaluation/scratch/store/x' is forbidden (use '--impure' to override)",
        "agent.nix: access to path '/x' is forbidden",
    ),
    (
        f"error: getting status of '{STABLE}/flake.nix' and '/srv/pkgs/x' and '/srv/pkgs2'",
        "agent.nix: getting status of 'flake.nix' and '<nixpkgs>/x' and '/srv/pkgs2'",
    ),
    ("", "agent.nix: it cannot be evaluated"),
    ("error:", "agent.nix: it cannot be evaluated"),
    ("\x1b[31;1merror:\x1b[0m \x1b]0;title\x07a\x1bb \u202e\r\nc", "agent.nix: a\\x1bb \\u202e c"),
]


@pytest.mark.parametrize(("said", "expected"), SAID)
def test_what_nix_says_is_told_in_the_words_of_the_agents_files(said: str, expected: str) -> None:
    folders = {Path("/run/evaluation/scratch/store"): "", Path("/srv/pkgs"): "<nixpkgs>"}
    assert parse_failure(said.encode(), FILES, folders).render() == expected


def test_a_failure_without_a_place_says_so() -> None:
    failure = parse_failure(b"error: cannot connect to socket", FILES, {})
    assert (failure.file, failure.line) == (None, None)
    assert parse_failure(OLD.encode(), FILES, {}).line == 3
