"""Data folders of a first hive, with real git and real SQLite: the likely one, and what else it may be like."""

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperhive.system.files import walk_beneath

# Seconds, and far enough back to be told apart from now.
SENT_S = 1_780_000_000
AGENT_NIX = "{ pkgs, ... }:\n{\n  environment.systemPackages = [ pkgs.hello ];\n}\n"

SCHEMA = """
create table messages (
    id integer primary key autoincrement, sender text not null, recipient text not null, body text not null,
    sent_at integer not null, delivered_at integer
);
create table approvals (
    id integer primary key autoincrement, agent text not null, kind text not null, commit_ref text not null,
    requested_at integer not null, status text not null, resolved_at integer, note text, description text
);
create table operator_questions (
    id integer primary key autoincrement, asker text not null, question text not null, options_json text not null,
    multi integer not null default 0, asked_at integer not null, answered_at integer, answer text, deadline_at integer
);
create table reminders (id integer primary key, agent text, message text, due_at integer);
"""

# The same under other names, with texts for instants, and with columns that nobody knows.
OTHER_SCHEMA = """
create table messages (
    message_id integer primary key, "from" text, "to" text, text text, created_at text, read_at text, mood text
);
create table approvals (
    id integer primary key, name text, "commit" text, created_at real, state text, decided_at real, reason text
);
create table operator_questions (
    id integer primary key, agent text, prompt text, choices text, created_at integer, answered_at integer,
    response text, expires_at integer, target text
);
"""


@dataclass
class FirstHive:
    """`commits` are names of commits by the agent and the tag, or `main`, or `proposed`."""

    folder: Path
    commits: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    @property
    def database(self) -> Path:
        return self.folder / "broker.sqlite"

    def make(self, schema: str = SCHEMA, *, wal: bool = True) -> "FirstHive":
        self.folder.mkdir(parents=True)
        for name in ("agents", "applied"):
            (self.folder / name).mkdir()
        with closing(self.connect()) as database:
            database.execute(f"pragma journal_mode = {'wal' if wal else 'delete'}")
            database.executescript(schema)
        return self

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.database, isolation_level=None)

    def insert(self, table: str, **values: Any) -> int:
        columns = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        with closing(self.connect()) as database:
            cursor = database.execute(f"insert into {table} ({columns}) values ({marks})", list(values.values()))
            return int(cursor.lastrowid or 0)

    def add_agent(
        self,
        name: str,
        files: Mapping[str, str] | None = None,
        *,
        bare: bool = False,
        branch: str = "main",
        first: int = 1,
    ) -> None:
        """An agent with two configs deployed as 1 and 3, 2 denied, and 4 proposed; or counted from `first`."""
        folder = self.folder / "agents" / name
        for part in ("config", "state", "claude"):
            (folder / part).mkdir(parents=True)
        contents = {"agent.nix": AGENT_NIX, "prompt.md": f"You are {name}.\n"} if files is None else files
        proposed = folder / "config"
        git(proposed, "init", "--quiet", f"--initial-branch={branch}")
        applied = self.folder / "applied" / name
        git(self.folder, "init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []), str(applied))
        found = self.commits.setdefault(name, {})
        for number, status in enumerate(("deployed", "denied", "deployed", "proposal"), first):
            commit = commit_files(proposed, {**contents, "mark.txt": f"{number}\n"}, f"change {number}")
            git(proposed, "push", "--quiet", str(applied), f"{commit}:refs/heads/incoming-{number}")
            git(applied, "tag", "-a", f"proposal/{number}", commit, "-m", f"proposed {number}")
            if status != "proposal":
                git(applied, "tag", "-a", f"{status}/{number}", commit, "-m", f"{status} {number}: as it was")
            if status == "denied":
                git(proposed, "reset", "--quiet", "--hard", "HEAD~1")
            elif status == "deployed":
                git(applied, "update-ref", f"refs/heads/{branch}", commit)
                found["main"] = commit
            found[f"{status}/{number}"] = commit
        for number in range(first, first + 4):
            git(applied, "update-ref", "-d", f"refs/heads/incoming-{number}")
        found["proposed"] = found[f"proposal/{first + 3}"]
        (folder / "state" / "notes.md").write_text(f"# {name}\n- [ ] go on\n")
        (folder / "state" / "hyperhive-model").write_text("opus\n")
        with closing(sqlite3.connect(folder / "state" / "hyperhive-events.sqlite")) as events:
            events.execute("create table events (id integer primary key, line text)")
            events.commit()
        (folder / "claude" / "projects").mkdir()
        (folder / "claude" / "projects" / "past.jsonl").write_text("{}\n")
        (folder / "claude" / ".credentials.json").write_text('{"claudeAiOauth": {}}')
        if os.geteuid() == 0:
            # As a container of the first hive left them.
            for part in ("state", "claude"):
                for path in [folder / part, *(folder / part).rglob("*")]:
                    os.chown(path, 5_000_000, 5_000_000)

    def add_rows(self, agent: str, first: int = 1) -> None:
        """Messages, approvals and questions of every kind, in the columns of `SCHEMA`; approvals from `first` on."""
        commits = self.commits[agent]
        message = {"sender": agent, "recipient": "operator", "body": f"{agent} is done", "sent_at": SENT_S}
        self.insert("messages", **message, delivered_at=SENT_S + 5)
        self.insert("messages", sender="operator", recipient=agent, body="and now?", sent_at=SENT_S + 10)
        self.insert("messages", sender="manager", recipient=agent, body="hurry", sent_at=(SENT_S + 11) * 1000)
        self.insert("messages", sender="stranger", recipient=agent, body="hello", sent_at=SENT_S)
        tags = ("deployed", "denied", "deployed", "proposal")
        for index, status in enumerate(("deployed", "denied", "approved", "pending")):
            commit = commits[f"{tags[index]}/{first + index}"]
            self.insert(
                "approvals",
                id=first + index,
                agent=agent,
                kind="apply_commit",
                commit_ref=commit[:12] if status == "approved" else commit,
                requested_at=SENT_S + index,
                status=status,
                resolved_at=None if status == "pending" else SENT_S + 100 + index,
                note="not like this" if status == "denied" else None,
                description=f"change {first + index}",
            )
        question = {"asker": agent, "options_json": json.dumps(["red", "blue"]), "asked_at": SENT_S}
        self.insert("operator_questions", **question, question="which colour?", multi=1)
        self.insert("operator_questions", **question, question="tea?", answered_at=SENT_S + 9, answer="no")
        self.insert("operator_questions", **question, question="too late?", deadline_at=SENT_S + 60)


def git(folder: Path, *arguments: str) -> str:
    """git with no settings of the machine's; what it says."""
    who = {"NAME": "hive", "EMAIL": "hive@localhost", "DATE": f"{SENT_S} +0000"}
    environment = {
        **{key: os.environ[key] for key in ("PATH",)},
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "HOME": "/nonexistent",
    }
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def commit_files(folder: Path, files: Mapping[str, str], message: str) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def digest_tree(folder: Path, *, without: Sequence[str] = ()) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a folder: kinds, modes, owners, times of the last change, content."""
    seen: dict[str, tuple[Any, ...]] = {".": _digest(folder, folder.lstat())}
    for path, status in walk_beneath(folder, lambda path, error: None):
        name = os.fsdecode(path)
        if name not in without:
            seen[name] = _digest(folder / name, status)
    return seen


def _digest(path: Path, status: os.stat_result) -> tuple[Any, ...]:
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(status.st_mode) and status.st_size < 64 * 1024**2:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size, status.st_mtime_ns)
    return (*facts, status.st_ctime_ns, content)
