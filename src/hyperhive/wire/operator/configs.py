"""Configs, and approvals of their changes."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.policy import Verdict
from hyperhive.wire.operator.base import Model
from hyperhive.wire.operator.records import NotesVersion


class Approval(Model):
    id: int
    kind: ApprovalKind
    agent: str
    status: ApprovalStatus
    requested_by: str
    description: str
    requested_at: datetime
    resolved_at: datetime | None
    reason: str | None
    commit: str | None = Field(description="The pinned commit that is applied if this is approved.")
    base: str | None = Field(description="The commit that was deployed when this was asked for.")
    reverts_to: int | None = Field(description="The approval whose config a revert brings back; 0: the first config.")


class DenyRequest(Model):
    reason: str = Field(default="", max_length=2000)


class DiffLine(Model):
    kind: Literal["context", "added", "removed"]
    old: int | None = Field(description="The line's number before, from 1.")
    new: int | None = Field(description="The line's number after, from 1.")
    text: str = Field(description="Without its line end.")


class DiffHunk(Model):
    header: str = Field(description="Such as '@@ -1,3 +1,4 @@'.")
    lines: list[DiffLine]


class FileDiff(Model):
    """How one file differs. A binary file, and one whose diff is too long to send, has no hunks and says so."""

    path: str
    change: Literal["added", "removed", "changed"]
    binary: bool
    executable: bool | None = Field(description="Set if that changes: whether it may be executed now.")
    old_size_bytes: int
    new_size_bytes: int
    added: int = Field(description="Lines.")
    removed: int = Field(description="Lines.")
    large: bool = Field(description="Shown folded.")
    truncated: bool = Field(description="The hunks are not all of it.")
    hunks: list[DiffHunk]


class NotesDiff(Model):
    """What a version of the notes changed against the one before it."""

    version: NotesVersion
    files: list[FileDiff]


class MeaningRow(Model):
    """What a change means, in the words of the config. `area` is the key of the config, or 'files'."""

    area: str
    change: Literal["added", "removed", "changed"]
    subject: str = Field(description="What of the area: a package, a recipient, 'github.command', a file.")
    before: str
    after: str
    effect: Effect


class Comparison(Model):
    """What `commit` changes against `base` (empty: against nothing)."""

    base: str
    commit: str
    files: list[FileDiff]
    meaning: list[MeaningRow]
    effect: Effect


class Review(Model):
    """All that the operator decides on."""

    approval: Approval
    comparison: Comparison | None = Field(description="None for a spawn with the default config.")
    earlier: int | None = Field(description="An earlier proposal for this agent that was not applied.")
    since_earlier: Comparison | None = Field(description="What differs from that one.")
    notes: list[FileDiff] = Field(description="Staged notes of a two-step spawn.")
    warnings: list[str]
    system: bool = Field(description="What it changes of the agent's system can be asked for, which takes longer.")


class PackageChange(Model):
    """How the packages of one name differ. Versions are as their makers name them, several joined by ', '."""

    change: Literal["added", "removed", "changed"]
    name: str
    before: str
    after: str


class SystemChange(Model):
    """What a change of a config takes of the machine: the packages of the agent's system, with all that they need.

    Both sides are evaluated with the flake that there is now, and nothing is built to find out.
    """

    base: str = Field(description="The commit that it is compared with; empty: a config that says nothing.")
    packages: list[PackageChange] = Field(description="By name.")
    left_out: int = Field(description="Packages that differ, too, and are too many to be listed.")
    added_bytes: int = Field(description="What the machine's store gets.")
    removed_bytes: int = Field(description="At most what is needed no longer; it goes when garbage is collected.")
    download_bytes: int
    fetched: int = Field(description="Paths of the store that are fetched.")
    built: list[str] = Field(description="Packages that are built here; their sizes are in none of the numbers.")
    problem: str = Field(description="Why sizes are not known, all of which are 0 then; empty if they are.")


class ConfigFile(Model):
    path: str
    size_bytes: int
    executable: bool
    text: str | None = Field(description="None for a binary file, or a large one.")


class Permission(Model):
    """One thing that an agent may do, may do after a question, or may not do, and the rule that says so."""

    area: Literal["run", "reach", "read", "message", "spend"]
    subject: str
    verdict: Verdict
    rule: str


class AgentConfigView(Model):
    """The applied config of an agent."""

    agent: str
    commit: str
    files: list[ConfigFile]
    problem: str = Field(description="Why it cannot be used; empty if it can.")
    config: dict[str, Any] | None = Field(description="All keys with their values; None if it cannot be used.")
    permissions: list[Permission]


class ConfigVersion(Model):
    """One entry of a config's history. `approval` is 0 for the first config."""

    approval: int
    status: ApprovalStatus
    commit: str
    at: datetime
    description: str
    reason: str
    current: bool
    tag: str = Field(description="Such as 'deployed/3'.")


class RevertRequest(Model):
    to: int = Field(ge=0, lt=2**63, description="The number of a deployed approval; 0: the first config.")


class PolicyCheckRequest(Model):
    """One question: a tool with its arguments, a shell command, or a recipient."""

    tool: str | None = Field(default=None, max_length=200)
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    bash: str | None = Field(default=None, max_length=20_000)
    recipient: str | None = Field(default=None, max_length=200)


class PolicyDecision(Model):
    verdict: Verdict
    rule: str
    reason: str
