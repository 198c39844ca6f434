"""What `hive quota` prints, and what it asks of the hive."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli_process import call
from fake_hive import answer_with, run_fake_hive
from hyperhive.cli.quotas import render_quota, render_quotas
from hyperhive.cli.rendering import Screen
from hyperhive.wire.operator.quotas import AgentQuotas

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3


def row(**fields: Any) -> dict[str, Any]:
    quotas = [
        {"quota": "disk", "unit": "bytes", "used": 9 * GIB, "limit": 10 * GIB},
        {"quota": "inbox", "unit": "count", "used": 12, "limit": 9000},
        {"quota": "acts", "unit": "per_minute", "used": 3, "limit": 120},
        {"quota": "log", "unit": "bytes", "used": None, "limit": None},
    ]
    given = {"agent": "alice", "over": "", "allowed_until": None, "quotas": quotas} | fields
    return AgentQuotas.model_validate(given).model_dump(mode="json")


def test_each_quota_of_an_agent_is_a_line() -> None:
    head, *lines = render_quota(row(), Screen(NOW)).splitlines()
    assert head.split() == ["QUOTA", "USED", "OF"]
    assert [" ".join(line.split()) for line in lines] == [
        "disk 9.0 GiB 10.0 GiB nearly all",
        "inbox 12 9,000",
        "acts 3 120 a minute",
        "log ? any",
    ]


def test_each_agent_is_a_line_with_what_it_is_nearest_to() -> None:
    lines = render_quotas([row(), row(agent="bob", over="its folders hold\x1b[31m")], Screen(NOW)).splitlines()
    assert " ".join(lines[1].split()) == "alice 9.0 GiB of 10.0 GiB disk 90%"
    assert "\x1b" not in lines[2]


def test_a_row_that_lacks_everything_breaks_nothing() -> None:
    assert render_quota({}, Screen(NOW))
    assert "?" in render_quotas([{}], Screen(NOW))


async def test_more_is_allowed_for_a_while(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path) as hive:
        hive.answers["POST /api/quotas/alice/allow"] = answer_with(row(allowed_until=NOW))
        done = await call(tmp_path, "quota", "alice", "--allow", "20G", "--for", "2h")
        assert (done.status, b"allowed until" in done.stdout) == (0, True)
        [received] = [one for one in hive.received if one.method == "POST"]
        assert received.body == {"size_bytes": 20 * GIB, "for_s": 7200.0}


async def test_what_is_no_size_and_no_agent_is_refused(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path):
        wrong = await call(tmp_path, "quota", "alice", "--allow", "much")
        assert (wrong.status, b"is no size" in wrong.stderr) == (1, True)
        nobody = await call(tmp_path, "quota", "--allow", "20G")
        assert (nobody.status, b"name of an agent" in nobody.stderr) == (1, True)
