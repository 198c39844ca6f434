"""/api/pause, /api/resume, /api/model: whether agents run turns, and with which model."""

from fastapi import APIRouter

from hyperhive.core.parking import EVERYONE
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_park
from hyperhive.wire.operator.agents import ModelRequest, Park, PauseRequest
from hyperhive.wire.operator.base import Accepted


def turn_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["turns"])
    acts = services.turn_acts

    @routes.post("/api/pause")
    async def pause_hive(request: PauseRequest) -> Park:
        """Keeps every agent from running turns until the hive is resumed. Running turns go on."""
        return show_park(await acts.pause(EVERYONE, request.reason))

    @routes.post("/api/resume", status_code=204)
    async def resume_hive() -> None:
        """Ends what parks the whole hive. What parks one agent stays, and so does a spent budget: 409 tells of it."""
        await acts.resume(EVERYONE)

    @routes.post("/api/agents/{name}/pause")
    async def pause_agent(name: Name, request: PauseRequest) -> Park:
        """Keeps an agent from running turns until it is resumed. A running turn goes on."""
        return show_park(await acts.pause(name, request.reason))

    @routes.post("/api/agents/{name}/resume", status_code=204)
    async def resume_agent(name: Name) -> None:
        """Ends what parks the agent. 409 if its budget is spent or the hive is parked; all else has ended then."""
        await acts.resume(name)

    @routes.post("/api/agents/{name}/compact")
    async def compact_agent(name: Name) -> Accepted:
        """Has the agent compact its conversation once no turn runs; not accepted: there is none to compact."""
        return Accepted(accepted=await acts.compact(name))

    @routes.post("/api/model/{name}", status_code=204)
    async def choose_model(name: Name, request: ModelRequest) -> None:
        """Chooses the model of an agent from its next turn on."""
        await acts.choose_model(name, request.model)

    return routes
