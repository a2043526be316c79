"""What a payment provider says when it is asked about one payment, and what that is worth as a second witness of money.

A question that got no answer is worth nothing in either direction: unknown is never good enough, and never a no.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, assert_never

from paidwatch.core.text import clean, money
from paidwatch.core.webhook import Status

FRESH: Final = timedelta(hours=1)
"""A yes counts for so long: money can go back. A no counts until the provider says something else."""
TOLERANCE: Final = Decimal("0.01")


class Trouble(StrEnum):
    """Why there is no answer; constant words, never the provider's."""

    TIMEOUT = "it did not answer in time"
    UNREACHABLE = "it cannot be reached"
    BUSY = "it asked for a pause"
    REFUSED = "it does not accept the key"
    MISSING = "it knows no such payment"
    FAILING = "it answered with an error of its own"
    ODD = "it answered with an unexpected status"
    UNREADABLE = "its answer cannot be read"
    OTHER = "its answer is about another payment"
    FORM = "the reference is not one of its ids"
    UNCONFIGURED = "no key of its API is configured any more"

    @property
    def passes(self) -> bool:
        """Say whether the same question may be answered a little later."""
        return self in {Trouble.TIMEOUT, Trouble.UNREACHABLE, Trouble.BUSY, Trouble.FAILING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the provider said about one payment."""

    status: Status
    said: str
    """The provider's own word, untrusted and cut short."""
    amount: Decimal | None
    """The price in `currency`; None: it did not say, or not in a form that can be read."""
    currency: str | None
    """In capital letters."""
    at: datetime
    """When it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """The provider was asked, and nothing can be said about the payment."""

    trouble: Trouble
    retry_after: timedelta | None = None
    """How long the provider wants to be left alone; None: it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of asking about one payment, for people."""

    answer: Answer | None = None
    """The last one there was."""
    problem: str = ""
    """Why there was none when it was asked last, or why it was not asked at all."""
    tried_at: datetime | None = None
    """When it was asked last; None: not yet."""


def confirms(
    answer: Answer | None,
    amount: Decimal | None,
    currency: str | None,
    now: datetime,
    *,
    tolerance: Decimal = TOLERANCE,
) -> bool | None:
    """Return whether the provider confirms a payment of `amount`; None: it does not say so either way.

    Yes takes everything: paid, lately, in the payment's own currency, and enough. Other currencies cannot be compared.
    """
    if answer is None:
        return None
    match answer.status:
        case Status.UNKNOWN:
            return None
        case Status.PENDING | Status.SETTLING | Status.UNDERPAID | Status.FAILED | Status.REVERSED:
            return False
        case Status.PAID:
            return _is_enough(answer, amount, currency, now, tolerance)
        case _ as unreachable:
            assert_never(unreachable)


def _is_enough(
    answer: Answer, amount: Decimal | None, currency: str | None, now: datetime, tolerance: Decimal
) -> bool | None:
    """Compare money with money."""
    if answer.amount is None or amount is None or not (answer.amount.is_finite() and amount.is_finite()):
        return None
    if not answer.currency or not currency or answer.currency.upper() != currency.upper():
        return None
    if answer.amount < amount * (1 - tolerance):
        return False
    return True if now - answer.at <= FRESH else None


def in_words(asked: Asked) -> tuple[str, ...]:
    """Return what people are told: `says: finished, 14.99 USD (asked 12:03 UTC)`; a line each."""
    lines: list[str] = []
    if (answer := asked.answer) is not None:
        paid = f", {money(answer.amount, answer.currency)}" if answer.amount is not None else ""
        word = clean(answer.said) or answer.status.value
        meaning = "" if word == answer.status.value else f" ({answer.status.value})"
        lines.append(f"the provider says: {word}{meaning}{paid} (asked {_clock(answer.at)})")
    if asked.problem:
        when = f" (tried {_clock(asked.tried_at)})" if asked.tried_at is not None else ""
        lines.append(f"the provider could not be asked: {asked.problem}{when}")
    elif not lines:
        lines.append("the provider was asked and has not answered yet")
    return tuple(lines)


def clause(asked: Asked | None) -> str:
    """Return the same in words that many payments share: `the provider says paid`; empty: nothing is known."""
    if asked is None:
        return ""
    if asked.answer is not None:
        return f"the provider says {asked.answer.status.value}"
    return f"the provider could not be asked: {asked.problem}" if asked.problem else ""


def document(asked: Asked | None) -> dict[str, object] | None:
    """Return what JSON shows of it, None where nobody is asked: the last answer, and why there is no newer one."""
    if asked is None:
        return None
    answer = asked.answer
    return {
        "status": None if answer is None else answer.status.value,
        "said": None if answer is None else clean(answer.said),
        "amount": None if answer is None or answer.amount is None else str(answer.amount),
        "currency": None if answer is None else answer.currency,
        "answered_at": None if answer is None else answer.at,
        "problem": asked.problem or None,
        "asked_at": asked.tried_at,
    }


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
