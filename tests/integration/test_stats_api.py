"""Stats of a running hive: a turn is in them at once, and after a restart."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hive_process import HiveProcess, wait_for
from hyperhive.core.stats import SERIES


def read_stats(hive: HiveProcess, agent: str, query: str = "") -> Any:
    return hive.get(f"/api/stats?agent={agent}&since=1h{query}")


def test_a_turn_is_in_the_stats_at_once_and_still_after_a_restart(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": "hello"})
    wait_for(lambda: read_stats(hive, "manager")["totals"]["turns"], "the turn to be counted", hive=hive)
    hive.wait_state("manager", "idle")
    # What the gateway recorded is looked for every few seconds.
    wait_for(lambda: read_stats(hive, "manager")["totals"]["work_tokens"], "its tokens to be counted", hive=hive)
    # The turn's message is acked after its end.
    wait_for(lambda: read_stats(hive, "manager")["totals"]["handled"], "its message to be handled", hive=hive)
    totals = read_stats(hive, "manager")["totals"]
    assert (totals["turns"], totals["outcome.ok"], totals["in.operator"], totals["handled"]) == (1, 1, 1, 1)
    assert totals["turn_p50_s"] > 0
    assert totals["model_requests"] >= 1
    counted = {one.key for one in SERIES if one.fold == "sum"} & totals.keys()
    # The gateway may record a turn's last request after the turn: with the end of the hive all is recorded.
    sums: list[dict[str, float]] = []
    for _ in range(2):
        assert hive.stop() == 0
        hive.start()
        totals = read_stats(hive, "manager")["totals"]
        sums.append({key: totals[key] for key in counted})
    assert sums[0] == sums[1]
    assert (sums[0]["turns"], sums[0]["outcome.ok"], sums[0]["in.operator"], sums[0]["handled"]) == (1, 1, 1, 1)
    made = hive.get("/api/stats/usage?agent=manager&since=1h")["total"]
    assert (sums[0]["model_requests"], sums[0]["work_tokens"]) == (made["requests"], made["work_tokens"])
    assert read_stats(hive, "*")["totals"]["turns"] == 1
    agents = hive.get("/api/stats/agents?keys=turns")
    assert (agents["agents"], agents["units"]) == ({"manager": {"turns": 1}}, {"turns": "turns"})


def test_tokens_and_cost_are_told_by_agent_day_and_model_and_as_files(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": "hello"})
    usage = wait_for(
        lambda: (found := hive.get("/api/stats/usage?since=1h"))["total"]["work_tokens"] and found,
        "the tokens to be recorded",
        hive=hive,
    )
    assert [row["name"] for row in usage["agents"]] == ["manager"]
    assert sum(row["work_tokens"] for row in usage["models"]) >= usage["agents"][0]["work_tokens"]
    assert all(row["name"] for row in usage["days"])
    assert hive.get("/api/stats/usage?agent=manager&since=1h")["total"]["requests"] >= usage["total"]["requests"]
    with hive.client() as client:
        for table, head in (("agents", "agent"), ("days", "day"), ("models", "model"), ("tools", "tool")):
            response = client.get(f"/api/stats.csv?table={table}&since=1h")
            assert response.headers["content-type"] == "text/csv; charset=utf-8"
            assert response.headers["content-disposition"] == f'attachment; filename="stats-hive-{table}.csv"'
            assert next(csv.reader(io.StringIO(response.text)))[0] == head


def test_a_file_has_the_figures_of_the_answer(shared_hive: HiveProcess) -> None:
    page = shared_hive.get("/api/stats?agent=manager&since=1h&keys=turns,inbox")
    first, last = page["at"][5], page["at"][20]
    with shared_hive.client() as client:
        text = client.get(f"/api/stats.csv?agent=manager&since=1h&keys=turns,inbox&first={first}&last={last}").text
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = range(page["at"].index(first), page["at"].index(last) + 1)
    assert [datetime.fromisoformat(row["at"]).timestamp() for row in rows] == [page["at"][index] for index in shown]
    assert [float(row["turns"]) for row in rows] == [page["series"]["turns"][index] for index in shown]


@pytest.mark.parametrize("query", ["table=passwords", "first=-1", "first=x", "agent=nobody", "since=2y&table=days"])
def test_a_wrong_question_for_a_file_is_refused(shared_hive: HiveProcess, query: str) -> None:
    with shared_hive.client() as client:
        response = client.get(f"/api/stats.csv?{query}")
    assert response.status_code in (400, 404)
    assert response.json()["hint"]


def test_the_answer_is_columns_of_equal_length(shared_hive: HiveProcess) -> None:
    page = shared_hive.get("/api/stats?since=7d&keys=turns,inbox,approvals&points=100")
    assert list(page["series"]) == ["turns", "inbox", "approvals"]
    assert {len(column) for column in page["series"].values()} == {len(page["at"])}
    assert len(page["at"]) <= 100
    assert page["at"] == list(range(page["at"][0], page["at"][-1] + 1, page["step_s"]))
    began = datetime.fromisoformat(page["from"])
    assert began == datetime.fromtimestamp(page["at"][0], UTC)
    assert timedelta(0) <= datetime.now(UTC) - timedelta(days=7) - began < timedelta(seconds=page["step_s"] + 60)
    assert (page["agent"], page["units"]["turns"]) == ("*", "turns")


def test_all_series_are_listed(shared_hive: HiveProcess) -> None:
    listed = shared_hive.get("/api/stats/keys")
    assert [row["key"] for row in listed] == [one.key for one in SERIES]
    assert {"key", "unit", "fold", "scope", "meaning"} == set(listed[0])
    hives = set(shared_hive.get("/api/stats")["series"])
    assert hives == {row["key"] for row in listed if row["scope"] != "agent"}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("keys=turn", 400, "invalid_input"),
        ("keys=approvals&agent=manager", 400, "invalid_input"),
        ("agent=nobody", 404, "not_found"),
        ("agent=../x", 400, "invalid_input"),
        ("agent=operator", 400, "invalid_input"),
        ("since=yesterday", 400, "invalid_input"),
        ("since=2y", 400, "invalid_input"),
        ("since=400d", 400, "invalid_input"),
        ("since=2099-01-01T00:00:00Z", 400, "invalid_input"),
        ("points=1", 400, "invalid_input"),
        ("points=100000", 400, "invalid_input"),
        ("keys=" + "x" * 3000, 400, "invalid_input"),
    ],
)
def test_a_wrong_question_is_refused_with_a_hint(shared_hive: HiveProcess, query: str, status: int, code: str) -> None:
    with shared_hive.client() as client:
        response = client.get(f"/api/stats?{query}")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["hint"]


def test_a_wrong_key_is_answered_with_the_right_one(shared_hive: HiveProcess) -> None:
    with shared_hive.client() as client:
        hint = client.get("/api/stats", params={"keys": "turns,tool_cals"}).json()["hint"]
    assert "did you mean tool_calls?" in hint
