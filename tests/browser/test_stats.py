"""Stats on the pages, in Chromium: charts that are drawn, looked into, and go on by themselves."""

import csv
import io
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess, wait_for

# Distinct colours of a canvas that are not its background: a chart has a line, an axis and a grid.
COUNT_COLORS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const found = new Set();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] > 200) found.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
  return found.size;
}"""


def run_turns(hive: HiveProcess, *bodies: str) -> None:
    """Has the manager do something, and waits until all of it is counted."""
    hive.wait_state("manager", "idle")
    before = read_total(hive, "handled")
    for body in bodies:
        hive.post("/api/messages", {"to": "manager", "body": body})
    wait_for(lambda: read_total(hive, "handled") >= before + len(bodies), "the turns to end", 60, hive)
    wait_for(lambda: read_total(hive, "work_tokens"), "their tokens to be counted", hive=hive)


def read_total(hive: HiveProcess, key: str) -> int:
    return hive.get(f"/api/stats?agent=manager&since=1h&keys={key}")["totals"][key]


def open_stats(page: Page, hive: HiveProcess, path: str = "/stats/") -> Locator:
    page.goto(hive.origin + path)
    stats = page.get_by_test_id("stats")
    expect(stats.get_by_test_id("chart-turns")).to_be_visible(timeout=30_000)
    return stats


def read_span(page: Page) -> tuple[float, float]:
    span = page.get_by_test_id("span")
    return float(span.get_attribute("data-from") or 0), float(span.get_attribute("data-to") or 0)


def drag(page: Page, chart: Locator) -> None:
    """Marks the third quarter of a chart."""
    area = chart.locator(".u-over")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=3)
    page.mouse.move(box["x"] + box["width"] * 0.75, y, steps=3)
    page.mouse.up()


def test_the_hives_charts_are_drawn_and_say_the_same_in_words_and_as_tables(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, '%% tool Bash {"command": "true"}\n%% say done', "%% say again")
    page.get_by_test_id("stats-link").click()
    stats = page.get_by_test_id("stats")
    turns = stats.get_by_test_id("chart-turns")
    expect(turns.get_by_test_id("value-turns")).to_have_text("2", timeout=30_000)
    for chart in ("turns", "duration", "outcomes", "inbox", "waiting", "tokens", "cost"):
        canvas = stats.get_by_test_id(f"chart-{chart}").locator("canvas")
        assert canvas.evaluate(COUNT_COLORS) > 3, chart
    # The hive began during the range: what was before is not known, and is said so.
    expect(stats.get_by_test_id("chart-waiting").get_by_test_id("chart-summary")).to_contain_text("no data for")
    expect(turns.get_by_test_id("chart-summary")).to_contain_text("2, most")
    turns.get_by_test_id("chart-table").locator("summary").click()
    expect(turns.locator("tbody tr").first).to_be_visible()
    inbox = stats.get_by_test_id("chart-inbox")
    inbox.get_by_test_id("chart-table").locator("summary").click()
    expect(inbox.locator("tbody tr").first).not_to_contain_text("unknown")
    expect(inbox.locator("tbody tr").last).to_contain_text("unknown")
    expect(stats.get_by_test_id("tools")).to_contain_text("Bash")
    expect(stats.get_by_test_id("usage-agents")).to_contain_text("manager")
    expect(stats.get_by_test_id("usage-models").locator("tbody tr").first).to_be_visible()
    expect(stats.get_by_test_id("usage-days").locator("tbody tr").first).to_be_visible()


def test_the_newest_point_comes_by_itself_and_the_zoom_stays(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, "%% say one")
    stats = open_stats(page, hive, "/stats/manager/")
    page.evaluate("window.notReloaded = true")
    stats.get_by_test_id("range-1h").click()
    expect(stats).to_have_attribute("data-range", "1h")
    turns = stats.get_by_test_id("chart-turns")
    expect(turns.get_by_test_id("value-turns")).to_have_text("1")
    whole = read_span(page)
    wait_for(lambda: 3500 < read_span(page)[1] - read_span(page)[0] < 3800, "the hour to be shown", hive=hive)

    drag(page, stats.get_by_test_id("chart-inbox"))
    expect(page.get_by_test_id("span")).to_contain_text("zoomed in")
    zoomed = read_span(page)
    assert zoomed[1] - zoomed[0] < (whole[1] - whole[0]) / 2
    # What is counted anew is fetched by itself: the table has it, and the zoom is where it was.
    idle = stats.get_by_test_id("chart-tokens").get_by_test_id("chart-table")
    with page.expect_response(re.compile(r"/api/stats\?")):
        run_turns(hive, "%% say two")
    expect(idle).to_be_visible()
    assert read_span(page) == zoomed

    stats.get_by_test_id("zoom-out").click()
    expect(page.get_by_test_id("span")).not_to_contain_text("zoomed in")
    expect(turns.get_by_test_id("value-turns")).to_have_text("2", timeout=30_000)
    drag(page, turns)
    expect(page.get_by_test_id("span")).to_contain_text("zoomed in")
    turns.locator(".u-over").dblclick()
    expect(page.get_by_test_id("span")).not_to_contain_text("zoomed in")
    assert page.evaluate("window.notReloaded") is True


def test_a_chart_is_read_and_zoomed_by_keyboard(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, "%% say one")
    stats = open_stats(page, hive, "/stats/manager/")
    chart = stats.get_by_test_id("chart-turns")
    plot = chart.get_by_test_id("plot")
    plot.focus()
    plot.press("End")
    expect(chart.get_by_test_id("plot-status")).to_contain_text("turns ")
    told = chart.get_by_test_id("plot-status").inner_text()
    plot.press("ArrowLeft")
    expect(chart.get_by_test_id("plot-status")).not_to_have_text(told)
    plot.press("+")
    expect(page.get_by_test_id("span")).to_contain_text("zoomed in")
    plot.press("Escape")
    expect(page.get_by_test_id("span")).not_to_contain_text("zoomed in")


def test_what_is_shown_is_had_as_a_file(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, "%% say one")
    stats = open_stats(page, hive, "/stats/manager/")
    rows = download(page, stats.get_by_test_id("csv-series"), "stats-manager-series.csv")
    assert sum(float(row["turns"]) for row in rows) == 1
    assert rows[0]["inbox"] == ""
    stats.get_by_test_id("closer").click()
    expect(page.get_by_test_id("span")).to_contain_text("zoomed in")
    fewer = download(page, stats.get_by_test_id("csv-series"), "stats-manager-series.csv")
    assert 4 <= len(fewer) < len(rows) * 0.6
    models = download(page, stats.get_by_test_id("csv-models"), "stats-manager-models.csv")
    assert sum(int(row["requests"]) for row in models) >= 1


def download(page: Page, link: Locator, name: str) -> list[dict[str, str]]:
    with page.expect_download() as waited:
        link.click()
    assert waited.value.suggested_filename == name
    return list(csv.DictReader(io.StringIO(Path(waited.value.path()).read_text())))


def test_an_agents_page_has_its_stats_folded_out(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, "%% say one")
    page.goto(f"{hive.origin}/agent/manager/")
    page.get_by_test_id("prompt-text").fill("half a thou")
    page.get_by_test_id("stats-toggle").click()
    panel = page.get_by_test_id("stats-panel")
    expect(panel.get_by_test_id("chart-notes")).to_be_attached(timeout=30_000)
    assert panel.get_by_test_id("chart-turns").locator("canvas").evaluate(COUNT_COLORS) > 3
    assert panel.get_by_test_id("chart-waiting").count() == 0
    expect(page.get_by_test_id("prompt-text")).to_have_value("half a thou")


def test_a_phone_shows_the_stats_without_scrolling_sideways(page: Page, hive: HiveProcess) -> None:
    run_turns(hive, "%% say one")
    page.set_viewport_size(PHONE)
    for path in ("/stats/", "/stats/manager/"):
        stats = open_stats(page, hive, path)
        expect(stats.get_by_test_id("usage-days").locator("tbody tr").first).to_be_visible(timeout=30_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
