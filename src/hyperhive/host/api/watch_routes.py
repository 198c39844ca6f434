"""/readyz, /metrics: for what watches over the hive from outside."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from hyperhive.host.api.services import Services
from hyperhive.host.metrics import CONTENT_TYPE
from hyperhive.wire.operator.hive import Ready


def watch_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["watching"])

    @routes.get("/readyz", include_in_schema=False)
    async def show_ready() -> JSONResponse:
        """Whether the hive can do its work: 503 if it cannot. Needs no session."""
        faults = await services.readiness.find_faults()
        body = Ready(ready=not faults, reasons=list(faults))
        return JSONResponse(body.model_dump(), status_code=503 if faults else 200)

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(await services.metrics.render(), media_type=CONTENT_TYPE)

    return routes
