"""Buckets of tokens with a clock that the test turns, and who a request comes from."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.web.rate import Buckets, Rate, client, networks, retry_after

SECOND = timedelta(seconds=1)
RATE = Rate(burst=3, refill=2 * SECOND)
LOCAL = networks(["127.0.0.0/8", "::1"])


@dataclass
class Hand:
    """A clock's hand."""

    at: timedelta = timedelta(days=3)

    def __call__(self) -> timedelta:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_a_burst_passes_and_then_one_request_for_each_refill(hand: Hand) -> None:
    buckets = Buckets(RATE, hand)
    assert [buckets.take("a") for _ in range(3)] == [timedelta()] * 3
    assert buckets.take("a") == 2 * SECOND
    hand.at += SECOND
    assert buckets.take("a") == SECOND, "asking again does not make it longer"
    hand.at += SECOND
    assert buckets.take("a") == timedelta()
    assert buckets.take("a") == 2 * SECOND
    hand.at += 60 * SECOND
    assert [buckets.take("a") > timedelta() for _ in range(4)] == [False, False, False, True], "no more than a burst"


def test_a_token_that_was_given_back_can_be_taken_again(hand: Hand) -> None:
    buckets = Buckets(RATE, hand)
    buckets.give_back("a")
    assert [buckets.take("a") for _ in range(3)] == [timedelta()] * 3, "nothing was taken, so nothing comes back"
    assert buckets.take("a") == 2 * SECOND
    buckets.give_back("a")
    assert buckets.take("a") == timedelta()
    assert buckets.take("a") == 2 * SECOND
    hand.at += 60 * SECOND
    buckets.give_back("a")
    assert [buckets.take("a") > timedelta() for _ in range(4)] == [False, False, False, True], "no more than a burst"


def test_one_client_does_not_pay_for_another(hand: Hand) -> None:
    buckets = Buckets(RATE, hand)
    while not buckets.take("a"):
        pass
    assert buckets.take("b") == timedelta()


def test_full_buckets_are_forgotten(hand: Hand) -> None:
    buckets = Buckets(RATE, hand)
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets) == 100
    hand.at += 2 * SECOND
    buckets.take("late")
    assert len(buckets) == 1


def test_memory_is_bounded_and_who_keeps_asking_stays_limited(hand: Hand) -> None:
    buckets = Buckets(RATE, hand, most=10)
    while not buckets.take("greedy"):
        pass
    for number in range(1000):
        buckets.take(str(number))
        assert len(buckets) <= 10
        assert buckets.take("greedy") > timedelta()


@given(pauses=st.lists(st.integers(min_value=0, max_value=5000), max_size=60))
def test_never_more_than_a_burst_and_what_was_refilled(pauses: list[int]) -> None:
    hand = Hand()
    buckets = Buckets(RATE, hand)
    begin, passed = hand.at, 0
    for pause in pauses:
        hand.at += timedelta(milliseconds=pause)
        wait = buckets.take("a")
        passed += not wait
        assert passed <= RATE.burst + (hand.at - begin) // RATE.refill
        if wait:
            hand.at += wait
            assert not buckets.take("a"), "the wait that was named is enough"
            passed += 1


@pytest.mark.parametrize(
    ("wait", "value"),
    [(timedelta(milliseconds=1), "1"), (SECOND, "1"), (timedelta(seconds=1, milliseconds=1), "2"), (timedelta(), "1")],
)
def test_retry_after_is_in_whole_seconds(wait: timedelta, value: str) -> None:
    assert retry_after(wait) == value


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.1, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1, 127.0.0.1"], "198.51.100.1"),
        ("127.0.0.1", ["127.0.0.1"] * 50, "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["", ","], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::/64"),
        ("::1", ["2001:db8:1:2:ffff::7"], "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.1"], "?"),
        ("", [], "?"),
    ],
)
def test_who_asks(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert client(peer, forwarded, LOCAL) == expected
