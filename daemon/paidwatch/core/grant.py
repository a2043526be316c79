"""What granting a payment writes: the user's after image and one event, computed once from the facts.

A grant is what the application would have written, had its webhook run, with two differences (domain.md §4, I4): time
of the same tier that was paid for before is kept, and a tier is never lowered.

Where the new period starts:
- same tier, not revoked, paid-until in the future: there; the days left were paid for;
- otherwise, also when the plan is higher than the tier held: at `now`, as the application does;
- for ever (paid-until is NULL) in the same tier, not revoked and in force stays for ever: nothing is added, nothing is
  taken away. NULL of any other user, above all a new one, means that nothing was set yet and gets a finite period.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from paidwatch.core.access import after
from paidwatch.core.guards import Reason, lowers_tier
from paidwatch.core.model import Facts, GapKind, Plan, Subject, Subscriber

ACTIVATED = "activated"
"""The event type by which the application itself records an activation."""

GRANTABLE: Final = frozenset(
    {
        GapKind.PAID_NOT_ACTIVE,
        GapKind.TIER_MISMATCH,
        GapKind.RENEWAL_NOT_APPLIED,
        GapKind.PAID_BUT_REVOKED,
        GapKind.ACTIVATION_FAILED,
        GapKind.ORPHAN_WEBHOOK,
    }
)
"""The kinds of gap that a grant ends."""

LONGEST_KEY: Final = 200

UserValue = str | datetime | None
EventValue = str | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One activation, complete: a retry writes these values and computes nothing again."""

    subject: Subject
    user_id: str
    user: Mapping[str, UserValue]
    """Canonical column → value: status, tier, plan_id, paid_until, last_paid_at, touched_at, revoked_at. What the
    application has no column for is left out by the store."""
    event_type: str
    event_data: Mapping[str, EventValue]
    """Fit for JSON as it is."""
    external_id: str
    """Unique per payment: a barrier against a second activation that the application sees too."""


def plan_grant(facts: Facts, now: datetime, *, active_word: str = "active") -> Grant | Reason:
    """Return what to write for a payment at `now`, with the first of the configured words for an active status.

    Without payment, plan or user, or where the tier would be lowered, there is nothing to write: the answer is then the
    reason. The guards refuse all of these before; a grant that nobody guarded must not come into being.
    """
    if facts.payment is None:
        return Reason.NO_PAYMENT
    if facts.plan is None:
        return Reason.NO_PLAN
    if facts.subscriber is None:
        return Reason.NO_USER
    if lowers_tier(facts.subscriber, facts.plan):
        return Reason.LOWER_TIER
    user: dict[str, UserValue] = {
        "status": active_word,
        "tier": facts.plan.id,
        "plan_id": facts.plan.id,
        "paid_until": _paid_until(facts.subscriber, facts.plan, now),
        "last_paid_at": now,
        "touched_at": now,
        "revoked_at": None,
    }
    return Grant(
        subject=facts.subject,
        user_id=facts.subscriber.id,
        user=user,
        event_type=ACTIVATED,
        event_data=_event(facts.subject, facts.payment.reference, facts.plan, now),
        external_id=_external_id(facts.subject, facts.evidence.undone_at),
    )


def _external_id(subject: Subject, undone_at: datetime | None) -> str:
    """Return the event's id in the application, unique per payment; after an undo a person may grant it once more.

    Providers' ids may be long, and the application's column may be short: what is too long is named by its digest.
    """
    again = "" if undone_at is None else f":{undone_at:%Y%m%dT%H%M%S%f}"
    key = subject.payment_id if subject.payment_id is not None else f"{subject.method}:{subject.reference}"
    return f"paidwatch:{key if len(key) <= LONGEST_KEY else sha256(key.encode()).hexdigest()}{again}"


def _paid_until(user: Subscriber, plan: Plan, now: datetime) -> datetime | None:
    """Return the end of the granted period, None for ever; one payment adds at most one duration."""
    same = user.paid_until_watched and user.tier_watched and user.tier == plan.id and user.revoked_at is None
    if same and user.paid_until is None and user.status_active is not False:
        return None
    start = user.paid_until if same and user.paid_until is not None else now
    return after(max(start, now), plan.duration)


def _event(subject: Subject, reference: str | None, plan: Plan, now: datetime) -> Mapping[str, EventValue]:
    """Return the event's data: the application's own fields, and where it comes from."""
    row = {} if subject.payment_id is None else {"payment_id": subject.payment_id}
    return {
        "plan_id": plan.id,
        "plan_name": plan.name or plan.id,
        "payment_reference": reference or str(subject),
        **row,
        "activated_at": now.isoformat(),
        "features": (),
        "telegram_access": True,
        "discord_access": True,
        "source": "paidwatch",
    }


def in_words(planned: Grant) -> str:
    """Say what a grant gives: `professional until 2026-12-23 12:54 UTC`."""
    until = planned.user["paid_until"]
    end = f"until {until:%Y-%m-%d %H:%M} UTC" if isinstance(until, datetime) else "for ever"
    return f"{planned.user['tier']} {end}"
