"""The ports of agents in a browser: they lead to the page, and two agents that share one are shown to the operator."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hive_process import HiveProcess, end_hive
from hyperhive.core.ports import find_agent_port
from port_names import find_twins

TWINS = find_twins()


@pytest.fixture
def hive() -> Iterator[HiveProcess]:
    """A hive with two agents from before the setting, whose names have the same port."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data")
        hive.start()
        try:
            for name in TWINS:
                hive.post("/api/agents", {"name": name})
                hive.wait_state(name, "idle")
            hive.stop()
            hive.environment["HIVE_AGENT_PORTS"] = "true"
            hive.start()
            yield hive
        finally:
            end_hive(hive)


def test_two_agents_with_one_port_are_shown_until_one_is_gone(page: Page, hive: HiveProcess) -> None:
    one, other = TWINS
    port = find_agent_port(one)
    banner = page.get_by_test_id("banner-port")
    # The manager's own port may be another program's on this machine, which is shown as well.
    expect(banner).to_contain_text(f"{one} and {other} have the same port, {port}", timeout=30_000)
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page).to_have_url(f"{hive.origin}/agent/{one}/", timeout=30_000)
    expect(page.get_by_test_id("agent-state")).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("prompt-text")).to_be_editable()
    expect(banner).to_contain_text(f"{one} and {other}")
    with hive.client() as client:
        client.delete(f"/api/agents/{one}").raise_for_status()
    expect(page.get_by_text(f"{one} and {other} have the same port")).to_have_count(0, timeout=30_000)
