"""/api/budget, and what an agent is granted: what may be spent, and more of it."""

from fastapi import APIRouter

from hyperhive.core.parking import EVERYONE
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.budgets import Budget, BudgetRequest, GrantRequest


def budget_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["budgets"])
    budgets = services.budgets

    @routes.get("/api/budget")
    async def list_budgets() -> list[Budget]:
        """The hive's (`*`), then those of agents that have one or spent something within 24 hours."""
        return await budgets.list_budgets()

    @routes.put("/api/budget")
    async def set_hive_budget(request: BudgetRequest) -> Budget:
        """Sets the hive's budget, at once. An agent's own stands in its config."""
        return await budgets.set_hive_budget(request.tokens_per_day, request.usd_per_day)

    @routes.post("/api/budget/grant")
    async def grant_hive(request: GrantRequest) -> Budget:
        """Lets the hive spend more for 24 hours."""
        return await budgets.grant(EVERYONE, request.tokens, request.usd)

    @routes.post("/api/agents/{name}/grant")
    async def grant_agent(name: Name, request: GrantRequest) -> Budget:
        """Lets an agent spend more of its own budget for 24 hours; the hive's holds all the same."""
        return await budgets.grant(name, request.tokens, request.usd)

    return routes
