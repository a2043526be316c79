"""Facts to start from: user 7 paid 14.99 for `professional` an hour ago, the grace is over, and nothing happened."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from paidwatch.core.model import (
    Evidence,
    Facts,
    Gap,
    Payment,
    Phase,
    Plan,
    Rules,
    Settled,
    Subscriber,
    Verdict,
    Waiting,
)
from paidwatch.core.verdict import judge

NOW = datetime(2031, 5, 20, 12, 0, tzinfo=UTC)
PAID = NOW - timedelta(hours=1)
GRACE = PAID + timedelta(minutes=2)
MONTH = timedelta(days=30)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

PROFESSIONAL = Plan(id="professional", price=Decimal("14.99"), rank=1, duration=MONTH)
VIP = Plan(id="vip_elite", price=Decimal("29.99"), rank=2, duration=MONTH)
TRIAL = Plan(id="free_trial", price=Decimal("0.00"), rank=0, duration=timedelta(days=7))

PAYMENT = Payment(
    id="12",
    user_id="7",
    plan_id="professional",
    amount=Decimal("14.99"),
    currency="USD",
    method="nowpayments",
    reference="np-12",
    status="finished",
    phase=Phase.PAID,
    created_at=PAID - MINUTE,
)
FREE_USER = Subscriber(
    id="7",
    label="ada@example.org",
    enabled=True,
    admin=False,
    status="inactive",
    status_active=False,
    tier="free",
    tier_rank=0,
    tier_watched=True,
    paid_until=None,
    paid_until_watched=True,
    revoked_at=None,
)
ACTIVE: Mapping[str, Any] = {
    "status": "active",
    "status_active": True,
    "tier": "professional",
    "tier_rank": 1,
    "paid_until": PAID + MONTH,
}
"""What the application changes when it activates `professional`."""

VIP_ACTIVE: Mapping[str, Any] = {**ACTIVE, "tier": "vip_elite", "tier_rank": 2}

MISSED = Facts(
    payment_id="12",
    payment=PAYMENT,
    subscriber=FREE_USER,
    plan=PROFESSIONAL,
    paid_at=PAID,
    grace_until=GRACE,
    touched_at=PAID,
    evidence=Evidence(webhooks_watched=True),
)


def case(
    *,
    payment: Mapping[str, Any] | None = None,
    user: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Facts:
    """Return MISSED with these fields changed."""
    start = replace(
        MISSED,
        payment=replace(PAYMENT, **(payment or {})),
        subscriber=replace(FREE_USER, **(user or {})),
        evidence=replace(MISSED.evidence, **(evidence or {})),
    )
    return replace(start, **changes)


def told(verdict: Verdict) -> str:
    """Return a verdict in short: `waiting`, `settled: activated`, `gap: tier_mismatch`."""
    match verdict:
        case Waiting():
            return "waiting"
        case Settled(outcome=outcome):
            return f"settled: {outcome}"
        case Gap(kind=kind):
            return f"gap: {kind}"


def verdict_of(facts: Facts, now: datetime = NOW) -> str:
    """Judge by the default rules, in short."""
    return told(judge(facts, Rules(), now))
