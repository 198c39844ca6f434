"""What the routes need, in one place: filled by the assembly."""

import asyncio
from dataclasses import dataclass

from hyperhive.host.agents import Agents
from hyperhive.host.approvals import Approvals
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.questions import Questions
from hyperhive.host.sessions import Sessions
from hyperhive.host.store.store import Store
from hyperhive.host.transcripts import Transcripts
from hyperhive.wire.operator import Hive


@dataclass(frozen=True, slots=True)
class Services:
    """`hive` is what GET /api/hive shows; `shutdown` is set when the operator wants all to stop."""

    hive: Hive
    origin: str
    store: Store
    feed: Feed
    broker: Broker
    questions: Questions
    approvals: Approvals
    agents: Agents
    transcripts: Transcripts
    sessions: Sessions
    shutdown: asyncio.Event
