"""What `hive egress` prints of the requests that agents made."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hyperhive.cli.egress import render_egress
from hyperhive.cli.rendering import Screen
from hyperhive.wire.operator.records import EgressRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(**fields: Any) -> dict[str, Any]:
    request = {
        "agent": "alice",
        "at": NOW - timedelta(minutes=3),
        "host": "example.org",
        "port": 443,
        "verdict": "allowed",
        "rule": "network.allow: *.org",
        "bytes_up": 700,
        "bytes_down": 5 * 1024 * 1024,
        "elapsed_ms": 12,
    }
    return EgressRequest.model_validate(request | fields).model_dump(mode="json")


def test_a_request_is_one_line_with_what_became_of_it() -> None:
    rows = [row(), row(host="", port=0, verdict="refused", rule="request"), row(host="*", port=0, verdict="refused")]
    _, allowed, none, several = render_egress(rows, Screen(NOW)).splitlines()
    shown = "3 min alice example.org:443 allowed 700 B 5.0 MiB network.allow: *.org"
    assert " ".join(allowed.split()) == shown
    assert none.split()[3] == "-"
    assert several.split()[3] == "*"


def test_a_row_that_lacks_everything_breaks_nothing() -> None:
    assert "?" in render_egress([{}], Screen(NOW))


def test_nothing_is_said_to_be_nothing() -> None:
    assert render_egress([], Screen(NOW)) == "no host was asked for yet"
