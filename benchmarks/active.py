"""A hive at work: many agents registered, some of them at turn after turn, some awake and idle, most hibernated."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.hives import list_daemon, run_hive
from benchmarks.measure import Context, Row
from benchmarks.processes import list_container, observe_all_spent, observe_memory, observe_spent
from hive_process import HiveProcess, wait_for
from hyperhive.testing.fake_claude import install_fake_claude

_REGISTERED = 100
_IDLE = 10
# One message for each active agent in this time.
_PERIOD_S = 5.0
_START_TIMEOUT_S = 180.0
# A turn as they mostly are: something is run, somebody is told, an answer is given.
_TURN = """\
%% tool Bash {"command": "echo done", "description": "works"}
%% tool send {"to": "operator", "body": "it is done"}
%% say done"""


@dataclass(frozen=True, slots=True)
class _Load:
    """What a time under load cost: of the daemon, and of the containers of all active agents together."""

    seconds: float
    turns: int
    daemon_s: float
    containers_s: float


def measure(context: Context) -> list[Row]:
    active = [f"active-{index}" for index in range(context.choose(20, 8))]
    idle = [f"idle-{index}" for index in range(_IDLE)]
    asleep = [f"asleep-{index}" for index in range(_REGISTERED - len(active) - len(idle))]
    folder = context.folder / "active"
    folder.mkdir()
    claude = install_fake_claude(folder)
    flags = ("--upstream", "http://127.0.0.1:9", "--claude", str(claude), "--warm-s", "3600")
    names = [*active, *idle, *asleep]
    with run_hive(
        folder / "data", *flags, names=names, awake={*active, *idle}, hibernated=asleep, ANTHROPIC_API_KEY="dummy"
    ) as hive:
        wait_for(lambda: _all_rest(hive, [*active, *idle]), "the agents to start", _START_TIMEOUT_S, hive)
        # Each opens its claude: that is what a warm agent is.
        _run_load(hive, active, rounds=1)
        quiet = _watch_quiet(hive, context.choose(60, 15))
        load = _run_load(hive, active, rounds=context.choose(12, 3))
        daemon = observe_memory(list_daemon(hive))
        awake = [observe_memory(list_container(hive.run, name)) for name in idle]
        warm = [observe_memory(list_container(hive.run, name)) for name in active]
        left = sum(len(list_container(hive.run, name)) for name in asleep)
        woken_ms = _wake(hive, asleep[0])
    what = f"{_REGISTERED} registered, {len(active)} active, {_IDLE} idle, {len(asleep)} hibernated"
    own_ms = (load.daemon_s - quiet * load.seconds) / load.turns * 1000
    containers_ms = load.containers_s / load.turns * 1000
    return [
        Row(
            f"CPU of the daemon, {what}: {load.turns / load.seconds:.1f} turns/s",
            f"{load.daemon_s / load.seconds:.1%} of a core",
            f"the same hive while nothing happens: {quiet:.2%}",
        ),
        Row(
            "of that for one turn: message in, transcript, a message out",
            f"{own_ms:.1f} ms",
            f"harness, engine and fake claude for the same turn: {containers_ms:.1f} ms",
            f"{own_ms / containers_ms:.2f}",
        ),
        Row("PSS of the daemon meanwhile", str(daemon), goal="≤ 120 MB"),
        Row(
            "PSS of an idle agent among them, of one that is warm with a fake claude",
            f"{median(memory.pss_mb for memory in awake):.1f} MB, {median(memory.pss_mb for memory in warm):.1f} MB",
            goal="≤ 20 MB idle",
        ),
        Row("processes of the hibernated agents", str(left), goal="0"),
        Row("message → end of the turn of a hibernated agent", f"{woken_ms:.0f} ms"),
    ]


def _run_load(hive: HiveProcess, agents: Sequence[str], rounds: int) -> _Load:
    """Gives each agent a message in each period, evenly spread, and waits until all is done."""
    turns = _count_turns(hive, agents)
    daemon_s, containers_s = observe_all_spent(list_daemon(hive)).cpu_s, _observe_containers(hive, agents)
    began = time.monotonic()
    with hive.client() as client:
        for index in range(rounds * len(agents)):
            time.sleep(max(0.0, began + index * _PERIOD_S / len(agents) - time.monotonic()))
            message = {"to": agents[index % len(agents)], "body": _TURN}
            client.post("/api/messages", json=message).raise_for_status()
    wait_for(lambda: _all_rest(hive, agents), "the turns to end", 60, hive)
    seconds = time.monotonic() - began
    daemon_s = observe_all_spent(list_daemon(hive)).cpu_s - daemon_s
    containers_s = _observe_containers(hive, agents) - containers_s
    return _Load(seconds, _count_turns(hive, agents) - turns, daemon_s, containers_s)


def _watch_quiet(hive: HiveProcess, seconds: int) -> float:
    """The share of a core that the daemon uses when it is left alone."""
    # What the turns before left to do is over by then.
    time.sleep(3)
    before = observe_all_spent(list_daemon(hive))
    time.sleep(seconds)
    return (observe_all_spent(list_daemon(hive)) - before).cpu_s / seconds


def _wake(hive: HiveProcess, agent: str) -> float:
    """Milliseconds from a message to the end of the turn that it starts."""
    assert hive.agent(agent)["state"] == "hibernated"
    began = time.monotonic()
    hive.post("/api/messages", {"to": agent, "body": _TURN})
    wait_for(lambda: hive.agent(agent)["turns"], "the turn of a hibernated agent", 60, hive)
    return (time.monotonic() - began) * 1000


def _all_rest(hive: HiveProcess, agents: Collection[str]) -> bool:
    rows = [row for row in hive.get("/api/agents") if row["name"] in agents]
    return all(row["state"] == "idle" and not row["waiting"] for row in rows)


def _count_turns(hive: HiveProcess, agents: Collection[str]) -> int:
    return sum(row["turns"] for row in hive.get("/api/agents") if row["name"] in agents)


def _observe_containers(hive: HiveProcess, agents: Collection[str]) -> float:
    """CPU seconds of all processes that run in containers now."""
    pids = [pid for agent in agents for pid in list_container(hive.run, agent)]
    return sum(observe_spent(pid).cpu_s for pid in pids)
