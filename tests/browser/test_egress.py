"""What an agent asked for and did not get, in Chromium: allowed for a while, taken back, and proposed for good."""

import os
import socket
import subprocess
import sys

from playwright.sync_api import Page, expect

from cli_process import make_environment
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
    expect(page.get_by_test_id("egress-requests")).to_contain_text("could not be looked up", timeout=WAIT_MS)
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
    page.get_by_test_id("egress-proposed").click()
    shown = page.get_by_test_id(f"approval-{approval['id']}")
    expect(shown).to_contain_text("Allow GET http://deb.invalid/debian/pool for good", timeout=WAIT_MS)
    expect(page.get_by_test_id(f"meaning-{approval['id']}")).to_contain_text("deb.invalid", timeout=WAIT_MS)
    shown.get_by_test_id("approve").click()
    # Allowed from then on, without a restart: refused no more, and nobody has the name.
    request = "GET http://deb.invalid/debian/pool HTTP/1.1\r\nHost: deb.invalid\r\n\r\n"
    wait_for(lambda: "502" in ask(hive, request), "the answer", timeout_s=30, hive=hive)
    # All of it stands in the audit, and the hive's own command finds that nothing was changed since.
    page.goto(f"{hive.origin}/audit/")
    rows = page.get_by_test_id("audit-rows")
    page.get_by_test_id("audit-agent").fill("alice")
    for name in ("egress.refused", "approval.requested", "approval.deployed"):
        page.get_by_test_id("audit-name").fill(name)
        expect(rows.locator("li")).to_have_count(1, timeout=WAIT_MS)
        expect(rows).to_contain_text(name)
    rows.get_by_role("link", name="approval.deployed").click()
    expect(page).to_have_url(f"{hive.origin}/approvals/{approval['id']}")
    argv = [sys.executable, "-m", "hyperhive.cli.main", "audit", "verify"]
    environment = make_environment(hive.data)
    verified = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0, verified.stderr
