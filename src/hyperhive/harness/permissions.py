"""Permissions: a tool call that a rule wants to be asked about waits here for the operator's word.

Whatever goes wrong denies: no answer, an answer that means nothing, a daemon that refuses or stays away.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from hyperhive.core.errors import HiveError, TooLargeError, UnavailableError, render_error
from hyperhive.core.policy import NOT_UNDERSTOOD_RULE
from hyperhive.core.questions import PERMISSION_TTL_S
from hyperhive.core.text import render_safe_text
from hyperhive.harness.engine_wire import PermissionAnswer, PermissionAskParams
from hyperhive.harness.link import Link
from hyperhive.wire.agent_link import ASK_PERMISSION, AskPermissionParams

log = logging.getLogger("hive.permissions")

# Below the daemon's limit of 180 s for one wait.
_WAIT_S = 170.0
# A daemon that restarts loses none of the question, but some of the time.
_GRACE_S = 60.0
# A request that failed is made again, but not as fast as it fails.
_RETRY_S = 1.0
GRANT_S = 30 * 60.0
# What the operator is shown of a call. A command is shown whole or not asked about: nobody can grant what they
# have not read.
COMMAND_LIMIT_CHARS = 2_800
_REST_LIMIT_CHARS = 150
_INPUT_LIMIT_CHARS = 2_000
_COMMAND_TOOLS = frozenset({"Bash", "Monitor"})
# Calls that wait at once. They take up the engine's connection, and the operator reads one after another.
_WAITING_LIMIT = 16


class Permissions:
    """Asks the operator, and remembers for half an hour what was granted for so long: until the policy changes.

    `explain` is told what the turn waits for, and nothing when it goes on. `clock` tells seconds, and never goes back.
    """

    def __init__(
        self,
        link: Link,
        explain: Callable[[str], None],
        ttl_s: float = PERMISSION_TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._explain = explain
        self._ttl_s = ttl_s
        self._clock = clock
        self._granted_until_s: dict[tuple[str, str], float] = {}
        self._waiting: list[str] = []

    @property
    def waits(self) -> bool:
        """Whether a call waits for the operator now."""
        return bool(self._waiting)

    def forget(self) -> None:
        """The rules are others now: what was granted under the old ones no longer counts."""
        self._granted_until_s.clear()

    async def ask(self, params: PermissionAskParams) -> PermissionAnswer:
        """The operator's word on one call. Waits for it; never raises HiveError."""
        tool, rule = params["tool"], params["rule"]
        if self._granted_until_s.get((rule, tool), 0.0) > self._clock():
            return PermissionAnswer(granted=True, reason="the operator has allowed this for 30 minutes")
        try:
            if len(self._waiting) >= _WAITING_LIMIT:
                raise TooLargeError(f"{_WAITING_LIMIT} calls wait for the operator already")
            summary = render_summary(tool, params["arguments"])
            with self._told(f"waits for the operator's permission: {tool}"):
                decision, reason = await self._wait(tool, rule, summary)
        except HiveError as error:
            log.warning("no permission for %r: %r", tool, error.message)
            return PermissionAnswer(granted=False, reason=f"the operator cannot be asked: {render_error(error)}")
        if decision == "allow_30m" and NOT_UNDERSTOOD_RULE not in rule:
            self._granted_until_s[rule, tool] = self._clock() + GRANT_S
        return _render_answer(decision, reason)

    async def _wait(self, tool: str, rule: str, summary: str) -> tuple[str, str]:
        """The decision and its reason, from one question whatever happens on the way. Raises HiveError."""
        params = AskPermissionParams(
            tool=tool, summary=summary, rule=rule, wait_s=_WAIT_S, idempotency_key=os.urandom(16).hex()
        )
        try:
            async with asyncio.timeout(self._ttl_s + _GRACE_S):
                while True:
                    match await self._request(params):
                        case {"decision": str(decision), "reason": str(reason)} if decision:
                            return decision, reason
                        case {"decision": ""}:
                            pass
                        case _:
                            return "", "the daemon's answer is not one"
        except TimeoutError as error:
            raise UnavailableError("there was no answer in time") from error

    async def _request(self, params: AskPermissionParams) -> Any:
        began_s = self._clock()
        try:
            answer: Any = await self._link.request(ASK_PERMISSION, params, deadline_s=_WAIT_S + _GRACE_S)
        except UnavailableError as error:
            log.warning("asking for a permission again: %r", error.message)
            answer = {"decision": ""}
        if self._clock() - began_s < _RETRY_S and answer == {"decision": ""}:
            await asyncio.sleep(_RETRY_S)
        return answer

    @contextmanager
    def _told(self, reason: str) -> Generator[None]:
        self._waiting.append(reason)
        self._explain(reason)
        try:
            yield
        finally:
            self._waiting.remove(reason)
            self._explain(self._waiting[-1] if self._waiting else "")


def render_summary(tool: str, arguments: dict[str, Any]) -> str:
    """What the operator reads of a call. Raises TooLargeError for a command that cannot be shown whole."""
    command = arguments.get("command")
    if tool not in _COMMAND_TOOLS or not isinstance(command, str):
        return _shorten(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")), _INPUT_LIMIT_CHARS)
    # As it will be shown: what is invisible in it takes more room there.
    if (size := len(render_safe_text(command))) > COMMAND_LIMIT_CHARS:
        raise TooLargeError(
            f"the command has {size} characters, the operator is shown at most {COMMAND_LIMIT_CHARS}",
            "split it into shorter ones",
        )
    rest = {name: value for name, value in arguments.items() if name not in {"command", "description"}}
    return f"{command}\n\n{_shorten(json.dumps(rest, ensure_ascii=False), _REST_LIMIT_CHARS)}" if rest else command


def _shorten(text: str, limit_chars: int) -> str:
    more = len(text) - limit_chars
    return text if more <= 0 else f"{text[:limit_chars]}… and {more} more characters"


def _render_answer(decision: str, reason: str) -> PermissionAnswer:
    if decision in {"allow_once", "allow_30m"}:
        return PermissionAnswer(granted=True, reason="the operator has allowed it")
    said = f": {reason}" if reason else ""
    return PermissionAnswer(granted=False, reason=f"the operator's permission was not given{said}")
