"""What must be true after a long run, read from the hive's databases and the agent's own files; see `long_run`."""

import contextlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hyperhive.core.parking import JITTER_S

AGENT = "alice"
# The time of a release is looked at once a second, on a machine that may be busy.
RELEASE_LATE_S = 10.0
_EVENT_STORE = "hyperhive-events.sqlite"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the run did: the message of each number, and what happened to it.

    `redelivered` are the numbers whose turn was taken away, `crashed` those of them whose harness did not survive it,
    which counts as a failed delivery. `parks` are the kinds in the order in which they came, `facts` what the manager
    has to be told how often.
    """

    sent: Mapping[int, int]
    redelivered: frozenset[int]
    crashed: frozenset[int]
    parks: list[str]
    facts: Mapping[str, int]
    turns: int
    compactions: int
    limit_resets_at: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the run left. `ledger` is what the agent wrote down itself: number and milliseconds of each handling."""

    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    transcript: list[tuple[Any, ...]]
    own_transcript: list[tuple[Any, ...]]
    ledger: list[tuple[int, int]]

    def named(self, *names: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["name"] in names and event["agent"] == AGENT]

    def sent_to(self, sender: str, recipient: str) -> list[dict[str, Any]]:
        return [row for row in self.messages if (row["sender"], row["recipient"]) == (sender, recipient)]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(row[3]) for row in self.transcript if row[2] == kind]

    def count_boundaries(self) -> int:
        return sum(event.get("subtype") == "compact_boundary" for event in self.bodies("claude"))


def load_evidence(data: Path) -> Evidence:
    """Everything of the hive whose data folder this is."""
    state = data / "agents" / AGENT / "state"
    columns = "select seq, at, kind, body from"
    events = query(data / "hive.sqlite", "select * from events order by id")
    return Evidence(
        messages=query(data / "hive.sqlite", "select * from message_rows order by id"),
        events=[{**event, "body": json.loads(event["body"])} for event in events],
        transcript=_tuples(data / "telemetry.sqlite", f"{columns} transcripts where agent = ? order by seq", AGENT),
        own_transcript=_tuples(state / _EVENT_STORE, f"{columns} events order by seq"),
        ledger=read_ledger(data),
    )


def query(database: Path, sql: str, *values: object) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, values)]


def read_ledger(data: Path) -> list[tuple[int, int]]:
    path = data / "agents" / AGENT / "state" / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), int(at_ms)) for number, at_ms in (line.split() for line in lines)]


def _tuples(database: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in query(database, sql, *values)]


def find_problems(evidence: Evidence, expected: Expected) -> list[str]:
    """Each promise that was not kept, in a sentence; none: all is well."""
    checks = (
        _check_messages,
        _check_kicks,
        _check_transcript,
        _check_turns,
        _check_parks,
        _check_facts,
    )
    return [problem for check in checks for problem in check(evidence, expected)]


def _check_messages(evidence: Evidence, expected: Expected) -> Iterator[str]:
    """Every message acked; handled once, or more often only if it was handed out more often; never after its ack."""
    by_id = {row["id"]: row for row in evidence.messages}
    handled, answered = _handled_at(evidence), _answered_at(evidence)
    for number, message_id in expected.sent.items():
        row = by_id[message_id]
        deliveries = 2 if number in expected.redelivered else 1
        wanted = ("acked", deliveries, int(number in expected.crashed))
        if (row["state"], row["deliveries"], row["failures"]) != wanted:
            yield (
                f"message {number} is {row['state']}, delivered {row['deliveries']} times with {row['failures']} "
                f"failures, not {wanted}: {row['note']}"
            )
            continue
        for what, times in (("in the ledger", handled[number]), ("answered", answered[number])):
            if not 1 <= len(times) <= row["deliveries"]:
                yield f"message {number} is {len(times)} times {what}, delivered {row['deliveries']} times"
            if any(at_ms > row["settled_at"] for at_ms in times):
                yield f"message {number} is {what} after its ack"
    if unknown := (handled.keys() | answered.keys()) - expected.sent.keys():
        yield f"handled, but never sent: {sorted(unknown)}"
    for row in evidence.messages:
        if row["recipient"] == AGENT and row["state"] != "acked":
            yield f"message {row['id']} to {AGENT} from {row['sender']} is {row['state']}"


def _handled_at(evidence: Evidence) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for number, at_ms in evidence.ledger:
        found[number].append(at_ms)
    return found


def _answered_at(evidence: Evidence) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for row in evidence.sent_to(AGENT, "operator"):
        found[int(row["body"].removeprefix("handled "))].append(row["sent_at"])
    return found


def _check_kicks(evidence: Evidence, _expected: Expected) -> Iterator[str]:
    """One, of the container that was killed: a daemon that comes back to a running one has nothing to tell."""
    bodies = [json.loads(row["body"]) for row in evidence.sent_to("system", AGENT)]
    if [body["event"] for body in bodies] != ["started"] or "ended unasked" not in bodies[0]["reason"]:
        yield f"the kicks are {bodies}"
    crashes = [event["body"]["cause"] for event in evidence.named("agent.crashed")]
    if crashes != ["signal"]:
        yield f"the crashes are {crashes}"
    if len(evidence.named("agent.started")) != 2:
        yield f"the container was started {len(evidence.named('agent.started'))} times"


def _check_transcript(evidence: Evidence, _expected: Expected) -> Iterator[str]:
    numbers = [row[0] for row in evidence.transcript]
    if numbers != list(range(1, len(numbers) + 1)):
        gaps = [number for number in range(1, numbers[-1]) if number not in set(numbers)]
        yield f"the transcript has gaps: {gaps[:20]}"
    mine, theirs = map(_render_rows, (evidence.transcript, evidence.own_transcript))
    if mine != theirs:
        differing = [row[0] for row, other in zip(mine, theirs, strict=False) if row != other]
        yield f"the daemon has {len(mine)} events, the agent {len(theirs)}; these differ: {differing[:20]}"


def _render_rows(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Comparable: instants and JSON in one way of writing."""
    return [(seq, datetime.fromisoformat(at), kind, json.loads(body)) for seq, at, kind, body in rows]


def _check_turns(evidence: Evidence, expected: Expected) -> Iterator[str]:
    kinds = [(seq, kind) for seq, _, kind, _ in evidence.transcript if kind in {"turn.started", "turn.ended"}]
    for nth, (seq, kind) in enumerate(kinds):
        if kind != ("turn.started", "turn.ended")[nth % 2]:
            yield f"turns do not pair up: {kind} at {seq}"
            break
    if len(kinds) % 2:
        yield "the last turn did not end"
    ended = [(body.get("purpose"), body["outcome"]) for body in evidence.bodies("turn.ended")]
    if ended.count(("messages", "ok")) < expected.turns:
        yield f"{ended.count(('messages', 'ok'))} turns with messages ended well, not {expected.turns}"
    # What has no purpose is the turn that its harness did not survive.
    failed = Counter(str(outcome) for purpose, outcome in ended if outcome != "ok" or purpose is None)
    # A spent budget ends a turn as a usage limit does.
    wanted = Counter("limit" if kind == "budget" else kind for kind in expected.parks)
    wanted["crash"] += len(expected.crashed)
    if failed != wanted:
        yield f"turns that failed: {dict(failed)}, not {dict(wanted)}"
    if evidence.count_boundaries() != expected.compactions:
        yield f"{evidence.count_boundaries()} compactions, {expected.compactions} were forced"


def _check_parks(evidence: Evidence, expected: Expected) -> Iterator[str]:
    """Parked in order, each with a reason, each released by what is to release it and by nothing else."""
    # A park may be told again with another end or reason.
    story: list[tuple[str, str]] = []
    for event in evidence.named("agent.parked", "agent.resumed", "agent.logged_in", "budget.granted"):
        kinds = [event["body"]["kind"]] if event["name"] == "agent.parked" else event["body"].get("kinds", [""])
        for kind in kinds:
            if (step := (str(event["name"]), str(kind))) not in story[-1:]:
                story.append(step)
    act = {"login": [("agent.logged_in", "")], "budget": [("budget.granted", "")], "limit": []}
    wanted = [("agent.logged_in", "")]
    for kind in expected.parks:
        wanted += [("agent.parked", kind), *act[kind], ("agent.resumed", kind)]
    if story != wanted:
        yield f"parked and released: {story}, not {wanted}"
        return
    if any(not event["body"]["reason"] for event in evidence.named("agent.parked")):
        yield "a park has no reason"
    if "limit" in expected.parks:
        yield from _check_limit(evidence, expected)


def _check_limit(evidence: Evidence, expected: Expected) -> Iterator[str]:
    (parked,) = [event for event in evidence.named("agent.parked") if event["body"]["kind"] == "limit"]
    (resumed,) = [event for event in evidence.named("agent.resumed") if event["body"]["kinds"] == ["limit"]]
    until_s = datetime.fromisoformat(parked["body"]["until"]).timestamp()
    jitter_s = until_s - expected.limit_resets_at
    if not JITTER_S[0] - 0.01 <= jitter_s <= JITTER_S[1] + 0.01:
        yield f"the limit was to end {jitter_s:.1f} s after its reset"
    late_s = resumed["at"] / 1000 - until_s
    if not 0 <= late_s <= RELEASE_LATE_S:
        yield f"the limit ended {late_s:.1f} s after its time"


def _check_facts(evidence: Evidence, expected: Expected) -> Iterator[str]:
    told = [json.loads(row["body"]) for row in evidence.sent_to("system", "manager")]
    counted = Counter(str(fact["event"]) for fact in told if fact.get("agent") == AGENT)
    for event, count in expected.facts.items():
        if counted[event] != count:
            yield f"the manager was told {event} {counted[event]} times, not {count}"
