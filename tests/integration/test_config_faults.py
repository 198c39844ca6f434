"""Recipients that are not listed, configs and repositories broken behind the daemon's back, secrets, mistakes of ours:
nothing is let through, nothing falls back to a default, and whoever asks is told."""

import contextlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from attack_rig import Arena
from hive_process import wait_for
from hyperhive.host.api.errors import add_error_handlers
from link_lines import Link
from proposer import LinkError, commit_files, git, make_bundle


def query(arena: Arena, text: str, *values: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(arena.hive.data / "hive.sqlite")) as database, database:
        return database.execute(text, values).fetchall()


# -- recipients --------------------------------------------------------------------------------------------


def send(link: Link, to: str) -> Mapping[str, Any]:
    """The error of a message, empty if it was taken."""
    answer = link.call("send", to=to, body="hello", idempotency_key=uuid.uuid4().hex)
    return answer["error"]["data"] if "error" in answer else {}


def deploy_and_take(arena: Arena, link: Link, name: str, text: str) -> dict[str, Any]:
    """Deploys a config to an agent whose harness the test is; what the daemon told it."""
    number, _ = arena.manager.propose(name, {"agent.toml": text})
    arena.approve(number)
    told = link.take_request()
    assert told["method"] == "config.set"
    assert arena.wait_ended(number)["status"] == "deployed"
    return told["params"]["config"]["policy"]


def test_a_recipient_who_is_not_listed_gets_nothing(arena: Arena) -> None:
    name, friend, stranger = arena.spawn(), arena.spawn(), arena.spawn()
    generation = arena.stop(name)
    with Link(arena.hive, name) as link:
        assert link.call("hello", protocol=1, generation=generation, holding=[])["result"]
        assert send(link, stranger) == {}
        policy = deploy_and_take(arena, link, name, f'allowed_recipients = ["{friend}"]\n')
        assert policy["allowed_recipients"] == [friend]
        assert [send(link, to) for to in (friend, "manager")] == [{}, {}]
        for to in (stranger, "operator"):
            error = send(link, to)
            assert error["code"] == "refused"
            assert f"{to} is not among those" in error["message"]
            assert friend in error["message"]
            assert error["hint"]
        for to in ("system", f"{friend}\n", friend.upper(), "..", ""):
            assert send(link, to)["code"] == "invalid_input"
        # The same connection, the same container.
        deploy_and_take(arena, link, name, "allowed_recipients = []\n")
        assert send(link, stranger) == {}
    assert arena.generation(name) == generation
    sent = query(arena, "select recipient from messages where sender = ? order by id", name)
    assert [to for (to,) in sent] == [stranger, friend, "manager", stranger]
    [(refused,)] = query(arena, "select body from events where name = 'message.refused' and agent = ?", name)
    assert json.loads(refused) == {"recipient": stranger, "rule": "allowed_recipients"}


def test_the_manager_sends_to_anyone_whatever_its_list_says(arena: Arena) -> None:
    name = arena.spawn()
    number, _ = arena.manager.propose("manager", {"agent.toml": 'allowed_recipients = ["operator"]\n'})
    warnings = arena.hive.get(f"/api/approvals/{number}/review")["warnings"]
    assert any("config of the manager" in text for text in warnings)
    # Its harness is away: it gets the config when it is back.
    arena.manager.close()
    arena.approve(number)
    assert arena.wait_ended(number)["status"] == "deployed"
    arena.manager.connect()
    answer = arena.manager.request("send", {"to": name, "body": "hi", "idempotency_key": uuid.uuid4().hex})
    assert answer["id"] > 0


# -- behind the daemon's back ------------------------------------------------------------------------------


def push_behind(arena: Arena, name: str, files: Mapping[str, str], remove: str = "") -> str:
    """Makes a commit main of an applied repo, as no proposal could. Returns it."""
    copy = arena.manager.clone(name)
    if remove:
        git(copy, "rm", "-q", remove)
    commit = commit_files(copy, files)
    git(copy, "push", "-q", "origin", f"{commit}:refs/heads/main")
    return commit


def break_syntax(arena: Arena, name: str) -> str:
    return push_behind(arena, name, {"agent.toml": "garbage = [\n"})


def break_key(arena: Arena, name: str) -> str:
    return push_behind(arena, name, {"agent.toml": "nonsense = 1\n"})


def remove_config(arena: Arena, name: str) -> str:
    return push_behind(arena, name, {}, remove="agent.toml")


def name_no_commit(_: Arena, __: str) -> str:
    return "1" * 40


def remove_repository(arena: Arena, name: str) -> str:
    commit = arena.main(name)
    shutil.rmtree(arena.applied(name))
    return commit


BREAKS: dict[Callable[[Arena, str], str], str] = {
    break_syntax: "config does not parse, line 2: ",
    break_key: "there is no such key",
    remove_config: "there is no agent.toml",
    name_no_commit: "there is no commit",
    remove_repository: "not a git repository",
}


@pytest.mark.parametrize("left_running", [False, True])
def test_an_agent_whose_config_was_broken_does_not_start_and_others_do(arena: Arena, left_running: bool) -> None:
    broken = {break_: arena.spawn() for break_ in BREAKS}
    well = arena.spawn()
    arena.manager.close()
    assert (arena.hive.stop() if left_running else arena.hive.down()) == 0
    for break_, name in broken.items():
        query(arena, "update agents set deployed_commit = ? where name = ?", break_(arena, name), name)
    arena.hive.start()
    try:
        arena.hive.wait_state(well, "idle")
        assert arena.files_in_use(well)
        for break_, name in broken.items():
            if left_running and break_ is remove_repository:
                # That git fails says nothing of the config: what runs is left as it is, and told nothing.
                row = arena.hive.wait_state(name, "unknown")
                assert "not connected" in row["reason"]
                continue
            row = arena.hive.wait_state(name, "failed")
            assert BREAKS[break_] in row["reason"]
            arena.hive.post(f"/api/agents/{name}/restart")
            row = arena.hive.wait_state(name, "failed")
            assert BREAKS[break_] in row["reason"]
            with Link(arena.hive, name) as link:
                generation = arena.generation(name)
                assert "error" in link.call("hello", protocol=1, generation=generation, holding=[])
                assert link.call("send", to=well, body="x", idempotency_key="12345678")["error"]
            check = arena.hive.post(f"/api/agent-config/{name}/check", {"tool": "Read"})
            assert check["verdict"] == "deny"
    finally:
        arena.manager.connect()


def remove_objects(repository: Path) -> None:
    for path in [*repository.glob("objects/pack/*"), *repository.glob("objects/[0-9a-f][0-9a-f]/*")]:
        path.unlink()


def remove_blobs(repository: Path) -> None:
    """Leaves commits and trees, and takes the files away."""
    packs = list(repository.glob("objects/pack/*.pack"))
    contents = [pack.read_bytes() for pack in packs]
    for path in repository.glob("objects/pack/*"):
        path.unlink()
    for content in contents:
        git(repository, "unpack-objects", "-q", "-r", stdin=content)
    kinds = git(repository, "cat-file", "--batch-all-objects", "--batch-check").decode().splitlines()
    for oid, kind, _ in (line.split(" ") for line in kinds):
        if kind == "blob":
            (repository / "objects" / oid[:2] / oid[2:]).unlink()


def garble_objects(repository: Path) -> None:
    for path in [*repository.glob("objects/pack/*.pack"), *repository.glob("objects/[0-9a-f][0-9a-f]/*")]:
        path.chmod(0o644)
        path.write_bytes(b"garbage" * 20)


def remove_head(repository: Path) -> None:
    (repository / "HEAD").unlink()


def garble_refs(repository: Path) -> None:
    for path in repository.glob("refs/**/*"):
        if path.is_file():
            path.write_text("garbage\n")
    (repository / "packed-refs").write_text("garbage\n")


@pytest.mark.parametrize(
    "damage", [remove_objects, remove_blobs, garble_objects, remove_head, garble_refs, shutil.rmtree]
)
def test_a_broken_applied_repo_is_told_and_harms_nobody_else(arena: Arena, damage: Callable[[Path], None]) -> None:
    name, other = arena.spawn(), arena.spawn()
    number, _ = arena.manager.propose(name, {"a": "1"})
    arena.wait_tagged([number])
    copy = arena.manager.clone(name)
    other_commit = commit_files(copy, {"b": "1"})
    content = make_bundle(copy, other_commit)
    damage(arena.applied(name))
    review, config = f"/api/approvals/{number}/review", f"/api/agent-config/{name}"
    with arena.hive.client() as client:
        for path in (review, config, f"{config}/history", "/api/approvals", "/api/drafts", "/api/kept"):
            check_told(client.get(path))
        check_told(client.post(f"{config}/revert", json={"to": 0}))
        check_told(client.post(f"{config}/check", json={"tool": "Read"}))
        assert any("cannot be shown" in warning for warning in client.get(review).json()["warnings"])
    if damage is remove_blobs:
        # It brings all that is missing for this.
        arena.send_bundle(name, other_commit, content)
    else:
        with pytest.raises(LinkError) as caught:
            arena.send_bundle(name, other_commit, content)
        assert caught.value.code == "unavailable"
    arena.approve(number)
    wait_for(lambda: arena.approval(number)["status"] == "failed", "its end", hive=arena.hive)
    assert "daemon failed" not in arena.approval(number)["reason"]
    assert arena.deploy(other, {"a": "1"}) == arena.main(other)
    assert "Traceback" not in arena.hive.log


def check_told(answer: httpx.Response) -> None:
    """It succeeded, or said why not."""
    if answer.status_code >= 400:
        assert set(answer.json()) == {"code", "message", "hint"}
        assert answer.json()["code"] != "internal", answer.text
    assert answer.status_code != 500, answer.text


async def test_a_mistake_of_ours_is_answered_in_the_form_of_all_errors(capsys: pytest.CaptureFixture[str]) -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/mistake")
    async def fail() -> None:
        raise RuntimeError("what nobody thought of")

    # As the listener does, which logs what comes out of the application.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hive") as client:
        answer = await client.get("/mistake")
    assert answer.status_code == 500
    assert answer.json() == {"code": "internal", "message": "the daemon failed", "hint": "see its log"}
    said = capsys.readouterr()
    assert "api.failed" in said.out + said.err
    assert "what nobody thought of" in said.out + said.err


# -- secrets -----------------------------------------------------------------------------------------------


def test_the_values_of_servers_variables_are_reviewed_and_never_logged(arena: Arena) -> None:
    name = arena.spawn()
    canary = f"canary-{uuid.uuid4().hex}"
    server = f'[mcp_servers.notes]\ncommand = "/bin/false"\nargs = ["{canary}"]\nenv = {{ TOKEN = "{canary}" }}\n'
    number, _ = arena.manager.propose(name, {"agent.toml": f'environment = {{ A = "{canary}" }}\n{server}'}, canary)
    shown = json.dumps(arena.hive.get(f"/api/approvals/{number}/review")["comparison"]["meaning"])
    assert shown.count(canary) >= 3
    arena.approve(number)
    assert arena.wait_ended(number)["status"] == "deployed"
    arena.hive.wait_state(name, "idle")
    for bad in ('nonsense = "{}"\n', 'model = ["{}"]\n', 'x = "{}\n'):
        with pytest.raises(LinkError):
            arena.manager.propose(name, {"agent.toml": bad.format(canary)})
    # It fails while it is built, and a second time while it is started.
    missing, _ = arena.manager.propose(name, {"agent.toml": f'packages = ["no-such-package"]\n{server}'})
    arena.approve(missing)
    assert arena.wait_ended(missing)["status"] == "failed"
    arena.hive.post("/api/messages", {"to": name, "body": "%% say ok"})
    wait_for(lambda: arena.hive.agent(name)["turns"] >= 1, "a turn with its server", hive=arena.hive)
    arena.manager.close()
    arena.hive.stop()
    arena.hive.start()
    arena.manager.connect()
    arena.hive.wait_state(name, "idle")
    log = arena.hive.log
    assert canary not in log
    assert all(json.loads(line)["event"] for line in log.splitlines())
