"""The packages of a system, told by the real nix before anything of it is built, and what they take in a real store."""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import nix_rig
from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.host.drivers.nix_evaluation import Bounds, evaluate_packages
from hyperhive.host.drivers.nix_packages import parse_packages
from hyperhive.host.drivers.nix_store import compare_packages
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from hyperhive.host.drivers.protocol import DriverError, Package, SizeDifference
from hyperhive.system.process import OUTPUT_LIMIT_BYTES, Completed
from nix_machines import NixMachine, ask_here, run_nix_machine
from nix_rig import Variant

IDENTITY = Identity("alice", "h-alice", 8945, nix_rig.SYSTEM)
NOWHERE = "/nix/store/00000000000000000000000000000000-homemade-1"
# What nix says has two places behind the point, and what is compared here is a difference of two.
ROUNDED_BYTES = 1024**2 // 100


@pytest.fixture(scope="module", params=list(Variant))
def inputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NixInputs:
    return nix_rig.make_inputs(tmp_path_factory.mktemp("inputs"), request.param).of_driver


@pytest.fixture(scope="module")
def plain_inputs(tmp_path_factory: pytest.TempPathFactory) -> NixInputs:
    return nix_rig.make_inputs(tmp_path_factory.mktemp("inputs")).of_driver


async def list_packages(folder: Path, inputs: NixInputs, text: str, timeout_s: float = 60) -> list[Package]:
    """The packages of a system with this agent.nix."""
    write_flake(folder / "flake", inputs, IDENTITY, {"agent.nix": text.encode()})
    return parse_packages(await evaluate_packages(folder / "flake", bounds=Bounds(timeout_s)))


async def refuse(folder: Path, inputs: NixInputs, text: str, timeout_s: float = 60) -> str:
    with pytest.raises(InvalidInputError) as refused:
        await list_packages(folder, inputs, text, timeout_s)
    message = refused.value.message
    assert message.startswith("agent.nix") and message.isprintable() and len(message) < 800
    assert refused.value.hint
    return message


# -- what a system has -----------------------------------------------------------------------------------------


async def test_a_system_has_the_packages_that_its_config_names_and_what_each_has(
    tmp_path: Path, inputs: NixInputs
) -> None:
    base = await list_packages(tmp_path, inputs, "{ }")
    assert {"curl", "git"} <= {package.name for package in base}
    text = """{ pkgs, ... }: {
      hyperhive.packages = [ "jq" "python3Packages.requests" ];
      environment.systemPackages = [ pkgs.hello pkgs.hello pkgs.jq ];
    }"""
    found = await list_packages(tmp_path, inputs, text)
    more = [package for package in found if package not in base]
    assert [package.name for package in more] == ["hello", "jq", "requests"]
    assert all(package.version and package.path.startswith("/nix/store/") for package in more)
    assert set(base) < set(found)


async def test_without_a_name_and_a_version_of_its_own_a_package_has_those_of_its_derivation(
    tmp_path: Path, plain_inputs: NixInputs
) -> None:
    text = """{ pkgs, ... }: {
      environment.systemPackages = map (name: derivation { inherit name; system = "x86_64-linux"; builder = "/x"; })
        [ "tool-of-mine-2.5-pre" "plain" ];
    }"""
    found = await list_packages(tmp_path, plain_inputs, text)
    assert [(package.name, package.version) for package in found[2:]] == [("plain", ""), ("tool-of-mine", "2.5-pre")]


async def test_a_package_with_another_dependency_has_another_place(tmp_path: Path, plain_inputs: NixInputs) -> None:
    text = """{
      environment.systemPackages = [
        (derivation { name = "tool-1"; system = "x86_64-linux"; builder = "/x"; VARIANT = "@"; })
      ];
    }"""
    one, other = [await list_packages(tmp_path, plain_inputs, text.replace("@", mark)) for mark in "12"]
    assert len({package.path for package in (*one, *other) if package.name == "tool"}) == 2


async def test_the_flake_that_is_present_is_what_counts(tmp_path: Path, plain_inputs: NixInputs) -> None:
    text = "{ pkgs, ... }: { environment.systemPackages = [ pkgs.claude-code ]; }"
    found = await list_packages(tmp_path, plain_inputs, text)
    assert ("claude-code", "2.0") in [(package.name, package.version) for package in found]
    without = NixInputs(plain_inputs.hyperhive, plain_inputs.nixpkgs)
    found = await list_packages(tmp_path, without, text)
    assert ("claude-code", "1.0") in [(package.name, package.version) for package in found]


async def test_a_package_may_lie_about_itself_and_no_more_than_that(tmp_path: Path, plain_inputs: NixInputs) -> None:
    name, other = "<b>\n" + "x" * 100, "/nix/store/00000000000000000000000000000000-glibc"
    lie = f'pname = {json.dumps(name)}; version = 7; outPath = "{other}";'
    text = f"{{ pkgs, ... }}: {{ environment.systemPackages = [ (pkgs.hello // {{ {lie} }}) ]; }}"
    assert Package(name, "7", other) in await list_packages(tmp_path, plain_inputs, text)


LIES = {
    "a place on the machine": ('pkgs.hello // { outPath = "/etc/passwd"; }', "no place in the store"),
    "an option": ('pkgs.hello // { outPath = "--help"; }', "no place in the store"),
    "a file of a package": ('pkgs.hello // { outPath = "${pkgs.hello}/bin/hello"; }', "no place in the store"),
    "what builds a package": ("pkgs.hello // { outPath = pkgs.hello.drvPath; }", "no place in the store"),
    "a name without an end": (f'pkgs.hello // {{ pname = "{"x" * 300}"; }}', "at most 211 characters"),
    "no name": ('pkgs.hello // { pname = ""; }', "at least 1 character"),
    "a function": ("x: x", "line 2"),
    "no derivation": ('{ name = "hello"; outPath = "/nix/store"; }', "line 2"),
    "nothing of a derivation but that": ('{ type = "derivation"; }', "attribute 'name' missing"),
    "a name that is none": ('{ type = "derivation"; name = { }; outPath = ""; }', "a set while a string was expected"),
    "a failure": ('pkgs.hello // { version = throw "not today"; }', "line 2: not today"),
    "a package without a licence": ("pkgs.unrar", "unfree license"),
    "what must be built to be known": ('import (pkgs.runCommand "x" { } "echo > $out")', "line 2"),
}


@pytest.mark.parametrize(("text", "words"), LIES.values(), ids=LIES.keys())
async def test_what_is_no_package_is_refused(text: str, words: str, tmp_path: Path, plain_inputs: NixInputs) -> None:
    config = "{ pkgs, ... }: {\n environment.systemPackages = [ (" + text + ") ]; }"
    message = await refuse(tmp_path, plain_inputs, config)
    assert words in message


MANY = """{ pkgs, ... }: {
  environment.systemPackages = builtins.genList (n: pkgs.hello // { version = toString n; }) @;
}"""


async def test_a_hundred_thousand_packages_are_too_many(tmp_path: Path, plain_inputs: NixInputs) -> None:
    assert "more than 1,024 KiB" in await refuse(tmp_path, plain_inputs, MANY.replace("@", "100000"))
    assert "more than 2,048 packages" in await refuse(tmp_path, plain_inputs, MANY.replace("@", "3000"))
    assert len(await list_packages(tmp_path, plain_inputs, MANY.replace("@", "2000"))) == 2002


async def test_what_has_no_end_is_ended(tmp_path: Path, plain_inputs: NixInputs) -> None:
    loop = "{ environment.systemPackages = builtins.foldl' (sum: n: sum + n) 0 (builtins.genList (n: n) 100000000); }"
    began = time.monotonic()
    assert "within 3 s" in await refuse(tmp_path, plain_inputs, loop, 3)
    deep = "{ environment.systemPackages = let f = n: f (n + 1); in f 0; }"
    assert "stack overflow" in await refuse(tmp_path, plain_inputs, deep)
    long = "{ pkgs, ... }: { environment.systemPackages = let all = [ pkgs.hello ] ++ all; in all; }"
    assert "infinite recursion" in await refuse(tmp_path, plain_inputs, long)
    assert time.monotonic() - began < 30


# -- what it takes ---------------------------------------------------------------------------------------------

# tool-1 needs libold and libshared, tool-2 libnew and libshared, and so does base.
PACKAGES = """\
let
  make = name: kib: deps: derivation {
    inherit name deps;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "(echo $deps; /usr/bin/head -c ${toString (kib * 1024)} /dev/urandom) > $out" ];
  };
in
rec {
  libold = make "libold-1" 300 [ ];
  libnew = make "libnew-1" 1700 [ ];
  libshared = make "libshared-1" 900 [ ];
  base = make "base-1" 100 [ libshared ];
  old = make "tool-1" 500 [ libold libshared ];
  new = make "tool-2" 700 [ libnew libshared ];
  other = make "other-1" 1100 [ ];
}
"""
# Of these the cache has what the store has not.
FETCHED = ("libnew", "new", "other")


@dataclass(frozen=True)
class Shop:
    """A machine with a cache; the places in the store of `PACKAGES`, and their bytes in it and compressed."""

    machine: NixMachine
    paths: dict[str, str]
    sizes: dict[str, int]

    async def compare(self, before: list[str], after: list[str]) -> SizeDifference:
        named = [[self.paths.get(name, name) for name in names] for names in (before, after)]
        return await compare_packages(self.machine.ask, *named, store=self.machine.store)

    def size(self, *names: str) -> int:
        return sum(self.sizes[name] for name in names)

    def find_download(self, name: str) -> int:
        key = Path(self.paths[name]).name.split("-")[0]
        lines = (self.machine.folder / "cache" / f"{key}.narinfo").read_text().splitlines()
        url = dict(line.split(": ", 1) for line in lines)["URL"]
        return (self.machine.folder / "cache" / url).stat().st_size


def open_shop(machine: NixMachine, folder: Path) -> Shop:
    """Builds all, and leaves what is to be fetched in the cache alone."""
    file = folder / "packages.nix"
    file.write_text(PACKAGES)
    names = ("libold", "libshared", "base", "old", *FETCHED)
    paths = {name: machine.build(file, name) for name in names}
    sizes = {name: measure(machine, path) for name, path in paths.items()}
    fetched = [paths[name] for name in reversed(FETCHED)]
    machine.publish(*fetched)
    machine.delete(*fetched)
    return Shop(machine, paths, sizes)


def measure(machine: NixMachine, path: str) -> int:
    """The bytes of what is really there, as nix packs it."""
    local = machine.store / Path(path).name
    return len(subprocess.run(["nix-store", "--dump", str(local)], capture_output=True, check=True).stdout)


@pytest.fixture(scope="module", params=["with a daemon", "without a daemon"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    if request.param == "with a daemon":
        with run_nix_machine(folder / "nix") as machine:
            yield open_shop(machine, folder)
    else:
        machine = NixMachine(folder / "nix")
        machine.store.mkdir(parents=True)
        yield open_shop(machine, folder)


async def test_what_is_fetched_has_the_sizes_that_it_really_has(shop: Shop) -> None:
    found = await shop.compare(["base", "old"], ["base", "new"])
    assert found.added == pytest.approx(shop.size("new", "libnew"), abs=ROUNDED_BYTES)
    assert found.removed == shop.size("old", "libold")
    assert found.download == pytest.approx(sum(map(shop.find_download, ("new", "libnew"))), abs=ROUNDED_BYTES)
    assert (found.fetched, found.unknown) == (2, ())


async def test_what_is_there_already_takes_nothing(shop: Shop) -> None:
    assert await shop.compare(["base"], ["base", "old"]) == SizeDifference(0, 0, 0, 0, ())
    assert await shop.compare(["base", "old"], ["base"]) == SizeDifference(0, shop.size("old", "libold"), 0, 0, ())
    everything = shop.size("base", "libshared", "old", "libold")
    assert await shop.compare(["base", "old"], []) == SizeDifference(0, everything, 0, 0, ())
    assert await shop.compare([], []) == SizeDifference(0, 0, 0, 0, ())


async def test_what_no_cache_has_is_built_here(shop: Shop) -> None:
    found = await shop.compare(["base"], ["base", NOWHERE, "other"])
    assert found.added == pytest.approx(shop.size("other"), abs=ROUNDED_BYTES)
    assert (found.removed, found.fetched, found.unknown) == (0, 1, (NOWHERE,))


async def test_a_cache_that_is_away_is_not_taken_for_one_that_has_nothing(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Nobody listens there any more.
    settings = f"extra-substituters = http://127.0.0.1:{port}\ndownload-attempts = 1\n"

    async def ask(argv: Sequence[str]) -> Completed:
        return await shop.machine.ask(argv, settings)

    base, other = [shop.paths["base"]], [shop.paths["base"], shop.paths["other"]]
    with pytest.raises(DriverError, match=f"unable to download 'http://127.0.0.1:{port}/nix-cache-info'"):
        await compare_packages(ask, base, [*other, NOWHERE], store=shop.machine.store)
    # What the others have is known all the same.
    assert (await compare_packages(ask, base, other, store=shop.machine.store)).fetched == 1


async def test_what_is_missing_on_both_sides_is_no_difference(shop: Shop) -> None:
    assert await shop.compare(["new", NOWHERE], ["new", NOWHERE]) == SizeDifference(0, 0, 0, 0, ())
    assert await shop.compare(["new", NOWHERE], ["new"]) == SizeDifference(0, 0, 0, 0, ())
    found = await shop.compare(["new", NOWHERE], ["new", NOWHERE, "other", "base"])
    assert found.added == pytest.approx(shop.size("other"), abs=2 * ROUNDED_BYTES)
    assert (found.removed, found.fetched, found.unknown) == (0, 1, ())


async def test_nothing_comes_by_asking_and_then_it_is_as_was_told(tmp_path: Path) -> None:
    machine = NixMachine(tmp_path / "nix")
    machine.store.mkdir(parents=True)
    shop = open_shop(machine, tmp_path)
    before = machine.list_store()
    found = await shop.compare(["old"], ["old", "new"])
    assert machine.list_store() == before
    done = await machine.ask(("nix-store", "--option", "require-sigs", "false", "--realise", shop.paths["new"]))
    assert done.ok, done.stderr
    came = {name for name in machine.list_store() - before if not name.endswith(".lock")}
    assert len(came) == found.fetched
    assert sum(measure(machine, name) for name in came) == pytest.approx(found.added, abs=ROUNDED_BYTES)


@pytest.mark.parametrize("path", ["--help", "/etc/passwd", "", "/nix/store/x", "x" * 10_000, f"{NOWHERE}.drv"])
async def test_what_is_no_place_in_a_store_is_never_asked_for(path: str) -> None:
    async def ask(argv: object) -> Completed:
        raise AssertionError(argv)

    for before, after in (([path], []), ([], [NOWHERE, path])):
        with pytest.raises(InvalidInputError, match="no package's place"):
            await compare_packages(ask, before, after)


async def test_as_many_as_there_may_be_can_be_asked_for(shop: Shop) -> None:
    paths = [f"/nix/store/{number:032}-{'x' * 211}" for number in range(4096)]
    found = await shop.compare(paths[:2048], ["base", *paths[2048:4095]])
    assert found == SizeDifference(0, 0, 0, 0, tuple(paths[2048:4095]))


async def test_without_a_store_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="there is no store on this machine") as refused:
        await compare_packages(ask_here, [], [NOWHERE], store=tmp_path / "store")
    assert refused.value.hint


async def fails(said: Completed | HiveError | float, before: str = NOWHERE) -> DriverError:
    """How a comparison fails for which a program says this, or only says something after that many seconds."""

    async def ask(argv: object) -> Completed:
        if isinstance(said, HiveError):
            raise said
        if isinstance(said, Completed):
            return said
        await asyncio.sleep(said)
        raise AssertionError("it was not given up")

    with pytest.raises(DriverError) as refused:
        await compare_packages(ask, [before], [NOWHERE], store=Path("/"), timeout_s=0.1)
    return refused.value


async def test_what_nix_cannot_tell_is_the_machines_fault() -> None:
    failed = Completed((), 1, b"", b"error: cannot connect to socket")
    assert "cannot connect to socket" in (await fails(failed)).message
    assert "no store path" in (await fails(Completed((), 0, b"what is that?\n", b""))).message
    assert (
        "far too much"
        in (await fails(Completed((), 0, b"/nix/store/\n" * (OUTPUT_LIMIT_BYTES // 12 + 1), b""))).message
    )
    assert "within 0.1 s" in (await fails(60)).message
    assert "gone" in (await fails(DriverError("nix is gone"))).message
