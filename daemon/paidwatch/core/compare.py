"""Shadow mode held against what happened: would the activation that was only recorded have been right?

It is right if the payment was activated, by the application or by a person, and the user then has what would have been
written: the same tier, and a paid-until within the slack. Whoever activates later than the shadow grants a later end;
so much later it may be. It is wrong if nothing was owed after all. What paidwatch activated by itself meanwhile, what a
newer payment superseded and what nobody closed proves nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from paidwatch.core.access import after, before
from paidwatch.core.guards import Actor, Mode
from paidwatch.core.model import Outcome, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What would have been written at `at`."""

    at: datetime
    tier: str | None
    paid_until: datetime | None
    """None is for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happened: how the watch ended, and the user then."""

    outcome: Outcome
    at: datetime
    done_by: Actor | None
    """Who activated by paidwatch, if anybody did."""
    user_exists: bool
    tier: str | None
    tier_watched: bool
    paid_until: datetime | None
    paid_until_watched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the comparison came to."""

    was_right: bool | None
    """None: what happened does not tell."""
    said: str
    """Why, in constant words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The track record of shadow mode: of those that can be told, how many would have been right."""

    right: int = 0
    compared: int = 0


_ENDED: Final = MappingProxyType(
    {
        Outcome.REVERSED: Comparison(was_right=False, said="the payment was reversed"),
        Outcome.LEFT: Comparison(was_right=False, said="the payment is not paid any more"),
        Outcome.GONE: Comparison(was_right=False, said="the payment was deleted"),
        Outcome.ENDED: Comparison(was_right=False, said="an administrator ended it on purpose"),
        Outcome.DISMISSED: Comparison(was_right=False, said="a person said that it was no gap"),
        Outcome.ADMIN: Comparison(was_right=False, said="the user is an administrator"),
        Outcome.NOTHING_PAID: Comparison(was_right=False, said="no money was at stake"),
        Outcome.FOLLOWED: Comparison(was_right=None, said="the payment has a row now, and is followed by itself"),
        Outcome.SUPERSEDED: Comparison(was_right=None, said="a newer payment took its place"),
    }
)
"""Ends without an activation, and what each says about one."""


def compare(shadow: Shadow, course: Course, rules: Rules) -> Comparison:
    """Return whether the recorded activation would have been right."""
    if course.outcome not in {Outcome.ACTIVATED, Outcome.FIXED}:
        return _ENDED.get(course.outcome, Comparison(was_right=None, said="nobody activated it"))
    if course.done_by is Actor.AUTO:
        return Comparison(was_right=None, said="paidwatch activated it by itself")
    return _against_user(shadow, course, rules)


def _against_user(shadow: Shadow, course: Course, rules: Rules) -> Comparison:
    if not course.user_exists:
        return Comparison(was_right=None, said="there is no such user any more")
    if course.tier_watched and course.tier != shadow.tier:
        return Comparison(was_right=False, said="another tier was granted")
    if course.paid_until_watched and not _same_end(shadow, course, rules):
        return Comparison(was_right=False, said="another paid-until was granted")
    return Comparison(was_right=True, said="the same was granted")


def _same_end(shadow: Shadow, course: Course, rules: Rules) -> bool:
    """Say whether the end of access is the one that would have been written, but for when it was written."""
    if shadow.paid_until is None or course.paid_until is None:
        return shadow.paid_until is course.paid_until
    later = course.at - shadow.at
    latest = after(after(shadow.paid_until, later), rules.period_slack)
    return before(shadow.paid_until, rules.period_slack) <= course.paid_until <= latest


def in_words(mode: Mode, record: Record, stopped: str | None = None) -> str:
    """Return how automatic activation stands: `shadow, would have been right 41 of 41`."""
    words: list[str] = [mode.value]
    if record.compared:
        tense = "would have been" if mode is Mode.SHADOW else "in shadow mode"
        words.append(f"{tense} right {record.right} of {record.compared}")
    elif mode is Mode.SHADOW:
        words.append("nothing to compare yet")
    if stopped is not None and mode is not Mode.OFF:
        words.append(f"stopped by the breaker ({stopped})")
    return ", ".join(words)
