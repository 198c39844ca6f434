"""What git in the manager's container must be told: that the applied repos, which are not its user's, may be read.

git refuses repositories of other owners unless `safe.directory` names each by its whole path (only from 2.46 on a
folder of them), and never takes that from a variable for the far side of a fetch or a clone. So it is a file beside the
repos, which the manager's container has as its system-wide git settings.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.system.files import write_atomically

# Where the manager sees the applied repos.
APPLIED = Path("/applied")
# No agent's name: they have no dot.
GIT_CONFIG_FILE = "git.config"


def render_git_config(names: Iterable[str], seen_at: Path = APPLIED) -> str:
    """The settings by which the repos `names`, seen in the folder `seen_at`, may be read."""
    return "[safe]\n" + "".join(f"\tdirectory = {seen_at / name}\n" for name in sorted(names))


def save_git_config(applied_folder: Path) -> None:
    """Writes the settings for all repos in `applied_folder`. To be called when one was added. Raises OSError."""
    names: list[str] = []
    for entry in applied_folder.iterdir():
        with contextlib.suppress(InvalidInputError):
            names.append(parse_known_agent_name(entry.name))
    write_atomically(applied_folder / GIT_CONFIG_FILE, render_git_config(names).encode(), 0o644)
