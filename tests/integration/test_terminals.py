"""Terminals with the real harness in a real container: shells that are looked at, typed into, and ended."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hyperhive.core.errors import NotFoundError, RefusedError, TooManyError
from hyperhive.core.events import EventName
from hyperhive.core.terminals import RESET, SCROLLBACK_LIMIT_BYTES, TERMINALS_LIMIT, Ending, Terminal
from hyperhive.host.terminals import Attachment
from hyperhive.wire.agent_link import TERMINAL_RESIZE
from lifecycle_rig import Hive, make_place, open_hive, wait_for
from terminal_viewer import Viewer

T = TypeVar("T")
DEADLINE_S = 60.0


async def eventually(look: Callable[[], T | None]) -> T:
    end_s = time.monotonic() + DEADLINE_S
    while not (seen := look()):
        assert time.monotonic() < end_s, f"not seen within {DEADLINE_S} s"
        await asyncio.sleep(0.02)
    return seen


class LiveViewer(Viewer):
    """Acknowledges what it sees, unless it is told not to."""

    def __init__(self, *, acknowledges: bool = True) -> None:
        super().__init__()
        self.acknowledges = acknowledges
        self.attachment: Attachment | None = None

    def output(self, data: bytes) -> None:
        super().output(data)
        if self.acknowledges and self.attachment is not None:
            self.attachment.acknowledge(len(data))

    def attach(self, hive: Hive, terminal: Terminal, *, writes: bool = True) -> "LiveViewer":
        self.attachment = hive.parts.terminals.attach("alice", terminal.id, self, writes=writes)
        return self

    def type(self, text: str) -> None:
        assert self.attachment is not None
        self.attachment.write(text.encode())

    async def sees(self, text: str) -> None:
        await eventually(lambda: text.encode() in self.shown)

    async def run(self, command: str) -> None:
        """Waits until a command has ended. What says so is not what was typed."""
        seen = len(self.shown)
        self.type(f"{command}; echo do''ne\n")
        await eventually(lambda: b"done\r\n" in self.shown[seen:])


@pytest.fixture
async def hive() -> AsyncGenerator[Hive]:
    async with open_hive() as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle", timeout_s=DEADLINE_S)
        yield hive


async def open_terminal(hive: Hive) -> Terminal:
    return await hive.parts.terminals.open("alice", 80, 24, "the operator")


async def list_terminals(hive: Hive) -> list[Terminal]:
    return await hive.parts.terminals.list("alice")


async def wait_ended(hive: Hive, terminal: Terminal) -> Terminal:
    end_s = time.monotonic() + DEADLINE_S
    while True:
        found = next(one for one in await list_terminals(hive) if one.id == terminal.id)
        if found.ended_at is not None:
            return found
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.02)


async def test_a_shell_runs_in_the_agents_state_folder_on_a_terminal_of_its_own(hive: Hive) -> None:
    viewer = LiveViewer().attach(hive, await open_terminal(hive))
    await viewer.run("echo $((40 + 2)) in $PWD with $TERM; tty; stty size; echo job control: $-")
    for text in (b"42 in /state with xterm-256color\r\n", b"/dev/pts/", b"24 80\r\n"):
        assert text in viewer.shown
    assert b"no job control" not in viewer.shown
    await viewer.run("ps -o sid=,tpgid= -p $$ | tr -s ' '; cat /proc/$$/comm")
    assert b"bash\r\n" in viewer.shown


async def test_the_programs_are_told_of_a_new_size_and_so_are_all_who_look(hive: Hive) -> None:
    terminal = await open_terminal(hive)
    viewer, other = LiveViewer().attach(hive, terminal), LiveViewer().attach(hive, terminal, writes=False)
    await viewer.run("trap 'stty size' WINCH")
    assert viewer.attachment is not None
    for rows in range(30, 51):
        viewer.attachment.resize(120, rows)
    await viewer.sees("50 120\r\n")
    assert viewer.sizes[-1] == other.sizes[-1] == (120, 50)
    (row,) = await list_terminals(hive)
    assert (row.columns, row.rows, row.viewers) == (120, 50, 2)


async def test_an_exit_status_reaches_the_viewers_and_the_record(hive: Hive) -> None:
    terminal = await open_terminal(hive)
    viewer = LiveViewer().attach(hive, terminal)
    viewer.type("echo the la''st; exit 3\n")
    await eventually(lambda: viewer.endings)
    assert viewer.endings == [3]
    assert b"the last\r\n" in viewer.shown
    ended = await wait_ended(hive, terminal)
    assert (ended.ending, ended.status, ended.opened_by) == (Ending.EXITED, 3, "the operator")
    assert ended.bytes_in == len("echo the la''st; exit 3\n")
    assert ended.bytes_out == len(viewer.shown)
    opened, end = hive.list_events(EventName.TERMINAL_OPENED, EventName.TERMINAL_ENDED)
    assert opened.body == {"id": terminal.id, "by": "the operator"}
    assert (end.body["ending"], end.body["status"]) == ("exited", 3)
    with pytest.raises(NotFoundError):
        viewer.attach(hive, terminal)


async def test_control_c_interrupts_the_program_and_not_the_shell(hive: Hive) -> None:
    viewer = LiveViewer().attach(hive, await open_terminal(hive))
    viewer.type("echo wai''ting; sleep 1000\n")
    await viewer.sees("waiting")
    viewer.type("\x03")
    await viewer.run("echo status $?")
    assert viewer.endings == []


async def test_two_see_the_same_and_one_that_reads_cannot_write(hive: Hive) -> None:
    terminal = await open_terminal(hive)
    viewer = LiveViewer().attach(hive, terminal)
    await viewer.run("echo before''hand")
    reader = LiveViewer().attach(hive, terminal, writes=False)
    assert b"beforehand\r\n" in reader.shown
    await viewer.run("echo for bo''th")
    await reader.sees("for both\r\n")
    with pytest.raises(RefusedError):
        reader.type("echo no\n")
    assert reader.attachment is not None
    with pytest.raises(RefusedError):
        reader.attachment.resize(10, 10)
    reader.attachment.detach()
    shown = len(reader.shown)
    await viewer.run("echo for o''ne")
    assert len(reader.shown) == shown


async def test_more_than_the_limit_are_refused_until_one_is_closed(hive: Hive) -> None:
    terminals = [await open_terminal(hive) for _ in range(TERMINALS_LIMIT)]
    with pytest.raises(TooManyError):
        await open_terminal(hive)
    viewer = LiveViewer().attach(hive, terminals[0])
    await viewer.run("nohup sleep 1234 & sleep 1235 & disown -a; trap '' HUP")
    await hive.parts.terminals.close("alice", terminals[0].id)
    assert len(viewer.endings) == 1
    ended = await wait_ended(hive, terminals[0])
    assert ended.ending is Ending.CLOSED
    assert not [pid for pid in await hive.list_processes() if is_running(pid, "sleep", "123")]
    await open_terminal(hive)
    # Again is no error, of what never was it is one.
    await hive.parts.terminals.close("alice", terminals[0].id)
    with pytest.raises(NotFoundError):
        await hive.parts.terminals.close("alice", "nonsense")


def is_running(pid: int, program: str, argument: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    return program in command[0] and any(word.startswith(argument) for word in command[1:])


async def test_who_does_not_acknowledge_stops_the_program_and_has_it_go_on_after(hive: Hive) -> None:
    terminal = await open_terminal(hive)
    viewer = LiveViewer(acknowledges=False).attach(hive, terminal)
    assert viewer.attachment is not None
    viewer.type("head -c 3000000 /dev/zero | tr '\\0' x; touch /state/written; echo do''ne\n")
    await eventually(lambda: len(viewer.shown) > SCROLLBACK_LIMIT_BYTES)
    written = hive.roots.state_folder("alice") / "written"
    seen = len(viewer.shown)
    # All that is on its way has come when the harness answers: then nothing moves.
    for rows in (30, 31):
        viewer.attachment.resize(80, rows)
        await hive.parts.links.get_connection("alice").call(
            TERMINAL_RESIZE, {"id": terminal.id, "columns": 80, "rows": rows}, DEADLINE_S
        )
    assert len(viewer.shown) <= seen + 512 * 1024 < 3_000_000
    assert not written.exists()
    viewer.acknowledges = True
    viewer.attachment.acknowledge(len(viewer.shown))
    await viewer.sees("done\r\n")
    assert viewer.shown.count(b"x") >= 3_000_000
    assert viewer.endings == []


async def test_a_shell_and_what_it_showed_outlive_the_daemon() -> None:
    async with make_place() as place:
        async with open_hive(place=place) as hive:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle", timeout_s=DEADLINE_S)
            terminal = await open_terminal(hive)
            viewer = LiveViewer().attach(hive, terminal)
            await viewer.run("word=heron; echo befo''re")
            viewer.type("until [ -e go ]; do sleep 0.1; done; echo mean''while\n")
            await viewer.sees("echo mean")
        (hive.roots.state_folder("alice") / "go").touch()
        async with open_hive(place=place, reconcile=True) as hive:
            await hive.wait_state("idle", timeout_s=DEADLINE_S)
            (row,) = await list_terminals(hive)
            assert (row.id, row.ended_at, row.opened_by) == (terminal.id, None, "the operator")
            viewer = LiveViewer().attach(hive, terminal)
            await viewer.sees("before\r\n")
            await viewer.sees("meanwhile\r\n")
            await viewer.run("echo the word is $word")
            assert b"the word is heron\r\n" in viewer.shown
            # What is sent again is not counted again.
            (row,) = await list_terminals(hive)
            assert row.bytes_out <= len(viewer.shown.replace(RESET, b""))


async def test_a_restart_of_the_agent_ends_its_terminals(hive: Hive) -> None:
    terminal = await open_terminal(hive)
    viewer = LiveViewer().attach(hive, terminal)
    await hive.agents.restart("alice", "operator")
    await eventually(lambda: viewer.endings)
    assert (await wait_ended(hive, terminal)).ending is Ending.STOPPED


async def test_a_harness_that_is_stopped_leaves_nothing_of_a_shell(hive: Hive) -> None:
    viewer = LiveViewer().attach(hive, await open_terminal(hive))
    await viewer.run("trap '' HUP TERM; (sleep 1234 &)")
    await hive.agents.stop("alice", "operator")
    await hive.wait_state("stopped", timeout_s=DEADLINE_S)
    await eventually(lambda: viewer.endings)

    async def are_gone() -> bool | None:
        return await hive.list_processes() == [] or None

    await wait_for(are_gone, DEADLINE_S, hive)
