"""A small hive for tests of the command line: a real HTTP server on a real unix socket, with answers set by the test.

What it answers by default is made from the models of `wire.operator`, so it is what the API promises.
"""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.errors import HiveError
from hyperhive.core.messages import MessageState, Priority, SenderKind
from hyperhive.core.needs import NeedKind
from hyperhive.core.parking import ParkKind
from hyperhive.core.policy import Verdict
from hyperhive.core.questions import PERMISSION_OPTIONS, PERMISSION_TTL_S, QuestionKind, QuestionStatus
from hyperhive.wire.operator.agents import AgentRow, CancelResult, Draft, KeptState, Park
from hyperhive.wire.operator.base import Accepted, ErrorBody, Model
from hyperhive.wire.operator.configs import (
    AgentConfigView,
    Approval,
    Comparison,
    ConfigFile,
    ConfigVersion,
    DiffHunk,
    DiffLine,
    FileDiff,
    MeaningRow,
    PackageChange,
    Permission,
    PolicyDecision,
    Review,
    SystemChange,
)
from hyperhive.wire.operator.hive import Hive, LoginLink
from hyperhive.wire.operator.messages import Message, Question, Sent
from hyperhive.wire.operator.needs import Need
from hyperhive.wire.operator.records import Journal

NOW = datetime.now(UTC)

PARK = Park(kind=ParkKind.PAUSED, since=NOW, until=None, reason="by the operator", hive=False)
HIVE = Hive(
    version="0.1.0",
    rehearsal=True,
    upstream="http://model.test",
    credential="none",
    driver="bubblewrap",
    started_at=NOW,
    park=None,
    port_problems=[],
    unlimited={},
)
AGENT = AgentRow(
    name="alice",
    manager=False,
    state="idle",
    reason="",
    since=NOW - timedelta(minutes=5),
    driver="bubblewrap",
    model="claude-test",
    waiting=2,
    turns=7,
    last_outcome="ok",
    spawned_at=NOW - timedelta(days=2),
    commit="c" * 40,
    config_error="",
    needs_update="",
    updating=False,
    park=None,
    chosen_model="",
    context_tokens=82_000,
    context_limit=200_000,
    session_usd=0.42,
    day_tokens=1_200_000,
    day_usd=3.1,
    day_unpriced=False,
    budget_tokens=5_000_000,
    budget_usd=None,
    login="own",
    login_account="operator@example.test",
    login_expires_at=NOW + timedelta(days=20),
)
KEPT = KeptState(
    name="gone",
    spawned_at=NOW - timedelta(days=4),
    destroyed_at=NOW - timedelta(hours=3),
    size_bytes=2_500_000,
    credentials=True,
)
DRAFT = Draft(name="tester", requested_by="manager", created_at=NOW - timedelta(hours=2), size_bytes=5_000)
APPROVAL = Approval(
    id=3,
    kind=ApprovalKind.SPAWN,
    agent="researcher",
    status=ApprovalStatus.PENDING,
    requested_by="manager",
    description="finds sources",
    requested_at=NOW - timedelta(minutes=1),
    resolved_at=None,
    reason=None,
    commit=None,
    base=None,
    reverts_to=None,
)
APPLY = Approval(
    id=7,
    kind=ApprovalKind.APPLY,
    agent="alice",
    status=ApprovalStatus.PENDING,
    requested_by="manager",
    description="she needs the tracker",
    requested_at=NOW - timedelta(minutes=4),
    resolved_at=None,
    reason=None,
    commit="d" * 40,
    base="c" * 40,
    reverts_to=None,
)
REVERT = APPLY.model_copy(
    update={"id": 9, "kind": ApprovalKind.REVERT, "status": ApprovalStatus.APPROVED, "reverts_to": 3}
)
AGENT_TOML = FileDiff(
    path="agent.toml",
    change="changed",
    binary=False,
    executable=None,
    old_size_bytes=30,
    new_size_bytes=90,
    added=2,
    removed=1,
    large=False,
    truncated=False,
    hunks=[
        DiffHunk(
            header="@@ -1,2 +1,3 @@",
            lines=[
                DiffLine(kind="context", old=1, new=1, text="warm_s = 60.0"),
                DiffLine(kind="removed", old=2, new=None, text='packages = ["git"]'),
                DiffLine(kind="added", old=None, new=2, text='packages = ["git", "jq"]'),
                DiffLine(kind="added", old=None, new=3, text='\tmodel = "claude-test"'),
            ],
        )
    ],
)
NOTES = FileDiff(
    path="notes.md",
    change="added",
    binary=False,
    executable=None,
    old_size_bytes=0,
    new_size_bytes=6,
    added=1,
    removed=0,
    large=False,
    truncated=False,
    hunks=[DiffHunk(header="@@ -0,0 +1 @@", lines=[DiffLine(kind="added", old=None, new=1, text="start here")])],
)
COMPARISON = Comparison(
    base="c" * 40,
    commit="d" * 40,
    files=[AGENT_TOML],
    meaning=[
        MeaningRow(area="packages", change="added", subject="jq", before="", after="jq", effect=Effect.REBUILD),
        MeaningRow(
            area="model", change="changed", subject="model", before="old", after="claude-test", effect=Effect.NEXT_TURN
        ),
    ],
    effect=Effect.REBUILD,
)
REVIEW = Review(
    approval=APPLY,
    comparison=COMPARISON,
    earlier=5,
    since_earlier=COMPARISON.model_copy(update={"base": "e" * 40, "meaning": []}),
    notes=[NOTES],
    warnings=["an MCP server runs as the agent"],
    system=False,
)
SYSTEM_CHANGE = SystemChange(
    base="c" * 40,
    packages=[
        PackageChange(change="changed", name="git", before="2.42", after="2.43"),
        PackageChange(change="removed", name="jq", before="1.7", after=""),
        PackageChange(change="added", name="ripgrep", before="", after="14.1.0"),
    ],
    left_out=0,
    added_bytes=12 * 1024 * 1024,
    removed_bytes=1024 * 1024,
    download_bytes=4 * 1024 * 1024,
    fetched=3,
    built=["git"],
    problem="",
)
CONFIG = AgentConfigView(
    agent="alice",
    commit="c" * 40,
    files=[
        ConfigFile(path="agent.toml", size_bytes=15, executable=False, text='packages = ["git"]\n'),
        ConfigFile(path="logo.png", size_bytes=2048, executable=True, text=None),
    ],
    problem="",
    config={"packages": ["git"]},
    permissions=[Permission(area="run", subject="git *", verdict=Verdict.ALLOW, rule="bash.allow: git *")],
)
VERSION = ConfigVersion(
    approval=3,
    status=ApprovalStatus.DEPLOYED,
    commit="c" * 40,
    at=NOW - timedelta(days=1),
    description="git for alice",
    reason="",
    current=True,
    tag="deployed/3",
)
DECISION = PolicyDecision(verdict=Verdict.ALLOW, rule="bash.allow: git *", reason="git status is listed")
MESSAGE = Message(
    id=12,
    sender="alice",
    kind=SenderKind.PEER,
    recipient="operator",
    body="done",
    sent_at=NOW - timedelta(seconds=30),
    state=MessageState.QUEUED,
    deliveries=0,
    thread=None,
    in_reply_to=None,
    priority=Priority.NORMAL,
    expires_at=None,
    broadcast=None,
    settled_at=None,
    note=None,
)
QUESTION = Question(
    id=5,
    kind=QuestionKind.QUESTION,
    agent="alice",
    question="which colour?",
    options=["amber", "mauve"],
    multi=False,
    status=QuestionStatus.OPEN,
    asked_at=NOW - timedelta(minutes=2),
    expires_at=NOW + timedelta(days=1),
    answer=None,
    resolved_at=None,
    asked="operator",
)
NEED = Need(
    key="dead_letter-12",
    kind=NeedKind.DEAD_LETTER,
    ref="12",
    agent="alice",
    title="a message of operator to alice was given up",
    detail="the turn failed\nhello",
    since=NOW - timedelta(minutes=3),
    deadline=None,
    by_default="it stays undelivered",
    acts=["requeue", "dismiss"],
    link="/#need-dead_letter-12",
)
PERMISSION = QUESTION.model_copy(
    update={
        "id": 6,
        "kind": QuestionKind.PERMISSION,
        "question": "may I call WebFetch?",
        "options": list(PERMISSION_OPTIONS),
        "expires_at": NOW + timedelta(seconds=PERMISSION_TTL_S),
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; `path` includes the query."""

    method: str
    path: str
    body: Any = None


Answer = Callable[[Received], tuple[int, Any]]


def answer_with(value: Any, status: int = 200) -> Answer:
    """Always the same answer: a model, a list of models, or anything JSON can hold."""
    return lambda _: (status, _to_json(value))


def refuse_with(error: HiveError, status: int) -> Answer:
    return answer_with(ErrorBody(**error.to_dict()), status)


def _to_json(value: Any) -> Any:
    if isinstance(value, Model):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_to_json(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@dataclass
class FakeHive:
    """`answers` maps "METHOD path" (without the query) to an answer; `received` is all that was asked, in order."""

    data: Path
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    received: list[Received] = field(default_factory=list[Received])
    # Sent with every answer.
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def find_answer(self, received: Received) -> tuple[int, Any]:
        self.received.append(received)
        answer = self.answers.get(f"{received.method} {received.path.partition('?')[0]}")
        if answer is None:
            return 404, ErrorBody(code="not_found", message=f"no {received.path}", hint="").model_dump()
        return answer(received)


def default_answers() -> dict[str, Answer]:
    """A hive with one agent, one approval, one message and one question, that takes every order for alice."""
    return {
        "GET /api/hive": answer_with(HIVE),
        "GET /api/agents": answer_with([AGENT]),
        "POST /api/agents": answer_with(AGENT, 201),
        "POST /api/agents/alice/start": answer_with(None, 204),
        "POST /api/agents/alice/stop": answer_with(None, 204),
        "POST /api/agents/alice/restart": answer_with(None, 204),
        "POST /api/agents/alice/rebuild": answer_with(None, 202),
        "POST /api/update-all": answer_with({"agents": ["alice"]}, 202),
        "POST /api/agents/alice/cancel": answer_with(CancelResult(cancelled=True)),
        "POST /api/agents/alice/pause": answer_with(PARK),
        "POST /api/agents/alice/resume": answer_with(None, 204),
        "POST /api/agents/alice/compact": answer_with(Accepted(accepted=True)),
        "POST /api/pause": answer_with(PARK.model_copy(update={"hive": True})),
        "POST /api/resume": answer_with(None, 204),
        "POST /api/model/alice": answer_with(None, 204),
        "DELETE /api/agents/alice": answer_with(None, 204),
        "GET /api/kept": answer_with([KEPT]),
        "DELETE /api/kept/gone": answer_with(None, 204),
        "GET /api/needs": answer_with([NEED]),
        "POST /api/messages/12/requeue": answer_with(MESSAGE),
        "POST /api/messages/12/dismiss": answer_with(None, 204),
        "GET /api/approvals": answer_with([APPROVAL]),
        "POST /api/approvals/3/approve": answer_with(APPROVAL),
        "POST /api/approvals/3/deny": answer_with(APPROVAL),
        "GET /api/approvals/7/review": answer_with(REVIEW),
        "POST /api/approvals/7/approve": answer_with(APPLY.model_copy(update={"status": ApprovalStatus.APPROVED})),
        "GET /api/agent-config/alice": answer_with(CONFIG),
        "GET /api/agent-config/alice/history": answer_with([VERSION]),
        "POST /api/agent-config/alice/revert": answer_with(REVERT, 201),
        "POST /api/agent-config/alice/check": answer_with(DECISION),
        "GET /api/config-schema": answer_with({"type": "object"}),
        "GET /api/drafts": answer_with([DRAFT]),
        "DELETE /api/drafts/tester": answer_with(None, 204),
        "POST /api/kept/gone/revive": answer_with(AGENT, 201),
        "GET /api/inbox": answer_with([MESSAGE]),
        "POST /api/inbox/12/ack": answer_with(None, 204),
        "POST /api/messages": answer_with(Sent(id=77, ids=[77]), 201),
        "GET /api/messages": answer_with([MESSAGE]),
        "GET /api/messages/12": answer_with(MESSAGE),
        "GET /api/messages/12/receipts": answer_with([MESSAGE]),
        "GET /api/questions": answer_with([QUESTION]),
        "POST /api/questions/5/answer": answer_with(QUESTION),
        "POST /api/questions/5/cancel": answer_with(QUESTION),
        "GET /api/journal/alice": answer_journal("hello\n"),
        "POST /api/login-links": answer_with(LoginLink(url="http://127.0.0.1:7000/login?token=t")),
    }


def answer_journal(text: str) -> Answer:
    """A journal that holds `text`: pages by lines, or from an offset on pieces of at most eight characters."""

    def answer(received: Received) -> tuple[int, Any]:
        query = dict(parse_qsl(urlsplit(received.path).query))
        if "offset" in query:
            offset = int(query["offset"])
            piece = text[offset : offset + 8]
            return 200, Journal(
                text=piece, offset=offset, next_offset=offset + len(piece), more=offset > 0
            ).model_dump()
        end = int(query.get("before", len(text)))
        lines = text[:end].splitlines(keepends=True)[-int(query["lines"]) :]
        start = end - len("".join(lines))
        found = "".join(line for line in lines if query.get("filter", "").casefold() in line.casefold())
        return 200, Journal(text=found, offset=start, next_offset=end, more=start > 0).model_dump()

    return answer


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    hive: FakeHive


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        received = Received(self.command, self.path, json.loads(content) if content else None)
        status, body = self.server.hive.find_answer(received)
        reply = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        for name, value in self.server.hive.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: the default writes to standard error, and looks for an address that unix sockets lack."""


@contextmanager
def run_fake_hive(data: Path) -> Generator[FakeHive]:
    """A hive on the data folder `data`, with the default answers, for as long as the context lasts."""
    hive = FakeHive(data, default_answers())
    socket_file = data / "run/hive.sock"
    socket_file.parent.mkdir(parents=True, exist_ok=True)
    with _Server(str(socket_file), _Handler) as server:
        server.hive = hive
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hive
        finally:
            server.shutdown()
            thread.join()
            socket_file.unlink(missing_ok=True)
