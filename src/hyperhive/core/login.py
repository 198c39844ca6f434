"""The login of claude by the operator: what is believed of links, which an agent can write, and of codes. Pure."""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

# Not a credential: it makes claude send its requests, and the gateway puts the real one in its place.
PLACEHOLDER = "held-by-the-hive"

URL_LIMIT_CHARS = 4096
CODE_LIMIT_CHARS = 2048
# The account's pages, which the operator opens in a browser.
LOGIN_HOSTS = frozenset({"claude.com", "claude.ai", "platform.claude.com"})
_LOGIN_PATHS = frozenset({"/oauth/authorize", "/cai/oauth/authorize"})
# Where the page that shows the code is: a link that sends it elsewhere is not one of claude's.
_CODE_HOST = "platform.claude.com"
_PLAIN = re.compile(r"[!-~]+")


def parse_login_url(text: str) -> str:
    """A link to the account's page where a login is allowed. Raises ValueError, whose message says what is wrong.

    An agent could have written it: the operator must never be sent anywhere else.
    """
    if len(text) > URL_LIMIT_CHARS or not _PLAIN.fullmatch(text) or "\\" in text:
        raise ValueError("is not a plain link")
    parts = urlsplit(text)
    # The netloc whole, so that neither a port nor a user name hides in it.
    if parts.scheme != "https" or parts.netloc not in LOGIN_HOSTS:
        raise ValueError(f"does not lead to {' or '.join(sorted(LOGIN_HOSTS))} by https")
    if parts.path not in _LOGIN_PATHS or parts.fragment:
        raise ValueError("does not lead to the page of a login")
    query = parse_qs(parts.query)
    if any(len(query.get(name, [])) != 1 for name in ("redirect_uri", "state", "code_challenge")):
        raise ValueError("is not that of a login")
    back = urlsplit(query["redirect_uri"][0])
    if back.scheme != "https" or back.netloc != _CODE_HOST:
        raise ValueError(f"would send the code elsewhere than to {_CODE_HOST}")
    return text


def parse_login_code(text: str) -> str:
    """A code as the page shows it, `code#state`. Raises ValueError, whose message never has any of it."""
    code = text.strip()
    if len(code) > CODE_LIMIT_CHARS or not _PLAIN.fullmatch(code):
        raise ValueError("is not a code: it is one line of letters, digits and signs")
    before, sign, after = code.partition("#")
    if not before or not sign or not after or "#" in after:
        raise ValueError("is not whole: copy all of it, with the # in the middle")
    return code


def parse_expiry(text: str) -> datetime | None:
    """When a login ends, as a harness tells it; None for what is no instant."""
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def is_code_of(code: str, url: str) -> bool:
    """Whether a code that `parse_login_code` took was given for this link."""
    return parse_qs(urlsplit(url).query).get("state") == [code.partition("#")[2]]
