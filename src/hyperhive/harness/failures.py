"""How many turns failed in a row, kept over restarts of the harness: only progress resets it."""

import json
import logging
from typing import Any

from hyperhive.core.errors import HiveError
from hyperhive.core.turns import Failures, TurnOutcome
from hyperhive.harness.events import EventStore
from hyperhive.harness.turn import TurnEnd

log = logging.getLogger("hive.failures")

_KEY = "failures"
# So many turns that claude did not survive are hardly chance.
_CRASHES_OF_A_POISONED_SESSION = 3


def load_failures(store: EventStore) -> Failures:
    """What was saved; none if that cannot be read, as the agent can write to the file."""
    try:
        match json.loads(store.find_meta(_KEY) or "null"):
            case [int(own), int(outages)] if own >= 0 and outages >= 0:
                return Failures(own, outages)
            case _:
                return Failures()
    except (ValueError, RecursionError, HiveError):
        return Failures()


def save_failures(store: EventStore, failures: Failures) -> None:
    try:
        store.save_meta(_KEY, json.dumps([failures.own, failures.outages]))
    except HiveError as error:
        log.warning("%s", error.message)


def may_be_poisoned(end: TurnEnd, failures: Failures) -> bool:
    """Whether what stands in the conversation may be why turns fail, so that a new one may mend it."""
    status: Any = end.result.get("api_error_status")
    if end.outcome is TurnOutcome.API_ERROR and status in (400, 413):
        return True
    return end.outcome in {TurnOutcome.CRASH, TurnOutcome.TIMEOUT} and failures.own >= _CRASHES_OF_A_POISONED_SESSION
