"""A page that is opened while the hive does not run says so; what the worker keeps is that page and nothing else."""

from playwright.sync_api import Page, expect

from hive_process import HiveProcess

KEPT = """async () => {
  const found = [];
  for (const name of await caches.keys())
    for (const request of await (await caches.open(name)).keys()) found.push(new URL(request.url).pathname);
  return found.sort();
}"""


def test_without_the_hive_a_page_says_so_and_the_hive_shows_again_when_it_is_back(
    page: Page, hive: HiveProcess
) -> None:
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    page.goto(f"{hive.origin}/agent/manager/")
    expect(page.get_by_test_id("agent-state")).to_be_visible(timeout=20_000)
    hive.stop()
    page.goto(f"{hive.origin}/agent/manager/")
    expect(page.get_by_text("the hive is not reachable")).to_be_visible(timeout=20_000)
    assert page.evaluate("getComputedStyle(document.body).fontFamily").count("monospace") > 0
    hive.start()
    expect(page.get_by_test_id("agent-state")).to_be_visible(timeout=60_000)
    assert page.evaluate(KEPT) == ["/favicon.svg", "/offline.css", "/offline.html", "/offline.js"]
