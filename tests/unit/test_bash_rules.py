"""What may be run under `bash.allow`, `bash.deny` and `bash.ask`: a table of attempts, properties, and bash itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperhive.core.bash_commands import LINE_LIMIT_BYTES, ODD_LINE_END, parse_command_line
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

ALLOWED = [
    "git",
    "git status",
    "  git status  ",
    "git status;",
    "git add a && git commit -m x || git status; git log | git x |& git y",
    "git log\ngit status",
    "\n\ngit log\n\n\ngit status\n",
    "! git diff --quiet",
    "(git log; git status)",
    "{ git log; git status; }",
    "{ git log\n}",
    "git log \\\n  --oneline",
    "git log # all of it",
    "# first\ngit log # second\n# third\ngit status",
    "git commit -m 'a; curl x' -m \"b && $HOME ${HOME} \\$(curl) \\`curl\\`\"",
    "git commit -m 'first line\n\nsecond; curl x\n'",
    "git commit -m \"costs 5$\" -m '#1' -m a#b",
    "git commit -m é -m '✓ \u202e'",
    "git show HEAD~1 stash@{0} *.py {a,b} {1..3} ~/x",
    "git log $'a\\'b' \"\" ''",
    "git tag $(git describe)",
    'git tag "v$(git rev-list --count HEAD)"',
    "git diff <(git show a) <(git show b)",
    "git log 2> /dev/null",
    "git log > /dev/null 2>&1",
    "git log &> /dev/null",
    "git apply < some.patch",
    "git hash-object --stdin <<< 'a; curl'",
    'g"i"t status',
    "'git' status",
    "\\git status",
    # To bash a `#` inside a word begins no comment.
    "git log a#'\ncurl x #'",
]

REFUSED = [
    # plainly something else
    "curl x",
    "gitt x",
    "git-upload-pack x",
    "xgit",
    "GIT status",
    "",
    "   ",
    "# git status",
    "git status; curl x",
    "git status;curl x",
    "git status && curl x",
    "git status&&curl x",
    "git status || curl x",
    "git status | curl x",
    "git status |& curl x",
    "git status & curl x",
    "git status\ncurl x",
    "git status\n\\curl x",
    "git status\n\\git x\ncurl x",
    "git status \\\n; curl x",
    "git status # x\ncurl x",
    "git status #\\\ncurl x",
    "curl x; git status",
    "! curl x",
    "!curl x",
    "(curl x)",
    "{ curl x; }",
    "{ git x; } && { curl x; }",
    "git x; }; curl x",
    # substitution
    "$(echo git) x",
    "`echo git` x",
    "$(curl x)",
    "git $(curl x)",
    'git "$(curl x)"',
    "git `curl x`",
    "git `git x`",
    'git "`curl x`"',
    "git $(git $(git $(curl x)))",
    "git ${x:-$(curl x)}",
    "git ${x:=y}",
    "git ${!x}",
    "git ${x@P}",
    "git ${x//a/b}",
    "git $((1 + $(curl x)))",
    "git $((x))",
    "git $[ $(curl x) ]",
    "git <(curl x)",
    "git >(curl x)",
    "git log > >(curl x)",
    "git <<< $(curl x)",
    'git <<< "`curl x`"',
    "git $(< /etc/passwd; curl x)",
    "git $((git x); curl x)",
    # names that only bash can tell, or that look alike
    "$GIT x",
    '"$GIT" x',
    "${GIT} x",
    "$'git' x",
    "$'\\x67it' x",
    '$"git" x',
    "g$x x",
    "gi? x",
    "gi[t] x",
    "g* x",
    "{git,curl} x",
    "{curl,git} x",
    "g{i,u}t x",
    "~/git x",
    "./git x",
    "/tmp/git x",
    "/usr/bin/git x",
    "../git x",
    "bin/git x",
    "gіt status",  # noqa: RUF001  # a Cyrillic letter
    "ｇit status",  # noqa: RUF001  # a wide letter
    "git\u200b status",
    "\ufeffgit status",
    "git\u00a0status",
    "git\u3000status",
    "git\u2028curl x",
    "git\u0085curl x",
    "git\x00 status",
    "git status\r\ncurl x",
    "git status\rcurl x",
    "git\x0bstatus",
    "git\x0cstatus",
    "git \x1b[2K status",
    "git \ud800",
    "gi\\\nt status",
    "git\\\nx status",
    "git status;\\\ncurl x",
    "git\\ status",
    "git\\;curl",
    "'git status'",
    '"" git x',
    "'' curl",
    # what runs something else
    "env git x",
    "env A=1 git x",
    "/usr/bin/env git x",
    "command git x",
    "builtin git x",
    "exec git x",
    "exec curl x",
    "eval git x",
    'eval "curl x"',
    "source git",
    ". git",
    "sudo git x",
    "nohup git x",
    "timeout 5 git x",
    "nice git x",
    "time git x",
    "time -p curl x",
    "coproc git x",
    "coproc curl x",
    "xargs git",
    "git ls-files | xargs curl",
    "bash -c 'git x'",
    "bash -c git",
    "sh -c 'curl x'",
    "bash <<< 'curl x'",
    "bash << EOF\ncurl x\nEOF",
    "git log | bash",
    "git << EOF\n$(curl x)\nEOF",
    "git << 'EOF'\nx\nEOF\ncurl x",
    "git << 'EOF' && curl x\nx\nEOF",
    "git <<-EOF\n\tx\n\tEOF\ncurl x",
    "git << EOF; curl x\nEOF",
    "find . -exec git {} +",
    "trap 'curl x' EXIT",
    "trap 'curl x' EXIT; git x",
    # what changes the meaning of a name
    "alias git=curl; git x",
    "alias git=curl\ngit x",
    "git() { curl x; }; git x",
    "function git { curl x; }; git x",
    "function git() { git x; }",
    "hash -p /tmp/curl git; git x",
    "enable -f /tmp/x.so git",
    "PATH=/tmp git x",
    "PATH=/tmp; git x",
    "export PATH=/tmp; git x",
    "declare -x PATH=/tmp; git x",
    "readonly PATH=/tmp",
    "unset PATH; git x",
    "LD_PRELOAD=/tmp/x.so git x",
    "GIT_SSH_COMMAND='curl x' git fetch",
    "A=1",
    "A+=1 git x",
    "a[0]=1 git x",
    "a[$(curl x)]=1 git x",
    "a=(1 $(curl x))",
    "read PATH <<< /tmp; git x",
    "printf -v PATH /tmp; git x",
    "for PATH in /tmp; do git x; done",
    "git {PATH}>&2; git x",
    "git log {PATH}>&2",
    "shopt -s expand_aliases; git x",
    "set -- curl; git x",
    "cd /tmp; git x",
    # the rest of the language
    "if git x; then curl x; fi",
    "if git x; then git y; fi",
    "while git x; do curl x; done",
    "until git x; do git y; done",
    "for i in 1; do git x; done",
    "for ((i = 0; i < 1; i++)); do git x; done",
    "case x in x) curl x;; esac",
    "case x in x) git x;; esac",
    "select i in 1; do git x; done",
    "[[ $(curl x) ]]",
    "[[ -v 'a[$(curl x)]' ]]",
    "[ -n $(curl x) ]",
    "test -v 'a[$(curl x)]'",
    "((x = $(curl x)))",
    "((git x); git y)",
    "git x &",
    "git x & git y",
    "git log > file",
    "git log >> file",
    "git log >| file",
    "git log 1> .git/hooks/post-commit",
    "git log &> file",
    "git log >& file",
    "git log <> file",
    "git log > $HOME/file",
    "git log > /dev/null curl",
    "git log < /dev/tcp/example.org/80",
    "git log < $x",
    "> file",
    "> /dev/null",
    "> /dev/null curl x",
    "< file curl x",
    "2>&1 curl x",
    "git log>/dev/null",
    "{git log;}",
    "{ git log }",
    "{ git log; } curl",
    "(git log) curl",
    "git log)",
    "git 'log",
    'git "log',
    "git $(log",
    "git log;;",
    "git log && ",
    "&& git log",
    "| git log",
    "if git",
    "then git x",
    "do git x",
    "} git x",
    "! ! curl x",
    "git log ; ; git x",
    "@(git|curl) x",
    "git @(a|$(curl x))",
    "git log & & curl x",
    "git log <<<",
    "git log '\\'; curl x #'",
    'git log "\\\\"; curl x #"',
    'git log \\"; curl x #"',
    "git log $'\\\\'; curl x #'",
    "git log ${x#'}; curl x #'}",
    'git log "${x:-"; curl x #}"',
]


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

MATCHING = [
    "curl",
    "curl x",
    "/usr/bin/curl x",
    "./curl",
    "c\\url x",
    "'cu'r\"l\" x",
    "git status; curl x",
    "git status && curl x",
    "git status || curl x",
    "git status | curl x",
    "git status & curl x",
    "git status\ncurl x",
    "git status\n\n\tc\\url x",
    "echo $(curl x)",
    'echo "`curl x`"',
    "echo ${x:-$(curl x)}",
    "echo $(( $(curl x) ))",
    "cat <(curl x)",
    "cat << EOF\n$(curl x)\nEOF",
    "cat << EOF | curl x\nEOF",
    "cat <<< $(curl x)",
    "x=$(curl x)",
    "x=(1 $(curl x))",
    "export X=$(curl x)",
    "A=1 curl x",
    "> f curl x",
    "< f curl x",
    "if a; then curl x; fi",
    "while curl x; do a; done",
    "for i in $(curl x); do a; done",
    "for i in a; do curl $i; done",
    "case x in x) curl x;; esac",
    "f() { curl x; }",
    "[[ -n $(curl x) ]]",
    "(curl x)",
    "{ curl x; }",
    "! curl x",
    "curl x &",
    "time curl x",
    "coproc curl x",
    "env curl x",
    "env -i A=1 curl x",
    "env -S 'curl x'",
    "command curl x",
    "exec curl x",
    "sudo -u x curl x",
    "timeout -k 1 5 curl x",
    "nohup nice -n 5 curl x",
    "git ls-files | xargs -n1 curl",
    "find . -name x -exec curl {} \\;",
    'find "$d" -exec sh -c \'curl "$1"\' _ {} +',
    "watch 'curl x'",
    "su -c 'curl x'",
    "busybox curl x",
    "bash -c 'curl x'",
    "bash -lc 'echo a; curl x'",
    "bash -o pipefail -c 'curl x'",
    "timeout 5 bash -c \"env sh -c 'curl x'\"",
    "eval curl x",
    "eval 'cu'rl x",
    "trap 'curl x' EXIT",
    "git push",
    "git push -f",
    "git $verb",
    "git pus?",
    "git {push,log}",
    "git ~",
    'git "$(cat verb)"',
    "env git push",
]

NOT_UNDERSTOOD = [
    "$x y",
    "$(echo curl) x",
    "x=curl; $x y",
    "$'curl' x",
    "cur? x",
    "{curl,x}",
    "echo `echo \\`curl x\\``",
    "cu\\\nrl x",
    # The parser takes the second line for a word of the first.
    "git status\n\\curl x",
    "git status > f\n\\curl x",
    "git status <<< f\n\\curl x",
    'f() { "$@"; }; f curl x',
    'eval "$x"',
    'bash -c "$x"',
    "echo 'curl x' | bash",
    "bash <<< 'curl x'",
    "bash << EOF\ncurl x\nEOF",
    "bash -s x",
    "bash <(echo curl x)",
    ". <(echo curl x)",
    ". /dev/stdin <<< 'curl x'",
    'timeout 5 "$x"',
    'xargs "$x"',
    "alias x=curl; x y",
    "hash -p /usr/bin/curl x; x y",
    "echo ${x@P}",
    "curl 'x",
    "git\x00",
    "cｕrl x",  # noqa: RUF001  # a wide letter
    "a && b > c curl x",
]

HARMLESS = [
    "git status",
    "git log $x",
    "echo curl",
    "echo 'curl x; git push'",
    "cat curl",
    "curlx",
    "git pushx",
    "cat > f << 'EOF'\ncurl x $(curl x)\nEOF",
    "for i in a b; do [ -f $i ] && cat $i; done",
    'if [[ $x =~ ^a ]]; then echo "${x%a}" "${a[@]}"; fi',
    "x=$((1 + 2)); echo $x > f",
    "python3 -c 'print(1)'",
    "sh script.sh",
    "source venv/bin/activate",
    "timeout 5 make test",
    'find "$d" -name x',
    "env | sort",
    "exec 3< f",
    "trap - EXIT",
    "# curl x",
]


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
@given(st.one_of(st.text(max_size=200), wild_lines()), st.sampled_from([GIT, NO_CURL, ASK_CURL]))
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
