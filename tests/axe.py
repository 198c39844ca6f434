"""axe-core in a page: what it finds wrong with it for assistive technology, for contrast, for structure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

SOURCE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"

# All that WCAG 2.2 asks for up to AA, and axe's own best practices.
OPTIONS: dict[str, Any] = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "preload": False,
    "resultTypes": ["violations"],
}

RUN = """async (options) => {
  const found = await axe.run(document, options);
  return found.violations.map(({ id, help, nodes }) => ({
    id, help, nodes: nodes.map((node) => `${node.target.join(' ')} ${node.html.slice(0, 160)} ${node.failureSummary}`),
  }));
}"""


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    help: str
    nodes: tuple[str, ...]


def find_violations(page: Page) -> list[Violation]:
    """What is wrong with the page as it is shown now. Fails when axe-core is not installed."""
    if not page.evaluate("typeof window.axe === 'object'"):
        # Evaluated and not added as an element, which the pages' policy refuses.
        page.evaluate(SOURCE.read_text(encoding="utf-8"))
    return [Violation(found["id"], found["help"], tuple(found["nodes"])) for found in page.evaluate(RUN, OPTIONS)]
