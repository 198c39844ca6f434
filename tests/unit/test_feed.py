"""The feed's queues: bounded, handed out in pieces, and honest about what was dropped."""

from hyperhive.host.feed import BACKLOG_LIMIT, BACKLOG_LIMIT_BYTES, PIECE_BYTES, Feed, Item, Subscription


def subscribe() -> tuple[Feed, Subscription]:
    feed = Feed()
    return feed, feed.subscribe(lambda item: item.kind != "transcript")


def publish(feed: Feed, count: int, size: int) -> None:
    for number in range(count):
        feed.publish(Item("state", {"number": number, "text": "x" * size}))


async def take_all(subscription: Subscription) -> list[list[Item]]:
    pieces = [await subscription.take(0.01)]
    while subscription.has_more:
        pieces.append(await subscription.take(0.01))
    return pieces


async def test_little_is_taken_all_at_once_in_its_order() -> None:
    feed, subscription = subscribe()
    publish(feed, 20, 10)
    feed.publish(Item("transcript", {}))
    (items,) = await take_all(subscription)
    assert [item.data["number"] for item in items] == list(range(20))
    assert await subscription.take(0.01) == []


async def test_much_is_taken_in_pieces_and_nothing_is_left_out() -> None:
    feed, subscription = subscribe()
    publish(feed, 30, 30_000)
    pieces = await take_all(subscription)
    assert [item.data["number"] for items in pieces for item in items] == list(range(30))
    assert len(pieces) > 5
    for items in pieces:
        assert sum(len(item.text) for item in items[:-1]) < PIECE_BYTES


async def test_whoever_takes_nothing_is_told_to_look_again() -> None:
    for count, size in ((BACKLOG_LIMIT + 3, 10), (BACKLOG_LIMIT_BYTES // 30_000 + 3, 30_000)):
        feed, subscription = subscribe()
        publish(feed, count, size)
        ((first, *others),) = await take_all(subscription)
        assert first.kind == "resync"
        assert [item.data["number"] for item in others] == list(range(count - len(others), count))
        assert len(others) < 5


async def test_what_was_taken_counts_no_more() -> None:
    feed, subscription = subscribe()
    for _ in range(3):
        publish(feed, 30, 30_000)
        assert sum(len(items) for items in await take_all(subscription)) == 30
