"""/api/agents/NAME/login: the login of an agent's claude, in two steps."""

from typing import Annotated

from fastapi import APIRouter, Path

from hyperhive.host.api.services import Services
from hyperhive.wire.operator.agents import Login, LoginCode, LoginStarted

# Validated by `core.names` in the service; the bound only keeps error messages short.
Name = Annotated[str, Path(max_length=200)]


def login_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    logins = services.logins

    @routes.post("/api/agents/{name}/login")
    async def start_login(name: Name) -> LoginStarted:
        """Begins a login, or finds the one that was begun. The operator opens the link and gets a code there."""
        return await logins.start(name)

    @routes.post("/api/agents/{name}/login/code")
    async def finish_login(name: Name, code: LoginCode) -> Login:
        """Ends the login with the code. A code that claude does not take ends it, too: begin it again."""
        return await logins.finish(name, code.code)

    @routes.delete("/api/agents/{name}/login", status_code=204)
    async def cancel_login(name: Name) -> None:
        await logins.cancel(name)

    return routes
