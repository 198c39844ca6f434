"""A stand-in for the daemon's end of one agent link, as a program that can be killed and started again.

    python link_peer.py SOCKET STATE_FILE [--manager] [--conflict] [--permission-wait SECONDS] [--notes DECISION]

Everything it knows is in STATE_FILE, replaced whole before any answer leaves: messages, events, config, permissions,
and the log of all requests. It reads commands from standard input, one JSON object a line, and answers each with a
line on standard output: {"put": {"sender": …, "body": …}} queues a message, {"cancel": true} asks the harness to cancel
its turn, {"raw": "base64"} writes bytes to it as they are, {"drop": true} closes the connection, {"config": …} is the
config of each hello from then on and, unless "quietly" is true beside it, sent at once, {"decide": …, "reason": …}
answers the oldest open question about a permission, {"ask": method, "params": …} asks the harness anything, {"park": …}
is the park from then on, which the harness is told of: null for none. While there is one no message is leased.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError
from hyperhive.wire import agent_link
from hyperhive.wire.jsonrpc import (
    LINE_LIMIT_BYTES,
    Request,
    Response,
    decode_line,
    encode_error,
    encode_request,
    encode_result,
)

AGENT = "alice"
# A config without any rule, as the default one is.
CONFIG: dict[str, Any] = {
    "commit": "0" * 40,
    "model": "",
    "prompt": "",
    "warm_s": None,
    "compact_at": 0.75,
    "notes_limit": 0,
    "policy": {
        "allowed_recipients": [],
        "allowed_tools": [],
        "bash_allow": [],
        "bash_deny": [],
        "bash_ask": [],
        "ask": [],
        "mcp_tools": {},
    },
    "mcp_servers": {},
}


class PeerState:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.data: dict[str, Any] = {
            "messages": [], "events": [], "log": [], "sent": {}, "config": CONFIG, "permissions": {}, "park": None,
        }  # fmt: skip
        if path.exists():
            self.data = json.loads(path.read_text())
        self.arrived = asyncio.Event()
        self.decided = asyncio.Event()

    def save(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self.data))
        fresh.replace(self._path)

    def put(self, sender: str, body: str) -> int:
        number = len(self.data["messages"]) + 1
        self.data["messages"].append(
            {
                "id": number,
                "sender": sender,
                "recipient": AGENT,
                "body": body,
                "sent_at": datetime.now(UTC).isoformat(),
                "deliveries": 0,
                "thread": None,
                "in_reply_to": None,
                "broadcast": False,
                "state": "queued",
                "note": "",
            }
        )
        self.save()
        self.arrived.set()
        return number

    def set_park(self, park: dict[str, Any] | None) -> None:
        self.data["park"] = park
        self.save()
        self.arrived.set()

    def decide(self, decision: str, reason: str) -> int:
        question = next(entry for entry in self.data["permissions"].values() if not entry["decision"])
        question |= {"decision": decision, "reason": reason}
        self.save()
        self.decided.set()
        return question["id"]

    def queued(self) -> list[dict[str, Any]]:
        """What may be leased now."""
        if self.data["park"] is not None:
            return []
        return [message for message in self.data["messages"] if message["state"] == "queued"]


class PeerConnection:
    """One harness that connected. Any method it does not know is refused, as the daemon would."""

    def __init__(self, state: PeerState, writer: asyncio.StreamWriter, options: argparse.Namespace) -> None:
        self._state = state
        self.writer = writer
        self._options = options
        self.answers: dict[int | str | None, asyncio.Future[Response]] = {}

    async def answer(self, request: Request) -> None:
        try:
            line = encode_result(request.id, await self._serve(request.method, request.params))
        except HiveError as error:
            line = encode_error(request.id, error)
        self._state.save()
        with contextlib.suppress(ConnectionError):
            self.writer.write(line)
            await self.writer.drain()

    async def _serve(self, method: str, params: dict[str, Any]) -> Any:
        state = self._state.data
        if method != agent_link.EVENTS_APPEND:
            state["log"].append({"method": method, "params": params})
            self._state.save()
        match method:
            case agent_link.HELLO:
                return self._hello(params)
            case agent_link.RECV:
                return await self._recv(params)
            case agent_link.ACK:
                self._settle(params["ids"], "acked", "")
            case agent_link.REQUEUE:
                self._settle(params["ids"], "failed" if params["failed"] else "queued", params["reason"])
            case agent_link.EVENTS_APPEND:
                return self._append(params["events"])
            case agent_link.TURN_STATE:
                pass
            case agent_link.PARK:
                self._state.set_park({**params, "since": datetime.now(UTC).isoformat()})
                return state["park"]
            case _:
                return await self._serve_tool(method, params)
        return {}

    async def _serve_tool(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case agent_link.SEND:
                sent = self._state.data["sent"].setdefault(params["idempotency_key"], params)
                return {"id": 1000 + list(self._state.data["sent"].values()).index(sent)}
            case agent_link.ASK_PERMISSION:
                return await self._ask_permission(params)
            case agent_link.NOTES_COMPACTED:
                return {"decision": self._options.notes}
            case agent_link.START:
                raise NotFoundError("there is no agent 'bob'", "list_agents shows who there is")
            case _:
                raise InvalidInputError(f"no method {method}")

    def _hello(self, params: dict[str, Any]) -> Any:
        if self._options.conflict:
            raise ConflictError("a newer generation is connected")
        for message in self._state.data["messages"]:
            if message["state"] == "leased" and message["id"] not in params["holding"]:
                message["state"] = "queued"
        events = self._state.data["events"]
        return {
            "agent": AGENT,
            "manager": self._options.manager,
            "events_stored_seq": events[-1]["seq"] if events else 0,
            "config": self._state.data["config"],
            "park": self._state.data["park"],
        }

    async def _recv(self, params: dict[str, Any]) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(params["wait_s"]):
                while not self._state.queued() and not self.writer.is_closing():
                    self._state.arrived.clear()
                    await self._state.arrived.wait()
        taken = self._state.queued()[: params["max"]]
        for message in taken:
            message["state"] = "leased"
            message["deliveries"] += 1
        keys = agent_link.WireMessage.__annotations__
        shown = [{key: message[key] for key in keys if key in message} for message in taken]
        return {"messages": shown, "waiting": len(self._state.queued())}

    async def _ask_permission(self, params: dict[str, Any]) -> Any:
        asked = self._state.data["permissions"]
        question = asked.setdefault(params["idempotency_key"], {"id": len(asked) + 1, "decision": "", "reason": ""})
        self._state.save()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(params["wait_s"], self._options.permission_wait)):
                while not question["decision"]:
                    self._state.decided.clear()
                    await self._state.decided.wait()
        return question

    def _settle(self, ids: list[int], state: str, note: str) -> None:
        for message in self._state.data["messages"]:
            if message["id"] in ids and message["state"] == "leased":
                message |= {"state": "queued" if state == "failed" else state, "note": note}
                message["failures"] = message.get("failures", 0) + (state == "failed")
        self._state.arrived.set()

    def _append(self, events: list[dict[str, Any]]) -> Any:
        stored = self._state.data["events"]
        for event in events:
            last = stored[-1]["seq"] if stored else 0
            if event["seq"] > last + 1:
                raise InvalidInputError(f"event {event['seq']} after {last}: there is a gap")
            if event["seq"] == last + 1:
                stored.append(event)
        return {"stored_seq": stored[-1]["seq"] if stored else 0}


class Peer:
    def __init__(self, options: argparse.Namespace) -> None:
        self._state = PeerState(options.state)
        self._options = options
        self._connection: PeerConnection | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        self._options.socket.unlink(missing_ok=True)
        await asyncio.start_unix_server(self._serve, self._options.socket, limit=LINE_LIMIT_BYTES)
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader(limit=16 * LINE_LIMIT_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        self._reply({"listening": True})
        while line := await commands.readline():
            self._reply(await self._obey(json.loads(line)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = PeerConnection(self._state, writer, self._options)
        self._connection = connection
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            while True:
                message = decode_line(await reader.readuntil(b"\n"))
                if isinstance(message, Response):
                    connection.answers[message.id].set_result(message)
                else:
                    task = asyncio.create_task(connection.answer(message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        writer.close()
        self._state.arrived.set()

    async def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        if "put" in command:
            return {"id": self._state.put(**command["put"])}
        if "decide" in command:
            return {"id": self._state.decide(command["decide"], command.get("reason", ""))}
        if "config" in command:
            self._state.data["config"] = command["config"]
            self._state.save()
            if command.get("quietly"):
                return {}
        if "park" in command:
            self._state.set_park(command["park"])
            command = {"ask": agent_link.SET_PARK, "params": {"park": command["park"]}}
        if self._connection is None:
            return {"error": "nobody is connected"}
        return await self._pass_on(self._connection, command)

    async def _pass_on(self, connection: PeerConnection, command: dict[str, Any]) -> dict[str, Any]:
        """Does to the harness what was asked for, and returns what it says to it."""
        if "raw" in command:
            connection.writer.write(base64.b64decode(command["raw"]))
        elif "drop" in command:
            connection.writer.close()
        elif "ask" in command:
            answer = await self._ask_harness(connection, command["ask"], command["params"])
            return {"refused": str(answer.error)} if answer.error else {"answer": answer.result}
        elif "config" in command:
            answer = await self._ask_harness(connection, agent_link.SET_CONFIG, {"config": command["config"]})
            return {"refused": str(answer.error)} if answer.error else {"taken": answer.result}
        else:
            return (await self._ask_harness(connection, agent_link.CANCEL_TURN, {})).result
        return {}

    async def _ask_harness(self, connection: PeerConnection, method: str, params: dict[str, Any]) -> Response:
        answer = connection.answers[method] = asyncio.get_running_loop().create_future()
        connection.writer.write(encode_request(Request(method, params, method)))
        return await answer

    def _reply(self, reply: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--manager", action="store_true")
    parser.add_argument("--conflict", action="store_true")
    parser.add_argument("--permission-wait", type=float, default=60.0)
    parser.add_argument("--notes", default="apply", help="What is decided about rewritten notes.")
    asyncio.run(Peer(parser.parse_args()).run())


if __name__ == "__main__":
    main()
