"""The built pages: one document for every address a person may open, and its assets."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

PAGES = Path(__file__).parent / "pages"

_DOCUMENTS = ("/agent/", "/stats/", "/approvals/", "/questions/", "/threads/")
_ICONS = frozenset({"icon-192.png", "icon-512.png", "icon-maskable-512.png"})
_OFFLINE = frozenset({"offline.html", "offline.css", "offline.js"})
_SINGLE = frozenset(
    {
        *("/", "/login", "/stats", "/programs", "/programs/", "/audit", "/audit/"),
        *("/favicon.svg", "/sw.js", "/manifest.webmanifest", "/healthz", "/readyz"),
    }
)
# Longer than any of ours: a file system refuses long names with an error.
_NAME_LIMIT_CHARS = 100
# Their names change with their content.
_ASSET_CACHE = "public, max-age=31536000, immutable"


def is_page(path: str) -> bool:
    """Whether `path` is shown without a session: documents and assets, which hold nothing of the hive."""
    if path[1:] in _ICONS or path[1:] in _OFFLINE:
        return True
    return path in _SINGLE or path.startswith("/assets/") or path.startswith(_DOCUMENTS)


def page_routes(*, rehearsal: bool) -> APIRouter:
    """The documents and assets. A document says by itself that this is a rehearsal: the login page asks nothing."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    @routes.get("/agent/{name}")
    @routes.get("/agent/{name}/")
    @routes.get("/programs/")
    @routes.get("/audit/")
    @routes.get("/stats/")
    @routes.get("/stats/{name}")
    @routes.get("/stats/{name}/")
    @routes.get("/approvals/{name}")
    @routes.get("/questions/{name}")
    @routes.get("/threads/{name}")
    async def show_document() -> Response:
        document = _file("index.html", "no-cache")
        if not rehearsal or not isinstance(document, FileResponse):
            return document
        text = (PAGES / "index.html").read_text(encoding="utf-8")
        marked = text.replace("<html ", "<html data-rehearsal ", 1)
        return HTMLResponse(marked, headers={"cache-control": "no-cache"})

    @routes.get("/favicon.svg")
    async def show_icon() -> Response:
        return _file("favicon.svg", "no-cache")

    @routes.get("/sw.js")
    async def show_worker() -> Response:
        # At the root, as a service worker rules what is below its own address; asked for anew each time, as an old
        # one would stay for good. Its fetches are bound by the policy that it comes with.
        return _file("sw.js", "no-cache")

    @routes.get("/manifest.webmanifest")
    async def show_manifest() -> Response:
        # iOS has web push only for pages that were put on the home screen, and this is what makes them one.
        return _file("manifest.webmanifest", "no-cache")

    @routes.get("/offline.{kind}")
    async def show_offline(kind: str) -> Response:
        # What the worker keeps for when the hive does not answer.
        name = f"offline.{kind}"
        return _file(name if name in _OFFLINE else "", "no-cache")

    @routes.get("/icon-{kind}.png")
    async def show_png(kind: str) -> Response:
        name = f"icon-{kind}.png"
        return _file(name if name in _ICONS else "", "no-cache")

    @routes.get("/assets/{name}")
    async def show_asset(name: str) -> Response:
        return _file(f"assets/{name}", _ASSET_CACHE)

    return routes


def _file(name: str, cache: str) -> Response:
    # `name` is one path segment, so that it cannot climb; what is not a plain file there does not exist.
    path = PAGES / name
    if len(name) <= _NAME_LIMIT_CHARS and path.is_file() and not path.is_symlink():
        return FileResponse(path, headers={"cache-control": cache})
    if (PAGES / "index.html").is_file():
        return PlainTextResponse("not found\n", status_code=404)
    return PlainTextResponse("the pages are not built: run ./hive once\n", status_code=503)
