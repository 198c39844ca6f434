"""When a change of an agent's config takes effect. Ordered: a change takes effect by the latest that any part needs."""

from collections.abc import Iterable
from enum import StrEnum


class Effect(StrEnum):
    """`live`: at once, in the daemon. `next_turn`: claude is opened anew. `restart`: so is the container.

    `rebuild`: what the container is made of is built or checked first.
    """

    LIVE = "live"
    NEXT_TURN = "next_turn"
    RESTART = "restart"
    REBUILD = "rebuild"


_ORDER = tuple(Effect)


def latest_effect(effects: Iterable[Effect]) -> Effect:
    """The latest of `effects`; `live` if there is none."""
    return max(effects, key=_ORDER.index, default=Effect.LIVE)


def needs_restart(effect: Effect) -> bool:
    return _ORDER.index(effect) >= _ORDER.index(Effect.RESTART)
