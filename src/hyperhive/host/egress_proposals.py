"""A host allowed for good: a commit of the hive's own on what is deployed, as an approval that the operator decides.

It is the same way that a change of the manager's goes: what it means and its diff are seen, and that very commit is
applied once it is approved.
"""

import json

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.egress import is_address, is_public_address
from hyperhive.core.egress_entries import parse_entry
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, TooLargeError
from hyperhive.core.names import OPERATOR, parse_known_agent_name
from hyperhive.host.agent_records import get_agent
from hyperhive.host.approval_records import insert_approval, list_open
from hyperhive.host.approvals import PENDING_EACH_LIMIT
from hyperhive.host.configs.configs import Configs
from hyperhive.host.configs.edits import add_allowed
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now
from hyperhive.wire.agent_config import CONFIG_FILE


class EgressProposals:
    def __init__(self, store: Store, configs: Configs) -> None:
        self._store = store
        self._configs = configs

    async def propose(self, agent: str, entry: str) -> Approval:
        """Asks the operator to add `entry` to the network.allow of `agent`; again while it waits gives the same.

        Raises InvalidInputError for what is no entry or can never be reached, NotFoundError for an unknown agent,
        ConflictError if it is there, would not count, or cannot be added by itself, as to any agent.nix, TooLargeError
        if too many wait.
        """
        parse_known_agent_name(agent)
        _check_entry(entry)
        await self._store.read(lambda view: get_agent(view, agent))
        version = await self._configs.get_deployed(agent)
        mode = version.config.network.mode
        if mode != "proxied":
            raise ConflictError(f"network.mode of {agent} is {mode}: no entry counts there", "ask the manager first")
        if self._configs.file != CONFIG_FILE:
            # A program, in which one entry more can be anywhere.
            raise ConflictError(
                f"the hive does not change the {self._configs.file} of an agent by itself",
                f"ask the manager to add {json.dumps(entry)} to hyperhive.network.allow of {agent} and to propose that",
            )
        text = f"Allow {entry} for good"
        repository = self._configs.repository(agent)
        async with self._configs.lock(agent):
            known = await self._store.read(lambda view: _find_same(view, agent, version.commit, text))
            if known is not None:
                return known
            files = await repository.read_files(version.commit)
            content = add_allowed(files[CONFIG_FILE], entry)
            await self._configs.check_files(agent, files | {CONFIG_FILE: content})
            commit = await repository.make_edit(version.commit, CONFIG_FILE, content, text, now())

            def insert(tx: Transaction) -> Approval:
                if get_agent(tx, agent).deployed_commit != version.commit:
                    raise ConflictError(f"another config of {agent} was deployed just now", "try again")
                return insert_approval(
                    tx, ApprovalKind.APPLY, agent, OPERATOR, text, commit=commit, base=version.commit
                )

            try:
                return await self._store.write(insert)
            except HiveError:
                await repository.drop_incoming(commit)
                raise


def _check_entry(entry: str) -> None:
    try:
        host = parse_entry(entry).host
    except ValueError as error:
        hint = "such as example.org, example.org:8443, *.example.org:22 or GET http://example.org/debian/*"
        raise InvalidInputError(f"{entry[:200]!r} is no entry of network.allow", hint) from error
    if is_address(host) and not is_public_address(host):
        raise InvalidInputError(f"{host} is no public address: it is never reached", "see `egress_map` in the settings")


def _find_same(view: View, agent: str, base: str, text: str) -> Approval | None:
    pending = [item for item in list_open(view, agent) if item.status is ApprovalStatus.PENDING]
    for item in pending:
        if (item.requested_by, item.description, item.base) == (OPERATOR, text, base):
            return item
    if len(pending) >= PENDING_EACH_LIMIT:
        raise TooLargeError(f"{len(pending)} proposals for {agent} wait already", "decide them first: `hive pending`")
    return None
