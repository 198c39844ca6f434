"""What may be run under `bash.allow`, `bash.deny` and `bash.ask`: properties, and what the real bash makes of it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bash_lines import ALLOWED, HARMLESS, MATCHING, NOT_UNDERSTOOD, REFUSED
from hyperhive.core.bash_commands import ODD_LINE_END, parse_command_line
from hyperhive.core.bash_rules import decide_bash
from hyperhive.core.policy import Policy, Verdict

GIT_AND_ECHO = Policy(bash_allow=("git *", "echo *"))
POLICIES = [Policy(bash_allow=("git *",)), Policy(bash_deny=("curl *",)), Policy(bash_ask=("curl *",))]


def decide(policy: Policy, line: str) -> Verdict:
    return decide_bash(policy, line).verdict


# -- properties ----------------------------------------------------------------------------------------------------

# The space after each bracket: `((` would be arithmetic.
CONNECTORS = ["{} ; {}", "{};{}", "{} && {}", "{}&&{}", "{} || {}", "{} | {}", "{} |& {}", "{}\n{}", "{} # x\n{}"]
BEYOND_CONNECTORS = [
    "{} & {}",
    "if {}; then {}; fi",
    "while {}; do {}; done",
    "x=$( {}); {}",
    "cat << EOF\n$( {})\nEOF\n{}",
    "f() {{ {}; }}; {}",
]
PLAIN_NESTINGS = ["( {})", "{{ {}; }}", "git $( {})", 'git "a $( {}) b"', "git <({})", "git <<< $( {})"]
NESTINGS = [*PLAIN_NESTINGS, "! {}"]
BEYOND_NESTINGS = [
    "git `{}`",
    "git ${{x:-$( {})}}",
    "git $(( $( {}) ))",
    "[[ -n $( {}) ]]",
    "for i in 1; do {}; done",
    "case x in x) {};; esac",
    "{} &",
    "{} > file",
    "git > file $( {})",
    "A=1 {}",
]
GOOD = ["git", "git status", "git log -p 'a; curl'", 'echo "curl x"', "echo $x"]
BAD = ["curl x", "curl", "rm -rf x", "/bin/rm x", "env curl x", "bash -c 'rm x'", "'rm' x", "\\curl"]


def make_lines(commands: Sequence[str], connectors: Sequence[str], nestings: Sequence[str]) -> st.SearchStrategy[str]:
    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds(str.format, st.sampled_from(connectors), inner, inner),
            st.builds(str.format, st.sampled_from(nestings), inner),
        )

    return st.recursive(st.sampled_from(commands), extend, max_leaves=6)


ANY_CONNECTORS = CONNECTORS + BEYOND_CONNECTORS
ANY_NESTINGS = NESTINGS + BEYOND_NESTINGS


@st.composite
def bad_lines(draw: st.DrawFn) -> str:
    """A line with a forbidden command somewhere."""
    line = draw(st.sampled_from(BAD))
    others = make_lines(GOOD, ANY_CONNECTORS, ANY_NESTINGS)
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            line = draw(st.sampled_from(ANY_NESTINGS)).format(line)
        else:
            pair = [line, draw(others)]
            if draw(st.booleans()):
                pair.reverse()
            line = draw(st.sampled_from(ANY_CONNECTORS)).format(*pair)
    return line


@settings(max_examples=400, deadline=None)
@given(bad_lines())
def test_a_forbidden_command_anywhere_in_a_line_is_never_allowed(line: str) -> None:
    assert decide(GIT_AND_ECHO, line) is Verdict.DENY
    assert decide(Policy(bash_deny=("curl *", "rm *")), line) is Verdict.DENY
    assert decide(Policy(bash_ask=("curl *", "rm *")), line) is Verdict.ASK


@settings(max_examples=200, deadline=None)
@given(make_lines(GOOD, CONNECTORS, PLAIN_NESTINGS))
def test_allowed_commands_are_allowed_in_any_combination_that_is_followed(line: str) -> None:
    decision = decide_bash(GIT_AND_ECHO, line)
    if ODD_LINE_END in decision.reason:
        # The parser has read two lines as one command. That this is noticed is what counts.
        assert "\n" in line
    else:
        assert decision.verdict is Verdict.ALLOW


def test_a_line_that_the_parser_misreads_is_denied_with_what_to_write_instead() -> None:
    misread = decide_bash(GIT_AND_ECHO, "git a | git b | git c\ngit d && git e")
    assert (misread.verdict, ODD_LINE_END in misread.reason) == (Verdict.DENY, True)
    assert decide(GIT_AND_ECHO, "git a | git b | git c; git d && git e") is Verdict.ALLOW


# fmt: off
PIECES = [
    "git", "echo", "curl", "rm", "x", "-c", "a=1", "A=", "PATH=", "$x", "${x}", "${x:", "$(", "`", ")", "(", "{",
    "}", "{a,b}", "'", "\"", "\\", "$'", "$\"", ";", ";;", "&", "&&", "|", "||", "|&", "!", "<", ">", ">>", "<<",
    "<<<", "<(", ">(", "2>&1", "&>", "/dev/null", "#", "#a", "*", "?", "[", "]", "[[", "]]", "((", "))", "$((", "~",
    "/", "./git", "if", "then", "else", "fi", "for", "in", "do", "done", "while", "case", "esac", "function",
    "time", "coproc", "eval", "exec", "alias", "EOF", "<<EOF", "-", "@", "%", "=", ",", ":", "é", "0", "1",
]
# fmt: on
SPACES = ["", "", " ", " ", "\t", "\n", "\\\n", " \\\n", "\u00a0", "\u200b", "\r", "\x00"]


@st.composite
def wild_lines(draw: st.DrawFn) -> str:
    """Pieces of bash in any order, or a harmless line with some of them put into it."""
    text = draw(st.sampled_from(["", *ALLOWED, "git log; echo x", 'echo "a $(git b) c"', "{ git a; } | (echo b)"]))
    for _ in range(draw(st.integers(0, 8))):
        place = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(PIECES)) + draw(st.sampled_from(SPACES))
        text = text[:place] + piece + text[place:]
    return text


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=200), wild_lines()), st.sampled_from(POLICIES))
def test_no_line_raises_and_every_decision_has_a_rule_and_a_reason(line: str, policy: Policy) -> None:
    decision = decide_bash(policy, line)
    assert decision.rule
    assert decision.reason


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=50), st.text(max_size=50))
def test_no_pattern_raises(pattern: str, line: str) -> None:
    for policy in (Policy(bash_allow=(pattern,)), Policy(bash_deny=(pattern,)), Policy(bash_ask=(pattern,))):
        assert decide_bash(policy, line).reason


@settings(max_examples=200, deadline=None)
@given(wild_lines())
def test_a_line_of_which_bash_would_run_nothing_else_has_the_commands_it_was_read_to_have(line: str) -> None:
    for command in parse_command_line(line).commands:
        assert command.words[0].text
        assert command.source in line


# -- bash itself ---------------------------------------------------------------------------------------------------

MARKERS = ["git", "curl", "rm", "env", "bash", "sh", "x", "a", "b", "time", "sudo", "cat"]
BASH = shutil.which("bash") or "/bin/bash"


@dataclass(frozen=True, slots=True)
class Bash:
    """The real bash in a folder of its own. Its PATH has nothing but programs that write down their names."""

    folder: Path

    def run(self, line: str) -> tuple[set[str], set[str]]:
        """The commands that `line` ran, but for builtins, and the files it made."""
        ran, work = self.folder / "ran", self.folder / "work"
        ran.unlink(missing_ok=True)
        environment = {"PATH": os.fspath(self.folder / "bin"), "BASH_ENV": os.fspath(self.folder / "env")}
        try:
            subprocess.run(
                [BASH, "-c", line],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
            )
        except ValueError as error:  # NUL or a lone surrogate: no process can be given that
            raise AssertionError(f"{line!r} is no argument") from error
        made = {path.name for path in work.iterdir()}
        for name in made:
            (work / name).unlink()
        return set(ran.read_text().split()) if ran.exists() else set(), made


@pytest.fixture(scope="module")
def real_bash(tmp_path_factory: pytest.TempPathFactory) -> Bash:
    folder = tmp_path_factory.mktemp("bash")
    for name in ("bin", "work"):
        (folder / name).mkdir()
    for name in MARKERS:
        marker = folder / "bin" / name
        marker.write_text(f"#!/bin/sh\necho {name} >> {folder}/ran\n")
        marker.chmod(0o755)
    (folder / "env").write_text(f'command_not_found_handle() {{ echo "unknown:$1" >> {folder}/ran; }}\n')
    return Bash(folder)


def test_the_real_bash_tells_what_was_run(real_bash: Bash) -> None:
    assert real_bash.run("git x; $(echo curl) y; nothing z > file") == (
        {"git", "curl", "unknown:nothing"},
        {"file"},
    )


@pytest.mark.parametrize("line", ALLOWED + REFUSED + MATCHING + NOT_UNDERSTOOD + HARMLESS)
def test_what_is_allowed_runs_nothing_else_in_a_real_bash(real_bash: Bash, line: str) -> None:
    if decide(GIT_AND_ECHO, line) is Verdict.ALLOW:
        ran, made = real_bash.run(line)
        assert ran <= {"git"}
        assert not made


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=wild_lines())
def test_what_is_allowed_of_wild_lines_runs_nothing_else_in_a_real_bash(real_bash: Bash, line: str) -> None:
    if decide(GIT_AND_ECHO, line) is Verdict.ALLOW:
        ran, made = real_bash.run(line)
        assert ran <= {"git"}
        assert not made
