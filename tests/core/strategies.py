"""Facts of every shape, also those that no application should produce."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import strategies as st

from paidwatch.core.model import Evidence, Facts, Payment, Phase, Plan, Rules, Subscriber
from tests.core.examples import ACTIVE, FREE_USER, GRACE, NOW, PAID, PAYMENT, PROFESSIONAL

WORDS = st.sampled_from([None, "free", "professional", "vip_elite", "gold"])
RANKS = st.sampled_from([None, 0, 1, 2])
MOMENTS = st.integers(-90 * 24 * 60, 90 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes))
NEAR = st.integers(-90, 90).map(lambda minutes: NOW + timedelta(minutes=minutes))
MAYBE = st.none() | MOMENTS | NEAR
AMOUNTS = st.none() | st.sampled_from([Decimal(text) for text in ("0", "-1", "7", "14.84", "14.99", "29.99", "NaN")])
TEXTS = st.none() | st.sampled_from(["failed", "received", "cancelled"])

PAYMENTS = st.builds(
    Payment,
    id=st.just("12"),
    user_id=st.just("7"),
    plan_id=WORDS,
    amount=AMOUNTS,
    currency=st.just("USD"),
    method=st.just("nowpayments"),
    reference=st.none() | st.just("np-12"),
    status=st.sampled_from([None, "pending", "confirmed", "finished", "refunded"]),
    phase=st.sampled_from(Phase) | st.just(Phase.PAID),
    created_at=MAYBE,
)
USERS = st.builds(
    Subscriber,
    id=st.just("7"),
    label=st.none(),
    enabled=st.booleans(),
    admin=st.booleans(),
    status=st.none(),
    status_active=st.sampled_from([None, True, False]),
    tier=WORDS,
    tier_rank=RANKS,
    tier_watched=st.booleans(),
    paid_until=MAYBE,
    paid_until_watched=st.booleans(),
    revoked_at=st.none() | MAYBE,
)
PLANS = st.builds(
    Plan,
    id=st.sampled_from(["free", "professional", "vip_elite", "gold"]),
    price=AMOUNTS,
    rank=RANKS,
    duration=st.sampled_from([timedelta(days=days) for days in (-1, 0, 1, 7, 30, 999_999_999)]),
)
EVIDENCE = st.builds(
    Evidence,
    reversed_at=st.none() | MAYBE,
    settled_at=MAYBE,
    activated_at=MAYBE,
    granted_at=MAYBE,
    failed_at=MAYBE,
    failed_reason=TEXTS,
    acted_at=MAYBE,
    act=TEXTS,
    ledger_at=MAYBE,
    undone_at=st.none() | MAYBE,
    newer_payment_id=st.none() | st.just("13"),
    newer_rank=RANKS,
    newer_plan_id=WORDS,
    other_paid=st.booleans(),
    webhook_at=MAYBE,
    webhook_status=TEXTS,
    webhook_error=TEXTS,
    webhook_valid=st.sampled_from([None, True, False]),
    webhook_paid=st.sampled_from([None, True, False]),
    webhooks_watched=st.booleans(),
)
CLUES = ("reversed_at", "settled_at", "activated_at", "granted_at", "failed_at", "acted_at", "ledger_at", "undone_at")


def only(clue: str) -> st.SearchStrategy[Evidence]:
    """One moment of evidence, and nothing else: the rules then meet one at a time."""
    return MOMENTS.map(lambda moment: replace(Evidence(), **{clue: moment}))  # type: ignore[arg-type]


ACTIVE_USER = replace(FREE_USER, **ACTIVE)
FACTS = st.builds(
    Facts,
    payment_id=st.just("12"),
    payment=st.just(PAYMENT) | PAYMENTS | st.none(),
    subscriber=st.sampled_from([FREE_USER, ACTIVE_USER]) | USERS | st.none(),
    plan=st.just(PROFESSIONAL) | PLANS | st.none(),
    paid_at=st.just(PAID) | MOMENTS | NEAR,
    grace_until=st.just(GRACE) | MOMENTS | NEAR,
    touched_at=MAYBE,
    evidence=st.just(Evidence()) | st.sampled_from(CLUES).flatmap(only) | EVIDENCE,
)
RULES = st.builds(
    Rules,
    period_slack=st.sampled_from([timedelta(), timedelta(hours=24)]),
    amount_tolerance=st.sampled_from([Decimal(0), Decimal("0.01"), Decimal(1)]),
)
