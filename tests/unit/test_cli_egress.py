"""What `hive egress` prints of the requests that agents made."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyperhive.cli.egress import parse_host_port, parse_minutes, render_egress, render_grants
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.operator.records import EgressGrant, EgressRequest

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


def test_a_plain_request_is_shown_with_what_was_asked_for() -> None:
    shown = render_egress([row(method="GET", path="/debian/a", port=80)], Screen(NOW))
    assert "GET http://example.org:80/debian/a" in shown


def test_a_grant_is_one_line_with_what_is_left_of_it() -> None:
    grant = EgressGrant(
        id=3, agent="alice", host="example.org", port=8443, granted_at=NOW, until=NOW + timedelta(minutes=29)
    )
    _, line = render_grants([grant.model_dump(mode="json")], Screen(NOW)).splitlines()
    assert line.split() == ["3", "alice", "example.org:8443", "29", "min"]
    assert "?" in render_grants([{}], Screen(NOW))
    assert render_grants([], Screen(NOW)) == "no agent may reach more than its config says"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("example.org", ("example.org", 443)),
        ("example.org:8443", ("example.org", 8443)),
        ("[2606:4700::1]:22", ("[2606:4700::1]", 22)),
        ("8.8.8.8", ("8.8.8.8", 443)),
    ],
)
def test_a_host_is_named_with_or_without_its_port(text: str, found: tuple[str, int]) -> None:
    assert parse_host_port(text) == found


@pytest.mark.parametrize("text", ["", "a:b", "a:1:2", "https://a.org", "a.org/", "a b", "a:999999"])
def test_what_is_no_host_and_port_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_host_port(text)


def test_a_time_is_minutes_or_hours_of_a_day_at_most() -> None:
    assert [parse_minutes(text) for text in ("90", "30m", "45min", "2h", "24h")] == [90, 30, 45, 120, 1440]
    for text in ("", "0", "0m", "25h", "1d", "-5", "1.5h", "m", "9999"):
        with pytest.raises(InvalidInputError):
            parse_minutes(text)
