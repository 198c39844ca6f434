"""kill -9 of the daemon and of harnesses under load, as often as wanted: `python swarm_kills.py --kills N --seed S`.

Every second kill is the daemon's: while it works or while it starts, sometimes together with harnesses that are started
anew meanwhile, as a machine that went down would do. The others are those of a few harnesses. What is killed when is
drawn by the seed; what was under way then is not.
"""

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hive_process import HiveProcess
from swarm_rig import Swarm, check_promises, list_names, read_pss_bytes, run_swarm

# After a start it takes a second until all agents are back.
_WORK_LIMIT_S, _HARNESSES_WORK_LIMIT_S = 2.0, 0.5
_START_LIMIT_S = 1.5
_HARNESSES_LIMIT = 12


@dataclass(slots=True)
class Outcome:
    """`pss_bytes` is the most that the daemon had in any of its lives."""

    kills: Counter[str] = field(default_factory=Counter[str])
    confirmed: int = 0
    acked: int = 0
    came_again: int = 0
    repeated_sends: int = 0
    pss_bytes: int = 0

    def render(self) -> str:
        kills = ", ".join(f"{count} of {what}" for what, count in sorted(self.kills.items()))
        return (
            f"kills: {kills}; {self.confirmed} confirmed sends, {self.repeated_sends} repeated, {self.acked} acked, "
            f"{self.came_again} came again; at most {self.pss_bytes >> 20} MiB"
        )


class _Killer:
    def __init__(self, hive: HiveProcess, swarm: Swarm, seed: int, outcome: Outcome) -> None:
        self._hive = hive
        self._swarm = swarm
        self._random = Random(seed)
        self._outcome = outcome
        self._generation = 1

    def kill(self) -> None:
        names = self._random.sample(list_names(), self._random.randint(1, _HARNESSES_LIMIT))
        [what] = self._random.choices(("daemon", "daemon at start", "daemon and harnesses", "harnesses"), (5, 2, 2, 11))
        # A moment that nothing else decides: to wait for a condition here would be to choose what is under way.
        time.sleep(self._random.uniform(0, _HARNESSES_WORK_LIMIT_S if what == "harnesses" else _WORK_LIMIT_S))
        self._outcome.kills[what] += 1
        if what == "harnesses":
            self._swarm.vanish(names)
            return
        self._outcome.pss_bytes = max(self._outcome.pss_bytes, read_pss_bytes(self._hive))
        self._hive.kill()
        if what == "daemon at start":
            self._start_and_kill(self._random.uniform(0, _START_LIMIT_S))
        elif what == "daemon and harnesses":
            self._swarm.vanish(names, lambda: self._renew(names))
        self._hive.start()

    def _start_and_kill(self, after_s: float) -> None:
        starting = threading.Thread(target=self._try_start)
        before = self._hive.process
        starting.start()
        while (process := self._hive.process) is before:
            time.sleep(0.001)
        time.sleep(after_s)
        assert process is not None
        process.kill()
        starting.join()
        process.wait()

    def _try_start(self) -> None:
        # It says nothing if it is killed before it is ready.
        with contextlib.suppress(AssertionError):
            self._hive.start()

    def _renew(self, names: list[str]) -> None:
        """As if their containers had been started again."""
        self._generation += 1
        with closing(sqlite3.connect(self._hive.data / "hive.sqlite")) as connection, connection:
            connection.executemany(
                "update agents set generation = ? where name = ?", [(self._generation, name) for name in names]
            )
        self._swarm.set_generation(names, self._generation)


def run_kills(kills: int, seed: int) -> Outcome:
    """Raises AssertionError for a broken promise."""
    print(f"seed {seed}", flush=True)
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="hive-") as folder, run_swarm(Path(folder), seed) as (hive, swarm):
        killer = _Killer(hive, swarm, seed, outcome)
        for _ in range(kills):
            killer.kill()
            swarm.check()
        check_promises(hive, swarm)
        history = swarm.history
    outcome.confirmed, outcome.acked = len(history.confirmed), len(history.acked)
    outcome.came_again, outcome.repeated_sends = history.came_again, history.repeated_sends
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="kills the daemon and harnesses, and looks for what is lost")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    seed, done = options.seed, 0
    while done < options.kills:
        # A hive of its own for each fifty: the history is kept in memory.
        print(run_kills(min(50, options.kills - done), seed).render(), flush=True)
        done, seed = done + 50, seed + 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
