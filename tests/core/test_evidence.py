"""The verdict on what webhooks tell: the order of its steps, and when a method is too silent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.cause import Cause
from paidwatch.core.evidence import (
    CALM,
    FLOOR,
    LEAST,
    Claim,
    Silence,
    Stream,
    judge,
    judge_silence,
    judge_stream,
    reference_of,
)
from paidwatch.core.model import Gap, GapKind, Outcome, Phase, Plan, Rules, Settled, Subscriber, Waiting

SEEN = datetime(2026, 11, 23, 12, tzinfo=UTC)
GRACE = timedelta(minutes=2)
NOW = SEEN + timedelta(hours=1)
RULES = Rules()
USER = Subscriber(
    id="7",
    label=None,
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
ACTIVE = replace(
    USER, status="active", status_active=True, tier="professional", tier_rank=1, paid_until=SEEN + timedelta(days=30)
)
PLAN = Plan(id="professional", price=Decimal("14.99"), rank=1, duration=timedelta(days=30))


def claim(**changes: Any) -> Claim:
    """A signed webhook said paid, a user is named, and nothing else is known."""
    usual = Claim(
        method="nowpayments",
        reference="np-1",
        grace_until=SEEN + GRACE,
        paid_at=SEEN,
        user_id="7",
        subscriber=USER,
        plan=PLAN,
        amount=Decimal("14.99"),
        currency="USD",
    )
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("changes", "kind", "cause"),
    [
        ({}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"user_id": None, "subscriber": None}, GapKind.ORPHAN_WEBHOOK, Cause.UNKNOWN_ORDER),
        ({"subscriber": None}, GapKind.ORPHAN_WEBHOOK, Cause.UNKNOWN_USER),
        ({"failed_at": SEEN}, GapKind.ORPHAN_WEBHOOK, Cause.HANDLER_FAILED),
        ({"failed_at": SEEN, "handled_at": NOW}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"repeated": True, "subscriber": ACTIVE}, GapKind.ORPHAN_WEBHOOK, Cause.REPEATED),
        ({"payment_id": "1", "phase": Phase.PENDING}, GapKind.PROVIDER_PAID_DB_PENDING, Cause.ROW_LEFT),
        ({"payment_id": "1", "phase": Phase.FAILED}, GapKind.PROVIDER_PAID_DB_PENDING, Cause.ROW_LEFT),
        ({"amount": Decimal("4.99")}, GapKind.UNDERPAID, Cause.UNDERPAID),
        ({"amount": Decimal("14.90")}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"amount": Decimal("NaN")}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"paid_at": None, "short_at": SEEN}, GapKind.UNDERPAID, Cause.SHORT),
        ({"paid_at": None, "failed_at": SEEN}, GapKind.WEBHOOK_FAILED, Cause.HANDLER_FAILED),
        ({"subscriber": replace(ACTIVE, tier_rank=0)}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"subscriber": replace(ACTIVE, revoked_at=SEEN)}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"subscriber": replace(ACTIVE, paid_until=SEEN + timedelta(days=1))}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
        ({"subscriber": replace(ACTIVE, paid_until_watched=False)}, GapKind.ORPHAN_WEBHOOK, Cause.NO_ROW),
    ],
)
def test_gaps(changes: dict[str, Any], kind: GapKind, cause: Cause) -> None:
    found = judge(claim(**changes), RULES, NOW)
    assert isinstance(found, Gap)
    assert (found.kind, found.cause) == (kind, cause)
    before_the_end = judge(claim(**changes), RULES, SEEN + GRACE - timedelta(seconds=1))
    assert before_the_end == Waiting(until=SEEN + GRACE)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"subscriber": replace(USER, admin=True)}, Outcome.ADMIN),
        ({"reversed_at": SEEN}, Outcome.REVERSED),
        ({"payment_id": "1", "phase": Phase.PAID}, Outcome.FOLLOWED),
        ({"payment_id": "1", "phase": Phase.REVERSED}, Outcome.FOLLOWED),
        ({"activated_at": SEEN}, Outcome.ACTIVATED),
        ({"subscriber": ACTIVE}, Outcome.ACTIVATED),
        ({"repeated": True, "activated_at": SEEN}, Outcome.ACTIVATED),
        ({"paid_at": None, "failed_at": SEEN, "handled_at": SEEN + GRACE}, Outcome.CLEARED),
        ({"paid_at": None}, Outcome.CLEARED),
    ],
)
def test_nothing_is_owed(changes: dict[str, Any], outcome: Outcome) -> None:
    found = judge(claim(**changes), RULES, NOW)
    assert isinstance(found, Settled)
    assert found.outcome is outcome


@given(
    at=st.sampled_from([None, SEEN, NOW]),
    phase=st.sampled_from([None, *Phase]),
    user=st.sampled_from([None, USER, ACTIVE]),
    amount=st.sampled_from([None, Decimal(0), Decimal("14.99"), Decimal("Infinity")]),
    repeated=st.booleans(),
)
def test_money_is_never_forgotten(
    at: datetime | None, phase: Phase | None, user: Subscriber | None, amount: Decimal | None, *, repeated: bool
) -> None:
    """Signed and paid, without a row that says so, an activation or access: always a gap, whatever else is odd."""
    odd = claim(
        failed_at=at,
        handled_at=at,
        phase=phase,
        payment_id=None if phase is None else "1",
        subscriber=user,
        amount=amount,
        repeated=repeated,
    )
    owed = phase not in {Phase.PAID, Phase.REVERSED} and (user is not ACTIVE or repeated)
    assert isinstance(judge(odd, RULES, NOW), Gap) is owed


def test_what_is_counted_is_over_when_none_came_for_an_hour() -> None:
    stream = Stream(kind=GapKind.WEBHOOK_BAD_SIGNATURE, count=3, last_at=SEEN)
    assert isinstance(judge_stream(stream, SEEN + CALM - timedelta(seconds=1)), Gap)
    assert isinstance(judge_stream(stream, SEEN + CALM), Settled)


def silence(**changes: Any) -> Silence:
    usual = Silence(
        last_at=SEEN, pauses=LEAST, usual=timedelta(minutes=1), asked_at=SEEN + timedelta(minutes=10), asked=2
    )
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("known", "silent_after"),
    [
        (silence(), timedelta(minutes=10) + FLOOR),
        (silence(usual=timedelta(hours=1)), timedelta(minutes=10) + timedelta(hours=6)),
        (silence(asked_at=None), None),
        (silence(pauses=LEAST - 1), None),
        (silence(usual=None), None),
        (silence(last_at=None), None),
    ],
)
def test_silence_counts_from_the_first_payment_that_nobody_answered(
    known: Silence, silent_after: timedelta | None
) -> None:
    late = judge_silence(known, SEEN + timedelta(days=30))
    if silent_after is None:
        assert isinstance(late, Settled)
        return
    assert isinstance(late, Gap)
    assert judge_silence(known, SEEN) == Waiting(until=SEEN + silent_after)
    assert isinstance(judge_silence(known, SEEN + silent_after), Gap)


def test_a_single_payment_that_nobody_answered_may_be_a_checkout_that_was_left() -> None:
    late = SEEN + timedelta(hours=5)
    assert judge_silence(silence(asked=1), late) == Waiting(until=late + FLOOR)
    assert isinstance(judge_silence(silence(asked=2), late), Gap)


@pytest.mark.parametrize(
    ("filed", "shown"), [(None, ""), ("", ""), ("?", ""), ("!", ""), ("#12", ""), ("np-1", "np-1")]
)
def test_only_the_providers_ids_are_shown(filed: str | None, shown: str) -> None:
    assert reference_of(filed) == shown
