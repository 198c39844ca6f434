"""From the container of an agent of a real hive, with the real claude: which hosts are reached, and by what."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from egress_container_rig import CA, Swarm, run_swarm, serve_folder
from hive_process import wait_for

PAGE = "the page of the stand-in\n"
TOML = """[network]
allow = ["web.test", "*.git.test", "away.test", "localhost", "GET http://web.test/page*"]
"""
HOSTS = ("web.test", "code.git.test", "hidden.test")


def make_site(folder: Path) -> None:
    """A page, and a git repository as plain files."""
    folder.mkdir()
    (folder / "page.txt").write_text(PAGE)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@test", "-c", "init.defaultBranch=main")
    subprocess.run([*git, "init", "--quiet", "work"], cwd=folder, check=True)
    (folder / "work/file.txt").write_text("cloned\n")
    subprocess.run([*git, "add", "."], cwd=folder / "work", check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], cwd=folder / "work", check=True)
    subprocess.run([*git, "clone", "--quiet", "--bare", "work", "repo.git"], cwd=folder, check=True)
    subprocess.run([*git, "update-server-info"], cwd=folder / "repo.git", check=True)


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with tempfile.TemporaryDirectory(prefix="site-") as name:
        make_site(Path(name) / "site")
        site = serve_folder(Path(name) / "site")
        with run_swarm(dict.fromkeys(HOSTS, site), {"web.test:80": site}, TOML) as swarm:
            yield swarm


def test_claude_talks_to_the_model_by_its_socket_and_its_tools_to_the_web_by_the_proxy(swarm: Swarm) -> None:
    swarm.forget_requests()
    answer = swarm.tell(f"curl -sS --cacert {CA} https://web.test/page.txt")
    assert PAGE.strip() in answer
    request = swarm.wait_request(host="web.test", port=443, verdict="allowed", rule="network.allow: web.test")
    assert request["bytes_up"] > 100 and request["bytes_down"] > len(PAGE)
    # The answer may be here before the gateway's record of the request that it belongs to.
    wait_for(lambda: swarm.count_model_requests() >= 2, "two requests to the model", timeout_s=15, hive=swarm.hive)
    assert {row["host"] for row in swarm.requests()} == {"web.test"}


def test_what_is_not_listed_is_refused_and_the_command_says_so(swarm: Swarm) -> None:
    answer = swarm.tell(f"curl -sS -v --cacert {CA} https://hidden.test/page.txt 2>&1 | tail -n 20")
    assert "403" in answer and PAGE.strip() not in answer
    assert swarm.wait_request(host="hidden.test")["rule"] == "network.allow"


def test_git_clones_over_https(swarm: Swarm) -> None:
    swarm.ask("env", f"GIT_SSL_CAINFO={CA}", "git", "clone", "--quiet", "https://code.git.test/repo.git", "/tmp/copy")
    assert swarm.ask("cat", "/tmp/copy/file.txt") == "cloned\n"
    swarm.wait_request(host="code.git.test", rule="network.allow: *.git.test")


def test_python_reaches_what_is_listed(swarm: Swarm) -> None:
    # As pip does: by http.client, which asks for a tunnel in HTTP/1.0.
    code = "import sys, urllib.request as u; print(u.urlopen('https://web.test/page.txt', timeout=20).read().decode())"
    assert swarm.ask("env", f"SSL_CERT_FILE={CA}", sys.executable, "-c", code).startswith(PAGE)


def test_plain_http_is_reached_where_its_path_is_listed(swarm: Swarm) -> None:
    assert swarm.ask("curl", "-sS", "http://web.test/page.txt") == PAGE
    swarm.wait_request(host="web.test", port=80, method="GET", path="/page.txt", verdict="allowed")
    answer = swarm.ask("curl", "-sS", "-w", "%{http_code}", "http://web.test/repo.git/HEAD")
    assert answer.endswith("403") and "GET http://web.test:80 is not listed" in answer


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://web.test:8443/", "network.allow"),
        ("https://sub.web.test/", "network.allow"),
        ("https://git.test/", "network.allow"),
        ("https://1.1.1.1/", "network.allow"),
        ("https://[2606:4700::1111]/", "network.allow"),
        ("https://api.anthropic.com/v1/models", "network.allow"),
    ],
)
def test_nothing_else_is_reached(swarm: Swarm, url: str, rule: str) -> None:
    done = swarm.run_inside("curl", "-sS", "--cacert", CA, url)
    assert not done.ok and b"403" in done.stderr
    assert (
        swarm.wait_request(host=url.split("/")[2].removesuffix(":8443").strip("[]"), verdict="refused")["rule"] == rule
    )


def test_the_machine_itself_is_not_reached_by_a_name_either(swarm: Swarm) -> None:
    # NO_PROXY has it: through the proxy only by asking for it.
    command = ("curl", "-sS", "--noproxy", "", "--cacert", CA, f"https://localhost:443/{swarm.hive.port}")
    assert b"403" in swarm.run_inside(*command).stderr
    assert swarm.wait_request(host="localhost")["rule"] == "address"


def test_certificates_of_the_host_are_there(swarm: Swarm) -> None:
    command = (
        "env",
        "-i",
        "/usr/bin/python3",
        "-c",
        "import ssl; print(ssl.create_default_context().cert_store_stats())",
    )
    outside = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert swarm.ask(*command) == outside


def test_the_proxy_works_again_after_the_daemon_was_started_anew(swarm: Swarm) -> None:
    swarm.arena.manager.close()
    swarm.hive.kill()
    assert not swarm.run_inside("curl", "-sS", "--cacert", CA, "https://web.test/page.txt").ok
    swarm.hive.start()
    wait_for(
        lambda: swarm.run_inside("curl", "-sS", "--cacert", CA, "https://web.test/page.txt").stdout == PAGE.encode(),
        "the page",
        timeout_s=30,
    )


def test_the_command_line_shows_what_was_asked_for(swarm: Swarm) -> None:
    command = [sys.executable, "-m", "hyperhive.cli.main", "egress", "alice"]
    environment = {**os.environ, "HIVE_DATA": str(swarm.hive.data)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "hidden.test:443" in shown and "network.allow: web.test" in shown
    assert shown.splitlines()[0].split() == ["AGO", "AGENT", "HOST", "VERDICT", "UP", "DOWN", "RULE"]
