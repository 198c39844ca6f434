"""Configs as code, in Chromium, with the real claude CLI on the stand-in: what the operator approves is what runs."""

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from hive_process import HiveProcess, find_processes, wait_for

NOTES_SERVER = (Path(__file__).parents[1] / "data" / "mcp_notes_server.py").read_text()
LISTED = """\
[mcp_servers.notes]
command = "python3"
args = ["/config/server.py", "/state/notes.txt"]
env = { NOTES_PREFIX = "noted: " }
allowed_tools = ["add_note", "list_notes"]
"""
ALL_TOOLS = LISTED.replace('["add_note", "list_notes"]', '["*"]')
UNKNOWN_PACKAGE = "no-such-package-of-hyperhive"


def call(tool: str, **arguments: str | float) -> str:
    return f"tool {tool} {json.dumps(arguments)}"


def script(*steps: str) -> str:
    """Steps of a model, as a message may tell it."""
    return "\n".join(f"%% {step}" for step in steps)


def order(hive: HiveProcess, agent: str, *steps: str) -> None:
    hive.post("/api/messages", {"to": agent, "body": script(*steps)})


def write(page: Page, to: str, text: str) -> None:
    page.get_by_test_id("flow-to").select_option(to)
    page.get_by_test_id("flow-text").fill(text)
    page.get_by_test_id("flow-send").click()


def edit(agent: str, *commands: str, commit: str = "git commit --quiet --message change", **files: str) -> str:
    """The manager's call that puts `files` into an agent's config, `x_toml` as x.toml, runs `commands`, and commits."""
    texts = [f"cat > {name.replace('_', '.')} <<'END'\n{text}\nEND" for name, text in files.items()]
    # In a shell of its own, as claude's stays where it went.
    lines = ["set -e", f"cd /agents/{agent}/config", *texts, *commands, "git add --all", commit]
    return call("Bash", command="(" + "\n".join(lines) + ")")


def propose(agent: str, **options: str) -> tuple[str, str]:
    """Steps of the manager: an edit that is committed, and the request."""
    why = options.pop("why", "please")
    return edit(agent, **options), call("request_apply_commit", agent=agent, description=why)


def spawn(hive: HiveProcess, name: str) -> dict[str, Any]:
    hive.post("/api/agents", {"name": name})
    hive.wait_state("manager", "idle")
    return hive.wait_state(name, "idle")


def deploy(hive: HiveProcess, agent: str, **files: str) -> None:
    """Has the manager propose and the operator approve, without the page."""
    order(hive, "manager", *propose(agent, **files))
    row = wait_for(lambda: hive.get("/api/approvals?status=pending"), "a proposal", hive=hive)[0]
    hive.post(f"/api/approvals/{row['id']}/approve")
    wait_for(lambda: hive.get(f"/api/approvals/{row['id']}")["status"] == "deployed", "the deployment", hive=hive)


def results(hive: HiveProcess, agent: str) -> list[str]:
    """What tool calls of an agent came to, in order: each result or error that its model was given."""
    found: list[str] = []
    for event in hive.get(f"/api/agents/{agent}/transcript?limit=1000"):
        if event["kind"] == "claude" and event["body"]["type"] == "user":
            content: list[dict[str, Any]] = event["body"]["message"]["content"]
            found += [json.dumps(block["content"]) for block in content if block["type"] == "tool_result"]
    return found


def wait_results(hive: HiveProcess, agent: str, count: int) -> list[str]:
    def enough() -> list[str] | None:
        return found if len(found := results(hive, agent)) >= count else None

    return wait_for(enough, f"{count} results of {agent}", timeout_s=60, hive=hive)


def heard(hive: HiveProcess, event: str, status: str) -> dict[str, Any] | None:
    """What the manager was told of the last approval that came to `status`."""
    for message in hive.get("/api/messages?limit=500"):
        if (message["sender"], message["recipient"]) == ("system", "manager"):
            body = json.loads(message["body"])
            if (body["event"], body.get("status")) == (event, status):
                return body
    return None


def record_statuses(page: Page, approval: Locator) -> None:
    """From now on every status that the row shows is kept in the page."""
    approval.evaluate(
        """row => {
            window.statuses = [row.dataset.status];
            new MutationObserver(() => window.statuses.push(row.dataset.status))
                .observe(row, { attributeFilter: ["data-status"] });
        }"""
    )


def expect_deployed(page: Page, number: int) -> Locator:
    approval = page.get_by_test_id(f"approval-{number}")
    expect(approval).to_have_attribute("data-status", "deployed", timeout=60_000)
    return approval


def test_a_tool_that_was_denied_is_amended_and_approved_and_only_what_is_listed_of_it_may_be_called(
    page: Page, hive: HiveProcess
) -> None:
    deployed = spawn(hive, "researcher")["commit"]
    wish = "please give me a tool for notes.\n" + script(
        *propose("researcher", why="it wants to keep notes", agent_toml=ALL_TOOLS, server_py=NOTES_SERVER)
    )
    write(page, "researcher", script(call("send", to="manager", body=wish), "say asked"))

    # The operator reads what it means: the command with all that it is started with, its tools, when it takes effect.
    first = page.get_by_test_id("approval-1")
    meaning = page.get_by_test_id("meaning-1")
    expect(meaning).to_be_visible(timeout=60_000)
    expect(first).to_contain_text("it wants to keep notes")
    for part in ("notes", "python3", "/config/server.py", "/state/notes.txt", "NOTES_PREFIX", "noted: ", "*"):
        expect(meaning).to_contain_text(part)
    expect(meaning).to_contain_text("restart")
    expect(first.get_by_test_id("diff-file-server.py")).to_contain_text("drop_notes")

    first.get_by_test_id("deny-open").click()
    first.get_by_test_id("deny-reason").fill("it must not drop notes")
    first.get_by_test_id("deny").click()
    expect(first).to_have_attribute("data-status", "denied", timeout=20_000)
    told = wait_for(lambda: heard(hive, "approval_resolved", "denied"), "the manager to be told", hive=hive)
    assert (told["approval"], told["agent"], told["reason"]) == (1, "researcher", "it must not drop notes")
    assert hive.agent("researcher")["commit"] == deployed

    # The manager finds the reason in the applied repo, amends, and proposes again.
    order(
        hive,
        "manager",
        call("Bash", command="git -C /applied/researcher for-each-ref --format='%(contents)' refs/tags/denied/1"),
        *propose("researcher", agent_toml=LISTED, commit="git commit --quiet --amend --no-edit"),
    )
    wait_for(
        lambda: any("it must not drop notes" in r for r in results(hive, "manager")), "the tag's reason", hive=hive
    )
    second = page.get_by_test_id("approval-2")
    expect(page.get_by_test_id("meaning-2")).to_contain_text("list_notes", timeout=60_000)
    second.get_by_test_id("since-earlier").click()
    expect(second).to_contain_text("only what differs from #1")
    expect(page.get_by_test_id("meaning-2")).not_to_contain_text("python3")
    expect(second.get_by_test_id("diff-file-agent.toml")).to_contain_text('allowed_tools = ["add_note", "list_notes"]')
    expect(second.get_by_test_id("diff-file-server.py")).to_have_count(0)

    record_statuses(page, second)
    second.get_by_test_id("approve").click()
    expect_deployed(page, 2)
    statuses = page.evaluate("window.statuses")
    assert (statuses[0], statuses[-2:]) == ("pending", ["building", "deployed"]), statuses

    # In the real CLI: what is listed runs, with what was approved; what is not listed is denied by name of the rule.
    hive.wait_state("researcher", "idle")
    before = len(results(hive, "researcher"))
    order(
        hive,
        "researcher",
        call("mcp__notes__add_note", text="bees dance"),
        call("mcp__notes__list_notes"),
        call("mcp__notes__drop_notes"),
        call("mcp__notes__list_notes"),
        "say tried",
    )
    added, listed, dropped, still = wait_results(hive, "researcher", before + 4)[before:]
    assert "added" in added
    assert "noted: bees dance" in listed
    assert "mcp_servers.notes.allowed_tools" in dropped
    assert still == listed

    page.goto(f"{hive.origin}/agent/researcher/")
    rows = page.get_by_test_id("row-tool")
    listed_row = rows.filter(has_text="list_notes").first
    listed_row.locator("summary").click()
    expect(listed_row).to_contain_text("noted: bees dance")
    denied_row = rows.filter(has_text="drop_notes").first
    denied_row.locator("summary").click()
    expect(denied_row).to_contain_text("denied: by the rule 'mcp_servers.notes.allowed_tools'")


def test_a_config_that_cannot_be_built_leaves_the_old_container_running_and_says_why(
    page: Page, hive: HiveProcess
) -> None:
    commit = spawn(hive, "alice")["commit"]
    container = find_processes(hive, "alice")[0]
    order(hive, "manager", *propose("alice", agent_toml=f'packages = ["bash", "{UNKNOWN_PACKAGE}"]'))
    approval = page.get_by_test_id("approval-1")
    expect(page.get_by_test_id("meaning-1")).to_contain_text("rebuild", timeout=60_000)
    approval.get_by_test_id("approve").click()
    expect(approval).to_have_attribute("data-status", "failed", timeout=60_000)

    wanted = f"apt-get install {UNKNOWN_PACKAGE}"
    expect(approval.get_by_test_id("approval-reason")).to_contain_text(wanted)
    row = page.get_by_test_id("agent-alice")
    expect(row.get_by_test_id("config-error")).to_contain_text(wanted)
    told = wait_for(lambda: heard(hive, "approval_resolved", "failed"), "the manager to be told", hive=hive)
    assert (told["approval"], told["agent"]) == (1, "alice")
    assert wanted in told["reason"]

    # The very same container, with what it had, still works.
    agent = hive.wait_state("alice", "idle")
    assert (agent["commit"], find_processes(hive, "alice")[0]) == (commit, container)
    order(hive, "alice", call("Bash", command="echo generation $HIVE_GENERATION"), "say here")
    assert "generation 1" in wait_results(hive, "alice", 1)[0]
    order(hive, "manager", call("Bash", command="git -C /applied/alice rev-parse main deployed/0^0 failed/1^0"))
    wait_for(lambda: any(f"{commit}\\n{commit}\\n" in r for r in results(hive, "manager")), "main to stay", hive=hive)

    # The next one that is deployed takes the complaint away.
    deploy(hive, "alice", agent_toml='packages = ["bash"]')
    expect(row.get_by_test_id("config-error")).to_have_count(0, timeout=20_000)


def test_a_version_from_the_history_comes_back_and_what_came_after_it_is_gone(page: Page, hive: HiveProcess) -> None:
    commit = spawn(hive, "alice")["commit"]
    deploy(hive, "alice", agent_toml=LISTED, server_py=NOTES_SERVER)
    hive.wait_state("alice", "idle")
    page.get_by_test_id("config-toggle-alice").click()
    config = page.get_by_test_id("config-alice")
    expect(config.get_by_test_id("permissions-alice")).to_contain_text("notes", timeout=20_000)
    expect(config.get_by_test_id("version-1")).to_contain_text("current")
    config.get_by_test_id("revert-0").click()
    config.get_by_test_id("revert-0-yes").click()

    approval = expect_deployed(page, 2)
    expect(approval).to_contain_text("revert")
    expect(approval).to_contain_text("brings back the first config")
    expect(config.get_by_test_id("version-2")).to_contain_text("current", timeout=20_000)
    expect(config.get_by_test_id("permissions-alice")).not_to_contain_text("notes")
    expect(config.get_by_test_id("config-file-server.py")).to_have_count(0)

    # A commit of its own on top: nothing of the history is lost. The server is gone, and so are its files.
    row = hive.wait_state("alice", "idle")
    assert row["commit"] not in {commit, ""}
    order(
        hive,
        "alice",
        call("mcp__notes__add_note", text="x"),
        call("Bash", command="ls /config"),
        "say looked",
    )
    refused, files = wait_results(hive, "alice", 2)
    assert "added" not in refused
    assert "agent.toml" in files
    assert "server.py" not in files


def test_what_the_branch_becomes_after_the_request_is_not_what_is_deployed(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "alice")
    harmless = 'allowed_recipients = ["operator"]'
    order(
        hive,
        "manager",
        *propose("alice", agent_toml=harmless),
        edit("alice", agent_toml='environment = { SMUGGLED = "1" }', commit="git commit --quiet --amend --no-edit"),
        "say amended",
    )
    approval = page.get_by_test_id("approval-1")
    expect(page.get_by_test_id("meaning-1")).to_contain_text("operator", timeout=60_000)
    hive.wait_state("manager", "idle")
    branch = (hive.data / "proposed/alice/config/agent.toml").read_text()
    assert "SMUGGLED" in branch

    pinned = hive.get("/api/approvals/1")["commit"]
    page.reload()
    expect(page.get_by_test_id("meaning-1")).to_contain_text("operator", timeout=20_000)
    expect(approval).not_to_contain_text("SMUGGLED")
    approval.get_by_test_id("approve").click()
    expect_deployed(page, 1)
    assert hive.agent("alice")["commit"] == pinned
    page.get_by_test_id("config-toggle-alice").click()
    expect(page.get_by_test_id("config-alice")).to_contain_text(harmless, timeout=20_000)
    assert "SMUGGLED" not in page.get_by_test_id("config-alice").inner_text()


def test_a_tool_call_waits_for_the_operators_word_and_the_model_reads_why_not(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "alice")
    deploy(hive, "alice", agent_toml='[permissions]\nask = ["Bash"]')
    numbers = ("one", "two", "three", "four")
    order(hive, "alice", *(call("Bash", command=f"echo number {number}") for number in numbers), "say counted")

    once = page.get_by_test_id("question-1")
    expect(once).to_contain_text("echo number one", timeout=60_000)
    expect(once).to_contain_text("permissions.ask")
    expect(page.get_by_test_id("agent-alice").get_by_test_id("reason")).to_contain_text("permission: Bash")
    assert results(hive, "alice") == []
    once.get_by_test_id("permission-allow-once").click()

    refused = page.get_by_test_id("question-2")
    expect(refused).to_contain_text("echo number two", timeout=20_000)
    refused.get_by_test_id("permission-reason").fill("count no further than one")
    refused.get_by_test_id("permission-deny").click()

    page.get_by_test_id("question-3").get_by_test_id("permission-allow-30m").click(timeout=20_000)
    one, two, three, four = wait_results(hive, "alice", 4)
    assert "number one" in one
    assert "number two" not in two
    assert "count no further than one" in two
    assert "number three" in three
    assert "number four" in four
    assert len(hive.get("/api/questions")) == 3
    expect(page.get_by_test_id("questions").locator("li[data-status=open]")).to_have_count(0, timeout=20_000)


def test_a_drafted_agent_reads_the_notes_that_were_staged_for_it_in_its_first_turn(
    page: Page, hive: HiveProcess
) -> None:
    hive.wait_state("manager", "idle")
    order(
        hive,
        "manager",
        call("request_spawn_draft", name="tester"),
        call("Bash", command="echo 'the queen is marked with a blue dot' > /agents/tester/state/notes.md"),
        edit("tester", prompt_md="You count bees.", agent_toml='allowed_recipients = ["manager"]'),
        "say drafted",
    )
    draft = page.get_by_test_id("draft-tester")
    expect(draft).to_contain_text(re.compile("manager.* ago"), timeout=60_000)
    # It waits for the decision in the same turn, so that its task is the first that the new agent hears of.
    order(
        hive,
        "manager",
        call("request_spawn_commit", name="tester", description="it counts bees"),
        call("recv", wait_seconds=120),
        call("send", to="tester", body=script(call("Read", file_path="/state/notes.md"), "say read")),
        "say told",
    )
    approval = page.get_by_test_id("approval-1")
    expect(page.get_by_test_id("meaning-1")).to_contain_text("manager", timeout=60_000)
    expect(approval.get_by_test_id("diff-file-prompt.md")).to_contain_text("You count bees.")
    expect(draft).to_contain_text("KiB")
    expect(page.get_by_test_id("notes-1")).to_contain_text("the queen is marked with a blue dot")
    expect(page.get_by_test_id("agent-tester")).to_have_count(0)
    approval.get_by_test_id("approve").click()
    expect_deployed(page, 1)
    expect(draft).to_have_count(0)
    expect(page.get_by_test_id("agent-tester")).to_be_visible()

    assert "the queen is marked with a blue dot" in wait_results(hive, "tester", 1)[0]
    events = hive.get("/api/agents/tester/transcript?limit=1000")
    assert len([event for event in events if event["kind"] == "turn.started"]) == 1
    page.goto(f"{hive.origin}/agent/tester/")
    read = page.get_by_test_id("row-tool").filter(has_text="notes.md")
    read.locator("summary").click()
    expect(read).to_contain_text("the queen is marked with a blue dot")


def test_what_a_destroyed_agent_wrote_is_there_when_it_is_revived_and_gone_when_it_is_purged(
    page: Page, hive: HiveProcess
) -> None:
    spawn(hive, "alice")
    order(hive, "alice", call("Bash", command="seq 1 20000 > diary.md; echo 'bees sleep' >> diary.md"), "say written")
    wait_results(hive, "alice", 1)
    hive.wait_state("alice", "idle")
    row, kept = page.get_by_test_id("agent-alice"), page.get_by_test_id("kept-alice")

    row.get_by_test_id("destroy").click()
    row.get_by_test_id("destroy-yes").click()
    expect(kept).to_contain_text(
        re.compile(r"destroyed .* ago, lived .* · [1-9][\d.]* (KB|KiB|MB|MiB)"), timeout=30_000
    )
    expect(row).to_have_count(0)
    kept.get_by_test_id("revive").click()
    expect(row).to_have_attribute("data-state", "idle", timeout=30_000)
    order(hive, "alice", call("Bash", command="tail -n 1 /state/diary.md"), "say read")
    assert "bees sleep" in wait_results(hive, "alice", 2)[-1]

    hive.wait_state("alice", "idle")
    row.get_by_test_id("destroy").click()
    row.get_by_test_id("destroy-yes").click()
    kept.get_by_test_id("purge").click(timeout=30_000)
    kept.get_by_test_id("purge-yes").click()
    expect(kept).to_have_count(0, timeout=20_000)
    assert hive.get("/api/kept") == []
    assert list(hive.data.glob("*/alice*")) == []


def test_a_rule_that_is_asked_for_in_plain_words_is_proposed_and_holds(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "researcher")
    write(page, "manager", "allow researcher only git and ls")
    approval = page.get_by_test_id("approval-1")
    expect(page.get_by_test_id("meaning-1")).to_contain_text("ls *", timeout=60_000)
    expect(approval.get_by_test_id("diff-file-agent.toml")).to_contain_text('bash.allow = ["git *", "ls *"]')
    expect(page.get_by_test_id("inbox")).to_contain_text("the approval waits for you", timeout=30_000)
    approval.get_by_test_id("approve").click()
    expect_deployed(page, 1)
    write(page, "researcher", "run: ls -d /state")
    expect(page.get_by_test_id("inbox")).to_contain_text("`ls -d /state` said: /state", timeout=30_000)
    write(page, "researcher", "run: ls; curl x")
    expect(page.get_by_test_id("inbox")).to_contain_text("denied by the rule 'bash.allow'", timeout=30_000)
