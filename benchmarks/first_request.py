"""From a message to the first model request of the turn it wakes, beside the bare CLI doing the same."""

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.claude import BareClaude
from benchmarks.hives import run_hive
from benchmarks.measure import Context, Rounds, Row
from benchmarks.processes import find_commands, list_container
from benchmarks.relay import Relay, run_model
from hive_process import HiveProcess, wait_for

AGENT = "bench"
ENGINE = "hyperhive.harness.engine"
_MS = 1000
# One hive each, with what makes its agent so after a turn.
_HIVES = {
    "warm": ("--warm-s", "300"),
    "cold": ("--warm-s", "0", "--hibernate-s", "0"),
    "hibernated": ("--warm-s", "0", "--hibernate-s", "1"),
}


class _Agent:
    """One agent of a hive of its own."""

    def __init__(self, hive: HiveProcess) -> None:
        self.hive = hive
        hive.post("/api/agents", {"name": AGENT})
        hive.wait_state(AGENT, "idle")
        self._client = hive.client()
        # The client's own connection is made before anything is timed.
        self._client.get("/api/agents")

    def send(self, prompt: str) -> None:
        self._client.post("/api/messages", json={"to": AGENT, "body": prompt}).raise_for_status()

    def wait_turns(self, turns: int) -> None:
        wait_for(lambda: self._row()["turns"] >= turns and self._row()["state"] != "thinking", "the turn to end")

    def count_turns(self) -> int:
        return int(self._row()["turns"])

    def wait_cold(self) -> None:
        """Until the engine and its claude have ended."""
        wait_for(lambda: not find_commands(list_container(self.hive.run, AGENT), ENGINE), "the engine to end")

    def wait_hibernated(self) -> None:
        """Until nothing of its container is left."""
        self.hive.wait_state(AGENT, "hibernated")
        wait_for(lambda: not list_container(self.hive.run, AGENT), "a hibernated agent to have no process")

    def _row(self) -> dict[str, Any]:
        return self.hive.agent(AGENT)


class _Clock:
    """Times what is done until the model is asked."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._count = 0

    def time(self, act: Callable[[str], None]) -> float:
        """Milliseconds from the call of `act` with a new prompt to the first request with it."""
        self._count += 1
        marker = f"prompt number {self._count:06d}."
        self._relay.expect(marker)
        began = time.perf_counter()
        act(marker)
        return (self._relay.wait_arrival() - began) * _MS


def measure(context: Context) -> list[Row]:
    with ExitStack() as stack:
        relay = stack.enter_context(run_model())
        warm, cold, hibernated = (
            _Agent(
                stack.enter_context(
                    run_hive(context.folder / name, "--upstream", relay.url, *flags, ANTHROPIC_API_KEY="dummy")
                )
            )
            for name, flags in _HIVES.items()
        )
        bare = BareClaude(relay.url, context.folder / "home")
        stack.callback(bare.close)
        rounds = Rounds()
        clock = _Clock(relay)
        bare.open()
        # The first of each begins a conversation, and finds nothing in the disk's cache.
        _run_round(clock, bare, warm, cold, hibernated, Rounds())
        for _ in range(context.choose(9, 3)):
            _run_round(clock, bare, warm, cold, hibernated, rounds)
    return _plan_rows(rounds)


def _run_round(clock: _Clock, bare: BareClaude, warm: _Agent, cold: _Agent, hibernated: _Agent, rounds: Rounds) -> None:
    bare_turns: list[subprocess.Popen[str]] = []
    rounds.add("bare cold", clock.time(lambda prompt: bare_turns.append(bare.start_turn(prompt))))
    bare.end_turn(bare_turns[0])
    rounds.add("hive cold", _time_turn(clock, cold, cold.send))
    cold.wait_cold()
    hibernated.wait_hibernated()
    rounds.add("hive hibernated", _time_turn(clock, hibernated, hibernated.send))
    hibernated.wait_cold()
    rounds.add("bare warm", clock.time(bare.prompt))
    bare.wait_result()
    rounds.add("hive warm", _time_turn(clock, warm, warm.send))


def _time_turn(clock: _Clock, agent: _Agent, act: Callable[[str], None]) -> float:
    turns = agent.count_turns()
    elapsed_ms = clock.time(act)
    agent.wait_turns(turns + 1)
    return elapsed_ms


def _plan_rows(rounds: Rounds) -> list[Row]:
    def show(name: str) -> str:
        return f"{rounds.median(name):.0f} ms"

    cold = f"`claude -p --resume`: {show('bare cold')}"
    return [
        Row(
            "message → first model request, claude open",
            show("hive warm"),
            f"a prompt to an open claude: {show('bare warm')}",
            rounds.render_ratio("hive warm", "bare warm"),
            "≤ 1.5",
        ),
        Row("the same, claude not open", show("hive cold"), cold, rounds.render_ratio("hive cold", "bare cold")),
        Row(
            "the same, hibernated: no process, container to be started",
            show("hive hibernated"),
            cold,
            rounds.render_ratio("hive hibernated", "bare cold"),
            "≤ 3",
        ),
    ]
