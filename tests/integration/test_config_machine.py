"""Any sequence of proposals, decisions, reverts, stops, spawns, lost folders and crashes keeps the promises.

The daemon below its API runs on a real database and real repositories, in a process that is killed for real
(`forked_daemon`); the containers are files (`file_containers`). What must hold is in `config_promises`.

In the suite the sequences are always the same. For new ones, as many as one likes, and with what they came to:

    MACHINE_EXAMPLES=2000 python -m pytest tests/integration/test_config_machine.py --hypothesis-show-statistics
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

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
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots

SPAWNED = ("ann", "bob")
# Enough to see how it came to what is wrong.
LOG_LIMIT_CHARS = 20_000
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))

METHODS = (
    *("agents.spawn", "agents.destroy", "kept.revive", "kept.purge"),
    *("drafts.create", "drafts.discard", "approvals.request_spawn"),
)

agents = st.sampled_from((*SPAWNED, *SPAWNED, MANAGER))
spawned = st.sampled_from(SPAWNED)
# A mute one waits for the whole of a harness's deadline.
changes = st.sampled_from(
    (*("restart", "data", "live", "prompt") * 5, *(UNBUILDABLE_FATE, REFUSED, DIES) * 2, MUTE),
)
bases = st.sampled_from(("main", "main", "main", "pending", "pending", "stale"))
decisions = st.sampled_from(("approve", "deny"))
steps = st.integers(1, 60)
picks = st.integers(0, 30)
# Whether the answer is waited for; without, the next act comes while this one is under way.
patience = st.booleans()


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hive-"))
        roots = Roots(self.folder / "data", self.folder / "run")
        roots.data.mkdir()
        self.roots = roots
        self.daemon = ForkedDaemon(roots)
        self.known = Known()
        self.count = 0
        # Submissions without an answer: the harness repeats them, with the same key, when the daemon is there again.
        self.unanswered: dict[str, tuple[Any, ...]] = {}
        self.power_cut = False
        self.boot_crash = 0

    @initialize()
    def begin(self) -> None:
        self.daemon.start()
        self.act("agents.spawn", "ann")
        self.settle()

    def teardown(self) -> None:
        try:
            if self.daemon.log.exists():
                self.settle()
                for name in self.look().repos:
                    run_git(self.roots.applied_repo(name), "fsck", "--strict")
                self.check_log()
        finally:
            self.daemon.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- proposals -----------------------------------------------------------------------------------------

    @rule(agent=agents, base=bases, change=changes, pick=picks, patient=patience)
    def propose(self, agent: str, base: str, change: str, pick: int, patient: bool) -> None:
        """What there is of an agent decides what is proposed of it: a change, a draft's first config, a draft."""
        seen = self.look()
        if agent in seen.live_agents():
            self.propose_apply(seen, agent, base, change, pick, patient)
        elif agent in seen.drafts:
            self.propose_spawn(seen, agent, base, change, pick, patient)
        elif agent in seen.agents:
            self.act("kept.revive", agent, patient=patient)
        elif pick % 4 < 2:
            self.act("drafts.create", agent, MANAGER, patient=patient)
        elif pick % 4 == 2:
            self.act("approvals.request_spawn", agent, "one shot", MANAGER, then=self.note_approval, patient=patient)
        else:
            self.act("agents.spawn", agent, patient=patient)

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

    @rule(pick=picks, patient=patience)
    def propose_again(self, pick: int, patient: bool) -> None:
        """A commit of before, with a new key."""
        made = list(self.known.proposed.values())
        if made:
            chosen = made[-1 - pick % len(made)]
            method = "request_apply" if chosen.agent in self.look().agents else "request_spawn_commit"
            self.submit(f"approvals.{method}", chosen, patient)

    # -- decisions -----------------------------------------------------------------------------------------

    @rule(pick=picks, patient=patience)
    def approve(self, pick: int, patient: bool) -> None:
        self.decide(self.choose_waiting(pick), "approve", patient)

    @rule(pick=picks, patient=patience)
    def approve_newest(self, pick: int, patient: bool) -> None:
        self.decide(self.choose_waiting(0), "approve", patient)

    @rule(pick=picks, patient=patience)
    def deny(self, pick: int, patient: bool) -> None:
        self.decide(self.choose_waiting(pick), "deny", patient)

    @rule(pick=picks, decision=decisions, patient=patience)
    def decide_any(self, pick: int, decision: str, patient: bool) -> None:
        """Also what is decided, and what never was."""
        self.decide(1 + pick % (len(self.look().approvals) + 1), decision, patient)

    @rule(agent=agents, pick=picks, patient=patience)
    def revert(self, agent: str, pick: int, patient: bool) -> None:
        rows = self.look().approvals.values()
        deployed = [row["id"] for row in rows if (row["agent"], row["status"]) == (agent, "deployed")]
        choices = [0, *deployed, len(rows) + 1]
        self.act("approvals.revert", agent, choices[pick % len(choices)], then=self.note_approval, patient=patient)

    @rule(pick=picks, decided=st.lists(decisions, min_size=20, max_size=20))
    def decide_at_once(self, pick: int, decided: list[str]) -> None:
        """Exactly one of twenty decisions has an effect."""
        approval = self.choose_waiting(pick)
        known = approval in self.look().approvals

        def check(outcomes: list[str]) -> None:
            done = [decision for decision, outcome in zip(decided, outcomes, strict=True) if outcome == "done"]
            assert len(done) <= 1, f"{done} were all done to approval {approval}"
            assert {outcome for outcome in outcomes if outcome != "done"} <= {"conflict" if known else "not_found"}
            if done:
                self.note_decision(approval, done[0])

        self.act("race", approval, decided, then=check)

    @rule(pick=picks)
    def decide_again(self, pick: int) -> None:
        """What is decided stays as it is."""
        self.settle()
        ended = [number for number, row in self.look().approvals.items() if row["status"] in ENDS]
        if ended:
            before = hash_tables(self.roots)
            self.decide(ended[pick % len(ended)], "approve", patient=True)
            self.decide(ended[pick % len(ended)], "deny", patient=True)
            assert hash_tables(self.roots) == before

    # -- agents --------------------------------------------------------------------------------------------

    @rule(agent=agents, act=st.sampled_from(("start", "start", "stop", "restart")), patient=patience)
    def steer(self, agent: str, act: str, patient: bool) -> None:
        self.act(f"agents.{act}", agent, "operator", patient=patient)

    @rule(agent=spawned, for_good=st.booleans(), patient=patience)
    def remove(self, agent: str, for_good: bool, patient: bool) -> None:
        """An agent, what is kept of one, a draft."""
        seen = self.look()
        if agent in seen.live_agents():
            self.act("agents.destroy", agent, patient=patient)
        elif agent in seen.drafts:
            self.act("drafts.discard", agent, until_done=True)
        elif agent in seen.agents and for_good:
            self.act("kept.purge", agent, until_done=True)

    @rule(agent=spawned, method=st.sampled_from(METHODS))
    def do_anything(self, agent: str, method: str) -> None:
        """Whatever there is of the agent."""
        more = {"drafts.create": (MANAGER,), "approvals.request_spawn": ("one shot", MANAGER)}.get(method, ())
        self.act(method, agent, *more, until_done=True)

    @rule(agent=agents)
    def crash_container(self, agent: str) -> None:
        self.act("crash_container", agent)

    @rule(agent=spawned)
    def lose_folder(self, agent: str) -> None:
        """Somebody removes what an agent, or a draft, has on the disk."""
        self.settle()
        self.known.lost_folders.add(agent)
        of_draft = agent in self.look().drafts
        folder = self.roots.proposed_folder_of(agent) if of_draft else self.roots.agent_folder(agent)
        shutil.rmtree(folder, ignore_errors=True)

    # -- the daemon ----------------------------------------------------------------------------------------

    @rule(at=steps, power_cut=st.integers(0, 3), again=st.one_of(st.just(0), steps))
    def crash(self, at: int, power_cut: int, again: int) -> None:
        """The daemon dies at a step to come, maybe with all containers, and maybe again while it starts."""
        self.power_cut, self.boot_crash = power_cut == 0, again
        self.act("arm", at)

    @rule(pick=picks, at=steps)
    def approve_and_crash(self, pick: int, at: int) -> None:
        self.crash(at, 1, 0)
        self.decide(self.choose_waiting(pick), "approve", patient=True)

    @rule()
    def settle(self) -> None:
        while True:
            try:
                self.daemon.collect()
                restless = self.daemon.ask("settle")
                break
            except LostError:
                self.restart()
        try:
            assert restless == []
            check_promises(self.known, self.look())
        except AssertionError as error:
            error.add_note(self.daemon.log.read_text()[-LOG_LIMIT_CHARS:])
            raise

    # -- inside --------------------------------------------------------------------------------------------

    def act(
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
            name = method.rpartition(".")[2]
            self.unanswered.pop(key, None)
            if isinstance(answer, RefusedError):
                event(f"{name}: {answer.code}")
                assert answer.code in {"conflict", "not_found", "invalid_input", "too_large"}, answer
            else:
                event(f"{name}: done")
                then(answer)

        try:
            self.daemon.send(take, method, *arguments)
            if patient:
                self.daemon.collect()
        except LostError:
            self.restart()
            if until_done:
                self.act(method, *arguments, then=then, until_done=True)

    def restart(self) -> None:
        """A new daemon on what the old one left. It is told again what it has not answered."""
        event(f"crash{' with a power cut' if self.power_cut else ''}")
        if self.power_cut:
            lose_containers(self.roots.containers_folder)
        self.daemon.start(crash_at=self.boot_crash)
        self.power_cut, self.boot_crash = False, 0
        for key, (method, *arguments) in list(self.unanswered.items()):
            self.act(method, *arguments, then=self.note_approval, key=key)

    def submit(self, method: str, made: Proposed, patient: bool) -> None:
        self.known.configs[made.commit] = made.config
        self.known.proposed[made.commit] = made
        key = f"key-{self.count}"
        notes = (made.notes,) if method.endswith("spawn_commit") else ()
        arguments = (made.agent, made.commit, *notes, made.bundle, "a change", MANAGER, key)
        self.unanswered[key] = (method, *arguments)
        self.act(method, *arguments, then=self.note_approval, patient=patient, key=key)

    def decide(self, approval: int, decision: str, patient: bool) -> None:
        more = (f"not {self.count}\nnever",) if decision == "deny" else ()
        then: Callable[[Any], None] = lambda _: self.note_decision(approval, decision)  # noqa: E731
        self.act(f"approvals.{decision}", approval, *more, then=then, patient=patient)

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

    def check_log(self) -> None:
        errors = [line for line in self.daemon.log.read_text().splitlines() if '"level": "error"' in line]
        assert not errors, "\n".join(errors)


Machine.TestCase.settings = settings(
    max_examples=EXAMPLES or 15,
    stateful_step_count=40 if EXAMPLES else 30,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestMachine = Machine.TestCase
