"""A daemon that is killed loses neither a shell nor what was on it; a container that ends takes its shells with it."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import unix_connect

from hive_process import HiveProcess, wait_for

TERMINALS = "/api/agents/manager/terminals"
DEADLINE_S = 60


async def look(hive: HiveProcess, terminal_id: str, typed: str, until: str) -> str:
    """Types a line and gives what is shown, up to `until`."""
    uri = f"ws://hive{TERMINALS}/{terminal_id}/socket?mode=write"
    shown = b""
    async with asyncio.timeout(DEADLINE_S), unix_connect(str(hive.run / "hive.sock"), uri) as connection:
        await connection.send(typed.encode())
        while until.encode() not in shown:
            message = await connection.recv()
            if isinstance(message, bytes):
                shown += message
                await connection.send(json.dumps({"kind": "ack", "count": len(message)}))
    return shown.decode()


def find_terminal(hive: HiveProcess, terminal_id: str) -> dict[str, Any]:
    return next(row for row in hive.get(TERMINALS) if row["id"] == terminal_id)


async def test_a_shell_goes_on_over_a_daemon_that_is_killed(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    terminal_id = hive.post(TERMINALS, {"columns": 80, "rows": 24})["id"]
    await look(hive, terminal_id, "word=heron; echo mar''ked\n", "marked\r\n")
    await look(hive, terminal_id, "sleep 1000; echo mean''while\n", "echo mean")
    hive.kill()
    hive.start()
    hive.wait_state("manager", "idle")
    assert find_terminal(hive, terminal_id)["ended_at"] is None
    shown = await look(hive, terminal_id, "", "echo mean")
    assert "marked\r\n" in shown
    # What ran goes on: it is interrupted, and the shell is the same as before.
    shown = await look(hive, terminal_id, "\x03", "^C")
    shown = await look(hive, terminal_id, "echo the word is $word\n", "the word is heron\r\n")
    assert "marked\r\n" in shown


async def test_a_restart_of_the_container_after_a_crash_of_the_daemon_ends_its_shells(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    terminal_id = hive.post(TERMINALS, {"columns": 80, "rows": 24})["id"]
    await look(hive, terminal_id, "echo mar''ked\n", "marked\r\n")
    hive.kill()
    hive.start()
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/restart")
    wait_for(lambda: find_terminal(hive, terminal_id)["ended_at"], "the end of the terminal", DEADLINE_S, hive)
    assert find_terminal(hive, terminal_id)["ending"] == "stopped"
