"""One gap, told: who paid what, what is wrong or how it ended, and what to type next."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, assert_never

from paidwatch.core import phrases
from paidwatch.core.model import GapKind, Line, Outcome, Word
from paidwatch.core.said import (
    Event,
    Said,
    attention,
    dismissal,
    lateness,
    moment,
    pasteable,
    person,
    provider_asked,
    quieten,
    several,
    short,
    standing,
    text,
    webhooks_seen,
)
from paidwatch.core.story import State, Story
from paidwatch.core.text import masked, money, span

_EVENT: Final = Event(begun="the gap was found", over="the gap was closed")


def tell_gap(story: Story, kind: GapKind, word: Word, now: datetime) -> Said:
    """Return what is said about one gap."""
    return Said(
        subject=_subject(story, kind),
        summary=_summary(story, kind, word, now),
        lines=tuple(_lines(story, kind, word, now)),
        command=_command(story, kind),
    )


def _subject(story: Story, kind: GapKind) -> str:
    who = f"user {short(story.user_id)}" if story.user_id else f"payment {short(story.payment_id or '?')}"
    did = "got back" if kind is GapKind.REVERSED_BUT_ACTIVE else "paid"
    plan = f" ({short(story.plan_id)})" if story.plan_id else ""
    return f"{who} {did} {short(money(story.amount, story.currency))}{plan}, {phrases.wrong(kind).brief}"


def _summary(story: Story, kind: GapKind, word: Word, now: datetime) -> str:
    """Return a few sentences: what is wrong, or how it ended."""
    if story.state is not State.RESOLVED:
        return f"{standing(story, word, now)}{phrases.wrong(kind).now}"
    ended = phrases.ending(kind, story.outcome)
    if story.announced:
        return ended
    length = span((story.resolved_at or now) - story.opened_at)
    match story.outcome:
        case Outcome.EXPIRED | Outcome.DISMISSED:
            said = f"An alert was open for {length}."
        case _:
            said = f"There was a gap for {length}, and it is closed."
    return f"{said} {phrases.wrong(kind).then} {ended}"


def _lines(story: Story, kind: GapKind, word: Word, now: datetime) -> Iterator[Line]:
    """Yield the facts, the most telling first."""
    yield from text("Who", person(story.user_id, story.user_label))
    yield from text("Plan", story.plan_id)
    if story.amount is not None:
        yield from text("Amount", money(story.amount, story.currency))
    yield from text("Method", story.method)
    yield from text("Payment", _payment(story))
    yield from text("Provider id", story.reference)
    yield from _times(story, kind, now)
    yield from attention(story, word, now)
    yield from text("Delay", lateness(story, word, now, _EVENT), short=False)
    yield from text("Cause", story.cause, short=False)
    yield from text("Reported", story.detail, short=False)
    yield from webhooks_seen(story)
    yield from provider_asked(story)
    if story.sharing and story.state is not State.RESOLVED:
        others = "1 other open gap has" if story.sharing == 1 else f"{story.sharing} other open gaps have"
        yield Line(label="Shared by", value=f"{others} the same cause", short=False)
    yield from dismissal(story)
    yield from several("Activation", story.activation)
    yield from several("Notes", story.digest)
    yield from quieten(story, word)


def _times(story: Story, kind: GapKind, now: datetime) -> Iterator[Line]:
    """Yield when it was paid, noticed, said, and how long all that took."""
    yield from moment("Reversed" if kind is GapKind.REVERSED_BUT_ACTIVE else "Paid", story.paid_at)
    yield from moment("Noticed", story.noticed_at)
    over = story.state is State.RESOLVED
    if over:
        if not story.announced:
            yield Line(label="Gap since", value=story.opened_at)
        yield from moment(phrases.end_label(story.outcome), story.resolved_at)
    yield Line(label="Sent", value=now)
    if story.paid_at is not None:
        until = (story.resolved_at or now) if over else now
        yield Line(label="Took" if over else "Age", value=span(until - story.paid_at))


def _payment(story: Story) -> str:
    """Return the payment's id and the application's word for its status."""
    if not story.payment_id:
        return ""
    status = masked(story.status or "")
    return f"{masked(story.payment_id)} ({status})" if status else masked(story.payment_id)


def _command(story: Story, kind: GapKind) -> str:
    """Return what to type next, empty when nothing is left to do; what expired is still to be done."""
    if story.state is State.RESOLVED and story.outcome is not Outcome.EXPIRED:
        return ""
    user, payment = pasteable(story.user_id), pasteable(story.payment_id)
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
            # What is proposed was looked at by every guard; the command shows it all again and asks.
            return f"paidwatch activate {user}{chosen}{'' if story.proposed else ' --dry-run'}"
        case (
            GapKind.AMOUNT_MISMATCH
            | GapKind.REVERSED_BUT_ACTIVE
            | GapKind.USER_MISSING_OR_DISABLED
            | GapKind.ORPHAN_WEBHOOK
            | GapKind.PROVIDER_PAID_DB_PENDING
            | GapKind.UNDERPAID
            | GapKind.WEBHOOK_FAILED
            | GapKind.WEBHOOK_BAD_SIGNATURE
            | GapKind.PROVIDER_SILENT
        ):
            return f"paidwatch user {user}"
        case _ as unreachable:
            assert_never(unreachable)
