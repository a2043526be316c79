"""What became of a request: every combination of what the tables show, what was answered, and how late it is."""

from datetime import datetime, timedelta
from itertools import product

import pytest

from paidwatch.core.model import Rules
from paidwatch.core.readback import (
    LONGEST_REASON,
    READS,
    Asked,
    Next,
    Reach,
    Shown,
    Trace,
    before,
    follow,
    mark,
    next_read,
    reach,
    read_back,
    reason_of,
    wait_between,
    why_given_up,
)
from tests.core.examples import ACTIVE, MISSED, MONTH, NOW, PAID, case

SECOND = timedelta(seconds=1)
MOST = 3
ANSWERS = {
    None: Reach.UNKNOWN,
    "200": Reach.ACCEPTED,
    "201": Reach.ACCEPTED,
    "302": Reach.REFUSED,
    "400": Reach.REFUSED,
    "401": Reach.REFUSED,
    "404": Reach.REFUSED,
    "409": Reach.REFUSED,
    "422": Reach.REFUSED,
    "408": Reach.LATER,
    "425": Reach.LATER,
    "429": Reach.LATER,
    "500": Reach.UNKNOWN,
    "503": Reach.UNKNOWN,
    "timeout": Reach.UNKNOWN,
    "network": Reach.UNKNOWN,
    "connect": Reach.NOWHERE,
    "connect_timeout": Reach.NOWHERE,
    "tls": Reach.NOWHERE,
    "100": Reach.UNKNOWN,
    "": Reach.UNKNOWN,
}


def asked(answer: str | None = None, *, calls: int = 1, again_at: datetime = NOW + SECOND) -> Asked:
    return Asked(calls=calls, answer=answer, again_at=again_at)


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items())
def test_how_far_a_request_came(answer: str | None, expected: Reach) -> None:
    assert reach(answer) is expected


def test_it_is_asked_again_only_where_nothing_can_have_been_done() -> None:
    """The rule that money hangs on, for every combination there is."""
    again: set[tuple[Shown, Reach]] = set()
    for shown, answer, calls, late in product(Shown, ANSWERS, range(1, MOST + 2), (-SECOND, timedelta(), SECOND)):
        step = follow(shown, asked(answer, calls=calls, again_at=NOW - late), most_calls=MOST, now=NOW)
        if step is Next.ASK:
            assert shown is Shown.NOTHING
            assert late >= timedelta()
            assert calls < MOST
            again.add((shown, reach(answer)))
        assert (step is Next.DONE) == (shown is Shown.ACTIVATED)
        assert (step is Next.YIELD) == (shown is Shown.BY_OTHERS)
        if step is Next.READ:
            assert late < timedelta()
        if step is Next.GIVE_UP:
            assert why_given_up(shown, asked(answer, calls=calls))
    assert again == {(Shown.NOTHING, reached) for reached in (Reach.UNKNOWN, Reach.LATER, Reach.NOWHERE)}


def test_a_no_ends_it_at_once_and_a_yes_not_before_the_tables_had_their_time() -> None:
    assert follow(Shown.NOTHING, asked("422"), most_calls=MOST, now=NOW) is Next.GIVE_UP
    assert follow(Shown.NOTHING, asked("200"), most_calls=MOST, now=NOW) is Next.READ
    assert follow(Shown.NOTHING, asked("200", again_at=NOW), most_calls=MOST, now=NOW) is Next.GIVE_UP
    assert follow(Shown.RECORDED, asked("500", again_at=NOW), most_calls=MOST, now=NOW) is Next.GIVE_UP


OURS = (Trace(event_id="1", failed=False),)
FAILED = (Trace(event_id="1", failed=True),)


def test_what_the_tables_show() -> None:
    lacking, covered = MISSED, case(user=ACTIVE)
    named = case(user=ACTIVE, evidence={"activated_at": NOW})
    start = before(lacking, Rules(), NOW + MONTH)
    for known, traces, answer, calls, expected in (
        (lacking, (), "200", 1, Shown.NOTHING),
        (lacking, FAILED, "200", 1, Shown.NOTHING),
        (lacking, OURS, "200", 1, Shown.RECORDED),
        (covered, OURS, "422", 1, Shown.ACTIVATED),
        (covered, (), "200", 1, Shown.ACTIVATED),
        (covered, (), None, 1, Shown.ACTIVATED),
        (covered, (), "422", 1, Shown.BY_OTHERS),
        (covered, (), "connect", 1, Shown.BY_OTHERS),
        (covered, (), "connect", 2, Shown.ACTIVATED),
        (named, (), "200", 1, Shown.BY_OTHERS),
        (named, OURS, "200", 1, Shown.ACTIVATED),
    ):
        assert read_back(known, traces, Rules(), asked(answer, calls=calls), start) is expected, (traces, answer, calls)


def test_who_had_everything_before_shows_nothing_by_having_it_still() -> None:
    """A person forces a second period on a user who is active: no answer may be taken for it."""
    had = case(user=ACTIVE, evidence={"activated_at": PAID})
    start = before(had, Rules(), PAID + 2 * MONTH)
    given = case(user={**ACTIVE, "paid_until": PAID + 2 * MONTH}, evidence={"activated_at": PAID})
    assert read_back(had, (), Rules(), asked("500"), start) is Shown.NOTHING
    assert read_back(had, FAILED, Rules(), asked("200"), start) is Shown.NOTHING
    assert read_back(had, OURS, Rules(), asked("500"), start) is Shown.ACTIVATED
    assert read_back(given, (), Rules(), asked("500"), start) is Shown.ACTIVATED
    assert read_back(had, (), Rules(), asked("200"), before(had, Rules(), None)) is Shown.NOTHING


def test_the_mark_names_one_activation_of_one_installation() -> None:
    marked = mark("1f2e3d4c-0000-4000-8000-000000000000", 7)
    assert marked == "[paidwatch:1f2e3d4c:7]"
    assert mark("1f2e3d4c-0000-4000-8000-000000000000", 77) not in marked
    assert marked not in mark("1f2e3d4c-0000-4000-8000-000000000000", 77)


def test_the_reason_is_one_short_line_that_ends_with_the_mark() -> None:
    assert reason_of("", "[m]") == "paid, and not activated [m]"
    assert reason_of(" they\nwrote\x00 to\tus ", "[m]") == "they wrote to us [m]"
    assert len(reason_of("x" * 5000, "[m]")) == LONGEST_REASON + 4


def test_the_pause_is_longer_than_the_time_limit_and_doubles() -> None:
    pauses = [wait_between(calls, timeout=10 * SECOND, retry_after=30 * SECOND) for calls in (1, 2, 3)]
    assert pauses == [40 * SECOND, 70 * SECOND, 130 * SECOND]
    assert wait_between(10_000, timeout=SECOND, retry_after=SECOND) < timedelta(hours=1)


@pytest.mark.parametrize("pause", [30 * SECOND, timedelta(hours=1), timedelta(milliseconds=1), timedelta()], ids=str)
def test_the_tables_are_read_a_few_times_until_it_may_be_asked_again(pause: timedelta) -> None:
    ask, now, reads = asked(again_at=NOW + pause), NOW, 0
    while now < ask.again_at:
        now = next_read(ask, now=now, retry_after=min(pause, 30 * SECOND))
        reads += 1
    assert now == ask.again_at
    assert reads in (range(1, 60) if pause > SECOND else (0, 1))
    assert reads == READS or pause != 30 * SECOND
    assert next_read(ask, now=now + SECOND, retry_after=pause) == now + SECOND
