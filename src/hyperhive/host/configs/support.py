"""What a config may ask for and this version cannot do: said when it is submitted, never silently left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hyperhive.wire.agent_config import AgentConfig

_LEAVE_OUT = "leave the key out"
# Those that a driver sets.
_LIMITS = ("memory", "cpu", "tasks")


@dataclass(frozen=True, slots=True)
class _Gap:
    """A key, how its value is found, what is missing, and what to do."""

    key: str
    find: Callable[[AgentConfig], Any]
    missing: str
    advice: str = _LEAVE_OUT


_NO_NETWORK = "where agents log in by themselves, the port to their model would be every program's on this machine"

# Of hives without a credential of their own.
_OWN_LOGIN_GAPS = (
    _Gap(
        "network.mode",
        lambda config: config.network.mode == "host",
        _NO_NETWORK,
        "use 'none' or 'proxied', or give the hive a credential",
    ),
)


def list_unsupported(config: AgentConfig, unlimited: Mapping[str, str], *, account: bool = False) -> list[str]:
    """One message, which names the key and says what to do, for each key that would have no effect.

    `unlimited` has the limits that the driver cannot set on this machine, and why.
    `account`: whether agents log in by themselves, without a credential of the hive's.
    """
    gaps = [gap for gap in _OWN_LOGIN_GAPS if account and gap.find(config)]
    told = [f"{gap.key}: {gap.missing}, {gap.advice}" for gap in gaps]
    asked = [key for key in _LIMITS if key in unlimited and getattr(config.limits, key) is not None]
    return told + [f"limits.{key}: it cannot be set here: {unlimited[key]}, {_LEAVE_OUT}" for key in asked]
