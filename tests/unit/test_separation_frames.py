"""What root's helper gets that is no request: it hangs up, leaves a line, and has done nothing."""

import pytest

from hyperhive.host.separation.frames import FRAME_LIMIT_BYTES
from separation_rig import Attack


def _raw(**fields: str) -> bytes:
    """A request of which some fields are as they stand here, wrong as JSON or not."""
    told = {"id": "1", "verb": '"destroy"', "arguments": '{"name":"alice"}', **fields}
    return ("{" + ",".join(f'"{key}":{value}' for key, value in told.items()) + "}").encode()


BODIES = {
    "empty": b"",
    "no JSON": b"start",
    "cut off": _raw()[:-1],
    "two": _raw() + _raw(id="2"),
    "no UTF-8": b'{"id":1,"verb":"\xff","arguments":{}}',
    "half a pair": _raw(verb='"\\ud800"'),
    "a list": b"[" + _raw() + b"]",
    "a text": b'"destroy"',
    "null": b"null",
    "NaN": _raw(arguments='{"name":"alice","timeout_s":NaN}'),
    "infinity": _raw(arguments='{"name":"alice","timeout_s":Infinity}'),
    "a number of 400 digits": _raw(arguments='{"name":"alice","timeout_s":%s}' % ("9" * 400)),
    "more than a double": _raw(arguments='{"name":"alice","timeout_s":1e999}'),
    "deep lists": _raw(arguments="[" * 100_000 + "]" * 100_000),
    "deep objects": _raw(arguments='{"a":' * 100_000 + "1" + "}" * 100_000),
    "open lists": b"[" * 1_000_000,
    "a field more": _raw(uid="0"),
    "an answer": b'{"id":1,"result":null}',
    "nothing in it": b"{}",
    "both": _raw(cancel="1"),
    **{f"the id {number}": _raw(id=number) for number in ("0", "-1", "null", '"1"', "1.0", "true", "[1]", "1e300")},
    **{
        f"to cancel {number}": b'{"cancel":%s}' % number.encode()
        for number in ("1", "0", "-1", "null", "true", '"1"', "1.0", "[]", "9" * 400)
    },
}


@pytest.mark.parametrize("what", BODIES)
async def test_what_is_no_request_ends_it(what: str, attack: Attack) -> None:
    attack.peer.send_body(BODIES[what])
    # What follows is not even looked at.
    attack.peer.send_body(_raw(id="5"))
    await attack.ends_all()


async def test_a_frame_that_is_too_long_ends_it_before_it_is_read(attack: Attack) -> None:
    attack.peer.writer.write((FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"))
    await attack.ends_all()


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\x05{}", (2**32 - 1).to_bytes(4, "big")])
async def test_a_frame_that_is_cut_off_ends_it(sent: bytes, attack: Attack) -> None:
    attack.peer.writer.write(sent)
    attack.peer.writer.write_eof()
    await attack.ends_all()


async def test_an_id_comes_once(attack: Attack) -> None:
    await attack.peer.ask("observe", {"name": "alice"})
    attack.driver.calls.clear()
    attack.peer.send({"id": 1, "verb": "destroy", "arguments": {"name": "alice"}})
    await attack.ends_all()


async def test_what_was_answered_may_be_given_up(attack: Attack) -> None:
    await attack.peer.ask("observe", {"name": "alice"})
    attack.peer.send({"cancel": 1})
    await attack.is_done("destroy", {"name": "alice"})


async def test_the_longest_frame_is_read(attack: Attack) -> None:
    body = _raw(arguments='{"name":"bob"}')
    attack.peer.last_id = 1
    attack.peer.send_body(body + b" " * (FRAME_LIMIT_BYTES - len(body)))
    answer = await attack.peer.receive()
    assert answer == {"id": 1, "result": None}
    assert attack.driver.calls == ["destroy"]
