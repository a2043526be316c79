"""What a provider's answer is worth as a second witness, and how people are told of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from paidwatch.core.answer import FRESH, Answer, Asked, Trouble, clause, confirms, document, in_words
from paidwatch.core.webhook import Status

NOW = datetime(2026, 11, 23, 12, 3, 20, tzinfo=UTC)
PRICE = Decimal("14.99")
PAID = Answer(status=Status.PAID, said="finished", amount=PRICE, currency="USD", at=NOW)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (PAID, True),
        (replace(PAID, amount=Decimal("14.85")), True),
        (replace(PAID, amount=Decimal(20)), True),
        (replace(PAID, amount=Decimal("14.80")), False),
        (replace(PAID, currency="EUR"), None),
        (replace(PAID, amount=None, currency=None), None),
        (replace(PAID, amount=Decimal("NaN")), None),
        (replace(PAID, at=NOW - FRESH - timedelta(seconds=1)), None),
        (replace(PAID, amount=Decimal(1), at=NOW - 2 * FRESH), False),
        (None, None),
        *((replace(PAID, status=status), False) for status in Status if status not in {Status.PAID, Status.UNKNOWN}),
        (replace(PAID, status=Status.FAILED, at=NOW - 24 * FRESH), False),
        (replace(PAID, status=Status.UNKNOWN), None),
    ],
)
def test_only_paid_lately_and_enough_in_the_same_currency_confirms(answer: Answer | None, says: bool | None) -> None:
    assert confirms(answer, PRICE, "usd", NOW) is says


@pytest.mark.parametrize(("amount", "currency"), [(None, "USD"), (PRICE, None), (PRICE, ""), (Decimal("inf"), "USD")])
def test_a_payment_of_an_unknown_amount_is_not_confirmed(amount: Decimal | None, currency: str | None) -> None:
    assert confirms(PAID, amount, currency, NOW) is None


def test_only_what_may_pass_is_asked_again() -> None:
    assert {it for it in Trouble if it.passes} == {
        Trouble.TIMEOUT,
        Trouble.UNREACHABLE,
        Trouble.BUSY,
        Trouble.FAILING,
    }


def test_people_are_told_what_is_known() -> None:
    said = "the provider says: finished (paid), 14.99 USD (asked 2026-11-23 12:03 UTC)"
    again = NOW + timedelta(minutes=2)
    problem = "the provider could not be asked: it did not answer in time (tried 2026-11-23 12:05 UTC)"
    assert in_words(Asked(answer=PAID, tried_at=NOW)) == (said,)
    assert in_words(Asked(problem=Trouble.TIMEOUT.value, tried_at=again)) == (problem,)
    assert in_words(Asked(answer=PAID, problem=Trouble.TIMEOUT.value, tried_at=again)) == (said, problem)
    assert in_words(Asked(problem=Trouble.BUSY.value)) == ("the provider could not be asked: it asked for a pause",)
    assert in_words(Asked()) == ("the provider was asked and has not answered yet",)


def test_the_same_in_a_few_words_and_for_programs() -> None:
    problem = Trouble.TIMEOUT.value
    assert clause(None) == clause(Asked()) == ""
    assert clause(Asked(answer=PAID, problem=problem, tried_at=NOW)) == "the provider says paid"
    assert clause(Asked(problem=problem, tried_at=NOW)) == f"the provider could not be asked: {problem}"
    assert document(None) is None
    assert document(Asked()) == dict.fromkeys(
        ("status", "said", "amount", "currency", "answered_at", "problem", "asked_at")
    )
    whole = document(Asked(answer=PAID, problem=problem, tried_at=NOW))
    assert whole == {
        "status": "paid",
        "said": "finished",
        "amount": "14.99",
        "currency": "USD",
        "answered_at": PAID.at,
        "problem": problem,
        "asked_at": NOW,
    }
