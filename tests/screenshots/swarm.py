"""Starts a real hive and has its agents live through the story that the screenshots show."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from hive_process import HiveProcess, end_hive, wait_for
from hook_receiver import Receiver, run_receiver
from hyperhive.core.paths import Roots
from hyperhive.testing.messages_api.app import create_app
from screenshots import story
from screenshots.history import write_history

AGENTS = ("builder", "reviewer", "scout", "scribe")
ENVIRONMENT = {"ANTHROPIC_API_KEY": "dummy", "CLAUDE_CODE_OAUTH_TOKEN": "", "HIVE_WEBHOOK_PRIVATE": "1"}
PATIENCE_S = 180


@contextlib.contextmanager
def open_swarm() -> Generator[HiveProcess]:
    """A hive in which something of everything is to be seen; all of it ends with the context."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-")))
        upstream = stack.enter_context(_run_model())
        hive = HiveProcess(folder / "data", ("--upstream", upstream), ENVIRONMENT).start()
        stack.callback(end_hive, hive)
        _settle(hive)
        _tell_programs(hive, stack.enter_context(run_receiver()))
        _work(hive)
        yield hive


@contextlib.contextmanager
def _run_model() -> Generator[str]:
    """The stand-in of the Messages API, playing the story."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app([story.answer_story])
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


def _settle(hive: HiveProcess) -> None:
    """The agents with their roles, one that is gone again, and the days before."""
    _wait(hive, "manager", "idle")
    for name in (*AGENTS, "porter"):
        hive.post("/api/agents", {"name": name})
    for name in (*AGENTS, "porter"):
        _wait(hive, name, "idle")
    with hive.client() as client:
        client.delete("/api/agents/porter").raise_for_status()
    _tell(hive, "manager", story.ROLES)
    roles = wait_for(
        lambda: len(rows := hive.get("/api/approvals?status=pending")) == len(AGENTS) and rows,
        "the roles",
        PATIENCE_S,
        hive,
    )
    for row in roles:
        hive.post(f"/api/approvals/{row['id']}/approve")
    for row in roles:
        _wait_for(hive, lambda row=row: hive.get(f"/api/approvals/{row['id']}")["status"] == "deployed", "a deployment")
    for name in AGENTS:
        _wait(hive, name, "idle")
    hive.stop()
    write_history(Roots(hive.data, hive.run))
    hive.start()


def _tell_programs(hive: HiveProcess, receiver: Receiver) -> None:
    """Two webhooks: one is taken, the other leads nowhere."""
    hive.post("/api/webhooks", {"url": receiver.url, "events": ["approval.*", "question.*"], "bodies": True})
    hive.post("/api/webhooks", {"url": "https://board.example/hive", "events": ["agent.crashed", "approval.*"]})


def _work(hive: HiveProcess) -> None:
    """From the wish of the operator to what waits for the operator."""
    for name in ("manager", *AGENTS):
        _wait(hive, name, "idle")
    _tell(hive, "manager", story.WISH)
    plan = hive.wait_inbox(story.PLAN, PATIENCE_S)
    _wait_for(hive, lambda: hive.agent("scout")["park"], "scout's budget to be spent")
    hive.wait_inbox(story.DRAFT, PATIENCE_S)
    hive.wait_inbox(story.FOUND, PATIENCE_S)
    _wait_for(hive, lambda: len(hive.get("/api/approvals?status=pending")) == 2, "two approvals")
    _wait(hive, "manager", "idle")
    _tell(hive, "manager", story.MORE, in_reply_to=plan["id"])
    hive.wait_inbox(story.UNDERSTOOD, PATIENCE_S)
    _wait(hive, "scribe", "idle")
    for note in ("the handbook has three pages", "before the handbook is put into chapters"):
        hive.post("/api/snapshots", {"agent": "scribe", "note": note})
    _tell(hive, "reviewer", story.PUSH)
    _tell(hive, "scout", story.UNITS)
    _wait_for(hive, lambda: len(hive.get("/api/questions?status=open")) >= 2, "two questions")


def _tell(hive: HiveProcess, to: str, body: str, **more: Any) -> dict[str, Any]:
    return hive.post("/api/messages", {"to": to, "body": body, **more})


def _wait(hive: HiveProcess, agent: str, *states: str) -> None:
    hive.wait_state(agent, *states, timeout_s=PATIENCE_S)


def _wait_for(hive: HiveProcess, condition: Any, what: str) -> None:
    wait_for(condition, what, PATIENCE_S, hive)
