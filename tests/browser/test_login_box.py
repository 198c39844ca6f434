"""An agent's login from its page in Chromium, with the real claude CLI in a container, against the OAuth stand-in."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.conftest import WIDE
from hive_process import HiveProcess, end_hive, wait_for
from oauth_rig import OAuth, run_oauth

NO_CREDENTIAL = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""}


@pytest.fixture(scope="module")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OAuth]:
    yield from run_oauth(tmp_path_factory.mktemp("oauth") / "data")


@pytest.fixture(scope="module")
def upstream(oauth: OAuth) -> Iterator[str]:
    """The Messages stand-in, which refuses every bearer but those of the OAuth stand-in."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--tokens", str(oauth.tokens)]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening: ").strip()
        process.terminate()


@pytest.fixture(scope="module")
def hive(oauth: OAuth, upstream: str) -> Iterator[HiveProcess]:
    """A hive that holds no credential: each of its agents needs a login of its own."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        ca = Path(folder) / "ca.pem"
        ca.write_bytes(oauth.ca.read_bytes())
        # The agents of any user read it.
        ca.chmod(0o644)
        flags = ("--upstream", upstream, "--egress-map", oauth.egress_map, "--ca-file", str(ca))
        hive = HiveProcess(Path(folder) / "data", flags, NO_CREDENTIAL).start()
        try:
            hive.wait_state("manager", "idle", "needs_login")
            yield hive
        finally:
            end_hive(hive)


@pytest.fixture
def page(chromium: Browser, hive: HiveProcess) -> Iterator[Page]:
    """As the one of the other tests; but a code that is refused is in the console, and is wanted here."""
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "400" not in m.text else None)
    page.goto(hive.login_url)
    page.get_by_test_id("containers").wait_for()
    yield page
    context.close()
    assert problems == []


def test_an_agent_is_logged_in_from_its_page_after_a_wrong_code(page: Page, hive: HiveProcess, oauth: OAuth) -> None:
    hive.post("/api/messages", {"to": "manager", "body": "%% say logged in at last"})
    row = page.get_by_test_id("agent-manager")
    expect(row).to_have_attribute("data-state", "needs_login", timeout=60_000)
    row.get_by_role("link", name="log manager in").click()
    box = page.get_by_test_id("login-box")
    expect(box.get_by_test_id("login-known")).to_contain_text("claude has no login here")

    box.get_by_test_id("login-start").click()
    link = box.get_by_test_id("login-link")
    expect(link).to_be_visible(timeout=60_000)
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(box.get_by_test_id("login-foreign")).to_have_count(0)
    box.get_by_test_id("login-code").fill("wrong#code")
    with page.expect_response("**/login/code") as answer:
        box.get_by_test_id("login-submit").click()
    assert not answer.value.ok
    expect(box.get_by_test_id("login-error")).to_be_visible(timeout=60_000)
    expect(box.get_by_test_id("login-code")).to_have_count(0)

    box.get_by_test_id("login-start").click()
    expect(link).to_be_visible(timeout=60_000)
    code = oauth.get_code(link.get_attribute("href") or "")
    field = box.get_by_test_id("login-code")
    expect(field).to_have_attribute("type", "password")
    field.fill(code)
    field.press("Enter")
    expect(box.get_by_test_id("login-done")).to_contain_text("login of", timeout=60_000)
    assert code not in page.content()
    assert code not in page.evaluate("JSON.stringify([sessionStorage, localStorage])")

    # What waited for the login is done now, and nothing says any more that one is needed.
    wait_for(lambda: hive.agent("manager")["last_outcome"] == "ok", "the message to be handled", hive=hive)
    expect(page.get_by_test_id("agent-state")).to_have_attribute("data-state", "idle", timeout=30_000)
    expect(page.get_by_test_id("park")).to_have_count(0)
    box.get_by_test_id("login-close").click()
    expect(box).to_have_count(0)
