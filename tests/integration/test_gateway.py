"""The gateway between real sockets: it adds the hive's credential, takes away the container's, and records."""

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess, end_hive, wait_for

KEY = "sk-ant-api03-canary-of-the-gateway-test"
TOKEN = "sk-ant-oat01-canary-of-the-gateway-test"
OWN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The stand-in of the Messages API, as a program of its own."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening: ").strip()
        process.terminate()


@contextmanager
def hive_with(upstream: str, environment: dict[str, str]) -> Generator[HiveProcess]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", ("--upstream", upstream), OWN | environment).start()
        try:
            # Its sockets are replaced when its container starts.
            hive.wait_state("manager", "idle", "needs_login", "parked")
            yield hive
        finally:
            end_hive(hive)


def model_client(hive: HiveProcess) -> httpx.Client:
    socket = str(hive.run / "agents" / "manager" / "model.sock")
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://model.hive", timeout=20)


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "claude-test", "max_tokens": 10, "messages": [{"role": "user", "content": text}], **fields}


def received(upstream: str, text: str) -> dict[str, Any]:
    requests = httpx.get(f"{upstream}/_requests").json()["requests"]
    return next(request for request in requests if request["user_text"] == text)


def recorded(hive: HiveProcess) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(hive.data / "telemetry.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from model_requests order by id")]


def test_an_api_key_is_added_and_what_the_container_sent_is_replaced(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        headers = {"x-api-key": "held-by-the-hive", "authorization": "Bearer mine"}
        response = client.post("/v1/messages", json=ask("with a key"), headers=headers)
        assert response.status_code == 200
        seen = received(upstream, "with a key")
        assert (seen["x_api_key"], seen["authorization"]) == (KEY, None)
        assert hive.get("/api/hive")["credential"] == "api_key"


def test_a_token_is_added_as_a_bearer(upstream: str) -> None:
    with hive_with(upstream, {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}) as hive, model_client(hive) as client:
        client.post("/v1/messages", json=ask("with a token"), headers={"x-api-key": "mine"}).raise_for_status()
        seen = received(upstream, "with a token")
        assert (seen["x_api_key"], seen["authorization"]) == (None, f"Bearer {TOKEN}")


def test_an_agents_own_login_passes_untouched(upstream: str) -> None:
    with hive_with(upstream, {}) as hive, model_client(hive) as client:
        headers = {"authorization": "Bearer the-agents-own"}
        client.post("/v1/messages", json=ask("own login"), headers=headers).raise_for_status()
        seen = received(upstream, "own login")
        assert (seen["x_api_key"], seen["authorization"]) == (None, "Bearer the-agents-own")


def test_answers_stream_and_every_request_is_recorded(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        prompt = "count\n%% usage input=11 output=22 cache_read=33 cache_creation=44\n%% say one two three"
        with client.stream("POST", "/v1/messages?beta=true", json=ask(prompt, stream=True)) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
        assert events[0]["type"] == "message_start"
        assert events[-1]["type"] == "message_stop"
        failed = client.post("/v1/messages", json=ask("fail\n%% error 529"))
        assert (failed.status_code, failed.json()["error"]["type"]) == (529, "overloaded_error")
        rows = wait_for(lambda: len(rows := recorded(hive)) == 2 and rows, "both requests to be recorded", hive=hive)
        assert [row["status"] for row in rows] == [200, 529]
        tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
        assert [rows[0][key] for key in tokens] == [11, 22, 33, 44]
        assert rows[0]["agent"] == "manager"
        assert rows[0]["model"]
        assert rows[0]["first_byte_ms"] <= rows[0]["total_ms"]


def test_only_a_conversations_calls_are_forwarded(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        count = len(httpx.get(f"{upstream}/_requests").json()["requests"])
        for method, path in [
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/files"),
            ("GET", "/v1/messages"),
            ("DELETE", "/v1/messages"),
            ("GET", "/v1/organizations/me"),
            ("POST", "/v1/messages/../files"),
            ("POST", "/v1//messages"),
            ("GET", "/api/agents"),
        ]:
            response = client.request(method, path)
            assert response.status_code == 404, (method, path)
            assert response.json()["type"] == "error"
        assert len(httpx.get(f"{upstream}/_requests").json()["requests"]) == count


def test_a_body_that_is_too_large_is_refused(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        response = client.post("/v1/messages", content=b"x" * (33 * 1024 * 1024))
        assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


def test_an_upstream_that_is_away_is_an_api_error() -> None:
    with hive_with("http://127.0.0.1:9", {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        response = client.post("/v1/messages", json=ask("anybody?"))
        assert (response.status_code, response.json()["error"]["type"]) == (502, "api_error")


def test_a_stream_that_breaks_off_looks_broken(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive, model_client(hive) as client:
        request = client.build_request("POST", "/v1/messages", json=ask("cut\n%% cut", stream=True))
        with pytest.raises(httpx.HTTPError):
            response = client.send(request, stream=True)
            for _ in response.iter_raw():
                pass


def leave_unanswered(hive: HiveProcess, upstream: str, text: str, **fields: Any) -> None:
    """Asks for an answer that the service begins in an hour, and hangs up once it has the request."""
    with model_client(hive) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/messages", json=ask(f"{text}\n%% sleep 3600", **fields), timeout=1)
    assert received(upstream, f"{text}\n%% sleep 3600")


def test_a_stream_nobody_waits_for_is_given_up_and_charged(upstream: str) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive:
        leave_unanswered(hive, upstream, "too slow", stream=True)
        (row,) = wait_for(lambda: recorded(hive), "the request to be recorded", 15, hive)
        assert row["status"] == 0
        assert row["charged_tokens"] > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_hive_ends_at_once_and_records_what_was_on_its_way(upstream: str, stream: bool) -> None:
    with hive_with(upstream, {"ANTHROPIC_API_KEY": KEY}) as hive:
        leave_unanswered(hive, upstream, f"on its way {stream}", stream=stream)
        began_s = time.monotonic()
        assert hive.stop() == 0
        assert time.monotonic() - began_s < 15
        (row,) = recorded(hive)
        assert (row["status"], row["charged_tokens"] > 0) == (0, True)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_credential_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(mode)
    command = [sys.executable, "-m", "hyperhive.host.main", "--data", str(tmp_path / "d"), "--credential", str(file)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr
    assert KEY not in refused.stderr
