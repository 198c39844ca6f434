"""Which pages are photographed, and how one gets to them. `docs/pages.md` shows each, wide and on a phone."""

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, ViewportSize, expect

from hive_process import HiveProcess
from screenshots import story

TIMEOUT_MS = 60_000
SIZES: dict[str, ViewportSize] = {
    "wide": {"width": 1400, "height": 900},
    "phone": {"width": 390, "height": 844},
}


@dataclass(frozen=True, slots=True)
class Sight:
    """One thing to be seen: `show` brings the page there."""

    name: str
    show: Callable[[Page, HiveProcess], None]
    light: bool = False
    whole: bool = False
    signed_in: bool = True

    @property
    def files(self) -> dict[str, str]:
        """By size. A whole page is too long to be looked at on a phone."""
        return {size: f"{self.name}-{size}.png" for size in SIZES if size == "wide" or not self.whole}


def _go(page: Page, hive: HiveProcess, path: str, ready: str) -> Locator:
    page.goto(hive.origin + path)
    found = page.get_by_test_id(ready).first
    expect(found).to_be_visible(timeout=TIMEOUT_MS)
    return found


def _wait_loaded(page: Page) -> None:
    expect(page.get_by_text("loading…")).to_have_count(0, timeout=TIMEOUT_MS)
    expect(page.get_by_text("reading…")).to_have_count(0, timeout=TIMEOUT_MS)


def _show_login(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/", "login")


def _show_dashboard(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/", "containers")
    expect(page.locator("[data-testid^=meaning-]").first).to_be_visible(timeout=TIMEOUT_MS)
    _wait_loaded(page)


def _show_agent(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/builder/", "agent-state")
    expect(page.get_by_role("log").get_by_text("replaying march").first).to_be_visible(timeout=TIMEOUT_MS)


def _show_terminal(page: Page, hive: HiveProcess) -> None:
    open_terminal(page, hive, "builder")
    page.keyboard.type(TERMINAL_LINES)
    page.keyboard.press("Enter")
    expect(page.locator(".xterm-rows")).to_contain_text("Ran 3 tests", timeout=TIMEOUT_MS)
    expect(page.locator(".xterm-rows")).to_contain_text("matrix", timeout=TIMEOUT_MS)


TERMINAL_LINES = (
    "clear; git -c color.ui=always log --graph --format='%C(yellow)%h%C(reset) %s %C(dim)%an'; "
    "git -c color.ui=always diff --stat; ls -l --color=always --time-style=+%H:%M; "
    "python3 -m unittest -v 2>&1 | sed 's/ok$/\\x1b[32mok\\x1b[0m/'; "
    "for n in 31 32 33 34 35 36; do printf '\\033[%sm███ \\033[0m' $n; done; "
    "printf '\\033[38;2;255;180;84mamber \\033[38;2;203;166;247mmauve \\033[38;2;110;231;135mmatrix\\033[0m\\n'"
)


def open_terminal(page: Page, hive: HiveProcess, agent: str) -> Locator:
    """A new terminal in the agent's container, with the focus in it and a short prompt."""
    _go(page, hive, f"/agent/{agent}/", "agent-state")
    page.get_by_test_id("terminal-toggle").click()
    page.get_by_test_id("terminal-new").click()
    view = page.locator(".terminal-view")
    expect(view).to_have_attribute("data-state", "up", timeout=TIMEOUT_MS)
    expect(view.locator(".xterm-helper-textarea")).to_be_focused()
    page.keyboard.type(f"cd {story.REPOSITORY}; PS1='\\[\\e[32m\\]\\h\\[\\e[0m\\]:\\W$ '; clear; echo re''ady")
    page.keyboard.press("Enter")
    expect(view.locator(".xterm-rows")).to_contain_text("ready", timeout=TIMEOUT_MS)
    return view


def _show_agent_stats(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/builder/", "agent-state")
    page.get_by_test_id("stats-toggle").click()
    _wait_charts(page)


def _show_journal(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/builder/", "agent-state")
    page.get_by_test_id("journal-toggle").click()
    expect(page.get_by_test_id("journal-text").locator("span").first).to_be_visible(timeout=TIMEOUT_MS)


def _show_files(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/builder/#files", "files")
    for name in (story.REPOSITORY.removeprefix("/state/"), "tide.py"):
        page.get_by_test_id(f"entry-{name}").get_by_role("button").click()
    expect(page.get_by_test_id("files-text")).to_be_visible(timeout=TIMEOUT_MS)
    _wait_loaded(page)


def _show_egress(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/scout/#egress", "egress-allow")
    _wait_loaded(page)


def _show_quotas(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/builder/#quotas", "quota-disk")
    _wait_loaded(page)


def _show_snapshots(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/agent/scribe/#snapshots", "snapshot-restore")
    _wait_loaded(page)


def _show_audit(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/audit/", "audit-rows")
    # Without what the taking of pictures leaves there.
    page.get_by_test_id("audit-agent").fill("scout")
    rows = page.get_by_test_id("audit-rows").locator("li")
    expect(rows.filter(has_text="egress.refused")).to_have_count(1, timeout=TIMEOUT_MS)
    expect(rows.filter(has_not_text="scout")).to_have_count(0, timeout=TIMEOUT_MS)


def _show_programs(page: Page, hive: HiveProcess) -> None:
    page.goto(hive.origin + "/programs/")
    expect(page.get_by_test_id("webhook-state")).to_have_count(2, timeout=TIMEOUT_MS)


def _show_thread(page: Page, hive: HiveProcess) -> None:
    plan = hive.wait_inbox(story.PLAN)
    _go(page, hive, f"/threads/{plan['id']}", "thread")
    expect(page.get_by_text(story.UNDERSTOOD)).to_be_visible(timeout=TIMEOUT_MS)


def _show_approval(page: Page, hive: HiveProcess) -> None:
    row = next(row for row in hive.get("/api/approvals?status=pending") if row["kind"] == "apply")
    _go(page, hive, f"/approvals/{row['id']}", f"meaning-{row['id']}")
    _wait_loaded(page)


def _show_question(page: Page, hive: HiveProcess) -> None:
    row = next(row for row in hive.get("/api/questions?status=open") if row["kind"] == "question")
    _go(page, hive, f"/questions/{row['id']}", f"question-{row['id']}")


def _show_permission(page: Page, hive: HiveProcess) -> None:
    row = next(row for row in hive.get("/api/questions?status=open") if row["kind"] == "permission")
    _go(page, hive, f"/questions/{row['id']}", f"question-{row['id']}")


def _wait_charts(page: Page) -> None:
    expect(page.get_by_test_id("chart-turns").locator("canvas")).to_be_visible(timeout=TIMEOUT_MS)
    _wait_loaded(page)


def _show_stats(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/stats/", "stats")
    _wait_charts(page)


def _show_stats_of_one(page: Page, hive: HiveProcess) -> None:
    _go(page, hive, "/stats/builder/", "stats")
    _wait_charts(page)


def _show_palette(page: Page, hive: HiveProcess) -> None:
    _show_question(page, hive)
    page.get_by_test_id("palette-open").click()
    expect(page.get_by_test_id("palette-query")).to_be_focused()


def _show_offline(page: Page, hive: HiveProcess) -> None:
    page.goto(hive.origin + "/offline.html")
    expect(page.get_by_role("heading").first).to_be_visible(timeout=TIMEOUT_MS)


SIGHTS = (
    Sight("dashboard", _show_dashboard),
    Sight("dashboard-whole", _show_dashboard, whole=True),
    Sight("dashboard-light", _show_dashboard, light=True),
    Sight("agent", _show_agent),
    Sight("terminal", _show_terminal),
    Sight("agent-stats", _show_agent_stats),
    Sight("journal", _show_journal),
    Sight("files", _show_files),
    Sight("egress", _show_egress),
    Sight("quotas", _show_quotas),
    Sight("snapshots", _show_snapshots),
    Sight("thread", _show_thread),
    Sight("approval", _show_approval),
    Sight("question", _show_question),
    Sight("permission", _show_permission),
    Sight("stats", _show_stats),
    Sight("stats-agent", _show_stats_of_one),
    Sight("programs", _show_programs),
    Sight("audit", _show_audit),
    Sight("palette", _show_palette),
    Sight("login", _show_login, signed_in=False),
    Sight("offline", _show_offline, signed_in=False),
)
