"""An event is written once for all who have seen the same."""

from hyperhive.host.feed import Item


def test_an_item_is_made_once_for_all_that_have_seen_the_same() -> None:
    item = Item("transcript", {"agent": "alice", "seq": 7, "text": "a\nb"})
    form = item.render(3, 7)
    assert form == b'id: 3:7\nevent: transcript\ndata: {"agent":"alice","seq":7,"text":"a\\nb"}\n\n'
    assert item.render(3, 7) is form


def test_who_has_seen_something_else_gets_their_own_place_with_it() -> None:
    item = Item("state", {})
    for event_id in range(20):
        assert item.render(event_id, 1).startswith(f"id: {event_id}:1\n".encode())
    assert item.render(2, 5).startswith(b"id: 2:5\n")
