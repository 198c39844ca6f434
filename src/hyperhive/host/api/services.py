"""What the routes need, in one place: filled by the assembly."""

import asyncio
from dataclasses import dataclass

from hyperhive.host.agents import Agents
from hyperhive.host.approvals import Approvals
from hyperhive.host.broker import Broker
from hyperhive.host.config_views import ConfigViews
from hyperhive.host.drafts import Drafts
from hyperhive.host.feed import Feed
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.questions import Questions
from hyperhive.host.review import Reviews
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
    reviews: Reviews
    agents: Agents
    lifecycle: Lifecycle
    config_views: ConfigViews
    drafts: Drafts
    kept: Kept
    transcripts: Transcripts
    sessions: Sessions
    shutdown: asyncio.Event
