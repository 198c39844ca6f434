"""Who may have how many requests to the model on their way: no agent takes what another one needs."""

from hyperhive.core.quotas import Quota
from hyperhive.core.rates import Rate
from hyperhive.host.gateway_places import Places

AT_S = 100.0


def make_places(**limits: int) -> Places:
    given = {"each_limit": 4, "all_limit": 12, "each_limit_bytes": 100, "all_limit_bytes": 400} | limits
    return Places(**given, rate=Rate(1000, 1000))


def take(places: Places, agent: str, count: int = 1) -> int:
    """How many of so many requests got a place."""
    return sum(places.take(agent, AT_S) is None for _ in range(count))


def test_an_agent_has_so_many_and_another_one_its_own() -> None:
    places = make_places()
    assert take(places, "alice", 10) == 4
    refused = places.take("alice", AT_S)
    assert refused == (Quota.REQUESTS, "over 4 requests at once")
    assert take(places, "bob") == 1
    places.give_back("alice", 0)
    assert take(places, "alice", 2) == 1


def test_few_agents_do_not_take_every_place() -> None:
    places = make_places()
    greedy = [take(places, f"greedy-{number}", 4) for number in range(6)]
    # Nine, and from there on two each.
    assert greedy == [4, 4, 2, 2, 0, 0]
    modest = make_places()
    assert [take(modest, f"greedy-{number}", 4) for number in range(3)] == [4, 4, 2]
    assert [take(modest, f"modest-{number}") for number in range(2)] == [1, 1]
    assert modest.take("late", AT_S) == (Quota.REQUESTS, "the hive has too many requests on their way")


def test_what_requests_hold_is_bounded_for_each_and_for_all() -> None:
    places = make_places()
    for name in ("alice", "bob", "carol", "dave", "erin", "frank", "gina"):
        assert take(places, name) == 1
    assert places.hold("alice", 100)
    assert not places.hold("alice", 1)
    assert places.hold("bob", 100) and places.hold("carol", 100)
    # The last quarter is for those who hold less than half of theirs.
    assert not places.hold("dave", 51)
    assert places.hold("dave", 50) and places.hold("erin", 50)
    assert not places.hold("frank", 1)
    places.give_back("alice", 100)
    assert places.hold("frank", 1)


def test_requests_a_minute_are_bounded() -> None:
    places = Places(rate=Rate(burst=3, per_minute=60))
    for _ in range(3):
        assert places.take("alice", AT_S) is None
        places.give_back("alice", 0)
    assert places.take("alice", AT_S) == (Quota.REQUEST_RATE, "over 60 requests a minute")
    assert places.take("bob", AT_S) is None
    assert places.take("alice", AT_S + 1.1) is None


def test_what_is_used_is_told() -> None:
    places = make_places()
    take(places, "alice", 2)
    places.hold("alice", 30)
    uses = {use.quota: (use.used, use.limit) for use in places.list_uses("alice", AT_S)}
    assert uses == {Quota.REQUESTS: (2, 4), Quota.REQUEST_BYTES: (30, 100), Quota.REQUEST_RATE: (2, 1000)}
