"""A name server of a test's own, for the resolver that this machine's programs use: it answers otherwise each time.

`python name_server.py ADDRESS RECORDS-AS-JSON` answers on UDP port 53 of ADDRESS, and writes a line for each question:
a JSON list of the name and what was asked for. RECORDS has for each name what it stands for: a list of rounds, of
which each question for a kind of address is answered by the next, and in the end by the last. A round is a list of
addresses of both kinds and of `=NAME`, for another name that it stands for. What is not listed there is not known.
"""

import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

Records = Mapping[str, Sequence[Sequence[str]]]

# RFC 1035 and 3596: types, the internet's class; an answer that is recursive; and a name that is not known.
_KINDS = {1: "A", 28: "AAAA"}
_CNAME, _INTERNET = 5, 1
_ANSWERED, _UNKNOWN = 0x8180, 0x8183
_PIECE_LIMIT_BYTES = 63


class NameServer:
    """Only the answers: of a datagram what is sent back."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._asked = Counter[tuple[str, str]]()

    def answer(self, question: bytes) -> tuple[bytes, tuple[str, str]]:
        """The answer to a datagram, and what it asked for: a name in lower case, and A, AAAA or a number.

        Raises ValueError for what is no question.
        """
        try:
            number, _, count = struct.unpack_from("!HHH", question)
            name, end = read_name(question, 12)
            kind, group = struct.unpack_from("!HH", question, end)
        except (struct.error, IndexError) as error:
            raise ValueError("it is cut off") from error
        if count != 1 or group != _INTERNET:
            raise ValueError("it is not one question of the internet's")
        asked = (name, _KINDS.get(kind, str(kind)))
        answers = list(self._find_answers(*asked))
        flags = _ANSWERED if name in self._records else _UNKNOWN
        # What was asked for is repeated; what comes with it, such as how large an answer may be, is not.
        head = struct.pack("!HHHHHH", number, flags, 1, len(answers), 0, 0)
        return head + question[12 : end + 4] + b"".join(answers), asked

    def _find_answers(self, name: str, kind: str) -> Iterator[bytes]:
        rounds = self._records.get(name)
        if not rounds or kind not in _KINDS.values():
            return
        now = rounds[min(self._asked[name, kind], len(rounds) - 1)]
        self._asked[name, kind] += 1
        for value in now:
            if value.startswith("="):
                yield render_record(name, _CNAME, render_name(value[1:]))
                yield from self._find_answers(value[1:], kind)
            elif (":" in value) == (kind == "AAAA"):
                yield render_record(name, 28 if ":" in value else 1, ip_address(value).packed)


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """The name at this place of a question, in lower case, and the place behind it. Raises ValueError, IndexError."""
    labels: list[str] = []
    while size := message[at]:
        if size > _PIECE_LIMIT_BYTES or at + 1 + size >= len(message):
            raise ValueError("a name is no name")
        labels.append(message[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    return ".".join(labels), at + 1


def render_name(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def render_record(name: str, kind: int, data: bytes) -> bytes:
    """One that nobody may keep: it counts for no second."""
    return render_name(name) + struct.pack("!HHIH", kind, _INTERNET, 0, len(data)) + data


def main(address: str, records: Records) -> None:
    server = NameServer(records)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind((address, 53))
        print(json.dumps("ready"), flush=True)
        while True:
            question, sender = connection.recvfrom(4096)
            try:
                answer, asked = server.answer(question)
            except ValueError:
                continue
            print(json.dumps(asked), flush=True)
            connection.sendto(answer, sender)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
