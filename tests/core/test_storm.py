from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.storm import ALONE, Alike, Course, Singly, Together, course
from tests.core.examples import NOW

WINDOW = timedelta(minutes=1)
THRESHOLD = 5


def taken(alike: Alike, fresh: int, *, threshold: int = THRESHOLD, now: datetime = NOW) -> Course:
    return course(alike, fresh, now=now, threshold=threshold, window=WINDOW)


def test_a_single_gap_is_told_at_once() -> None:
    assert taken(Alike(), 1) == Singly(at_once=1, rest_at=NOW + WINDOW)


def test_the_third_waits_until_the_window_of_the_first_is_over() -> None:
    first_at = NOW - timedelta(seconds=20)
    assert taken(Alike(recent=1, first_at=first_at), 3) == Singly(at_once=1, rest_at=first_at + WINDOW)
    assert taken(Alike(recent=2, first_at=first_at), 2) == Singly(at_once=0, rest_at=first_at + WINDOW)
    assert taken(Alike(), 4) == Singly(at_once=2, rest_at=NOW + WINDOW)


def test_the_threshold_is_reached_by_what_was_and_what_comes() -> None:
    assert taken(Alike(), 5) == Together()
    assert taken(Alike(recent=4, first_at=NOW), 1) == Together()
    assert taken(Alike(recent=3, first_at=NOW), 1) != Together()
    assert taken(Alike(), 2, threshold=2) == Together()


def test_what_comes_while_an_incident_is_open_joins_it() -> None:
    assert taken(Alike(incident=True), 1) == Together()


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(1, 9)), max_size=30), st.integers(2, 40))
def test_however_they_come_no_more_than_two_are_told_singly_before_a_storm(
    ticks: list[tuple[int, int]], threshold: int
) -> None:
    """All within one window: either the storm is recognised, or there were fewer than its threshold."""
    known, at_once, storm = Alike(), 0, False
    for second, fresh in sorted(ticks):
        now = NOW + timedelta(seconds=second)
        match taken(known, fresh, threshold=threshold, now=now):
            case Together():
                storm = True
            case Singly() as singly:
                assert not storm
                assert singly.rest_at > now
                at_once += singly.at_once
        first_at = known.first_at or now
        known = Alike(incident=storm, recent=known.recent + fresh, first_at=first_at)
    assert at_once <= ALONE
    assert storm == (known.recent >= threshold)
