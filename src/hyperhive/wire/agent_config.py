"""The config of an agent: one schema, read from `agent.toml`. Unknown keys are errors; nothing falls back to a default.

Each field says in its JSON Schema, as `x-effect`, when a change of it takes effect (see `core.effects`).
"""

import re
import tomllib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from hyperhive.core import config_values as values
from hyperhive.core.effects import Effect
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import Policy
from hyperhive.core.text import render_safe_line
from hyperhive.wire.config_problems import render_problems

CONFIG_FILE = "agent.toml"
PROMPT_FILE = "prompt.md"
SIZE_LIMIT_BYTES = 64 * 1024
LIST_LIMIT = 200
SERVERS_LIMIT = 20
WEEK_S = 7 * 24 * 3600
HIBERNATE_LIMIT_S = 365 * 24 * 3600
CPU_LIMIT = 1024
TASKS_LIMIT = 1_000_000
NOTES_LIMIT_BYTES = 128 * 1024
TOKENS_LIMIT = 1_000_000_000_000
USD_LIMIT = 1_000_000

# The longest key of the schema, written with dots, and a good deal more.
_WORD_LIMIT_CHARS = 400
# Ended or not: what is not ended is to its end no key either.
_STRING_OR_COMMENT = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)|\'{3}.*?(?:\'{3,5}|\Z)|"(?:\\[^\n]|[^"\\\n])*"?|\'[^\'\n]*\'?|\#[^\n]*''',
    re.DOTALL,
)
_LONG_WORD = re.compile(rf"[\w.:+-]{{{_WORD_LIMIT_CHARS + 1},}}")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, eq=False)
class _Says:
    """Adds `keys` to the JSON Schema of what it annotates."""

    keys: dict[str, Any]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), **self.keys}


def _check_unique(items: list[ItemT]) -> list[ItemT]:
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ValueError(f"has {repr(item) if isinstance(item, str) else 'an entry'} twice")
    return items


def _check_server_tools(tools: list[str]) -> list[str]:
    if "*" in tools and len(tools) > 1:
        raise ValueError("has '*', which means all tools, beside others")
    return tools


_LONGEST = {"maxLength": values.TEXT_LIMIT_BYTES}
Text = Annotated[str, AfterValidator(values.parse_text), _Says(_LONGEST)]
ServerText = Annotated[str, AfterValidator(values.parse_server_text), _Says(_LONGEST)]
Command = Annotated[str, AfterValidator(values.parse_command), _Says({"pattern": values.LINE, **_LONGEST})]
Model = Annotated[str, AfterValidator(values.parse_model), _Says({"pattern": values.MODEL})]
Recipient = Annotated[str, AfterValidator(values.parse_allowed_recipient), _Says({"pattern": values.RECIPIENT})]
OwnTool = Annotated[str, AfterValidator(values.parse_own_tool), _Says({"pattern": values.OWN_TOOL})]
Tools = Annotated[str, AfterValidator(values.parse_tools), _Says({"pattern": values.TOOLS})]
ServerTool = Annotated[str, AfterValidator(values.parse_server_tools), _Says({"pattern": values.SERVER_TOOLS})]
BashPattern = Annotated[str, AfterValidator(values.parse_bash_pattern), _Says({"pattern": values.BASH_PATTERN})]
Package = Annotated[str, AfterValidator(values.parse_package), _Says({"pattern": values.PACKAGE})]
Reach = Annotated[str, AfterValidator(values.parse_reach), _Says({"pattern": values.REACH})]
Memory = Annotated[str, AfterValidator(values.parse_memory), _Says({"pattern": values.MEMORY})]
Cron = Annotated[str, AfterValidator(values.parse_cron), _Says({"pattern": values.CRON})]

_Length = Field(max_length=LIST_LIMIT)
Unique = Annotated[list[ItemT], _Length, AfterValidator(_check_unique), _Says({"uniqueItems": True})]
ServerTools = Annotated[Unique[ServerTool], AfterValidator(_check_server_tools)]
ServerEnv = Annotated[
    dict[Annotated[str, AfterValidator(values.parse_any_variable)], ServerText],
    _Length,
    _Says({"propertyNames": {"pattern": values.ANY_VARIABLE}}),
]
Environment = Annotated[
    dict[Annotated[str, AfterValidator(values.parse_variable)], Text],
    _Length,
    _Says({"propertyNames": {"pattern": values.VARIABLE}}),
]


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _field(effect: Effect, description: str, default: Any = ..., **more: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"x-effect": effect.value}, **more)


class BashRules(ConfigModel):
    allow: Unique[BashPattern] = Field(default=[], description="Commands that may be run, such as `git *`; empty: any.")
    deny: Unique[BashPattern] = Field(
        default=[], description="Commands that may not be run; counts more than allow and ask."
    )
    ask: Unique[BashPattern] = Field(default=[], description="Commands that the operator is asked about each time.")


class McpServer(ConfigModel):
    """An MCP server over stdio, started beside the hive's own."""

    command: Command = Field(description="The program.")
    args: Annotated[list[ServerText], _Length] = Field(default=[], description="Its arguments.")
    env: ServerEnv = Field(default={}, description="Its variables, beside those of the container.")
    allowed_tools: ServerTools = Field(
        default=["*"], description="The tools of it that may be called; `*`: all; empty: none."
    )


class Network(ConfigModel):
    mode: Literal["none", "proxied", "host"] = Field(default="proxied", description="What it may reach at all.")
    # The daemon asks for it at each request.
    allow: Unique[Reach] = _field(
        Effect.LIVE, "What may be reached through the proxy: `HOST`, `HOST:PORT`, `GET http://HOST/PATH*`.", []
    )


class Limits(ConfigModel):
    memory: Memory | None = Field(default=None, description="Such as `2G`.")
    cpu: float | None = Field(default=None, gt=0, le=CPU_LIMIT, description="Cores.")
    tasks: int | None = Field(default=None, ge=1, le=TASKS_LIMIT, description="Processes and threads.")
    disk: Memory | None = Field(default=None, description="What its folders may hold, such as `20G`.")


class Budget(ConfigModel):
    tokens_per_day: int | None = Field(
        default=None, ge=0, le=TOKENS_LIMIT, description="Input, output and cache writes."
    )
    usd_per_day: float | None = Field(default=None, ge=0, le=USD_LIMIT, description="US dollars.")


class Permissions(ConfigModel):
    ask: Unique[Tools] = Field(
        default=[], description="Tools that the operator is asked about each time, such as `WebFetch`."
    )


class ScheduleEntry(ConfigModel):
    cron: Cron = Field(description="Minute, hour, day, month, weekday, in UTC.")
    message: Text = Field(min_length=1, description="What it is sent, on one line.")


class AgentConfig(ConfigModel):
    """All that decides what an agent is and may do, beside `prompt.md` and the other files of its config."""

    model: Model = _field(Effect.NEXT_TURN, "The model; empty: claude's default.", "")
    allowed_recipients: Unique[Recipient] = _field(Effect.LIVE, "Whom it may send to; empty: anyone.", [])
    allowed_tools: Unique[OwnTool] = _field(Effect.NEXT_TURN, "claude's own tools that it may call; empty: any.", [])
    bash: BashRules = _field(Effect.NEXT_TURN, "Which commands it may run.", BashRules())
    mcp_servers: Annotated[
        dict[Annotated[str, AfterValidator(values.parse_server)], McpServer],
        _Says({"propertyNames": {"pattern": values.SERVER}}),
    ] = _field(Effect.NEXT_TURN, "MCP servers, by name.", {}, max_length=SERVERS_LIMIT)
    packages: Unique[Package] = _field(Effect.REBUILD, "Packages of the system that it needs.", [])
    environment: Environment = _field(Effect.RESTART, "Variables of its container.", {})
    network: Network = _field(Effect.RESTART, "What it may reach.", Network())
    limits: Limits = _field(Effect.RESTART, "What its container may use.", Limits())
    budget: Budget = _field(Effect.LIVE, "What it may spend.", Budget())
    permissions: Permissions = _field(Effect.NEXT_TURN, "What the operator is asked about.", Permissions())
    schedule: Unique[ScheduleEntry] = _field(Effect.LIVE, "Messages sent to it at set times.", [])
    warm_s: float | None = _field(
        Effect.NEXT_TURN, "How long claude stays open after a turn, in seconds.", None, ge=0, le=WEEK_S
    )
    hibernate_s: float | None = _field(
        Effect.LIVE, "After how long its idle container stops, in seconds.", None, ge=1, le=HIBERNATE_LIMIT_S
    )
    autostart: bool = _field(Effect.LIVE, "Whether it starts with the hive.", True)
    resume_after_limit: bool = _field(
        Effect.LIVE, "Whether it goes on by itself when the service's usage limit has passed.", True
    )
    compact_at: float = _field(
        Effect.NEXT_TURN,
        "How full its context may be, from 0.1 to 0.95, before it is compacted.",
        0.75,
        ge=0.1,
        le=0.95,
    )
    notes_limit: int = _field(
        Effect.NEXT_TURN,
        "How long its notes.md may be, in bytes, before it is rewritten shorter; 0: never rewritten.",
        32 * 1024,
        ge=0,
        le=NOTES_LIMIT_BYTES,
    )

    def to_policy(self) -> Policy:
        """The part that is judged at each call and message."""
        return Policy(
            allowed_recipients=tuple(self.allowed_recipients),
            allowed_tools=tuple(self.allowed_tools),
            bash_allow=tuple(self.bash.allow),
            bash_deny=tuple(self.bash.deny),
            bash_ask=tuple(self.bash.ask),
            ask=tuple(self.permissions.ask),
            mcp_tools={name: tuple(server.allowed_tools) for name, server in self.mcp_servers.items()},
        )


class _TomlSchema(GenerateJsonSchema):
    """Without null, which TOML does not have: a key that is not set is left out. And without made-up titles."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", 0) is None:
            return self.generate_inner(schema["schema"])
        made = super().default_schema(schema)
        if isinstance(made.get("default"), dict):
            default: dict[str, Any] = made["default"]
            made["default"] = {name: value for name, value in default.items() if value is not None}
        return made


def parse_agent_config(content: bytes) -> AgentConfig:
    """The config that `agent.toml` holds. Raises InvalidInputError that names line, key and what was meant."""
    if len(content) > SIZE_LIMIT_BYTES:
        raise InvalidInputError(
            f"{CONFIG_FILE} has {len(content)} bytes", f"at most {SIZE_LIMIT_BYTES} are read: move text to other files"
        )
    table = _parse_toml(content)
    try:
        return AgentConfig.model_validate(table)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        message = f"{CONFIG_FILE}: {render_problems(problems, render_schema())}"
        raise InvalidInputError(message, "correct it and commit it again") from error


def render_schema() -> dict[str, Any]:
    """The JSON Schema of `agent.toml`."""
    schema = AgentConfig.model_json_schema(schema_generator=_TomlSchema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": CONFIG_FILE}


def get_effect(field: str, key: str = "") -> Effect:
    """When a change of the top-level key `field` takes effect; of `key` in it where that is another time."""
    top = AgentConfig.model_fields[field]
    kind = top.annotation
    within = kind.model_fields.get(key) if isinstance(kind, type) and issubclass(kind, ConfigModel) else None
    own: Any = None if within is None else within.json_schema_extra
    extra: Any = own or top.json_schema_extra
    return Effect(extra["x-effect"])


def _parse_toml(content: bytes) -> dict[str, Any]:
    """Raises InvalidInputError with line and column."""
    hint = "see https://toml.io"
    try:
        text = content.decode("utf-8")
        _check_words(text)
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(f"{CONFIG_FILE} is not UTF-8 (at line {line})", "save it as UTF-8") from error
    except RecursionError as error:
        raise InvalidInputError(f"{CONFIG_FILE} has lists or tables in one another without end", hint) from error
    except tomllib.TOMLDecodeError as error:
        end = content.count(b"\n") + 1
        said = render_safe_line(str(error)).replace("at end of document", f"at line {end}, the end of the file")[:300]
        raise InvalidInputError(f"{CONFIG_FILE} is not TOML: {said}", hint) from error


def _check_words(text: str) -> None:
    """Refuses keys of very many parts, and very long numbers.

    tomllib needs a time for them that grows with the square of their length: a file of 64 KiB would stop the daemon.
    """
    words = re.sub(r"[ \t]+", " ", _STRING_OR_COMMENT.sub("s", text)).replace(" .", ".").replace(". ", ".")
    found = _LONG_WORD.search(words)
    if found:
        raise InvalidInputError(f"{CONFIG_FILE} has a key or number of {len(found[0])} characters: {found[0][:40]}…")
