"""A hive on nspawn whose agents ask for packages: these are built when that is approved, and are there afterwards."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attack_rig import Arena, make_arena
from cli_process import call
from hive_process import HiveProcess, find_processes, wait_for
from image_cache import link_images

GREETS = 'packages = ["hello", "git"]\n'


@pytest.fixture(scope="module")
def open_arena_of_module() -> Iterator[Arena]:
    """In the place of the one that others have: on nspawn, with images of its own."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        link_images(data / "images")
        hive = HiveProcess(data, flags=("--rehearsal", "--driver", "nspawn")).start()
        with make_arena(hive, folder) as arena:
            yield arena


def run_inside(arena: Arena, name: str, command: str) -> str:
    """What a command of the agent's own writes."""
    said = arena.state(name) / "said"
    said.unlink(missing_ok=True)
    order = json.dumps({"command": f"({command}) >/state/new 2>&1; mv /state/new /state/said"})
    arena.hive.post("/api/messages", {"to": name, "body": f"%% tool Bash {order}\n%% say done"})
    wait_for(said.exists, f"what {name} says", 60, arena.hive)
    arena.hive.wait_state(name, "idle")
    return said.read_text()


def find_layer(arena: Arena) -> dict[str, Any] | None:
    """The layer with that package, as the operator is shown it."""
    return next((row for row in arena.hive.get("/api/images") if "hello" in row["packages"]), None)


async def test_packages_are_built_once_they_are_approved_and_go_once_nobody_needs_them(arena: Arena) -> None:
    name = arena.spawn()
    assert run_inside(arena, name, "command -v hello || echo none") == "none\n"
    number, _ = arena.manager.propose(name, {"agent.toml": GREETS})
    # Who proposes has nothing built yet.
    assert find_layer(arena) is None
    arena.approve(number)
    assert arena.wait_ended(number)["status"] == "deployed"
    arena.hive.wait_state(name, "idle")
    assert run_inside(arena, name, "hello") == "Hello, world!\n"

    layer = find_layer(arena)
    assert layer is not None and layer["packages"].keys() == {"hello", "git"}
    assert (layer["used_by"], layer["mounted"], layer["checked"], layer["problem"]) == ([name], True, True, "")
    shown = (await call(arena.hive.data, "images", "list")).stdout.decode()
    assert name in shown and "git, hello" in shown and "the base, of" in shown
    refused = await call(arena.hive.data, "images", "rm", layer["id"], "--yes")
    assert (refused.status, f"is needed by {name}" in refused.stderr.decode()) == (1, True)
    assert (await call(arena.hive.data, "images", "prune", "--yes")).stdout == b"every image is needed\n"
    verified = await call(arena.hive.data, "images", "verify")
    assert (verified.status, verified.stdout.decode().count(": as it was built")) == (0, 2)

    arena.deploy(name, {"agent.toml": ""})
    arena.hive.wait_state(name, "idle")
    assert run_inside(arena, name, "command -v hello || echo none") == "none\n"
    pruned = await call(arena.hive.data, "images", "prune", "--yes")
    assert (pruned.status, pruned.stdout.decode().startswith("removed 1 image: ")) == (0, True)
    assert find_layer(arena) is None
    assert run_inside(arena, name, "git --version").startswith("git version")


def test_a_package_that_does_not_exist_fails_the_approval_and_leaves_the_agent_as_it_was(arena: Arena) -> None:
    name = arena.spawn()
    before = (arena.generation(name), find_processes(arena.hive, name), arena.main(name), arena.hive.get("/api/images"))
    number, _ = arena.manager.propose(name, {"agent.toml": 'packages = ["git", "no-such-package"]\n'})
    arena.approve(number)
    row = arena.wait_ended(number)
    assert row["status"] == "failed"
    assert row["reason"].startswith("not in the apt sources of this machine: no-such-package (")
    assert "no-such-package" in arena.hive.agent(name)["config_error"]
    after = (arena.generation(name), find_processes(arena.hive, name), arena.main(name), arena.hive.get("/api/images"))
    assert after == before
    assert run_inside(arena, name, "echo well") == "well\n"
