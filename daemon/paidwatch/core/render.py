"""From a story to what is said about it: the word, the subject, the sentences, the facts and the next command.

A message describes the present, never the moment it was queued for: a gap that closed before a channel could be told
is told once, as a gap that was, with its end. Nothing here knows a channel, and no name leaves unmasked.

A line without a label belongs to the one before it.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from paidwatch.core import phrases
from paidwatch.core.model import GapKind, Line, Notice, Outcome, Word
from paidwatch.core.story import BASELINE, TEST, State, Story
from paidwatch.core.text import fit, mask, masked, money, span

LATE: Final = timedelta(minutes=1)
"""A first message that comes later than this explains itself."""
LONGEST: Final = 1000
"""Length of one value."""
LONGEST_WORD: Final = 80
"""Length of an id or a name inside a sentence."""
MOST_LINES: Final = 40
"""Lines of a digest, or about an activation."""

_COMMAND_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")
"""Ids that may stand in a command that somebody pastes into a shell. An e-mail address is none of them."""


def render(story: Story, *, now: datetime) -> Notice:
    """Return what is to be said about `story` at `now`, the database's clock.

    The word is TEST or DIGEST for those kinds; of a gap it is NEW the first time, STILL afterwards, and once it is
    closed FIXED if paidwatch activated and RESOLVED otherwise, also where this channel never heard of the gap.
    """
    word = choose_word(story)
    return Notice(
        word=word,
        kind=story.kind,
        alert_id=story.alert_id,
        subject=subject_of(story),
        summary=_summary(story, word, now),
        lines=tuple(_lines(story, word, now)),
        command=_command(story),
        open=story.state is State.OPEN,
        at=now,
        extra=_extra(story),
    )


def choose_word(story: Story) -> Word:
    """Return the first word of the title."""
    if story.kind == TEST:
        return Word.TEST
    if story.kind == BASELINE:
        return Word.DIGEST
    match story.state:
        case State.OPEN:
            return Word.STILL if story.announced else Word.NEW
        case State.RESOLVED:
            return Word.FIXED if story.outcome is Outcome.FIXED else Word.RESOLVED
        case _ as unreachable:
            assert_never(unreachable)


def subject_of(story: Story) -> str:
    """Return what the story is about, the same from its first message to its last while its kind stays the same."""
    if story.kind == TEST:
        return "test message"
    if story.kind == BASELINE:
        return "payments from before paidwatch was installed"
    kind = _gap(story)
    if kind is None:
        return _short(story.kind.replace("_", " "))
    who = f"user {_short(story.user_id)}" if story.user_id else f"payment {_short(story.payment_id or '?')}"
    did = "got back" if kind is GapKind.REVERSED_BUT_ACTIVE else "paid"
    plan = f" ({_short(story.plan_id)})" if story.plan_id else ""
    return f"{who} {did} {_short(money(story.amount, story.currency))}{plan}, {phrases.wrong(kind).brief}"


def _summary(story: Story, word: Word, now: datetime) -> str:
    """Return a few sentences: what is wrong, or how it ended."""
    kind = _gap(story)
    if word is Word.TEST:
        still = "It is still open." if story.state is State.OPEN else "It is over, as a gap would be."
        return f"This is a test of paidwatch; no payment is concerned. {still}"
    if word is Word.DIGEST:
        return "The payments that were there before are told once, here, and are followed no further."
    if kind is None:
        return fit(masked(story.cause), LONGEST) or "Something needs a look."
    if story.state is State.OPEN:
        said = phrases.wrong(kind).now
        return f"Open for {span(now - story.opened_at)}. {said}" if word is Word.STILL else said
    ended = phrases.ending(kind, story.outcome)
    if story.announced:
        return ended
    length = span((story.resolved_at or now) - story.opened_at)
    return f"There was a gap for {length}, and it is closed. {phrases.wrong(kind).then} {ended}"


def _lines(story: Story, word: Word, now: datetime) -> Iterator[Line]:
    """Yield the facts, the most telling first."""
    yield from _text("Who", _who(story))
    yield from _text("Plan", story.plan_id)
    if story.amount is not None:
        yield from _text("Amount", money(story.amount, story.currency))
    yield from _text("Method", story.method)
    yield from _text("Payment", _payment(story))
    yield from _text("Provider id", story.reference)
    yield from _times(story, now)
    yield from _text("Delay", _delay(story, word, now), short=False)
    if _gap(story) is not None:
        yield from _text("Cause", story.cause, short=False)
    yield from _text("Reported", story.detail, short=False)
    if story.sharing and story.state is State.OPEN:
        others = "1 other open gap has" if story.sharing == 1 else f"{story.sharing} other open gaps have"
        yield Line(label="Shared by", value=f"{others} the same cause", short=False)
    yield from _list("Activation", story.activation)
    yield from _list("Found" if word is Word.DIGEST else "Notes", story.digest)


def _times(story: Story, now: datetime) -> Iterator[Line]:
    """Yield when it was paid, noticed, said, and how long all that took."""
    if story.paid_at is not None:
        happened = "Reversed" if story.kind == GapKind.REVERSED_BUT_ACTIVE else "Paid"
        yield Line(label=happened, value=story.paid_at)
    if story.noticed_at is not None:
        yield Line(label="Noticed", value=story.noticed_at)
    if story.state is State.RESOLVED and _gap(story) is not None:
        if not story.announced:
            yield Line(label="Gap since", value=story.opened_at)
        if story.resolved_at is not None:
            yield Line(label="Closed", value=story.resolved_at)
    yield Line(label="Sent", value=now)
    if story.paid_at is not None:
        until = now if story.state is State.OPEN else (story.resolved_at or now)
        label = "Age" if story.state is State.OPEN else "Took"
        yield Line(label=label, value=span(until - story.paid_at))


def _delay(story: Story, word: Word, now: datetime) -> str:
    """Return why this comes late, empty if it does not.

    What the watcher knows about itself comes first; the rest is read from the times, which cannot be wrong about it.
    """
    if word not in {Word.NEW, Word.FIXED, Word.RESOLVED}:
        return ""
    reasons: list[str] = []
    if not story.announced:
        if story.delay:
            reasons.append(story.delay)
        elif story.due_at is not None and story.opened_at - story.due_at > LATE:
            reasons.append(f"the gap was found {span(story.opened_at - story.due_at)} after the grace period ended")
        if story.state is State.RESOLVED:
            reasons.append("the gap closed before this channel was told of it")
    known, what = (story.opened_at, "found") if story.resolved_at is None else (story.resolved_at, "closed")
    if now - known > LATE:
        reasons.append(f"this channel was reached {span(now - known)} after the gap was {what}")
    return "; ".join(reasons)


def _who(story: Story) -> str:
    """Return the user, recognisable only for who knows them already."""
    name = mask(story.user_label or "")
    if not story.user_id:
        return name
    user = f"user {_short(story.user_id)}"
    return f"{user} ({name})" if name else user


def _payment(story: Story) -> str:
    """Return the payment's id and the application's word for its status."""
    if not story.payment_id:
        return ""
    status = masked(story.status or "")
    return f"{masked(story.payment_id)} ({status})" if status else masked(story.payment_id)


def _command(story: Story) -> str:
    """Return what to type next, empty when nothing is left to do."""
    kind = _gap(story)
    if story.kind == BASELINE:
        return "paidwatch check"
    if story.state is State.RESOLVED or kind is None:
        return ""
    user = story.user_id if story.user_id and _COMMAND_ID.fullmatch(story.user_id) else None
    payment = story.payment_id if story.payment_id and _COMMAND_ID.fullmatch(story.payment_id) else None
    if user is None:
        return "paidwatch check"
    match kind:
        case (
            GapKind.PAID_NOT_ACTIVE
            | GapKind.TIER_MISMATCH
            | GapKind.RENEWAL_NOT_APPLIED
            | GapKind.PAID_BUT_REVOKED
            | GapKind.ACTIVATION_FAILED
        ):
            chosen = f" --payment {payment}" if payment else ""
            return f"paidwatch activate {user}{chosen} --dry-run"
        case GapKind.AMOUNT_MISMATCH | GapKind.REVERSED_BUT_ACTIVE | GapKind.USER_MISSING_OR_DISABLED:
            return f"paidwatch user {user}"
        case _ as unreachable:
            assert_never(unreachable)


def _extra(story: Story) -> dict[str, str]:
    """Return the facts for machines, exact and unmasked but for the user's name, which is left out."""
    facts = {
        "payment_id": story.payment_id,
        "user_id": story.user_id,
        "plan_id": story.plan_id,
        "amount": None if story.amount is None else str(story.amount),
        "currency": story.currency,
        "method": story.method,
        "reference": story.reference,
        "status": story.status,
        "cause": story.cause,
        "outcome": story.outcome,
        "paid_at": _iso(story.paid_at),
        "noticed_at": _iso(story.noticed_at),
        "due_at": _iso(story.due_at),
        "opened_at": _iso(story.opened_at),
        "resolved_at": _iso(story.resolved_at),
        "revision": str(story.revision),
        "reminders": str(story.reminders),
    }
    return {name: str(fact) for name, fact in facts.items() if fact}


def _gap(story: Story) -> GapKind | None:
    """Return the kind of gap that a story is about, None if it is about something else."""
    try:
        return GapKind(story.kind)
    except ValueError:
        return None


def _text(label: str, value: str | None, *, short: bool = True) -> Iterator[Line]:
    """Yield one line, or none where nothing is known."""
    shown = fit(masked(value or ""), LONGEST)
    if shown:
        yield Line(label=label, value=shown, short=short)


def _list(label: str, values: tuple[str, ...]) -> Iterator[Line]:
    """Yield several values under one label, and how many there was no room for."""
    shown = [value for value in (fit(masked(value), LONGEST) for value in values) if value]
    for place, value in enumerate(shown[:MOST_LINES]):
        yield Line(label="" if place else label, value=value, short=False)
    if len(shown) > MOST_LINES:
        yield Line(label="", value=f"({len(shown) - MOST_LINES} more lines)…", short=False)


def _short(value: str) -> str:
    """Return an id or a name so that it fits into a sentence."""
    return fit(masked(value), LONGEST_WORD)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
