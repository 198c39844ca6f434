"""What a config may ask for and this version cannot do: said when it is submitted, never silently left out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hyperhive.wire.agent_config import AgentConfig

_LEAVE_OUT = "leave the key out"


@dataclass(frozen=True, slots=True)
class _Gap:
    """A key, how its value is found, what is missing, and what to do."""

    key: str
    find: Callable[[AgentConfig], Any]
    missing: str
    advice: str = _LEAVE_OUT


_NO_NETWORK = "containers never share the host's network in this version of the hive"
_NO_LIMITS = "the driver {driver} sets no limits"

_GAPS = (
    _Gap("network.mode", lambda config: config.network.mode == "host", _NO_NETWORK, "use 'none' or 'proxied'"),
    _Gap("limits.memory", lambda config: config.limits.memory is not None, _NO_LIMITS),
    _Gap("limits.cpu", lambda config: config.limits.cpu is not None, _NO_LIMITS),
    _Gap("limits.tasks", lambda config: config.limits.tasks is not None, _NO_LIMITS),
)


def list_unsupported(config: AgentConfig, driver: str) -> list[str]:
    """One message, which names the key and says what to do, for each key that would have no effect with `driver`."""
    return [f"{gap.key}: {gap.missing.format(driver=driver)}, {gap.advice}" for gap in _GAPS if gap.find(config)]
