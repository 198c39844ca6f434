"""What an agent asked for and did not get, in Chromium: allowed for a while, taken back, and proposed for good."""

import os
import socket

from playwright.sync_api import Page, expect

from hive_process import HiveProcess, wait_for

WAIT_MS = 30_000


def ask(hive: HiveProcess, request: str) -> str:
    """As what runs in alice's container would: by its socket. The first line of the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(os.fspath(hive.run / "agents/alice/egress.sock"))
        connection.sendall(request.encode())
        return connection.makefile().readline().strip()


def connect(hive: HiveProcess, target: str) -> str:
    return ask(hive, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")


def open_egress(page: Page, hive: HiveProcess) -> None:
    page.goto(f"{hive.origin}/agent/alice/")
    page.get_by_test_id("egress-toggle").click()
    expect(page.get_by_test_id("egress-request").first).to_be_visible(timeout=WAIT_MS)


def test_a_refused_host_is_allowed_with_one_click(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    assert "403" in connect(hive, "registry.invalid:8443")
    assert "403" in ask(hive, "GET http://deb.invalid/debian/pool HTTP/1.1\r\nHost: deb.invalid\r\n\r\n")
    assert "403" in connect(hive, "169.254.169.254:443")
    open_egress(page, hive)
    row = page.get_by_test_id("egress-request").filter(has_text="registry.invalid:8443")
    row.get_by_test_id("egress-allow").click()
    grant = page.get_by_test_id("egress-grants")
    expect(grant).to_contain_text("registry.invalid:8443", timeout=WAIT_MS)
    expect(row.get_by_test_id("egress-allow")).to_have_count(0)
    # Nobody has that name: it is looked up now, which it was not before.
    assert "502" in connect(hive, "registry.invalid:8443")
    expect(page.get_by_test_id("egress-requests")).to_contain_text("lookup", timeout=WAIT_MS)
    grant.get_by_test_id("egress-revoke").click()
    expect(grant).not_to_contain_text("registry.invalid", timeout=WAIT_MS)
    assert "403" in connect(hive, "registry.invalid:8443")


def test_for_good_is_an_approval_that_is_then_looked_at(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    assert "403" in ask(hive, "GET http://deb.invalid/debian/pool HTTP/1.1\r\nHost: deb.invalid\r\n\r\n")
    open_egress(page, hive)
    page.get_by_test_id("egress-propose").first.click()
    [approval] = wait_for(lambda: hive.get("/api/approvals?status=pending"), "the approval", hive=hive)
    page.goto(f"{hive.origin}/")
    shown = page.get_by_test_id(f"approval-{approval['id']}")
    expect(shown).to_contain_text("Allow GET http://deb.invalid/debian/pool for good", timeout=WAIT_MS)
    hive.post(f"/api/approvals/{approval['id']}/approve")
    # Allowed from then on, without a restart: refused no more, and nobody has the name.
    request = "GET http://deb.invalid/debian/pool HTTP/1.1\r\nHost: deb.invalid\r\n\r\n"
    wait_for(lambda: "502" in ask(hive, request), "the answer", timeout_s=30, hive=hive)
