"""/api/egress: what agents asked of the egress proxy, and what the operator lets them reach beside their configs."""

from typing import Annotated

from fastapi import APIRouter, Query

from hyperhive.host.api.message_routes import Id
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_approval
from hyperhive.wire.operator.configs import Approval
from hyperhive.wire.operator.records import EgressGrant, EgressGrantRequest, EgressProposalRequest, EgressRequest

Agent = Annotated[str, Query(max_length=200)]


def egress_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    grants = services.egress_grants

    @routes.get("/api/egress")
    async def list_egress(
        agent: Agent = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[EgressRequest]:
        """The last requests that ended, the newest first; of all agents without `agent`."""
        return await services.egress.list_requests(agent, limit)

    @routes.get("/api/egress/grants")
    async def list_grants(agent: Agent = "") -> list[EgressGrant]:
        """What holds now, of all agents without `agent`."""
        return await grants.list_grants(agent)

    @routes.post("/api/egress/grants", status_code=201)
    async def grant(request: EgressGrantRequest) -> EgressGrant:
        """Lets an agent reach a host for some minutes, whatever its config says; again sets the end anew."""
        return await grants.grant(request.agent, request.host, request.port, request.minutes)

    @routes.delete("/api/egress/grants/{grant_id}", status_code=204)
    async def revoke(grant_id: Id) -> None:
        """Ends a grant before its time, and the connections that go on by it."""
        await grants.revoke(grant_id)

    @routes.post("/api/egress/proposals", status_code=201)
    async def propose(request: EgressProposalRequest) -> Approval:
        """Asks the operator to add an entry to an agent's network.allow: an approval like any other."""
        return show_approval(await services.egress_proposals.propose(request.agent, request.entry))

    return routes
