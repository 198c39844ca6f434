"""Devices over the API of a real daemon, as a browser with a session and as an adversary with one."""

from collections.abc import Iterator

import pytest

from hive_process import HiveProcess
from hyperhive.testing.push.browser import Subscription, to_text

SUBSCRIPTION = Subscription()
GOOD = {
    "endpoint": "https://push.example/abc",
    "p256dh": to_text(SUBSCRIPTION.point),
    "auth": to_text(SUBSCRIPTION.auth),
    "name": "a phone",
}


@pytest.fixture(autouse=True)
def clean(shared_hive: HiveProcess) -> Iterator[None]:
    yield
    with shared_hive.client() as client:
        for row in shared_hive.get("/api/devices"):
            client.delete(f"/api/devices/{row['id']}").raise_for_status()


def test_a_device_is_stored_renewed_muted_and_removed_and_its_address_is_shown_to_nobody(
    shared_hive: HiveProcess,
) -> None:
    with shared_hive.browser_session() as client:
        first = client.post("/api/devices", json=GOOD)
        assert first.status_code == 201, first.text
        row = first.json()
        assert (row["name"], row["service"], row["muted"], row["sent_at"]) == ("a phone", "push.example", False, None)
        again = client.post("/api/devices", json={**GOOD, "name": "renamed"}).json()
        assert (again["id"], again["name"]) == (row["id"], "renamed")
        assert client.put(f"/api/devices/{row['id']}", json={"muted": True}).json()["muted"] is True
        listed = client.get("/api/devices")
        assert [one["id"] for one in listed.json()] == [row["id"]]
        for secret in (GOOD["endpoint"], GOOD["p256dh"], GOOD["auth"]):
            assert secret not in listed.text + client.get("/api/push-key").text + shared_hive.log
        assert client.delete(f"/api/devices/{row['id']}").status_code == 204
        assert client.get("/api/devices").json() == []


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "http://127.0.0.1:7000/api/shutdown"},
        {"endpoint": "https://127.0.0.1/x"},
        {"endpoint": "https://169.254.169.254/latest/meta-data/"},
        {"endpoint": "https://localhost:8443/x"},
        {"endpoint": "https://push.example/" + "x" * 5000},
        {"endpoint": 7},
        {"p256dh": "AAAA"},
        {"p256dh": "A" * 10_000},
        {"auth": "AAAA"},
        {"name": ""},
        {"name": "x" * 61},
        {"name": "line\nbreak"},
        {"name": "\x1b[2J"},
        {"more": 1},
    ],
)
def test_what_is_no_subscription_is_refused_with_a_reason(shared_hive: HiveProcess, change: dict[str, object]) -> None:
    with shared_hive.browser_session() as client:
        answer = client.post("/api/devices", json={**GOOD, **change})
        assert answer.status_code == 400, answer.text
        assert answer.json()["message"]
        assert client.get("/api/devices").json() == []


def test_the_worker_and_the_manifest_are_served_at_the_root_without_a_session_and_always_anew(
    shared_hive: HiveProcess,
) -> None:
    with shared_hive.browser_session() as client:
        client.cookies.clear()
        for path, kind in (("/sw.js", "text/javascript"), ("/manifest.webmanifest", "application/manifest+json")):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["content-type"].startswith(kind)
            assert answer.headers["cache-control"] == "no-cache"
            assert "script-src 'self'" in answer.headers["content-security-policy"]
        worker = client.get("/sw.js").text
        # One script without pieces: browsers without workers of modules run it, too.
        assert "import" not in worker
        assert client.get("/sw.js", headers={"host": "evil.example"}).status_code == 421


def test_the_key_stays_the_same_over_a_restart(hive: HiveProcess) -> None:
    before = hive.get("/api/push-key")
    assert (hive.data / "vapid.pem").stat().st_mode & 0o777 == 0o600
    hive.stop()
    hive.start()
    assert hive.get("/api/push-key") == before
