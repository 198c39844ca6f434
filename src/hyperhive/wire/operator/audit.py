"""The audit: who did what, as a chain of hashes."""

from datetime import datetime
from typing import Any

from pydantic import Field

from hyperhive.wire.operator.base import Model


class AuditEntry(Model):
    """A row of the audit. Whether it is as it was recorded only `hive audit verify` tells."""

    seq: int
    at: datetime
    actor: str = Field(
        description="'hive', 'agent NAME', 'stranger', or 'operator' with how they came: 'session ID', 'token NAME', "
        "'uid N hive.sock', 'uid N host.sock', 'uid N files'."
    )
    name: str
    agent: str | None = Field(description="Whom it is about.")
    body: dict[str, Any]
    hash: str = Field(description="SHA-256 of the hash of the row before and of this row.")


class AuditPage(Model):
    """The newest first. There may be none on a page though there are some further down."""

    entries: list[AuditEntry]
    before: int | None = Field(description="Where it goes on: `before` of the next page. None: there is nothing older.")
