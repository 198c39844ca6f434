"""The story of the first hour, in Chromium, with the real claude CLI on the stand-in; then a crash of the daemon."""

import json
import re
from typing import Any

from playwright.sync_api import Page, expect

from hive_process import HiveProcess, wait_for

# Long enough for a kill and a start in the middle of it.
SCRIPT = """please look into it
%% tool Bash {"command": "sleep 6; echo rested"}
%% tool send {"to": "researcher", "body": "a second question: what did you find?"}
%% say asked"""


def messages(hive: HiveProcess) -> list[dict[str, Any]]:
    return list(reversed(hive.get("/api/messages?limit=500")))


def transcript(hive: HiveProcess, agent: str) -> list[dict[str, Any]]:
    return hive.get(f"/api/agents/{agent}/transcript?limit=1000")


def write(page: Page, to: str, text: str) -> None:
    page.get_by_test_id("flow-to").select_option(to)
    page.get_by_test_id("flow-text").fill(text)
    page.get_by_test_id("flow-send").click()


def test_a_swarm_is_asked_for_approved_and_answers_and_survives_the_daemons_crash(
    page: Page, hive: HiveProcess
) -> None:
    assert "token" not in page.url
    expect(page.get_by_text("rehearsal: no model behind this")).to_be_visible()
    expect(page.get_by_test_id("agent-manager")).to_have_attribute("data-state", "idle", timeout=30_000)

    # An approval appears without a reload, and what it approves starts.
    page.evaluate("window.notReloaded = true")
    write(page, "manager", "we need a researcher")
    approval = page.get_by_test_id("approval-1")
    expect(approval).to_contain_text("researcher", timeout=30_000)
    approval.get_by_test_id("approve").click()
    expect(page.get_by_test_id("agent-researcher")).to_have_attribute(
        "data-state", re.compile("idle|thinking"), timeout=30_000
    )

    # The manager's message reaches it, and its answer the operator.
    answer = page.get_by_test_id("inbox").get_by_text("hello, i am researcher")
    expect(answer).to_be_visible(timeout=30_000)
    first = messages(hive)
    assert [(m["sender"], m["recipient"]) for m in first if m["recipient"] == "researcher"] == [
        ("manager", "researcher")
    ]
    assert page.evaluate("window.notReloaded") is True

    # The daemon is killed in the middle of a second exchange, and started again.
    wait_for(lambda: hive.agent("manager")["state"] == "idle", "the manager to be idle", hive=hive)
    write(page, "manager", SCRIPT)
    expect(page.get_by_test_id("agent-manager")).to_have_attribute("data-state", "thinking", timeout=30_000)
    wait_for(
        lambda: "sleep 6" in json.dumps(transcript(hive, "manager")), "the manager to be in its command", hive=hive
    )
    asked = next(m for m in messages(hive) if "please look into it" in m["body"])
    assert asked["state"] == "leased"
    hive.kill()
    expect(page.get_by_test_id("banner-lost")).to_be_visible(timeout=30_000)
    hive.start()
    expect(page.get_by_test_id("banner-lost")).to_be_hidden(timeout=30_000)

    second = wait_for(
        lambda: [m for m in messages(hive) if m["sender"] == "researcher" and m["recipient"] == "operator"][1:],
        "the researcher's second answer",
        hive=hive,
    )
    expect(page.get_by_test_id(f"inbox-{second[0]['id']}")).to_be_visible()

    # The turn that ran was not interrupted: it began once, ended well, and its message was handed out once.
    wait_for(lambda: hive.agent("manager")["state"] == "idle", "the manager to be idle", hive=hive)
    events = transcript(hive, "manager")
    turns = [e["body"] for e in events if e["kind"] == "turn.started" and asked["id"] in e["body"]["message_ids"]]
    assert len(turns) == 1
    assert {e["body"]["outcome"] for e in events if e["kind"] == "turn.ended"} == {"ok"}
    assert '"rested' in json.dumps(events)
    settled = {m["id"]: m for m in messages(hive)}
    assert (settled[asked["id"]]["state"], settled[asked["id"]]["deliveries"]) == ("acked", 1)
    # Nothing is lost, nothing that was acked came again.
    assert [m["id"] for m in first] == [i for i in sorted(settled) if i <= first[-1]["id"]]
    assert all(m["deliveries"] <= 1 for m in settled.values())
    assert len({(m["sender"], m["recipient"], m["body"]) for m in settled.values()}) == len(settled)
    # The transcript has no gap by sequence number.
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert page.evaluate("window.notReloaded") is True
