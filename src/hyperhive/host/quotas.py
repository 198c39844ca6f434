"""The quotas of agents as the operator sees them: how much of each is used, and what the operator lets one exceed."""

from hyperhive.core.events import Event, EventName
from hyperhive.core.names import container_name, parse_known_agent_name
from hyperhive.core.quotas import ENTRIES_LIMIT, Quota, Unit, Use
from hyperhive.core.reminders import WAITING_LIMIT
from hyperhive.core.terminals import TERMINALS_LIMIT
from hyperhive.host.agent_records import get_agent
from hyperhive.host.disk_quotas import DiskQuotas, DiskView
from hyperhive.host.drivers.protocol import Driver, DriverError
from hyperhive.host.gateway import Gateway
from hyperhive.host.leases import count_queued
from hyperhive.host.link_quotas import LinkQuotas
from hyperhive.host.log_watch import LogWatch
from hyperhive.host.protection import Protection
from hyperhive.host.questions import OPEN_LIMIT
from hyperhive.host.sends import AGENTS_LIMIT
from hyperhive.host.store.store import Store, View
from hyperhive.host.terminals import Terminals
from hyperhive.host.throttles import Throttles
from hyperhive.host.transcripts import KEPT_LIMIT_BYTES, Transcripts
from hyperhive.wire.operator import quotas as wire


class Quotas:
    def __init__(
        self,
        store: Store,
        disk: DiskQuotas,
        links: LinkQuotas,
        gateway: Gateway,
        terminals: Terminals,
        transcripts: Transcripts,
        protection: Protection,
        logs: LogWatch,
        throttles: Throttles,
        driver: Driver,
    ) -> None:
        self._store = store
        self._disk = disk
        self._links = links
        self._gateway = gateway
        self._terminals = terminals
        self._transcripts = transcripts
        self._protection = protection
        self._logs = logs
        self._throttles = throttles
        self._driver = driver

    def on_event(self, event: Event) -> None:
        """The feed's listener: of an agent that is gone for good nothing is remembered."""
        if event.name is EventName.AGENT_PURGED and event.agent is not None:
            for part in (self._links, self._gateway, self._throttles):
                part.forget(event.agent)

    async def list_quotas(self) -> list[wire.AgentQuotas]:
        """Of all agents that are not destroyed. Raises StorageError."""
        rows = await self._store.read(lambda view: view.list("list_agents"))
        return [await self.get_quotas(row["name"]) for row in rows]

    async def get_quotas(self, name: str) -> wire.AgentQuotas:
        """Of one agent. Raises NotFoundError."""
        parse_known_agent_name(name)
        record, counted = await self._store.read(lambda view: (get_agent(view, name), _count(view, name)))
        disk = await self._disk.view(name)
        kept_bytes = await self._transcripts.find_kept_bytes(name)
        uses = [
            *await self._list_container(name),
            *_list_disk(disk),
            self._protection.find_use(name),
            *counted,
            Use(Quota.TRANSCRIPT, Unit.BYTES, kept_bytes, KEPT_LIMIT_BYTES),
            *self._links.list_uses(name),
            *self._gateway.list_uses(name),
            Use(Quota.TERMINALS, Unit.COUNT, self._terminals.count_open(name), TERMINALS_LIMIT),
            await self._logs.find_use(name),
        ]
        return wire.AgentQuotas(
            agent=name,
            over=record.over_quota,
            allowed_until=disk.allowed_until,
            quotas=[wire.QuotaUse(quota=use.quota, unit=use.unit, used=use.used, limit=use.limit) for use in uses],
        )

    async def _list_container(self, name: str) -> list[Use]:
        """What the kernel counts of its container; nothing while that does not run, or where nothing is counted."""
        try:
            usage = await self._driver.find_usage(container_name(name))
        except DriverError:
            return []
        memory = Use(Quota.MEMORY, Unit.BYTES, usage.memory_bytes, usage.memory_limit_bytes)
        tasks = Use(Quota.TASKS, Unit.COUNT, usage.tasks, usage.tasks_limit)
        return [use for use in (memory, tasks) if use.used is not None]

    async def allow(self, name: str, size_bytes: int, for_s: float) -> wire.AgentQuotas:
        """Lets an agent's folders hold so much for a while; one that was stopped for them starts again.

        Raises NotFoundError, InvalidInputError, and ConflictError if they hold even more.
        """
        await self._disk.allow(name, size_bytes, for_s)
        return await self.get_quotas(name)


def _list_disk(disk: DiskView) -> list[Use]:
    return [
        Use(Quota.DISK, Unit.BYTES, disk.use.size_bytes, disk.limit_bytes),
        Use(Quota.FILES, Unit.COUNT, disk.use.entries, ENTRIES_LIMIT),
    ]


def _count(view: View, name: str) -> list[Use]:
    asked = int(view.get("count_open_to_operator", agent=name, kind="question")["open"])
    reminders = int(view.get("count_waiting_reminders", agent=name)["waiting"])
    return [
        Use(Quota.INBOX, Unit.COUNT, count_queued(view, name), AGENTS_LIMIT),
        Use(Quota.QUESTIONS, Unit.COUNT, asked, OPEN_LIMIT),
        Use(Quota.REMINDERS, Unit.COUNT, reminders, WAITING_LIMIT),
    ]
