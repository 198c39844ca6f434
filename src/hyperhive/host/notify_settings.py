"""What the settings say of notifications: rules, the file of URLs, the operator's clock."""

import os
from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.notifying import Rules
from hyperhive.core.quiet_hours import parse_quiet_hours
from hyperhive.host.notifier import Notifying
from hyperhive.host.settings import Settings

_LOCAL_TIME = Path("/etc/localtime")


def load_notifying(settings: Settings, urls: Path) -> Notifying:
    """`urls` is the file of them.

    Raises InvalidInputError for quiet hours or a time zone that nobody knows: wrong ones would wake the operator.
    """
    zone, name = load_zone(settings.time_zone, os.environ, _LOCAL_TIME)
    rules = Rules(
        dwell_s=settings.notify_dwell_s,
        cooldown_s=settings.notify_cooldown_s,
        remind_s=settings.notify_remind_s,
        quiet=parse_quiet_hours(settings.notify_quiet, zone),
        quiet_deadlines=settings.notify_quiet_deadlines,
    )
    return Notifying(urls, rules, zone, name)


def load_zone(name: str, environment: Mapping[str, str], local_time: Path) -> tuple[tzinfo, str]:
    """The named time zone, or that of the machine (TZ, then the file `local_time`, then UTC), with its name.

    Raises InvalidInputError for a name that is none.
    """
    if name:
        zone = _find_zone(name)
        if zone is None:
            raise InvalidInputError(f"{name!r} is no time zone", "name one such as Europe/Berlin")
        return zone, name
    variable = environment.get("TZ", "").removeprefix(":")
    zone = _find_zone(variable) if variable else None
    return (zone, variable) if zone is not None else _load_local_zone(local_time)


def _find_zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        return None


def _load_local_zone(local_time: Path) -> tuple[tzinfo, str]:
    try:
        with local_time.open("rb") as file:
            zone = ZoneInfo.from_file(file)
        name = str(local_time.resolve()).rpartition("zoneinfo/")[2]
    except (ValueError, OSError):
        return UTC, "UTC"
    return zone, name
