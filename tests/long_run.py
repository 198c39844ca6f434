"""The long run: one agent works for many turns while everything happens to it that days would bring.

All is real but the model and the account: the daemon, the container, the claude CLI. Messages are numbered; of each
the agent writes the number into its ledger and sends it to the operator, so that every handling is counted. What
happens with which message is drawn by a seed. `long_run_checks` says what has to be true at the end.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

from hive_process import HiveProcess, end_hive, wait_for
from long_run_checks import AGENT, Evidence, Expected, find_problems, load_evidence, query, read_ledger
from oauth_rig import OAuth, run_messages, run_oauth
from proposer import Proposer, read_generation

NO_CREDENTIAL = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""}
# Within this a message is handled, whatever else the machine does.
PATIENCE_S = 120.0
# Beyond the reset: the most that agents wait so that not all come back at once.
JITTER_LIMIT_S = 60.0
WAITING_MESSAGES = 2
FEWEST_TURNS = 25
USAGE = "%% usage input=1000 output=20 cache_read=20000"
FULL = "%% usage input=1000 output=20 cache_read=900000"
BUDGET_LEFT_TOKENS = 500_000
GRANT_TOKENS = 100_000_000


class Trouble(StrEnum):
    FULL = "the context is full"
    DAEMON_KILLED = "the daemon is killed in the turn"
    DAEMON_ENDED = "the daemon is ended and started again in the turn"
    CONTAINER_KILLED = "the container is killed in the turn"
    LIMIT = "the usage limit is reached in the turn"
    LOGIN = "the login is dead"
    BUDGET = "the budget runs out in the turn"


# By which a message comes again.
TAKING = frozenset({Trouble.CONTAINER_KILLED, Trouble.LIMIT, Trouble.LOGIN, Trouble.BUDGET})
PARKING = {Trouble.LIMIT: "limit", Trouble.LOGIN: "login", Trouble.BUDGET: "budget"}


@dataclass(frozen=True, slots=True)
class Options:
    """`limit_ahead_s` is how far ahead the usage limit's reset is when it is hit."""

    turns: int = 200
    seed: int = 1
    compactions: int = 5
    limit_ahead_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    problems: list[str]
    figures: dict[str, Any]


def plan_troubles(options: Options) -> dict[int, Trouble]:
    """Which trouble comes with which turn: each once, but for full contexts."""
    rng = Random(options.seed)
    troubles = [Trouble.FULL] * options.compactions + [trouble for trouble in Trouble if trouble is not Trouble.FULL]
    rng.shuffle(troubles)
    # The first turns make a conversation, the last shows that all is well again.
    turns = sorted(rng.sample(range(3, options.turns), len(troubles)))
    return dict(zip(turns, troubles, strict=True))


def render_script(number: int, *, first: str = "", second: str = "", last: str = "") -> str:
    """A message in whose turn the model is asked three times. `first` and so on change these answers.

    The last answer has no text of its own: in a turn with several messages the next one's script goes on there.
    """
    ledger = json.dumps({"command": f'echo "{number} $(date +%s%3N)" >> /state/ledger'})
    answer = json.dumps({"to": "operator", "body": f"handled {number}"})
    lines = [
        f"message {number}",
        *(USAGE, first, f"%% tool Bash {ledger}"),
        *(USAGE, second, f"%% tool send {answer}"),
        *(USAGE, last),
    ]
    return "\n".join(line for line in lines if line)


@dataclass
class LongRun:
    """The run on a hive that `open_long_run` made. `tell` gets a line for whoever watches."""

    options: Options
    hive: HiveProcess
    oauth: OAuth
    manager: Proposer
    tell: Callable[[str], None]
    sent: dict[int, int] = field(default_factory=dict[int, int])
    limit_resets_at: int = 0

    def run(self) -> Outcome:
        """Raises AssertionError if the run itself cannot go on."""
        began_s = time.monotonic()
        plan = plan_troubles(self.options)
        self._log_in()
        taken: dict[int, Trouble] = {}
        for turn in range(1, self.options.turns + 1):
            number = len(self.sent) + 1
            trouble = plan.get(turn)
            if trouble is None:
                self._wait_acked(self._send(render_script(number)))
            else:
                self.tell(f"turn {turn}: {trouble}")
                self._acts[trouble](number)
                if trouble in TAKING:
                    taken[number] = trouble
            if turn % 20 == 0:
                self.tell(f"turn {turn} of {self.options.turns}, {time.monotonic() - began_s:.0f} s")
        row = self._wait_quiet()
        evidence = load_evidence(self.hive.data)
        expected = Expected(
            sent=self.sent,
            redelivered=frozenset(taken),
            crashed=frozenset(number for number, trouble in taken.items() if trouble is Trouble.CONTAINER_KILLED),
            parks=[PARKING[trouble] for trouble in plan.values() if trouble in PARKING],
            facts={
                "parked": 1, "needs_login": 1, "budget_warned": 1, "budget_exhausted": 1, "container_crash": 1,
                "resumed": 3, "logged_in": 2,
            },
            turns=self.options.turns,
            compactions=self.options.compactions,
            limit_resets_at=self.limit_resets_at,
        )  # fmt: skip
        return Outcome(
            problems=find_problems(evidence, expected),
            figures=self._figures(evidence, row, time.monotonic() - began_s),
        )

    # -- what happens ------------------------------------------------------------------------------------------

    @property
    def _acts(self) -> dict[Trouble, Callable[[int], None]]:
        return {
            Trouble.FULL: self._fill_context,
            Trouble.DAEMON_KILLED: lambda number: self._restart_daemon(number, self.hive.kill),
            Trouble.DAEMON_ENDED: lambda number: self._restart_daemon(number, self._end_daemon),
            Trouble.CONTAINER_KILLED: self._kill_container,
            Trouble.LIMIT: self._reach_limit,
            Trouble.LOGIN: self._lose_login,
            Trouble.BUDGET: self._spend_budget,
        }

    def _fill_context(self, number: int) -> None:
        before = self._count_compacted()
        self._wait_acked(self._send(render_script(number, last=FULL)))
        wait_for(lambda: self._count_compacted() > before, "the compaction", PATIENCE_S, self.hive)

    def _restart_daemon(self, number: int, end: Callable[[], object]) -> None:
        self._send(render_script(number, second="%% sleep 3"))
        self._wait_begun(number)
        end()
        self.hive.start()
        self._wait_acked(number)

    def _end_daemon(self) -> None:
        assert self.hive.stop() == 0

    def _kill_container(self, number: int) -> None:
        self._send(render_script(number, second="%% sleep 300 first-delivery"))
        self._wait_begun(number)
        container = json.loads((self.hive.run / "containers" / AGENT / "container.json").read_text())
        os.kill(container["init"]["pid"], signal.SIGKILL)
        self._wait_acked(number)

    def _reach_limit(self, number: int) -> None:
        self.limit_resets_at = round(time.time() + self.options.limit_ahead_s)
        limit = f"%% ratelimit rejected always first-delivery resets={self.limit_resets_at}"
        self._send(render_script(number, second=limit))
        late = self._wait_parked("limit")
        self._wait_acked(number, *late, timeout_s=self.options.limit_ahead_s + JITTER_LIMIT_S + PATIENCE_S)

    def _lose_login(self, number: int) -> None:
        self.oauth.control(expire=True, kill_refresh=True)
        self._send(render_script(number))
        late = self._wait_parked("login")
        self.hive.wait_state(AGENT, "needs_login")
        self._log_in()
        self._wait_acked(number, *late)

    def _spend_budget(self, number: int) -> None:
        spent = self.hive.agent(AGENT)["day_tokens"]
        budget = spent + BUDGET_LEFT_TOKENS
        self._deploy(f"budget.tokens_per_day = {budget}\n")
        wait_for(lambda: self.hive.agent(AGENT)["budget_tokens"] == budget, "the budget", PATIENCE_S, self.hive)
        # First over four fifths, if it is not there already, then over all of it.
        warned = max(1000, budget * 85 // 100 - spent)
        first = f"%% usage input={warned} output=20 first-delivery"
        # Not at once: one that is over all of it before it was seen near it is told of that alone.
        second = f"%% sleep 1\n%% usage input={budget - spent - warned} output=20 first-delivery"
        self._send(render_script(number, first=first, second=second))
        late = self._wait_parked("budget")
        self.hive.post(f"/api/agents/{AGENT}/grant", {"tokens": GRANT_TOKENS})
        self._wait_acked(number, *late)

    # -- what the operator does --------------------------------------------------------------------------------

    def _log_in(self) -> None:
        url = self.hive.post(f"/api/agents/{AGENT}/login")["url"]
        login = self.hive.post(f"/api/agents/{AGENT}/login/code", {"code": self.oauth.get_code(url)})
        assert login["kind"] == "own", login

    def _deploy(self, toml: str) -> None:
        # The daemon may be another one than last time.
        self.manager.connect()
        number, _commit = self.manager.propose(AGENT, {"agent.toml": toml})
        self.hive.post(f"/api/approvals/{number}/approve")
        ended = wait_for(
            lambda: (row := self.hive.get(f"/api/approvals/{number}"))["status"] in {"deployed", "failed"} and row,
            "the config to be deployed", PATIENCE_S, self.hive,
        )  # fmt: skip
        assert ended["status"] == "deployed", ended

    def _send(self, script: str) -> int:
        number = len(self.sent) + 1
        self.sent[number] = self.hive.post("/api/messages", {"to": AGENT, "body": script})["id"]
        return number

    # -- what is waited for ------------------------------------------------------------------------------------

    def _wait_acked(self, *numbers: int, timeout_s: float = PATIENCE_S) -> None:
        for number in numbers:
            sql = "select state from messages where id = ? and state in ('acked', 'dead')"
            (row,) = wait_for(
                lambda sql=sql, number=number: query(self.hive.data / "hive.sqlite", sql, self.sent[number]),
                f"message {number} to be handled", timeout_s, self.hive,
            )  # fmt: skip
            assert row["state"] == "acked", f"message {number} is dead"

    def _wait_begun(self, number: int) -> None:
        """Until the agent is in the midst of its turn."""
        seen = lambda: number in {noted for noted, _ in read_ledger(self.hive.data)}  # noqa: E731
        wait_for(seen, f"message {number} in the ledger", PATIENCE_S, self.hive)

    def _wait_parked(self, kind: str) -> list[int]:
        """Until the agent is parked; then some messages more are sent, whose numbers are returned."""

        def parked() -> bool:
            row = self.hive.agent(AGENT)
            return row["park"] is not None and row["park"]["kind"] == kind and row["waiting"] > 0

        wait_for(parked, f"{AGENT} to be parked for {kind}", PATIENCE_S, self.hive)
        self.tell(f"  parked: {self.hive.agent(AGENT)['park']['reason']}")
        return [self._send(render_script(len(self.sent) + 1)) for _ in range(WAITING_MESSAGES)]

    def _count_compacted(self) -> int:
        sql = (
            "select count(*) as ended from transcripts where agent = ? and kind = 'turn.ended' "
            "and json_extract(body, '$.purpose') = 'compact'"
        )
        return query(self.hive.data / "telemetry.sqlite", sql, AGENT)[0]["ended"]

    def _wait_quiet(self) -> dict[str, Any]:
        """Until all is done, and the daemon has all that the agent's transcript has. The agent's row then."""

        def quiet() -> dict[str, Any] | None:
            row: dict[str, Any] = self.hive.agent(AGENT)
            evidence = load_evidence(self.hive.data)
            same = len(evidence.transcript) == len(evidence.own_transcript)
            done = all(message["state"] == "acked" for message in evidence.sent_to("system", AGENT))
            at_rest = row["state"] == "idle" and row["waiting"] == 0 and row["park"] is None
            return row if same and done and at_rest else None

        return wait_for(quiet, "the end", PATIENCE_S, self.hive)

    def _figures(self, evidence: Evidence, row: dict[str, Any], wall_s: float) -> dict[str, Any]:
        ended = evidence.bodies("turn.ended")
        deliveries = [message["deliveries"] for message in evidence.messages if message["recipient"] == AGENT]
        return {
            "turns": len(ended),
            "by outcome": dict(Counter(f"{body.get('purpose', '-')} {body['outcome']}" for body in ended)),
            "messages": len(deliveries),
            "redeliveries": sum(deliveries) - len(deliveries),
            "handled twice": len(evidence.ledger) - len({number for number, _ in evidence.ledger}),
            "compactions": evidence.count_boundaries(),
            "last seq": len(evidence.transcript),
            "work tokens": row["day_tokens"],
            "wall time": f"{wall_s:.1f} s",
        }


@contextlib.contextmanager
def open_long_run(options: Options, tell: Callable[[str], None]) -> Generator[LongRun]:
    """Starts both stand-ins and a hive without a credential of its own, with one agent; ends all of it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-")))
        oauth = stack.enter_context(contextlib.contextmanager(run_oauth)(folder / "oauth"))
        upstream = stack.enter_context(contextlib.contextmanager(run_messages)("--tokens", str(oauth.tokens)))
        ca = folder / "ca.pem"
        ca.write_bytes(oauth.ca.read_bytes())
        ca.chmod(0o644)
        flags = ("--upstream", upstream, "--egress-map", oauth.egress_map, "--ca-file", str(ca))
        hive = HiveProcess(folder / "data", flags, NO_CREDENTIAL).start()
        stack.callback(end_hive, hive)
        manager = Proposer(hive, folder / "copies")
        stack.callback(manager.close)
        hive.wait_state("manager", "idle")
        # Its part is played here: nobody else asks for anything.
        hive.post("/api/agents/manager/stop")
        hive.wait_state("manager", "stopped")
        manager.generation = read_generation(hive)
        hive.post("/api/agents", {"name": AGENT})
        hive.wait_state(AGENT, "idle")
        try:
            yield LongRun(options, hive, oauth, manager, tell)
        except AssertionError:
            # It is gone with the folder: what the agent's harness said is what one wants to read then.
            tell(hive.get(f"/api/journal/{AGENT}")["text"][-4000:])
            raise


def render_outcome(outcome: Outcome) -> Iterable[str]:
    for name, value in outcome.figures.items():
        yield f"{name}: {value}"
    yield from (f"NOT KEPT: {problem}" for problem in outcome.problems)
    yield "all promises kept" if not outcome.problems else f"{len(outcome.problems)} promises not kept"


def _parse_arguments() -> Options:
    parser = argparse.ArgumentParser(prog="scripts/long-run", description=__doc__)
    parser.add_argument("--turns", type=int, default=200, help=f"at least {FEWEST_TURNS}; 200 if not named")
    parser.add_argument("--seed", type=int, default=1, help="decides what happens when")
    options = parser.parse_args()
    if options.turns < FEWEST_TURNS:
        parser.error(f"--turns: at least {FEWEST_TURNS}")
    return Options(turns=options.turns, seed=options.seed)


def main() -> None:
    """Exit status 0 if all promises were kept."""
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    options = _parse_arguments()

    def tell(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    tell(f"{options.turns} turns, seed {options.seed}")
    with open_long_run(options, tell) as long_run:
        outcome = long_run.run()
    for line in render_outcome(outcome):
        tell(line)
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
