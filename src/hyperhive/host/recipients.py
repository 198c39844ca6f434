"""Who may write to whom, by what is deployed; a refusal is recorded."""

import asyncio
from collections.abc import Awaitable, Callable

from hyperhive.core.errors import RefusedError
from hyperhive.core.events import EventName
from hyperhive.core.policy import Policy, Verdict, decide_recipient
from hyperhive.host.store.store import Store

REFUSED_EVERY_S = 10.0


class Recipients:
    def __init__(
        self,
        store: Store,
        get_policy: Callable[[str], Awaitable[Policy]],
        admit: Callable[[str, str], None] = lambda sender, recipient: None,
    ) -> None:
        """`get_policy` gives the applied policy of an agent, or raises a HiveError: then it may not write.

        `admit` counts a message of a sender to a recipient, and raises a HiveError if it may not be now.
        """
        self._store = store
        self._get_policy = get_policy
        self._admit = admit
        self._refused_at_s: dict[str, float] = {}

    async def check(self, sender: str, recipient: str) -> None:
        """Raises RefusedError, and records it, unless the sender's applied config lets it write to the recipient.

        Raises what `admit` does, too: it is asked last.
        """
        decision = decide_recipient(await self._get_policy(sender), sender, recipient)
        if decision.verdict is not Verdict.ALLOW:
            await self._record(sender, recipient, decision.rule)
            raise RefusedError(decision.reason, "the manager can propose a change of your config")
        self._admit(sender, recipient)

    async def check_answer(self, asker: str, asked: str) -> None:
        """The same for whether `asked` may write back: an answer is a message, too. It is the asker who is refused."""
        decision = decide_recipient(await self._get_policy(asked), asked, asker)
        if decision.verdict is not Verdict.ALLOW:
            await self._record(asker, asked, f"{asked}: {decision.rule}")
            raise RefusedError(
                f"{asked} could not answer: its config does not let it send to {asker}",
                "ask the manager, which can propose a change of that config",
            )

    async def _record(self, sender: str, recipient: str, rule: str) -> None:
        """Once in a while for each sender: one that tries on and on must not fill the disk."""
        at_s = asyncio.get_running_loop().time()
        if at_s - self._refused_at_s.get(sender, -REFUSED_EVERY_S) < REFUSED_EVERY_S:
            return
        self._refused_at_s[sender] = at_s
        body = {"recipient": recipient, "rule": rule}
        await self._store.write(lambda tx: tx.emit(EventName.MESSAGE_REFUSED, sender, body))
