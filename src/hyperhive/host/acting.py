"""Who acts: noted where a request came in, read by the store when something is changed.

It holds for the task that noted it, and for no other. Tasks that it starts, and sockets that it opens, live on and
serve others: what those do is never put down to somebody who only set them off. That is the hive's own doing then, and
the act that was asked for stands in the row before.
"""

import asyncio
from contextvars import ContextVar
from typing import Any

from hyperhive.core.audit import HIVE

_acting: ContextVar["tuple[asyncio.Task[Any] | None, str]"] = ContextVar("acting", default=(None, HIVE))


def act_as(actor: str) -> None:
    """Has what this task changes from now on put down to `actor`."""
    _acting.set((asyncio.current_task(), actor))


def find_actor() -> str:
    """Whose doing this is: `hive` if nobody asked for it."""
    task, actor = _acting.get()
    return actor if task is not None and task is asyncio.current_task() else HIVE


def render_session(session_id: str) -> str:
    return f"operator session {session_id}"


def render_token(name: str) -> str:
    return f"operator token {name}"


def render_local(uid: int) -> str:
    """Who came through hive.sock: the command line, and what speaks for it."""
    return f"operator uid {uid} hive.sock"


def render_desktop(uid: int) -> str:
    return f"operator uid {uid} host.sock"


def render_agent(name: str) -> str:
    return f"agent {name}"
