"""The application: all routes, one error form, one OpenAPI document."""

from fastapi import Depends, FastAPI

from hyperhive import __version__
from hyperhive.host.api.agent_routes import agent_routes
from hyperhive.host.api.audit_routes import audit_routes
from hyperhive.host.api.budget_routes import budget_routes
from hyperhive.host.api.config_routes import config_routes
from hyperhive.host.api.decision_routes import decision_routes
from hyperhive.host.api.egress_routes import egress_routes
from hyperhive.host.api.errors import RESPONSES, add_error_handlers
from hyperhive.host.api.hive_routes import hive_routes
from hyperhive.host.api.image_routes import image_routes
from hyperhive.host.api.login_routes import login_routes
from hyperhive.host.api.message_routes import message_routes
from hyperhive.host.api.needs_routes import needs_routes
from hyperhive.host.api.notes_routes import notes_routes
from hyperhive.host.api.notifier_routes import notifier_routes
from hyperhive.host.api.pages import page_routes
from hyperhive.host.api.push_routes import push_routes
from hyperhive.host.api.quota_routes import quota_routes
from hyperhive.host.api.record_routes import record_routes
from hyperhive.host.api.schedule_routes import schedule_routes
from hyperhive.host.api.scopes import check_scopes
from hyperhive.host.api.services import Services
from hyperhive.host.api.snapshot_routes import snapshot_routes
from hyperhive.host.api.state_routes import state_routes
from hyperhive.host.api.stats_routes import stats_routes
from hyperhive.host.api.stream import stream_routes
from hyperhive.host.api.terminal_routes import terminal_routes
from hyperhive.host.api.token_routes import token_routes
from hyperhive.host.api.turn_routes import turn_routes
from hyperhive.host.api.update_routes import update_routes
from hyperhive.host.api.watch_routes import watch_routes
from hyperhive.host.api.webhook_routes import webhook_routes


def create_app(services: Services) -> FastAPI:
    """The operator's API and pages. It checks no session: the listener it is put behind does (see `guard`)."""
    app = FastAPI(
        title="hyperhive",
        version=__version__,
        summary="The operator's API.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
        dependencies=[Depends(check_scopes(services.tokens, services.audit))],
    )
    add_error_handlers(app)
    for routes in (
        hive_routes,
        # Before agent_routes, where `/api/agents/{name}/{act}` takes any other act for a wrong one.
        turn_routes,
        terminal_routes,
        budget_routes,
        login_routes,
        update_routes,
        agent_routes,
        config_routes,
        notes_routes,
        record_routes,
        audit_routes,
        state_routes,
        snapshot_routes,
        image_routes,
        stats_routes,
        egress_routes,
        quota_routes,
        schedule_routes,
        message_routes,
        decision_routes,
        needs_routes,
        push_routes,
        notifier_routes,
        stream_routes,
        token_routes,
        watch_routes,
        webhook_routes,
    ):
        app.include_router(routes(services))
    app.include_router(page_routes(rehearsal=services.hive.rehearsal))
    return app
