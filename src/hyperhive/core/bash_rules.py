"""Whether a line of bash may be run: the rules `bash.allow`, `bash.deny` and `bash.ask` against its commands."""

from collections.abc import Iterator, Sequence

from hyperhive.core.bash_commands import parse_command_line
from hyperhive.core.bash_line import Command, CommandLine
from hyperhive.core.bash_patterns import BashPattern, Match, parse_bash_pattern
from hyperhive.core.bash_runners import GIVE_AWAY, find_misuse, list_commands_within
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import DEFAULT_RULE, NOT_UNDERSTOOD_RULE, Decision, Policy, Verdict
from hyperhive.core.text import cut_text, render_safe_line

_SHOWN_CHARS = 120


def has_bash_rules(policy: Policy) -> bool:
    return bool(policy.bash_allow or policy.bash_deny or policy.bash_ask)


def decide_bash(policy: Policy, line: str) -> Decision:
    """Whether `line` may be run. Deny goes before ask, and ask before allow; what is not understood is not allowed."""
    try:
        allow, deny, ask = (
            [parse_bash_pattern(text) for text in texts]
            for texts in (policy.bash_allow, policy.bash_deny, policy.bash_ask)
        )
    except InvalidInputError as error:
        return Decision(Verdict.DENY, "bash", f"the rules for commands are not understood: {error.message}")
    parsed = parse_command_line(line)
    return (
        _decide_deny(deny, parsed)
        or _decide_not_allowed(allow, ask, parsed)
        or _decide_ask(ask, parsed)
        or _decide_allowed(allow, parsed)
    )


def _decide_deny(deny: Sequence[BashPattern], parsed: CommandLine) -> Decision | None:
    if not deny:
        return None
    within = list_commands_within(parsed)
    for pattern in deny:
        for command in within.commands:
            match = pattern.match(command.words, by_basename=True)
            if match is Match.YES:
                return Decision(Verdict.DENY, f"bash.deny: {pattern.source}", f"{_show(command)} is denied")
            if match is Match.MAYBE:
                reason = f"{_show(command)} may be what is denied: write its words out"
                return Decision(Verdict.DENY, f"bash.deny: {pattern.source}", reason)
    if within.unknown:
        return Decision(Verdict.DENY, "bash.deny", f"what this would run is not known: {within.unknown}")
    return None


def _decide_not_allowed(
    allow: Sequence[BashPattern], ask: Sequence[BashPattern], parsed: CommandLine
) -> Decision | None:
    """What is listed to be asked about need not be listed as allowed, too: the operator's word counts as much."""
    if not allow:
        return None
    if parsed.broken:
        return Decision(Verdict.DENY, "bash.allow", f"what this would run is not known: {parsed.broken}")
    if any(pattern.is_anything for pattern in allow):
        return None
    if parsed.beyond:
        finding = render_safe_line(parsed.beyond[0])
        reason = f"a list of allowed commands does not follow this: {finding}"
        return Decision(Verdict.DENY, "bash.allow", reason)
    if not parsed.commands:
        return Decision(Verdict.DENY, "bash.allow", "there is no command in this line")
    for command in parsed.commands:
        if _find_allowing([*allow, *ask], command) is None:
            rules = ", ".join(pattern.source for pattern in [*allow, *ask])
            return Decision(Verdict.DENY, "bash.allow", f"{_show(command)} is none of these: {rules}")
        if misuse := find_misuse(command):
            return Decision(Verdict.DENY, "bash.allow", f"{_show(command)}: {misuse}")
    return None


def _find_allowing(allow: Sequence[BashPattern], command: Command) -> BashPattern | None:
    """What can run any other command, or change what a name means, must be named by the pattern itself."""
    must_be_named = (command.words[0].text or "").rpartition("/")[2] in GIVE_AWAY
    for pattern in allow:
        if must_be_named and not pattern.names_command and not pattern.is_anything:
            continue
        if pattern.match(command.words, by_basename=False) is Match.YES:
            return pattern
    return None


def _decide_ask(ask: Sequence[BashPattern], parsed: CommandLine) -> Decision | None:
    """The rule names every pattern that asks, so that a grant for one of them is none for the others."""
    if not ask:
        return None
    within = list_commands_within(parsed)
    matching = [
        pattern.source
        for pattern in ask
        if any(pattern.match(command.words, by_basename=True) is not Match.NO for command in within.commands)
    ]
    if within.unknown:
        return Decision(
            Verdict.ASK,
            ", ".join([NOT_UNDERSTOOD_RULE, *matching]),
            f"what this would run is not known: {within.unknown}",
        )
    if matching:
        return Decision(Verdict.ASK, f"bash.ask: {', '.join(matching)}", "the operator is asked about this command")
    return None


def _decide_allowed(allow: Sequence[BashPattern], parsed: CommandLine) -> Decision:
    if not allow:
        return Decision(Verdict.ALLOW, DEFAULT_RULE, "no rule for commands speaks against it")
    found = {pattern.source: None for pattern in _list_allowing(allow, parsed)}
    return Decision(Verdict.ALLOW, f"bash.allow: {', '.join(found) or '*'}", "every command in it is allowed")


def _list_allowing(allow: Sequence[BashPattern], parsed: CommandLine) -> Iterator[BashPattern]:
    for command in parsed.commands:
        pattern = _find_allowing(allow, command)
        if pattern is not None:
            yield pattern


def _show(command: Command) -> str:
    return f"`{cut_text(render_safe_line(command.source), _SHOWN_CHARS)}`"
