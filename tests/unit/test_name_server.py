"""The name server of the tests answers as name servers do: read here by the rules of RFC 1035."""

import socket
import struct

import pytest

from name_server import NameServer, read_name, render_name

RECORDS = {
    "turns.test": [["8.8.8.8", "2606:4700::1111"], ["127.0.0.1"]],
    "other.test": [["=turns.test"]],
    "both.test": [["10.0.0.1", "8.8.8.8"]],
}


def ask(name: str, kind: int, *, number: int = 7, more: bytes = b"") -> bytes:
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + render_name(name) + struct.pack("!HH", kind, 1) + more


def read(answer: bytes) -> tuple[int, int, list[tuple[str, int, int, bytes]]]:
    """Its number, the code of its outcome, and its records: name, type, seconds, data."""
    number, flags, questions, count, *others = struct.unpack_from("!HHHHHH", answer)
    assert (questions, others, flags & 0x8000) == (1, [0, 0], 0x8000)
    at = read_name(answer, 12)[1] + 4
    records: list[tuple[str, int, int, bytes]] = []
    for _ in range(count):
        name, at = read_name(answer, at)
        kind, group, ttl, size = struct.unpack_from("!HHIH", answer, at)
        assert group == 1
        records.append((name, kind, ttl, answer[at + 10 : at + 10 + size]))
        at += 10 + size
    assert at == len(answer)
    return number, flags & 15, records


def test_each_question_is_answered_by_the_next_round_and_in_the_end_by_the_last() -> None:
    server = NameServer(RECORDS)
    found = [read(server.answer(ask("turns.test", 1))[0]) for _ in range(3)]
    addresses = [socket.inet_ntoa(records[0][3]) for _, _, records in found]
    assert addresses == ["8.8.8.8", "127.0.0.1", "127.0.0.1"]
    # The other kind of address is another question, and may have no answer.
    number, code, [record] = read(server.answer(ask("turns.test", 28, number=65535))[0])
    assert (number, code) == (65535, 0)
    assert record == ("turns.test", 28, 0, socket.inet_pton(socket.AF_INET6, "2606:4700::1111"))
    assert read(server.answer(ask("turns.test", 28))[0])[1:] == (0, [])


def test_a_name_may_stand_for_another_and_for_several_addresses() -> None:
    server = NameServer(RECORDS)
    _, _, [alias, address] = read(server.answer(ask("Other.TEST", 1))[0])
    assert (alias[1], read_name(alias[3], 0)[0], address[0]) == (5, "turns.test", "turns.test")
    _, _, both = read(server.answer(ask("both.test", 1))[0])
    assert [socket.inet_ntoa(record[3]) for record in both] == ["10.0.0.1", "8.8.8.8"]


def test_a_name_that_is_not_listed_is_not_known_and_all_are_told() -> None:
    server = NameServer(RECORDS)
    answer, asked = server.answer(ask("x.turns.test", 1))
    assert (read(answer)[1:], asked) == ((3, []), ("x.turns.test", "A"))
    # Another type of a name that is known is no error, and what comes behind a question is left away.
    answer, asked = server.answer(ask("both.test", 65, more=b"\0\0\x29\x04\xd0\0\0\0\0\0\0"))
    assert (read(answer)[1:], asked) == ((0, []), ("both.test", "65"))


@pytest.mark.parametrize(
    "datagram", [b"", b"\0" * 12, ask("both.test", 1)[:-3], ask("both.test", 1)[:20], b"\0" * 12 + b"\xc0\x0c\0\1\0\1"]
)
def test_what_is_no_question_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(it is|a name)"):
        NameServer(RECORDS).answer(datagram)
