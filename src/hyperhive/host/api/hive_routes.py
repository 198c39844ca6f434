"""/api/hive, /login and what only the command line may do."""

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from hyperhive.core.audit import AuditName
from hyperhive.core.errors import RefusedError
from hyperhive.core.parking import EVERYONE
from hyperhive.core.text import render_safe_line
from hyperhive.host.api.guard import cookie_name, read_cookie
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_found_park
from hyperhive.host.sessions import SESSION_LIFETIME
from hyperhive.wire.operator.hive import Hive, LoginLink, Shutdown

# Of what a browser calls itself.
PROGRAM_LIMIT_CHARS = 200


def hive_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["hive"])
    cookie = cookie_name(urlsplit(services.origin).port or 0)

    @routes.get("/api/hive")
    async def show_hive() -> Hive:
        park = show_found_park(services.parking.find(EVERYONE))
        return services.hive.model_copy(update={"park": park, "port_problems": services.ports.list_problems()})

    @routes.post("/api/logout", status_code=204)
    async def log_out(request: Request) -> Response:
        await services.sessions.close(read_cookie(request.scope, cookie))
        response = Response(status_code=204)
        response.delete_cookie(cookie)
        return response

    @routes.post("/api/login-links", status_code=201)
    async def make_login_link() -> LoginLink:
        """An address that opens one operator session. Only over the daemon's own socket."""
        return LoginLink(url=await login_url(services))

    @routes.post("/api/shutdown")
    async def shut_down() -> Shutdown:
        """Stops all agents, then the daemon. Only over the daemon's own socket."""
        left_running = await services.lifecycle.halt()
        services.shutdown.set()
        return Shutdown(left_running=left_running)

    @routes.get("/login", include_in_schema=False)
    async def log_in(request: Request, token: str = "") -> Response:
        program = render_safe_line(request.headers.get("user-agent", ""))[:PROGRAM_LIMIT_CHARS]
        try:
            session = await services.sessions.open(token, program)
        except RefusedError:
            services.audit.count_refused(AuditName.LOGIN_REFUSED)
            # The page explains what to do; the token is gone from the address bar.
            return RedirectResponse("/?login=refused", status_code=303)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            cookie,
            session,
            max_age=int(SESSION_LIFETIME.total_seconds()),
            httponly=True,
            samesite="strict",
        )
        return response

    @routes.get("/healthz", include_in_schema=False)
    async def health() -> Response:
        await services.store.read(lambda view: view.get("newest_event_id"))
        return PlainTextResponse("ok\n")

    return routes


async def login_url(services: Services) -> str:
    """A fresh address that opens one operator session."""
    return f"{services.origin}/login?token={await services.sessions.new_login_token()}"
