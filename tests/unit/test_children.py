"""Strays are told from what a program started itself. Each test is a program of its own: it adopts for its lifetime."""

import subprocess
import sys

PROLOGUE = """
import asyncio, os
from pathlib import Path
from hyperhive.system.children import CHILDREN
from hyperhive.system.process import run

def find_strays():
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if f"MARK={os.getpid()}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found

env = {"PATH": os.environ["PATH"], "MARK": str(os.getpid())}
"""


def run_program(body: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = f"{PROLOGUE}\nasync def main():\n{lines}\nasyncio.run(main())\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_strays_end_with_all_that_they_started_and_are_reaped() -> None:
    run_program(
        """
CHILDREN.adopt_orphans()
script = "setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 & (setsid -f sleep 1000) >/dev/null 2>&1"
assert (await run(["sh", "-c", script], timeout_s=10, env=env)).ok
async with asyncio.timeout(10):
    while len(find_strays()) < 4:
        await asyncio.sleep(0.01)
await CHILDREN.end_strays(lambda: True)
assert len(find_strays()) == 4, "they were wanted"
await CHILDREN.end_strays(lambda: False)
assert find_strays() == []
assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""
"""
    )


def test_the_status_of_what_was_started_here_is_nobody_elses() -> None:
    run_program(
        """
CHILDREN.adopt_orphans()
async def leave():
    # Its orphan ends at once, and so is reaped while the others end.
    assert (await run(["sh", "-c", "setsid -f true; setsid -f sleep 1000 >/dev/null 2>&1"], timeout_s=20, env=env)).ok
async def count(status):
    assert (await run(["sh", "-c", f"sleep 0.0{status}; exit {status}"], timeout_s=20)).status == status
async def end():
    for _ in range(20):
        await CHILDREN.end_strays(lambda: False)
        await asyncio.sleep(0)
await asyncio.gather(*(leave() for _ in range(10)), *(count(status) for status in range(1, 10)), end())
await CHILDREN.end_strays(lambda: False)
assert find_strays() == []
"""
    )


def test_without_adopting_nothing_is_ended() -> None:
    run_program(
        """
process = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
await CHILDREN.end_strays(lambda: False)
assert process.returncode is None
process.kill()
assert await process.wait() == -9
"""
    )
