"""Storms: of alerts that are alike, which goes out by itself, which waits for others, and when all become one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

ALONE: Final = 2
"""So many alerts that are alike are told at once; further ones wait until it is known whether a storm is on."""
EDIT_EVERY: Final = timedelta(seconds=45)
"""Least time between two edits of one incident's message (alerting.md, C1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What alerts of one incident have in common."""

    kind: str
    method: str
    """As the application spells it; empty: there is none."""
    error_class: str
    """The cause in constant words, without what differs from payment to payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """What there is already of one likeness, the fresh alerts apart."""

    incident: bool = False
    """An incident is open."""
    recent: int = 0
    """How many opened within the window; may be cut off at the threshold."""
    first_at: datetime | None = None
    """When the earliest of those opened; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The incident tells of all of them, and of those that opened within the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Singly:
    """Each is told by itself: `at_once` of them without delay, the others at `rest_at` unless a storm swallows them."""

    at_once: int
    rest_at: datetime


Course = Together | Singly


def course(alike: Alike, fresh: int, *, now: datetime, threshold: int, window: timedelta) -> Course:
    """Return how `fresh` (1, 2, …) alerts of one likeness are told that opened at `now`.

    `threshold` of them within `window` are a storm. The rest waits until the window of the first one is over, so that
    no more than ALONE messages go out before the storm is known as one.
    """
    if alike.incident or alike.recent + fresh >= threshold:
        return Together()
    return Singly(at_once=min(fresh, max(ALONE - alike.recent, 0)), rest_at=(alike.first_at or now) + window)
