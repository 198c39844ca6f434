"""System events for the manager: messages from `system`, JSON with the key `event` (design, section 7)."""

import json

from hyperhive.core.names import MANAGER, SYSTEM
from hyperhive.host.message_records import queue_message
from hyperhive.host.store.store import Transaction


def notify_manager(tx: Transaction, event: str, **fields: str | int) -> None:
    """Tells the manager, as part of the change it is told of. A hive without a manager tells nobody."""
    manager = tx.find("get_agent", name=MANAGER)
    if manager is not None and manager["destroyed_at"] is None:
        queue_message(tx, SYSTEM, MANAGER, json.dumps({"event": event} | fields))
