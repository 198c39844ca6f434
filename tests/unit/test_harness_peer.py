"""Two peers over one socket pair: requests in both directions, and every way in which they can end badly."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hyperhive.core.errors import NotFoundError, TooLargeError
from hyperhive.harness.peer import Answer, ConnectionLostError, Peer
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES, ProtocolError


async def _echo(method: str, params: dict[str, Any]) -> Any:
    if method == "refuse":
        raise NotFoundError("no such thing", "look elsewhere")
    if method == "break":
        raise ZeroDivisionError
    if method == "flood":
        return "x" * LINE_LIMIT_BYTES
    return {"method": method, **params}


def _ignore(method: str, params: dict[str, Any]) -> None:
    del method, params


@asynccontextmanager
async def _pair(
    answer: Answer = _echo, notice: Callable[[str, dict[str, Any]], None] = _ignore
) -> AsyncGenerator[tuple[Peer, Peer, asyncio.StreamWriter]]:
    """The asking peer, the answering one, and the raw stream from the first to the second."""
    left, right = socket.socketpair()
    left_reader, left_writer = await asyncio.open_unix_connection(sock=left, limit=LINE_LIMIT_BYTES)
    right_reader, right_writer = await asyncio.open_unix_connection(sock=right, limit=LINE_LIMIT_BYTES)
    asking = Peer(left_reader, left_writer, _echo, announces_cancel=True)
    answering = Peer(right_reader, right_writer, answer, notice)
    running = [asyncio.create_task(peer.run()) for peer in (asking, answering)]
    try:
        yield asking, answering, left_writer
    finally:
        asking.close()
        answering.close()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(left_writer.wait_closed(), right_writer.wait_closed(), return_exceptions=True)


async def test_requests_go_both_ways_at_once() -> None:
    async with _pair() as (asking, answering, _):
        answers = await asyncio.gather(
            *(asking.request("m", {"n": n}) for n in range(200)),
            *(answering.request("m", {"n": n}) for n in range(200)),
        )
        assert [answer["n"] for answer in answers] == [*range(200), *range(200)]


async def test_a_refusal_comes_back_as_the_error_it_was() -> None:
    async with _pair() as (asking, _, _raw):
        with pytest.raises(NotFoundError, match="no such thing") as caught:
            await asking.request("refuse", {})
        assert caught.value.hint == "look elsewhere"


async def test_a_bug_in_an_answer_is_told_as_an_internal_error_and_the_connection_goes_on() -> None:
    async with _pair() as (asking, _, _raw):
        with pytest.raises(Exception, match="internal error"):
            await asking.request("break", {})
        assert await asking.request("m", {}) == {"method": "m"}


async def test_an_answer_too_long_for_a_line_becomes_an_error() -> None:
    async with _pair() as (asking, _, _raw):
        with pytest.raises(TooLargeError):
            await asking.request("flood", {})


async def test_a_request_too_long_for_a_line_is_never_sent() -> None:
    async with _pair() as (asking, _, _raw):
        with pytest.raises(TooLargeError):
            await asking.request("m", {"text": "x" * LINE_LIMIT_BYTES})
        assert await asking.request("m", {}) == {"method": "m"}


async def test_notifications_come_in_order_and_before_the_answer_that_follows_them() -> None:
    seen: list[int] = []
    async with _pair(notice=lambda _, params: seen.append(params["n"])) as (asking, _, _raw):
        for number in range(50):
            await asking.notify("tick", {"n": number})
        await asking.request("m", {})
        assert seen == list(range(50))


async def test_the_end_of_the_connection_fails_what_waits_and_what_comes_later() -> None:
    forever = asyncio.Event()

    async def wait(method: str, params: dict[str, Any]) -> Any:
        del method, params
        await forever.wait()

    async with _pair(wait) as (asking, answering, _):
        request = asyncio.create_task(asking.request("m", {}))
        await asyncio.sleep(0)
        answering.close()
        with pytest.raises(ConnectionLostError):
            await request
        with pytest.raises(ConnectionLostError):
            await asking.request("m", {})


async def test_a_request_given_up_is_cancelled_at_the_other_side() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(method: str, params: dict[str, Any]) -> Any:
        del method, params
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with _pair(wait) as (asking, _, _raw):
        request = asyncio.create_task(asking.request("m", {}))
        await begun.wait()
        request.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_an_answer_that_comes_after_the_caller_gave_up_is_not_lost() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    late: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def wait(method: str, params: dict[str, Any]) -> Any:
        del method, params
        begun.set()
        await go.wait()
        return "brought"

    async with _pair(wait) as (asking, answering, _):
        request = asyncio.create_task(answering.request("unused", {}))
        await request
        left = asyncio.create_task(_give_up_on(asking, late.set_result, begun))
        await left
        go.set()
        assert await asyncio.wait_for(late, 5) == "brought"


async def _give_up_on(peer: Peer, late: Callable[[Any], None], begun: asyncio.Event) -> None:
    # As the agent link does it: the other side is not told, and may still answer.
    peer._announces_cancel = False  # pyright: ignore[reportPrivateUsage]
    request = asyncio.create_task(peer.request("m", {}, late))
    await begun.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"jsonrpc":"1.0"}\n', b"x" * (LINE_LIMIT_BYTES + 1) + b"\n"]
)
async def test_a_line_that_is_not_json_rpc_ends_the_connection_with_the_reason(line: bytes) -> None:
    left, right = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=right, limit=LINE_LIMIT_BYTES)
    peer = Peer(reader, writer, _echo)
    running = asyncio.create_task(peer.run())
    sending = asyncio.to_thread(left.sendall, line)
    with pytest.raises(ProtocolError):
        await asyncio.gather(running, sending)
    left.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_response_to_no_request_is_ignored() -> None:
    async with _pair() as (asking, _, raw):
        raw.write(b'{"jsonrpc":"2.0","id":99,"result":1}\n')
        assert await asking.request("m", {}) == {"method": "m"}
