"""What login there is, read from files that an agent can write."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.login import PLACEHOLDER
from hyperhive.harness.own_login import ACCOUNT_FILE, CREDENTIALS_FILE, find_claude_folder, observe_login

TOKENS = {
    "accessToken": "sk-ant-oat01-canary",
    "refreshToken": "sk-ant-ort01-canary",
    "expiresAt": 1_795_316_356_294,
    "refreshTokenExpiresAt": 1_797_879_556_294,
}
NONE = {"kind": "none", "account": "", "expires_at": ""}


def write(folder: Path, oauth: Any, account: Any = None) -> None:
    (folder / CREDENTIALS_FILE).write_text(json.dumps({"claudeAiOauth": oauth}))
    (folder / ACCOUNT_FILE).write_text(json.dumps({"oauthAccount": account}))


def test_a_login_is_told_with_its_account_and_its_end_and_never_its_tokens(tmp_path: Path) -> None:
    write(tmp_path, TOKENS, {"emailAddress": "me@example.com", "displayName": "me"})
    assert observe_login(tmp_path, {}) == {
        "kind": "own",
        "account": "me@example.com",
        "expires_at": "2026-12-21T18:59:16+00:00",
    }


def test_without_an_end_of_the_refresh_token_that_of_the_access_token_is_told(tmp_path: Path) -> None:
    write(tmp_path, {**TOKENS, "refreshTokenExpiresAt": None})
    assert observe_login(tmp_path, {})["expires_at"] == "2026-11-22T02:59:16+00:00"


def test_empty_tokens_are_no_login(tmp_path: Path) -> None:
    write(tmp_path, {**TOKENS, "accessToken": "", "refreshToken": "", "expiresAt": 0})
    assert observe_login(tmp_path, {}) == NONE


def test_with_the_hives_placeholder_it_is_the_hives_whatever_the_files_say(tmp_path: Path) -> None:
    write(tmp_path, TOKENS)
    for variable in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"):
        assert observe_login(tmp_path, {variable: PLACEHOLDER})["kind"] == "hive"


@pytest.mark.parametrize(
    "oauth",
    [None, [], "text", 7, {}, {"accessToken": 7}, {"accessToken": {"a": 1}}],
)
def test_what_makes_no_sense_is_no_login(tmp_path: Path, oauth: Any) -> None:
    write(tmp_path, oauth, "text")
    assert observe_login(tmp_path, {}) == NONE


@pytest.mark.parametrize("instant", [True, -1, 0, 1e300, "soon", [], {}, 10**400, float("nan")])
def test_an_odd_instant_is_not_known(tmp_path: Path, instant: Any) -> None:
    write(tmp_path, {"accessToken": "x", "expiresAt": instant, "refreshTokenExpiresAt": instant})
    assert observe_login(tmp_path, {}) == {"kind": "own", "account": "", "expires_at": ""}


def test_an_account_is_one_short_line_without_control_characters(tmp_path: Path) -> None:
    write(tmp_path, TOKENS, {"emailAddress": "a\x1b[2J\nb\u202e" + "c" * 1000})
    account = observe_login(tmp_path, {})["account"]
    assert account.startswith("a\\x1b[2J b\\u202ec")
    assert len(account) == 200
    write(tmp_path, TOKENS, {"emailAddress": "\ud800"})
    assert json.dumps(observe_login(tmp_path, {})).encode()


def test_links_fifos_folders_and_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / CREDENTIALS_FILE
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"claudeAiOauth": TOKENS}))
    path.symlink_to(elsewhere)
    assert observe_login(tmp_path, {}) == NONE
    path.unlink()
    os.mkfifo(path)
    assert observe_login(tmp_path, {}) == NONE
    path.unlink()
    path.mkdir()
    assert observe_login(tmp_path, {}) == NONE
    path.rmdir()
    path.write_text(json.dumps({"claudeAiOauth": TOKENS, "more": "x" * 70_000}))
    assert observe_login(tmp_path, {}) == NONE
    path.write_text("[" * 60_000)
    assert observe_login(tmp_path, {}) == NONE


def test_the_folder_is_where_claude_keeps_its_files() -> None:
    assert find_claude_folder({"CLAUDE_CONFIG_DIR": "/c", "HOME": "/h"}) == Path("/c")
    assert find_claude_folder({"HOME": "/h"}) == Path("/h/.claude")
