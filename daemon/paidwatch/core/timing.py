"""When to try again, when to remind, how long to wait: spans and moments, computed from arguments only."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

SHORTEST = timedelta(seconds=2)
LONGEST = timedelta(minutes=15)
"""Bounds of the back-off between two attempts (alerting.md, B3)."""

LONGEST_WISH = timedelta(hours=1)
"""A Retry-After beyond this is taken for a mistake."""

GIVE_UP = timedelta(hours=24)
"""After this long a message becomes a dead letter."""

_STEPS_TO_LONGEST = 9
"""SHORTEST doubled this often is beyond LONGEST; more doublings would only make large numbers."""


def retry_delay(failures: int, *, roll: float, retry_after: timedelta | None = None) -> timedelta:
    """Return how long to wait after the `failures`-th failure in a row (1, 2, …).

    Exponential with full jitter: `roll`, a random number from 0 up to 1, picks a point between the shortest delay and
    a ceiling that doubles with every failure. A service's own wish is never undercut, within an hour.
    """
    ceiling = min(SHORTEST * (1 << min(max(failures, 1), _STEPS_TO_LONGEST)), LONGEST)
    delay = SHORTEST + (ceiling - SHORTEST) * roll
    return delay if retry_after is None else max(delay, min(retry_after, LONGEST_WISH))


def next_attempt(
    *, first_at: datetime, now: datetime, failures: int, roll: float, retry_after: timedelta | None = None
) -> datetime | None:
    """Return the moment of the next attempt, None once it would come GIVE_UP after the first one."""
    moment = now + retry_delay(failures, roll=roll, retry_after=retry_after)
    return moment if moment < first_at + GIVE_UP else None


def next_reminder(opened_at: datetime, reminders_sent: int, schedule: Sequence[timedelta]) -> datetime | None:
    """Return when the next reminder is due; the schedule holds successive intervals, and None follows the last."""
    if reminders_sent >= len(schedule):
        return None
    return opened_at + sum(schedule[: reminders_sent + 1], timedelta())


def reminders_due(opened_at: datetime, now: datetime, schedule: Sequence[timedelta]) -> int:
    """Return how many reminders are due by `now`, so that after a pause one message stands for all that were missed."""
    return sum(1 for offset in accumulate(schedule) if opened_at + offset <= now)


def grace_for(method: str | None, *, default: timedelta, by_method: Mapping[str, timedelta]) -> timedelta:
    """Return the grace of a payment method: its own, whatever the letters' case, or the default."""
    named = {name.casefold(): span for name, span in by_method.items()}
    return default if method is None else named.get(method.casefold(), default)


SLOWEST_RECONNECT = timedelta(seconds=15)
"""Longest pause between two tries to reach the database: a failover is over in about that time."""


def backoff(failures: int, *, roll: float) -> timedelta:
    """Return the pause before the next try to connect: full jitter under a ceiling that doubles from half a second."""
    ceiling = min(timedelta(milliseconds=500) * (1 << min(max(failures, 1) - 1, 5)), SLOWEST_RECONNECT)
    return ceiling * roll
