"""What a webhook says about a payment, in words that are the same for every provider."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where the money stands (domain.md §2); nothing but `PAID` is ever acted upon."""

    PENDING = "pending"
    """Asked for, nothing seen."""
    SETTLING = "settling"
    """Money was seen and is not final."""
    PAID = "paid"
    UNDERPAID = "underpaid"
    """Less than the price arrived."""
    FAILED = "failed"
    """It ended without money: refused, expired, cancelled."""
    REVERSED = "reversed"
    """The money went back, or is being taken back."""
    UNKNOWN = "unknown"
    """A word that is not known, or an event that is not about a payment: never paid."""


_RANK: Final = {
    status: rank
    for rank, status in enumerate(
        (
            Status.UNKNOWN,
            Status.PENDING,
            Status.SETTLING,
            Status.FAILED,
            Status.UNDERPAID,
            Status.PAID,
            Status.REVERSED,
        )
    )
}
"""What a later word may replace: a payment that expired can still be paid, one that is paid can only be reversed."""


def later(a: Status, b: Status) -> Status:
    """Return what two words about one payment amount to, in whichever order they arrived.

    It is a maximum, so any order and any repetition of words ends at the same one: a late `confirming` never lowers
    `finished`, and only a reversal ends what is paid.
    """
    return max(a, b, key=_RANK.__getitem__)


class Signature(StrEnum):
    """What became of a webhook's signature; everything but `VALID` is refused."""

    VALID = "valid"
    NO_SECRET = "no secret is configured"  # noqa: S105 - a sentence
    NO_HEADER = "there is no signature"
    MALFORMED = "the signature has the wrong form"
    WRONG = "the signature is wrong"
    STALE = "the signature is too old"
    """It is right, and its time is too far from ours in either direction: a repeat, or a clock that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One webhook in canonical words. Whether it may be believed is the signature's affair, not said here."""

    status: Status
    said: str
    """The provider's own word, untrusted and cut short."""
    reference: str | None
    """The provider's id of the payment: what the application keeps as the payment's reference."""
    event_id: str | None
    """The provider's id of this message, the same each time it is sent again."""
    order_id: str | None
    user_id: str | None
    plan_id: str | None
    amount: Decimal | None
    """The price in `currency`, not what arrived in a coin."""
    currency: str | None
    """In capital letters."""
    repeated: bool = False
    """More money for a payment that was already made: never activated by itself."""
    at: datetime | None = None
    """When it happened, by the provider's clock; aware, in UTC."""
    ordered_at: datetime | None = None
    """When the order was made, by the application's clock; aware, in UTC."""
    also: tuple[str, ...] = ()
    """Other ids of the same payment, any of which the application may have kept as the reference."""
    problem: str = ""
    """Which parts could not be read, in constant words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the application wrote into an order id."""

    user_id: str
    plan_id: str
    at: datetime
    """When the order was made; aware, in UTC."""
