"""Every guard alone stands between a bad grant and the database.

Each row of BAD is refused by one guard only. That guard is then replaced by one that says yes: the same request is
allowed. So no row passes its test because of another guard, and no guard can be taken out unnoticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core import guards
from paidwatch.core.guards import (
    Actor,
    Guard,
    Limits,
    Mode,
    Reason,
    Request,
    Usage,
    allowed,
    allowed_but_for_mode,
    evaluate,
    override,
    refusals,
)
from paidwatch.core.model import Facts, Phase, Rules, Subscriber
from tests.core.examples import (
    ACTIVE,
    DAY,
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
)
from tests.core.strategies import FACTS

REQUEST = Request(
    actor=Actor.AUTO,
    mode=Mode.AUTO,
    auto_words=frozenset({"completed", "finished", "paid"}),
    max_age=timedelta(hours=72),
    max_amount=Decimal(100),
    require_corroboration=True,
    corroborated=True,
)
LIMITS = Limits(
    max_per_hour=5, max_per_day=20, max_per_user_day=1, usage=Usage(last_hour=4, last_day=19, user_last_day=0)
)


@dataclass(frozen=True, kw_only=True)
class Bad:
    guard: Guard
    reason: Reason
    facts: Facts = MISSED
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    breaker_open: bool = False

    def results(self, **request: Any) -> tuple[guards.GuardResult, ...]:
        limits = replace(LIMITS, usage=replace(LIMITS.usage, **self.usage), breaker_open=self.breaker_open)
        return evaluate(self.facts, replace(REQUEST, **{**self.request, **request}), limits, NOW)


SIGNED = {"webhook_at": PAID, "webhook_valid": True, "webhook_paid": True}
UNSURE = {"corroborated": None}
TOLD: Mapping[str, Any] = {"payment_id": "", "told": ("nowpayments", "np-12")}
"""There is no row: a webhook alone tells of the money."""

BAD: dict[str, Bad] = {
    "confirmed is paid, but not final": Bad(
        guard=Guard.FINAL, reason=Reason.NOT_FINAL, facts=case(payment={"status": "confirmed"})
    ),
    "not paid": Bad(guard=Guard.FINAL, reason=Reason.NOT_FINAL, facts=case(payment={"phase": Phase.PENDING})),
    "no status": Bad(guard=Guard.FINAL, reason=Reason.NOT_FINAL, facts=case(payment={"status": None})),
    "in grace": Bad(guard=Guard.FINAL, reason=Reason.IN_GRACE, facts=case(grace_until=NOW + MINUTE)),
    "reversed before it was paid": Bad(
        guard=Guard.NOT_REVERSED, reason=Reason.REVERSED, facts=case(evidence={"reversed_at": PAID - DAY})
    ),
    "a newer payment": Bad(
        guard=Guard.NEWEST, reason=Reason.NEWER_PAID, facts=case(evidence={"newer_payment_id": "13"})
    ),
    "a higher tier that lapsed": Bad(
        guard=Guard.NEWEST, reason=Reason.LOWER_TIER, facts=case(user={**VIP_ACTIVE, "paid_until": PAID})
    ),
    "a tier of unknown rank": Bad(
        guard=Guard.NEWEST, reason=Reason.LOWER_TIER, facts=case(user={"tier": "gold", "tier_rank": None})
    ),
    "a plan of unknown rank": Bad(
        guard=Guard.NEWEST,
        reason=Reason.LOWER_TIER,
        facts=case(plan=replace(PROFESSIONAL, id="silver", rank=None), user=ACTIVE),
    ),
    "the period is over": Bad(
        guard=Guard.OPEN_PERIOD,
        reason=Reason.PERIOD_OVER,
        facts=case(plan=replace(PROFESSIONAL, duration=timedelta(hours=1))),
    ),
    "too old": Bad(
        guard=Guard.OPEN_PERIOD, reason=Reason.TOO_OLD, facts=case(paid_at=NOW - timedelta(hours=72, seconds=1))
    ),
    "no such plan": Bad(guard=Guard.PRICE, reason=Reason.NO_PLAN, facts=case(plan=None)),
    "a free plan": Bad(guard=Guard.PRICE, reason=Reason.FREE, facts=case(plan=TRIAL)),
    "price unknown": Bad(
        guard=Guard.PRICE, reason=Reason.PRICE_UNKNOWN, facts=case(plan=replace(PROFESSIONAL, price=None))
    ),
    "underpaid": Bad(guard=Guard.PRICE, reason=Reason.UNDERPAID, facts=case(payment={"amount": Decimal("14.84")})),
    "the price of the smaller plan": Bad(guard=Guard.PRICE, reason=Reason.UNDERPAID, facts=case(plan=VIP)),
    "amount unknown": Bad(
        guard=Guard.PRICE,
        reason=Reason.AMOUNT_UNKNOWN,
        facts=case(payment={"amount": None}),
        request={"max_amount": None},
    ),
    "amount no number": Bad(
        guard=Guard.PRICE,
        reason=Reason.AMOUNT_UNKNOWN,
        facts=case(payment={"amount": Decimal("NaN")}),
        request={"max_amount": None},
    ),
    "no such user": Bad(guard=Guard.USER, reason=Reason.NO_USER, facts=case(subscriber=None)),
    "banned": Bad(guard=Guard.USER, reason=Reason.USER_DISABLED, facts=case(user={"enabled": False})),
    "an administrator": Bad(guard=Guard.USER, reason=Reason.USER_ADMIN, facts=case(user={"admin": True})),
    "cancelled by an administrator": Bad(
        guard=Guard.USER, reason=Reason.ADMIN_ACTED, facts=case(evidence={"acted_at": NOW, "act": "cancelled"})
    ),
    "a signed webhook says that the money went back": Bad(
        guard=Guard.NOT_REVERSED, reason=Reason.REVERSED, facts=case(evidence={"webhook_reversed_at": NOW})
    ),
    "an event names the payment": Bad(
        guard=Guard.NOT_DONE, reason=Reason.DONE, facts=case(evidence={"activated_at": PAID})
    ),
    "in our ledger": Bad(guard=Guard.NOT_DONE, reason=Reason.DONE_HERE, facts=case(evidence={"ledger_at": PAID})),
    "undone by a person": Bad(
        guard=Guard.NOT_DONE,
        reason=Reason.UNDONE,
        facts=case(evidence={"undone_at": NOW, "activated_at": PAID, "settled_at": PAID}),
    ),
    "seen active before": Bad(guard=Guard.NOT_DONE, reason=Reason.DONE, facts=case(evidence={"settled_at": PAID})),
    "some activation since": Bad(
        guard=Guard.NOT_DONE, reason=Reason.GRANTED_SINCE, facts=case(evidence={"granted_at": PAID})
    ),
    "active without any event": Bad(guard=Guard.NOT_DONE, reason=Reason.AS_PAID, facts=case(user=ACTIVE)),
    "nobody asked the provider": Bad(guard=Guard.CORROBORATED, reason=Reason.NOT_CORROBORATED, request=UNSURE),
    "a webhook with a bad signature": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.NOT_CORROBORATED,
        facts=case(evidence={**SIGNED, "webhook_valid": False}),
        request=UNSURE,
    ),
    "a signed webhook that is not final": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.NOT_CORROBORATED,
        facts=case(evidence={**SIGNED, "webhook_paid": False}),
        request=UNSURE,
    ),
    "the provider says no": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.CONTRADICTED,
        facts=case(evidence=SIGNED),
        request={"corroborated": False, "require_corroboration": False},
    ),
    "off": Bad(guard=Guard.MODE, reason=Reason.MODE_OFF, request={"mode": Mode.OFF}),
    "shadow": Bad(guard=Guard.MODE, reason=Reason.MODE_SHADOW, request={"mode": Mode.SHADOW}),
    "told by a webhook, long after the order": Bad(
        guard=Guard.OPEN_PERIOD,
        reason=Reason.TOO_OLD,
        facts=replace(case(payment={"created_at": NOW - timedelta(hours=73)}, evidence=SIGNED), **TOLD),
    ),
    "told by a webhook, after the period": Bad(
        guard=Guard.OPEN_PERIOD,
        reason=Reason.PERIOD_OVER,
        facts=replace(case(payment={"created_at": NOW - MONTH}, evidence=SIGNED), **TOLD),
    ),
    "told by a webhook that does not say since when": Bad(
        guard=Guard.OPEN_PERIOD,
        reason=Reason.AGE_UNKNOWN,
        facts=replace(case(payment={"created_at": None}, evidence=SIGNED), **TOLD),
    ),
    "told by a webhook alone": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.NOT_CONFIRMED,
        facts=replace(case(evidence=SIGNED), **TOLD),
        request=UNSURE,
    ),
    "told by a webhook alone, and nobody needs a second witness": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.NOT_CONFIRMED,
        facts=replace(case(evidence=SIGNED), **TOLD),
        request=UNSURE | {"require_corroboration": False},
    ),
    "told by the provider alone, without a signed webhook": Bad(
        guard=Guard.CORROBORATED, reason=Reason.NOT_CORROBORATED, facts=replace(MISSED, **TOLD)
    ),
    "told by a webhook, and the provider says no": Bad(
        guard=Guard.CORROBORATED,
        reason=Reason.CONTRADICTED,
        facts=replace(case(evidence=SIGNED), **TOLD),
        request={"corroborated": False},
    ),
    "told, and not in a word that is final": Bad(
        guard=Guard.FINAL,
        reason=Reason.NOT_FINAL,
        facts=replace(case(payment={"phase": Phase.PENDING}, evidence=SIGNED), **TOLD),
    ),
    "supervised": Bad(guard=Guard.MODE, reason=Reason.MODE_SUPERVISED, request={"mode": Mode.SUPERVISED}),
    "hour full": Bad(guard=Guard.CAPS, reason=Reason.HOUR_FULL, usage={"last_hour": 5}),
    "day full": Bad(guard=Guard.CAPS, reason=Reason.DAY_FULL, usage={"last_day": 20}),
    "user full": Bad(guard=Guard.CAPS, reason=Reason.USER_FULL, usage={"user_last_day": 1}),
    "too much money": Bad(guard=Guard.CAPS, reason=Reason.TOO_MUCH, facts=case(payment={"amount": Decimal("100.01")})),
    "breaker open": Bad(guard=Guard.BREAKER, reason=Reason.BREAKER_OPEN, breaker_open=True),
}

EVERY_BAD = [pytest.param(bad, id=name) for name, bad in BAD.items()]
PASSING = {Reason.HOLDS, Reason.BY_HAND, Reason.FORCED}
NOT_FOR_PEOPLE = {Guard.MODE, Guard.CAPS, Guard.BREAKER}


@pytest.mark.parametrize("bad", EVERY_BAD)
def test_one_guard_refuses(bad: Bad) -> None:
    results = bad.results()
    assert [(result.guard, result.reason) for result in refusals(results)] == [(bad.guard, bad.reason)]
    assert not allowed(results)


@pytest.mark.parametrize("bad", EVERY_BAD)
def test_without_that_guard_the_bad_grant_would_be_allowed(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    weakened = tuple((guard, (lambda *_: Reason.HOLDS) if guard is bad.guard else ask) for guard, ask in guards.GUARDS)
    monkeypatch.setattr(guards, "GUARDS", weakened)
    assert allowed(bad.results())


def test_every_guard_and_every_reason_has_its_bad_case() -> None:
    assert {bad.guard for bad in BAD.values()} == set(Guard)
    assert {bad.reason for bad in BAD.values()} == set(Reason) - PASSING - {Reason.NO_PAYMENT}


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(MISSED, id="missed webhook"),
        pytest.param(case(grace_until=NOW), id="the grace ends now"),
        pytest.param(case(paid_at=NOW - timedelta(hours=72)), id="just young enough"),
        pytest.param(case(payment={"amount": Decimal("14.8401")}), id="within the tolerance"),
        pytest.param(case(payment={"amount": Decimal(100)}), id="just below the cap"),
        pytest.param(case(user={"tier": None, "tier_rank": None}), id="NULL tier"),
        pytest.param(case(user={**ACTIVE, "paid_until": NOW + DAY}), id="renewal"),
        pytest.param(case(user={**ACTIVE, "revoked_at": PAID - DAY}), id="revoked long ago"),
        pytest.param(case(plan=VIP, payment={"amount": Decimal("29.99")}, user=ACTIVE), id="upgrade"),
        pytest.param(case(plan=replace(PROFESSIONAL, rank=None)), id="a plan of unknown rank for a free user"),
        pytest.param(
            case(user={"tier": "professional", "tier_rank": None}, plan=replace(PROFESSIONAL, rank=None)),
            id="ranks unknown, the same word",
        ),
        pytest.param(case(user={"tier_watched": False, "tier": None, "tier_rank": None}), id="no tier column"),
        pytest.param(
            case(user={"tier_watched": False, "tier": "vip_elite", "tier_rank": 2}), id="a tier that is not looked at"
        ),
        pytest.param(
            case(user={"tier": "plus", "tier_rank": 1}, plan=PROFESSIONAL), id="another word of the same rank"
        ),
        pytest.param(case(evidence={"failed_at": NOW}), id="the application said that it failed"),
        pytest.param(
            replace(case(payment={"status": "PAY_SUCCESS"}, evidence=SIGNED), **TOLD),
            id="told by a signed webhook, whatever its word, and confirmed by the provider",
        ),
    ],
)
def test_good_grants_are_allowed(facts: Facts) -> None:
    results = evaluate(facts, REQUEST, LIMITS, NOW)
    assert not refusals(results)
    assert allowed(results)
    assert [result.guard for result in results] == list(Guard)


@pytest.mark.parametrize(
    ("request_changes", "evidence"),
    [
        ({"corroborated": True}, {}),
        ({"corroborated": None}, SIGNED),
        ({"corroborated": None, "require_corroboration": False}, {}),
    ],
)
def test_a_second_witness(request_changes: Mapping[str, Any], evidence: Mapping[str, Any]) -> None:
    assert allowed(evaluate(case(evidence=evidence), replace(REQUEST, **request_changes), LIMITS, NOW))


@pytest.mark.parametrize(
    ("actor", "facts", "changes", "reason"),
    [
        pytest.param(Actor.MANUAL, MISSED, UNSURE, Reason.BY_HAND, id="nobody confirms it to a person"),
        pytest.param(
            Actor.MANUAL,
            case(evidence={**SIGNED, "webhook_valid": False}),
            UNSURE,
            Reason.BY_HAND,
            id="a bad signature confirms nothing to a person",
        ),
        pytest.param(Actor.MANUAL, case(evidence=SIGNED), UNSURE, Reason.HOLDS, id="signed, for a person"),
        pytest.param(Actor.MANUAL, MISSED, {"corroborated": True}, Reason.HOLDS, id="confirmed, for a person"),
        pytest.param(Actor.MANUAL, MISSED, {"corroborated": False}, Reason.CONTRADICTED, id="denied, for a person"),
        pytest.param(
            Actor.MANUAL,
            replace(case(evidence=SIGNED), **TOLD),
            UNSURE,
            Reason.HOLDS,
            id="told by a signed webhook, and a person is the second witness",
        ),
        pytest.param(
            Actor.MANUAL,
            replace(MISSED, **TOLD),
            UNSURE,
            Reason.NOT_CORROBORATED,
            id="told without a signed webhook, whoever asks",
        ),
        pytest.param(Actor.AUTO, MISSED, UNSURE, Reason.HOLDS, id="the machine, by the owner's choice"),
        pytest.param(Actor.LINK, MISSED, UNSURE, Reason.HOLDS, id="a link, by the owner's choice"),
    ],
)
def test_what_nobody_confirmed_is_not_said_to_hold_for_a_person(
    actor: Actor, facts: Facts, changes: Mapping[str, Any], reason: Reason
) -> None:
    request = replace(REQUEST, actor=actor, require_corroboration=False, **changes)
    answers = {result.guard: result for result in evaluate(facts, request, LIMITS, NOW)}
    assert answers[Guard.CORROBORATED].reason is reason
    assert answers[Guard.CORROBORATED].passed is (reason in PASSING)


@pytest.mark.parametrize("bad", EVERY_BAD)
@pytest.mark.parametrize("actor", [Actor.MANUAL, Actor.LINK])
def test_a_person_passes_mode_caps_and_breaker_and_nothing_else(bad: Bad, actor: Actor) -> None:
    results = bad.results(actor=actor)
    # At a command they are the second witness of what a signed webhook tells; behind a link they have seen no money.
    witness = bad.reason is Reason.NOT_CONFIRMED and actor is Actor.MANUAL
    assert allowed(results) == (bad.guard in NOT_FOR_PEOPLE or witness)
    assert {result.guard for result in results if result.reason is Reason.BY_HAND} == NOT_FOR_PEOPLE


@pytest.mark.parametrize("bad", EVERY_BAD)
def test_a_person_overrides_the_guard_they_name_and_no_other(bad: Bad) -> None:
    results = bad.results()
    forced = override(results, frozenset({bad.guard}))
    nothing_to_write = bad.reason in {Reason.NO_PLAN, Reason.NO_USER, Reason.LOWER_TIER, Reason.AS_PAID}
    may = bad.guard not in NOT_FOR_PEOPLE and not nothing_to_write and bad.reason is not Reason.DONE_HERE
    assert allowed(forced) is may
    assert [result.guard for result in forced if result.reason is Reason.FORCED] == ([bad.guard] if may else [])
    assert override(results, frozenset(Guard) - {bad.guard}) == results


def test_what_holds_is_not_forced() -> None:
    results = evaluate(MISSED, REQUEST, LIMITS, NOW)
    assert override(results, frozenset(Guard)) == results


def test_the_ledgers_names_of_those_who_ask() -> None:
    assert [Actor.of(name) for name in ("auto", "link:ops", "cli:kim", "cli:auto", "")] == [
        Actor.AUTO,
        Actor.LINK,
        Actor.MANUAL,
        Actor.MANUAL,
        Actor.MANUAL,
    ]


def test_shadow_mode_computes_what_auto_would_do() -> None:
    for mode in (Mode.OFF, Mode.SHADOW, Mode.SUPERVISED):
        results = evaluate(MISSED, replace(REQUEST, mode=mode), LIMITS, NOW)
        assert allowed_but_for_mode(results)
        assert not allowed(results)
    for bad in BAD.values():
        if bad.guard is not Guard.MODE:
            assert not allowed_but_for_mode(bad.results(mode=Mode.SHADOW))


def test_a_guard_that_was_not_asked_refuses() -> None:
    results = evaluate(MISSED, REQUEST, LIMITS, NOW)
    assert not allowed(())
    assert not allowed_but_for_mode(())
    for missing in results:
        rest = tuple(result for result in results if result is not missing)
        assert not allowed(rest)
        assert allowed_but_for_mode(rest) == (missing.guard is Guard.MODE)


def test_a_deleted_payment_is_refused_and_every_guard_still_answers() -> None:
    results = evaluate(replace(MISSED, payment=None), REQUEST, LIMITS, NOW)
    assert len(results) == len(Guard)
    assert {result.guard for result in results if result.reason is Reason.NO_PAYMENT} == {Guard.FINAL, Guard.PRICE}


def test_an_unknown_amount_is_above_every_cap() -> None:
    results = evaluate(case(payment={"amount": None}), REQUEST, LIMITS, NOW)
    assert {result.reason for result in refusals(results)} == {Reason.AMOUNT_UNKNOWN, Reason.TOO_MUCH}


def test_tolerance_and_slack_are_the_owners() -> None:
    cheap = case(payment={"amount": Decimal("13.50")})
    assert not allowed(evaluate(cheap, REQUEST, LIMITS, NOW))
    assert allowed(evaluate(cheap, replace(REQUEST, rules=Rules(amount_tolerance=Decimal("0.10"))), LIMITS, NOW))
    short = case(user={**ACTIVE, "paid_until": PAID + MONTH - 3 * DAY})
    assert allowed(evaluate(short, REQUEST, LIMITS, NOW))
    assert not allowed(evaluate(short, replace(REQUEST, rules=Rules(period_slack=3 * DAY)), LIMITS, NOW))


@given(FACTS, st.sampled_from(Actor))
def test_what_is_allowed_was_paid_and_not_given(facts: Facts, actor: Actor) -> None:
    if not allowed(evaluate(facts, replace(REQUEST, actor=actor), LIMITS, NOW)):
        return
    payment, user, plan, seen = facts.payment, facts.subscriber, facts.plan, facts.evidence
    assert payment is not None
    assert payment.phase is Phase.PAID
    assert payment.status == "finished"
    assert isinstance(user, Subscriber)
    assert user.enabled
    assert not user.admin
    assert plan is not None
    assert plan.price is not None
    assert payment.amount is not None
    assert payment.amount >= plan.price * Decimal("0.99") > 0
    assert facts.grace_until <= NOW < facts.paid_at + min(plan.duration, timedelta(days=1000))
    acts = (seen.reversed_at, seen.acted_at, seen.undone_at)
    assert not any(acts)
    assert not any((seen.ledger_at, seen.activated_at, seen.granted_at, seen.settled_at))
    assert seen.newer_payment_id is None
