"""What a grant writes, and that it never gives more than was paid for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.grant import Grant, plan_grant
from paidwatch.core.guards import Reason
from paidwatch.core.model import Facts, Plan, Subject, Subscriber
from tests.core.examples import (
    ACTIVE,
    DAY,
    FREE_USER,
    MISSED,
    MONTH,
    NOW,
    PROFESSIONAL,
    VIP,
    VIP_ACTIVE,
    case,
    verdict_of,
)
from tests.core.strategies import FACTS

REVOKED = {"revoked_at": NOW - DAY}


def granted(facts: Facts, now: datetime = NOW) -> Grant:
    grant = plan_grant(facts, now)
    assert isinstance(grant, Grant)
    return grant


def written(user: Subscriber, grant: Grant, plan: Plan) -> Subscriber:
    """Apply an after image to a user, as the store does."""
    until, revoked, tier = grant.user["paid_until"], grant.user["revoked_at"], grant.user["tier"]
    assert until is None or isinstance(until, datetime)
    assert revoked is None
    assert isinstance(tier, str)
    return replace(
        user,
        status_active=True,
        tier=tier,
        tier_rank=plan.rank,
        paid_until=until,
        revoked_at=revoked,
        tier_watched=True,
    )


def test_after_image() -> None:
    assert granted(MISSED).user == {
        "status": "active",
        "tier": "professional",
        "plan_id": "professional",
        "paid_until": NOW + MONTH,
        "last_paid_at": NOW,
        "touched_at": NOW,
        "revoked_at": None,
    }
    named = plan_grant(MISSED, NOW, active_word="enabled")
    assert isinstance(named, Grant)
    assert named.user["status"] == "enabled"


def test_what_webhooks_alone_tell_of_is_filed_under_the_providers_id() -> None:
    grant = granted(replace(MISSED, payment_id="", told=("nowpayments", "np-12")))
    assert grant.subject == Subject(method="nowpayments", reference="np-12")
    assert str(grant.subject) == "nowpayments np-12"
    assert grant.external_id == "paidwatch:nowpayments:np-12"
    assert grant.event_data["payment_reference"] == "np-12"
    assert "payment_id" not in grant.event_data, "another payment's row may bear that number"


def test_an_id_of_any_length_gives_an_event_id_that_fits() -> None:
    long, other = (granted(replace(MISSED, told=("stripe", "p" * 300 + end))).external_id for end in "ab")
    assert len(long) < 100
    assert long != other


def test_event_is_the_applications_own_and_names_its_payment() -> None:
    grant = granted(case(plan=replace(PROFESSIONAL, name="Professional")))
    assert (grant.subject.payment_id, grant.user_id, grant.event_type) == ("12", "7", "activated")
    assert grant.external_id == "paidwatch:12"
    assert json.loads(json.dumps(dict(grant.event_data))) == {
        "plan_id": "professional",
        "plan_name": "Professional",
        "payment_reference": "np-12",
        "payment_id": "12",
        "activated_at": "2031-05-20T12:00:00+00:00",
        "features": [],
        "telegram_access": True,
        "discord_access": True,
        "source": "paidwatch",
    }
    bare = granted(case(payment={"reference": None}))
    assert bare.event_data["payment_reference"] == "12"
    assert bare.event_data["plan_name"] == "professional"


@pytest.mark.parametrize(
    ("user", "until"),
    [
        pytest.param({}, NOW + MONTH, id="a new user: NULL is not for ever"),
        pytest.param({"tier": None, "tier_rank": None}, NOW + MONTH, id="NULL tier"),
        pytest.param({**ACTIVE, "paid_until": NOW + DAY}, NOW + DAY + MONTH, id="renewal keeps the days left"),
        pytest.param({**ACTIVE, "paid_until": NOW - DAY}, NOW + MONTH, id="lapsed"),
        pytest.param({**ACTIVE, **REVOKED, "paid_until": NOW + DAY}, NOW + MONTH, id="revoked days are gone"),
        pytest.param({**ACTIVE, "paid_until": None}, None, id="for ever stays for ever"),
        pytest.param({**ACTIVE, **REVOKED, "paid_until": None}, NOW + MONTH, id="for ever, revoked"),
        pytest.param({**ACTIVE, "paid_until": None, "status_active": False}, NOW + MONTH, id="NULL, never active"),
        pytest.param({**ACTIVE, "paid_until": None, "status_active": None}, None, id="for ever, no status column"),
        pytest.param({**ACTIVE, "paid_until_watched": False, "paid_until": None}, NOW + MONTH, id="no such column"),
        pytest.param({**ACTIVE, "tier_watched": False, "paid_until": NOW + DAY}, NOW + MONTH, id="no tier column"),
        pytest.param(
            {**ACTIVE, "paid_until": datetime.max.replace(tzinfo=UTC)},
            datetime.max.replace(tzinfo=UTC),
            id="PostgreSQL's infinity",
        ),
    ],
)
def test_paid_until(user: Mapping[str, Any], until: datetime | None) -> None:
    assert granted(case(user=user)).user["paid_until"] == until


def test_days_of_a_lower_tier_do_not_become_days_of_a_higher_one() -> None:
    upgrade = case(plan=VIP, user={**ACTIVE, "paid_until": NOW + 20 * DAY})
    assert granted(upgrade).user["paid_until"] == NOW + MONTH
    assert granted(case(plan=VIP, user={**ACTIVE, "paid_until": None})).user["paid_until"] == NOW + MONTH


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (case(user=VIP_ACTIVE), Reason.LOWER_TIER),
        (case(user={**ACTIVE, "tier": "gold", "tier_rank": None}), Reason.LOWER_TIER),
        (case(plan=replace(PROFESSIONAL, id="gold", rank=None), user=ACTIVE), Reason.LOWER_TIER),
        (case(plan=None), Reason.NO_PLAN),
        (case(subscriber=None), Reason.NO_USER),
        (replace(MISSED, payment=None), Reason.NO_PAYMENT),
    ],
)
def test_nothing_to_write(facts: Facts, reason: Reason) -> None:
    assert plan_grant(facts, NOW) is reason


@given(FACTS)
def test_never_lowers_a_tier_never_shortens_never_adds_more_than_one_period(facts: Facts) -> None:
    grant = plan_grant(facts, NOW)
    if not isinstance(grant, Grant):
        return
    user, plan = facts.subscriber, facts.plan
    assert user is not None
    assert plan is not None
    assert grant.user["tier"] == plan.id
    if user.tier_watched and user.tier is not None and user.tier != plan.id and user.tier_rank != 0:
        assert user.tier_rank is not None
        assert plan.rank is not None
        assert plan.rank >= user.tier_rank
    until = grant.user["paid_until"]
    same = user.tier_watched and user.tier == plan.id and user.revoked_at is None and user.paid_until_watched
    if until is None:
        assert same
        assert user.paid_until is None
        return
    assert isinstance(until, datetime)
    held = max(NOW, user.paid_until) if same and user.paid_until is not None else NOW
    assert held <= until
    assert plan.duration < timedelta() or until - held <= plan.duration


def test_what_was_granted_is_judged_as_fixed() -> None:
    for user in ({}, ACTIVE, {**ACTIVE, **REVOKED}, {**ACTIVE, "paid_until": NOW - DAY}, {"tier": None}):
        for plan in (PROFESSIONAL, VIP):
            facts = case(user=user, plan=plan)
            assert facts.subscriber is not None
            after = replace(facts, subscriber=written(facts.subscriber, granted(facts), plan))
            after = replace(after, evidence=replace(after.evidence, ledger_at=NOW))
            assert verdict_of(after) == "settled: fixed"


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([PROFESSIONAL, VIP])), min_size=1, max_size=12))
def test_the_sum_of_granted_time_is_at_most_the_sum_of_paid_time(purchases: list[tuple[int, Plan]]) -> None:
    now, user = NOW, FREE_USER
    paid = enjoyed = left = timedelta()
    for days, plan in purchases:
        now += days * DAY
        enjoyed += min(left, days * DAY)
        left = max(left - days * DAY, timedelta())
        grant = plan_grant(replace(MISSED, subscriber=user, plan=plan), now)
        if not isinstance(grant, Grant):
            assert (user.tier, plan.id) == ("vip_elite", "professional")
            continue
        paid += plan.duration
        user = written(user, grant, plan)
        assert user.paid_until is not None
        left = user.paid_until - now
        assert timedelta() < left
        assert enjoyed + left <= paid
