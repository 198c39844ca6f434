"""Reviews: all that the operator decides on, always from the commit that an approval pins."""

from collections.abc import Sequence
from dataclasses import dataclass

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.errors import HiveError
from hyperhive.core.names import MANAGER
from hyperhive.core.text import render_safe_line
from hyperhive.host.approval_records import get_approval
from hyperhive.host.configs.configs import Configs
from hyperhive.host.configs.meaning import plan_effect, plan_meaning
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.host.drafts import is_draft
from hyperhive.host.present import show_approval
from hyperhive.host.store.rows import to_agent, to_approval
from hyperhive.host.store.store import Store, View
from hyperhive.wire.agent_config import PROMPT_FILE, AgentConfig
from hyperhive.wire.operator.configs import Comparison, FileDiff, Review

# What was asked earlier than these is of the past.
EARLIER_LIMIT = 5

# Where an empty list means: anything.
_OPEN_WHEN_EMPTY = {
    "allowed_recipients": "it may send to anyone",
    "allowed_tools": "it may call any tool",
    "bash.allow": "it may run any command",
}


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """What else is known of an approval: earlier proposals that were not applied, others that wait, its agent.

    `deployed` is what its agent runs with, None if there is no agent or it runs with nothing yet.
    """

    approval: Approval
    earlier: tuple[Approval, ...]
    others: tuple[Approval, ...]
    is_agent: bool
    is_draft: bool
    deployed: str | None


class Reviews:
    def __init__(self, store: Store, configs: Configs) -> None:
        self._store = store
        self._configs = configs

    async def review(self, approval_id: int) -> Review:
        """What an approval changes and what to beware of, also of one that is decided. Raises NotFoundError."""
        known = await self._store.read(lambda view: _look(view, approval_id))
        approval = known.approval
        if approval.commit is None:
            return _render(approval, warnings=_warn_of_state(known))
        repository = self._configs.repository(approval.agent)
        try:
            return await self._review_commit(repository, known, approval.commit)
        except HiveError as error:
            # It is still to be decided, or was: what is known of it is shown, and that the rest cannot be.
            gone = f"what it changes cannot be shown: {error.message}"
            return _render(approval, warnings=[*_warn_of_state(known), gone])

    async def find_compared(self, approval_id: int) -> tuple[Approval, str | None]:
        """An approval, and the commit that a review compares its own with; None: with nothing. Raises NotFoundError."""
        known = await self._store.read(lambda view: _look(view, approval_id))
        approval = known.approval
        if approval.commit is None:
            return approval, None
        base, _ = await _find_base(self._configs.repository(approval.agent), known, approval.commit)
        return approval, base

    async def _review_commit(self, repository: ConfigRepository, known: _Neighbours, commit: str) -> Review:
        approval = known.approval
        base, warnings = await _find_base(repository, known, commit)
        comparison, more = await self._compare(repository, approval.agent, base, commit)
        notes = await repository.diff(None, approval.notes) if approval.notes else []
        earlier, since_earlier = await self._compare_earlier(repository, known.earlier, commit)
        return _render(
            approval,
            comparison=comparison,
            earlier=earlier,
            since_earlier=since_earlier,
            notes=notes,
            system=self._configs.evaluates,
            warnings=[
                *warnings,
                *_warn_of_state(known),
                *more,
                *_warn_of_files("", comparison.files),
                *_warn_of_files("the staged note ", notes),
                *await _warn_of_others(repository, known, commit),
            ],
        )

    async def _compare(
        self, repository: ConfigRepository, agent: str, base: str | None, commit: str
    ) -> tuple[Comparison, list[str]]:
        """What differs, and what to beware of in it."""
        files = await repository.diff(base, commit)
        before, unreadable = (None, "") if base is None else await self._read_config(repository, agent, base)
        after, problem = await self._read_config(repository, agent, commit)
        if after is None:
            comparison = Comparison(base=base or "", commit=commit, files=files, meaning=[], effect=Effect.REBUILD)
            return comparison, [f"it cannot be used: {problem}"]
        meaning = plan_meaning(before, after, files)
        comparison = Comparison(
            base=base or "", commit=commit, files=files, meaning=meaning, effect=plan_effect(meaning)
        )
        if unreadable:
            return comparison, [f"what it is compared with cannot be used, all is shown as new: {unreadable}"]
        return comparison, [] if before is None else _warn_of_opened(before, after)

    async def _read_config(
        self, repository: ConfigRepository, agent: str, commit: str
    ) -> tuple[AgentConfig | None, str]:
        """The config of a commit, or None and why it cannot be used."""
        files = await repository.read_files(commit)
        try:
            return await self._configs.read(agent, files), ""
        except HiveError as error:
            return None, error.message

    async def _compare_earlier(
        self, repository: ConfigRepository, earlier: Sequence[Approval], commit: str
    ) -> tuple[int | None, Comparison | None]:
        """The newest of the earlier proposals that is still there, and what differs from it."""
        for approval in earlier:
            if approval.commit is None:
                continue
            try:
                comparison, _ = await self._compare(repository, approval.agent, approval.commit, commit)
            except HiveError:
                # It was of an agent of the same name that is purged.
                continue
            return approval.id, comparison
        return None, None


def _look(view: View, approval_id: int) -> _Neighbours:
    approval = get_approval(view, approval_id)
    earlier: list[Approval] = []
    if approval.kind is not ApprovalKind.REVERT:
        rows = view.list("list_earlier_proposals", agent=approval.agent, id=approval.id, limit=EARLIER_LIMIT)
        earlier = [to_approval(row) for row in rows]
    others = view.list("list_other_proposals", agent=approval.agent, id=approval.id)
    row = view.find("get_agent", name=approval.agent)
    agent = None if row is None or row["destroyed_at"] is not None else to_agent(row)
    return _Neighbours(
        approval=approval,
        earlier=tuple(earlier),
        others=tuple(to_approval(row) for row in others),
        is_agent=agent is not None,
        is_draft=is_draft(view, approval.agent),
        deployed=None if agent is None else agent.deployed_commit,
    )


def _render(
    approval: Approval,
    *,
    comparison: Comparison | None = None,
    earlier: int | None = None,
    since_earlier: Comparison | None = None,
    notes: list[FileDiff] | None = None,
    warnings: Sequence[str] = (),
    system: bool = False,
) -> Review:
    return Review(
        approval=show_approval(approval),
        comparison=comparison,
        earlier=earlier,
        since_earlier=since_earlier,
        notes=notes or [],
        warnings=list(warnings),
        system=system,
    )


async def _find_base(repository: ConfigRepository, known: _Neighbours, commit: str) -> tuple[str | None, list[str]]:
    """What `commit` is to be compared with, and what is wrong with that.

    A new agent's config is shown whole. A proposal that waits is compared with what is deployed now, as that is what
    an approval would replace; one that is decided with what was deployed when it was asked for.
    """
    approval = known.approval
    if approval.kind is ApprovalKind.SPAWN:
        return None, []
    if approval.status is not ApprovalStatus.PENDING:
        return approval.base, []
    if known.deployed is None:
        return approval.base, ["it cannot be applied: nothing is deployed that it could follow"]
    if await repository.is_ancestor(known.deployed, commit):
        return known.deployed, []
    shown = approval.base[:12] if approval.base else "nothing"
    stale = f"it does not follow what is deployed now, {known.deployed[:12]}; it is shown against {shown}"
    return approval.base, [f"it cannot be applied: {stale}"]


def _warn_of_state(known: _Neighbours) -> list[str]:
    approval = known.approval
    warnings: list[str] = []
    if approval.agent == MANAGER:
        warnings.append("this is the config of the manager, which proposes all others")
    if approval.status is not ApprovalStatus.PENDING:
        return warnings
    if approval.kind is not ApprovalKind.SPAWN and not known.is_agent:
        warnings.append(f"it cannot be applied: there is no agent {approval.agent} any more")
    if approval.kind is ApprovalKind.SPAWN and known.is_agent:
        warnings.append(f"it cannot be applied: there is an agent {approval.agent} already")
    if approval.kind is ApprovalKind.SPAWN and approval.commit is not None and not known.is_draft:
        warnings.append(f"it cannot be applied: the draft {approval.agent} is gone")
    return warnings


async def _warn_of_others(repository: ConfigRepository, known: _Neighbours, commit: str) -> list[str]:
    """Of several proposals that wait, deploying one may make another impossible."""
    if known.approval.status is not ApprovalStatus.PENDING:
        return []
    warnings: list[str] = []
    for other in known.others:
        try:
            warnings += await _warn_of_other(repository, other, commit)
        except HiveError as error:
            warnings.append(f"approval {other.id} waits, too, and cannot be looked at: {error.message}")
    return warnings


async def _warn_of_other(repository: ConfigRepository, other: Approval, commit: str) -> list[str]:
    if other.commit is None or await repository.is_ancestor(commit, other.commit):
        # What follows this one can still be applied after it; the same commit follows itself.
        return [f"approval {other.id} waits with the same commit"] if other.commit == commit else []
    if await repository.is_ancestor(other.commit, commit):
        return [f"it contains what approval {other.id} waits with"]
    return [f"approval {other.id} waits, too, and is based on something else: only one of them can be applied"]


def _warn_of_opened(before: AgentConfig, after: AgentConfig) -> list[str]:
    """Lists that become empty, where an empty one allows everything."""
    return [
        f"{area} becomes empty: {meaning}"
        for area, meaning in _OPEN_WHEN_EMPTY.items()
        if _get_list(before, area) and not _get_list(after, area)
    ]


def _get_list(config: AgentConfig, area: str) -> Sequence[str]:
    lists = {
        "allowed_recipients": config.allowed_recipients,
        "allowed_tools": config.allowed_tools,
        "bash.allow": config.bash.allow,
    }
    return lists[area]


def _warn_of_files(what: str, files: Sequence[FileDiff]) -> list[str]:
    """What the diff does not show, or shows other than it is."""
    warnings: list[str] = []
    for file in files:
        name = what + render_safe_line(file.path)
        if not what and file.path == PROMPT_FILE and file.change == "removed":
            warnings.append(f"{PROMPT_FILE} is removed: the agent gets no instructions")
        if file.binary and file.change != "removed":
            warnings.append(f"{name} is binary: its content is not shown")
        if file.truncated:
            warnings.append(f"{name} is not shown in full")
        if file.executable:
            warnings.append(f"{name} may be executed")
        if _has_unsafe_text(file):
            warnings.append(f"{name} has characters that hide or turn around what is read")
    return warnings


def _has_unsafe_text(file: FileDiff) -> bool:
    # A tab and the carriage return of a Windows line are no surprise.
    texts = (line.text.rstrip("\r") for hunk in file.hunks for line in hunk.lines if line.kind == "added")
    return any(render_safe_line(text) != text.replace("\t", " ") for text in texts)
