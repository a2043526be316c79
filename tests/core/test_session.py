"""Which ids are told about, and what is said of a payment."""

import string
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.access import is_reversed, shortfalls
from paidwatch.core.model import Facts, Gap, Outcome, Phase, Rules, Settled
from paidwatch.core.orders import parse
from paidwatch.core.session import State, asked, see, sign
from paidwatch.core.verdict import judge
from paidwatch.core.webhook import Order
from tests.core.examples import ACTIVE, DAY, MINUTE, MISSED, NOW, PAID, case
from tests.core.strategies import FACTS, NEAR, RULES

KEY = "0123456789abcdef0123456789abcdef"
ORDER = "winu_sub_7_vip_elite_1732000000"


@pytest.mark.parametrize(
    "id_",
    [
        "5745459419",
        "29383937493038367292",
        "4400000000000",
        "cs_test_a1b2c3d4e5f6",
        "pi_3MtwBwLkdIwHu7ix28a3tqPa",
        "tr_7UhSN1zuXS",
        "66BEOV2A9Q",
        "0xb5c8bd9430b6cc87a0e2fe110ece6bf527fa4f170a4bc8cd032f768fc5219838",
        "12345678-1234-1234-1234-123456789012",
        "nobody-knows-it",
        "0d5b2a5e-7b77-4a3f-9b1e-1a2b3c4d5e6f",
        "a" * 255,
        "{CHECKOUT_SESSION_ID}",
        "a/b+c=d&e?f%20g",
    ],
)
def test_random_ids_are_taken_as_they_are(id_: str) -> None:
    found = asked(id_, "", KEY, parse)
    assert found is not None
    assert (found.id, found.signed, found.order) == (id_, False, None)
    assert asked(id_, "not a signature", "", parse) == found


@pytest.mark.parametrize(
    "id_",
    [
        "12",
        "1",
        "123456789",
        "np-12",
        "ORD-0001",
        ORDER,
        ORDER.upper(),
        ORDER.replace("winu", "shop"),
        "1732000000",
        "1732000000123",
        "1732000000123456",
        "20261123204512",
        "2026112320",
        "order_1001",
        "Order1001",
        "np-payment-77",
        "INV-2026-0012",
        "shop.example.org/orders/1001",
        "user7:professional:3",
    ],
)
def test_ids_that_can_be_guessed_need_a_signature(id_: str) -> None:
    right = sign(id_, KEY)
    for wrong in ("", right[:-1], right + "0", right.upper(), sign(id_ + "1", KEY), sign(id_, KEY + "x"), "é" * 64):
        assert asked(id_, wrong, KEY, parse) is None
    assert asked(id_, sign(id_, ""), "", parse) is None, "without a key nothing is signed"
    found = asked(id_, right, KEY, parse)
    assert found is not None
    assert found.signed


@given(st.uuids())
def test_no_uuid_needs_a_signature(id_: UUID) -> None:
    for text in (str(id_), str(id_).upper()):
        found = asked(text, "", KEY, parse)
        assert found is not None
        assert found.random


@pytest.mark.parametrize(
    ("id_", "number"),
    [("5745459419", True), ("29383937493038367292", True), ("cs_test_a1b2c3d4e5f6", False)],
)
def test_a_large_number_that_nobody_vouches_for_is_marked(id_: str, *, number: bool) -> None:
    found, signed = asked(id_, "", KEY, parse), asked(id_, sign(id_, KEY), KEY, parse)
    assert found is not None
    assert signed is not None
    assert (found.number, signed.number) == (number, False)


def test_an_order_is_read_only_where_it_is_signed() -> None:
    found = asked(ORDER, sign(ORDER, KEY), KEY, parse)
    assert found is not None
    assert found.order == Order(user_id="7", plan_id="vip_elite", at=datetime.fromtimestamp(1732000000, UTC))


@pytest.mark.parametrize(
    "id_", ["", " ", "a" * 256, "with blank", "line\nbreak", "tab\t12345678", "ünïcödé-id", "\x00", "#12345678901"]
)
def test_what_has_no_form_of_an_id_is_nobodys(id_: str) -> None:
    assert asked(id_, "", KEY, parse) is None
    assert asked(id_, sign(id_, KEY), KEY, parse) is None


@given(st.text(string.printable + "é\u2028\U0001f600", max_size=300), st.text(max_size=80))
def test_whatever_is_asked_there_is_an_answer(id_: str, signature: str) -> None:
    found = asked(id_, signature, KEY, parse)
    assert found is None or (found.id == id_ and 9 <= len(id_) <= 255 and not found.signed)


def test_the_recipe_of_the_documentation() -> None:
    """`hmac.new(KEY, b"12", sha256).hexdigest()` by other hands; docs/success-page.md shows the same."""
    assert sign("12", KEY) == "7bbcb6af84008b8a0869cb43a888548fb66a6902033ff6ba3b9da5ce27cddd51"


PENDING: Mapping[str, Any] = {"status": "waiting", "phase": Phase.PENDING}
SCENARIOS: dict[str, tuple[Facts | None, State, int | None]] = {
    "nobody knows it": (None, State.UNKNOWN, 15),
    "the row is gone": (replace(MISSED, payment=None), State.UNKNOWN, 15),
    "pending since an hour": (case(payment=PENDING), State.PENDING, 60),
    "pending since a moment": (case(payment={**PENDING, "created_at": NOW}), State.PENDING, 2),
    "pending, without a time": (case(payment={**PENDING, "created_at": None}, paid_at=NOW), State.PENDING, 2),
    "a word that nobody knows": (case(payment={"phase": Phase.UNKNOWN}), State.PENDING, 60),
    "pending, but the user is active": (case(payment=PENDING, user=ACTIVE), State.PENDING, 60),
    "pending here, paid at the provider": (
        case(payment=PENDING, evidence={"webhook_paid": True}),
        State.PAID_ACTIVATING,
        60,
    ),
    "paid, within the grace": (case(paid_at=NOW, grace_until=NOW + MINUTE), State.PAID_ACTIVATING, 2),
    "paid five minutes ago": (case(paid_at=NOW - 5 * MINUTE), State.PAID_ACTIVATING, 5),
    "a gap": (MISSED, State.PAID_ACTIVATING, 60),
    "a lower tier": (case(user={**ACTIVE, "tier": "free", "tier_rank": 0}), State.PAID_ACTIVATING, 60),
    "a renewal that was not applied": (case(user={**ACTIVE, "paid_until": PAID + DAY}), State.PAID_ACTIVATING, 60),
    "revoked": (case(user={**ACTIVE, "revoked_at": NOW}), State.PAID_ACTIVATING, 60),
    "no such user": (replace(MISSED, subscriber=None), State.PAID_ACTIVATING, 60),
    "superseded, the newer one not active either": (
        case(evidence={"newer_payment_id": "13", "newer_rank": 2}),
        State.PAID_ACTIVATING,
        60,
    ),
    "active": (case(user=ACTIVE), State.PAID_ACTIVE, None),
    "active with more": (case(user={**ACTIVE, "tier": "vip_elite", "tier_rank": 2}), State.PAID_ACTIVE, None),
    "failed": (case(payment={"phase": Phase.FAILED}), State.FAILED, None),
    "failed, but the user is active": (case(payment={"phase": Phase.FAILED}, user=ACTIVE), State.FAILED, None),
    "refunded": (case(payment={"phase": Phase.REVERSED}, user=ACTIVE), State.FAILED, None),
    "refunded once, paid since": (case(user=ACTIVE, evidence={"reversed_at": PAID}), State.FAILED, None),
    "ended on purpose": (
        case(evidence={"activated_at": PAID, "acted_at": PAID + MINUTE}, touched_at=PAID + MINUTE),
        State.FAILED,
        None,
    ),
    "long over": (
        case(paid_at=NOW - 40 * DAY, touched_at=NOW - 5 * DAY, evidence={"activated_at": NOW - 40 * DAY}),
        State.UNKNOWN,
        None,
    ),
}


@pytest.mark.parametrize(("facts", "state", "seconds"), SCENARIOS.values(), ids=SCENARIOS)
def test_what_is_said(facts: Facts | None, state: State, seconds: int | None) -> None:
    sight = see(facts, Rules(), NOW)
    assert (sight.state, sight.next_poll) == (state, None if seconds is None else timedelta(seconds=seconds))


@given(facts=FACTS, rules=RULES, now=NEAR)
def test_active_is_only_what_the_verdict_calls_as_paid(facts: Facts, rules: Rules, now: datetime) -> None:
    state = see(facts, rules, now).state
    paid = facts.payment is not None and facts.payment.phase is Phase.PAID and not is_reversed(facts)
    assert (state is State.PAID_ACTIVE) == (paid and not shortfalls(facts, rules))
    verdict = judge(facts, rules, now)
    if state is State.PAID_ACTIVE:
        assert isinstance(verdict, Settled)
        assert verdict.outcome in {Outcome.ACTIVATED, Outcome.FIXED, Outcome.ADMIN, Outcome.NOTHING_PAID}
    if isinstance(verdict, Gap):
        assert state in {State.PAID_ACTIVATING, State.FAILED}
