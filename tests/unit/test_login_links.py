"""What of a login link, a code and an expiry is believed."""

from datetime import UTC, datetime

import pytest

from hyperhive.core.login import is_code_of, parse_expiry, parse_login_code, parse_login_url

QUERY = (
    "code=true&client_id=x&response_type=code&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback"
    "&scope=user%3Ainference&code_challenge=abc&code_challenge_method=S256&state=s-1_2"
)
URL = f"https://claude.com/cai/oauth/authorize?{QUERY}"


@pytest.mark.parametrize("url", [URL, f"https://platform.claude.com/oauth/authorize?{QUERY}"])
def test_a_link_of_claudes_is_taken_as_it_is(url: str) -> None:
    assert parse_login_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        URL.replace("https:", "http:"),
        URL.replace("claude.com/cai", "claude.com.evil.org/cai"),
        URL.replace("claude.com/cai", "evil.org/cai"),
        URL.replace("//claude.com", "//claude.com@evil.org"),
        URL.replace("//claude.com", "//evil.org\\@claude.com"),
        URL.replace("//claude.com", "//me@claude.com"),
        URL.replace("//claude.com", "//claude.com:8443"),
        URL.replace("/cai/oauth/authorize", "/logout"),
        URL.replace("/cai/oauth/authorize", "/cai/oauth/authorize/../../x"),
        URL.replace("platform.claude.com%2F", "evil.org%2F"),
        URL.replace("redirect_uri=https", "redirect_uri=http"),
        f"{URL}&redirect_uri=https%3A%2F%2Fevil.org",
        URL.replace("&state=s-1_2", ""),
        f"{URL}#fragment",
        f"{URL} evil",
        f"{URL}\n",
        f"{URL}\x1b[2J",
        f"{URL}\u202e",
        f"{URL}&x={'y' * 5000}",
        "https://[claude.com/cai/oauth/authorize",
    ],
)
def test_a_link_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_login_url(url)


def test_a_code_is_one_plain_line_with_two_parts() -> None:
    assert parse_login_code("  abc#s-1_2\n") == "abc#s-1_2"


@pytest.mark.parametrize(
    "code", ["", "abc", "#s", "abc#", "a#b#c", "a b#c", "a\nb#c", "\x1b[2J#c", "ä#b", "a" * 3000 + "#b"]
)
def test_a_code_that_is_not_whole_is_refused_without_repeating_it(code: str) -> None:
    with pytest.raises(ValueError, match="is not") as caught:
        parse_login_code(code)
    assert not code.strip() or code not in str(caught.value)


def test_a_code_belongs_to_the_link_with_its_state() -> None:
    assert is_code_of("abc#s-1_2", URL)
    assert not is_code_of("abc#other", URL)


def test_an_expiry_that_is_no_instant_is_not_known() -> None:
    assert parse_expiry("2026-12-21T19:00:00+00:00") == datetime(2026, 12, 21, 19, tzinfo=UTC)
    assert [parse_expiry(text) for text in ("", "soon", "0001-01-01T00:00:00+14:00")] == [None, None, None]
