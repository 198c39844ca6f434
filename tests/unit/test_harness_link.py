"""The link, the inbox and the tools against a daemon's end that is scripted here, over a real socket."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness_rig import eventually
from hyperhive import __version__
from hyperhive.core.errors import ConflictError, RefusedError, UnavailableError
from hyperhive.core.messages import BODY_LIMIT_BYTES
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Link, SupersededError
from hyperhive.harness.peer import Peer
from hyperhive.harness.tools import Toolbox

Serve = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Daemon:
    """Listens, answers hello by itself and all else by `serve`, and can go away and come back."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._peers: list[tuple[Peer, asyncio.StreamWriter]] = []
        self.hellos: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.asked = asyncio.Event()
        self.serve: Serve = self._answer_nothing
        self.refusal: Exception | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self._socket)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._socket.unlink()
        for peer, writer in self._peers:
            peer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        self._peers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, self._answer)
        self._peers.append((peer, writer))
        await peer.run()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "hello":
            self.hellos.append(params)
            if self.refusal is not None:
                raise self.refusal
            return {"agent": "alice", "manager": False, "events_stored_seq": 0, "config": {}}
        self.requests.append((method, params))
        self.asked.set()
        return await self.serve(method, params)

    async def _answer_nothing(self, method: str, params: dict[str, Any]) -> Any:
        del method, params
        await asyncio.Event().wait()


class Parts:
    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder / "hive.sock")
        self.inbox = Inbox()
        self.link = Link(folder / "hive.sock", 7, self.inbox.holding, lambda _: None, self._refuse)
        self.running = asyncio.create_task(self.link.run())

    async def _refuse(self, method: str, params: dict[str, Any]) -> Any:
        raise RefusedError(method)


@asynccontextmanager
async def _open(folder: Path) -> AsyncGenerator[Parts]:
    parts = Parts(folder)
    await parts.daemon.start()
    try:
        yield parts
    finally:
        parts.running.cancel()
        await asyncio.gather(parts.running, return_exceptions=True)
        await parts.daemon.stop()


async def _echo(method: str, params: dict[str, Any]) -> Any:
    return {"method": method, **params}


def _message(number: int, body: str = "hello") -> dict[str, Any]:
    return {
        "id": number, "sender": "bob", "recipient": "alice", "body": body, "sent_at": "2026-01-01T00:00:00+00:00",
        "deliveries": 1, "thread": None, "in_reply_to": None, "broadcast": False,
    }  # fmt: skip


async def test_a_request_made_before_the_daemon_is_there_waits_for_it(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        parts.daemon.serve = _echo
        await parts.daemon.stop()
        request = asyncio.create_task(parts.link.request("send", {"n": 1}))
        await parts.daemon.start()
        assert await asyncio.wait_for(request, 5) == {"method": "send", "n": 1}


async def test_a_request_whose_connection_broke_is_made_again(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        request = asyncio.create_task(parts.link.request("send", {"n": 1}))
        await asyncio.wait_for(parts.daemon.asked.wait(), 5)
        await parts.daemon.stop()
        parts.daemon.serve = _echo
        await parts.daemon.start()
        assert await asyncio.wait_for(request, 5) == {"method": "send", "n": 1}
        assert parts.daemon.requests == [("send", {"n": 1})] * 2


async def test_a_deadline_passes_with_or_without_a_daemon(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        with pytest.raises(UnavailableError, match="did not answer"):
            await parts.link.request("send", {}, deadline_s=0.2)
        await parts.daemon.stop()
        with pytest.raises(UnavailableError, match="did not answer"):
            await parts.link.request("send", {}, deadline_s=0.1)
        await parts.daemon.start()


async def test_a_conflict_at_hello_ends_the_link_and_other_refusals_are_tried_again(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        parts.daemon.refusal = RefusedError("not now")
        await eventually(lambda: len(parts.daemon.hellos) >= 2)
        parts.daemon.refusal = ConflictError("there is a newer one")
        with pytest.raises(SupersededError, match="newer"):
            await asyncio.wait_for(parts.running, 5)
        assert parts.daemon.hellos[0] == {"protocol": 1, "generation": 7, "holding": [], "version": __version__}


async def test_what_is_held_is_told_until_it_is_settled(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:

        async def serve(method: str, params: dict[str, Any]) -> Any:
            return {"messages": [_message(5), _message(6)], "waiting": 3} if method == "recv" else {}

        parts.daemon.serve = serve
        delivery = await parts.inbox.fetch(parts.link, 8, 0)
        assert ([message.id for message in delivery.messages], delivery.waiting) == ([5, 6], 3)
        await parts.daemon.stop()
        settling = asyncio.create_task(parts.inbox.ack(parts.link, [5]))
        await asyncio.sleep(0)
        assert parts.inbox.unsettled() == [6]
        assert list(parts.inbox.holding()) == [5, 6]
        await parts.daemon.start()
        await asyncio.wait_for(settling, 5)
        assert parts.daemon.hellos[-1]["holding"] == [5, 6]
        assert list(parts.inbox.holding()) == [6]


async def test_messages_that_come_after_nobody_waits_go_back(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        come, back = asyncio.Event(), asyncio.Event()

        async def serve(method: str, params: dict[str, Any]) -> Any:
            if method == "requeue":
                assert (params["ids"], params["failed"]) == ([5], False)
                back.set()
                return {}
            await come.wait()
            return {"messages": [_message(5)], "waiting": 0}

        parts.daemon.serve = serve
        fetching = asyncio.create_task(parts.inbox.fetch(parts.link, 1, 100))
        await asyncio.wait_for(parts.daemon.asked.wait(), 5)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        come.set()
        await asyncio.wait_for(back.wait(), 5)
        await eventually(lambda: not parts.inbox.holding())


NO_DELIVERIES: list[Any] = [None, [], {"messages": [{}], "waiting": 0}, {"messages": [], "waiting": "x"}]


@pytest.mark.parametrize("answer", NO_DELIVERIES)
async def test_an_answer_to_recv_that_is_none_is_an_error(tmp_path: Path, answer: Any) -> None:
    async with _open(tmp_path) as parts:

        async def serve(method: str, params: dict[str, Any]) -> Any:
            del method, params
            return answer

        parts.daemon.serve = serve
        with pytest.raises(UnavailableError, match="recv"):
            await parts.inbox.fetch(parts.link, 1, 0)


# -- tools -------------------------------------------------------------------------------------------------


async def test_a_send_that_got_no_answer_keeps_its_key_when_repeated_word_for_word(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:
        toolbox = Toolbox(parts.link, parts.inbox, deadline_s=0.2)
        refusal = await toolbox.call("send", {"to": "bob", "body": "hi"})
        assert refusal.get("is_error")
        assert "counts once" in refusal["text"]

        async def serve(method: str, params: dict[str, Any]) -> Any:
            del method, params
            return {"id": 17}

        parts.daemon.serve = serve
        await toolbox.call("send", {"to": "bob", "body": "other"})
        assert await toolbox.call("send", {"body": "hi", "to": "bob"}) == {"text": "message 17 to bob is sent"}
        await toolbox.call("send", {"to": "bob", "body": "hi"})
        lost, other, again, new = [params["idempotency_key"] for _, params in parts.daemon.requests]
        assert again == lost
        assert len({lost, other, new}) == 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("recv", {"wait_seconds": 181}),
        ("recv", {"wait_seconds": -1}),
        ("recv", {"wait_seconds": True}),
        ("recv", {"max": 0}),
        ("recv", {"max": "many"}),
        ("format_disk", {}),
    ],
)
async def test_a_wrong_call_is_refused_before_it_reaches_the_daemon(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    async with _open(tmp_path) as parts:
        result = await Toolbox(parts.link, parts.inbox).call(name, arguments)
        assert result.get("is_error")
        assert parts.daemon.requests == []


async def test_recv_shows_what_fits_and_gives_back_the_rest(tmp_path: Path) -> None:
    async with _open(tmp_path) as parts:

        async def serve(method: str, params: dict[str, Any]) -> Any:
            del params
            body = "x" * BODY_LIMIT_BYTES
            return {"messages": [_message(n, body) for n in range(9)], "waiting": 4} if method == "recv" else {}

        parts.daemon.serve = serve
        result = await Toolbox(parts.link, parts.inbox).call("recv", {"max": 9})
        shown = parts.inbox.unsettled()
        await eventually(lambda: len(parts.inbox.holding()) == len(shown))
        (_, (method, params)) = parts.daemon.requests
        assert method == "requeue"
        assert shown + params["ids"] == list(range(9))
        assert result["text"].endswith(f"{4 + len(params['ids'])} more waiting: call recv again for them.")
        assert result["text"].count("</message>") == len(shown)
