"""When to try again, when to remind, how long to wait: spans and moments, computed from arguments only."""

from collections.abc import Sequence
from datetime import datetime, timedelta

SHORTEST = timedelta(seconds=2)
LONGEST = timedelta(minutes=15)
"""Bounds of the back-off between two attempts (alerting.md, B3)."""

LONGEST_WISH = timedelta(hours=1)
"""A Retry-After beyond this is taken for a mistake."""

_DOUBLINGS = 20
"""A delay doubled this often is beyond any ceiling; more doublings would only make large numbers."""


def retry_delay(
    failures: int,
    *,
    roll: float,
    retry_after: timedelta | None = None,
    shortest: timedelta = SHORTEST,
    longest: timedelta = LONGEST,
) -> timedelta:
    """Return how long to wait after the `failures`-th failure in a row (1, 2, …).

    Exponential with full jitter: `roll`, a random number from 0 up to 1, picks a point between the shortest delay and
    a ceiling that doubles with every failure. A service's own wish is never undercut, within an hour.
    """
    ceiling = min(shortest * (1 << min(max(failures, 1), _DOUBLINGS)), longest)
    delay = shortest + (ceiling - shortest) * roll
    return delay if retry_after is None else max(delay, min(retry_after, LONGEST_WISH))


def next_reminder(opened_at: datetime, reminders_sent: int, ages: Sequence[timedelta]) -> datetime | None:
    """Return when the next reminder is due; `ages` of the gap are ascending, and None follows the last."""
    return opened_at + ages[reminders_sent] if reminders_sent < len(ages) else None


def reminders_due(opened_at: datetime, now: datetime, ages: Sequence[timedelta]) -> int:
    """Return how many reminders are due by `now`, so that after a pause one message stands for all that were missed."""
    return sum(1 for age in ages if opened_at + age <= now)


SLOWEST_RECONNECT = timedelta(seconds=15)
"""Longest pause between two tries to reach the database: a failover is over in about that time."""


def backoff(failures: int, *, roll: float) -> timedelta:
    """Return the pause before the next try to connect: full jitter under a ceiling that doubles from half a second."""
    ceiling = min(timedelta(milliseconds=500) * (1 << min(max(failures, 1) - 1, 5)), SLOWEST_RECONNECT)
    return ceiling * roll
