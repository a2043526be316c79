"""Access, and what was paid for: how far the one falls short of the other, and what else is known about both."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from paidwatch.core.model import Facts, Payment, Phase, Plan, Rules, Subscriber

FAR = datetime.max.replace(tzinfo=UTC)
"""Stands for a moment beyond what a datetime can hold."""


class Shortfall(StrEnum):
    """One way in which a user's access is less than what was paid for, the gravest first."""

    USER_MISSING = "user_missing"
    USER_DISABLED = "user_disabled"
    REVOKED = "revoked"
    INACTIVE = "inactive"
    TIER = "tier"
    PERIOD = "period"


def shortfalls(facts: Facts, rules: Rules) -> tuple[Shortfall, ...]:
    """Return every way in which access is less than what was paid for, the gravest first; none means: as paid.

    Columns that the application does not have are not looked at.
    """
    user = facts.subscriber
    if user is None:
        return (Shortfall.USER_MISSING,)
    found = {
        Shortfall.USER_DISABLED: not user.enabled,
        Shortfall.REVOKED: user.revoked_at is not None,
        Shortfall.INACTIVE: user.status_active is False,
        Shortfall.TIER: not covers_tier(facts, user),
        Shortfall.PERIOD: not _covers_period(facts, user, rules),
    }
    return tuple(shortfall for shortfall, short in found.items() if short)


def covers_tier(facts: Facts, user: Subscriber) -> bool:
    """Say whether the tier is at least the plan; NULL is the lowest tier.

    Where a rank is unknown only the same word counts. A payment that names no plan is content with any tier above
    free: what was bought is not known, and a shop without a plan column must not be one lasting alarm.
    """
    bought = plan_word(facts)
    if not user.tier_watched:
        return True
    held = held_rank(user)
    if bought is None:
        return held != 0
    if user.tier == bought:
        return True
    return facts.plan is not None and facts.plan.rank is not None and held is not None and held >= facts.plan.rank


def _covers_period(facts: Facts, user: Subscriber, rules: Rules) -> bool:
    """Say whether paid-until reaches the end of the paid period, less the slack; None is for ever."""
    if not user.paid_until_watched or user.paid_until is None or facts.plan is None:
        return True
    return user.paid_until >= before(after(facts.paid_at, facts.plan.duration), rules.period_slack)


def is_reversed(facts: Facts) -> bool:
    """Say whether the payment was ever taken back; once seen it stays so, whatever status comes later."""
    return facts.evidence.reversed_at is not None or (
        facts.payment is not None and facts.payment.phase is Phase.REVERSED
    )


def was_granted(facts: Facts) -> bool:
    """Say whether access was once given for this very payment; an event for another payment proves nothing."""
    seen = facts.evidence
    return seen.settled_at is not None or seen.activated_at is not None or seen.ledger_at is not None


def is_free(payment: Payment, plan: Plan | None) -> bool:
    """Say whether no money is at stake: a free plan, or nothing paid. An unknown amount is not nothing."""
    amount = money(payment.amount)
    price = money(plan.price) if plan is not None else None
    return (
        (amount is not None and amount <= 0)
        or (plan is not None and plan.rank == 0)
        or (price is not None and price <= 0)
    )


def is_underpaid(payment: Payment, plan: Plan | None, rules: Rules) -> bool:
    """Say whether the amount is known to be below the price less the tolerance."""
    amount = money(payment.amount)
    price = money(plan.price) if plan is not None else None
    return amount is not None and price is not None and amount < price * (1 - rules.amount_tolerance)


def money(value: Decimal | None) -> Decimal | None:
    """Return an amount that can be compared; PostgreSQL's NaN and infinity count as unknown."""
    return value if value is not None and value.is_finite() else None


def after(moment: datetime, span: timedelta) -> datetime:
    """Return the moment `span` later, FAR beyond the calendar's end; a negative span counts as none."""
    try:
        return moment + max(span, timedelta())
    except OverflowError:
        return FAR


def before(moment: datetime, span: timedelta) -> datetime:
    """Return the moment `span` earlier; a negative span counts as none, and so does one beyond the calendar's start."""
    try:
        return moment - max(span, timedelta())
    except OverflowError:
        return moment


def held_rank(user: Subscriber) -> int | None:
    """Return the tier's rank; NULL is the lowest."""
    return 0 if user.tier is None else user.tier_rank


def plan_word(facts: Facts) -> str | None:
    """Return the word of the plan that was bought."""
    if facts.plan is not None:
        return facts.plan.id
    return facts.payment.plan_id if facts.payment is not None else None
