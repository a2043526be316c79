"""What the tellers of all kinds of stories share: facts as lines, cut and masked, and the sentences about every story.

A line without a label belongs to the one before it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from paidwatch.core.answer import in_words
from paidwatch.core.model import Line, Outcome, Word
from paidwatch.core.routing import Severity
from paidwatch.core.story import State, Story
from paidwatch.core.text import fit, mask, masked, span, stamp

LATE: Final = timedelta(minutes=1)
"""A first message that comes later than this explains itself."""
LONGEST: Final = 1000
"""Length of one value."""
LONGEST_WORD: Final = 80
"""Length of an id or a name inside a sentence."""
MOST_LINES: Final = 40
"""Lines of a digest, or about an activation."""
TOGETHER: Final = 8
"""Lines of a bundle under one label: what fits into one field of any chat."""

_COMMAND_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")
"""Ids that may stand in a command that somebody pastes into a shell. An e-mail address is none of them."""
_ADDRESS: Final = re.compile(r"://|www\.", re.IGNORECASE)

UNSETTLED: Final = frozenset({Outcome.EXPIRED, Outcome.DISMISSED})
"""Ends of an alert that say nothing about the gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one kind of story comes to."""

    subject: str
    summary: str
    lines: tuple[Line, ...]
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a story is about, where its delay is explained."""

    begun: str
    """`the gap was found`"""
    over: str
    """`the gap was closed`"""


def text(label: str, value: str | None, *, short: bool = True) -> Iterator[Line]:
    """Yield one line, or none where nothing is known."""
    shown = fit(masked(value or ""), LONGEST)
    if shown:
        yield Line(label=label, value=shown, short=short)


def moment(label: str, value: datetime | None) -> Iterator[Line]:
    """Yield one time, or none where it is not known."""
    if value is not None:
        yield Line(label=label, value=value)


def several(label: str, values: Sequence[str]) -> Iterator[Line]:
    """Yield several values under one label, and how many there was no room for."""
    shown = [value for value in (fit(masked(value), LONGEST) for value in values[:MOST_LINES]) if value]
    for place, value in enumerate(shown):
        yield Line(label="" if place else label, value=value, short=False)
    yield from left_out(len(values) - MOST_LINES, label="" if shown else label)


def left_out(number: int, *, label: str = "", noun: str = "line") -> Iterator[Line]:
    """Yield how many lines there was no room for, if any."""
    if number > 0:
        yield Line(label=label, value=f"({number} more {noun if number == 1 else f'{noun}s'})…", short=False)


def short(value: str) -> str:
    """Return an id or a name so that it fits into a sentence."""
    return fit(masked(value), LONGEST_WORD)


def person(user_id: str | None, label: str | None) -> str:
    """Return a user, recognisable only for who knows them already: `user 7 (a***@e***.org)`."""
    name = mask(label or "")
    if not user_id:
        return name
    user = f"user {short(user_id)}"
    return f"{user} ({name})" if name else user


def count(number: int, noun: str) -> str:
    """Return `1 payment`, `512 payments`."""
    return f"{number} {noun if number == 1 else f'{noun}s'}"


def pasteable(value: str | None) -> str | None:
    """Return an id that may stand in a command, None for one that a shell or a reader could misread."""
    return value if value and _COMMAND_ID.fullmatch(value) else None


def unlinked(reason: str) -> str:
    """Return why a channel is broken without any address: the address of a channel may be its credential."""
    return " ".join("(address)" if _ADDRESS.search(word) else word for word in reason.split())


def standing(story: Story, word: Word, now: datetime) -> str:
    """Return how long an open story has been open and who looks after it; empty for one that is told first."""
    for_long = f"Open for {span(now - story.opened_at)}"
    match story.state:
        case State.RESOLVED:
            return ""
        case State.ACKED:
            until = "" if story.acked_until is None else f" until {stamp(story.acked_until)}"
            acked = f"cknowledged by {_author(story.acked_by)}{until}; reminders are stopped. "
            return f"A{acked}" if word is Word.NEW else f"{for_long}, a{acked}"
        case State.OPEN if word is Word.NEW:
            return ""
        case State.OPEN if story.acked_by:
            return f"{for_long}; the acknowledgement by {_author(story.acked_by)} is over. "
        case State.OPEN:
            return f"{for_long}, and nobody has acknowledged it. " if word is Word.ESCALATED else f"{for_long}. "


def attention(story: Story, word: Word, now: datetime) -> Iterator[Line]:
    """Yield why this channel hears of it, how urgent it is, and until when nobody is reminded."""
    if word is Word.ESCALATED:
        least = "" if story.escalated_from is None else f", and {story.escalated_from:f} or more is at stake"
        age = span(now - story.opened_at)
        yield Line(label="Escalated", value=f"it came here because it is open for {age}{least}", short=False)
    if story.severity is Severity.LOW:
        yield Line(label="Severity", value="low")
    if story.state is State.ACKED:
        yield from moment("Quiet until", story.acked_until)


def quieten(story: Story, word: Word) -> Iterator[Line]:
    """Yield the command that stops reminders, once there were any."""
    alert = pasteable(story.alert_id)
    if alert and story.state is State.OPEN and word in {Word.STILL, Word.ESCALATED}:
        yield Line(label="Take over", value=f"paidwatch alerts ack {alert} --for 2h", short=False)


def lateness(story: Story, word: Word, now: datetime, event: Event) -> str:
    """Return why this comes late, empty if it does not.

    What the watcher knows about itself comes first; the rest is read from the times, which cannot be wrong about it.
    """
    if word not in {Word.NEW, Word.FIXED, Word.RESOLVED} and (word is not Word.STILL or story.announced):
        return ""
    ended = "the alert was over" if story.outcome in UNSETTLED else event.over
    reasons: list[str] = []
    if not story.announced:
        if story.delay:
            reasons.append(story.delay)
        elif story.due_at is not None and story.opened_at - story.due_at > LATE:
            reasons.append(f"{event.begun} {span(story.opened_at - story.due_at)} after the grace period ended")
        if story.state is State.RESOLVED:
            reasons.append(f"{ended} before this channel was told of it")
    known, what = (story.opened_at, event.begun) if story.resolved_at is None else (story.resolved_at, ended)
    if now - known > LATE:
        reasons.append(f"this channel was reached {span(now - known)} after {what}")
    return "; ".join(reasons)


def dismissal(story: Story) -> Iterator[Line]:
    """Yield who dismissed it, and why."""
    if story.outcome is not Outcome.DISMISSED or not (story.ended_by or story.ended_why):
        return
    yield from text(
        "Dismissed", ": ".join(filter(None, [f"by {_author(story.ended_by)}", story.ended_why])), short=False
    )


def _author(name: str | None) -> str:
    return short(name or "") or "somebody"


def webhooks_seen(story: Story) -> Iterator[Line]:
    """Yield when webhooks about this came, and what was with them."""
    seen = story.webhooks
    if seen is None:
        return
    yield from moment("First webhook", seen.first_at)
    if seen.count > 1:
        yield from moment("Last webhook", seen.last_at)
        yield Line(label="Webhooks", value=str(seen.count))
    yield from moment("Said paid", seen.paid_at)
    yield from moment("Said unpaid", seen.moving_at)
    yield from moment("Bad signature", seen.bad_at)
    yield from moment("Handler failed", seen.failed_at)


def provider_asked(story: Story) -> Iterator[Line]:
    """Yield what the payment provider says, or why it could not be asked."""
    if story.asked is not None:
        yield from several("Provider", in_words(story.asked))
