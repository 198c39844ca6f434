"""What cannot be applied is refused when it is proposed: told why, with no approval, no ref and no byte left of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from attack_rig import Arena, open_arena
from git_rig import FILE, FILES, FOLDER, LINK, MODULE, SCRIPT, Object, blob, bundle, bundle_of, commit, pack, tree
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES, COMMIT_REF, NOTES_REF
from proposer import LinkError, commit_files, git, make_bundle

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    """With the agents `alice` and `bob`, and the draft `carol`."""
    with open_arena() as arena:
        arena.spawn("alice")
        arena.spawn("bob")
        arena.manager.request("request_spawn_draft", {"name": "carol"})
        yield arena


def refuse(arena: Arena, name: str, tip: str, content: bytes, notes: str | None = None) -> LinkError:
    """The error that a submission gets; nothing of it is left."""
    before = (arena.residue(name), arena.refs(name), arena.hive.get("/api/approvals"))
    with pytest.raises(LinkError) as caught:
        arena.send_bundle(name, tip, content, notes=notes)
    assert (arena.residue(name), arena.refs(name), arena.hive.get("/api/approvals")) == before
    assert caught.value.code in {"invalid_input", "too_large", "conflict"}
    assert str(arena.folder) not in str(caught.value)
    return caught.value


# -- bundles -----------------------------------------------------------------------------------------------


def test_a_bundle_is_to_carry_the_commit_that_is_named(arena: Arena) -> None:
    copy = arena.manager.clone("alice")
    shown = commit_files(copy, {"a": "shown"})
    content = make_bundle(copy, shown)
    other = commit_files(copy, {"a": "meant"})
    assert "does not carry" in str(refuse(arena, "alice", other, content))
    assert "does not carry" in str(refuse(arena, "alice", "0" * 40, content))
    for name in ("HEAD", shown[:12], f"{shown}^", f"{shown}\n", "refs/heads/main", "--all", ""):
        refuse(arena, "alice", name, content)


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/deployed/9", "refs/proposals/1", "HEAD", NOTES_REF])
def test_a_bundle_with_another_ref_is_refused(arena: Arena, ref: str) -> None:
    tip, content = arena.bundle_files("alice", FILES)
    head, _, rest = content.partition(b"\n\n")
    refuse(arena, "alice", tip, head + f"\n{tip} {ref}".encode() + b"\n\n" + rest)


def test_the_history_of_another_agent_is_refused(arena: Arena) -> None:
    copy = arena.manager.clone("bob")
    tip = commit_files(copy, {"a": "1"})
    assert "does not descend" in str(refuse(arena, "alice", tip, make_bundle(copy, tip)))
    # Without the objects that only bob's repo has.
    git(copy, "bundle", "create", "-q", "thin", COMMIT_REF, "^HEAD^")
    refuse(arena, "alice", tip, (copy / "thin").read_bytes())
    assert "does not descend" in str(refuse(arena, "bob", *orphan(FILES)))


def orphan(files: dict[str, bytes]) -> tuple[str, bytes]:
    blobs = {name: blob(content) for name, content in files.items()}
    root = tree([(FILE, name.encode(), item) for name, item in blobs.items()])
    tip = commit(root)
    return tip.oid, bundle_of(tip, [root, *blobs.values()])


def test_what_is_deployed_or_older_cannot_be_proposed(arena: Arena) -> None:
    first = arena.main("bob")
    copy = arena.manager.clone("bob")
    assert refuse(arena, "bob", first, make_bundle(copy, first)).code == "conflict"
    arena.deploy("bob", {"a": "1"})
    assert "does not descend" in str(refuse(arena, "bob", first, make_bundle(copy, first)))


@pytest.mark.parametrize("content", [b"", b"x", b"# v2 git bundle\n\n", b"\0" * 1000, b"x" * (BUNDLE_LIMIT_BYTES + 1)])
def test_what_is_no_bundle_is_refused(arena: Arena, content: bytes) -> None:
    refuse(arena, "alice", "1" * 40, content)


def test_a_name_that_is_no_commit_is_refused(arena: Arena) -> None:
    item = blob(b"model = 1\n")
    root = tree([(FILE, b"agent.toml", item)])
    for wrong in (item, root):
        refuse(arena, "alice", wrong.oid, bundle({COMMIT_REF: wrong.oid}, pack([item, root])))


# -- trees, of configs and of staged notes -----------------------------------------------------------------

SMALL = blob(b"x\n")
HOSTILE: dict[str, tuple[str, bytes, Object | str]] = {
    "a link into an agent's state": (LINK, b"notes", blob(b"../../agents/bob/state")),
    "a link to the shadow file": (LINK, b"prompt.md", blob(b"/etc/shadow")),
    "a submodule": (MODULE, b"sub", "1" * 40),
    "a folder .git": (FOLDER, b".git", tree([(FILE, b"config", SMALL)])),
    "a folder .GIT": (FOLDER, b".GIT", tree([(FILE, b"config", SMALL)])),
    "git~1": (FILE, b"git~1", SMALL),
    ".gitattributes": (FILE, b".gitattributes", SMALL),
    "..": (FOLDER, b"..", tree([(FILE, b"x", SMALL)])),
    "an absolute path": (FILE, b"/etc/cron.d/x", SMALL),
    "a path": (FILE, b"../../x", SMALL),
    "an option": (FILE, b"-x", SMALL),
    "a name that is no UTF-8": (FILE, b"\xff", SMALL),
    "a line end": (FILE, b"a\nb", SMALL),
    "a name turned around": (FILE, "\u202etxt.exe".encode(), SMALL),
    "a setuid file": ("104755", b"x", SMALL),
    "a device's mode": ("020666", b"x", SMALL),
    "a FIFO's mode": ("010644", b"x", SMALL),
    "a huge file": (FILE, b"zeros", blob(bytes(32 * MIB))),
    "a large file": (FILE, b"zeros", blob(bytes(MIB // 2))),
    "a script of a long name": (SCRIPT, b"x" * 1000, SMALL),
}


def render_tree(entry: tuple[str, bytes, Object | str]) -> list[Object]:
    """A config with one entry more, as objects, the root first."""
    toml = blob(b"")
    _, _, added = entry
    found = [added] if isinstance(added, Object) else []
    return [tree([(FILE, b"agent.toml", toml), entry]), toml, SMALL, *found]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_config_that_holds_other_than_plain_files_is_refused(arena: Arena, what: str) -> None:
    root, *others = render_tree(HOSTILE[what])
    refuse(arena, "alice", *arena.bundle_tree("alice", root, *others))


@pytest.mark.parametrize("what", HOSTILE)
def test_staged_notes_that_hold_other_than_plain_files_are_refused(arena: Arena, what: str) -> None:
    root, *others = render_tree(HOSTILE[what])
    notes, tip = commit(root), arena.main("carol")
    content = bundle({COMMIT_REF: tip, NOTES_REF: notes.oid}, pack([notes, root, *others]), [tip])
    refuse(arena, "carol", tip, content, notes.oid)


def test_ten_thousand_files_are_refused(arena: Arena) -> None:
    entries: list[tuple[str, bytes, Object | str]] = [(FILE, f"f{n:05}".encode(), SMALL) for n in range(10_000)]
    root = tree([(FILE, b"agent.toml", SMALL), *entries])
    assert "files" in str(refuse(arena, "alice", *arena.bundle_tree("alice", root, SMALL)))


def test_a_tree_of_trees_that_unfolds_without_end_is_refused(arena: Arena) -> None:
    level = tree([(FILE, b"x", SMALL)])
    levels = [level]
    for _ in range(6):
        level = tree([(FOLDER, f"{n}".encode(), level) for n in range(100)])
        levels.append(level)
    root = tree([(FILE, b"agent.toml", blob(b"")), (FOLDER, b"d", level)])
    refuse(arena, "alice", *arena.bundle_tree("alice", root, blob(b""), SMALL, *levels))


# -- configs -----------------------------------------------------------------------------------------------

SERVER = '[mcp_servers."{}"]\ncommand = "true"\n'
BAD_CONFIGS = {
    'allowed_recipient = ["bob"]': "allowed_recipients",
    "allowedTools = []": "allowed_tools",
    "[bash]\nallowed = []": "bash.allow",
    "nonsense_of_a_key = 1": "no such key",
    "model = 1": "model",
    "allowed_tools = 'Read'": "list",
    "autostart = 'yes'": "true or false",
    "warm_s = nan": "finite",
    "allowed_recipients = ['..']": "..",
    "allowed_recipients = ['*']": "*",
    "model = ": "not TOML",
    "model = 'a'\nmodel = 'b'": "not TOML",
    "\N{ZERO WIDTH NO-BREAK SPACE}model = 'a'": "not TOML",
    **{
        SERVER.format(name): name[:5]
        for name in ("hyperhive", "Hyperhive", "HYPER-HIVE", "hyper_hive", "claude", "ide", "", "a__b", "a b", "mcp/x")
    },
    SERVER.format("hyperhive_"): "hyperhive_",
    # A Cyrillic letter, a full-width one, a space of no width.
    SERVER.format("hyp\u0435rhive"): "server",
    SERVER.format("\uff48yperhive"): "server",
    SERVER.format("hyper\u200bhive"): "server",
    **{
        f'environment = {{ {name} = "x" }}': name
        for name in (
            *("HIVE_GENERATION", "HIVE_CLAUDE", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_UNIX_SOCKET"),
            *("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "BASH_ENV", "ENV", "NODE_OPTIONS", "PYTHONPATH"),
            *("CLAUDE_CONFIG_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "HTTPS_PROXY", "http_proxy", "SHELLOPTS"),
        )
    },
    'environment = { "A=B" = "x" }': "A=B",
    'environment = { A = "x\\u0000y" }': "U+0000",
    "limits = { memory = '1' }": "limits",
    "network = { allow = ['https://example.org'] }": "network.allow",
    "network = { allow = ['example.org:0'] }": "network.allow",
    "network = { allow = ['GET http://example.org/a/../b'] }": "network.allow",
    "network = { mode = 'open' }": "network.mode",
    "schedule = [{ cron = '0 9 31 2 *', message = 'x' }]": "never comes",
}


@pytest.mark.parametrize("text", BAD_CONFIGS)
def test_a_config_that_cannot_be_used_is_refused_with_the_reason(arena: Arena, text: str) -> None:
    error = refuse(arena, "alice", *arena.bundle_files("alice", {"agent.toml": text.encode()}))
    assert BAD_CONFIGS[text] in str(error)


def test_a_key_that_was_nearly_right_is_guessed(arena: Arena) -> None:
    error = refuse(arena, "alice", *arena.bundle_files("alice", {"agent.toml": b"alowed_tools = []\n"}))
    assert "did you mean 'allowed_tools'" in str(error)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"prompt.md": b"no agent.toml\n"},
        {"Agent.toml": b""},
        {"agent.toml": b"", "prompt.md": b"a\0b"},
        {"agent.toml": b"", "prompt.md": b"\xff\xfe"},
        {"agent.toml": b"", "prompt.md": b"x" * 200_000},
        {"agent.toml": b"# " + b"x" * 100_000},
        {"agent.toml": b"\xff"},
        {"agent.toml": b"a = " + b"[" * 20_000},
        {"agent.toml": b".".join(b"a" for _ in range(20_000)) + b" = 1"},
        {"agent.toml": b"warm_s = " + b"9" * 20_000},
    ],
    ids=range(11),
)
def test_files_that_are_no_config_are_refused(arena: Arena, files: dict[str, bytes]) -> None:
    refuse(arena, "alice", *arena.bundle_files("alice", files))


def test_a_draft_is_held_to_the_same(arena: Arena) -> None:
    for text in ("allowed_recipient = []", SERVER.format("hyperhive"), "environment = { LD_PRELOAD = 'x' }"):
        tip, content = arena.bundle_files("carol", {"agent.toml": text.encode()})
        refuse(arena, "carol", tip, content, "")


def test_refusals_cost_no_disk_however_many_there_are(arena: Arena) -> None:
    def measure() -> int:
        return sum(path.lstat().st_blocks * 512 for path in arena.applied("alice").rglob("*"))

    before = (measure(), len(list(arena.applied("alice").rglob("*"))))
    noise = os.urandom(100_000)
    for number in range(200):
        files = {"agent.toml": b"nonsense = 1\n", "data": noise + str(number).encode()}
        tip, content = arena.bundle_files("alice", files)
        with pytest.raises(LinkError, match="no such key"):
            arena.send_bundle("alice", tip, content)
    assert (measure(), len(list(arena.applied("alice").rglob("*")))) == before
    assert list((arena.hive.data / "staging").iterdir()) == []


def test_proposals_over_the_limit_leave_nothing_either(arena: Arena) -> None:
    name = arena.spawn()
    waiting = [arena.manager.propose(name, {"a": f"{number}"})[0] for number in range(5)]
    for number in waiting:
        arena.hive.get(f"/api/approvals/{number}/review")
    arena.wait_tagged(waiting)
    tip, content = arena.bundle_files(name, {"agent.toml": b"# one too many\n"})
    assert "wait already" in str(refuse(arena, name, tip, content))


# -- names -------------------------------------------------------------------------------------------------

NAMES = [
    *("..", ".", "", "-x", "a-", "a/b", "../alice", "/etc", "A", "Alice", "x" * 64, "a\0b", "alice\n", "manager\n"),
    *("\u0430lice", "\uff41lice", "alice\u200b", "al\u0131ce", "a_b", "a b", "a%2fb", "*", "hm1nd", "hyperhive"),
]


def list_folders(arena: Arena) -> list[Path]:
    data = arena.hive.data
    return sorted(
        [*data.iterdir(), *(path for folder in data.iterdir() if folder.is_dir() for path in folder.iterdir())]
    )


@pytest.mark.parametrize("name", [*NAMES, "operator", "system"])
def test_no_request_of_the_manager_takes_what_is_no_name(arena: Arena, name: str) -> None:
    tip, content = arena.bundle_files("alice", FILES)
    before = (list_folders(arena), arena.hive.get("/api/approvals"), arena.hive.get("/api/agents"))
    for method in ("request_spawn", "request_spawn_draft", "kill", "start", "restart"):
        with pytest.raises(LinkError):
            arena.manager.request(method, {"name": name})
    for notes in (None, ""):
        with pytest.raises(LinkError) as caught:
            arena.send_bundle(name, tip, content, notes=notes)
        assert caught.value.code == "invalid_input"
    assert (list_folders(arena), arena.hive.get("/api/approvals"), arena.hive.get("/api/agents")) == before


# Without one, it is another route.
@pytest.mark.parametrize("name", [*filter(None, NAMES), "operator", "system"])
def test_no_route_of_configs_takes_what_is_no_name(arena: Arena, name: str) -> None:
    before = (list_folders(arena), arena.hive.get("/api/approvals"), arena.hive.get("/api/agents"))
    # As it stands: httpx would take '..' for the folder above.
    place = quote(name, safe="").replace(".", "%2E")
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", f"/api/agent-config/{place}", None),
        ("GET", f"/api/agent-config/{place}/history", None),
        ("POST", f"/api/agent-config/{place}/revert", {"to": 0}),
        ("POST", f"/api/agent-config/{place}/check", {"recipient": "alice"}),
        ("POST", "/api/agent-config/alice/check", {"recipient": name}),
        ("DELETE", f"/api/drafts/{place}", None),
        ("POST", f"/api/kept/{place}/revive", {}),
        ("DELETE", f"/api/kept/{place}", None),
        ("POST", "/api/agents", {"name": name}),
    ]
    with arena.hive.client() as client:
        for method, path, body in calls:
            if body == {"recipient": "operator"}:
                continue
            answer = client.request(method, path, json=body)
            assert answer.status_code in (400, 404, 405), (method, path, answer.status_code)
            assert answer.json()["code"] in {"invalid_input", "not_found"}
    assert (list_folders(arena), arena.hive.get("/api/approvals"), arena.hive.get("/api/agents")) == before


def test_the_manager_is_no_draft_and_not_spawned(arena: Arena) -> None:
    for method in ("request_spawn", "request_spawn_draft"):
        with pytest.raises(LinkError, match="reserved"):
            arena.manager.request(method, {"name": "manager"})
    with pytest.raises(LinkError, match="reserved"):
        arena.send_bundle("manager", *arena.bundle_files("manager", FILES), notes="")
    with arena.hive.client() as client:
        assert client.delete("/api/drafts/manager").status_code == 400
        assert client.delete("/api/kept/manager").status_code == 409
