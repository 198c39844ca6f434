"""What the pages are made of is served to a browser without a session, and nothing else is."""

import struct

import httpx

from hive_process import HiveProcess


def test_each_thing_worth_a_link_has_an_address_that_shows_the_pages(shared_hive: HiveProcess) -> None:
    with httpx.Client(base_url=shared_hive.origin) as client:
        paths = ("/", "/programs/", "/audit/", "/approvals/7", "/questions/3", "/threads/12")
        documents = {client.get(path).text for path in paths}
        assert len(documents) == 1
        for path in ("/approvals/1/2", "/approvals/", "/questions/", "/threads/"):
            assert client.get(path, follow_redirects=True).status_code == 404, path
        assert client.get("/programs", follow_redirects=True).url.path == "/programs/"


def test_what_is_installed_has_its_icons_and_its_page_for_when_the_hive_is_gone(shared_hive: HiveProcess) -> None:
    with httpx.Client(base_url=shared_hive.origin) as client:
        for icon in client.get("/manifest.webmanifest").json()["icons"]:
            answer = client.get(icon["src"])
            assert answer.headers["content-type"] == icon["type"]
            if icon["type"] == "image/png":
                assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
                width, height = struct.unpack(">II", answer.content[16:24])
                assert f"{width}x{height}" == icon["sizes"]
        for path in ("/offline.html", "/offline.css", "/offline.js"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-cache"
        assert "<style" not in client.get("/offline.html").text
        for path in ("/offline.map", "/icon-513.png", "/icon-..png", "/icon-192.png/x"):
            assert client.get(path).status_code in {401, 404}, path


def test_a_question_is_shown_by_its_number_also_after_it_ended(shared_hive: HiveProcess) -> None:
    hive = shared_hive
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": '%% tool ask_operator {"question": "why?"}\n%% say asked'})
    hive.wait_state("manager", "idle")
    with hive.browser_session() as client:
        found: list[dict[str, object]] = []
        while not found:
            found = client.get("/api/questions").json()
        assert client.get("/api/questions/1").json() == found[0]
        client.post("/api/questions/1/cancel").raise_for_status()
        assert client.get("/api/questions/1").json()["status"] == "cancelled"
        missing = client.get("/api/questions/99")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        client.cookies.clear()
        assert client.get("/api/questions/1").status_code == 401
