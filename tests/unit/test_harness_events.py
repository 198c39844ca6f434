"""The event store: no gap, no loss, no event too long for the link, whatever is done to its file."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.errors import StorageError
from hyperhive.harness.events import FILE_NAME, EventStore
from hyperhive.harness.excerpt import BODY_LIMIT_BYTES, plan_excerpt, render_body
from hyperhive.wire.jsonrpc import DEPTH_LIMIT, Request, decode_line, encode_request

ALL = 10**9


def _numbers(store: EventStore, after: int = 0) -> list[int]:
    return [event["seq"] for event in store.load_after(after, ALL, ALL)]


def test_numbers_go_on_where_they_stopped(tmp_path: Path) -> None:
    for start in (0, 3):
        store = EventStore(tmp_path)
        assert [store.append("notice", {"text": str(n)}) for n in range(3)] == [start + 1, start + 2, start + 3]
        store.close()


def test_what_is_loaded_is_what_was_appended(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.append("claude", {"text": "ä\n\0<", "n": [1, 2.5, None, True]})
    (event,) = store.load_after(0, ALL, ALL)
    assert (event["kind"], event["body"]) == ("claude", {"text": "ä\n\0<", "n": [1, 2.5, None, True]})
    assert event["at"].endswith("+00:00")
    store.close()


def test_a_batch_keeps_both_limits_and_is_never_empty_when_there_is_something(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for _ in range(10):
        store.append("notice", {"text": "x" * 100})
    assert len(store.load_after(0, 4, ALL)) == 4
    assert len(store.load_after(0, ALL, 350)) == 3
    assert len(store.load_after(0, ALL, 1)) == 1
    assert store.load_after(10, ALL, ALL) == []
    store.close()


def test_only_what_the_daemon_has_is_ever_deleted(tmp_path: Path) -> None:
    store = EventStore(tmp_path, kept=100)
    for _ in range(1500):
        store.append("notice", {})
    store.confirm(700)
    assert _numbers(store) == list(range(701, 1501))
    store.confirm(1500)
    assert _numbers(store) == list(range(1401, 1501))
    assert store.append("notice", {}) == 1501
    store.close()


def test_events_recorded_over_a_lost_file_get_the_numbers_after_the_daemons(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for n in range(3):
        store.append("notice", {"n": n})
    store.continue_after(40)
    assert _numbers(store) == [41, 42, 43]
    assert [event["body"]["n"] for event in store.load_after(40, ALL, ALL)] == [0, 1, 2]
    assert store.append("notice", {}) == 44
    store.close()


def test_a_file_that_fell_behind_keeps_its_old_events_and_moves_the_new_ones(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.append("notice", {})
    store.append("notice", {})
    store.close()
    store = EventStore(tmp_path)
    store.append("notice", {})
    store.continue_after(5)
    assert _numbers(store) == [1, 2, 6]
    store.close()


def test_a_daemon_that_is_behind_changes_nothing(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.append("notice", {})
    store.continue_after(0)
    assert _numbers(store) == [1]
    store.close()


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 500])
def test_a_damaged_file_is_moved_aside_whole(tmp_path: Path, damage: bytes) -> None:
    store = EventStore(tmp_path)
    for _ in range(200):
        store.append("notice", {"text": "x" * 100})
    store.close()
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(damage or content[: len(content) // 2])
    damaged = path.read_bytes()
    store = EventStore(tmp_path)
    assert store.moved_aside is not None
    assert store.moved_aside.read_bytes() == damaged
    assert store.append("notice", {}) == 1
    store.close()


def test_a_folder_that_cannot_be_written_is_an_error_and_not_damage(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError):
        EventStore(tmp_path)


def test_rows_that_the_agent_wrote_itself_do_not_stop_the_feed(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.append("notice", {"text": "true"})
    store.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    rows = [(2, "now", "notice", "{"), (3, "now", "notice", "[1]"), (4, 5, "x", "{}"), (5, "now", "notice", b"\xff")]
    database.executemany("insert into events values (?, ?, ?, ?)", rows)
    database.execute("insert into events values (6, 'now', 'notice', ?)", (json.dumps("x" * 2**21),))
    database.execute("insert into events values (7, 'now', 'notice', ?)", ("[" * 200_000,))
    database.execute("insert into events values (8, 'now', 'notice', ?)", ('{"a":' * 90 + "1" + "}" * 90,))
    database.execute("insert into events values (9, cast(x'ff' as text), 'notice', '{}')")
    database.execute("insert into meta values ('session_id', x'ff00')")
    database.commit()
    database.close()
    store = EventStore(tmp_path)
    events = store.load_after(0, ALL, ALL)
    assert [event["seq"] for event in events] == [*range(1, 10)]
    assert events[0]["body"] == {"text": "true"}
    assert isinstance(store.find_meta("session_id"), str)
    for event in events:
        decode_line(encode_request(Request("events.append", {"events": [event]}, 1)))
    store.close()


def test_what_is_kept_of_a_session_survives(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    assert store.find_meta("session_id") is None
    store.save_meta("session_id", "one")
    store.save_meta("session_id", "two")
    store.close()
    store = EventStore(tmp_path)
    assert store.find_meta("session_id") == "two"
    store.save_meta("session_id", None)
    assert store.find_meta("session_id") is None
    store.close()


# -- excerpts ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_an_excerpt_always_fits_a_line(body: dict[str, Any]) -> None:
    line = encode_request(Request("events.append", {"events": [{"seq": 1, "body": json.loads(render_body(body))}]}))
    assert isinstance(decode_line(line), Request)


def test_a_small_body_is_kept_as_it_is() -> None:
    body = {"type": "assistant", "message": {"content": [{"type": "text", "text": "hello"}]}}
    assert plan_excerpt(body) == body


@pytest.mark.parametrize(
    "body",
    [
        {"type": "user", "text": "x" * 3_000_000},
        {"type": "user", "texts": ["y" * 10_000] * 500},
        {"type": "user", "many": {str(n): n for n in range(200_000)}},
        {"k" * 2_000_000: 1},
        {"type": "user", "lists": [[[["z" * 100] * 60] * 60] * 60]},
    ],
)
def test_a_long_body_is_shortened_and_says_so(body: dict[str, Any]) -> None:
    text = render_body(body)
    assert len(text.encode()) <= BODY_LIMIT_BYTES
    assert json.loads(text)["truncated"] is True
    assert json.loads(text).get("type") == body.get("type", json.loads(text).get("type"))


def test_a_deep_body_is_cut_below_what_a_line_may_hold() -> None:
    body: dict[str, Any] = {"leaf": 1}
    for _ in range(2 * DEPTH_LIMIT):
        body = {"deeper": body}
    assert json.loads(render_body(body))["truncated"] is True
    decode_line(encode_request(Request("events.append", {"events": [{"body": plan_excerpt(body)}]}, 1)))


def test_an_event_and_its_marks_are_there_together_or_not_at_all(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.append("turn.started", {}, {"open_turn": "open"})
    assert store.find_meta("open_turn") == "open"
    broken: Any = {"open_turn": None, "other": object()}
    with pytest.raises(StorageError):
        store.append("turn.ended", {}, broken)
    assert (_numbers(store), store.last_seq, store.find_meta("open_turn")) == ([1], 1, "open")
    store.append("turn.ended", {}, {"open_turn": None})
    assert (_numbers(store), store.find_meta("open_turn")) == ([1, 2], None)
    store.close()
