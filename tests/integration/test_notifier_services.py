"""Notifications by the real apprise to real servers, from the real daemon: they arrive, and no secret shows."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.core.notify_text import Notification
from hyperhive.host.notify_child import judge
from hyperhive.host.notify_sender import send
from hyperhive.system.process import run
from notify_servers import MailService, WebService, run_mail_service, run_mute_service, run_web_service

MESSAGE = Notification("hyperhive: *alice* asks <you>", "waiting since 12:00\nhttp://x/#need-1", "http://x/#need-1")
QUICK = {"HIVE_NOTIFY_DWELL_S": "1", "HIVE_NOTIFY_COOLDOWN_S": "2", "HIVE_PUBLIC_URL": "https://hive.example/here/"}


@pytest.fixture
def web() -> Iterator[WebService]:
    with run_web_service() as service:
        yield service


@pytest.fixture
def mail() -> Iterator[MailService]:
    with run_mail_service(b"me", b"secret-password") as service:
        yield service


@pytest.fixture
def quick_hive(tmp_path: Path) -> Iterator[HiveProcess]:
    """Not started yet: a hive that tells soon."""
    hive = HiveProcess(tmp_path / "data", environment=dict(QUICK))
    hive.data.mkdir(mode=0o700)
    try:
        yield hive
    finally:
        end_hive(hive)


def write_urls(hive: HiveProcess, *urls: str) -> None:
    file = hive.data / "notify.urls"
    file.write_text("\n".join(urls))
    file.chmod(0o600)


def name_mail(port: int, password: str = "secret-password") -> str:
    return f"mailto://me:{password}@127.0.0.1:{port}?mode=insecure&from=hive@example.org&to=you@example.org"


# -- one message -------------------------------------------------------------------------------------------


async def test_ntfy_takes_a_message_that_opens_what_it_is_about(web: WebService) -> None:
    assert await send(SecretStr(f"ntfy://127.0.0.1:{web.port}/secret-topic"), MESSAGE) == ""
    [body] = web.bodies
    assert (body["topic"], body["title"], body["message"]) == ("secret-topic", MESSAGE.title, MESSAGE.body)
    assert web.clicks == [MESSAGE.link]


async def test_a_web_hook_takes_a_message_and_a_receipt_is_left(web: WebService, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    assert await send(SecretStr(f"json://127.0.0.1:{web.port}/secret-path"), MESSAGE, receipt) == ""
    assert web.paths == ["/secret-path"]
    assert (web.bodies[0]["title"], web.bodies[0]["message"]) == (MESSAGE.title, MESSAGE.body)
    assert receipt.read_bytes() == b""


async def test_mail_arrives_with_a_subject_of_one_line(mail: MailService) -> None:
    assert await send(SecretStr(name_mail(mail.port)), MESSAGE) == ""
    [arrived] = mail.mails
    assert arrived["subject"] == MESSAGE.title
    assert "http://x/#need-1" in arrived.as_string()
    assert mail.recipients == ["you@example.org"]


async def test_what_goes_wrong_is_told_in_words_that_hold_no_secret(
    web: WebService, mail: MailService, tmp_path: Path
) -> None:
    web.status = 403
    receipt = tmp_path / "receipt"
    faults = {
        f"json://u:secret@127.0.0.1:{web.port}/secret": "the service answered with status 403",
        f"ntfy://127.0.0.1:{web.port}/secret": "the service answered with status 403",
        "json://u:secret@127.0.0.1:9/secret": "the connection was refused",
        "ntfy://secret.invalid/secret": "the name of the host is not known",
        f"jsons://127.0.0.1:{web.port}/secret": "no trusted connection could be made",
        name_mail(mail.port, "wrong-secret"): "the login was refused",
        "nonsense://secret": "apprise does not know this kind of URL",
        "json://[secret": "apprise does not know this kind of URL",
    }
    for url, fault in faults.items():
        assert await send(SecretStr(url), MESSAGE, receipt) == fault, url
    assert not receipt.exists()
    assert mail.mails == []


async def test_a_server_that_never_answers_is_given_up_and_its_sender_is_gone() -> None:
    with run_mute_service() as port:
        begun = time.monotonic()
        fault = await send(SecretStr(f"json://127.0.0.1:{port}/x?rto=60&cto=60"), MESSAGE, None, 2.0)
        assert fault == "there was no answer within 2 s"
        assert time.monotonic() - begun < 10


async def test_a_sender_that_nobody_ends_ends_itself() -> None:
    with run_mute_service() as port:
        order = {"url": f"json://127.0.0.1:{port}/x?rto=60", "title": "t", "body": "b", "link": "", "receipt": ""}
        done = await run(
            [sys.executable, "-P", "-m", "hyperhive.host.notify_child"],
            timeout_s=20,
            stdin=json.dumps(order | {"timeout_s": 1}).encode(),
        )
        assert not done.ok


def test_what_libraries_say_is_sorted_into_what_may_be_told() -> None:
    assert judge(["Failed to send JSON: Forbidden, error=403."]) == {"fault": "status", "status": 403}
    assert judge(["read timed out to https://secret"]) == {"fault": "timeout"}
    assert judge(["https://secret/token exploded"]) == {"fault": "other"}
    assert judge([]) == {"fault": "other"}


# -- the daemon --------------------------------------------------------------------------------------------


def ask_for_spawn(hive: HiveProcess, name: str) -> None:
    """Has something wait for the operator: the manager asks for a new agent."""
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": f"please spawn a {name}"})


def test_a_need_is_told_once_on_every_channel_over_a_kill_and_no_url_shows_anywhere(
    quick_hive: HiveProcess, web: WebService, mail: MailService
) -> None:
    hive = quick_hive
    urls = [f"ntfy://127.0.0.1:{web.port}/secret-topic", name_mail(mail.port), "json://u:secret@127.0.0.1:9/secret"]
    write_urls(hive, *urls)
    hive.start()
    ask_for_spawn(hive, "researcher")
    wait_for(lambda: web.bodies and mail.mails, "what waits to be told", 60, hive)
    [need] = hive.get("/api/needs")
    assert web.bodies[0]["title"] == f"hyperhive: {need['title']}"
    assert f"https://hive.example/here/#need-{need['key']}" in web.bodies[0]["message"]
    assert web.clicks[0] == f"https://hive.example/here/#need-{need['key']}"
    state = wait_for(
        lambda: (now := hive.get("/api/notifier"))["channels"][2]["fault"] and now, "a failure to show", 60, hive
    )
    assert [channel["name"] for channel in state["channels"]] == ["ntfy", "mailto", "json"]
    assert state["channels"][2]["held"][0] | {"until": ""} == {
        "key": need["key"],
        "title": need["title"],
        "by": "backoff",
        "until": "",
    }
    hive.kill()
    hive.start()
    ask_for_spawn(hive, "reviewer")
    wait_for(lambda: len(web.bodies) > 1 and len(mail.mails) > 1, "the second to be told", 60, hive)
    assert [body["title"] for body in web.bodies] == [mailed["subject"] for mailed in mail.mails]
    assert "researcher" not in web.bodies[1]["title"]
    assert len(web.bodies) == len(mail.mails) == 2
    for secret in ("secret", urls[2]):
        assert secret not in json.dumps(hive.get("/api/notifier"))
        assert secret not in hive.log


def test_a_test_message_is_sent_by_the_command_line_while_a_server_hangs(
    quick_hive: HiveProcess, web: WebService
) -> None:
    hive = quick_hive
    with run_mute_service() as port:
        write_urls(hive, f"json://127.0.0.1:{port}/x?rto=60&cto=60", f"ntfy://127.0.0.1:{web.port}/secret-topic")
        hive.start()
        ask_for_spawn(hive, "researcher")
        wait_for(lambda: web.bodies, "the other channel to be told", 20, hive)
        begun = time.monotonic()
        assert hive.post("/api/notifier/test", {"channel": "ntfy"}) == [{"channel": "ntfy", "fault": ""}]
        assert time.monotonic() - begun < 10
        assert web.bodies[-1]["title"] == "hyperhive: a test"
        shown = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if is_sender(path)]
        assert shown
        assert not [line for line in shown if b"json://" in line or b"rto=60" in line]
        assert hive.get("/api/notifier")["channels"][0]["sending"]


def is_sender(path: Path) -> bool:
    try:
        return b"notify_child" in path.read_bytes()
    except OSError:
        return False


async def test_the_daemon_loads_nothing_of_what_sends() -> None:
    code = "import sys, hyperhive.host.main; print([name for name in sys.modules if name in ('apprise', 'requests')])"
    done = await run([sys.executable, "-c", code], timeout_s=60)
    assert done.stdout.strip() == b"[]"
