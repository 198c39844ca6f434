"""A network of the test's own, in which a hive looks names up: with a name server, and servers at any addresses.

What runs there finds the name server as any program does, by /etc/resolv.conf and the machine's own resolver. Making
it takes root.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hive_process import wait_for
from name_server import Records

NAME_SERVER = "127.0.0.1"
SEARCHED = "corp.test"
_FILES = {
    # The second line has a program that looks up a name that is not known ask for it below this one.
    "resolv.conf": f"nameserver {NAME_SERVER}\nsearch {SEARCHED}\noptions attempts:3 timeout:3\n",
    "nsswitch.conf": "hosts: dns\n",
}
# Nothing of this reaches the machine's own mounts and network. It ends with its input.
_MAKE = """
set -e
folder=$1; shift
for name in resolv.conf nsswitch.conf; do mount --bind "$folder/$name" "/etc/$name"; done
ip link set lo up
for address; do ip address replace "$address" dev lo; done
echo '"ready"'
exec cat
"""
# Says of each connection at which address and port it came, and tells it whoever asks for something.
_LISTEN = """
import json, socket, sys, threading
def serve(listener, place):
    while True:
        connection, _ = listener.accept()
        print(json.dumps(place), flush=True)
        with connection:
            connection.settimeout(20)
            try:
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nat {place}".encode())
            except OSError:
                pass
for address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    threading.Thread(target=serve, args=(listener, f"{address} {port}")).start()
print('"ready"', flush=True)
"""


@dataclass
class Network:
    """`asked` is what names were looked up, each with its kind; `heard` at which "ADDRESS PORT" connections came."""

    command: tuple[str, ...]
    asked: list[list[str]] = field(default_factory=list[list[str]])
    heard: list[str] = field(default_factory=list[str])

    @property
    def python(self) -> tuple[str, ...]:
        """A Python that runs there."""
        return (*self.command, sys.executable)

    def run(self, code: str, *arguments: str) -> str:
        """Standard output of a program there, which has to succeed."""
        argv = [*self.python, "-c", code, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    def forget(self) -> None:
        self.asked.clear()
        self.heard.clear()


@contextmanager
def open_network(records: Records, places: Sequence[tuple[str, int]], others: Sequence[str] = ()) -> Generator[Network]:
    """A network in which names stand for what `records` say, see `name_server`, with servers at `places`.

    At `others` nobody listens. All of these addresses are the network's own, public or not.
    """
    addresses = dict.fromkeys((*(address for address, _ in places), *others))
    with tempfile.TemporaryDirectory(prefix="names-") as name, ExitStack() as stack:
        for file, text in _FILES.items():
            (Path(name) / file).write_text(text)
            (Path(name) / file).chmod(0o644)
        widths = [f"{address}/{128 if ':' in address else 32}" for address in addresses]
        make = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _MAKE, "make", name, *widths]
        holder = _begin(stack, make, [])
        spaces = [f"--{kind}=/proc/{holder}/ns/{file}" for kind, file in (("net", "net"), ("mount", "mnt"))]
        network = Network(("nsenter", *spaces, "--"))
        server = Path(__file__).with_name("name_server.py")
        _begin(stack, [*network.python, str(server), NAME_SERVER, json.dumps(records)], network.asked)
        _begin(stack, [*network.python, "-c", _LISTEN, json.dumps(places)], network.heard)
        yield network


def _begin(stack: ExitStack, argv: Sequence[str], said: list[Any]) -> int:
    """Runs a program until the stack is left; what it says, once it is ready, is put into `said`. Its pid."""
    process = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    lines: list[Any] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            (said if lines else lines).append(found)

    reader = threading.Thread(target=read)
    reader.start()
    stack.callback(reader.join)
    stack.callback(process.kill)
    wait_for(lambda: lines or process.poll() is not None, f"{argv[0]} to be ready")
    assert lines == ["ready"], f"{argv} has ended"
    return process.pid
