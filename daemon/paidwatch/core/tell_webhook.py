"""What webhooks alone tell, told: money without a payment, webhooks that go wrong, and webhooks that do not come."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from paidwatch.core import phrases
from paidwatch.core.evidence import reference_of
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

MONEY_KINDS: Final = frozenset({GapKind.ORPHAN_WEBHOOK, GapKind.PROVIDER_PAID_DB_PENDING, GapKind.UNDERPAID})
"""What is about somebody's money."""
WEBHOOK_KINDS: Final = MONEY_KINDS | {
    GapKind.WEBHOOK_FAILED,
    GapKind.WEBHOOK_BAD_SIGNATURE,
    GapKind.PROVIDER_SILENT,
}
"""The kinds that webhooks alone tell of."""
_EVENT: Final = Event(begun="it was found", over="it was over")
_SECRET: Final = "The secret here is the one on the provider's dashboard, and so is the address it sends to."  # noqa: S105
_CHECKS: Final = {
    GapKind.WEBHOOK_BAD_SIGNATURE: (
        _SECRET,
        "Nobody but the provider knows the address: strangers' webhooks stay unbelieved, and harmless.",
    ),
    GapKind.PROVIDER_SILENT: (
        "Webhooks are switched on, and not failing, on the provider's dashboard.",
        "The address can be reached from outside: name, certificate, firewall, proxy.",
        _SECRET,
    ),
}
"""What to look at where paidwatch cannot."""


def tell_webhook(story: Story, kind: GapKind, word: Word, now: datetime) -> Said:
    """Return what is said about one story that webhooks tell."""
    return Said(
        subject=_subject(story, kind),
        summary=_summary(story, kind, word, now),
        lines=tuple(_lines(story, kind, word, now)),
        command=_command(story, kind),
    )


def _subject(story: Story, kind: GapKind) -> str:
    """Return `user 7 paid 14.99 USD (professional), no payment row, …`, or `nowpayments: bad signatures`."""
    brief = phrases.wrong(kind).brief
    if kind in MONEY_KINDS:
        who = (
            f"user {short(story.user_id)}"
            if story.user_id
            else f"payment {short(reference_of(story.reference) or '?')}"
        )
        did = "ordered for" if kind is GapKind.UNDERPAID else "paid"
        plan = f" ({short(story.plan_id)})" if story.plan_id else ""
        return f"{who} {did} {short(money(story.amount, story.currency))}{plan}, {brief}"
    method = short(story.method or "") or "a provider"
    reference = reference_of(story.reference) if kind is GapKind.WEBHOOK_FAILED else ""
    return f"{method} webhook for {short(reference)}, {brief}" if reference else f"{method}: {brief}"


def _summary(story: Story, kind: GapKind, word: Word, now: datetime) -> str:
    """Return a few sentences: what is wrong, or how it ended."""
    if story.state is not State.RESOLVED:
        return f"{standing(story, word, now)}{phrases.wrong(kind).now}"
    ended = phrases.ending(kind, story.outcome)
    if story.announced:
        return ended
    length = span((story.resolved_at or now) - story.opened_at)
    return f"An alert was open for {length}. {phrases.wrong(kind).then} {ended}"


def _lines(story: Story, kind: GapKind, word: Word, now: datetime) -> Iterator[Line]:
    """Yield the facts, the most telling first."""
    yield from text("Who", person(story.user_id, story.user_label))
    yield from text("Plan", story.plan_id)
    if story.amount is not None:
        yield from text("Amount", money(story.amount, story.currency))
    yield from text("Method", story.method)
    yield from text("Provider id", masked(reference_of(story.reference)))
    yield from webhooks_seen(story)
    over = story.state is State.RESOLVED
    if over:
        yield Line(label="Since", value=story.opened_at)
        yield from moment(phrases.end_label(story.outcome), story.resolved_at)
    yield Line(label="Sent", value=now)
    yield Line(
        label="Took" if over else "Age", value=span(((story.resolved_at or now) if over else now) - story.opened_at)
    )
    yield from attention(story, word, now)
    yield from text("Delay", lateness(story, word, now, _EVENT), short=False)
    yield from text("Cause", story.cause, short=False)
    yield from text("Reported", story.detail, short=False)
    yield from provider_asked(story)
    if not over:
        yield from several("To check", _CHECKS.get(kind, ()))
    yield from dismissal(story)
    yield from several("Activation", story.activation)
    yield from several("Notes", story.digest)
    yield from quieten(story, word)


def _command(story: Story, kind: GapKind) -> str:
    """Return what to type next, empty when nothing is left to do; what expired is still to be done."""
    if story.state is State.RESOLVED and story.outcome is not Outcome.EXPIRED:
        return ""
    if kind in {GapKind.WEBHOOK_BAD_SIGNATURE, GapKind.PROVIDER_SILENT}:
        return "paidwatch doctor"
    user, alert = pasteable(story.user_id), pasteable(story.alert_id)
    payment = pasteable(reference_of(story.reference))
    if user is not None and payment and kind is GapKind.ORPHAN_WEBHOOK:
        return f"paidwatch activate {user} --payment {payment}{'' if story.proposed else ' --dry-run'}"
    if user is not None:
        return f"paidwatch user {user}"
    return f"paidwatch alerts show {alert}" if alert is not None else "paidwatch check"
