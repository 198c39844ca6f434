"""How long a container takes until its harness is connected, beside the bare program; and what the time goes into."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.container_kinds import HARNESS_IMPORTED, Kind, Peers, get_images, make_place, time_program
from benchmarks.feed import open_feed, read_until
from benchmarks.hives import run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from hive_process import HiveProcess
from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH
from hyperhive.host.container_spec import HARNESS
from hyperhive.host.drivers.protocol import ContainerSpec, Driver, Mount
from proposer import Proposer

_DEPLOYED, _STARTED = b'"name":"approval.deployed"', b'"name":"agent.started"'
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/agent", "LANG": "C.UTF-8"}
# Behind those that a hive gives out.
_UID = FIRST_RANGED_UID + 2000 * RANGE_WIDTH
_TIMEOUT_S = 30.0
# As the harness begins: what it says first is that it is there.
_HELLO = f"import socket, {HARNESS[-1]}; socket.socket(socket.AF_UNIX).connect('/run/hive/hello.sock')"
_MS = 1000


def measure_starts(context: Context, kind: Kind) -> list[Row]:
    rounds = Rounds()
    samples: list[float] = []
    peers = Peers(context.folder)
    data = make_place(context, kind, "starts")
    with (
        run_hive(data, *kind.flags()) as hive,
        closing(Proposer(hive, data, generation=1).connect()) as manager,
        closing(_Bench(context, kind)) as bench,
    ):
        # The first of a daemon has more to do than the others.
        _approve(hive, manager, "first")
        for number in range(context.choose(11, 3)):
            name = f"new{number}"
            samples.append(_approve(hive, manager, name))
            rounds.add("approve", samples[-1])
            rounds.add("again", _start_again(hive, name))
            _purge(hive, name)
            rounds.add("peer", _time_peer(peers, kind))
            rounds.add("harness", time_program(HARNESS_IMPORTED))
            pieces = bench.measure()
            for piece, took_ms in pieces.items():
                rounds.add(piece, took_ms)
            rounds.add("rest", samples[-1] - sum(pieces.values()))
    return _list_rows(kind, rounds, samples)


def _list_rows(kind: Kind, rounds: Rounds, samples: Sequence[float]) -> list[Row]:
    def render(*names: str) -> str:
        return ", ".join(f"{rounds.median(name):.0f}" for name in names) + " ms"

    peer = f"`{kind.peer}`: {render('peer')}"
    return [
        Row(
            f"{kind.name}: approve → harness online, p50 / p95",
            f"{rounds.median('approve'):.0f} / {percentile(samples, 95):.0f} ms",
            f"{peer}, and importing the harness: {render('harness')}",
            rounds.render_ratio("approve", "peer", "harness"),
            "≤ 2",
        ),
        Row("the same", render("approve"), f"{peer} alone", rounds.render_ratio("approve", "peer")),
        Row(
            f"{kind.name}: start of an agent that was stopped → online",
            render("again"),
            f"{peer}, and importing the harness: {render('harness')}",
            rounds.render_ratio("again", "peer", "harness"),
        ),
        Row(
            "of an approval: image found; container launched; Python started and harness imported; all else",
            f"{rounds.median('image'):.1f}, {render('launch', 'hello', 'rest')}",
        ),
    ]


# -- a whole hive ------------------------------------------------------------------------------------------


def _approve(hive: HiveProcess, manager: Proposer, name: str) -> float:
    """Milliseconds from the operator's yes to a new agent until that is deployed, its harness being connected."""
    number = manager.request("request_spawn", {"name": name, "description": ""})["approval_id"]
    return _post(hive, f"/api/approvals/{number}/approve", _DEPLOYED)


def _start_again(hive: HiveProcess, name: str) -> float:
    hive.post(f"/api/agents/{name}/stop")
    hive.wait_state(name, "stopped")
    return _post(hive, f"/api/agents/{name}/start", _STARTED)


def _post(hive: HiveProcess, path: str, needle: bytes) -> float:
    """Milliseconds from a request until the feed says `needle`."""
    with closing(open_feed(hive)) as feed, hive.client() as client:
        client.get("/api/agents")
        began = time.perf_counter()
        client.post(path).raise_for_status()
        read_until(feed, needle)
        return (time.perf_counter() - began) * _MS


def _purge(hive: HiveProcess, name: str) -> None:
    with hive.client() as client:
        client.delete(f"/api/agents/{name}?purge=true").raise_for_status()


def _time_peer(peers: Peers, kind: Kind) -> float:
    with peers.open(kind) as argv:
        return time_program(argv)


# -- in pieces ---------------------------------------------------------------------------------------------


class _Bench:
    """The driver alone, without a hive."""

    def __init__(self, context: Context, kind: Kind) -> None:
        data = make_place(context, kind, "pieces")
        self._images = get_images() if kind.has_image else None
        self._driver = kind.driver(data)
        self._runner = asyncio.Runner()
        self._runner.run(self._driver.prepare())
        self._sockets = data / "sockets"
        self._sockets.mkdir(mode=0o755)
        self._spec = ContainerSpec(
            "pieces",
            (HARNESS[0], "-I", "-c", _HELLO),
            _ENVIRONMENT,
            (Mount(self._sockets, Path("/run/hive")),),
            _UID if os.geteuid() == 0 else None,
            Path("/"),
        )
        # As in a hive, the first start is none of those that count.
        self.measure()

    def close(self) -> None:
        self._runner.run(self._driver.destroy(self._spec.name))
        self._runner.close()

    def measure(self) -> dict[str, float]:
        """Milliseconds: looking up the image, the launch until the command is executed, the harness's first word."""
        began = time.perf_counter()
        if self._images is not None:
            self._images.find_layers(())
        image_ms = (time.perf_counter() - began) * _MS
        launch_ms, hello_ms = self._runner.run(_launch(self._driver, self._spec, self._sockets / "hello.sock"))
        return {"image": image_ms, "launch": launch_ms - image_ms, "hello": hello_ms}


async def _launch(driver: Driver, spec: ContainerSpec, path: Path) -> tuple[float, float]:
    """Milliseconds of a launch, and from its end until the command connects to the socket at `path`."""
    with closing(_listen(path)) as listener:
        connected = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
        await driver.create(spec)
        began = time.perf_counter()
        await driver.start(spec)
        launched = time.perf_counter()
        connection, _ = await asyncio.wait_for(connected, _TIMEOUT_S)
        online = time.perf_counter()
        connection.close()
    await driver.stop(spec.name, _TIMEOUT_S)
    return (launched - began) * _MS, (online - launched) * _MS


def _listen(path: Path) -> socket.socket:
    """Where anybody may connect. In the place of the one before."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen()
    listener.setblocking(False)
    return listener
