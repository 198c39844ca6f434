"""The agent's config, as far as the harness carries it out: read strictly, kept while the daemon sends nothing better.

Without a good config no turn is run: an agent whose rules cannot be read has none, and that must not mean that it may
do anything.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, cast

from hyperhive.core.config_values import parse_model, parse_server
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import PolicyFields
from hyperhive.wire.agent_link import HarnessConfig, McpServerFields

log = logging.getLogger("hive.config")

_WARM_LIMIT_S = 7 * 24 * 3600
_NOTES_LIMIT_BYTES = 128 * 1024
_SHOWN_CHARS = 300


class Configs:
    """The newest good config. `changed` is called with each one that differs from the last."""

    def __init__(self, changed: Callable[[HarnessConfig], None]) -> None:
        self._changed = changed
        self._arrived = asyncio.Event()
        self.current: HarnessConfig | None = None
        self.trouble = "the daemon has not sent a config"

    def take(self, value: object) -> None:
        """What the daemon sent. Raises InvalidInputError if it is none; then the one before stays."""
        try:
            config = parse_harness_config(value)
        except InvalidInputError as error:
            self.trouble = error.message
            log.warning("a config is refused: %s", error.message)
            raise
        if config == self.current:
            return
        self.current = config
        self._arrived.set()
        self._changed(config)

    async def get(self) -> HarnessConfig:
        """The newest good config, waiting for the first one."""
        await self._arrived.wait()
        if self.current is None:
            raise AssertionError("arrived without a config")
        return self.current


def parse_harness_config(value: object) -> HarnessConfig:
    """`value` as a config. Raises InvalidInputError for anything missing, unknown or of another type."""
    try:
        fields = _take_fields(value, HarnessConfig.__annotations__)
        policy, servers = _take_policy(fields["policy"]), _take_object(fields["mcp_servers"])
        _take_fields(policy["mcp_tools"], servers)
        return HarnessConfig(
            commit=_take_text(fields["commit"]),
            model=parse_model(_take_text(fields["model"])),
            prompt=_take_text(fields["prompt"]),
            warm_s=_take_warm_s(fields["warm_s"]),
            compact_at=_take_number("compact_at", fields["compact_at"], 0.1, 0.95),
            notes_limit=round(_take_number("notes_limit", fields["notes_limit"], 0, _NOTES_LIMIT_BYTES)),
            policy=policy,
            mcp_servers={parse_server(name): _take_server(server) for name, server in servers.items()},
        )
    except ValueError as error:
        raise InvalidInputError(
            f"the config that the daemon sent cannot be used: {error}", "the daemon and the harness differ"
        ) from error


def _take_policy(value: object) -> PolicyFields:
    fields = _take_fields(value, PolicyFields.__annotations__)
    return PolicyFields(
        allowed_recipients=_take_texts(fields["allowed_recipients"]),
        allowed_tools=_take_texts(fields["allowed_tools"]),
        bash_allow=_take_texts(fields["bash_allow"]),
        bash_deny=_take_texts(fields["bash_deny"]),
        bash_ask=_take_texts(fields["bash_ask"]),
        ask=_take_texts(fields["ask"]),
        mcp_tools={parse_server(name): _take_texts(tools) for name, tools in _take_object(fields["mcp_tools"]).items()},
    )


def _take_server(value: object) -> McpServerFields:
    fields = _take_fields(value, McpServerFields.__annotations__)
    command = _take_text(fields["command"])
    if not command:
        raise ValueError("an MCP server has no command")
    env = {_take_text(name): _take_text(text) for name, text in _take_object(fields["env"]).items()}
    return McpServerFields(command=command, args=_take_texts(fields["args"]), env=env)


# -- values of JSON; all of them raise ValueError -----------------------------------------------------------


def _take_object(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise ValueError(f"{type(value).__name__} in the place of an object")


def _take_fields(value: object, names: Iterable[str]) -> dict[str, Any]:
    """An object with exactly these fields."""
    fields = _take_object(value)
    if fields.keys() != set(names):
        raise ValueError(f"its fields are {_list(fields)}, they should be {_list(names)}")
    return fields


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))[:_SHOWN_CHARS] or "none"


def _take_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} in the place of a text")  # noqa: TRY004 - all of it is one error
    if "\0" in value:
        raise ValueError("a text holds NUL")
    # A lone surrogate raises: it could not be passed on.
    value.encode()
    return value


def _take_texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} in the place of a list")  # noqa: TRY004 - as above
    return [_take_text(item) for item in cast("list[object]", value)]


def _take_warm_s(value: object) -> float | None:
    return None if value is None else _take_number("warm_s", value, 0, _WARM_LIMIT_S)


def _take_number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is not a number")  # noqa: TRY004 - as above
    if not isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name} is not from {least:g} to {most:g}")
    return value
