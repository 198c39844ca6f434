"""Agents' notes on the host: every version that the hive replaced or wrote, and the way back to each of them.

An agent's notes are its own file; here is the history of them that it cannot write. What stands in the file is read
without following a link, and written by the agent's harness, or, while that is away, in its folder by the daemon.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from hyperhive.core.errors import ConflictError, NotFoundError, StorageError, TooLargeError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.notes import (
    NOTES_FILE,
    TEXT_LIMIT_BYTES,
    Loss,
    NotesKind,
    RewriteDecision,
    decide_rewrite,
    decode_notes,
    encode_notes,
    hash_notes,
    measure_loss,
)
from hyperhive.core.paths import Roots
from hyperhive.core.questions import NOTES_OPTIONS, NOTES_TTL_S, Question, QuestionKind
from hyperhive.host.agent_records import get_agent, get_any_agent
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notes_repository import NotesRepository, Version
from hyperhive.host.questions import cancel_notes_questions, open_question
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now
from hyperhive.system.files import read_beneath
from hyperhive.system.plain_files import replace_plain
from hyperhive.wire.agent_link import SET_NOTES, SetNotesParams
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES, Request, encode_request
from hyperhive.wire.operator.configs import NotesDiff
from hyperhive.wire.operator.records import NotesVersion

LIST_LIMIT = 100
# A harness rewrites at most every ten minutes; an agent that writes to the link itself gets no further either.
REWRITES_PER_HOUR = 20
_HOUR_S = 3600.0
_SET_TIMEOUT_S = 10.0
_KEY_PREFIX = "notes:"
_APPLY = NOTES_OPTIONS[0]


class Notes:
    """Callers name who they are: identity was established before they got here."""

    def __init__(self, store: Store, roots: Roots) -> None:
        self._store = store
        self._roots = roots
        self._links: LinkServer
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rewrites_at_s: dict[str, deque[float]] = defaultdict(deque)

    def attach(self, links: LinkServer) -> None:
        """The links need the notes and the notes the links: assembly joins them here."""
        self._links = links

    # -- what an agent's harness asks ----------------------------------------------------------------------

    async def take_rewrite(self, agent: str, before: str, after: str) -> RewriteDecision:
        """Decides on a rewrite of an agent's notes. Both texts are kept before it says that one may be written.

        Raises TooLargeError for texts over TEXT_LIMIT_BYTES, and over REWRITES_PER_HOUR; UnavailableError if they
        could not be kept.
        """
        old, new = encode_notes(before), encode_notes(after)
        if max(len(old), len(new)) > TEXT_LIMIT_BYTES:
            raise TooLargeError(f"notes of over {TEXT_LIMIT_BYTES:,} bytes are not kept", "shorten them")
        self._count_rewrite(agent)
        decision = decide_rewrite(before, after)
        if decision is RewriteDecision.KEEP:
            return decision
        kind = NotesKind.ASKED if decision is RewriteDecision.ASKED else NotesKind.COMPACTED
        async with self._locks[agent]:
            await self._store.read(lambda view: get_agent(view, agent))
            version = await self._replace(agent, kind, old, new)

            def tell(tx: Transaction) -> None:
                # About what stands there now; an older one could not be carried out any more.
                cancel_notes_questions(tx, agent)
                if decision is RewriteDecision.ASKED:
                    _ask(tx, agent, version, measure_loss(before, after))
                _emit(tx, agent, version)

            await self._store.write(tell)
        return decision

    # -- what the operator asks ----------------------------------------------------------------------------

    async def list_versions(self, name: str, limit: int = LIST_LIMIT) -> list[NotesVersion]:
        """The newest first, also of a destroyed agent. Raises NotFoundError for one that never was."""
        await self._check_known(name)
        return [_show(version) for version in await self._repository(name).list_versions(limit)]

    async def diff(self, name: str, commit: str) -> NotesDiff:
        """What a version changed. Raises NotFoundError, and InvalidInputError for what is no commit's full name."""
        await self._check_known(name)
        repository = self._repository(name)
        version = await repository.get_version(commit)
        return NotesDiff(version=_show(version), files=await repository.diff(version))

    async def restore(self, name: str, commit: str) -> NotesVersion:
        """Brings a version back; what stands there now becomes one itself, so this can be undone.

        Raises NotFoundError, ConflictError if that is what stands there, if it is no plain file, or if it changed
        meanwhile, and UnavailableError if the harness did not answer: then it may have been written.
        """
        parse_known_agent_name(name)
        async with self._locks[name]:
            record = await self._store.read(lambda view: get_agent(view, name))
            repository = self._repository(name)
            content = await repository.read(await repository.get_version(commit))
            standing = await asyncio.to_thread(self._read_standing, name)
            if standing == content:
                raise ConflictError(f"the notes of {name} are that already", "nothing was changed")
            await self._keep(name, standing)
            if not await self._write(record, content, standing):
                raise ConflictError(f"the notes of {name} changed just now", "look at them, and try again")
            version = await repository.add(NotesKind.RESTORED, content, now())

            def tell(tx: Transaction) -> None:
                cancel_notes_questions(tx, name)
                _emit(tx, name, version)

            await self._store.write(tell)
        return _show(version)

    async def settle(self, question: Question, options: Sequence[str]) -> str:
        """Writes the rewrite that the operator was asked about, if that is the answer (see `questions.Settle`)."""
        if list(options) != [_APPLY]:
            return ""
        name = question.agent
        async with self._locks[name]:
            row = await self._store.read(lambda view: view.get("get_question", id=question.id))
            if row["status"] != "open":
                raise ConflictError(f"question {question.id} is already {row['status']}", "there is a newer one")
            record = await self._store.read(lambda view: get_agent(view, name))
            repository = self._repository(name)
            try:
                asked = await repository.get_version(str(row["idempotency_key"]).removeprefix(_KEY_PREFIX))
                before = await repository.read(await repository.get_version(asked.parent))
            except NotFoundError:
                return f"this rewrite of the notes of {name} is not kept any more: nothing was written"
            after = await repository.read(asked)
            if not await self._write(record, after, before):
                return f"the notes of {name} changed since they were rewritten: nothing was written"
            version = await self._replace(name, NotesKind.COMPACTED, before, after)
            await self._store.write(lambda tx: _emit(tx, name, version))
        return ""

    # -- inside --------------------------------------------------------------------------------------------

    def _repository(self, name: str) -> NotesRepository:
        return NotesRepository(self._roots.notes_repo(name), self._roots.staging_folder)

    async def _check_known(self, name: str) -> None:
        parse_known_agent_name(name)
        await self._store.read(lambda view: get_any_agent(view, name))

    def _count_rewrite(self, agent: str) -> None:
        at_s = asyncio.get_running_loop().time()
        recent = self._rewrites_at_s[agent]
        while recent and recent[0] < at_s - _HOUR_S:
            recent.popleft()
        if len(recent) >= REWRITES_PER_HOUR:
            raise TooLargeError(f"{REWRITES_PER_HOUR} rewrites of the notes in an hour are enough", "try again later")
        recent.append(at_s)

    async def _replace(self, name: str, kind: NotesKind, before: bytes, after: bytes) -> Version:
        """Keeps `before`, and `after` as a version of that kind on top of it."""
        await self._keep(name, before)
        return await self._repository(name).add(kind, after, now())

    async def _keep(self, name: str, content: bytes) -> None:
        """Makes `content` the newest version, unless it is."""
        repository = self._repository(name)
        newest = next(iter(await repository.list_versions(1)), None)
        if newest is None or await repository.read(newest) != content:
            await repository.add(NotesKind.KEPT, content, now())

    def _read_standing(self, name: str) -> bytes:
        """What stands in an agent's notes, nothing for no file."""
        try:
            content = read_beneath(self._roots.state_folder(name), NOTES_FILE, TEXT_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConflictError(
                f"the {NOTES_FILE} of {name} cannot be kept: {error.strerror}", "have it move that out of the way"
            ) from error
        if len(content) > TEXT_LIMIT_BYTES:
            raise ConflictError(
                f"the {NOTES_FILE} of {name} has over {TEXT_LIMIT_BYTES:,} bytes: it could not be kept",
                "have it move that out of the way",
            )
        return content

    async def _write(self, record: AgentRecord, content: bytes, before: bytes) -> bool:
        """Writes an agent's notes, if `before` still stands there, or `content` itself; whether it stands there now."""
        if not await self._send(record.name, content, before):
            written = await asyncio.to_thread(self._write_beneath, record, content, before)
            return written or self._stands(record.name, content)
        return True

    async def _send(self, name: str, content: bytes, before: bytes) -> bool:
        """Has the harness write; False if it is not connected, the text is none for a line, or the notes are others."""
        text = decode_notes(content)
        params = SetNotesParams(text=text, before_sha256=hash_notes(decode_notes(before)))
        line = encode_request(Request(SET_NOTES, {**params}, 0))
        if encode_notes(text) != content or len(line) > LINE_LIMIT_BYTES - 100:
            return False
        try:
            connection = self._links.get_connection(name)
        except UnavailableError:
            return False
        answer: Any = await connection.call(SET_NOTES, {**params}, _SET_TIMEOUT_S)
        return isinstance(answer, dict) and answer.get("written") is True  # pyright: ignore[reportUnknownMemberType]

    def _write_beneath(self, record: AgentRecord, content: bytes, before: bytes) -> bool:
        try:
            return replace_plain(
                self._roots.state_folder(record.name),
                NOTES_FILE,
                content,
                uid=record.uid,
                limit_bytes=TEXT_LIMIT_BYTES + 1,
                may_replace=lambda standing: standing == before,
            )
        except FileNotFoundError as error:
            raise ConflictError(f"{record.name} has no folder for notes yet", "start it first") from error
        except OSError as error:
            raise StorageError(
                f"the notes of {record.name} cannot be written: {error.strerror}", "is the disk full?"
            ) from error

    def _stands(self, name: str, content: bytes) -> bool:
        """Whether `content` stands there: an earlier try that nobody heard the end of wrote it."""
        try:
            return read_beneath(self._roots.state_folder(name), NOTES_FILE, TEXT_LIMIT_BYTES + 1) == content
        except OSError:
            return False


def _ask(tx: Transaction, agent: str, version: Version, loss: Loss) -> None:
    open_question(
        tx,
        QuestionKind.NOTES,
        agent,
        render_question(agent, version.commit, loss),
        NOTES_OPTIONS,
        False,
        NOTES_TTL_S,
        f"{_KEY_PREFIX}{version.commit}",
    )


def render_question(agent: str, commit: str, loss: Loss) -> str:
    """What the operator reads: numbers only, none of it is the agent's text."""
    return (
        f"The notes of {agent} were too long and were rewritten: {loss.bytes_after:,} bytes instead of"
        f" {loss.bytes_before:,}. That drops {loss.headings_lost} of {loss.headings} headings and {loss.tasks_lost} of"
        f" {loss.tasks} open tasks. Write it? Until then the notes stay as they are."
        f"\n\nhive notes {agent} --show {commit[:12]}"
    )


def _emit(tx: Transaction, agent: str, version: Version) -> None:
    body = {
        "commit": version.commit,
        "kind": str(version.kind),
        "size_before": version.size_before,
        "size_after": version.size_after,
    }
    tx.emit(EventName.NOTES_CHANGED, agent, body)


def _show(version: Version) -> NotesVersion:
    return NotesVersion(
        commit=version.commit,
        at=version.at,
        kind=version.kind.value,
        size_before=version.size_before,
        size_after=version.size_after,
    )
