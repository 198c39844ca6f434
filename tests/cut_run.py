"""Power cuts of the broker, as many as wanted: `python cut_run.py [--cuts N] [--seed S]`.

A hive lives, is cut, and goes on from what the disk has kept, twenty times; then it is drained and another one begins,
so that a fault can be repeated from a short start. After each cut a copy is opened and looked into. All is drawn by the
seed; the moment of a cut by the clock is not quite, nor is what the threads do.
"""

import argparse
import asyncio
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from cut_broker import Life
from cut_checks import Found, Promises, look_into
from hyperhive.core.errors import HiveError
from power_cut import Disk, Mercy, compile_disk, read_log, save_survivors

CUTS_OF_A_HIVE = 20
# Nothing takes so long: a life that neither speaks nor ends hangs.
SILENCE_LIMIT_S = 60.0
LIFE_LIMIT_S = 0.3
Synchronous = Literal["FULL", "NORMAL"]


class Lives:
    """The process that forks the lives."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("cut_broker.py")],
            env=os.environ | {"LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        self._unread = b""

    def run(self, life: Life, kill_after_s: float, promises: Promises) -> int:
        """Returns the exit status. It is killed so long after it is ready, unless that is infinite."""
        os.write(self._input, life.render().encode() + b"\n")
        kill_at_s = math.inf
        while True:
            for what in self._read(kill_at_s - time.monotonic()):
                if isinstance(what, dict):
                    return int(cast("dict[str, int]", what)["ended"])
                promises.hear(what)
                if what == ["ready"]:
                    kill_at_s = time.monotonic() + kill_after_s
            if time.monotonic() >= kill_at_s:
                os.write(self._input, b"kill\n")
                kill_at_s = math.inf

    def _read(self, timeout_s: float) -> list[Any]:
        """What was said meanwhile."""
        readable, _, _ = select.select([self._output], [], [], min(max(timeout_s, 0.0), SILENCE_LIMIT_S))
        if not readable:
            assert timeout_s < SILENCE_LIMIT_S, "a life hangs"
            return []
        new = os.read(self._output, 1 << 20)
        assert new, "the process that forks the lives is gone"
        *lines, self._unread = (self._unread + new).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._process.communicate(timeout=SILENCE_LIMIT_S)


@dataclass(slots=True)
class Outcome:
    """What has happened in all hives. `broken` has the broken promises, `where` the cuts that hit something of note."""

    cuts: int = 0
    sent: int = 0
    acked: int = 0
    where: Counter[str] = field(default_factory=Counter[str])
    broken: list[str] = field(default_factory=list[str])

    def render(self) -> str:
        where = ", ".join(f"{count} {name}" for name, count in sorted(self.where.items()))
        return f"{self.cuts} cuts, {self.sent} confirmed sends, {self.acked} confirmed acks; cuts: {where}"


class Hive:
    """One hive through its lives, in `folder`."""

    def __init__(self, folder: Path, lives: Lives, seed: int, synchronous: Synchronous, outcome: Outcome) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._lives = lives
        self._seed = seed
        self._random = Random(seed)
        self._synchronous: Synchronous = synchronous
        self._outcome = outcome
        self._promises = Promises(seed)
        self._number = 0
        self._autocheckpoint_pages = self._random.choice((None, 8, 40))
        save_survivors({}, self._data)

    def cut(self) -> None:
        """One life and its cut."""
        # A new database is made and brought to its schema just once.
        weights = (15, 45, 40) if self._number else (80, 10, 10)
        [way] = self._random.choices(("at start", "at a change", "by the clock"), weights)
        changes = math.ceil(math.exp(self._random.uniform(0, math.log(3000))))
        # For whoever has to find out what went wrong: with the log, all states of the disk can be made again.
        shutil.rmtree(self._folder / "before", ignore_errors=True)
        shutil.copytree(self._data, self._folder / "before")
        disk = Disk(self._data)
        status = self._live(
            cut_at_start=changes if way == "at start" else 0,
            cut_when_ready=changes if way == "at a change" else 0,
            kill_after_s=self._random.uniform(0, LIFE_LIMIT_S) if way == "by the clock" else LIFE_LIMIT_S,
        )
        self._tell_if(status != -signal.SIGKILL, f"the life ended by itself: {status}")
        disk.follow(read_log(self._log))
        for name in disk.find_unlogged(self._data):
            self._tell_if(True, f"{name} is not as the log of the disk says")
        mercy = self._random.choice(tuple(Mercy))
        self._note(way, disk, mercy)
        save_survivors(disk.cut(self._random, mercy), self._data)
        self._outcome.cuts += 1
        self._check(f"{way}, left was {mercy.value}")

    def drain(self) -> None:
        """Lets all be received that is left."""
        status = self._live(drains=True, kill_after_s=math.inf)
        self._tell_if(status != 0, f"the last life ended with {status}")
        found = self._check("drained")
        if found is not None:
            for undelivered in self._promises.find_undelivered(found):
                self._tell_if(True, undelivered)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _live(
        self, *, cut_at_start: int = 0, cut_when_ready: int = 0, kill_after_s: float, drains: bool = False
    ) -> int:
        self._number += 1
        self._log.unlink(missing_ok=True)
        life = Life(
            number=self._number,
            folder=str(self._data),
            log=str(self._log),
            seed=self._seed,
            synchronous=self._synchronous,
            sync_limit_us=self._random.choice((0, 300, 2000)),
            autocheckpoint_pages=self._autocheckpoint_pages,
            cut_at_start=cut_at_start,
            cut_when_ready=cut_when_ready,
            session_s=self._random.choice((0.0, 0.01, 0.05)),
            drains=drains,
            next=self._promises.list_next(),
        )
        sent, acked = len(self._promises.sent), len(self._promises.acked)
        status = self._lives.run(life, kill_after_s, self._promises)
        self._outcome.sent += len(self._promises.sent) - sent
        self._outcome.acked += len(self._promises.acked) - acked
        return status

    def _note(self, way: str, disk: Disk, mercy: Mercy) -> None:
        where = self._outcome.where
        where[way] += 1
        where["in a commit"] += disk.count_coming("hive.sqlite-wal") > 0
        where["in a checkpoint"] += disk.count_coming("hive.sqlite") > 0
        where["with names on their way"] += disk.count_coming_names() > 0
        where["torn"] += mercy is not Mercy.NOTHING

    def _check(self, what: str) -> Found | None:
        """Looks into a copy: the next life is to find all as the disk has left it."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._data, copy)
        found = None
        try:
            found = asyncio.run(look_into(copy))
            broken = self._promises.find_broken(found)
        except HiveError as error:
            broken = [error.message]
        for promise in broken:
            self._tell_if(True, f"{promise} ({what})")
        return found

    def _tell_if(self, is_broken: bool, what: str) -> None:
        if is_broken:
            self._outcome.broken.append(f"seed {self._seed}, life {self._number}: {what}")


@contextmanager
def open_lives() -> Generator[tuple[Lives, Path]]:
    """The process that forks, and a folder for its hives."""
    # The files in memory where that can be, since the disk is only played; no code is run from there in containers.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="power-cut-") as code,
        tempfile.TemporaryDirectory(prefix="power-cut-", dir=memory) as data,
    ):
        lives = Lives(compile_disk(Path(code)))
        try:
            yield lives, Path(data)
        finally:
            lives.close()


def run_cuts(cuts: int, seed: int, synchronous: Synchronous = "FULL", keep: Path | None = None) -> Generator[Outcome]:
    """After each cut: what has happened so far. Goes on after a broken promise if it is asked to.

    What a broken one left is put into the folder `keep`: `before` the life, its `log`, and what was on the disk then.
    """
    outcome = Outcome()
    with open_lives() as (lives, folder):
        while outcome.cuts < cuts:
            hive = Hive(folder / "hive", lives, seed, synchronous, outcome)
            for _ in range(min(CUTS_OF_A_HIVE, cuts - outcome.cuts)):
                hive.cut()
                _keep_evidence(folder / "hive", keep, outcome)
                yield outcome
            hive.drain()
            _keep_evidence(folder / "hive", keep, outcome)
            yield outcome
            seed += 1


def _keep_evidence(folder: Path, keep: Path | None, outcome: Outcome) -> None:
    if outcome.broken and keep is not None and not keep.exists():
        shutil.copytree(folder, keep)


def main() -> int:
    parser = argparse.ArgumentParser(description="cuts the power of the broker and looks for what is lost")
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parser.add_argument("--keep", type=Path, help="a folder to be made of what a broken promise left")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    outcome = Outcome()
    told = 0
    with closing(run_cuts(options.cuts, options.seed, options.synchronous, options.keep)) as run:
        for outcome in run:
            if outcome.broken:
                break
            if outcome.cuts >= told + 100:
                told = outcome.cuts
                print(outcome.render(), flush=True)
    print(outcome.render())
    print("\n".join(outcome.broken[:20]) or "every promise was kept")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
