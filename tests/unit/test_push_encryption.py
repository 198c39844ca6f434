"""What a push says is for one browser, and who sent it is proven: against the examples of the RFCs."""

import base64
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError, StorageError
from hyperhive.host.push.encryption import (
    CONTENT_LIMIT_BYTES,
    BrowserKeys,
    decode_base64url,
    encode_base64url,
    encrypt,
    parse_browser_keys,
    render_point,
)
from hyperhive.host.push.vapid import Vapid, load_vapid, parse_contact
from hyperhive.testing.push.browser import Subscription, UnreadableError
from hyperhive.testing.push.sender import NotAuthorizedError, check_authorization, check_token

# RFC 8291, section 5 and appendix A.
PLAIN = b"When I grow up, I want to be a watermelon"
SENDER_KEY = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
BROWSER_KEY = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
BROWSER_POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl"
    "7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def private_key(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decode_base64url(text), "big"), ec.SECP256R1())


def keys_of(subscription: Subscription) -> BrowserKeys:
    return BrowserKeys(subscription.point, subscription.auth)


def test_the_example_of_the_rfc_is_encrypted_byte_for_byte_and_read_by_the_stand_in() -> None:
    keys = parse_browser_keys(BROWSER_POINT, AUTH)
    body = encrypt(PLAIN, keys, private_key(SENDER_KEY), decode_base64url(SALT))
    assert encode_base64url(body) == BODY
    browser = Subscription(private_key(BROWSER_KEY), decode_base64url(AUTH))
    assert browser.read(decode_base64url(BODY)) == PLAIN


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=CONTENT_LIMIT_BYTES))
def test_what_is_encrypted_is_read_by_its_browser_and_fits_into_one_push(content: bytes) -> None:
    browser = Subscription()
    body = encrypt(content, keys_of(browser))
    assert browser.read(body) == content
    assert len(body) <= 4096


def test_another_browser_reads_nothing_and_a_changed_bit_is_noticed() -> None:
    browser, other = Subscription(), Subscription()
    body = encrypt(PLAIN, keys_of(browser))
    with pytest.raises(UnreadableError):
        other.read(body)
    for at in (0, 20, 40, 90, len(body) - 1):
        changed = bytearray(body)
        changed[at] ^= 1
        with pytest.raises(UnreadableError):
            browser.read(bytes(changed))


def test_the_same_content_never_looks_the_same() -> None:
    keys = keys_of(Subscription())
    assert encrypt(PLAIN, keys) != encrypt(PLAIN, keys)


def test_content_that_no_push_service_takes_is_not_encrypted() -> None:
    keys = keys_of(Subscription())
    assert len(encrypt(b"x" * CONTENT_LIMIT_BYTES, keys)) == 4096
    with pytest.raises(ValueError, match="too much"):
        encrypt(b"x" * (CONTENT_LIMIT_BYTES + 1), keys)


@pytest.mark.parametrize(
    ("point", "auth"),
    [
        ("", AUTH),
        ("AA", AUTH),
        (BROWSER_POINT[:-2], AUTH),
        # 65 bytes that are no point of the curve, and the point at infinity
        (encode_base64url(b"\x04" + b"\x01" * 64), AUTH),
        (encode_base64url(b"\x00" * 65), AUTH),
        # a compressed point
        (encode_base64url(b"\x02" + decode_base64url(BROWSER_POINT)[1:33]), AUTH),
        (BROWSER_POINT, ""),
        (BROWSER_POINT, "BTBZMqHH6r4Tts7J_aSI"),
        (BROWSER_POINT, AUTH + "AAAA"),
        (BROWSER_POINT + "!", AUTH),
        (BROWSER_POINT + "é", AUTH),
    ],
)
def test_keys_that_are_none_are_refused(point: str, auth: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_browser_keys(point, auth)


def test_the_example_token_of_the_rfc_is_taken_by_the_stand_in() -> None:
    # RFC 8292, section 2.4.
    token = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1"
        "YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjj"
        "vW2L9OkSSHzvoD1oA"
    )
    key = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
    claims = check_token(token, key)
    assert (claims.audience, claims.contact) == ("https://push.example.net", "mailto:push@example.com")
    with pytest.raises(NotAuthorizedError):
        check_token(token[:-4] + "AAAA", key)


def test_a_push_proves_who_sent_it_to_one_service_for_some_hours() -> None:
    vapid = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:me@example.com")
    header = vapid.render_authorization("https://push.example", AT)
    at = AT.timestamp()
    claims = check_authorization(header, origin="https://push.example", at=at, key=vapid.public_key)
    assert claims.contact == "mailto:me@example.com"
    other = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:me@example.com").public_key
    for origin, later_s, key in (
        ("https://other.example", 0, vapid.public_key),
        ("https://push.example", 13 * 3600, vapid.public_key),
        ("https://push.example", -13 * 3600, vapid.public_key),
        ("https://push.example", 0, other),
    ):
        with pytest.raises(NotAuthorizedError):
            check_authorization(header, origin=origin, at=at + later_s, key=key)
    with pytest.raises(NotAuthorizedError):
        check_authorization(
            header.replace(vapid.public_key, other), origin="https://push.example", at=at, key=vapid.public_key
        )


def test_the_hives_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "vapid.pem"
    first = load_vapid(path, "mailto:me@example.com")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_vapid(path, "mailto:me@example.com").public_key == first.public_key
    assert len(decode_base64url(first.public_key)) == 65


def test_a_key_file_that_is_none_of_ours_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "vapid.pem"
    load_vapid(path, "mailto:me@example.com")
    path.chmod(0o644)
    with pytest.raises(StorageError, match="read by others"):
        load_vapid(path, "mailto:me@example.com")
    for content in (b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(StorageError, match="cannot be read"):
            load_vapid(path, "mailto:me@example.com")
        assert path.read_bytes() == content
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(StorageError):
        load_vapid(path, "mailto:me@example.com")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(StorageError):
        load_vapid(path, "mailto:me@example.com")


@pytest.mark.parametrize(
    "text", ["", "me@example.com", "http://example.com", "mailto:me", "mailto:a@b\r\nx: y", "mailto:a b@c"]
)
def test_a_contact_that_push_services_refuse_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_contact(text)
    assert parse_contact("mailto:me@example.com")
    assert parse_contact("https://example.com/me")


@given(st.binary(max_size=100))
def test_base64url_is_read_as_it_is_written(value: bytes) -> None:
    assert decode_base64url(encode_base64url(value)) == value
    assert decode_base64url(base64.urlsafe_b64encode(value).decode()) == value


def test_a_point_is_written_as_browsers_do() -> None:
    point = render_point(private_key(BROWSER_KEY).public_key())
    assert encode_base64url(point) == BROWSER_POINT
