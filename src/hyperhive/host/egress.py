"""The egress proxy: an agent's way to other hosts on its own socket, to those that its config or a grant allows.

By CONNECT, and what is inside a tunnel is not looked at; or by one plain http request for each connection, judged by
its method and path. Each request is recorded when it ends, also one that was refused.
"""

import asyncio
import contextlib
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field

import structlog

from hyperhive.core.egress import (
    GRANTED,
    HEAD_LIMIT_BYTES,
    BadConnectError,
    EgressPolicy,
    Target,
    decide_egress,
)
from hyperhive.core.egress_requests import PlainRequest, parse_request
from hyperhive.core.errors import HiveError
from hyperhive.core.policy import Verdict
from hyperhive.host.egress_dial import NoTunnelError
from hyperhive.host.egress_log import EgressLog
from hyperhive.system.relay import Traffic, relay, relay_answer

log = structlog.get_logger(__name__)

HEAD_TIMEOUT_S = 10.0
# Both ways silent for so long: whoever still needs the tunnel opens another.
IDLE_TIMEOUT_S = 600.0
# One agent's tunnels, and requests on their way to be one.
TUNNELS_LIMIT = 64
# All agents' together, if the process may open enough files: each needs two, and others need some, too.
HIVE_TUNNELS_LIMIT = 2048
_FILES_FOR_EACH = 8
_ANSWER_TIMEOUT_S = 5.0
_LINGER_S = 1.0
_LINGER_PIECES = 16
_RETRY_S = 0.5

Connect = Callable[[str, Target], Awaitable[socket.socket]]
FindPolicy = Callable[[str], Awaitable[EgressPolicy]]

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_PROPOSE = "the manager can propose network.allow in its config, the operator can allow it (hive egress allow)"


@dataclass(frozen=True, slots=True)
class Times:
    """How long is waited; tests have less of it."""

    head_s: float = HEAD_TIMEOUT_S
    idle_s: float = IDLE_TIMEOUT_S


@dataclass(slots=True)
class _Request:
    """One connection of an agent, for the record. `target` is None as long as it is not known.

    `plain` is set if it is a plain http request.
    """

    traffic: Traffic
    target: Target | None = None
    plain: PlainRequest | None = None
    verdict: str = "refused"
    rule: str = "request"
    began: float = field(default_factory=time.monotonic)

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.began) * 1000)


class Egress:
    """Serves the agents' egress.sock. `find_policy` is asked at each request; it raises HiveError for no policy.

    `connect` makes the connection to a target, or raises NoTunnelError.
    """

    def __init__(
        self, find_policy: FindPolicy, connect: Connect, record: EgressLog, times: Times | None = None
    ) -> None:
        self._find_policy = find_policy
        self._connect = connect
        self._times = times or Times()
        self._limit = min(HIVE_TUNNELS_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_FOR_EACH)
        self._open = 0
        # What goes on by a grant, and would not without it.
        self._granted: dict[tuple[str, Target], set[asyncio.Task[None]]] = defaultdict(set)
        self.log = record

    def open(self, agent: str, listener: socket.socket) -> "EgressListener":
        """Serves `agent` on a bound, non-blocking socket, which it takes over, until it is closed."""
        return EgressListener(self, agent, listener)

    def enter(self) -> bool:
        """Takes a place among all tunnels; False if there is none."""
        if self._open >= self._limit:
            return False
        self._open += 1
        return True

    def leave(self) -> None:
        self._open -= 1

    def cut(self, agent: str, target: Target) -> None:
        """Ends what goes on between `agent` and `target` by a grant alone."""
        for task in self._granted.pop((agent, target), set()):
            task.cancel()

    async def serve(self, agent: str, near: socket.socket) -> None:
        """Carries out one request of `agent`, to its end."""
        request = _Request(Traffic())
        try:
            await self._serve(agent, near, request)
        except NoTunnelError as refused:
            request.verdict, request.rule = refused.verdict, refused.rule
            await _answer(near, render_refusal(agent, request.target, refused.status, refused.rule, refused.reason))
        except OSError:
            # The agent's side is gone; what there was of the request is recorded.
            pass
        finally:
            near.close()
            await self._record(agent, request)

    async def _serve(self, agent: str, near: socket.socket, request: _Request) -> None:
        head, rest = await self._read_head(near)
        try:
            found = parse_request(head)
        except BadConnectError as error:
            raise NoTunnelError(error.status, "refused", "request", error.reason) from error
        request.plain = found if isinstance(found, PlainRequest) else None
        request.target = target = found.target if isinstance(found, PlainRequest) else found
        request.rule = await self._decide(agent, target, request.plain)
        with self._hold(agent, target, request.rule):
            if request.rule.startswith(GRANTED):
                # It may have ended while it was looked up.
                await self._decide(agent, target, request.plain)
            far = await self._connect(agent, target)
            with contextlib.closing(far):
                request.verdict = "allowed"
                await self._carry(near, far, rest, request)

    async def _carry(self, near: socket.socket, far: socket.socket, rest: bytes, request: _Request) -> None:
        plain, traffic = request.plain, request.traffic
        if plain is None:
            await _send(near, _ESTABLISHED)
            await _send(far, rest)
            traffic.up += len(rest)
            await relay(near, far, self._times.idle_s, traffic)
            return
        sent = plain.head + rest[: plain.body_bytes]
        await _send(far, sent)
        traffic.up += len(sent)
        left = max(0, plain.body_bytes - len(rest))
        await relay_answer(near, far, left, self._times.idle_s, traffic)

    @contextlib.contextmanager
    def _hold(self, agent: str, target: Target, rule: str) -> Generator[None]:
        """Has what goes on within it end with the grant that it goes by."""
        task = asyncio.current_task()
        if task is None or not rule.startswith(GRANTED):
            yield
            return
        self._granted[agent, target].add(task)
        try:
            yield
        finally:
            held = self._granted.get((agent, target))
            if held is not None:
                held.discard(task)
                if not held:
                    del self._granted[agent, target]

    async def _read_head(self, near: socket.socket) -> tuple[bytes, bytes]:
        """The request's head, and what came with it. Raises NoTunnelError for one that is too long or too slow."""
        loop = asyncio.get_running_loop()
        head = bytearray()
        try:
            async with asyncio.timeout(self._times.head_s):
                while (end := head.find(b"\r\n\r\n")) < 0:
                    if len(head) >= HEAD_LIMIT_BYTES:
                        raise NoTunnelError(400, "refused", "request", f"the request is over {HEAD_LIMIT_BYTES} bytes")
                    piece = await loop.sock_recv(near, HEAD_LIMIT_BYTES - len(head))
                    if not piece:
                        raise NoTunnelError(400, "refused", "request", "the request ends within its head")
                    head += piece
        except TimeoutError:
            raise NoTunnelError(408, "refused", "request", f"the request took over {self._times.head_s:g} s") from None
        return bytes(head[: end + 4]), bytes(head[end + 4 :])

    async def _decide(self, agent: str, target: Target, plain: PlainRequest | None) -> str:
        """The rule that allows it. Raises NoTunnelError if none does."""
        try:
            policy = await self._find_policy(agent)
        except HiveError as error:
            raise NoTunnelError(503, "refused", "config", f"its config cannot be used now: {error.message}") from error
        method, path = ("", "") if plain is None else (plain.method, plain.path)
        decision = decide_egress(policy, target, method, path)
        if decision.verdict is not Verdict.ALLOW:
            raise NoTunnelError(403, "refused", decision.rule, decision.reason)
        return decision.rule

    async def _record(self, agent: str, request: _Request) -> None:
        await self.log.record(
            agent,
            request.target,
            verdict=request.verdict,
            rule=request.rule,
            method="" if request.plain is None else request.plain.method,
            path="" if request.plain is None else request.plain.path,
            bytes_up=request.traffic.up,
            bytes_down=request.traffic.down,
            elapsed_ms=request.elapsed_ms(),
        )


class EgressListener:
    """One agent's egress.sock and its tunnels, until `close`."""

    def __init__(self, egress: Egress, agent: str, listener: socket.socket) -> None:
        self._egress = egress
        self._agent = agent
        self._listener = listener
        self._tunnels: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept_forever())

    async def close(self) -> None:
        """Stops listening and ends all tunnels, which are recorded then."""
        tasks = (self._accepting, *self._tunnels)
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._listener.close()
            self._egress.log.forget(self._agent)

    async def _accept_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                near, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("egress.not_accepted", agent=self._agent, error=error.strerror)
                await asyncio.sleep(_RETRY_S)
                continue
            self._take(near)
            # While somebody waits to be accepted nothing above does: everything else would.
            await asyncio.sleep(0)

    def _take(self, near: socket.socket) -> None:
        near.setblocking(False)
        busy = len(self._tunnels) >= TUNNELS_LIMIT
        if busy or not self._egress.enter():
            rule = "tunnels" if busy else "tunnels of the hive"
            refusal = render_refusal(self._agent, None, 503, rule, "there are too many tunnels: close some")
            with contextlib.suppress(OSError):
                near.send(refusal)
                # As in `_answer`, as far as that can be done at once.
                near.recv(HEAD_LIMIT_BYTES)
            near.close()
            return
        tunnel = asyncio.create_task(self._egress.serve(self._agent, near))
        self._tunnels.add(tunnel)
        tunnel.add_done_callback(self._ended)

    def _ended(self, tunnel: asyncio.Task[None]) -> None:
        self._tunnels.discard(tunnel)
        self._egress.leave()
        if not tunnel.cancelled() and tunnel.exception() is not None:
            log.error("egress.failed", agent=self._agent, exc_info=tunnel.exception())


def render_refusal(agent: str, target: Target | None, status: int, rule: str, reason: str) -> bytes:
    """The answer to a request that gets no tunnel. All of it is text of ours, or was read as a host."""
    wish = "" if target is None else f" reaches no {target.host}:{target.port}"
    advice = f"; {_PROPOSE}" if rule.startswith("network.") else ""
    body = f"egress: {agent}{wish}: {reason} ({rule}){advice}\n".encode("ascii", "replace")
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"X-Hive-Rule: {rule}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii", "replace") + body


async def _answer(near: socket.socket, answer: bytes) -> None:
    """Sends the answer and waits a moment for the end: a socket closed on unread bytes looks broken to the other."""
    with contextlib.suppress(OSError):
        await _send(near, answer)
        near.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_LINGER_S):
            for _ in range(_LINGER_PIECES):
                if not await asyncio.get_running_loop().sock_recv(near, HEAD_LIMIT_BYTES):
                    return


async def _send(connection: socket.socket, content: bytes) -> None:
    """Raises OSError (TimeoutError is one) if the other side does not take it."""
    if content:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await asyncio.get_running_loop().sock_sendall(connection, content)
