"""Any sequence of proposals, decisions, reverts, stops, spawns, lost folders and crashes keeps the promises.

The daemon below its API runs on a real database and real repositories, in a process that is killed for real
(`forked_daemon`); the containers are files (`file_containers`). What must hold is in `config_promises`.

In the suite the sequences are always the same. For new ones, as many as one likes:

    MACHINE_EXAMPLES=2000 python -m pytest tests/integration/test_config_machine.py
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config_promises import (
    ENDS,
    UNBUILDABLE_FATE,
    Config,
    Known,
    Proposed,
    Seen,
    check_promises,
    hash_tables,
    look,
    make_proposed,
)
from file_containers import DIES, MUTE, REFUSED, lose_containers
from forked_daemon import ForkedDaemon, LostError, RefusedError
from git_rig import run_git
from hive_process import wait_for
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots

SPAWNED = ("ann", "bob")
# Enough to see how it came to what is wrong.
LOG_LIMIT_CHARS = 20_000
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))


@dataclass(frozen=True)
class Act:
    """One thing that somebody does, or that happens: a method of `Machine` and what it is called with."""

    method: str
    arguments: Mapping[str, Any]


def draw(weight: int, method: str, **arguments: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Act]]:
    """Acts of one kind, drawn `weight` times as often as one of weight 1."""
    return [st.builds(Act, st.just(method), st.fixed_dictionaries(arguments)) for _ in range(weight)]


AGENTS = st.sampled_from((*SPAWNED, *SPAWNED, MANAGER))
SPAWNED_AGENTS = st.sampled_from(SPAWNED)
# A mute one waits for the whole of a harness's deadline.
CHANGES = st.sampled_from((*("restart", "data", "live", "prompt") * 5, *(UNBUILDABLE_FATE, REFUSED, DIES) * 2, MUTE))
BASES = st.sampled_from(("main", "main", "main", "pending", "pending", "stale"))
DECISIONS = st.sampled_from(("approve", "deny"))
WHATEVER = st.sampled_from(
    (
        *("agents.spawn", "agents.destroy", "kept.revive", "kept.purge"),
        *("drafts.create", "drafts.discard", "approvals.request_spawn"),
    )
)
LOST = st.sampled_from(("", "", "", *SPAWNED))
STEPS = st.integers(1, 60)
PICKS = st.integers(0, 30)
# Whether the answer is waited for; without, the next act comes while this one is under way.
PATIENCE = st.booleans()

ACTS = st.one_of(
    *draw(2, "settle"),
    *draw(9, "propose", agent=AGENTS, base=BASES, change=CHANGES, pick=PICKS, patient=PATIENCE),
    *draw(1, "propose_again", pick=PICKS, patient=PATIENCE),
    *draw(4, "approve", pick=PICKS, patient=PATIENCE),
    *draw(3, "approve", pick=st.just(0), patient=PATIENCE),
    *draw(3, "approve_and_crash", pick=PICKS, at=STEPS),
    *draw(1, "deny", pick=PICKS, patient=PATIENCE),
    *draw(1, "decide_any", pick=PICKS, decision=DECISIONS, patient=PATIENCE),
    *draw(1, "decide_at_once", pick=PICKS, decided=st.lists(DECISIONS, min_size=20, max_size=20)),
    *draw(1, "decide_again", pick=PICKS),
    *draw(2, "revert", agent=AGENTS, pick=PICKS, patient=PATIENCE),
    *draw(3, "steer", agent=AGENTS, act=st.sampled_from(("start", "stop", "restart")), patient=PATIENCE),
    *draw(2, "remove", agent=SPAWNED_AGENTS, for_good=st.booleans(), patient=PATIENCE),
    *draw(1, "do_anything", agent=SPAWNED_AGENTS, what=WHATEVER),
    *draw(1, "crash_container", agent=AGENTS),
    *draw(1, "lose_folder", agent=SPAWNED_AGENTS),
    *draw(1, "slow_disk", delay_s=st.sampled_from((0.0, 0.02))),
    *draw(3, "crash", at=STEPS, power_cut=st.booleans(), again=st.one_of(st.just(0), STEPS), lost=LOST),
)


@settings(
    max_examples=EXAMPLES or 15,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(acts=st.lists(ACTS, min_size=25, max_size=50))
def test_the_promises_hold_whatever_happens_in_whatever_order(acts: Sequence[Act]) -> None:
    with run_machine() as machine:
        for act in acts:
            getattr(machine, act.method)(**act.arguments)


def test_who_waits_to_start_an_agent_does_not_start_it_once_it_is_destroyed() -> None:
    with run_machine() as machine:
        machine.steer("ann", "stop", patient=True)
        machine.propose("ann", "main", MUTE, 0, patient=True)
        machine.approve(0, patient=True)
        machine.settle()
        machine.slow_disk(0.05)
        # This takes as long as a harness has to connect, and the others wait for it.
        machine.steer("ann", "start", patient=True)
        machine.remove("ann", for_good=False, patient=False)
        wait_for(lambda: machine.look().agents["ann"]["desired"] == "stopped", "its end to begin")
        machine.steer("ann", "start", patient=False)


def test_a_purge_does_not_overtake_what_is_being_carried_out_about_the_agent() -> None:
    """Its end would be about the next agent of that name."""
    with run_machine() as machine:
        machine.propose("bob", "main", "data", 0, patient=True)
        machine.propose("bob", "main", "data", 0, patient=True)
        machine.propose("ann", "main", MUTE, 0, patient=True)
        machine.approve(0, patient=True)
        # It waits behind the other one.
        machine.approve(0, patient=True)
        machine.remove("bob", for_good=False, patient=True)
        with pytest.raises(RefusedError, match="is being carried out"):
            machine.daemon.ask("kept.purge", "bob")


@contextmanager
def run_machine() -> Generator["Machine"]:
    """A machine on empty folders. At the end it is to come to rest with all promises kept."""
    with tempfile.TemporaryDirectory(prefix="hive-", ignore_cleanup_errors=True) as folder:
        machine = Machine(Roots(Path(folder) / "data", Path(folder) / "run"))
        try:
            machine.begin()
            yield machine
            machine.end()
        except AssertionError as error:
            error.add_note(machine.daemon.log.read_text()[-LOG_LIMIT_CHARS:])
            raise
        finally:
            machine.daemon.kill()


class Machine:
    """A hive, what is done to it, and what is known of it. `pick` chooses among what there is."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.daemon = ForkedDaemon(roots)
        self.known = Known()
        self.count = 0
        # Submissions without an answer: the harness repeats them, with the same key, when the daemon is there again.
        self.unanswered: dict[str, tuple[Any, ...]] = {}
        self.power_cut = False
        self.boot_crash = 0
        self.lost = ""
        self.crashes = 0

    def begin(self) -> None:
        self.roots.data.mkdir()
        self.daemon.start()
        self.ask("agents.spawn", "ann")
        self.settle()

    def end(self) -> None:
        self.settle()
        for name in self.look().repos:
            run_git(self.roots.applied_repo(name), "fsck", "--strict")
        errors = [line for line in self.daemon.log.read_text().splitlines() if '"level": "error"' in line]
        assert errors == [], "the daemon made mistakes"

    # -- proposals -----------------------------------------------------------------------------------------

    def propose(self, agent: str, base: str, change: str, pick: int, patient: bool) -> None:
        """What there is of an agent decides what is proposed of it: a change, a draft's first config, a draft."""
        seen = self.look()
        if agent in seen.live_agents():
            self.propose_apply(seen, agent, base, change, pick, patient)
        elif agent in seen.drafts:
            self.propose_spawn(seen, agent, base, change, pick, patient)
        elif agent in seen.agents:
            self.ask("kept.revive", agent, patient=patient)
        elif pick % 4 < 2:
            self.ask("drafts.create", agent, MANAGER, patient=patient)
        elif pick % 4 == 2:
            self.ask("approvals.request_spawn", agent, "one shot", MANAGER, then=self.note_approval, patient=patient)
        else:
            self.ask("agents.spawn", agent, patient=patient)

    def propose_apply(self, seen: Seen, agent: str, base: str, change: str, pick: int, patient: bool) -> None:
        main = seen.agents[agent]["deployed_commit"]
        if main is not None:
            parent = self.choose_parent(seen, agent, main, base, pick)
            config = self.change(self.known.configs[parent], change)
            self.submit(
                "approvals.request_apply", make_proposed(agent, parent, config, f"change {self.count}"), patient
            )

    def propose_spawn(self, seen: Seen, agent: str, base: str, change: str, pick: int, patient: bool) -> None:
        if agent in seen.repos:
            first = seen.repos[agent]["refs/tags/deployed/0"].commit
            parent = self.choose_parent(seen, agent, first, base, pick)
            config = self.change(self.known.configs[parent], change)
            notes = f"remember {self.count}\n" if pick % 2 else ""
            made = make_proposed(agent, parent, config, f"spawn {self.count}", notes)
            self.submit("approvals.request_spawn_commit", made, patient)

    def propose_again(self, pick: int, patient: bool) -> None:
        """A commit of before, with a new key."""
        made = list(self.known.proposed.values())
        if made:
            chosen = made[-1 - pick % len(made)]
            method = "request_apply" if chosen.agent in self.look().agents else "request_spawn_commit"
            self.submit(f"approvals.{method}", chosen, patient)

    # -- decisions -----------------------------------------------------------------------------------------

    def approve(self, pick: int, patient: bool) -> None:
        self.decide(self.choose_waiting(pick), "approve", patient)

    def deny(self, pick: int, patient: bool) -> None:
        self.decide(self.choose_waiting(pick), "deny", patient)

    def decide_any(self, pick: int, decision: str, patient: bool) -> None:
        """Also what is decided, and what never was."""
        self.decide(1 + pick % (len(self.look().approvals) + 1), decision, patient)

    def revert(self, agent: str, pick: int, patient: bool) -> None:
        rows = self.look().approvals.values()
        deployed = [row["id"] for row in rows if (row["agent"], row["status"]) == (agent, "deployed")]
        choices = [0, *deployed, len(rows) + 1]
        self.ask("approvals.revert", agent, choices[pick % len(choices)], then=self.note_approval, patient=patient)

    def decide_at_once(self, pick: int, decided: list[str]) -> None:
        """Exactly one of twenty decisions has an effect."""
        approval = self.choose_waiting(pick)
        known = approval in self.look().approvals

        def check(outcomes: list[str]) -> None:
            done = [decision for decision, outcome in zip(decided, outcomes, strict=True) if outcome == "done"]
            assert len(done) <= 1, f"{done} were all done to approval {approval}"
            # One that was not there may have come to be meanwhile.
            assert set(outcomes) <= {"done", "conflict", *(() if known else ("not_found",))}
            if done:
                self.note_decision(approval, done[0])

        self.ask("race", approval, decided, then=check)

    def decide_again(self, pick: int) -> None:
        """What is decided stays as it is."""
        self.settle()
        ended = [number for number, row in self.look().approvals.items() if row["status"] in ENDS]
        if ended:
            before, crashes = hash_tables(self.roots), self.crashes
            self.decide(ended[pick % len(ended)], "approve", patient=True)
            self.decide(ended[pick % len(ended)], "deny", patient=True)
            assert hash_tables(self.roots) == before or self.crashes > crashes

    # -- agents --------------------------------------------------------------------------------------------

    def steer(self, agent: str, act: str, patient: bool) -> None:
        self.ask(f"agents.{act}", agent, "operator", patient=patient)

    def remove(self, agent: str, for_good: bool, patient: bool) -> None:
        """An agent, what is kept of one, a draft."""
        seen = self.look()
        if agent in seen.live_agents():
            self.ask("agents.destroy", agent, patient=patient)
        elif agent in seen.drafts:
            self.ask("drafts.discard", agent, until_done=True)
        elif agent in seen.agents and for_good:
            self.ask("kept.purge", agent, until_done=True)

    def do_anything(self, agent: str, what: str) -> None:
        """Whatever there is of the agent."""
        more = {"drafts.create": (MANAGER,), "approvals.request_spawn": ("one shot", MANAGER)}.get(what, ())
        self.ask(what, agent, *more, until_done=True)

    def crash_container(self, agent: str) -> None:
        self.known.crashed.add(agent)
        self.ask("crash_container", agent)

    def lose_folder(self, agent: str) -> None:
        """Somebody removes what an agent, or a draft, has on the disk."""
        self.settle()
        self.remove_folder(agent)

    def remove_folder(self, agent: str) -> None:
        self.known.lost_folders.add(agent)
        of_draft = agent in self.look().drafts
        folder = self.roots.proposed_folder_of(agent) if of_draft else self.roots.agent_folder(agent)
        shutil.rmtree(folder, ignore_errors=True)

    def slow_disk(self, delay_s: float) -> None:
        self.ask("slow_disk", delay_s)

    # -- the daemon ----------------------------------------------------------------------------------------

    def crash(self, at: int, power_cut: bool = False, again: int = 0, lost: str = "") -> None:
        """The daemon dies at a step to come, maybe with all containers or a folder, maybe again while it starts."""
        self.power_cut, self.boot_crash, self.lost = power_cut, again, lost
        self.ask("arm", at)

    def approve_and_crash(self, pick: int, at: int) -> None:
        self.crash(at)
        self.decide(self.choose_waiting(pick), "approve", patient=True)

    def settle(self) -> None:
        while True:
            try:
                self.daemon.collect()
                restless = self.daemon.ask("settle")
                break
            except LostError:
                self.restart()
        assert restless == []
        check_promises(self.known, self.look())

    # -- inside --------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        *arguments: Any,
        then: Callable[[Any], None] = lambda _: None,
        patient: bool = True,
        until_done: bool = False,
        key: str = "",
    ) -> None:
        """One request; a refusal of it is as good as anything. If the daemon dies of it, it is started again."""
        self.count += 1

        def take(answer: Any) -> None:
            self.unanswered.pop(key, None)
            if isinstance(answer, RefusedError):
                assert answer.code in {"conflict", "not_found", "invalid_input", "too_large"}, answer
            else:
                then(answer)

        try:
            self.daemon.send(take, method, *arguments)
            if patient:
                self.daemon.collect()
        except LostError:
            self.restart()
            if until_done:
                self.ask(method, *arguments, then=then, until_done=True)

    def restart(self) -> None:
        """A new daemon on what the old one left. It is told again what it has not answered."""
        self.crashes += 1
        if self.power_cut:
            lose_containers(self.roots.containers_folder)
        if self.lost:
            self.remove_folder(self.lost)
        self.daemon.start(crash_at=self.boot_crash)
        self.power_cut, self.boot_crash, self.lost = False, 0, ""
        for key, (method, *arguments) in list(self.unanswered.items()):
            self.ask(method, *arguments, then=self.note_approval, key=key)

    def submit(self, method: str, made: Proposed, patient: bool) -> None:
        self.known.configs[made.commit] = made.config
        self.known.proposed[made.commit] = made
        key = f"key-{self.count}"
        notes = (made.notes,) if method.endswith("spawn_commit") else ()
        arguments = (made.agent, made.commit, *notes, made.bundle, "a change", MANAGER, key)
        self.unanswered[key] = (method, *arguments)
        self.ask(method, *arguments, then=self.note_approval, patient=patient, key=key)

    def decide(self, approval: int, decision: str, patient: bool) -> None:
        more = (f"not {self.count}\nnever",) if decision == "deny" else ()
        then: Callable[[Any], None] = lambda _: self.note_decision(approval, decision)  # noqa: E731
        self.ask(f"approvals.{decision}", approval, *more, then=then, patient=patient)

    def note_approval(self, approval: Any) -> None:
        self.known.confirmed[approval.id] = approval.commit

    def note_decision(self, approval: int, decision: str) -> None:
        assert approval not in self.known.decided, f"approval {approval} was decided twice"
        self.known.decided[approval] = decision

    def look(self) -> Seen:
        seen = look(self.roots)
        self.known.learn(seen)
        return seen

    def change(self, config: Config, change: str) -> Config:
        """`config` with one thing changed, and able to run again unless that is the change."""
        self.count += 1
        config = replace(config, fate="")
        match change:
            case "restart":
                return replace(config, mark=self.count)
            case "data":
                return replace(config, data=self.count)
            case "live":
                return replace(config, recipients=self.count)
            case "prompt":
                return replace(config, prompt=self.count)
            case _:
                return replace(config, mark=self.count, fate=change)

    def choose_parent(self, seen: Seen, agent: str, main: str, base: str, pick: int) -> str:
        mine = [row for row in seen.approvals.values() if row["agent"] == agent and row["commit_sha"]]
        rows = [row for row in mine if seen.has_repo_of(row) and (base == "stale" or row["status"] == "pending")]
        commits = [row["commit_sha"] for row in rows if row["commit_sha"] in self.known.configs]
        return commits[pick % len(commits)] if commits and base != "main" else main

    def choose_waiting(self, pick: int) -> int:
        """An approval that waits, the newest first; if none does, one that never was."""
        approvals = self.look().approvals
        waiting = [number for number, row in approvals.items() if row["status"] == "pending"]
        return waiting[-1 - pick % len(waiting)] if waiting else len(approvals) + 1
