"""What agents write in Nix is evaluated by the real nix with nothing in reach; what is wrong is told by its line."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nix_rig
from hive_process import wait_for
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.uids import EVALUATION_UID
from hyperhive.host.drivers.nix_evaluation import Bounds, evaluate_agent, evaluate_system
from hyperhive.host.drivers.nix_room import Nix, observe_nix
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.pids import ProcessId, find_process, wait_gone
from nix_machines import NixMachine, run_nix_machine
from nix_rig import Variant
from unprivileged import make_installation

IDENTITY = Identity("alice", "h-alice", 8945, nix_rig.SYSTEM)
CANARY = "what-nobody-may-read"
DERIVATION = f'derivation {{ name = "x"; system = "{nix_rig.SYSTEM}"; builder = "/bin/sh"; }}'
# A text that is doubled this many times.
GROW = "let grow = n: s: if n == 0 then s else grow (n - 1) (s + s); in"
ENDLESS = "{ hyperhive.model = builtins.foldl' (sum: n: sum + n) 0 (builtins.genList (n: n) 100000000); }"


@pytest.fixture(scope="module", params=[Variant.STAND_IN, Variant.LIB])
def inputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NixInputs:
    return nix_rig.make_inputs(tmp_path_factory.mktemp("inputs"), request.param).of_driver


@pytest.fixture(scope="module")
def plain_inputs(tmp_path_factory: pytest.TempPathFactory) -> NixInputs:
    return nix_rig.make_inputs(tmp_path_factory.mktemp("inputs")).of_driver


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixMachine]:
    with run_nix_machine(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def open_secret() -> Iterator[Path]:
    """What everybody on the machine may read, and no evaluation."""
    with tempfile.TemporaryDirectory(prefix="open-") as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret.nix"
        secret.write_text(json.dumps(CANARY))
        yield secret


async def evaluate(folder: Path, inputs: NixInputs, files: dict[str, str] | str, **asked: Any) -> dict[str, Any]:
    """The options of a config with these files, or with this agent.nix; nothing of that is left afterwards."""
    texts = {"agent.nix": files} if isinstance(files, str) else files
    flake = folder / "flake"
    write_flake(flake, inputs, IDENTITY, {name: text.encode() for name, text in texts.items()})
    before = list_files(flake)
    try:
        return json.loads(await evaluate_agent(flake, **asked))
    finally:
        wait_for(lambda: find_evaluations(flake) == [], "the evaluation's processes to be gone", 10)
        assert list_files(flake) == before


async def refuse(folder: Path, inputs: NixInputs, files: dict[str, str] | str, **asked: Any) -> str:
    """What is said about a config that is refused: on one line, without hidden characters or paths of the machine."""
    with pytest.raises(InvalidInputError) as refused:
        await evaluate(folder, inputs, files, **asked)
    message = refused.value.message
    assert message.isprintable()
    assert len(message) < 800
    assert CANARY not in message
    for place in ("/nix/store", "-source", "/run/evaluation", str(folder), *map(str, inputs.list_paths())):
        assert place not in message
    assert refused.value.hint
    return message


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def find_evaluations(flake: Path) -> list[ProcessId]:
    """The processes that see this flake as their own."""
    found: list[ProcessId] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            seen = (entry / "mountinfo").read_text()
        except OSError:
            continue
        if f"{flake} /run/evaluation/flake " in seen and (process := find_process(int(entry.name))):
            found.append(process)
    return found


async def test_an_agents_options_are_its_own_files_and_the_hives_defaults(tmp_path: Path, inputs: NixInputs) -> None:
    files = {
        "agent.nix": "{ imports = [ ./parts/model.nix ]; hyperhive.bash.allow = import ./allowed.nix; }",
        "parts/model.nix": "{ lib, ... }: { hyperhive.model = lib.mkDefault (builtins.readFile ../model.txt); }",
        "allowed.nix": '[ "git *" ]',
        "model.txt": "opus",
    }
    options = await evaluate(tmp_path, inputs, files)
    assert options["model"] == "opus"
    assert options["bash"] == {"allow": ["git *"], "ask": [], "deny": []}
    assert options["notesLimit"] == 32768


async def test_a_whole_system_is_named_and_not_built(tmp_path: Path, inputs: NixInputs) -> None:
    write_flake(tmp_path / "flake", inputs, IDENTITY, {"agent.nix": b"{ }"})
    assert re.fullmatch(r"/nix/store/[a-z0-9]{32}-[\w.+-]+\.drv", await evaluate_system(tmp_path / "flake"))
    late = b'{ environment.systemPackages = throw "too late"; }'
    write_flake(tmp_path / "flake", inputs, IDENTITY, {"agent.nix": late})
    await evaluate_agent(tmp_path / "flake")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("{\n  hyperhive.model = \"x\"\n}", 3, "syntax error, unexpected '}'"),
        ("{\n  hyperhive.model = {}.foo;\n}", 2, "attribute 'foo' missing"),
        ("{\n\n  hyperhive.model = foo;\n}", 3, "undefined variable 'foo'"),
        ("{ hyperhive.model = 1;\n  hyperhive.model = 2; }", 2, "attribute 'hyperhive.model' already defined"),
        ("{ hyperhive.model =\n  \"${1}\"; }", 2, "cannot coerce an integer to a string"),
        ("{\n  hyperhive.model = 3;\n}", 2, "A definition for option `hyperhive.model' is not of type `string'."),
        ("{\n  hyperhive.notesLimit = \"many\";\n}", 2, "`hyperhive.notesLimit' is not of type"),
        ("{\n  hyperhive.modle = \"x\";\n}", 2, "The option `hyperhive.modle' does not exist."),
        ("{\n  hyperhive.model =\n    throw \"not today\"; }", 2, "not today"),
        ("{\n  hyperhive.model = assert false; \"\"; }", 2, "assertion 'false' failed"),
        ("", 1, "syntax error, unexpected end of file"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_with_its_line(
    text: str, line: int, words: str, tmp_path: Path, inputs: NixInputs
) -> None:
    message = await refuse(tmp_path, inputs, text)
    assert message.startswith(f"agent.nix line {line}: ")
    assert words in message
    # The same in another file is told by that file's name.
    files = {"agent.nix": "{ imports = [ ./parts/x.nix ]; }", "parts/x.nix": text}
    message = await refuse(tmp_path, inputs, files)
    assert message.startswith(f"parts/x.nix line {line}: ")
    assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ 1 ]", "value is a list while a set was expected"),
        ('{ imports = [ ./other.nix ]; }', "getting status of"),
        ('{ hyperhive.packages = [ "no-such-package" ]; }', "no package 'no-such-package'"),
    ],
)  # fmt: skip
async def test_what_has_no_line_is_told_of_the_file(
    text: str, words: str, tmp_path: Path, plain_inputs: NixInputs
) -> None:
    message = await refuse(tmp_path, plain_inputs, text)
    assert message.startswith("agent.nix: ")
    assert words in message


READS = {
    "readFile": "builtins.readFile {path}",
    "readFile of a text": 'builtins.readFile "{path}"',
    "a path in a text": '"${{{path}}}"',
    "path": 'builtins.readFile (builtins.path {{ path = {path}; name = "x"; }})',
    "filterSource": "builtins.filterSource (_: _: true) {path}",
    "import": "import {path}",
    "readDir": 'builtins.concatStringsSep "," (builtins.attrNames (builtins.readDir (builtins.dirOf {path})))',
    "hashFile": 'builtins.hashFile "sha256" {path}',
    "scopedImport": "builtins.scopedImport {{ }} {path}",
    "up from here": "builtins.readFile (./../../../../../../../../../../. + {path})",
    "a text up from here": 'builtins.readFile "${{./.}}/../../../../../../../../../..{path}"',
    "fetchurl": 'builtins.readFile (builtins.fetchurl "file://{path}")',
    "fetchTree": 'builtins.readFile (builtins.fetchTree {{ type = "path"; path = "{path}"; }}).outPath',
    "getFlake": 'builtins.toString (builtins.getFlake "path:{path}")',
    "findFile": 'builtins.readFile (builtins.findFile [ {{ prefix = "x"; path = "{path}"; }} ] "x")',
}  # fmt: skip


@pytest.mark.parametrize("form", READS.values(), ids=READS.keys())
async def test_no_file_of_the_machine_is_read(
    form: str, tmp_path: Path, plain_inputs: NixInputs, open_secret: Path
) -> None:
    for path in (Path("/etc/shadow"), Path("/etc/passwd"), open_secret):
        text = "{\n  hyperhive.model = " + form.format(path=path) + ";\n}"
        message = await refuse(tmp_path, plain_inputs, text)
        assert message.startswith("agent.nix"), message
        assert "root:" not in message


async def test_what_is_on_the_machine_cannot_even_be_asked(
    tmp_path: Path, plain_inputs: NixInputs, open_secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    asked = [
        f"builtins.pathExists {path}" for path in ("/etc", "/etc/shadow", open_secret, open_secret.parent, "/work")
    ]
    asked += ['builtins.getEnv "CANARY" != ""', 'builtins.getEnv "HOME" != ""', "builtins ? currentTime"]
    asked += ["builtins ? currentSystem", "builtins ? exec", "builtins ? importNative", "builtins.nixPath != [ ]"]
    text = f"{{ hyperhive.environment = builtins.mapAttrs (_: toString) {{ {' '.join(_name(asked))} }}; }}"
    options = await evaluate(tmp_path, plain_inputs, text)
    assert options["environment"] == {f"a{number}": "" for number in range(len(asked))}


def _name(expressions: list[str]) -> list[str]:
    return [f"a{number} = {expression};" for number, expression in enumerate(expressions)]


REACHES = {
    "fetchurl": 'builtins.fetchurl "http://127.0.0.1:{port}/"',
    "fetchurl with a hash": 'builtins.fetchurl {{ url = "http://127.0.0.1:{port}/"; sha256 = "{hash}"; }}',
    "fetchTarball": 'builtins.fetchTarball "http://127.0.0.1:{port}/x.tar.gz"',
    "fetchTarball with a hash": 'builtins.fetchTarball {{ url = "http://127.0.0.1:{port}/x"; sha256 = "{hash}"; }}',
    "fetchGit": 'builtins.fetchGit "http://127.0.0.1:{port}/x.git"',
    "fetchGit with a revision": '"${{builtins.fetchGit {{ url = "http://127.0.0.1:{port}/"; rev = "{revision}"; }}}}"',
    "fetchMercurial": 'builtins.fetchMercurial "http://127.0.0.1:{port}/x"',
    "getFlake": 'toString (builtins.getFlake "git+http://127.0.0.1:{port}/x?rev={revision}")',
    "fetchTree": '(builtins.fetchTree {{ type = "tarball"; url = "http://127.0.0.1:{port}/x.tar.gz"; }}).outPath',
    "fetchClosure": "builtins.fetchClosure {{ }}",
    "storePath": "builtins.storePath {store}",
    "a search path": "toString <nixpkgs>",
    "exec": 'builtins.exec [ "id" ]',
    "import from derivation": "import ({derivation})",
    "readFile from derivation": 'builtins.readFile "${{{derivation}}}/x"',
    "abort": 'builtins.abort "no"',
}  # fmt: skip


@pytest.mark.parametrize("form", REACHES.values(), ids=REACHES.keys())
async def test_nothing_is_fetched_run_or_built(form: str, tmp_path: Path, plain_inputs: NixInputs) -> None:
    calls: list[asyncio.StreamReader] = []

    def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(reader)
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    mark = tmp_path / "built"
    builder = DERIVATION.replace("/bin/sh", f'/bin/sh"; args = [ "-c" "echo > {mark}" ]; x = "')
    text = form.format(
        port=server.sockets[0].getsockname()[1],
        hash="0" * 52,
        revision="1" * 40,
        store="/nix/store/" + "0" * 32 + "-x",
        derivation=builder,
    )
    async with server:
        message = await refuse(tmp_path, plain_inputs, "{\n  hyperhive.model = " + text + ";\n}", bounds=Bounds(30))
    assert message.startswith("agent.nix line 2: ") or form.startswith("builtins.abort"), message
    assert calls == []
    assert not mark.exists()


async def test_a_derivation_is_only_named(tmp_path: Path, plain_inputs: NixInputs) -> None:
    made = f'A = "${{{DERIVATION}}}"; B = "${{./agent.nix}}"; C = builtins.toFile "x" "y";'
    options = await evaluate(tmp_path, plain_inputs, f"{{ hyperhive.environment = {{ {made} }}; }}")
    assert {value[:11] for value in options["environment"].values()} == {"/nix/store/"}


TOO_MUCH = {
    "infinite recursion": ("let x = x; in x", "infinite recursion encountered"),
    "deep recursion": ("let f = n: 1 + f n; in toString (f 1)", "stack overflow"),
    "a deep value": (
        "let f = n: if n == 0 then { } else { a = f (n - 1); }; in builtins.toJSON (f 10000000)",
        "stack overflow",
    ),
    "a huge list": ("toString (builtins.length (builtins.genList (n: n) 2000000000))", "MiB of memory"),
    "a text of 200 MB": (f'{GROW} grow 24 "twelve chars"', "1,024 KiB"),
    "a text of gigabytes": (f'{GROW} grow 34 "twelve chars"', "MiB of memory"),
    "50 MB of JSON": ('builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 5000000)', "1,024 KiB"),
    "many values": (
        "toString (builtins.foldl' (all: n: all ++ [ { a = all; } ]) [ ] (builtins.genList (n: n) 100000))",
        "MiB of memory",
    ),
    "a big file": (f'{GROW} builtins.readFile (builtins.toFile "x" (grow 24 "twelve chars"))', "is not valid"),
}


@pytest.mark.parametrize(("text", "words"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_too_much_is_refused(text: str, words: str, tmp_path: Path, plain_inputs: NixInputs) -> None:
    began = time.monotonic()
    config = "{\n  hyperhive.model = " + text + ";\n}"
    message = await refuse(tmp_path, plain_inputs, config, bounds=Bounds(60, 1024**3))
    assert message.startswith("agent.nix"), message
    assert words in message
    assert time.monotonic() - began < 60


async def test_an_endless_loop_is_ended_and_disturbs_nobody(tmp_path: Path, plain_inputs: NixInputs) -> None:
    (tmp_path / "other").mkdir()
    endless = asyncio.create_task(refuse(tmp_path, plain_inputs, ENDLESS, bounds=Bounds(4)))
    processes = await wait_started(tmp_path / "flake")
    options = await evaluate(tmp_path / "other", plain_inputs, '{ hyperhive.model = "opus"; }')
    assert options["model"] == "opus"
    assert not endless.done()
    assert await endless == "agent.nix: it is not evaluated within 4 s"
    for process in processes:
        assert await wait_gone(process, 5)


async def test_an_evaluation_ends_with_the_task_that_waits_for_it(tmp_path: Path, plain_inputs: NixInputs) -> None:
    endless = asyncio.create_task(evaluate(tmp_path, plain_inputs, ENDLESS))
    processes = await wait_started(tmp_path / "flake")
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    for process in processes:
        assert await wait_gone(process, 5)


async def test_an_evaluation_ends_with_the_program_that_asked_for_it(tmp_path: Path, plain_inputs: NixInputs) -> None:
    flake = tmp_path / "flake"
    write_flake(flake, plain_inputs, IDENTITY, {"agent.nix": ENDLESS.encode()})
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(flake))
    try:
        processes = await wait_started(flake)
    finally:
        program.kill()
        await program.wait()
    for process in processes:
        assert await wait_gone(process, 5)


PROGRAM = """\
import asyncio, sys
from pathlib import Path
from hyperhive.host.drivers.nix_evaluation import evaluate_agent
print(asyncio.run(evaluate_agent(Path(sys.argv[1]))).decode())
"""


async def wait_started(flake: Path) -> list[ProcessId]:
    """The processes of an evaluation, once nix is at work as the uid that it is to have."""

    def find() -> list[ProcessId]:
        found = find_evaluations(flake)
        names = {Path(f"/proc/{process.pid}/comm").read_text().strip() for process in found}
        return found if "nix" in names else []

    return await asyncio.to_thread(wait_for, find, "nix to be at work")


async def test_whoever_evaluates_is_nobody_and_alone(tmp_path: Path, plain_inputs: NixInputs) -> None:
    endless = asyncio.create_task(evaluate(tmp_path, plain_inputs, ENDLESS))
    processes = await wait_started(tmp_path / "flake")
    [nix] = [process for process in processes if Path(f"/proc/{process.pid}/comm").read_text().strip() == "nix"]
    proc = Path(f"/proc/{nix.pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {str(EVALUATION_UID)}
    assert set(status["Gid"].split()) == {str(EVALUATION_UID)}
    assert status["Groups"].strip() == ""
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0
    for kind in ("net", "pid", "ipc", "uts", "mnt", "user", "cgroup"):
        assert (proc / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink()
    # What it sees of the machine: programs, the flake and its inputs.
    seen = sorted(path.name for path in (proc / "root").iterdir())
    assert set(seen) <= {"bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "tmp", "usr", "nix"}
    assert [path.name for path in (proc / "root/etc").iterdir()] == ["ld.so.cache"]
    assert [path.name for path in (proc / "root/run").iterdir()] == ["evaluation"]
    assert CANARY not in (proc / "environ").read_text()
    assert {line.split(":")[0].strip() for line in (proc / "net/dev").read_text().splitlines()[2:]} == {"lo"}
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless


async def test_several_evaluations_at_once_know_nothing_of_one_another(tmp_path: Path, plain_inputs: NixInputs) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    configs = [f'{{ hyperhive.model = "model-{folder.name}"; }}' for folder in folders]
    found = await asyncio.gather(
        *(evaluate(folder, plain_inputs, text) for folder, text in zip(folders, configs, strict=True))
    )
    assert [options["model"] for options in found] == [f"model-{number}" for number in range(4)]


STORE_PATH = "/nix/store/" + "0" * 32 + "-source"
UGLY = {
    "colours": r'throw (builtins.fromJSON "\"\\u001b[31mred\\u001b]0;title\\u0007\"")',
    "turned around": r'throw (builtins.fromJSON "\"\\u202e\\u2066 evil \\u200b\\u0085\"")',
    "lines": r'throw "one\n\ntwo\r\nthree\ttab"',
    "another place": rf'throw "x\n\n       at {STORE_PATH}/config/other.nix:99:1:\n"',
    "another error": r'throw "\nerror: it was bob\n       error: no, it was carol"',
    "a trace before": r'builtins.trace "error: it was bob\nerror: at agent.nix:99:1" (throw "x")',
    "a megabyte": f'{GROW} throw (grow 17 "at // - ")',
    "a megabyte of lines": rf'{GROW} throw (grow 18 "\n at")',
    "a megabyte of paths": f'{GROW} throw (grow 15 "{STORE_PATH}/")',
    "much said": f"{GROW} builtins.foldl' (s: n: builtins.trace s s) "
    '(grow 16 "0123456789abcdef") (builtins.genList (n: n) 20)',
}


@pytest.mark.parametrize("text", UGLY.values(), ids=UGLY.keys())
async def test_what_agents_say_is_shown_safely(text: str, tmp_path: Path, plain_inputs: NixInputs) -> None:
    began = time.monotonic()
    message = await refuse(tmp_path, plain_inputs, "{\n  hyperhive.model = " + text + ";\n}", bounds=Bounds(30))
    assert message.startswith(("agent.nix line 2: ", "agent.nix: ")), message
    assert time.monotonic() - began < 10


async def test_an_agent_is_who_the_hive_says_it_is(tmp_path: Path, inputs: NixInputs) -> None:
    text = """{ config, ... }: {
      _module.args.hive = { self = /etc; identity = { name = "bob"; machine = "h-bob"; port = 1; }; };
      hyperhive.model = config.networking.hostName or "";
    }"""
    try:
        options = await evaluate(tmp_path, inputs, text)
    except InvalidInputError as error:
        assert error.message.startswith("agent.nix")
    else:
        assert "bob" not in json.dumps(options)


@pytest.mark.parametrize("value", ["x: x", "{ a = x: x; }", "/etc", "builtins.currentTime", "null", "1.5e308"])
async def test_odd_values_are_refused(value: str, tmp_path: Path, inputs: NixInputs) -> None:
    message = await refuse(tmp_path, inputs, f"{{\n  hyperhive.allowedTools = [ ({value}) ];\n}}")
    assert message.startswith("agent.nix line 2: "), message


async def test_the_machines_fault_is_not_the_configs(tmp_path: Path, plain_inputs: NixInputs) -> None:
    broken = tmp_path / "hyperhive"
    broken.mkdir()
    (broken / "flake.nix").write_text("{ outputs = _: { lib = { }; }; }")
    inputs = NixInputs(broken, plain_inputs.nixpkgs)
    with pytest.raises(DriverError, match="attribute 'makeAgent' missing"):
        await evaluate(tmp_path, inputs, '{ hyperhive.model = "x"; }')
    with pytest.raises(DriverError, match="no config can be evaluated"):
        await evaluate(tmp_path, NixInputs(tmp_path / "gone", plain_inputs.nixpkgs), "{ }")
    missing = Nix(tmp_path / "no-nix")
    with pytest.raises(DriverError, match="no config can be evaluated"):
        await evaluate(tmp_path, plain_inputs, "{ }", nix=missing)


async def test_without_an_unstable_nixpkgs_nothing_is_fetched_either(tmp_path: Path, plain_inputs: NixInputs) -> None:
    inputs = NixInputs(plain_inputs.hyperhive, plain_inputs.nixpkgs)
    assert (await evaluate(tmp_path, inputs, '{ hyperhive.model = "x"; }'))["model"] == "x"


async def test_a_daemons_store_gets_the_flake_and_nothing_that_the_agent_made(
    tmp_path: Path, plain_inputs: NixInputs, machine: NixMachine
) -> None:
    inputs = NixInputs(machine.add(plain_inputs.hyperhive), machine.add(plain_inputs.nixpkgs))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/text").write_text(CANARY)
    other = machine.add(tmp_path / "secret")
    before = machine.list_store()
    made = f'A = "${{{DERIVATION}}}"; B = "${{./agent.nix}}"; C = builtins.toFile "x" "y";'
    text = f"{{ hyperhive.environment = {{ {made} }}; }}"
    options = await evaluate(tmp_path, inputs, text, nix=machine.nix)
    assert len(options["environment"]) == 3
    assert len(machine.list_store() - before) == 1
    for read in (
        f"{other}/text",
        f'"{other}/text"',
        f'"${{builtins.appendContext "{other}" {{ "{other}".path = true; }}}}/text"',
    ):
        text = f"{{\n  hyperhive.model = builtins.readFile ({read});\n}}"
        message = await refuse(tmp_path, inputs, text, nix=machine.nix)
        assert message.startswith("agent.nix line 2: "), message
    write_flake(tmp_path / "flake", inputs, IDENTITY, {"agent.nix": b"{ }"})
    assert (await evaluate_system(tmp_path / "flake", nix=machine.nix)).endswith(".drv")


def test_a_user_without_privileges_evaluates_as_themselves(plain_inputs: NixInputs) -> None:
    with tempfile.TemporaryDirectory(prefix="hive-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        installation = make_installation(folder)
        inputs = NixInputs(folder / "hyperhive", folder / "nixpkgs")
        shutil.copytree(plain_inputs.hyperhive, inputs.hyperhive)
        shutil.copytree(plain_inputs.nixpkgs, inputs.nixpkgs)
        write_flake(folder / "flake", inputs, IDENTITY, {"agent.nix": b'{ hyperhive.model = "opus"; }'})
        command = [*installation.command, "-c", PROGRAM, str(folder / "flake")]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model"] == "opus"


async def test_programs_may_be_links_in_a_place_that_no_evaluation_sees(
    tmp_path: Path, plain_inputs: NixInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tmp_path / "bin"
    places.mkdir()
    for name in ("nix", "bwrap", "prlimit", "setpriv"):
        program = shutil.which(name)
        assert program
        (places / name).symlink_to(program)
    monkeypatch.setenv("PATH", str(places))
    assert (await evaluate(tmp_path, plain_inputs, '{ hyperhive.model = "x"; }'))["model"] == "x"


def test_a_nix_is_found_where_programs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert observe_nix().program.name == "nix"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DriverError, match="no nix"):
        observe_nix()
