"""What must hold of configs, approvals and containers whenever nothing is at work, checked on all that the daemon left.

`look` reads it from outside: the database, the repositories, the folders, the containers. Each promise is a function
that takes that and what was proposed, and asserts.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_containers import DIES, MUTE, REFUSED, UNBUILDABLE, Container, load_containers
from git_rig import bundle, bundle_of, commit, pack, plain_tree, read_folder, run_git
from hyperhive.core.approvals import TRANSITIONS, ApprovalStatus
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.host.configs.defaults import plan_default_files
from hyperhive.host.kept import ORPHANED
from hyperhive.wire.agent_link import COMMIT_REF, NOTES_REF

ENDS = {"deployed", "denied", "failed"}
TAGS = {
    "pending": {"proposal"},
    "deployed": {"proposal", "approved", "building", "deployed"},
    "denied": {"proposal", "denied"},
    "failed": {"proposal", "failed"},
}
# What a failure may say of a config that is good: each of these was somebody's act.
GOOD_REASONS = (
    "was deployed since this was proposed",
    "was approved instead",
    "was destroyed",
    "was discarded",
    "there is no agent",
    ORPHANED,
)
UNBUILDABLE_FATE = "unbuildable"
FATES = {
    UNBUILDABLE_FATE: UNBUILDABLE,
    REFUSED: "cannot be started",
    DIES: "ended before its harness connected",
    MUTE: "did not connect",
}
_REF_FORMAT = "%(refname)%00%(objectname)%00%(*objectname)%00%(tree)%00%(*tree)%00%(contents)%00%01"


@dataclass(frozen=True)
class Config:
    """A config by what its parts say. Of those that a restart brings: `mark`, `fate` and `data`."""

    mark: int = 0
    fate: str = ""
    data: int = 0
    recipients: int = 0
    prompt: int = 0

    def files(self, agent: str) -> dict[str, bytes]:
        if self == Config():
            return plan_default_files(agent)
        lines = [f'environment = {{ MARK = "{self.mark}", FATE = "{self.fate}" }}']
        if self.fate == UNBUILDABLE_FATE:
            lines.append(f'packages = ["{UNBUILDABLE}{self.mark}"]')
        if self.recipients:
            lines.append(f'allowed_recipients = ["peer-{self.recipients}"]')
        files = {"agent.toml": "\n".join(lines).encode(), "prompt.md": f"You are {self.prompt}.\n".encode()}
        return files | ({"data.txt": b"%d\n" % self.data} if self.data else {})

    @property
    def restarts(self) -> tuple[int, str, int]:
        return self.mark, self.fate, self.data


@dataclass(frozen=True)
class Proposed:
    """A commit that was made for a proposal."""

    agent: str
    commit: str
    config: Config
    bundle: bytes
    notes: str = ""
    notes_files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


def make_proposed(agent: str, parent: str, config: Config, message: str, notes: str = "") -> Proposed:
    """A commit with the files of `config` on top of `parent`, and a bundle of it."""
    root, *blobs = plain_tree(config.files(agent))
    tip = commit(root, [parent], message)
    if not notes:
        return Proposed(agent, tip.oid, config, bundle_of(tip, [root, *blobs], [parent]))
    notes_files = {"notes.md": notes.encode()}
    notes_root, *notes_blobs = plain_tree(notes_files)
    staged = commit(notes_root, [], message)
    objects = pack([tip, root, *blobs, staged, notes_root, *notes_blobs])
    refs = {COMMIT_REF: tip.oid, NOTES_REF: staged.oid}
    return Proposed(agent, tip.oid, config, bundle(refs, objects, [parent]), staged.oid, notes_files)


@dataclass(frozen=True)
class Ref:
    """`commit` is what the ref leads to, `tree` the tree of that, `message` a tag's own."""

    commit: str
    tree: str
    message: str


@dataclass(frozen=True)
class Seen:
    """All that is known at one moment: rows of the database, and the refs of each applied repo by its agent.

    The methods look anew, at what only stays as it is while nothing is at work.
    """

    agents: dict[str, dict[str, Any]]
    drafts: set[str]
    approvals: dict[int, dict[str, Any]]
    events: list[dict[str, Any]]
    told: list[dict[str, Any]]
    repos: dict[str, dict[str, Ref]]
    roots: Roots

    def incarnation(self, agent: str) -> int:
        """The event with which the applied repo of this name was removed last; 0 if it never was."""
        gone = {("agent.purged", agent), ("draft.discarded", agent)}
        return max((event["id"] for event in self.events if (event["name"], event["agent"]) in gone), default=0)

    def requested(self, approval: int) -> int:
        """The event with which an approval came to be."""
        return next(
            event["id"]
            for event in self.events
            if event["name"] == "approval.requested" and event["body"]["approval"]["id"] == approval
        )

    def has_repo_of(self, approval: Mapping[str, Any]) -> bool:
        """Whether the repo that an approval was about is still there."""
        return self.requested(approval["id"]) > self.incarnation(approval["agent"])

    def containers(self) -> dict[str, Container]:
        return load_containers(self.roots.containers_folder)

    def builds(self) -> dict[str, dict[str, dict[str, bytes]]]:
        """The files of each build of each agent, by its commit."""
        folders = self.roots.versions_folder(MANAGER).parent.iterdir()
        return {folder.name: {build.name: read_folder(build) for build in folder.iterdir()} for folder in folders}

    def staged(self) -> list[str]:
        return [path.name for path in self.roots.staging_folder.iterdir()]

    def live_agents(self) -> dict[str, dict[str, Any]]:
        return {name: row for name, row in self.agents.items() if row["destroyed_at"] is None}


@dataclass
class Known:
    """What the test knows: what it proposed, and what the daemon has confirmed to it.

    `configs` by commit; `confirmed` is the commit of each approval, `decided` what the operator was told of it;
    `crashed` are agents whose container was made to end, maybe before its harness had connected.
    """

    configs: dict[str, Config] = field(default_factory=dict[str, Config])
    proposed: dict[str, Proposed] = field(default_factory=dict[str, Proposed])
    confirmed: dict[int, str | None] = field(default_factory=dict[int, "str | None"])
    decided: dict[int, str] = field(default_factory=dict[int, str])
    mains: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    lost_folders: set[str] = field(default_factory=set[str])
    crashed: set[str] = field(default_factory=set[str])

    def list_reasons(self, agent: str, config: Config) -> list[str]:
        """Why an agent may not be able to start with `config`."""
        dies = DIES if agent in self.crashed else config.fate
        return [FATES[fate] for fate in (config.fate, dies) if fate]

    def learn(self, seen: Seen) -> None:
        """Takes over the commits that the daemon makes itself: the first config, and reverts."""
        for refs in seen.repos.values():
            self.configs.setdefault(refs["refs/tags/deployed/0"].commit, Config())
        for row in sorted(seen.approvals.values(), key=lambda row: row["id"]):
            if row["kind"] == "revert" and row["commit_sha"] not in self.configs and seen.has_repo_of(row):
                refs = seen.repos[row["agent"]]
                self.configs[row["commit_sha"]] = self.configs[refs[f"refs/tags/deployed/{row['reverts_to']}"].commit]


# -- looking -------------------------------------------------------------------------------------------------


def look(roots: Roots) -> Seen:
    tables = read_tables(roots)
    messages = [json.loads(row["body"]) for row in tables["message_rows"] if row["sender"] == "system"]
    return Seen(
        agents={row["name"]: row for row in tables["agents"]},
        drafts={row["name"] for row in tables["drafts"]},
        approvals={row["id"]: row for row in tables["approvals"]},
        events=[row | {"body": json.loads(row["body"])} for row in tables["events"]],
        told=messages,
        repos={path.name: read_refs(path) for path in roots.applied_folder.iterdir() if path.is_dir()},
        roots=roots,
    )


def read_tables(roots: Roots) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(roots.database)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            name: [dict(row) for row in connection.execute(f"select * from {name}")]
            for name in ("agents", "drafts", "approvals", "events", "messages", "message_rows")
        }


def read_refs(repository: Path) -> dict[str, Ref]:
    refs: dict[str, Ref] = {}
    for record in run_git(repository, "for-each-ref", f"--format={_REF_FORMAT}").split("\1"):
        if record.strip():
            name, oid, peeled, tree, peeled_tree, message, _ = record.lstrip("\n").split("\0")
            refs[name] = Ref(peeled or oid, peeled_tree or tree, message)
    return refs


def hash_tables(roots: Roots) -> str:
    return hashlib.sha256(repr(read_tables(roots)).encode()).hexdigest()


# -- promises ------------------------------------------------------------------------------------------------


def check_promises(known: Known, seen: Seen) -> None:
    for promise in PROMISES:
        promise(known, seen)


def what_is_deployed_is_an_approved_commit_and_main(known: Known, seen: Seen) -> None:
    for name, row in seen.live_agents().items():
        deployed = row["deployed_commit"]
        if deployed is None:
            assert row["desired"] == "stopped" or row["failure"], f"{name} has no config and says nothing"
            continue
        refs = seen.repos[name]
        of_it = [approval for approval in seen.approvals.values() if approval["agent"] == name]
        approved = {approval["commit_sha"] for approval in of_it if approval["status"] == "deployed"}
        assert deployed in approved | {refs["refs/tags/deployed/0"].commit}, f"{name}: {deployed} was never approved"
        assert refs["refs/heads/main"].commit == deployed, f"main of {name} is not what is deployed"
        root = plain_tree(known.configs[deployed].files(name))[0]
        assert refs["refs/heads/main"].tree == root.oid, f"main of {name} has other files than were approved"


def what_runs_is_what_is_deployed(known: Known, seen: Seen) -> None:
    names = {container_name(name) for name in seen.live_agents()}
    containers, builds = seen.containers(), seen.builds()
    assert containers.keys() <= names, f"there are containers of nobody: {containers.keys() - names}"
    for name, row in seen.live_agents().items():
        container = containers.get(container_name(name))
        if container is None or container.state != "running":
            assert row["desired"] == "stopped" or row["failure"], f"{name} should run"
            _check_failure(known, name, row)
            continue
        assert row["desired"] == "running", f"{name} should not run"
        assert not row["trying"], f"{name} runs with what was tried"
        started, deployed = row["started_commit"], row["deployed_commit"]
        assert container.mounts["/config"] == str(seen.roots.versions_folder(name) / started)
        config = known.configs[deployed]
        assert container.told == deployed, f"the harness of {name} was told {container.told}, not {deployed}"
        assert known.configs[started].restarts == config.restarts, f"{name} runs with another config than is deployed"
        environment = container.environment
        mark, fate, _ = config.restarts
        assert (environment.get("MARK", "0"), environment.get("FATE", "")) == (str(mark), fate)
        assert builds[name][started] == known.configs[started].files(name), f"the build of {name} has other files"


def _check_failure(known: Known, name: str, row: Mapping[str, Any]) -> None:
    """A failure to start has its reason in the config that is deployed, untried as the agent was stopped then."""
    if row["desired"] == "running" and row["deployed_commit"] is not None:
        reasons = known.list_reasons(name, known.configs[row["deployed_commit"]])
        assert any(reason in row["failure"] for reason in reasons), f"{name} should start: {row['failure']}"


def each_approval_ends_once_and_is_told_once(known: Known, seen: Seen) -> None:
    statuses: dict[int, str] = {}
    for event in seen.events:
        if not event["name"].startswith("approval."):
            continue
        approval, status = event["body"]["approval"]["id"], event["name"].removeprefix("approval.")
        if status == "requested":
            assert approval not in statuses, f"approval {approval} was requested twice"
            statuses[approval] = "pending"
            continue
        follows = TRANSITIONS[ApprovalStatus(statuses[approval])]
        assert status in follows, f"approval {approval} was {statuses[approval]} and then {status}"
        statuses[approval] = status
        building = [number for number, at in statuses.items() if at == "building"]
        assert len(building) <= 1, f"approvals {building} were building at the same time"
    assert statuses == {number: row["status"] for number, row in seen.approvals.items()}
    ends = [told for told in seen.told if told["event"] == "approval_resolved"]
    assert sorted(told["approval"] for told in ends) == sorted(n for n, status in statuses.items() if status in ENDS)
    for told in ends:
        row = seen.approvals[told["approval"]]
        assert (told["status"], told["reason"]) == (row["status"], row["reason"] or "")


def what_was_confirmed_is_kept(known: Known, seen: Seen) -> None:
    for number, pinned in known.confirmed.items():
        assert number in seen.approvals, f"approval {number} is lost"
        row = seen.approvals[number]
        if pinned is not None:
            assert row["commit_sha"] == pinned, f"approval {number} has another commit than it was asked for"
    for number, decision in known.decided.items():
        status = seen.approvals[number]["status"]
        assert (status == "denied") == (decision == "deny"), f"approval {number} is {status} after {decision}"
        assert status != "pending", f"the decision about {number} is lost"


def failures_have_their_reason(known: Known, seen: Seen) -> None:
    for number, row in seen.approvals.items():
        if row["status"] == "failed":
            config = known.configs[row["commit_sha"]] if row["commit_sha"] else Config()
            reasons = (*GOOD_REASONS, *known.list_reasons(row["agent"], config))
            assert any(reason in row["reason"] for reason in reasons), f"approval {number} failed: {row['reason']}"
        if row["status"] == "deployed":
            fate = known.configs[row["commit_sha"]].fate
            assert fate != UNBUILDABLE_FATE, f"approval {number} was deployed and cannot be built"


def tags_tell_what_became_of_each_commit(known: Known, seen: Seen) -> None:
    expected: dict[str, set[str]] = {name: {"refs/heads/main", "refs/tags/deployed/0"} for name in seen.repos}
    for number, row in seen.approvals.items():
        if not row["commit_sha"] or not seen.has_repo_of(row):
            continue
        refs = seen.repos[row["agent"]]
        tags = {f"refs/tags/{tag}/{number}" for tag in TAGS[row["status"]]}
        pinned = {f"refs/proposals/{number}"}
        for ref in tags | pinned:
            assert ref in refs, f"{ref} is missing in {row['agent']}"
            assert refs[ref].commit == row["commit_sha"], f"{ref} is not on the commit of the approval"
        if row["notes_sha"]:
            pinned.add(f"refs/proposal-notes/{number}")
            assert refs[f"refs/proposal-notes/{number}"].commit == row["notes_sha"]
        if row["status"] in {"denied", "failed"}:
            message = refs[f"refs/tags/{row['status']}/{number}"].message
            assert row["reason"] in message, f"the tag of {number} does not tell the reason"
        way = {f"refs/tags/{tag}/{number}" for tag in ("approved", "building") if row["status"] == "failed"}
        expected[row["agent"]] |= tags | pinned | (way & refs.keys())
    for name, refs in seen.repos.items():
        assert refs.keys() == expected[name], f"refs of {name}: {refs.keys() ^ expected[name]}"


def main_only_moves_forward(known: Known, seen: Seen) -> None:
    for name, refs in seen.repos.items():
        main, place = refs["refs/heads/main"].commit, (name, seen.incarnation(name))
        before = known.mains.get(place, main)
        if before != main:
            run_git(seen.roots.applied_repo(name), "merge-base", "--is-ancestor", before, main)
        known.mains[place] = main


def no_build_is_left(known: Known, seen: Seen) -> None:
    assert seen.staged() == [], "something is left in the staging folder"
    for name, builds in seen.builds().items():
        row = seen.agents.get(name)
        used = {row["deployed_commit"], row["started_commit"]} if row else set[str]()
        assert builds.keys() <= used, f"builds of {name} are left: {builds.keys() - used}"


def drafts_and_agents_share_no_name(known: Known, seen: Seen) -> None:
    assert not seen.drafts & seen.agents.keys()
    assert seen.drafts | seen.agents.keys() == seen.repos.keys() | {
        name for name, row in seen.agents.items() if row["deployed_commit"] is None
    }, "repositories of nobody, or a draft without one"


def orphans_fail(known: Known, seen: Seen) -> None:
    for number, row in seen.approvals.items():
        if row["status"] != "pending" or (row["kind"] == "spawn" and row["commit_sha"] is None):
            continue
        folder = seen.roots.proposed_folder_of if row["kind"] == "spawn" else seen.roots.agent_folder
        assert folder(row["agent"]).is_dir(), f"approval {number} waits, and the folder of {row['agent']} is gone"


def staged_notes_are_there(known: Known, seen: Seen) -> None:
    for row in seen.approvals.values():
        name = row["agent"]
        if (
            row["notes_sha"]
            and row["status"] == "deployed"
            and seen.has_repo_of(row)
            and name not in known.lost_folders
        ):
            notes = known.proposed[row["commit_sha"]].notes_files
            assert read_folder(seen.roots.state_folder(name)) == notes, f"{name} has not the notes that were staged"


PROMISES = (
    each_approval_ends_once_and_is_told_once,
    what_was_confirmed_is_kept,
    what_is_deployed_is_an_approved_commit_and_main,
    what_runs_is_what_is_deployed,
    failures_have_their_reason,
    tags_tell_what_became_of_each_commit,
    main_only_moves_forward,
    no_build_is_left,
    drafts_and_agents_share_no_name,
    orphans_fail,
    staged_notes_are_there,
)
