"""What every driver has to do about the network: its own and empty, or the host's. See `driver_checks`."""

import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

from driver_rig import Rig

Check = Callable[[Rig], Awaitable[None]]

SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"
# Says whether the port of the machine's loopback that it is given takes a connection; by Python, as sh has no way.
CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); print('connected')"


async def can_connect(rig: Rig, port: int) -> bool:
    done = await rig.driver.exec("alice", (sys.executable, "-c", CONNECT, str(port)), 30)
    return done.stdout == b"connected\n"


async def a_container_has_no_network_but_an_empty_one_of_its_own(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await rig.run(SLEEP)
        assert not await can_connect(rig, listener.getsockname()[1])


async def a_container_in_the_hosts_network_reaches_what_listens_there_also_when_it_is_entered(rig: Rig) -> None:
    spec = replace(rig.spec("sh", "-c", SLEEP), host_network=True)
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert await can_connect(rig, listener.getsockname()[1])
    # And no privilege over it.
    done = await rig.driver.exec("alice", ("sh", "-c", "grep -E '^Cap(Eff|Bnd)' /proc/self/status"), 10)
    assert {int(line.split()[1], 16) for line in done.stdout.decode().splitlines()} == {0}


NETWORK_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        a_container_has_no_network_but_an_empty_one_of_its_own,
        a_container_in_the_hosts_network_reaches_what_listens_there_also_when_it_is_entered,
    )
}
