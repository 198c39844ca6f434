"""Each agent's page at its historical port, if the operator wants that: a listener that sends browsers to the page.

The page itself stays where the guard and the session are. Who was there first has a port that several agents share;
the others' new versions are refused, as its own are, until the operator has renamed one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from hyperhive.core.errors import ConflictError
from hyperhive.core.events import Event, EventName
from hyperhive.core.ports import LOOPBACK_HOSTS, find_agent_port, find_collisions
from hyperhive.host.feed import Feed, Item
from hyperhive.host.store.rows import to_agent
from hyperhive.host.store.store import Store, View
from hyperhive.system.redirects import RedirectListener, Redirects

log = structlog.get_logger(__name__)

# A port that another program has may be free by then.
RETRY_S = 5.0
# Notification is the optimisation, this the guarantee.
LOOK_EVERY_S = 300.0

CheckPort = Callable[[View, str], None]

_COMES_OR_GOES = frozenset(
    {
        EventName.AGENT_SPAWNED,
        EventName.AGENT_REVIVED,
        EventName.AGENT_DESTROYED,
        EventName.AGENT_PURGED,
        # A spawn that failed is a draft again.
        EventName.DRAFT_CREATED,
    }
)


def allow_any_port(_view: View, _name: str) -> None:
    """Where ports are no matter."""


class AgentPorts:
    """Nothing of it works, and nothing is refused, unless it is `enabled`. To be run once `place` has been called."""

    def __init__(self, store: Store, feed: Feed, *, enabled: bool, retry_s: float = RETRY_S) -> None:
        self.enabled = enabled
        self._store = store
        self._feed = feed
        self._retry_s = retry_s
        self._redirects = Redirects()
        self._dashboard_port = 0
        self._open: dict[int, tuple[str, RedirectListener]] = {}
        self._problems: list[str] = []
        self._woken = asyncio.Event()

    def place(self, dashboard_port: int) -> None:
        """Says where the pages are."""
        self._dashboard_port = dashboard_port

    def list_problems(self) -> list[str]:
        """Which agents have no page at their port, each with the reason and what to do."""
        return list(self._problems)

    # -- what is refused -----------------------------------------------------------------------------------

    def check_new(self, view: View, name: str) -> None:
        """Raises ConflictError if an agent `name` that comes to be, or comes back, would have no port of its own."""
        port = find_agent_port(name)
        if self.enabled and port == self._dashboard_port:
            raise ConflictError(
                f"{name} would have port {port}, which is the dashboard's",
                "choose another name, or start the hive with another port",
            )
        others = self._list_sharing(view, name)
        if others:
            raise ConflictError(f"{_join([*others, name])} would have the same port, {port}", "choose another name")

    def check_rebuild(self, view: View, name: str) -> None:
        """Raises ConflictError if the agent `name` shares its port with another: nothing new of it is to run."""
        others = self._list_sharing(view, name)
        if others:
            names = _join([name, *others])
            raise ConflictError(f"{names} have the same port, {find_agent_port(name)}", _RENAME)

    def _list_sharing(self, view: View, name: str) -> list[str]:
        if not self.enabled:
            return []
        port = find_agent_port(name)
        return [other for other in _list_names(view) if other != name and find_agent_port(other) == port]

    # -- the listeners -------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if event.name in _COMES_OR_GOES:
            self._woken.set()

    async def run_forever(self) -> None:
        """Keeps a listener for each agent, for as long as the daemon runs."""
        while True:
            self._woken.clear()
            is_complete = await self.converge()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if is_complete else self._retry_s):
                    await self._woken.wait()

    async def converge(self) -> bool:
        """Opens and closes listeners until each agent has its own. False if a port could not be had."""
        names = await self._store.read(_list_names)
        wanted = self._plan(names)
        for port, (name, listener) in list(self._open.items()):
            if wanted.get(port) != name:
                listener.close()
                del self._open[port]
        missing = [(port, name) for port, name in wanted.items() if port not in self._open]
        faults = [fault for port, name in missing if (fault := self._listen(port, name))]
        self._tell(self._list_lasting(names) + faults)
        return not faults

    async def close(self) -> None:
        for _, listener in self._open.values():
            listener.close()
        self._open.clear()
        await self._redirects.close()

    def _plan(self, names: Sequence[str]) -> Mapping[int, str]:
        """Who is to have each port: of several the first."""
        wanted: dict[int, str] = {}
        for name in names:
            wanted.setdefault(find_agent_port(name), name)
        wanted.pop(self._dashboard_port, None)
        return wanted

    def _listen(self, port: int, name: str) -> str:
        """Opens a listener. Returns why it cannot, as the operator is told; empty if it is there."""
        try:
            listener = self._redirects.listen(port, partial(self._decide_page, name, port))
        except OSError as error:
            reason = error.strerror or str(error)
            return f"{name} has no page at its port {port} ({reason}): end the program that has it, it is tried again"
        self._open[port] = (name, listener)
        return ""

    def _decide_page(self, name: str, port: int, hosts: Sequence[str]) -> str:
        """Where a browser that asked `hosts` finds the page: at the name it used, if that is one of ours."""
        host = next((host for host in LOOPBACK_HOSTS if list(hosts) == [f"{host}:{port}"]), LOOPBACK_HOSTS[0])
        return f"http://{host}:{self._dashboard_port}/agent/{name}/"

    # -- what is told --------------------------------------------------------------------------------------

    def _list_lasting(self, names: Sequence[str]) -> list[str]:
        """What only the operator mends."""
        port = self._dashboard_port
        hidden = [name for name in names if find_agent_port(name) == port]
        return [
            *(f"{name} has no page at its port {port}, which is the dashboard's: {_MOVE}" for name in hidden),
            *(f"{_join(same.names)} have the same port, {same.port}: {_RENAME}" for same in find_collisions(names)),
        ]

    def _tell(self, problems: list[str]) -> None:
        if problems == self._problems:
            return
        for problem in problems:
            if problem not in self._problems:
                log.warning("ports.problem", problem=problem)
        self._problems = problems
        self._feed.publish(Item("ports", {}))


_RENAME = "destroy one and spawn it under another name"
_MOVE = "start the hive with another port"


def _list_names(view: View) -> list[str]:
    """The agents that are not destroyed, by age: who was there first keeps its port."""
    agents = [to_agent(row) for row in view.list("list_agents")]
    return [agent.name for agent in sorted(agents, key=lambda agent: (agent.spawned_at, agent.name))]


def _join(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
