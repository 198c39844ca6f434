"""Figures for Prometheus, found when they are asked for. The only labels are agents' names and words of this program.

What was counted begins anew with each daemon, as Prometheus expects of a counter.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hyperhive import __version__
from hyperhive.core.events import Event
from hyperhive.host.feed import Feed
from hyperhive.host.roster import Roster
from hyperhive.host.store.store import Store, View
from hyperhive.wire.operator.agents import AgentRow

# As Prometheus reads it; what the library writes.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TOKEN_KINDS = ("input", "output", "cache_write", "cache_read")


@dataclass(frozen=True, slots=True)
class Levels:
    """What the store says now."""

    messages: int
    dead_letters: int
    pending_approvals: int
    open_questions: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown at one moment. `model` is by agent and kind: the tokens, requests, failures, micro_usd."""

    driver: str
    rows: Sequence[AgentRow]
    connected: int
    watchers: int
    levels: Levels
    write_s: float
    events: Mapping[str, int]
    model: Mapping[tuple[str, str], int]
    # what the folders of each agent held when they were last measured
    disk: Mapping[str, int] = field(default_factory=dict[str, int])


class Metrics:
    """To be loaded once, before anything is asked of the model."""

    def __init__(
        self,
        store: Store,
        telemetry: Store,
        roster: Roster,
        feed: Feed,
        driver: str,
        monotonic_s: Callable[[], float] = time.monotonic,
        find_disk_bytes: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """`find_disk_bytes` gives what an agent's folders hold, if it was measured."""
        self._find_disk_bytes = find_disk_bytes
        self._store = store
        self._telemetry = telemetry
        self._roster = roster
        self._feed = feed
        self._driver = driver
        self._monotonic_s = monotonic_s
        self._events = Counter[str]()
        self._model = Counter[tuple[str, str]]()
        self._request_id = 0

    async def load(self) -> None:
        row = await self._telemetry.read(lambda view: view.get("newest_model_request_id"))
        self._request_id = int(row["id"])

    def on_event(self, event: Event) -> None:
        """Told each fact but those of messages that come and go: of these, their ids tell how many there were."""
        self._events[event.name.value] += 1

    async def render(self) -> bytes:
        """All figures in Prometheus' text format. Raises StorageError if the database takes no change."""
        await self._count_requests()
        rows = await self._roster.rows()
        began_s = self._monotonic_s()
        await self._store.write(lambda _: None)
        write_s = self._monotonic_s() - began_s
        figures = Figures(
            driver=self._driver,
            rows=rows,
            connected=len(self._roster.online()),
            watchers=self._feed.watchers,
            levels=await self._store.read(_look),
            write_s=write_s,
            events=self._events,
            model=self._model,
            disk={row.name: size for row in rows if (size := self._find_disk_bytes(row.name)) is not None},
        )
        return render_figures(figures)

    async def _count_requests(self) -> None:
        # Of two who ask at once only the first counts: nothing is awaited between the comparison and the new number.
        after = self._request_id
        rows = await self._telemetry.read(lambda view: view.list("sum_model_requests", after=after))
        if after != self._request_id:
            return
        for row in rows:
            agent = row["agent"]
            self._request_id = max(self._request_id, int(row["newest"]))
            self._model[agent, "requests"] += int(row["model_requests"])
            self._model[agent, "failures"] += int(row["model_failures"])
            self._model[agent, "micro_usd"] += int(row["micro_usd"])
            for kind in _TOKEN_KINDS:
                self._model[agent, kind] += int(row[f"{kind}_tokens"])


def render_figures(figures: Figures) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    of_agents = [*_agent_metrics(figures.rows), *_model_metrics(figures), _disk_metric(figures)]
    registry.register(_Once([*_hive_metrics(figures), *of_agents]))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _look(view: View) -> Levels:
    return Levels(
        messages=int(view.get("newest_message_id")["id"]),
        dead_letters=int(view.get("count_dead_letters")["dead"]),
        pending_approvals=int(view.get("count_pending_approvals")["pending"]),
        open_questions=int(view.get("count_all_open_questions")["open"]),
    )


def _hive_metrics(figures: Figures) -> list[Metric]:
    levels = figures.levels
    return [
        _gauge("hive_info", "1; the labels tell.", ("version", "driver"), {(__version__, figures.driver): 1}),
        _gauge(
            "hive_agents",
            "Agents by state.",
            ("state",),
            {(state,): count for state, count in Counter(row.state for row in figures.rows).items()},
        ),
        _gauge("hive_agents_connected", "Agents whose harness is connected.", (), {(): figures.connected}),
        _gauge("hive_event_streams", "Open event streams of pages and programs.", (), {(): figures.watchers}),
        _gauge("hive_approvals_pending", "Approvals that wait.", (), {(): levels.pending_approvals}),
        _gauge("hive_questions_open", "Questions to the operator that wait.", (), {(): levels.open_questions}),
        _gauge(
            "hive_dead_letters", "Messages that were given up and wait for the operator.", (), {(): levels.dead_letters}
        ),
        _gauge("hive_write_seconds", "What a change waited for the writer just now.", (), {(): figures.write_s}),
        _counter("hive_messages", "Messages ever sent.", (), {(): levels.messages}),
        _counter(
            "hive_events",
            "Facts of the hive by name since the daemon started, without those of single messages.",
            ("name",),
            {(name,): count for name, count in figures.events.items()},
        ),
    ]


def _agent_metrics(rows: Sequence[AgentRow]) -> list[Metric]:
    label = ("agent",)
    return [
        _gauge("hive_agent_waiting_messages", "Messages queued for it.", label, {(r.name,): r.waiting for r in rows}),
        _gauge(
            "hive_agent_parked", "1 while it runs no turns.", label, {(r.name,): int(r.park is not None) for r in rows}
        ),
        _gauge(
            "hive_agent_needs_update",
            "1 while what runs is not what is deployed and installed.",
            label,
            {(r.name,): int(bool(r.needs_update)) for r in rows},
        ),
        _gauge(
            "hive_agent_context_tokens", "Of the last inference.", label, {(r.name,): r.context_tokens for r in rows}
        ),
        _gauge(
            "hive_agent_day_tokens", "Charged in the last 24 hours.", label, {(r.name,): r.day_tokens for r in rows}
        ),
        _gauge("hive_agent_day_usd", "Spent in the last 24 hours.", label, {(r.name,): r.day_usd for r in rows}),
        _counter("hive_agent_turns", "Turns ended since it was spawned.", label, {(r.name,): r.turns for r in rows}),
    ]


def _disk_metric(figures: Figures) -> Metric:
    sizes = {(name,): size for name, size in figures.disk.items()}
    return _gauge("hive_agent_disk_bytes", "What its folders held when they were last measured.", ("agent",), sizes)


def _model_metrics(figures: Figures) -> list[Metric]:
    """Of agents that are there: those that are gone take their figures with them."""
    names = [row.name for row in figures.rows]

    def pick(kind: str, unit: float = 1) -> dict[tuple[str, ...], float]:
        return {(name,): figures.model.get((name, kind), 0) * unit for name in names}

    tokens = {(name, kind): figures.model.get((name, kind), 0) for name in names for kind in _TOKEN_KINDS}
    since = "since the daemon started"
    return [
        _counter("hive_model_requests", f"Requests to the model {since}.", ("agent",), pick("requests")),
        _counter("hive_model_failures", f"Those that failed {since}.", ("agent",), pick("failures")),
        _counter("hive_model_usd", f"What they cost {since}, by the price table.", ("agent",), pick("micro_usd", 1e-6)),
        _counter("hive_model_tokens", f"Tokens by kind {since}.", ("agent", "kind"), tokens),
    ]


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    return _fill(GaugeMetricFamily(name, text, labels=labels), values)


def _counter(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    return _fill(CounterMetricFamily(name, text, labels=labels), values)


def _fill(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily | CounterMetricFamily:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
