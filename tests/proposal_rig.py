"""Applied repos and working copies as the daemon makes them for the manager, and git on them as the manager runs it."""

import os
import subprocess
from pathlib import Path

from hyperhive.harness.proposals import Proposals

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "manager",
    "GIT_AUTHOR_EMAIL": "manager@localhost",
    "GIT_COMMITTER_NAME": "manager",
    "GIT_COMMITTER_EMAIL": "manager@localhost",
}


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """What git says in `folder`; a failure is the test's."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT | environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace").strip()


class ManagerView:
    """/agents and /applied of a manager, below one folder."""

    def __init__(self, root: Path) -> None:
        self.agents = root / "agents"
        self.applied = root / "applied"
        self.scratch = root / "scratch"
        for folder in (self.agents, self.applied, self.scratch):
            folder.mkdir()

    def add(self, name: str) -> Path:
        """An agent with the first config; its working copy."""
        seed = self.scratch / "seed"
        git(self.scratch, "init", "--quiet", "-b", "main", "seed")
        (seed / "agent.toml").write_text('model = "a"\n')
        git(seed, "add", ".")
        git(seed, "commit", "--quiet", "-m", "first")
        git(self.scratch, "clone", "--quiet", "--bare", "seed", str(self.applied / name))
        subprocess.run(["rm", "-rf", str(seed)], check=True)
        config = self.agents / name / "config"
        git(self.applied, "clone", "--quiet", "-o", "applied", str(self.applied / name), str(config))
        return config

    def proposals(self, timeout_s: float = 30) -> Proposals:
        return Proposals(self.agents, self.applied, self.scratch, timeout_s)

    def deploy(self, name: str, commit: str) -> None:
        """Makes a commit of the working copy the applied one."""
        git(self.applied / name, "fetch", "--quiet", str(self.agents / name / "config"), f"{commit}:refs/heads/main")

    def receive(self, name: str, bundle: bytes, ref: str = "refs/hive/commit") -> str:
        """What the applied repo gets from a bundle, checked; the commit of `ref` in it."""
        path = self.scratch / "received.bundle"
        path.write_bytes(bundle)
        repo = self.applied / name
        git(repo, "-c", "transfer.fsckObjects=true", "fetch", "--quiet", str(path), f"+{ref}:refs/received")
        path.unlink()
        git(repo, "fsck", "--strict", "--no-dangling")
        return git(repo, "rev-parse", "refs/received")


def commit(config: Path, files: dict[str, str | bytes], message: str = "a change") -> str:
    for name, content in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(config, "add", "--all", ".")
    git(config, "commit", "--quiet", "--no-verify", "-m", message)
    return git(config, "rev-parse", "HEAD")
