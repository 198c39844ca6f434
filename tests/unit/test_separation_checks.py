"""What root's helper does for the daemon, and what it refuses of whoever has taken that over.

Each attempt leaves a line, and never a deed.
"""

import base64
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helper_rig import COMMIT
from hyperhive.core.names import container_name
from hyperhive.core.uids import FIRST_RANGED_UID
from hyperhive.host.configs.trees import FILE_LIMIT_BYTES, FILES_LIMIT, TREE_LIMIT_BYTES
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.drivers.nix_packages import PACKAGES_LIMIT
from hyperhive.host.separation.verbs import PIECE_LIMIT_BYTES, render_spec
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.wire.agent_config import AgentConfig
from separation_rig import BAD_NAMES, BAD_PACKAGES, NO_TEXTS, Attack, Json, open_attack, put

STORE_PATH = "/nix/store/00000000000000000000000000000000-hello-1.0"
TAKING_FILES = ("evaluate", "build_system", "list_packages")

# -- what is asked for properly --------------------------------------------------------------------------------


async def test_what_the_hive_plans_for_its_agents_is_done(tmp_path: Path) -> None:
    record = AgentRecord("alice", FIRST_RANGED_UID, 3, Desired.RUNNING, "", datetime(2026, 1, 1, tzinfo=UTC), None)
    claude, ca_file = "/opt/claude/claude", Path("/etc/ssl/hive.pem")
    settings = HarnessSettings("api_key", 300, claude, ca_file)
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path, claude, ca_file)
        for name in ("alice", "manager"):
            changed = AgentRecord(name, record.uid, 3, Desired.RUNNING, "", record.spawned_at, None)
            folder = attack.roots.versions_folder(name) / COMMIT
            config = AgentConfig().model_copy(update={"packages": ["sl"], "environment": {"A_1": "x\ny"}})
            spec = plan_container(changed, attack.roots, settings, config_folder=folder, config=config)
            for verb in ("create", "start"):
                await attack.is_done(verb, render_spec(spec))
                assert attack.driver.specs[-1] == spec
        assert [line["name"] for line in attack.rig.notes()] == ["alice", "alice", "hm1nd", "hm1nd"]
        assert attack.rig.notes()[0]["message"] == f"uid {FIRST_RANGED_UID}, packages sl"


async def test_each_verb_reaches_the_driver(attack: Attack) -> None:
    name = {"name": container_name("manager")}
    await attack.is_done("prepare", {})
    await attack.is_done("build", {"packages": ["sl", "libc6.1+"]})
    await attack.is_done("observe", name)
    await attack.is_done("find_usage", name)
    await attack.is_done("stop", {**name, "timeout_s": 3600})
    await attack.is_done("destroy", name)
    await attack.is_done("exec", {**name, "command": ["sh", "-c", "true"], "timeout_s": 0.5})
    await attack.is_done("logs", {**name, "offset": 2**63 - 1, "limit_bytes": PIECE_LIMIT_BYTES})
    await attack.is_done("log_range", name)
    await attack.is_done("evaluate", {**name, "files": {}})
    await attack.is_done("build_system", {**name, "files": {}})
    await attack.is_done("list_packages", {**name, "files": {}})
    await attack.is_done("compare_packages", {"before": [], "after": [STORE_PATH]})
    asked = ["prepare", "build", "observe", "find_usage", "stop", "destroy", "exec", "logs", "log_range"]
    asked += ["evaluate", "build_system", "list_packages", "compare_packages"]
    assert attack.driver.calls == asked == [line["verb"] for line in attack.rig.notes()]


async def test_the_audit_has_no_environment_and_no_end_of_a_long_command(attack: Attack) -> None:
    await attack.is_done("create", put("hunter2", "environment", "GREETING")(attack.spec()))
    await attack.is_done("exec", {"name": "alice", "command": ["say", "x" * 400], "timeout_s": 1})
    first, second = attack.rig.notes()
    assert "hunter2" not in json.dumps(first)
    assert second["message"] == ("say " + "x" * 400)[:300]


# -- the other verbs -------------------------------------------------------------------------------------------


NAMED: dict[str, Json] = {
    "observe": {},
    "find_usage": {},
    "stop": {"timeout_s": 1},
    "destroy": {},
    "exec": {"command": ["true"], "timeout_s": 1},
    "logs": {"offset": 0, "limit_bytes": 1},
    "log_range": {},
    "evaluate": {"files": {}},
    "build_system": {"files": {}},
    "list_packages": {"files": {}},
}


@pytest.mark.parametrize("verb", NAMED)
async def test_only_agents_have_containers(verb: str, attack: Attack) -> None:
    for name in (*BAD_NAMES, *NO_TEXTS):
        await attack.is_refused(verb, {"name": name, **NAMED[verb]})
    await attack.is_refused(verb, NAMED[verb])
    await attack.is_refused(verb, {"name": "alice", **NAMED[verb], "force": True})
    wrong: list[object] = [[], None, "alice", 1, {}]
    for other in wrong:
        await attack.is_refused(verb, other)
    await attack.is_done(verb, {"name": "alice", **NAMED[verb]})


@pytest.mark.parametrize("verb", ["stop", "exec"])
async def test_nothing_waits_for_ever(verb: str, attack: Attack) -> None:
    wrong: list[object] = [-1, -0.1, 3600.1, 1e300, 10**30, 2**70, "1", None, True, []]
    for timeout_s in wrong:
        await attack.is_refused(verb, {"name": "alice", **NAMED[verb], "timeout_s": timeout_s})


async def test_a_command_is_a_list_of_texts(attack: Attack) -> None:
    for command in ([], "id", None, [1], [None], ["a\0b"], [["id"]], ["x"] * 10_001):
        await attack.is_refused("exec", {"name": "alice", "command": command, "timeout_s": 1})


async def test_logs_are_read_in_pieces_that_fit(attack: Attack) -> None:
    for offset in (-1, 2**63, 10**30, 1.5, "0", None, True):
        await attack.is_refused("logs", {"name": "alice", "offset": offset, "limit_bytes": 1})
    for limit_bytes in (-1, PIECE_LIMIT_BYTES + 1, 2**63, 0.5, "1", None, True):
        await attack.is_refused("logs", {"name": "alice", "offset": 0, "limit_bytes": limit_bytes})


async def test_packages_are_names_wherever_they_stand(attack: Attack) -> None:
    for name in (*BAD_PACKAGES, 7, None, ["sl"]):
        await attack.is_refused("build", {"packages": ["sl", name]})
        await attack.is_refused("observe_images", {"wanted": [["sl"], [name]]})
        await attack.is_refused("remove_unused_images", {"keep": [["sl"], [name]], "unused_s": 0})
    for lists in ("sl", None, ["sl"], {"sl": 1}):
        await attack.is_refused("observe_images", {"wanted": lists})
        await attack.is_refused("remove_unused_images", {"keep": lists, "unused_s": 0})
    for unused_s in (-1, None, "0", True):
        await attack.is_refused("remove_unused_images", {"keep": [], "unused_s": unused_s})
    for image_id in (None, 7, ["base"], "x" * 201):
        await attack.is_refused("compare_image", {"image_id": image_id})
        await attack.is_refused("remove_image", {"image_id": image_id})
    await attack.is_refused("prepare", {"force": True})


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_the_files_of_a_config_come_as_they_are_and_are_only_counted(attack: Attack) -> None:
    quarter = TREE_LIMIT_BYTES // FILE_LIMIT_BYTES
    files = {f"folder/{number}.nix": bytes([number, 255]) * (FILE_LIMIT_BYTES // 2) for number in range(quarter)}
    files |= {f"{number} ä.txt": b"" for number in range(FILES_LIMIT - quarter)}
    for verb in TAKING_FILES:
        await attack.is_done(verb, {"name": "alice", "files": {path: encode(files[path]) for path in files}})
        assert attack.driver.files == files
        attack.driver.files = {}
    assert [line["message"] for line in attack.rig.notes()] == [f"{FILES_LIMIT} files"] * 3


BAD_PATHS = (
    *("", ".", "..", "/etc/passwd", "../x", "a/../x", "a//x", "a/", "./x", "a\0", "a\n", "-x", "a\\b", " a", "\u202e"),
    *(".git/config", "x/.gitmodules", "x" * 201, "x" * 5000, "a/" * 8 + "x"),
)
BAD_CONTENTS = (*("x", "eA", "eA=", "eA===", "e A==", "e-_=", "hunter2\0", "ä"), *NO_TEXTS, {"x": "eA=="})


@pytest.mark.parametrize("verb", TAKING_FILES)
async def test_files_are_those_that_a_config_may_have(verb: str, attack: Attack) -> None:
    async def is_refused(files: object) -> str:
        return await attack.is_refused(verb, {"name": "alice", "files": files})

    for path in BAD_PATHS:
        await is_refused({"agent.nix": "", path: ""})
    for content in BAD_CONTENTS:
        await is_refused({"agent.nix": "", "x": content})
    for files in (None, 7, True, "agent.nix", ["agent.nix"], [["agent.nix", ""]]):
        await is_refused(files)
    assert "is below a file" in await is_refused({"a/b/c": "", "a": ""})
    await is_refused({"x": encode(bytes(FILE_LIMIT_BYTES + 1))})
    await is_refused({"x": "A" * 4_000_000})
    await is_refused({str(number): "" for number in range(FILES_LIMIT + 1)})
    quarters = {str(number): encode(bytes(FILE_LIMIT_BYTES)) for number in range(TREE_LIMIT_BYTES // FILE_LIMIT_BYTES)}
    assert "together" in await is_refused({**quarters, "one byte more": encode(b"x")})
    assert "hunter2" not in json.dumps(attack.rig.notes())


async def test_packages_are_compared_by_their_places_in_the_store(attack: Attack) -> None:
    wrong = (*NO_STORE_PATHS, *NO_TEXTS)
    for path in wrong:
        for sides in ({"before": [STORE_PATH, path], "after": []}, {"before": [], "after": [path]}):
            await attack.is_refused("compare_packages", sides)
    for paths in (None, 7, True, STORE_PATH, {STORE_PATH: 1}, [[STORE_PATH]]):
        await attack.is_refused("compare_packages", {"before": [], "after": paths})
    many = [f"/nix/store/{number:032}-{'x' * 211}" for number in range(2 * PACKAGES_LIMIT + 1)]
    await attack.is_refused("compare_packages", {"before": [], "after": many[: PACKAGES_LIMIT + 1]})
    await attack.is_refused("compare_packages", {"before": [], "after": [STORE_PATH] * (PACKAGES_LIMIT + 1)})
    more: list[Json] = [{}, {"before": []}, {"before": [], "after": [], "name": "alice"}]
    for arguments in more:
        await attack.is_refused("compare_packages", arguments)
    await attack.is_done(
        "compare_packages", {"before": many[:PACKAGES_LIMIT], "after": many[PACKAGES_LIMIT : 2 * PACKAGES_LIMIT]}
    )
    assert attack.rig.notes()[-1]["message"] == "2048 packages with 2048"


NO_STORE_PATHS = (
    *("", "-", "--help", "--store", "/etc/passwd", "/nix/store", "hello", f"{STORE_PATH}/bin", f"{STORE_PATH}\n"),
    *(f"{STORE_PATH}\0", f"{STORE_PATH}.drv", f"{STORE_PATH}!out", "x" * 5000, "/nix/store/../../etc/passwd"),
)


async def test_there_are_no_other_verbs(attack: Attack) -> None:
    others = (
        "",
        "Start",
        "START",
        "start ",
        "eval",
        "__init__",
        "_start",
        "unlimited",
        "name",
        "images",
        None,
        1,
        True,
    )
    for verb in (*others, ["start"], {"start": 1}, "x" * 100_000):
        assert await attack.is_refused(verb, attack.spec()) == "there is no such verb"
    await attack.is_done("start", attack.spec())


async def test_a_hive_without_images_has_none(attack: Attack) -> None:
    answer = await attack.peer.ask("remove_image", {"image_id": "base-0"})
    assert answer["error"]["code"] == "not_found"
    assert attack.rig.notes()[-1]["outcome"] == "failed"


async def test_what_a_refusal_says_is_not_what_was_secret(attack: Attack) -> None:
    for verb, wrong in (("start", put(7, "uid")), ("create", put("hunter2\0", "environment", "GREETING"))):
        answer = await attack.peer.ask(verb, wrong(put("hunter2", "environment", "GREETING")(attack.spec())))
        assert answer["error"]["code"] == "refused"
        assert "hunter2" not in json.dumps([answer, attack.rig.notes()])
