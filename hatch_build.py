"""Keeps a wheel without pages from being built: node builds them, not Python, and they are not committed."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = "src/hyperhive/host/api/pages/index.html"


class PagesHook(BuildHookInterface[Any]):
    """Looks for the built pages. An editable installation reads them from the checkout at run time."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is made; `version` is 'standard' or 'editable'. May end the build."""
        if version != "editable" and not (Path(self.root) / PAGES).is_file():
            self.app.abort(
                f"The pages are not built: there is no {PAGES}.\n"
                "Run `./hive version`, which builds them, or `npm ci && npm run build` in the folder web/."
            )
