"""What the hive costs while nothing happens: memory of its processes, CPU of the daemon."""

import sys
import time
from contextlib import ExitStack

from benchmarks.claude import BareClaude
from benchmarks.first_request import AGENT, ENGINE
from benchmarks.hives import Link, list_daemon, run_hive
from benchmarks.measure import Context, Row
from benchmarks.processes import (
    Memory,
    end_program,
    find_commands,
    list_container,
    list_descendants,
    observe_all_spent,
    observe_memory,
    start_program,
)
from benchmarks.relay import run_model
from benchmarks.sockets import Sockets
from hive_process import HiveProcess

_CONNECTED = 100
_REGISTERED = 1000
# The least that a Python service can be.
_BARE_LOOP = "import asyncio, sys; print(flush=True); sys.stdin.read()"
_BARE_SERVER = "import fastapi, uvicorn, httpx, sys; print(flush=True); sys.stdin.read()"


def measure(context: Context) -> list[Row]:
    return [*_measure_agent(context), *_measure_daemon(context)]


def _measure_agent(context: Context) -> list[Row]:
    with ExitStack() as stack:
        relay = stack.enter_context(run_model())
        flags = ("--upstream", relay.url, "--warm-s", "300")
        hive = stack.enter_context(run_hive(context.folder / "agent", *flags, ANTHROPIC_API_KEY="dummy"))
        hive.post("/api/agents", {"name": AGENT})
        hive.wait_state(AGENT, "idle")
        idle = observe_memory(list_container(hive.run, AGENT))
        hive.post("/api/messages", {"to": AGENT, "body": "a first turn"})
        hive.wait_state(AGENT, "thinking")
        hive.wait_state(AGENT, "idle")
        processes = list_container(hive.run, AGENT)
        warm = observe_memory(processes)
        engine = observe_memory(find_commands(processes, ENGINE)[:1])
        bare = BareClaude(relay.url, context.folder / "home")
        bare.open()
        stack.callback(bare.close)
        bare.prompt("a first turn")
        bare.wait_result()
        bare_claude = observe_memory(list_descendants(bare.pid))
    bare_loop = _measure_bare(_BARE_LOOP)
    return [
        _plan_row("PSS of an idle agent: harness and sandbox", idle, "a bare asyncio program", bare_loop, "≤ 20 MB"),
        _plan_row("PSS of a warm agent: also the engine and claude", warm, "an open claude alone", bare_claude),
        Row("of that the engine", str(engine)),
    ]


def _measure_daemon(context: Context) -> list[Row]:
    names = [f"a{index}" for index in range(_REGISTERED)]
    seconds = context.choose(20, 8)
    with run_hive(context.folder / "daemon", names=names[:1]) as small:
        alone = observe_memory(list_daemon(small))
        alone_cpu = _measure_cpu(small, seconds)
    with run_hive(context.folder / "full", names=names) as hive:
        sockets = Sockets()
        links = [Link(sockets, hive, name) for name in names[:_CONNECTED]]
        sockets.pump_until(lambda: all(link.ready for link in links))
        for link in links:
            link.write(link.plan_recv(lambda _: None))
        full_cpu = _measure_cpu(hive, seconds)
        full = observe_memory(list_daemon(hive))
        sockets.close()
    bare = _measure_bare(_BARE_SERVER)
    what = f"{_CONNECTED} agents connected, {_REGISTERED} registered"
    peer = "importing fastapi, uvicorn and httpx"
    return [
        _plan_row("PSS of daemon and helper, one agent registered", alone, peer, bare),
        _plan_row(f"PSS of daemon and helper, {what}", full, peer, bare, "≤ 120 MB"),
        Row("CPU of both while idle, one agent registered", f"{alone_cpu:.2%} of a core"),
        Row(f"CPU of both while idle, {what}", f"{full_cpu:.2%} of a core", goal="≤ 0.5 %"),
    ]


def _plan_row(what: str, ours: Memory, peer: str, theirs: Memory, goal: str = "") -> Row:
    return Row(what, str(ours), f"{peer}: {theirs}", f"{ours.pss_mb / theirs.pss_mb:.2f}", goal)


def _measure_cpu(hive: HiveProcess, seconds: int) -> float:
    """The share of a core that the daemon and its helper use when they are left alone."""
    # What the start left to do is over by then.
    time.sleep(3)
    pids = list_daemon(hive)
    before = observe_all_spent(pids)
    time.sleep(seconds)
    return (observe_all_spent(pids) - before).cpu_s / seconds


def _measure_bare(program: str) -> Memory:
    process = start_program([sys.executable, "-I", "-c", program])
    assert process.stdout is not None
    process.stdout.readline()
    memory = observe_memory([process.pid])
    end_program(process)
    return memory
