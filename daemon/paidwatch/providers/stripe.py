"""Stripe: events, signed with their time; they come in any order and are repeated for three days."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.parsing import amount, at_path, currency, identifier, moment, table, word
from paidwatch.providers.proof import from_hex, judge, matches, raw, seconds

HEADER: Final = "stripe-signature"
DIGEST: Final = "sha256"
MOST_CODES: Final = 16
"""Codes in one header: there is one for each secret that is being changed."""
PARTLY_REFUNDED: Final = "part of it was paid back"

_SIZE: Final = 32
_MINOR: Final = 2
_WITHOUT_MINOR: Final = frozenset(
    "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()  # noqa: SIM905 - a list of words
)
"""Currencies whose amounts are in whole units: Stripe's zero-decimal ones but UGX, which it counts in hundredths."""
_THOUSANDTHS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

STATUSES: Final[Mapping[str, Status]] = {
    "checkout.session.async_payment_succeeded": Status.PAID,
    "checkout.session.async_payment_failed": Status.FAILED,
    "checkout.session.expired": Status.FAILED,
    "invoice.created": Status.PENDING,
    "invoice.finalized": Status.PENDING,
    "invoice.paid": Status.PAID,
    "invoice.payment_succeeded": Status.SETTLING,
    "invoice.payment_failed": Status.FAILED,
    "invoice.voided": Status.FAILED,
    "invoice.marked_uncollectible": Status.FAILED,
    "payment_intent.created": Status.PENDING,
    "payment_intent.requires_action": Status.PENDING,
    "payment_intent.processing": Status.SETTLING,
    "payment_intent.amount_capturable_updated": Status.SETTLING,
    "payment_intent.partially_funded": Status.UNDERPAID,
    "payment_intent.succeeded": Status.PAID,
    "payment_intent.payment_failed": Status.FAILED,
    "payment_intent.canceled": Status.FAILED,
    "charge.pending": Status.SETTLING,
    "charge.succeeded": Status.SETTLING,
    "charge.failed": Status.FAILED,
    "charge.dispute.funds_withdrawn": Status.REVERSED,
}
"""Events whose name says it all. `charge.succeeded` may be money that is only reserved."""


class Stripe(Webhooks):
    """One payment is told by several objects, so a reading names all their ids."""

    signature_headers = frozenset({HEADER})

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:
        """Say what the signature is worth: `t=…,v1=…[,v1=…]`, HMAC-SHA256 in hex over `t.body`."""
        header = headers.get(HEADER, "").strip()
        if refused := refuse(self._keys, header):
            return refused
        pairs = [part.strip().partition("=") for part in header.split(",")]
        times = [value for name, _equals, value in pairs if name == "t"]
        codes = [from_hex(value, _SIZE) for name, _equals, value in pairs if name == "v1"]
        given = [code for code in codes if code is not None]
        if len(times) != 1 or (at := seconds(times[0])) is None or not given or len(codes) > MOST_CODES:
            return Signature.MALFORMED
        return judge(right=matches(self._keys, raw(times[0]) + b"." + body, given, DIGEST), at=at, now=now)

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return the event in canonical words; one that is not about a payment is UNKNOWN without a problem."""
        event = table(payload)
        kind = word(event.get("type"))
        about = table(at_path(event, "data.object"))
        status, problem = _status(kind, about)
        code = currency(about.get("currency"))
        return self._reading(
            status=status,
            said=_said(kind, about),
            references=tuple(_references(kind, about)),
            event_id=identifier(event.get("id")),
            order_id=identifier(about.get("client_reference_id")),
            metadata=_metadata(about),
            amount=_amount(about, code),
            currency=code,
            at=moment(event.get("created")),
            problem=problem,
        )


def _status(kind: str, about: Mapping[str, object]) -> tuple[Status, str]:
    """Return what the event says about the money, and what is doubtful about it."""
    match kind:
        case "checkout.session.completed":
            return _of_session(about)
        case "charge.refunded":
            return (Status.REVERSED, "") if about.get("refunded") is True else (Status.UNKNOWN, PARTLY_REFUNDED)
        case "charge.dispute.created" | "charge.dispute.updated" | "charge.dispute.closed":
            return _of_dispute(kind, word(about.get("status")))
        case _:
            return STATUSES.get(kind, Status.UNKNOWN), ""


def _of_session(about: Mapping[str, object]) -> tuple[Status, str]:
    """A session that is complete may still be unpaid: some methods take days."""
    match about.get("payment_status"):
        case "no_payment_required" if about.get("mode") == "setup":
            return Status.UNKNOWN, ""
        case "paid" | "no_payment_required":
            return Status.PAID, ""
        case "unpaid":
            return Status.SETTLING, ""
        case _:
            return Status.UNKNOWN, UNKNOWN_WORD


def _of_dispute(kind: str, said: str) -> tuple[Status, str]:
    """An inquiry (`warning_…`) moves no money, and one that was won moved it back."""
    if said.startswith("warning_") or said in {"won", "prevented"}:
        return Status.UNKNOWN, ""
    if kind == "charge.dispute.closed" and said != "lost":
        return Status.UNKNOWN, UNKNOWN_WORD
    return Status.REVERSED, ""


def _said(kind: str, about: Mapping[str, object]) -> str:
    """Return the event's name, and the word in its object that decides."""
    detail = word(about.get("payment_status" if kind.startswith("checkout.") else "status"))
    return f"{kind} {detail}".strip()


def _references(kind: str, about: Mapping[str, object]) -> Iterator[str | None]:
    """Yield the ids of the payment, the one that most of its events share first."""
    if not kind.startswith(("checkout.session.", "invoice.", "payment_intent.", "charge.")):
        return
    if not kind.startswith("payment_intent."):
        yield _id(about.get("payment_intent"))
        yield _id(at_path(about, "payments.data.0.payment.payment_intent"))
    if not kind.startswith("charge.dispute."):
        yield _id(about.get("id"))
    yield _id(about.get("invoice"))
    yield _id(about.get("charge"))


def _id(value: object) -> str | None:
    """Return an id that may have been expanded into its object."""
    return identifier(table(value).get("id")) or identifier(value)


def _metadata(about: Mapping[str, object]) -> Mapping[str, object]:
    """Return what the application attached: to the object itself, or to the subscription that an invoice is for."""
    ways = ("metadata", "subscription_details.metadata", "parent.subscription_details.metadata")
    return next((found for way in ways if (found := table(at_path(about, way)))), table(None))


def _amount(about: Mapping[str, object], code: str | None) -> Decimal | None:
    """Return the first amount there is, out of the currency's smallest unit."""
    found = next((about[key] for key in ("amount_total", "total", "amount") if about.get(key) is not None), None)
    return of_smallest(found, code)


def of_smallest(value: object, code: str | None) -> Decimal | None:
    """Return an amount given in the smallest unit of the currency `code`, in whole ones; None where it is none."""
    units = amount(value)
    if units is None or code is None or units != units.to_integral_value():
        return None
    places = 0 if code in _WITHOUT_MINOR else _MINOR + (code in _THOUSANDTHS)
    return units.scaleb(-places)
