"""The manager's tools that propose: what reaches the daemon, under which key, and what claude reads."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.errors import ConflictError, HiveError, UnavailableError
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Link
from hyperhive.harness.tools import Toolbox
from hyperhive.wire.tools import TOOLS, list_tools
from proposal_rig import ManagerView, commit


class Daemon(Link):
    """Answers each request with the next of `answers`, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    async def request(self, method: str, params: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        self.requests.append((method, params))
        answer = self.answers.pop(0) if self.answers else {"approval_id": 7, "status": "pending"}
        if isinstance(answer, HiveError):
            raise answer
        return answer


@pytest.fixture
def view(tmp_path: Path) -> ManagerView:
    return ManagerView(tmp_path)


def open_toolbox(view: ManagerView, daemon: Daemon) -> Toolbox:
    return Toolbox(daemon, Inbox(), proposals=view.proposals())


async def test_a_commit_of_a_config_reaches_the_daemon_as_a_bundle(view: ManagerView) -> None:
    wanted = commit(view.add("alice"), {"prompt.md": "one\n"})
    daemon = Daemon()
    result = await open_toolbox(view, daemon).call("request_apply_commit", {"agent": "alice", "description": "why"})
    assert result["text"] == (
        "approval 7 waits for the operator; the decision arrives as a message from 'system'\n"
        f"It is for commit {wanted[:12]} of alice, and for no later one."
    )
    [(method, params)] = daemon.requests
    assert method == "request_apply_commit"
    assert set(params) == {"agent", "commit", "bundle", "description", "idempotency_key"}
    assert (params["agent"], params["commit"], params["description"]) == ("alice", wanted, "why")
    assert view.receive("alice", base64.b64decode(params["bundle"], validate=True)) == wanted


async def test_a_draft_reaches_the_daemon_with_its_notes(view: ManagerView) -> None:
    wanted = commit(view.add("bob"), {"prompt.md": "one\n"})
    (view.agents / "bob/state").mkdir()
    (view.agents / "bob/state/notes.md").write_text("remember")
    daemon = Daemon()
    result = await open_toolbox(view, daemon).call("request_spawn_commit", {"name": "bob", "commit_ref": "main"})
    assert "Staged for its first turn: 1 file of /agents/bob/state." in result["text"]
    [(method, params)] = daemon.requests
    assert method == "request_spawn_commit"
    assert set(params) == {"name", "commit", "notes", "bundle", "idempotency_key"}
    bundle = base64.b64decode(params["bundle"], validate=True)
    assert view.receive("bob", bundle) == params["commit"] == wanted
    assert view.receive("bob", bundle, "refs/hive/notes") == params["notes"]


async def test_what_is_not_committed_is_a_warning_in_the_answer(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    (config / "prompt.md").write_text("two\n")
    result = await open_toolbox(view, Daemon()).call("request_apply_commit", {"agent": "alice"})
    assert not result.get("is_error")
    assert result["text"].endswith(
        "\nWarning: 1 file is changed and not committed: it is not part of this proposal (prompt.md)."
    )


async def test_a_proposal_that_got_no_answer_keeps_its_key_only_while_it_is_the_same_commit(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    lost = UnavailableError("the daemon did not answer within 60 s")
    daemon = Daemon(lost, lost)
    toolbox = open_toolbox(view, daemon)
    refusal = await toolbox.call("request_apply_commit", {"agent": "alice"})
    assert refusal.get("is_error")
    assert "counts once" in refusal["text"]
    commit(config, {"prompt.md": "two\n"})
    await toolbox.call("request_apply_commit", {"agent": "alice"})
    await toolbox.call("request_apply_commit", {"agent": "alice"})
    await toolbox.call("request_apply_commit", {"agent": "alice"})
    first, second, again, new = [params["idempotency_key"] for _, params in daemon.requests]
    assert again == second
    assert len({first, second, new}) == 3


async def test_the_same_commit_after_another_answer_to_it_is_told_as_it_stands(view: ManagerView) -> None:
    commit(view.add("alice"), {"prompt.md": "one\n"})
    toolbox = open_toolbox(view, Daemon({"approval_id": 3, "status": "denied"}))
    result = await toolbox.call("request_apply_commit", {"agent": "alice"})
    assert result["text"].startswith("approval 3 for this is denied already")


async def test_a_refusal_of_the_daemon_is_told_with_its_hint(view: ManagerView) -> None:
    commit(view.add("alice"), {"prompt.md": "one\n"})
    toolbox = open_toolbox(view, Daemon(ConflictError("unknown key 'modl'", "did you mean 'model'?")))
    result = await toolbox.call("request_apply_commit", {"agent": "alice"})
    assert result == {"text": "unknown key 'modl' (did you mean 'model'?)", "is_error": True}


@pytest.mark.parametrize("answer", [None, {}, {"approval_id": "7", "status": "pending"}, []])
async def test_an_answer_that_is_none_is_an_error(view: ManagerView, answer: Any) -> None:
    commit(view.add("alice"), {"prompt.md": "one\n"})
    result = await open_toolbox(view, Daemon(answer)).call("request_apply_commit", {"agent": "alice"})
    assert result.get("is_error")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("request_apply_commit", {}),
        ("request_apply_commit", {"agent": 1}),
        ("request_apply_commit", {"agent": "../alice"}),
        ("request_apply_commit", {"agent": "alice", "commit_ref": None}),
        ("request_apply_commit", {"agent": "alice", "commit_ref": "--all"}),
        ("request_apply_commit", {"agent": "alice"}),
        ("request_spawn_commit", {"name": ["bob"]}),
        ("request_spawn_commit", {"name": "bob"}),
    ],
)
async def test_a_wrong_proposal_never_reaches_the_daemon(
    view: ManagerView, name: str, arguments: dict[str, Any]
) -> None:
    view.add("alice")
    daemon = Daemon()
    assert (await open_toolbox(view, daemon).call(name, arguments)).get("is_error")
    assert daemon.requests == []


async def test_a_draft_that_was_made_is_told_with_what_to_do_next(view: ManagerView) -> None:
    daemon = Daemon({})
    result = await open_toolbox(view, daemon).call("request_spawn_draft", {"name": "bob"})
    assert daemon.requests == [("request_spawn_draft", {"name": "bob"})]
    for word in ("/agents/bob/config", "/agents/bob/state", "request_spawn_commit"):
        assert word in result["text"]


def test_what_proposes_is_offered_to_the_manager_alone_and_tells_where_things_are() -> None:
    proposing = {tool.name: tool for tool in TOOLS if tool.name.startswith("request_")}
    assert set(proposing) == {
        "request_spawn",
        "request_spawn_draft",
        "request_spawn_commit",
        "request_apply_commit",
    }
    assert not proposing.keys() & {tool.name for tool in list_tools(manager=False)}
    assert all(tool.method == name for name, tool in proposing.items())
    text = proposing["request_apply_commit"].description
    for word in ("/agents/<agent>/config", "/applied/<agent>", "denied/N", "/applied/agent.schema.json"):
        assert word in text
