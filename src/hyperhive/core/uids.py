"""The uids that agents have on the host: a range for each, of which the agent's own is one.

In a container with a user namespace, uid 1000 is the agent and the whole range is the container's. A range belongs to
no other agent: so nothing in one container, not even its root, is anybody in another.
"""

from typing import Final

# systemd documents 1,879,048,192 to 2,147,483,647 as unused by anything it allocates.
FIRST_UID: Final = 1_900_000_000
# The daemon's own, and its group, where it was started as root: nobody else's, and no agent's.
DAEMON_UID: Final = FIRST_UID - 1
# Whoever evaluates what an agent wrote in Nix: nobody's but that, and owner of no file.
EVALUATION_UID: Final = FIRST_UID - 2
# As many as a system's own programs may expect.
RANGE_WIDTH: Final = 65536
# The agent's user inside, whatever its uid on the host.
INNER_UID: Final = 1000
LAST_UID: Final = 2_147_483_647
# The first range is left to agents of earlier versions, whose uids followed one another.
FIRST_RANGED_UID: Final = FIRST_UID + RANGE_WIDTH


def has_range(uid: int) -> bool:
    """Whether the uid was given together with a range of its own."""
    return FIRST_RANGED_UID <= uid <= LAST_UID - RANGE_WIDTH and (uid - FIRST_UID) % RANGE_WIDTH == 0


def range_start(uid: int) -> int:
    """The host's number of a container's uid 0. Raises ValueError for a uid without a range."""
    if not has_range(uid):
        raise ValueError(f"{uid} has no range of its own")
    return uid - INNER_UID


def plan_next_uid(highest: int | None) -> int:
    """The uid of a new agent, behind the `highest` of all that were given. Raises ValueError if none is left."""
    if highest is None or highest < FIRST_RANGED_UID:
        return FIRST_RANGED_UID
    uid = FIRST_UID + ((highest - FIRST_UID) // RANGE_WIDTH + 1) * RANGE_WIDTH
    if not has_range(uid):
        raise ValueError("every uid was given to an agent")
    return uid
