"""Decisions are the operator's own: a claude of theirs is not to make them by running this command.

It keeps a claude from deciding by mistake, or because a text told it to; whoever may run any command as the operator
can get around it. What holds is that claude asks before it runs `hive` (docs/operating.md).
"""

import os

from hyperhive.core.errors import RefusedError

# Claude Code sets it for every command that it runs.
CLAUDE_VARIABLE = "CLAUDECODE"
# The daemon sets it for all that runs in a container.
CONTAINER_VARIABLE = "HIVE_GENERATION"


def is_run_by_claude() -> bool:
    return bool(os.environ.get(CLAUDE_VARIABLE))


def check_own_shell(command: str) -> None:
    """Raises RefusedError in a container, and when a claude of the operator's would type into one."""
    if os.environ.get(CONTAINER_VARIABLE):
        raise RefusedError(
            "this is an agent's container: no shell of another is to be had in it",
            f"the operator types it outside: {command}",
        )
    if is_run_by_claude():
        raise RefusedError(
            "a shell in a container is for the operator to type into, not for a claude of theirs",
            f"nothing was opened; the operator types it in a terminal of their own: {command}",
        )


def check_own_hand(command: str) -> None:
    """Raises RefusedError when a claude of the operator's runs this; `command` is what the operator is to type."""
    if is_run_by_claude():
        raise RefusedError(
            "a decision is for the operator to make, not for a claude of theirs",
            f"nothing was changed; the operator types it in a terminal of their own: {command}, or decides in the "
            "dashboard",
        )
