"""What the operator sees of an agent's config: its files, its history, and what it lets the agent do."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperhive.core.approvals import Approval, ApprovalStatus
from hyperhive.core.errors import HiveError, InvalidInputError, NotFoundError, render_error
from hyperhive.core.names import parse_known_agent_name, parse_recipient
from hyperhive.core.policy import Decision, Policy, Verdict, decide_recipient
from hyperhive.core.tool_rules import decide_tool
from hyperhive.host.agent_records import get_agent
from hyperhive.host.configs.configs import Configs
from hyperhive.host.configs.repository import ConfigRepository, TreeFile
from hyperhive.host.powers import list_powers
from hyperhive.host.store.rows import AgentRecord, to_approval
from hyperhive.host.store.store import Store
from hyperhive.wire.agent_config import AgentConfig
from hyperhive.wire.operator.configs import (
    AgentConfigView,
    ConfigFile,
    ConfigVersion,
    PolicyCheckRequest,
    PolicyDecision,
)

# A longer file is named with its size.
TEXT_LIMIT_BYTES = 64 * 1024

FIRST_TAG = "deployed/0"


class ConfigViews:
    """All methods raise InvalidInputError for what is no name, NotFoundError for what is no agent of the hive now."""

    def __init__(self, store: Store, configs: Configs, *, account: bool = False) -> None:
        """`account`: whether agents have a login of claude of their own."""
        self._store = store
        self._configs = configs
        self._account = account

    async def view(self, name: str) -> AgentConfigView:
        """The deployed config. One that cannot be used is shown with the reason."""
        record = await self._get_live(name)
        commit = _get_deployed(record)
        repository = self._configs.repository(name)
        config, problem = await self._load(name, commit)
        return AgentConfigView(
            agent=name,
            commit=commit,
            files=_show_files(await repository.list_files(commit), await repository.read_files(commit)),
            problem=problem,
            config=None if config is None else config.model_dump(mode="json"),
            permissions=[] if config is None else list_powers(config, name, account=self._account),
        )

    def render_schema(self) -> dict[str, Any]:
        """The JSON Schema of what configs may say."""
        return self._configs.render_schema()

    async def history(self, name: str) -> list[ConfigVersion]:
        """What was deployed, failed or was denied, the newest first, and at the end the first config."""
        record = await self._get_live(name)
        rows = await self._store.read(lambda view: view.list("list_config_history", agent=name))
        tags = await _list_tags(self._configs.repository(name))
        versions = [_show_version(approval) for approval in map(to_approval, rows) if _is_of(approval, tags)]
        if FIRST_TAG in tags:
            versions.append(_show_first(record, tags[FIRST_TAG]))
        return _mark_current(versions, record.deployed_commit)

    async def check(self, name: str, request: PolicyCheckRequest) -> PolicyDecision:
        """What the deployed policy says to a call, a command or a recipient. Raises InvalidInputError for not one."""
        record = await self._get_live(name)
        asked = [given for given in (request.tool, request.bash, request.recipient) if given is not None]
        if len(asked) != 1:
            raise InvalidInputError("name one of tool, bash and recipient", "ask one question at a time")
        if request.arguments and request.tool is None:
            raise InvalidInputError("arguments are those of a tool", "name the tool, or leave them out")
        config, problem = await self._load(name, record.deployed_commit)
        if config is None:
            decision = Decision(Verdict.DENY, "default", f"its config cannot be used: {problem}")
        else:
            decision = _decide(config.to_policy(), name, request)
        return PolicyDecision(verdict=decision.verdict, rule=decision.rule, reason=decision.reason)

    async def _get_live(self, name: str) -> AgentRecord:
        parse_known_agent_name(name)
        return await self._store.read(lambda view: get_agent(view, name))

    async def _load(self, name: str, commit: str | None) -> tuple[AgentConfig | None, str]:
        """The config of a commit, or None and why it cannot be used."""
        if commit is None:
            return None, "none is deployed yet"
        cached = self._configs.find_cached(name)
        if cached is not None and cached.commit == commit:
            return cached.config, ""
        try:
            return (await self._configs.load(name, commit)).config, ""
        except HiveError as error:
            return None, render_error(error)


def _decide(policy: Policy, name: str, request: PolicyCheckRequest) -> Decision:
    if request.recipient is not None:
        return decide_recipient(policy, name, parse_recipient(request.recipient))
    if request.bash is not None:
        return decide_tool(policy, "Bash", {"command": request.bash})
    return decide_tool(policy, request.tool or "", request.arguments)


def _get_deployed(record: AgentRecord) -> str:
    if record.deployed_commit is None:
        raise NotFoundError(f"no config of {record.name} is deployed yet", record.failure or "see its row")
    return record.deployed_commit


def _show_files(files: Sequence[TreeFile], contents: Mapping[str, bytes]) -> list[ConfigFile]:
    return [
        ConfigFile(
            path=file.path,
            size_bytes=file.size_bytes,
            executable=file.executable,
            text=_read_text(contents.get(file.path)),
        )
        for file in files
    ]


def _read_text(content: bytes | None) -> str | None:
    """The text of a file; None for a binary or a long one."""
    if content is None or len(content) > TEXT_LIMIT_BYTES or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


async def _list_tags(repository: ConfigRepository) -> dict[str, str]:
    return await repository.list_tags() if await repository.exists() else {}


def _is_of(approval: Approval, tags: Mapping[str, str]) -> bool:
    """Whether it is of this agent's repo, and not of one of the same name that was purged."""
    return tags.get(_tag(approval), tags.get(f"proposal/{approval.id}")) == approval.commit


def _tag(approval: Approval) -> str:
    return f"{approval.status}/{approval.id}"


def _show_version(approval: Approval) -> ConfigVersion:
    return ConfigVersion(
        approval=approval.id,
        status=approval.status,
        commit=approval.commit or "",
        at=approval.resolved_at or approval.requested_at,
        description=approval.description,
        reason=approval.reason or "",
        current=False,
        tag=_tag(approval),
    )


def _show_first(record: AgentRecord, commit: str) -> ConfigVersion:
    return ConfigVersion(
        approval=0,
        status=ApprovalStatus.DEPLOYED,
        commit=commit,
        at=record.spawned_at,
        description="the first config",
        reason="",
        current=False,
        tag=FIRST_TAG,
    )


def _mark_current(versions: Sequence[ConfigVersion], deployed: str | None) -> list[ConfigVersion]:
    """Marks the newest entry that deployed what is deployed now."""
    current = next((v for v in versions if v.status is ApprovalStatus.DEPLOYED and v.commit == deployed), None)
    return [version.model_copy(update={"current": version is current}) for version in versions]
