"""What an agent's container is made of, and what git in the manager's can do with repos that are not its own."""

import os
import subprocess
import tempfile
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.login import PLACEHOLDER
from hyperhive.core.paths import Roots
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.drivers.protocol import ContainerSpec
from hyperhive.host.git_config import GIT_CONFIG_FILE, render_git_config, save_git_config
from hyperhive.host.settings import check_ca_file
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.wire.agent_link import EGRESS_PORT, MODEL_PORT
from proposal_rig import ENVIRONMENT, ManagerView, commit, git

SETTINGS = HarnessSettings(credential="api_key", warm_s=300)
# Nobody that this machine knows.
OTHER_UID = 61234


def plan(name: str, roots: Roots, environment: dict[str, str] | None = None) -> ContainerSpec:
    record = AgentRecord(name, 1000, 3, Desired.RUNNING, "", datetime(2026, 1, 1, tzinfo=UTC), None)
    folder = roots.versions_folder(name) / ("a" * 40)
    return plan_container(record, roots, SETTINGS, config_folder=folder, environment=environment or {})


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(data=tmp_path / "data", run=tmp_path / "run")


def read_mounts(spec: ContainerSpec) -> dict[str, tuple[Path, bool]]:
    return {str(mount.target): (mount.source, mount.writable) for mount in spec.mounts}


def test_an_agent_sees_its_own_config_read_only_and_nobody_elses(roots: Roots) -> None:
    mounts = read_mounts(plan("alice", roots))
    assert mounts["/config"] == (roots.versions_folder("alice") / ("a" * 40), False)
    assert set(mounts) == {"/config", "/state", "/home/agent/.claude", "/run/hive"}


def test_the_manager_edits_what_is_proposed_and_only_reads_what_is_applied(roots: Roots) -> None:
    mounts = read_mounts(plan("manager", roots))
    assert mounts["/agents"] == (roots.proposed_folder, True)
    assert mounts["/applied"] == (roots.applied_folder, False)


def test_a_config_adds_variables_but_never_replaces_ours(roots: Roots) -> None:
    theirs = {
        "EDITOR": "ed",
        "HOME": "/evil",
        "PATH": "/evil",
        "ANTHROPIC_API_KEY": "theirs",
        "HIVE_GENERATION": "9",
        "HIVE_SOCKETS": "/evil",
        "GIT_CONFIG_SYSTEM": "/evil",
    }
    plain, changed = plan("manager", roots), plan("manager", roots, theirs)
    assert changed.environment == {**plain.environment, "EDITOR": "ed"}


def test_what_is_not_the_model_or_the_container_itself_goes_through_the_proxy(roots: Roots) -> None:
    theirs = {"HTTPS_PROXY": "http://evil.test", "no_proxy": "*", "NODE_USE_ENV_PROXY": "0"}
    environment = plan("alice", roots, theirs).environment
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        assert environment[name] == f"http://127.0.0.1:{EGRESS_PORT}"
    for name in ("NO_PROXY", "no_proxy"):
        assert {"127.0.0.1", "localhost", "model.hive"} <= set(environment[name].split(","))
    assert environment["NODE_USE_ENV_PROXY"] == "1"
    assert not {"ALL_PROXY", "all_proxy"} & set(environment)


def test_only_the_manager_has_an_identity_for_commits(roots: Roots) -> None:
    assert plan("manager", roots).environment["GIT_AUTHOR_NAME"] == "manager"
    assert not [name for name in plan("alice", roots).environment if name.startswith("GIT_")]


# -- git on the applied repos ------------------------------------------------------------------------------


def test_each_repo_is_named_and_no_pattern_is() -> None:
    assert render_git_config(["bob", "alice"]) == "[safe]\n\tdirectory = /applied/alice\n\tdirectory = /applied/bob\n"


def test_only_what_is_an_agents_is_named(tmp_path: Path) -> None:
    for name in ("alice", "manager", "agent.schema.json", "-x", "..x", "a\nb", "operator"):
        (tmp_path / name).mkdir()
    (tmp_path / GIT_CONFIG_FILE).write_text("old")
    save_git_config(tmp_path)
    assert (tmp_path / GIT_CONFIG_FILE).read_text() == render_git_config(["alice", "manager"])
    assert (tmp_path / GIT_CONFIG_FILE).stat().st_mode & 0o777 == 0o644


class Foreign:
    """Applied repos of one user, and another user in a folder of its own."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.view = ManagerView(root)
        self.view.add("alice")
        self.home = root / "home"
        self.home.mkdir()
        for path in [*self.view.applied.rglob("*"), self.view.applied]:
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        # Without root there is one user, and git believes that it is another.
        self._prefix: list[str] = []
        self._own = ""
        self._environment = {"PATH": ENVIRONMENT["PATH"], "HOME": "/nonexistent", **environment}
        if os.geteuid() == 0:
            os.chown(self.home, OTHER_UID, OTHER_UID)
            root.chmod(0o711)
            self._prefix = ["setpriv", f"--reuid={OTHER_UID}", f"--regid={OTHER_UID}", "--clear-groups", "--"]
        else:
            self._environment["GIT_TEST_ASSUME_DIFFERENT_OWNER"] = "1"
            self._own = f"\tdirectory = {self.home / 'copy'}\n"

    def trust(self, *names: str) -> None:
        """As `save_git_config` does, for where the repos are here."""
        text = render_git_config(names, self.view.applied) + self._own
        (self.view.applied / GIT_CONFIG_FILE).write_text(text)

    def git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._prefix, "git", *arguments], cwd=self.home, env=self._environment, capture_output=True, check=False
        )


@pytest.fixture
def foreign(roots: Roots) -> Generator[Foreign]:
    environment = {key: value for key, value in plan("manager", roots).environment.items() if key.startswith("GIT_")}
    # Not pytest's folder: nobody else gets into that.
    with tempfile.TemporaryDirectory() as root:
        environment["GIT_CONFIG_SYSTEM"] = f"{root}/applied/{GIT_CONFIG_FILE}"
        yield Foreign(Path(root), environment)


def test_the_manager_can_clone_fetch_and_commit_though_the_repos_are_not_its_own(foreign: Foreign) -> None:
    repo = foreign.view.applied / "alice"
    foreign.trust("alice")
    assert foreign.git("clone", "--quiet", "-o", "applied", str(repo), "copy").returncode == 0
    deployed = commit(foreign.view.agents / "alice/config", {"prompt.md": "one\n"})
    foreign.view.deploy("alice", deployed)
    git(repo, "tag", "-a", "-m", "too dear", "denied/4", deployed)
    for path in repo.rglob("*"):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    assert foreign.git("-C", "copy", "fetch", "--quiet", "--tags", "applied").returncode == 0
    assert foreign.git("-C", "copy", "fetch", "--quiet", str(repo)).returncode == 0
    assert b"too dear" in foreign.git("-C", "copy", "tag", "-n99", "-l", "denied/*").stdout
    assert foreign.git("-C", str(repo), "log", "--oneline").returncode == 0
    assert foreign.git("-C", "copy", "commit", "--quiet", "--allow-empty", "-m", "mine").returncode == 0
    assert foreign.git("-C", "copy", "log", "-1", "--format=%an %cn").stdout == b"manager manager\n"


def test_a_repo_that_is_not_named_stays_refused(foreign: Foreign) -> None:
    foreign.trust("bob")
    refusal = foreign.git("clone", "--quiet", str(foreign.view.applied / "alice"), "copy")
    assert refusal.returncode != 0
    assert b"dubious ownership" in refusal.stderr


# -- the way to the model ----------------------------------------------------------------------------------


def plan_with(roots: Roots, settings: HarnessSettings) -> ContainerSpec:
    record = AgentRecord("alice", 1000, 3, Desired.RUNNING, "", datetime(2026, 1, 1, tzinfo=UTC), None)
    return plan_container(record, roots, settings, config_folder=roots.versions_folder("alice"), environment={})


def test_an_agent_with_a_login_of_its_own_reaches_the_model_by_a_port(roots: Roots) -> None:
    environment = plan_with(roots, HarnessSettings(credential="none", warm_s=300)).environment
    assert environment["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{MODEL_PORT}"
    assert environment["HIVE_MODEL_PORT"] == str(MODEL_PORT)
    # With it claude would take no notice of its login.
    assert "ANTHROPIC_UNIX_SOCKET" not in environment
    assert "127.0.0.1" in environment["NO_PROXY"].split(",")


@pytest.mark.parametrize(
    ("credential", "variable", "other"),
    [
        ("api_key", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"),
        ("token", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY"),
    ],
)
def test_with_a_credential_of_the_hives_a_container_has_a_placeholder_and_the_socket(
    roots: Roots, credential: str, variable: str, other: str
) -> None:
    environment = plan_with(roots, HarnessSettings(credential=credential, warm_s=300)).environment
    assert environment[variable] == PLACEHOLDER
    assert environment["ANTHROPIC_UNIX_SOCKET"] == "/run/hive/model.sock"
    assert {other, "HIVE_MODEL_PORT"}.isdisjoint(environment)


def test_certificates_are_mounted_for_reading_and_named_to_claude(roots: Roots, tmp_path: Path) -> None:
    spec = plan_with(roots, HarnessSettings(credential="none", warm_s=300, ca_file=tmp_path / "ca.pem"))
    assert read_mounts(spec)[spec.environment["NODE_EXTRA_CA_CERTS"]] == (tmp_path / "ca.pem", False)


def test_certificates_that_agents_could_not_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(InvalidInputError, match="cannot be read"):
        check_ca_file(path)
    path.write_text("certificates")
    path.chmod(0o600)
    with pytest.raises(InvalidInputError, match="by agents"):
        check_ca_file(path)
    path.chmod(0o644)
    assert check_ca_file(path) == path
    with pytest.raises(InvalidInputError, match="plain file"):
        check_ca_file(tmp_path)
    assert check_ca_file(None) is None
