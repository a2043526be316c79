"""Standard Webhooks, the convention of Polar, Dodo Payments and whoever sends through Svix.

The package `standardwebhooks` checks the same signature and brings an HTTP client along: the rule is written out here.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.configured import metadata_of, price_of, status_of, text_at
from paidwatch.providers.parsing import amount, at_path, currency, identifier, moment, table, word
from paidwatch.providers.proof import from_base64, judge, matches, raw, seconds
from paidwatch.providers.settings import Fields, ProviderSettings

PREFIXES: Final = ("webhook", "svix")
"""The names of the headers begin so; Svix uses its own name as well."""
DIGEST: Final = "sha256"
KEY_PREFIX: Final = b"whsec_"
PARTLY_REFUNDED: Final = "part of it was paid back"

_SIZE: Final = 32
_MOST_CODES: Final = 16
_ID: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_MINOR: Final = 2

STATUSES: Final[Mapping[str, Status]] = {
    "order.created": Status.PENDING,
    "order.paid": Status.PAID,
    "order.refunded": Status.REVERSED,
    "payment.processing": Status.SETTLING,
    "payment.succeeded": Status.PAID,
    "payment.failed": Status.FAILED,
    "payment.cancelled": Status.FAILED,
    "refund.succeeded": Status.REVERSED,
    "dispute.opened": Status.REVERSED,
    "dispute.accepted": Status.REVERSED,
    "dispute.lost": Status.REVERSED,
}
"""Events of Polar (`order.…`) and Dodo Payments; other senders need `fields`."""


class StandardWebhooks(Webhooks):
    """The id in the header is the same each time a message is sent."""

    signature_headers = frozenset(
        f"{prefix}-{name}" for prefix in PREFIXES for name in ("id", "timestamp", "signature")
    )

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        """Decode the keys, which are in base64 behind `whsec_`; one that is not is none."""
        super().__init__(name, settings)
        self._decoded = tuple(
            key
            for text in self._keys
            if (key := from_base64(_padded(text.removeprefix(KEY_PREFIX)))) is not None and key
        )
        self._fields = settings.fields

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:
        """Say what the signature is worth: `v1,…` in base64, HMAC-SHA256 over `id.timestamp.body`."""
        prefix = _prefix(headers)
        header = headers.get(f"{prefix}-signature", "").strip()
        if refused := refuse(self._decoded, header):
            return refused
        stamp, message_id = headers.get(f"{prefix}-timestamp", "").strip(), headers.get(f"{prefix}-id", "")
        parts = [part.partition(",") for part in header.split()]
        codes = [from_base64(code) for version, _comma, code in parts if version == "v1"]
        given = [code for code in codes if code is not None and len(code) == _SIZE]
        at = seconds(stamp)
        if at is None or not _ID.fullmatch(message_id) or not given or len(parts) > _MOST_CODES:
            return Signature.MALFORMED
        text = b".".join((raw(message_id), raw(stamp), body))
        return judge(right=matches(self._decoded, text, given, DIGEST), at=at, now=now)

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:
        """Return the event in canonical words: by the configured fields, or as Polar and Dodo Payments write."""
        event_id = identifier((headers or {}).get(f"{_prefix(headers or {})}-id"))
        return self._configured(payload, event_id) if self._fields.status else self._known(payload, event_id)

    def _configured(self, payload: object, event_id: str | None) -> Reading:
        fields: Fields = self._fields
        status, said = status_of(payload, fields)
        number, code = price_of(payload, fields)
        return self._reading(
            status=status,
            said=said,
            references=(text_at(payload, fields.reference),),
            event_id=event_id or text_at(payload, fields.event),
            order_id=text_at(payload, fields.order),
            metadata=metadata_of(payload, fields),
            amount=number,
            currency=code,
            at=moment(table(payload).get("timestamp")),
            problem=UNKNOWN_WORD if status is Status.UNKNOWN else "",
        )

    def _known(self, payload: object, event_id: str | None) -> Reading:
        event = table(payload)
        kind, data = word(event.get("type")), table(event.get("data"))
        status, problem = _status(kind, data)
        cents = amount(data.get("total_amount"))
        whole = cents is not None and cents == cents.to_integral_value()
        return self._reading(
            status=status,
            said=f"{kind} {word(data.get('status'))}".strip(),
            references=tuple(_references(kind, data)),
            event_id=event_id,
            metadata=table(data.get("metadata")),
            amount=cents.scaleb(-_MINOR) if cents is not None and whole else None,
            currency=currency(data.get("currency")),
            at=moment(event.get("timestamp")),
            problem=problem,
        )


def _prefix(headers: Mapping[str, str]) -> str:
    """Return by which of the two names the headers came; never some by the one and some by the other."""
    return next((prefix for prefix in PREFIXES if f"{prefix}-signature" in headers), PREFIXES[0])


def _padded(text: bytes) -> str:
    return text.decode("latin-1") + "=" * (-len(text) % 4)


def _status(kind: str, data: Mapping[str, object]) -> tuple[Status, str]:
    """Return what the event says about the money, and what is doubtful about it."""
    status = STATUSES.get(kind, Status.UNKNOWN)
    if status is Status.REVERSED and (data.get("status") == "partially_refunded" or data.get("is_partial") is True):
        return Status.UNKNOWN, PARTLY_REFUNDED
    return status, UNKNOWN_WORD if status is Status.UNKNOWN and kind.startswith("payment.") else ""


def _references(kind: str, data: Mapping[str, object]) -> Iterator[str | None]:
    """Yield the ids of the payment: for an order its own, for everything else the one it names."""
    if kind.startswith("order."):
        yield identifier(data.get("id"))
    yield identifier(data.get("payment_id"))
    yield identifier(data.get("order_id"))
    yield identifier(data.get("checkout_id"))
    yield identifier(at_path(data, "checkout.id"))
