"""claude as a process that takes and gives lines."""

import sys
from pathlib import Path

import pytest

from hyperhive.core.errors import TooLargeError, UnavailableError
from hyperhive.core.policy import Policy, render_policy
from hyperhive.harness import claude_process
from hyperhive.harness.claude_process import ClaudeProcess
from hyperhive.harness.engine_wire import OpenParams


def _plan_params(claude: Path, folder: Path) -> OpenParams:
    return OpenParams(
        agent="alice",
        manager=False,
        resume="",
        model="",
        claude=str(claude),
        working_folder=str(folder),
        policy=render_policy(Policy()),
        mcp_servers={},
        prompt="",
    )


async def _start(folder: Path, program: str) -> ClaudeProcess:
    claude = folder / "claude"
    claude.write_text(f"#!{sys.executable} -IS\nimport sys\n{program}\n")
    claude.chmod(0o755)
    return await ClaudeProcess.start(_plan_params(claude, folder))


async def test_lines_come_whole_however_long_they_are_and_half_ones_never(tmp_path: Path) -> None:
    process = await _start(tmp_path, "sys.stdout.write('a\\n\\n' + 'b' * 300_000 + '\\nc\\nhalf')")

    lines = [line async for line in process.read_lines()]

    assert lines == [b"a", b"", b"b" * 300_000, b"c"]
    await process.close()


async def test_a_line_that_never_ends_is_refused(tmp_path: Path) -> None:
    over = claude_process.EVENT_LIMIT_BYTES + 1
    process = await _start(tmp_path, f"for _ in range({over} // 2**20 + 1): sys.stdout.write('x' * 2**20)")

    with pytest.raises(TooLargeError):
        async for _ in process.read_lines():
            pass
    await process.close()


async def test_what_is_written_arrives_and_the_end_of_the_input_ends_it(tmp_path: Path) -> None:
    process = await _start(tmp_path, "print(sys.stdin.readline().upper(), end='', flush=True); sys.stdin.read()")

    await process.write("hello\n")

    assert await anext(process.read_lines()) == b"HELLO"
    assert process.exit_status is None
    await process.close()
    assert process.exit_status == 0


async def test_one_that_has_ended_takes_nothing(tmp_path: Path) -> None:
    process = await _start(tmp_path, "sys.exit(3)")

    assert await process.wait() == 3
    with pytest.raises(OSError):
        # The first may still go to where nobody reads.
        for _ in range(3):
            await process.write("x" * 100_000 + "\n")
    await process.close()


async def test_a_claude_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="claude cannot be started"):
        await ClaudeProcess.start(_plan_params(tmp_path / "missing", tmp_path))
