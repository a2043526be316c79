from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.timing import backoff, next_reminder, reminders_due, retry_delay
from tests.core.examples import NOW

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SCHEDULE = (30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR)

FAILURES = st.integers(-1, 10_000)
ROLLS = st.floats(0, 1)


@given(FAILURES, ROLLS, ROLLS)
def test_the_delay_stays_in_bounds_and_grows_with_roll_and_failures(failures: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    delay = retry_delay(failures, roll=low)
    assert 2 * SECOND <= delay <= 15 * MINUTE
    assert delay <= retry_delay(failures, roll=high)
    assert delay <= retry_delay(failures + 1, roll=low)


def test_the_ceiling_doubles_and_the_jitter_is_full() -> None:
    assert [retry_delay(failures, roll=1) for failures in range(1, 11)] == [
        span * SECOND for span in (4, 8, 16, 32, 64, 128, 256, 512, 900, 900)
    ]
    assert {retry_delay(failures, roll=0) for failures in range(1, 11)} == {2 * SECOND}
    assert retry_delay(9, roll=0.5) == 451 * SECOND


@given(FAILURES, ROLLS, st.timedeltas(timedelta(days=-1), timedelta(days=999)))
def test_retry_after_is_never_undercut_and_clamped_to_an_hour(failures: int, roll: float, wish: timedelta) -> None:
    delay = retry_delay(failures, roll=roll, retry_after=wish)
    assert delay >= min(wish, HOUR)
    assert delay == max(retry_delay(failures, roll=roll), min(wish, HOUR))


def test_an_owner_chooses_the_bounds() -> None:
    def delay(failures: int, roll: float) -> timedelta:
        return retry_delay(failures, roll=roll, shortest=5 * SECOND, longest=MINUTE)

    assert [delay(failures, 1) for failures in (1, 2, 3, 4, 10_000)] == [span * SECOND for span in (10, 20, 40, 60, 60)]
    assert delay(1, 0) == 5 * SECOND


def test_reminders_follow_the_schedule_and_stop() -> None:
    assert [next_reminder(NOW, sent, SCHEDULE) for sent in range(6)] == [
        NOW + 30 * MINUTE,
        NOW + HOUR,
        NOW + 2 * HOUR,
        NOW + 4 * HOUR,
        None,
        None,
    ]
    assert next_reminder(NOW, 0, ()) is None


@given(st.integers(0, 600), st.integers(1, 120))
def test_reminders_due_agree_with_the_next_one(minutes: int, more: int) -> None:
    now = NOW + minutes * MINUTE
    due = reminders_due(NOW, now, SCHEDULE)
    coming = next_reminder(NOW, due, SCHEDULE)
    assert coming is None or coming > now
    assert due == 0 or (last := next_reminder(NOW, due - 1, SCHEDULE)) is None or last <= now
    assert due <= reminders_due(NOW, now + more * MINUTE, SCHEDULE)


def test_reminders_due_counts_every_step() -> None:
    assert [
        reminders_due(NOW, NOW + span, SCHEDULE) for span in (29 * MINUTE, 30 * MINUTE, 60 * MINUTE, 99 * HOUR)
    ] == [
        0,
        1,
        2,
        4,
    ]
    moments = [next_reminder(NOW, sent, SCHEDULE) for sent in range(4)]
    assert all(earlier is not None and later is not None and earlier < later for earlier, later in pairwise(moments))


def test_reconnecting_doubles_up_to_its_ceiling_with_full_jitter() -> None:
    half = SECOND / 2
    assert [backoff(failures, roll=1) for failures in (0, 1, 2, 3, 4, 5, 6, 10_000)] == [
        span * half for span in (1, 1, 2, 4, 8, 16, 30, 30)
    ]
    assert backoff(5, roll=0) == timedelta()
    assert backoff(5, roll=0.5) == 8 * half
