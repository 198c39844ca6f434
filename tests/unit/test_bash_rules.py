"""What may be run under `bash.allow`, `bash.deny` and `bash.ask`: a table of attempts."""

import subprocess
import sys

import pytest

from bash_lines import ALLOWED, HARMLESS, MATCHING, NOT_UNDERSTOOD, REFUSED
from hyperhive.core.bash_commands import LINE_LIMIT_BYTES, parse_command_line
from hyperhive.core.bash_patterns import parse_bash_pattern
from hyperhive.core.bash_rules import decide_bash
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import Decision, Policy, Verdict

GIT = Policy(bash_allow=("git *",))
GIT_AND_ECHO = Policy(bash_allow=("git *", "echo *"))
NO_CURL = Policy(bash_deny=("curl *", "git push *"))
ASK_CURL = Policy(bash_ask=("curl *", "git push *"))


def decide(policy: Policy, line: str) -> Verdict:
    return decide_bash(policy, line).verdict


# -- a list of allowed commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ALLOWED)
def test_a_line_of_allowed_commands_is_allowed_and_the_rule_is_named(line: str) -> None:
    assert decide_bash(GIT, line) == Decision(Verdict.ALLOW, "bash.allow: git *", "every command in it is allowed")


@pytest.mark.parametrize("line", REFUSED)
def test_an_attempt_to_run_something_else_is_refused(line: str) -> None:
    decision = decide_bash(GIT, line)
    assert decision.verdict is Verdict.DENY
    assert decision.rule == "bash.allow"
    assert decision.reason


def test_the_tables_are_long_enough_to_mean_something() -> None:
    assert len(set(REFUSED)) == len(REFUSED) > 200
    assert len(set(ALLOWED)) == len(ALLOWED) > 30


@pytest.mark.parametrize(
    ("pattern", "line", "is_allowed"),
    [
        ("git status", "git status", True),
        ("git status", "git  status", True),
        ("git status", "git status -s", False),
        ("git status", "git", False),
        ("git log *", "git log", True),
        ("git log *", "git log -p $x", True),
        ("git log *", "git 'log' -p", True),
        ("git log *", "git push", False),
        ("git log *", "git logs", False),
        ("git log *", "git $x", False),
        ("git log *", 'git "$(git log)"', False),
        ("git log *", "git lo[g]", False),
        ("git log *", "git {log,push}", False),
        ("git log *", "git -c alias.log=!curl log", False),
        ("git  log  *", "git log -p", True),
        ("git * --dry-run", "git push --dry-run", True),
        ("git * --dry-run", "git push -f --dry-run", False),
        ("npm run test:*", "npm run test:unit", True),
        ("npm run test:*", "npm run test:unit --x", False),
        ("npm run test:* *", "npm run test:unit --x", True),
        ("npm run *:unit", "npm run a:b:unit", True),
        ("npm run a*b*c", "npm run abbc", True),
        ("npm run a*b*c", "npm run acb", False),
        ("python3* -V", "python3.11 -V", True),
        ("/usr/bin/git *", "/usr/bin/git x", True),
        ("/usr/bin/git *", "git x", False),
        ("./run *", "./run x", True),
        ("[ab]* x", "a x", False),
        ("timeout *", "timeout 5 curl x", True),
        ("timeout 5 git *", "timeout 5 git x", True),
        ("timeout 5 git *", "timeout 5 curl x", False),
        ("bash *", "bash -c 'curl x'", True),
        # What can run anything must be named: a `*` in the name is not enough.
        ("e* x", "eval x", False),
        ("e* x", "echo x", True),
        ("*sh *", "bash -c 'curl x'", False),
        ("/bin/* *", "/bin/sh -c x", False),
        ("* *", "curl x", True),
        ("* *", "env curl x", False),
        # Builtins that evaluate what stands in their arguments.
        ("test *", "test -f x -o -n $x", True),
        ("test *", "test -v 'a[$(curl x)]'", False),
        ("test *", "test -v 'a[`curl x`]'", False),
        ("printf *", "printf '%s\\n' x", True),
        ("printf *", "printf -- -v", True),
        ("printf *", "printf -vPATH /tmp", False),
        ("printf *", "printf -v PATH /tmp", False),
        ("printf *", "printf $x PATH /tmp", False),
        # Anything, as long as it can be told what it is.
        ("*", "env A=1 curl x > file & if a; then b; fi", True),
        ("*", "cat << EOF > f\nx\nEOF", True),
        ("*", "$x y", False),
        ("*", "curl 'x", False),
    ],
)
def test_a_pattern_means_what_the_reference_says(pattern: str, line: str, is_allowed: bool) -> None:
    assert decide(Policy(bash_allow=(pattern,)), line) is (Verdict.ALLOW if is_allowed else Verdict.DENY)


def test_every_rule_that_was_needed_is_named() -> None:
    decision = decide_bash(GIT_AND_ECHO, "echo a; git b; echo c")
    assert decision.rule == "bash.allow: echo *, git *"


@pytest.mark.parametrize("pattern", ["", " ", "a\nb", "gіt *", "a\x00"])  # noqa: RUF001  # a Cyrillic letter
def test_a_pattern_that_is_none_is_refused_and_lets_nothing_run(pattern: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_bash_pattern(pattern)
    for policy in (Policy(bash_allow=(pattern, "*")), Policy(bash_deny=(pattern,)), Policy(bash_ask=(pattern,))):
        assert decide(policy, "git status") is Verdict.DENY


def test_a_reason_shows_no_control_sequence_and_is_no_longer_than_a_few_lines() -> None:
    reason = decide_bash(GIT, "curl '\u202e' " + "x" * 5000).reason
    assert "\u202e" not in reason
    assert len(reason) < 500


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [GIT, NO_CURL, ASK_CURL], ids=["allow", "deny", "ask"])
@pytest.mark.parametrize(
    "line",
    [
        "git " + "x" * LINE_LIMIT_BYTES,
        "git " + "é" * (LINE_LIMIT_BYTES // 2),
        "(" * 1000 + "git x" + ")" * 1000,
        "git $(" * 1000 + ")" * 1000,
        'git "$(' * 1000 + ')"' * 1000,
        "{ " * 1000 + "git x" + "; }" * 1000,
        "git x && " * 1000 + "git x",
        "a=(" * 2000,
        "|" * 5000,
    ],
    ids=lambda line: line[:12],
)
def test_a_line_that_is_too_long_or_too_deep_is_not_allowed(policy: Policy, line: str) -> None:
    assert decide(policy, line) is not Verdict.ALLOW


@pytest.mark.parametrize("char", ["\U0010945f", "\U0010ffff", "\ud7fc", "✓", "é", "\u00a0"])
def test_characters_beyond_ascii_neither_crash_the_parser_nor_mislead_it(char: str) -> None:
    lines = ["git x{" + char + "y} *|&.z {a,b} {1..3}", f"git '{char}' ${char} <<{char}; {char}"]
    program = """
import sys
from hyperhive.core.bash_commands import parse_command_line
for line in sys.argv[1:]:
    parse_command_line(line)
"""
    subprocess.run([sys.executable, "-c", program, *lines], check=True, timeout=60)
    parsed = parse_command_line(f"git a{char}b; x '{char}'")
    assert [[word.text for word in command.words] for command in parsed.commands] == [["git", f"a{char}b"], ["x", char]]


def test_many_stars_in_a_pattern_do_not_take_forever() -> None:
    assert decide(Policy(bash_deny=("*a" * 100 + "b",)), "a" * 15_000) is Verdict.ALLOW


# -- rules that deny, and that ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize("line", MATCHING)
def test_a_denied_command_is_found_wherever_it_stands_and_asked_about_likewise(line: str) -> None:
    denied, asked = decide_bash(NO_CURL, line), decide_bash(ASK_CURL, line)
    assert (denied.verdict, asked.verdict) == (Verdict.DENY, Verdict.ASK)
    assert denied.rule in {"bash.deny: curl *", "bash.deny: git push *"}
    assert asked.rule in {"bash.ask: curl *", "bash.ask: git push *"}


@pytest.mark.parametrize("line", NOT_UNDERSTOOD)
def test_with_rules_that_deny_what_is_not_understood_is_denied_and_with_rules_that_ask_it_is_asked_about(
    line: str,
) -> None:
    assert decide(NO_CURL, line) is Verdict.DENY
    decision = decide_bash(ASK_CURL, line)
    assert decision.verdict is Verdict.ASK
    assert decision.rule.startswith("bash.ask: what is not understood")


@pytest.mark.parametrize("line", HARMLESS)
def test_rules_that_deny_or_ask_leave_other_commands_alone(line: str) -> None:
    for policy in (NO_CURL, ASK_CURL):
        assert decide_bash(policy, line).verdict is Verdict.ALLOW
        assert decide_bash(policy, line).rule == "default"


def test_deny_goes_before_ask_and_ask_before_allow() -> None:
    policy = Policy(bash_allow=("git *",), bash_deny=("git push *",), bash_ask=("git fetch *",))
    assert decide(policy, "git log") is Verdict.ALLOW
    assert decide(policy, "git log; git fetch") is Verdict.ASK
    assert decide(policy, "git fetch; git push") is Verdict.DENY
    assert decide(policy, "git fetch; curl x") is Verdict.DENY


def test_a_question_names_every_rule_that_wants_it_so_that_a_grant_of_one_is_none_of_another() -> None:
    assert decide_bash(ASK_CURL, "git push; curl x").rule == "bash.ask: curl *, git push *"
    assert decide_bash(ASK_CURL, "git push; curl x; $x").rule == "bash.ask: what is not understood"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("git status", Verdict.ALLOW),
        ("curl x", Verdict.ASK),
        ("git status; curl x", Verdict.ASK),
        ("git log $(curl x)", Verdict.ASK),
        ("rm x", Verdict.DENY),
        ("curl x; rm x", Verdict.DENY),
        ("/tmp/curl x", Verdict.DENY),
        ("A=1 curl x", Verdict.DENY),
        ("curl x > file", Verdict.DENY),
    ],
)
def test_beside_a_list_of_allowed_commands_those_of_ask_are_asked_about(line: str, verdict: Verdict) -> None:
    policy = Policy(bash_allow=("git *",), bash_ask=("curl *",))
    assert decide_bash(policy, line).verdict is verdict
