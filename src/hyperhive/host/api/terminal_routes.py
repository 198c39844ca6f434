"""/api/agents/NAME/terminals: shells in an agent's container, and the WebSocket that shows one."""

from typing import Annotated

from fastapi import APIRouter, Path, WebSocket

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import OPERATOR
from hyperhive.core.terminals import ID_LIMIT_CHARS
from hyperhive.core.terminals import Terminal as Shell
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.api.terminal_socket import SocketViewer
from hyperhive.wire.operator.terminals import Terminal, TerminalRequest

TerminalId = Annotated[str, Path(max_length=ID_LIMIT_CHARS)]


def terminal_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["terminals"])
    terminals = services.terminals

    @routes.post("/api/agents/{name}/terminals", status_code=201)
    async def open_terminal(name: Name, request: TerminalRequest) -> Terminal:
        """Opens a shell in the agent's container. 429 when it has too many, 503 when the agent does not run."""
        return show_terminal(await terminals.open(name, request.columns, request.rows, OPERATOR))

    @routes.get("/api/agents/{name}/terminals")
    async def list_terminals(name: Name) -> list[Terminal]:
        """The agent's open terminals, then those that ended last."""
        return [show_terminal(shell) for shell in await terminals.list(name)]

    @routes.delete("/api/agents/{name}/terminals/{terminal_id}", status_code=204)
    async def close_terminal(name: Name, terminal_id: TerminalId) -> None:
        """Ends the shell and all that runs in it."""
        await terminals.close(name, terminal_id)

    @routes.websocket("/api/agents/{name}/terminals/{terminal_id}/socket")
    async def attach_terminal(socket: WebSocket, name: Name, terminal_id: TerminalId, mode: str = "write") -> None:
        """What is on the terminal, and with the mode `write` a way to type. What is refused gets an ErrorBody.

        To the client: binary output, and texts `{"kind": "resized", columns, rows}`, `{"kind": "ended", status}`.
        From it: binary input, and texts `{"kind": "resize", columns, rows}`, `{"kind": "ack", count}`: the bytes of
        output that it has dealt with. Without those it is sent a few hundred KiB and no more. And
        `{"kind": "answer", text}`: what its terminal answers by itself to what a program asked. Of several clients that
        may write, the one that typed last is heard, at first the one that came first.
        """
        if mode not in {"write", "read"}:
            raise InvalidInputError("mode: neither write nor read", "leave it out to write")
        viewer = SocketViewer()
        # Before it is accepted, so that what is wrong is told with a status and a body.
        attachment = terminals.attach(name, terminal_id, viewer, writes=mode == "write")
        await viewer.relay(socket, attachment)

    return routes


def show_terminal(shell: Shell) -> Terminal:
    return Terminal(
        id=shell.id,
        agent=shell.agent,
        opened_by=shell.opened_by,
        opened_at=shell.opened_at,
        columns=shell.columns,
        rows=shell.rows,
        viewers=shell.viewers,
        ended_at=shell.ended_at,
        status=shell.status,
        ending=shell.ending,
        bytes_in=shell.bytes_in,
        bytes_out=shell.bytes_out,
    )
