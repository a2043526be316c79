from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from paidwatch.core.model import Evidence, Facts, Gap, Phase, Plan, Rules, Settled, Waiting
from paidwatch.core.verdict import judge
from tests.core.examples import (
    ACTIVE,
    DAY,
    FREE_USER,
    GRACE,
    MINUTE,
    MISSED,
    MONTH,
    NOW,
    PAID,
    PROFESSIONAL,
    TRIAL,
    VIP,
    VIP_ACTIVE,
    case,
    verdict_of,
)

LATER = PAID + 10 * MINUTE
NULL_TIER: Mapping[str, Any] = {"tier": None, "tier_rank": None}
PRO_PAID_LATER: Mapping[str, Any] = {"newer_payment_id": "13", "newer_rank": 1, "newer_plan_id": "professional"}
VIP_PAID_LATER: Mapping[str, Any] = {"newer_payment_id": "13", "newer_rank": 2, "newer_plan_id": "vip_elite"}
VIP_PAYMENT: Mapping[str, Any] = {"plan_id": "vip_elite", "amount": Decimal("29.99")}
BANNED: Mapping[str, Any] = {"enabled": False}
NO_STATUS: Mapping[str, Any] = {"status": None, "status_active": None}
UNRANKED = Plan(id="gold", price=Decimal(10), rank=None, duration=MONTH)
NO_PLAN_WORD: Mapping[str, Any] = {"plan_id": None}

SCENARIOS: dict[str, tuple[Facts, str]] = {
    "1 missed webhook": (MISSED, "gap: paid_not_active"),
    "1 missed webhook, grace not over": (case(grace_until=NOW + MINUTE), "waiting"),
    "1 missed webhook, grace ends now": (case(grace_until=NOW), "gap: paid_not_active"),
    "2 activated within grace": (case(user=ACTIVE, grace_until=NOW + MINUTE), "settled: activated"),
    "2 activated after grace": (case(user=ACTIVE), "settled: activated"),
    "3 activated by paidwatch": (case(user=ACTIVE, evidence={"ledger_at": LATER}), "settled: fixed"),
    "6 created 3 h before it was paid": (case(payment={"created_at": PAID - 3 * DAY / 24}), "gap: paid_not_active"),
    "7 upgrade: the older payment": (case(user=VIP_ACTIVE, evidence=VIP_PAID_LATER), "settled: activated"),
    "7 upgrade: the newer payment": (
        case(payment=VIP_PAYMENT, plan=VIP, user=VIP_ACTIVE),
        "settled: activated",
    ),
    "8 both paid, none active: the older": (case(evidence=VIP_PAID_LATER), "settled: superseded"),
    "8 both paid, none active: the newer": (case(payment=VIP_PAYMENT, plan=VIP), "gap: paid_not_active"),
    "9 renewal not applied": (case(user={**ACTIVE, "paid_until": NOW + DAY}), "gap: renewal_not_applied"),
    "9 renewal applied": (case(user={**ACTIVE, "paid_until": NOW + MONTH}), "settled: activated"),
    "10 refunded before activation": (
        case(payment={"phase": Phase.REVERSED}, evidence={"reversed_at": LATER}),
        "settled: reversed",
    ),
    "10 refund, then a late finished": (case(evidence={"reversed_at": PAID - MINUTE}), "settled: reversed"),
    "10 refunded after activation": (
        case(user=ACTIVE, payment={"phase": Phase.REVERSED}, evidence={"activated_at": LATER}),
        "gap: reversed_but_active",
    ),
    "11 failed, with completed_at": (case(payment={"phase": Phase.FAILED, "status": "failed"}), "settled: left"),
    "16 half the price": (case(payment={"amount": Decimal("7.50")}), "gap: amount_mismatch"),
    "16 short by the tolerance": (case(payment={"amount": Decimal("14.8401")}), "gap: paid_not_active"),
    "16 short by more than the tolerance": (case(payment={"amount": Decimal("14.84")}), "gap: amount_mismatch"),
    "17 disabled user": (case(user=BANNED), "gap: user_missing_or_disabled"),
    "17 missing user": (case(subscriber=None), "gap: user_missing_or_disabled"),
    "17 admin": (case(user={"admin": True}), "settled: admin"),
    "17 cancelled by an administrator after it was activated": (
        case(evidence={"activated_at": PAID, "acted_at": LATER, "act": "cancelled"}),
        "settled: ended",
    ),
    "17 cancelled by an administrator before anything": (
        case(evidence={"acted_at": LATER, "act": "cancelled"}),
        "gap: paid_not_active",
    ),
}

STEPS: dict[str, tuple[Facts, str]] = {
    # 1 gone
    "gone wins over a reversal": (
        Facts(
            payment_id="12",
            payment=None,
            subscriber=FREE_USER,
            plan=PROFESSIONAL,
            paid_at=PAID,
            grace_until=GRACE,
            touched_at=LATER,
            evidence=Evidence(reversed_at=LATER),
        ),
        "settled: gone",
    ),
    # 2 reversal
    "reversed, within its grace": (
        case(user=ACTIVE, evidence={"reversed_at": NOW, "activated_at": LATER}, grace_until=NOW + MINUTE),
        "waiting",
    ),
    "reversed, seen active when the watch closed": (
        case(user=ACTIVE, evidence={"reversed_at": NOW, "settled_at": LATER}),
        "gap: reversed_but_active",
    ),
    "reversed, granted by paidwatch": (
        case(user=ACTIVE, evidence={"reversed_at": NOW, "ledger_at": LATER}),
        "gap: reversed_but_active",
    ),
    "reversed, active for another reason": (case(user=ACTIVE, evidence={"reversed_at": NOW}), "settled: reversed"),
    "reversed, covered by another payment": (
        case(user=ACTIVE, evidence={"reversed_at": NOW, "activated_at": LATER, "other_paid": True}),
        "settled: reversed",
    ),
    "reversed, access for ever": (
        case(user={**ACTIVE, "paid_until": None}, evidence={"reversed_at": NOW, "activated_at": LATER}),
        "gap: reversed_but_active",
    ),
    "reversed, no status column": (
        case(user={**ACTIVE, **NO_STATUS}, evidence={"reversed_at": NOW, "activated_at": LATER}),
        "gap: reversed_but_active",
    ),
    "reversed, a higher tier": (
        case(user=VIP_ACTIVE, evidence={"reversed_at": NOW, "activated_at": LATER}),
        "gap: reversed_but_active",
    ),
    **{
        f"reversed, but {why}": (
            case(user={**ACTIVE, **state}, evidence={"reversed_at": NOW, "activated_at": LATER}),
            "settled: reversed",
        )
        for why, state in dict[str, Mapping[str, Any]](
            {
                "banned": BANNED,
                "an administrator": {"admin": True},
                "not active": {"status_active": False},
                "free": {"tier": "free", "tier_rank": 0},
                "revoked": {"revoked_at": NOW},
                "run out": {"paid_until": NOW},
            }
        ).items()
    },
    "reversed, the user deleted": (
        case(subscriber=None, evidence={"reversed_at": NOW, "activated_at": LATER}),
        "settled: reversed",
    ),
    "reversed, a free plan": (
        case(user=ACTIVE, plan=TRIAL, evidence={"reversed_at": NOW, "activated_at": LATER}),
        "settled: reversed",
    ),
    # 3 left
    "pending again": (case(payment={"phase": Phase.PENDING}), "settled: left"),
    "a word nobody knows": (case(payment={"phase": Phase.UNKNOWN, "status": "sending"}), "settled: left"),
    # 4 administrator
    "an admin whose activation failed": (
        case(user={"admin": True}, evidence={"failed_at": LATER}),
        "settled: admin",
    ),
    # 5 nothing paid
    "a plan of rank 0": (
        case(plan=Plan(id="basic", price=None, rank=0, duration=MONTH)),
        "settled: nothing_paid",
    ),
    "a plan without a price": (
        case(plan=Plan(id="basic", price=Decimal(0), rank=None, duration=MONTH)),
        "settled: nothing_paid",
    ),
    "an amount of nothing": (case(payment={"amount": Decimal("0.00")}), "settled: nothing_paid"),
    "an unknown amount is not nothing": (case(payment={"amount": None}), "gap: paid_not_active"),
    "an amount that is no number": (case(payment={"amount": Decimal("NaN")}), "gap: paid_not_active"),
    # 6 as paid
    "active for ever": (case(user={**ACTIVE, "paid_until": None}), "settled: activated"),
    "a period short by the slack": (case(user={**ACTIVE, "paid_until": PAID + MONTH - DAY}), "settled: activated"),
    "a period short by more than the slack": (
        case(user={**ACTIVE, "paid_until": PAID + MONTH - DAY - MINUTE}),
        "gap: renewal_not_applied",
    ),
    "no paid-until column": (
        case(user={**ACTIVE, "paid_until": None, "paid_until_watched": False}),
        "settled: activated",
    ),
    "a paid-until that is not looked at": (
        case(user={**ACTIVE, "paid_until": PAID, "paid_until_watched": False}),
        "settled: activated",
    ),
    "no tier column": (
        case(user={**ACTIVE, **NULL_TIER, "tier_watched": False}),
        "settled: activated",
    ),
    "no tier column, not active": (case(user={**NULL_TIER, "tier_watched": False}), "gap: paid_not_active"),
    "no status column, as paid": (case(user={**ACTIVE, **NO_STATUS}), "settled: activated"),
    "a higher tier": (case(user=VIP_ACTIVE), "settled: activated"),
    "a tier whose rank is unknown": (case(user={**ACTIVE, "tier": "gold", "tier_rank": None}), "gap: tier_mismatch"),
    "the plan's own word, ranks unknown": (
        case(plan=UNRANKED, user={**ACTIVE, "tier": "gold", "tier_rank": None}),
        "settled: activated",
    ),
    "a ranked tier, the plan's rank unknown": (case(plan=UNRANKED, user=VIP_ACTIVE), "gap: tier_mismatch"),
    "no such plan, the same word": (case(plan=None, user={**ACTIVE, "paid_until": NOW}), "settled: activated"),
    "no such plan, another word": (case(plan=None, user=VIP_ACTIVE), "gap: tier_mismatch"),
    "no plan named, some paid tier": (case(plan=None, payment=NO_PLAN_WORD, user=VIP_ACTIVE), "settled: activated"),
    "no plan named, a tier of unknown rank": (
        case(plan=None, payment=NO_PLAN_WORD, user={**ACTIVE, "tier": "gold", "tier_rank": None}),
        "settled: activated",
    ),
    "no plan named, no tier": (
        case(plan=None, payment=NO_PLAN_WORD, user={**ACTIVE, **NULL_TIER}),
        "gap: tier_mismatch",
    ),
    # 7 ran out
    "a granted period is over, the user lapsed": (
        case(
            paid_at=NOW - 40 * DAY,
            touched_at=NOW - 9 * DAY,
            user={"paid_until": NOW - 10 * DAY},
            evidence={"activated_at": NOW - 40 * DAY},
        ),
        "settled: activated",
    ),
    "a period that paidwatch granted is over": (
        case(paid_at=NOW - 40 * DAY, touched_at=None, evidence={"ledger_at": NOW - 40 * DAY}),
        "settled: fixed",
    ),
    "a granted period is over, access was cut short": (
        case(
            paid_at=NOW - 40 * DAY,
            touched_at=NOW - 20 * DAY,
            user={"paid_until": NOW - 20 * DAY},
            evidence={"activated_at": NOW - 40 * DAY},
        ),
        "gap: paid_not_active",
    ),
    "a period is over, revoked when it ended": (
        case(
            paid_at=NOW - 40 * DAY,
            user={**ACTIVE, "paid_until": NOW - 10 * DAY, "revoked_at": NOW - 10 * DAY},
            touched_at=NOW - 40 * DAY,
        ),
        "settled: activated",
    ),
    "a period is over, revoked before it ended": (
        case(
            paid_at=NOW - 40 * DAY,
            user={**ACTIVE, "paid_until": NOW - 10 * DAY, "revoked_at": NOW - 11 * DAY},
            touched_at=NOW - 11 * DAY,
        ),
        "gap: paid_but_revoked",
    ),
    "a granted period ends now": (
        case(paid_at=NOW - MONTH, touched_at=NOW, evidence={"activated_at": NOW - MONTH}),
        "settled: activated",
    ),
    "a period is over, revoked and set inactive when it ended": (
        case(
            paid_at=NOW - 40 * DAY,
            user={**ACTIVE, "status_active": False, "paid_until": NOW - 10 * DAY, "revoked_at": NOW - 10 * DAY},
            touched_at=NOW - 40 * DAY,
        ),
        "settled: activated",
    ),
    "a period is over and revoked, the tier was never given": (
        case(
            paid_at=NOW - 40 * DAY,
            user={"paid_until": NOW - 10 * DAY, "revoked_at": NOW - 10 * DAY},
            touched_at=NOW - 40 * DAY,
        ),
        "gap: paid_but_revoked",
    ),
    "a period is over, never granted": (case(paid_at=NOW - 40 * DAY), "gap: paid_not_active"),
    # 8 ended
    "ended by an administrator who saw it granted by paidwatch": (
        case(evidence={"ledger_at": PAID, "acted_at": LATER}),
        "settled: ended",
    ),
    "undone by a person": (
        case(evidence={"settled_at": PAID, "activated_at": PAID, "undone_at": LATER}),
        "settled: ended",
    ),
    "undone, then activated once more and overwritten": (
        case(evidence={"undone_at": PAID, "activated_at": LATER}),
        "gap: paid_not_active",
    ),
    "an administrator acted before the activation": (
        case(evidence={"activated_at": LATER, "acted_at": PAID}),
        "gap: paid_not_active",
    ),
    "granted again after an administrator acted, then overwritten": (
        case(evidence={"settled_at": PAID, "acted_at": LATER, "activated_at": LATER + MINUTE}),
        "gap: paid_not_active",
    ),
    # 9 superseded
    "a renewal paid twice": (case(evidence=PRO_PAID_LATER), "settled: superseded"),
    "a smaller plan paid later": (
        case(payment=VIP_PAYMENT, plan=VIP, evidence=PRO_PAID_LATER),
        "gap: paid_not_active",
    ),
    "ranks unknown, the same plan": (
        case(plan=UNRANKED, evidence={"newer_payment_id": "13", "newer_plan_id": "gold"}),
        "settled: superseded",
    ),
    "ranks unknown, another plan": (
        case(plan=UNRANKED, evidence={"newer_payment_id": "13", "newer_plan_id": "silver", "newer_rank": 9}),
        "gap: paid_not_active",
    ),
    "no plan named by either": (
        case(plan=None, payment=NO_PLAN_WORD, evidence={"newer_payment_id": "13"}),
        "gap: paid_not_active",
    ),
    # 10 reported failure
    "the application said that it failed": (
        case(evidence={"failed_at": LATER}, grace_until=NOW + MINUTE),
        "gap: activation_failed",
    ),
    "it failed just before it was marked as paid": (
        case(evidence={"failed_at": PAID - 5 * MINUTE}, grace_until=NOW + MINUTE),
        "gap: activation_failed",
    ),
    "an earlier payment failed": (
        case(evidence={"failed_at": PAID - 6 * MINUTE}, grace_until=NOW + MINUTE),
        "waiting",
    ),
    "it failed, then an activation was recorded": (
        case(evidence={"failed_at": LATER, "granted_at": LATER + MINUTE}, grace_until=NOW + MINUTE),
        "waiting",
    ),
    "it failed after an activation": (
        case(evidence={"failed_at": LATER, "activated_at": LATER - MINUTE}, grace_until=NOW + MINUTE),
        "gap: activation_failed",
    ),
    "it failed and a newer payment covers it": (
        case(evidence={"failed_at": LATER, **VIP_PAID_LATER}),
        "settled: superseded",
    ),
    # 12, 13 what is missing
    "underpaid by nobody": (
        case(payment={"amount": Decimal(1)}, subscriber=None),
        "gap: user_missing_or_disabled",
    ),
    "underpaid by a disabled user": (
        case(payment={"amount": Decimal(1)}, user=BANNED),
        "gap: user_missing_or_disabled",
    ),
    "underpaid, price unknown": (
        case(payment={"amount": Decimal(1)}, plan=Plan(id="professional", price=None, rank=1, duration=MONTH)),
        "gap: paid_not_active",
    ),
    "a lapsed user paid again": (case(user={"revoked_at": PAID - DAY}), "gap: paid_but_revoked"),
    "activated by hand, the mark was left": (case(user={**ACTIVE, "revoked_at": PAID - DAY}), "gap: paid_but_revoked"),
    "not active, everything else as paid": (case(user={**ACTIVE, "status_active": False}), "gap: paid_not_active"),
    "active and free": (case(user={**ACTIVE, "tier": "free", "tier_rank": 0}), "gap: tier_mismatch"),
    "no status column and free": (
        case(user={**ACTIVE, **NO_STATUS, "tier": "free", "tier_rank": 0}),
        "gap: paid_not_active",
    ),
    "no status column, a lower paid tier": (
        case(user={**ACTIVE, **NO_STATUS}, plan=VIP, payment=VIP_PAYMENT),
        "gap: tier_mismatch",
    ),
    "a lower tier and a short period": (
        case(user={**ACTIVE, "paid_until": NOW}, plan=VIP, payment=VIP_PAYMENT),
        "gap: tier_mismatch",
    ),
}

OLD_MISTAKES: dict[str, tuple[Facts, str]] = {
    "created weeks before it was paid: slow crypto": (
        case(payment={"created_at": PAID - 20 * DAY}),
        "gap: paid_not_active",
    ),
    "creation time unknown": (case(payment={"created_at": None}), "gap: paid_not_active"),
    "an upgrade left an older payment behind": (
        case(evidence=VIP_PAID_LATER, user={**VIP_ACTIVE, "paid_until": PAID + 5 * DAY}),
        "settled: superseded",
    ),
    "a renewal was not applied": (case(user={**ACTIVE, "paid_until": PAID + DAY}), "gap: renewal_not_applied"),
    "the tier is NULL": (case(user={**ACTIVE, **NULL_TIER}), "gap: tier_mismatch"),
    "no grace was given": (case(grace_until=NOW + timedelta(seconds=1)), "waiting"),
    "an activation event of another payment": (case(evidence={"granted_at": LATER}), "gap: paid_not_active"),
}


@pytest.mark.parametrize(
    ("facts", "expected"), [pytest.param(*row, id=name) for name, row in (SCENARIOS | STEPS | OLD_MISTAKES).items()]
)
def test_verdict(facts: Facts, expected: str) -> None:
    assert verdict_of(facts) == expected


def test_tables_do_not_hide_each_other() -> None:
    assert len(SCENARIOS | STEPS | OLD_MISTAKES) == len(SCENARIOS) + len(STEPS) + len(OLD_MISTAKES)


def test_waiting_ends_with_the_grace() -> None:
    until = NOW + MINUTE
    assert judge(case(grace_until=until), Rules(), NOW) == Waiting(until=until)
    assert judge(case(grace_until=until, payment={"phase": Phase.REVERSED}), Rules(), NOW) == Waiting(until=until)


@pytest.mark.parametrize(
    ("facts", "at"),
    [
        pytest.param(case(user=ACTIVE, touched_at=LATER), LATER, id="the change itself"),
        pytest.param(
            case(user=ACTIVE, touched_at=PAID - DAY, evidence={"activated_at": LATER, "granted_at": NOW}),
            LATER,
            id="an old change: the event",
        ),
        pytest.param(case(user=ACTIVE, touched_at=None, evidence={"granted_at": LATER}), LATER, id="any event"),
        pytest.param(case(user=ACTIVE, touched_at=None), NOW, id="nobody saw it"),
        pytest.param(
            case(user=ACTIVE, touched_at=NOW, evidence={"ledger_at": LATER, "activated_at": PAID}),
            LATER,
            id="our own ledger",
        ),
        pytest.param(case(evidence={"reversed_at": LATER}), LATER, id="the reversal"),
        pytest.param(case(payment={"phase": Phase.FAILED}, touched_at=LATER), LATER, id="it left"),
        pytest.param(case(evidence={"activated_at": PAID, "acted_at": LATER}), LATER, id="the act"),
        pytest.param(case(payment={"amount": Decimal(0)}), PAID, id="nothing was ever owed"),
        pytest.param(
            case(paid_at=NOW - 40 * DAY, touched_at=NOW, evidence={"activated_at": NOW - 39 * DAY}),
            NOW - 39 * DAY,
            id="ran out: when it was granted, not when it ended",
        ),
    ],
)
def test_settled_says_since_when(facts: Facts, at: datetime) -> None:
    verdict = judge(facts, Rules(), NOW)
    assert isinstance(verdict, Settled)
    assert verdict.at == at


def test_rules_are_the_owners() -> None:
    short = case(user={**ACTIVE, "paid_until": PAID + MONTH - 3 * DAY})
    assert told_by(short, Rules(period_slack=3 * DAY)) == "Settled"
    assert told_by(short, Rules(period_slack=2 * DAY)) == "Gap"
    assert told_by(case(user=ACTIVE), Rules(period_slack=-DAY)) == "Settled"
    cheap = case(payment={"amount": Decimal("13.50")})
    assert isinstance(verdict := judge(cheap, Rules(amount_tolerance=Decimal("0.10")), NOW), Gap)
    assert verdict.kind == "paid_not_active"
    assert isinstance(verdict := judge(cheap, Rules(amount_tolerance=Decimal("0.09")), NOW), Gap)
    assert verdict.kind == "amount_mismatch"


def test_a_gap_carries_the_applications_own_words() -> None:
    verdict = judge(case(evidence={"failed_at": LATER, "failed_reason": "plan vip not found"}), Rules(), NOW)
    assert isinstance(verdict, Gap)
    assert verdict.detail == "plan vip not found"


def test_the_ends_of_the_calendar() -> None:
    endless = Plan(id="professional", price=Decimal("14.99"), rank=1, duration=timedelta.max)
    assert verdict_of(case(plan=endless, user=ACTIVE)) == "gap: renewal_not_applied"
    forever = {**ACTIVE, "paid_until": datetime.max.replace(tzinfo=UTC)}
    assert verdict_of(case(plan=endless, user=forever)) == "settled: activated"
    backwards = Plan(id="professional", price=Decimal("14.99"), rank=1, duration=-MONTH)
    assert verdict_of(case(plan=backwards, user={**ACTIVE, "paid_until": PAID - 2 * DAY})) == "gap: renewal_not_applied"


def told_by(facts: Facts, rules: Rules) -> str:
    return type(judge(facts, rules, NOW)).__name__
