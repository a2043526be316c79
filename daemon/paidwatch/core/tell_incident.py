"""Many gaps of one cause, told as one: how many, how much money, how old, why, and how it ended."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from paidwatch.core import phrases
from paidwatch.core.model import GapKind, Line, Word
from paidwatch.core.said import (
    UNSETTLED,
    Event,
    Said,
    attention,
    count,
    dismissal,
    lateness,
    moment,
    quieten,
    several,
    short,
    standing,
    text,
)
from paidwatch.core.story import Incident, State, Story
from paidwatch.core.text import money, span

_EVENT: Final = Event(begun="the incident was noticed", over="the incident was over")
_BESIDE: Final = 3
"""Currencies that stand in one line."""


def tell_incident(story: Story, incident: Incident, word: Word, now: datetime) -> Said:
    """Return what is said about an incident; its numbers are those of this moment."""
    return Said(
        subject=_subject(incident),
        summary=_summary(story, incident, word, now),
        lines=tuple(_lines(story, incident, word, now)),
        command="" if story.state is State.RESOLVED and not incident.open else "paidwatch check",
    )


def _subject(incident: Incident) -> str:
    """Return `512 payments by nowpayments: paid, not active`."""
    kind = _kind(incident)
    what = short(incident.kind_of.replace("_", " ")) if kind is None else phrases.wrong(kind).many
    by = f" by {short(incident.method)}" if incident.method else ""
    return f"{count(incident.total, _noun(incident))}{by}: {what}"


def _summary(story: Story, incident: Incident, word: Word, now: datetime) -> str:
    """Return what is wrong and how far it has got, or how it ended."""
    kind = _kind(incident)
    if story.state is not State.RESOLVED:
        wrong = "" if kind is None else f"{phrases.wrong(kind).many_now} "
        return f"{standing(story, word, now)}{wrong}{_progress(incident, now)}"
    wrong = "" if story.announced or kind is None else f"{phrases.wrong(kind).many_then} "
    ended = f" {phrases.ending(None, story.outcome)}" if story.outcome in UNSETTLED else ""
    length = span((story.resolved_at or now) - incident.started_at)
    return f"{wrong}It lasted {length}: {_balance(incident)}.{ended}"


def _progress(incident: Incident, now: datetime) -> str:
    """Return how many are open now."""
    if not incident.open:
        return "None of them is open any more; it ends when no more follow."
    number = "All of them are" if incident.open == incident.total else f"{incident.open} of {incident.total} are still"
    since = "" if incident.oldest_paid_at is None else f", the oldest paid {span(now - incident.oldest_paid_at)} ago"
    return f"{number} open{since}."


def _balance(incident: Incident) -> str:
    """Return what became of the members: `500 of 512 rescued, 10 ended otherwise, 2 still stuck`."""
    return (
        f"{incident.rescued} of {count(incident.total, _noun(incident))} rescued, {incident.otherwise} ended otherwise,"
        f" {incident.open or 'none'} still stuck"
    )


def _lines(story: Story, incident: Incident, word: Word, now: datetime) -> Iterator[Line]:
    """Yield the numbers, then the money, the causes and the commands."""
    over = story.state is State.RESOLVED
    yield from text("Affected", count(incident.total, _noun(incident)))
    yield Line(label="Still stuck" if over else "Open now", value=str(incident.open))
    yield Line(label="Rescued", value=str(incident.rescued))
    yield Line(label="Ended otherwise", value=str(incident.otherwise))
    yield from text("Method", incident.method)
    yield from _money(incident.money_at_risk)
    yield Line(label="Since", value=incident.started_at)
    yield from moment("Oldest paid", incident.oldest_paid_at)
    if over:
        yield from moment(phrases.end_label(story.outcome), story.resolved_at)
        yield Line(label="Took", value=span((story.resolved_at or now) - incident.started_at))
    yield Line(label="Sent", value=now)
    yield from several("Causes", [f"{number} times: {cause}" for cause, number in incident.causes])
    yield from attention(story, word, now)
    yield from text("Delay", lateness(story, word, now, _EVENT), short=False)
    yield from dismissal(story)
    yield from several("Notes", story.digest)
    yield Line(label="Each of them", value="paidwatch alerts list --members", short=False)
    yield from quieten(story, word)


def _money(at_risk: Mapping[str, Decimal]) -> Iterator[Line]:
    """Yield what the open ones paid, per currency."""
    sums = [money(amount, currency) for currency, amount in sorted(at_risk.items())]
    if len(sums) <= _BESIDE:
        yield from text("At risk", ", ".join(sums))
    else:
        yield from several("At risk", sums)


def _kind(incident: Incident) -> GapKind | None:
    """Return the kind of gap of the members, None if they are something else."""
    try:
        return GapKind(incident.kind_of)
    except ValueError:
        return None


def _noun(incident: Incident) -> str:
    return "alert" if _kind(incident) is None else "payment"
