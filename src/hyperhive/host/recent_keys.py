"""Which idempotency keys agents used of late: a send that is repeated is the same message.

An agent's keys are random, and an index of them on the disk would cost a page for each message. They stand beside the
messages, and the newest are kept in memory: each agent's last KEYS_LIMIT, over a restart those among the last REACH
messages. A harness repeats a send while it has no answer, and never has as many of them under way.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence

from hyperhive.host.sends import Sending
from hyperhive.host.store.store import View

KEYS_LIMIT = 1_000
REACH = 100_000


class RecentKeys:
    def __init__(self) -> None:
        # The ids of what was sent, or what is on its way.
        self._senders: dict[str, OrderedDict[str, Sequence[int] | Sending]] = {}

    def list_recent(self, view: View) -> list[sqlite3.Row]:
        """What `load` takes."""
        return view.list("list_recent_keys", reach=REACH)

    def load(self, rows: Sequence[sqlite3.Row]) -> None:
        for row in rows:
            self._remember(str(row["sender"]), str(row["key"]), [int(row["id"])])

    def join(self, sending: Sending) -> bool:
        """Whether a message with this key was sent before: then `sending` is answered with that one's ids.

        A broadcast whose daemon was restarted meanwhile is answered with the id of its first alone.
        """
        assert sending.key is not None
        keys = self._senders.get(sending.sender)
        found = None if keys is None else keys.get(sending.key)
        if found is None:
            self._remember(sending.sender, sending.key, sending)
            return False
        if isinstance(found, Sending):
            found.repeats = [*found.repeats, sending]
            return True
        sending.ids = found
        sending.finish()
        return True

    def settle(self, sending: Sending) -> None:
        """To be called once `sending` was stored or refused: a key of what was refused is free again."""
        keys = self._senders.get(sending.sender)
        if keys is None or sending.key is None or keys.get(sending.key) is not sending:
            return
        if sending.error is None:
            keys[sending.key] = sending.ids
        else:
            del keys[sending.key]

    def _remember(self, sender: str, key: str, value: Sequence[int] | Sending) -> None:
        keys = self._senders.setdefault(sender, OrderedDict())
        keys[key] = value
        if len(keys) > KEYS_LIMIT:
            keys.popitem(last=False)
