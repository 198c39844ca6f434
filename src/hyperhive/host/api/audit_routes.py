"""/api/audit: who did what."""

import json
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from hyperhive.core.audit import AuditRow
from hyperhive.host.api.services import Services
from hyperhive.host.audit import Search
from hyperhive.system.clock import from_millis
from hyperhive.wire.operator.audit import AuditEntry, AuditPage

Word = Annotated[str, Query(max_length=200)]


def audit_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["hive"])

    @routes.get("/api/audit")
    async def list_audit(
        agent: Word = "",
        actor: Annotated[str, Query(max_length=200, description="Or its first words.")] = "",
        name: Annotated[str, Query(max_length=200, description="With * for any, such as approval.*")] = "",
        grep: Annotated[str, Query(max_length=200, description="Whatever the case.")] = "",
        since: AwareDatetime | None = None,
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditPage:
        """The rows below number `before`, the newest first; a search goes through so many at a time."""
        page = await services.audit.list_rows(Search(agent, actor, name, grep, since), before, limit)
        return AuditPage(entries=[_show(row) for row in page.rows], before=page.before)

    return routes


def _show(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=from_millis(row.at),
        actor=row.actor,
        name=row.name,
        agent=row.agent,
        body=json.loads(row.body),
        hash=row.hash,
    )
