"""Where a push may go. The address is given by a page: it must not lead into the operator's own network."""

import socket
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.host.endpoints import AddressBook, parse_endpoint
from hyperhive.host.push.post import RETRY_LIMIT_S, Fate, decide_fate, parse_retry_after

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def_-",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
        "https://web.push.apple.com/QGx",
        "https://wns2-am3p.notify.windows.com/w/?token=BQ%3d%3d",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/x",
    ],
)
def test_what_push_services_give_is_taken(url: str) -> None:
    endpoint = parse_endpoint(url)
    assert endpoint.origin + endpoint.target == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://fcm.googleapis.com/x",
        "http://127.0.0.1/x",
        "ftp://push.example/x",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://push.example:8443/x",
        "https://push.example:0/x",
        "https://push.example:99999/x",
        "https://me:secret@push.example/x",
        "https://push.example@127.0.0.1/x",
        "https://push.example\\@127.0.0.1/x",
        "https://push.example/x#y",
        "https://push.example/x\r\nhost: evil",
        "https://push.example/\tx",
        "https://push.example/x y",
        "https://push.exämple/x",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[fe80::1]/x",
        "https://[fd00::1]/x",
        "https://[fe80::1%25eth0]/x",
        "https://[2002:7f00:1::]/x",
        "https://[::1/x",
        "https://push.example/" + "x" * 1000,
    ],
)
def test_what_no_push_service_gives_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_endpoint(url)


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}/x", f"https://push.example{text}"):
        try:
            endpoint = parse_endpoint(url)
        except InvalidInputError:
            continue
        assert endpoint.scheme == "https"
        assert endpoint.port == 443


def test_only_the_setting_lets_private_places_through_and_plain_http_on_this_machine_alone() -> None:
    assert parse_endpoint("http://127.0.0.1:8080/x", private=True).origin == "http://127.0.0.1:8080"
    assert parse_endpoint("https://10.0.0.1:8443/x", private=True).authority == "10.0.0.1:8443"
    for url in ("http://10.0.0.1/x", "http://push.example/x", "ftp://127.0.0.1/x", "http://me@127.0.0.1/x"):
        with pytest.raises(InvalidInputError):
            parse_endpoint(url, private=True)


async def test_a_name_is_looked_up_and_only_public_addresses_are_connected_to() -> None:
    asked: list[str] = []

    def look_up(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "8.8.8.8", "2606:4700::1111", "9.9.9.9"]

    found = await AddressBook(look_up=look_up).find_addresses(parse_endpoint("https://push.example/x"))
    assert found == ["8.8.8.8", "2606:4700::1111"]
    assert asked == ["push.example"]


async def test_a_name_that_leads_into_the_own_network_leads_nowhere() -> None:
    book = AddressBook(look_up=lambda _: ["10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
    with pytest.raises(UnavailableError, match="no public address"):
        await book.find_addresses(parse_endpoint("https://push.example/x"))


async def test_a_name_that_is_not_there_is_a_failure_that_passes() -> None:
    def look_up(_: str) -> list[str]:
        raise socket.gaierror

    with pytest.raises(UnavailableError, match="could not be looked up"):
        await AddressBook(look_up=look_up).find_addresses(parse_endpoint("https://push.example/x"))


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, Fate.TAKEN),
        (201, Fate.TAKEN),
        (202, Fate.TAKEN),
        (301, Fate.REFUSED),
        (307, Fate.REFUSED),
        (400, Fate.REFUSED),
        (403, Fate.REFUSED),
        (404, Fate.GONE),
        (410, Fate.GONE),
        (413, Fate.REFUSED),
        (429, Fate.LATER),
        (500, Fate.LATER),
        (503, Fate.LATER),
    ],
)
def test_each_answer_has_its_meaning(status: int, fate: Fate) -> None:
    assert decide_fate(status, "", AT).fate is fate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("30", 30.0),
        ("999999999", RETRY_LIMIT_S),
        ("9" * 5000, None),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2099 12:00:00 GMT", RETRY_LIMIT_S),
        ("Thu, 99 Jan 2026 12:00:00 GMT", None),
    ],
)
def test_what_a_service_asks_to_wait_is_bounded(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, AT) == seconds
