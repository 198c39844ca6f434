"""/api/quotas: what agents may take of the hive, what they take, and an allowance for one of them."""

from fastapi import APIRouter

from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.quotas import AgentQuotas, AllowRequest


def quota_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    quotas = services.quotas

    @routes.get("/api/quotas")
    async def list_quotas() -> list[AgentQuotas]:
        """Of all agents; of one whose folders were never measured that is done now."""
        return await quotas.list_quotas()

    @routes.get("/api/quotas/{name}")
    async def get_quotas(name: Name) -> AgentQuotas:
        """Of one agent."""
        return await quotas.get_quotas(name)

    @routes.post("/api/quotas/{name}/allow")
    async def allow(name: Name, request: AllowRequest) -> AgentQuotas:
        """Lets its folders hold more for a while, and starts it again if it was stopped for them."""
        return await quotas.allow(name, request.size_bytes, request.for_s)

    return routes
