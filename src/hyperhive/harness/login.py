"""The login of claude in this container: `claude auth login` driven for the operator, and what login there is.

claude prints a link, waits for the code that the operator gets there, and fetches and keeps the tokens itself: the
harness never sees one. A refresh is claude's own affair, too.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from hyperhive.core.errors import ConflictError, InvalidInputError, UnavailableError
from hyperhive.core.login import is_code_of, parse_login_code, parse_login_url
from hyperhive.core.text import render_safe_line
from hyperhive.system.children import CHILDREN
from hyperhive.wire.agent_link import LoginFields

log = logging.getLogger("hive.login")

LOGIN_DEADLINE_S = 15 * 60.0
# Below the minute that the daemon waits for an answer.
START_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 45.0
_TERM_DEADLINE_S = 1.0
# claude says two lines, one of them a link of about 700 characters.
_OUTPUT_LIMIT_BYTES = 64 * 1024
_WORDS_LIMIT_CHARS = 500
# Whole only once something follows it.
_URL = re.compile(rb"https://[!-~]+(?=\s)")
_ENVIRONMENT = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    # claude opens the link itself where it finds a browser: here nobody would see it.
    "BROWSER": "true",
}


@dataclass(slots=True)
class _Login:
    """One `claude auth login` under way: a process group, and what it has said so far."""

    process: asyncio.subprocess.Process
    said: bytearray = field(default_factory=bytearray)
    complained: bytearray = field(default_factory=bytearray)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    readers: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        pairs = ((self.process.stdout, self.said), (self.process.stderr, self.complained))
        self.readers = [asyncio.create_task(self._keep(stream, kept)) for stream, kept in pairs]

    async def find_url(self) -> str:
        """The link, once it is there. Raises UnavailableError if claude ends without one, or with a wrong one."""
        while not (match := _URL.search(self.said)):
            if all(reader.done() for reader in self.readers):
                raise UnavailableError(f"claude gave no link: {self.words}", "see the container's log")
            self.news.clear()
            await self.news.wait()
        try:
            return parse_login_url(match[0].decode("ascii"))
        except ValueError as error:
            raise UnavailableError(
                f"the link that claude gave {error}", "look at what runs in the container"
            ) from error

    async def give(self, code: str) -> int:
        """Hands the code in and waits for the end; the exit status."""
        assert self.process.stdin is not None
        self.complained.clear()
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(code.encode("ascii") + b"\n")
            await self.process.stdin.drain()
        status = await self.process.wait()
        await asyncio.gather(*self.readers)
        return status

    @property
    def words(self) -> str:
        """What claude complains of, on one line."""
        text = " ".join(self.complained.decode("utf-8", "replace").split())
        return render_safe_line(text[:_WORDS_LIMIT_CHARS]) or "it does not say why"

    async def end(self) -> None:
        """Ends the whole group: TERM, KILL. May be called again."""
        for signum, deadline_s in ((signal.SIGTERM, _TERM_DEADLINE_S), (signal.SIGKILL, None)):
            # Not once it has ended: its number may be that of another group.
            if self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signum)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.process.wait(), deadline_s)
        CHILDREN.ended(self.process.pid)
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)

    async def _keep(self, stream: asyncio.StreamReader, kept: bytearray) -> None:
        """Keeps the beginning of what claude says; the rest is read and dropped, so that it need not wait."""
        while piece := await stream.read(4096):
            kept += piece[: _OUTPUT_LIMIT_BYTES - len(kept)]
            self.news.set()
        self.news.set()


class LoginDesk:
    """At most one login at a time.

    `make_room` ends a claude that is open, so that none has tokens in memory that the login replaces; it raises
    ConflictError while a turn runs. `observe` tells what login there is; `changed` is called after one succeeded.
    """

    def __init__(
        self,
        claude: Path | None,
        environment: Mapping[str, str],
        make_room: Callable[[], Awaitable[None]],
        observe: Callable[[], LoginFields],
        changed: Callable[[], None],
        deadline_s: float = LOGIN_DEADLINE_S,
    ) -> None:
        self._claude = claude
        self._environment = environment
        self._make_room = make_room
        self._observe = observe
        self._changed = changed
        self._deadline_s = deadline_s
        self._login: _Login | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        # Held while a login begins or ends: a start, a code and a cancel do not overtake one another.
        self._changing = asyncio.Lock()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def wait_until_quiet(self) -> None:
        """Returns once no code is being handed in: to be awaited before a turn begins."""
        await self._quiet.wait()

    async def start(self) -> str:
        """The link of the login under way, or of one that this begins.

        Raises ConflictError while a turn runs or where the hive holds the credential, UnavailableError if claude
        cannot be started or gives no link.
        """
        async with self._changing:
            if self._login is not None and self._login.process.returncode is None:
                return self._login.url
            await self._end()
            if self._observe()["kind"] == "hive":
                raise ConflictError("the hive holds the credential of this agent", "it needs no login of its own")
            await self._make_room()
            login = self._login = await self._run_claude()
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    login.url = await login.find_url()
            except TimeoutError as error:
                await self._end()
                raise UnavailableError(f"claude gave no link within {START_TIMEOUT_S:g} s", "try again") from error
            except BaseException:
                await self._end()
                raise
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(self._deadline_s, self._expire, login)
            return login.url

    async def finish(self, code: str) -> LoginFields:
        """Ends the login with the code; what login there is then.

        Raises InvalidInputError, with claude's own words, for a code that it does not take: then the login is to be
        begun anew, but for a code that was not even whole or of another link. Raises ConflictError if none was begun
        or a turn runs, UnavailableError if claude does not come to an end.
        """
        async with self._changing:
            login = self._login
            if login is None or login.process.returncode is not None:
                await self._end()
                raise ConflictError("no login has been begun, or it took too long", "begin it again")
            try:
                parsed = parse_login_code(code)
            except ValueError as error:
                raise InvalidInputError(f"that {error}", "paste it again") from error
            if not is_code_of(parsed, login.url):
                raise InvalidInputError("that code is of another link", "open the newest link and paste its code")
            await self._make_room()
            self._quiet.clear()
            try:
                return await self._hand_in(login, parsed)
            finally:
                await self._end()
                self._quiet.set()

    async def cancel(self) -> None:
        """Ends a login that was begun, if any."""
        async with self._changing:
            await self._end()

    async def close(self) -> None:
        """Ends what is under way, at once. Nothing may be called afterwards."""
        await self._end()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _hand_in(self, login: _Login, code: str) -> LoginFields:
        try:
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                status = await login.give(code)
        except TimeoutError as error:
            raise UnavailableError(
                f"claude did not finish the login within {FINISH_TIMEOUT_S:g} s", "begin the login again"
            ) from error
        if status != 0:
            raise InvalidInputError(f"claude does not take it: {login.words}", "begin the login again for a new link")
        fields = self._observe()
        if fields["kind"] != "own":
            raise UnavailableError("claude says that it is logged in, but kept no tokens", "see the container's log")
        self._changed()
        return fields

    async def _run_claude(self) -> _Login:
        try:
            with CHILDREN.starting() as note:
                process = await asyncio.create_subprocess_exec(
                    self._claude or find_bundled_claude(),
                    "auth",
                    "login",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env={**self._environment, **_ENVIRONMENT},
                    # A folder of nobody's: nothing of the agent's work is looked at.
                    cwd="/",
                    start_new_session=True,
                )
                note(process.pid)
        except OSError as error:
            raise UnavailableError(f"claude cannot be started: {error.strerror}", "see `hive doctor`") from error
        login = _Login(process)
        login.read()
        return login

    def _expire(self, login: _Login) -> None:
        if self._login is login:
            log.info("a login was begun and never finished: it is ended")
            task = asyncio.create_task(self.cancel())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self) -> None:
        login, self._login = self._login, None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if login is not None:
            await login.end()


def find_bundled_claude() -> Path:
    """The CLI that claude-agent-sdk brings, found without importing it. Raises UnavailableError."""
    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        raise UnavailableError("claude-agent-sdk is not installed", "set HIVE_CLAUDE to a claude CLI")
    return Path(spec.origin).parent / "_bundled" / "claude"
