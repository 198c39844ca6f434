"""What the routes need, in one place: filled by the assembly."""

import asyncio
from dataclasses import dataclass

from hyperhive.host.agent_images import AgentImages
from hyperhive.host.agent_ports import AgentPorts
from hyperhive.host.agents import Agents
from hyperhive.host.approvals import Approvals
from hyperhive.host.audit import Audit
from hyperhive.host.broker import Broker
from hyperhive.host.budgets import Budgets
from hyperhive.host.config_views import ConfigViews
from hyperhive.host.drafts import Drafts
from hyperhive.host.egress_grants import EgressGrants
from hyperhive.host.egress_log import EgressLog
from hyperhive.host.egress_proposals import EgressProposals
from hyperhive.host.feed import Feed
from hyperhive.host.journals import Journals
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.logins import Logins
from hyperhive.host.message_views import MessageViews
from hyperhive.host.metrics import Metrics
from hyperhive.host.needs import Needs
from hyperhive.host.notes import Notes
from hyperhive.host.notifier import Notifier
from hyperhive.host.parking import Parking
from hyperhive.host.protection import Protection
from hyperhive.host.push.pushes import Pushes
from hyperhive.host.questions import Questions
from hyperhive.host.quotas import Quotas
from hyperhive.host.readiness import Readiness
from hyperhive.host.review import Reviews
from hyperhive.host.schedule import Schedule
from hyperhive.host.sessions import Sessions
from hyperhive.host.snapshots.restores import Restores
from hyperhive.host.snapshots.takes import Takes
from hyperhive.host.state_files import StateFiles
from hyperhive.host.stats.stats import Stats
from hyperhive.host.store.store import Store
from hyperhive.host.system_changes import SystemChanges
from hyperhive.host.terminals import Terminals
from hyperhive.host.tokens import Tokens
from hyperhive.host.transcripts import Transcripts
from hyperhive.host.turn_acts import TurnActs
from hyperhive.host.updates import Updates
from hyperhive.host.webhooks import Webhooks
from hyperhive.wire.operator.hive import Hive


@dataclass(frozen=True, slots=True)
class Services:
    """`hive` is what GET /api/hive shows of this start; `shutdown` is set when the operator wants all to stop."""

    hive: Hive
    parking: Parking
    budgets: Budgets
    turn_acts: TurnActs
    logins: Logins
    origin: str
    store: Store
    feed: Feed
    broker: Broker
    protection: Protection
    quotas: Quotas
    message_views: MessageViews
    questions: Questions
    approvals: Approvals
    reviews: Reviews
    system_changes: SystemChanges
    audit: Audit
    agents: Agents
    ports: AgentPorts
    journals: Journals
    lifecycle: Lifecycle
    config_views: ConfigViews
    drafts: Drafts
    kept: Kept
    takes: Takes
    restores: Restores
    images: AgentImages
    notes: Notes
    needs: Needs
    notifier: Notifier
    pushes: Pushes
    transcripts: Transcripts
    state_files: StateFiles
    stats: Stats
    terminals: Terminals
    updates: Updates
    egress: EgressLog
    egress_grants: EgressGrants
    egress_proposals: EgressProposals
    schedule: Schedule
    sessions: Sessions
    tokens: Tokens
    readiness: Readiness
    metrics: Metrics
    webhooks: Webhooks
    shutdown: asyncio.Event
