"""The bare CLI, doing what an agent does, without a hive."""

import json
import subprocess
from pathlib import Path

from benchmarks.processes import end_program, start_program
from stand_in import CLAUDE, make_claude_environment

_FLAGS = ("-p", "--output-format", "stream-json", "--verbose")


class BareClaude:
    """One conversation in a home folder of its own, against the model at `url`."""

    def __init__(self, url: str, home: Path) -> None:
        self._environment = make_claude_environment(url, home)
        self._home = home
        self._session = ""
        self._open: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._open is not None
        return self._open.pid

    def start_turn(self, prompt: str) -> "subprocess.Popen[str]":
        """`claude -p`, which resumes the conversation; `end_turn` waits for its end."""
        resume = ["--resume", self._session] if self._session else []
        return self._start([*_FLAGS, *resume, prompt])

    def end_turn(self, process: "subprocess.Popen[str]") -> None:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        self._session = str(json.loads(output.splitlines()[-1])["session_id"])

    def open(self) -> None:
        """A claude that stays, and takes its prompts from its standard input."""
        self._open = self._start([*_FLAGS, "--input-format", "stream-json"])

    def prompt(self, text: str) -> None:
        """A prompt for the claude that stays; `wait_result` waits for its answer."""
        assert self._open is not None
        assert self._open.stdin is not None
        message = {"type": "user", "message": {"role": "user", "content": text}}
        self._open.stdin.write(json.dumps(message) + "\n")
        self._open.stdin.flush()

    def wait_result(self) -> None:
        assert self._open is not None
        assert self._open.stdout is not None
        for line in self._open.stdout:
            if json.loads(line)["type"] == "result":
                return
        raise EOFError("claude ended")

    def close(self) -> None:
        if self._open is not None:
            end_program(self._open)

    def _start(self, arguments: list[str]) -> "subprocess.Popen[str]":
        process = start_program([str(CLAUDE), *arguments], self._environment, self._home)
        if "--input-format" not in arguments:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        return process
