"""Which headers of a model request go on, in either direction, and whose credential goes with them."""

from collections.abc import Iterable

from hyperhive.host.settings import Credential

_OAUTH_BETA = "oauth-2025-04-20"
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "cookie",
        "set-cookie",
    }
)

RawHeaders = Iterable[tuple[bytes, bytes]]


def plan_request_headers(headers: RawHeaders, credential: Credential | None) -> list[tuple[bytes, bytes]]:
    """What goes upstream: end-to-end headers, with the hive's credential, if any, in place of the container's."""
    # As bytes: the HTTP client would take a text for ASCII and fail at any other.
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in _plan(headers, credential)]


def _plan(headers: RawHeaders, credential: Credential | None) -> list[tuple[str, str]]:
    kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if not _is_dropped(name)]
    # Compressed answers could not be metered on their way through.
    kept.append(("accept-encoding", "identity"))
    if credential is None:
        return kept
    kept = [(name, value) for name, value in kept if name.lower() not in {"authorization", "x-api-key"}]
    secret = credential.value.get_secret_value()
    if credential.kind == "api_key":
        return [*kept, ("x-api-key", secret)]
    betas = [value for name, value in kept if name.lower() == "anthropic-beta"]
    if not any(_OAUTH_BETA in value for value in betas):
        kept = [(name, value) for name, value in kept if name.lower() != "anthropic-beta"]
        kept.append(("anthropic-beta", ",".join([*betas, _OAUTH_BETA])))
    return [*kept, ("authorization", f"Bearer {secret}")]


def plan_answer_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """What of an answer's headers goes to the container."""
    return [(name.lower(), value) for name, value in headers if not _is_dropped(name)]


def _is_dropped(name: bytes) -> bool:
    return name.decode("latin-1").lower() in _DROPPED
