"""Stripe's API: `GET /checkout/sessions|payment_intents|invoices|charges/{id}`, by the id's own prefix.

A session or an intent that succeeded stays so when the money goes back: the charge behind it is asked for in the same
request, and a charge that was given back or is disputed outweighs what stands above it.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from paidwatch.core.webhook import Status
from paidwatch.providers.api import Api, Found
from paidwatch.providers.parsing import amount, at_path, currency, identifier, table, word
from paidwatch.providers.stripe import PARTLY_REFUNDED, of_smallest

DISPUTED: Final = "disputed"
_ID: Final = re.compile(r"(cs|pi|in|ch|py)_[A-Za-z0-9_]{1,200}", re.ASCII)
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "cs": ("/checkout/sessions/", "?expand%5B%5D=payment_intent.latest_charge"),
    "pi": ("/payment_intents/", "?expand%5B%5D=latest_charge"),
    "in": ("/invoices/", ""),
    "ch": ("/charges/", ""),
    "py": ("/charges/", ""),
}
"""Where an id's object is found, and what is asked for with it. The charge of an invoice has other ways in other
versions of the API, and to ask for one that is not there is an error."""
_INTENTS: Final[Mapping[str, Status]] = {
    "requires_payment_method": Status.PENDING,
    "requires_confirmation": Status.PENDING,
    "requires_action": Status.PENDING,
    "processing": Status.SETTLING,
    "requires_capture": Status.SETTLING,
    "canceled": Status.FAILED,
    "succeeded": Status.PAID,
}
_INVOICES: Final[Mapping[str, Status]] = {
    "draft": Status.PENDING,
    "open": Status.PENDING,
    "paid": Status.PAID,
    "uncollectible": Status.FAILED,
    "void": Status.FAILED,
}
_CHARGES: Final[Mapping[str, Status]] = {
    "pending": Status.SETTLING,
    "failed": Status.FAILED,
    "succeeded": Status.PAID,
}
_SESSIONS: Final[Mapping[str, Status]] = {
    "open": Status.PENDING,
    "complete": Status.SETTLING,
    "expired": Status.FAILED,
}
"""Of a session that is unpaid."""
Said = tuple[Status, str]


class StripeApi(Api):
    """One payment is several objects, any of which the application may have kept as the reference."""

    usual_url = "https://api.stripe.com/v1"

    def path(self, reference: str) -> str | None:
        """Return the object's address."""
        if not (known := _ID.fullmatch(reference)):
            return None
        place, more = _PLACES[known[1]]
        return f"{place}{reference}{more}"

    def headers(self, key: str) -> dict[str, str]:
        """Return the key's header."""
        return {"Authorization": f"Bearer {key}"}

    def read(self, payload: Mapping[str, object], reference: str) -> Found | None:
        """Return the object, by the kind that the id says it is."""
        code = currency(payload.get("currency"))
        match reference.partition("_")[0]:
            case "cs":
                found, paid = _session(payload), payload.get("amount_total")
            case "pi":
                found, paid = _intent(payload), payload.get("amount_received")
            case "in":
                found, paid = _invoice(payload), payload.get("amount_paid")
            case _:
                found, paid = _charge(payload), payload.get("amount_captured")
        number = identifier(payload.get("id"))
        if not found[1] or number is None:
            return None
        return Found(
            ids=frozenset({number}),
            status=found[0],
            said=found[1],
            amount=of_smallest(paid, code),
            currency=code,
        )


def _session(about: Mapping[str, object]) -> Said:
    """`payment_status` says whether it is paid, `status` whether it still can be."""
    said = word(about.get("payment_status"))
    match said:
        case "paid":
            return _less_returned((Status.PAID, said), table(at_path(about, "payment_intent.latest_charge")))
        case "no_payment_required":
            return (Status.UNKNOWN if about.get("mode") == "setup" else Status.PAID), said
        case "unpaid":
            state = word(about.get("status"))
            return _SESSIONS.get(state, Status.UNKNOWN), f"{said} {state}".strip()
        case _:
            return Status.UNKNOWN, said


def _intent(about: Mapping[str, object]) -> Said:
    said = word(about.get("status"))
    return _less_returned((_INTENTS.get(said, Status.UNKNOWN), said), table(about.get("latest_charge")))


def _invoice(about: Mapping[str, object]) -> Said:
    """A note that credits some of it later says that not all of the money stayed."""
    said = word(about.get("status"))
    status = _INVOICES.get(said, Status.UNKNOWN)
    credited = amount(about.get("post_payment_credit_notes_amount"))
    if status is Status.PAID and credited:
        return Status.UNKNOWN, f"{said}, {PARTLY_REFUNDED}"
    return status, said


def _charge(about: Mapping[str, object]) -> Said:
    """One that was only reserved is not paid."""
    said = word(about.get("status"))
    status = _CHARGES.get(said, Status.UNKNOWN)
    if status is Status.PAID and about.get("captured") is not True:
        return Status.SETTLING, f"{said}, not captured"
    return _less_returned((status, said), about)


def _less_returned(said: Said, charge: Mapping[str, object]) -> Said:
    """Return what is left of a yes by the charge behind it."""
    if said[0] is not Status.PAID or not charge:
        return said
    if charge.get("refunded") is True:
        return Status.REVERSED, f"{said[1]}, refunded"
    if charge.get("disputed") is True:
        return Status.UNKNOWN, f"{said[1]}, {DISPUTED}"
    if (amount(charge.get("amount_refunded")) or Decimal(0)) > 0:
        return Status.UNKNOWN, f"{said[1]}, {PARTLY_REFUNDED}"
    return said
