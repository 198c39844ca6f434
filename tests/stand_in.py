"""Starts the stand-in of the Messages API, and the real claude against it, as processes of a test."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import claude_agent_sdk
import httpx
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

DEADLINE_S = 60
CLAUDE = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StandIn:
    url: str
    process: asyncio.subprocess.Process

    async def list_requests(self) -> list[Json]:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.url}/_requests")
        requests: list[Json] = answer.json()["requests"]
        return requests


@contextlib.asynccontextmanager
async def run_stand_in(*arguments: str) -> AsyncGenerator[StandIn]:
    """The stand-in as a program on a free port; it must end with status 0 when it is asked to."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hyperhive.testing.messages_api", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode().strip()
        assert line.startswith("listening: ")
        yield StandIn(line.removeprefix("listening: "), process)
    finally:
        process.terminate()
        status = await process.wait()
    assert status == 0


@contextlib.asynccontextmanager
async def open_client(options: ClaudeAgentOptions) -> AsyncGenerator[ClaudeSDKClient]:
    """The SDK's client, connected. Unlike the SDK's own context it is known to swallow no exception."""
    async with ClaudeSDKClient(options) as client:
        yield client


def make_claude_environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """What the real claude needs to run with nothing but the stand-in and a folder of its own."""
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.fspath(home),
        "TMPDIR": os.fspath(home),
        "IS_SANDBOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "dummy",
        **more,
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One finished `claude -p`: its events and how it ended."""

    events: list[Json]
    status: int

    @property
    def result(self) -> Json:
        return self.events[-1]

    def select(self, event_type: str, subtype: str | None = None) -> list[Json]:
        return [event for event in self.events if event["type"] == event_type and event.get("subtype") == subtype]


async def run_claude(prompt: str, environment: Mapping[str, str], *arguments: str) -> Run:
    """The real claude, once, with one prompt."""
    process = await asyncio.create_subprocess_exec(
        CLAUDE,
        "-p",
        prompt,
        "--output-format",
        "stream-json",
        "--verbose",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=environment["HOME"],
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Run([json.loads(line) for line in output.splitlines()], process.returncode)
