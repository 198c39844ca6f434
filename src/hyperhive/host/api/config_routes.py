"""/api/agent-config, /api/config-schema, /api/drafts: what agents run with, and what is being prepared."""

from typing import Any

from fastapi import APIRouter

from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_approval
from hyperhive.wire.operator.agents import Draft
from hyperhive.wire.operator.configs import (
    AgentConfigView,
    Approval,
    ConfigVersion,
    PolicyCheckRequest,
    PolicyDecision,
    RevertRequest,
)


def config_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["configs"])
    views = services.config_views

    @routes.get("/api/agent-config/{name}")
    async def show_config(name: Name) -> AgentConfigView:
        """The config that is deployed for an agent, and what that lets it do."""
        return await views.view(name)

    @routes.get("/api/agent-config/{name}/history")
    async def list_history(name: Name) -> list[ConfigVersion]:
        """What was deployed, failed or was denied, the newest first."""
        return await views.history(name)

    @routes.post("/api/agent-config/{name}/revert", status_code=201)
    async def revert(name: Name, request: RevertRequest) -> Approval:
        """Brings back what was deployed once, as an approval of its own that is approved already."""
        return show_approval(await services.approvals.revert(name, request.to))

    @routes.post("/api/agent-config/{name}/check")
    async def check_policy(name: Name, request: PolicyCheckRequest) -> PolicyDecision:
        """Whether the agent would be allowed to, and which rule says so. Nothing is done."""
        return await views.check(name, request)

    @routes.get("/api/config-schema")
    async def show_schema() -> dict[str, Any]:
        """The JSON Schema of agent.toml, or of the options of agent.nix."""
        return views.render_schema()

    @routes.get("/api/drafts")
    async def list_drafts() -> list[Draft]:
        return await services.drafts.list_drafts()

    @routes.delete("/api/drafts/{name}", status_code=204)
    async def discard_draft(name: Name) -> None:
        """Removes a draft with its folders. What was proposed of it and waits becomes failed."""
        await services.drafts.discard(name)

    return routes
