"""The judge of the long run sees what it is there to see: a run that went well passes, each harm to it does not."""

import json
from dataclasses import replace
from typing import Any

import pytest

from long_run import Options, Trouble, plan_troubles
from long_run_checks import AGENT, Evidence, Expected, find_problems

START = "2026-11-21T12:00:00+00:00"
EXPECTED = Expected(
    sent={1: 10, 2: 11},
    redelivered=frozenset({2}),
    crashed=frozenset({2}),
    parks=[],
    facts={"container_crash": 1},
    turns=2,
    compactions=0,
    limit_resets_at=0,
)


def message(number: int, sender: str, recipient: str, body: str, **fields: Any) -> dict[str, Any]:
    kept = {"state": "acked", "deliveries": 1, "failures": 0, "sent_at": 1, "settled_at": 100, "note": None}
    return {"id": number, "sender": sender, "recipient": recipient, "body": body, **kept, **fields}


def event(name: str, **body: Any) -> dict[str, Any]:
    return {"name": name, "agent": AGENT, "at": 1, "body": body}


def good() -> Evidence:
    """Two messages; of the second one's turn the container was killed. Nothing was parked."""
    turns: list[tuple[str, dict[str, str]]] = [
        ("turn.started", {}), ("turn.ended", {"purpose": "messages", "outcome": "ok"}),
        ("turn.started", {}), ("turn.ended", {"outcome": "crash"}),
        ("turn.started", {}), ("turn.ended", {"purpose": "messages", "outcome": "ok"}),
    ]  # fmt: skip
    transcript = [(seq, START, kind, json.dumps(body)) for seq, (kind, body) in enumerate(turns, 1)]
    return Evidence(
        messages=[
            message(10, "operator", AGENT, "message 1"),
            message(11, "operator", AGENT, "message 2", deliveries=2, failures=1),
            message(12, "system", AGENT, json.dumps({"event": "started", "reason": "your container ended unasked"})),
            message(13, AGENT, "operator", "handled 1"),
            message(14, AGENT, "operator", "handled 2"),
            message(15, "system", "manager", json.dumps({"event": "container_crash", "agent": AGENT}), state="queued"),
        ],
        events=[
            event("agent.logged_in"), event("agent.started"), event("agent.started"),
            event("agent.crashed", cause="signal"),
        ],
        transcript=transcript,
        own_transcript=list(transcript),
        ledger=[(1, 50), (2, 60), (2, 70)],
    )  # fmt: skip


def judge(evidence: Evidence) -> str:
    return "\n".join(find_problems(evidence, EXPECTED))


def test_a_run_that_went_well_has_no_problems() -> None:
    assert judge(GOOD) == ""


def without(evidence: Evidence, number: int) -> Evidence:
    """As if that message had never been sent."""
    return replace(evidence, messages=[row for row in evidence.messages if row["id"] != number])


def also(evidence: Evidence, more: dict[str, Any]) -> Evidence:
    return replace(evidence, events=[*evidence.events, more])


def cut(evidence: Evidence, seq: int, *, own: bool = True, copy: bool = True) -> Evidence:
    """Without one event of the transcript: in the agent's own, the daemon's copy, or both."""
    left = [row for row in evidence.transcript if row[0] != seq]
    return replace(
        evidence,
        transcript=left if copy else evidence.transcript,
        own_transcript=left if own else evidence.own_transcript,
    )


GOOD = good()
DEAD = replace(GOOD, messages=[row | {"state": "dead"} for row in GOOD.messages])
HARMS = {
    "handled after its ack": (replace(GOOD, ledger=[(1, 50), (2, 60), (2, 101)]), "after its ack"),
    "never handled": (replace(GOOD, ledger=[(2, 60)]), "message 1 is 0 times in the ledger"),
    "handled too often": (replace(GOOD, ledger=[(1, 40), *GOOD.ledger]), "message 1 is 2 times in the ledger"),
    "not answered": (without(GOOD, 13), "message 1 is 0 times answered"),
    "lost": (DEAD, "message 1 is dead"),
    "a gap": (cut(GOOD, 3), "gaps: [3]"),
    "another copy": (cut(GOOD, 6, copy=False), "the daemon has 6 events, the agent 5"),
    "a turn without an end": (cut(GOOD, 6), "the last turn did not end"),
    "a park that nobody ended": (also(GOOD, event("agent.parked", kind="limit", reason="x", until="")), "parked and"),
    "a fact that was not told": (without(GOOD, 15), "container_crash 0 times"),
    "no kick": (without(GOOD, 12), "the kicks are []"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_each_harm_is_seen(harm: str) -> None:
    evidence, words = HARMS[harm]
    assert words in judge(evidence)


def test_the_seed_decides_what_happens_when_and_all_of_it_happens() -> None:
    options = Options(turns=40, seed=7, compactions=2)
    plan = plan_troubles(options)
    assert plan == plan_troubles(options)
    assert plan != plan_troubles(replace(options, seed=8))
    assert sorted(plan.values()) == sorted([Trouble.FULL, *Trouble])
    assert set(plan) <= set(range(3, 40))
