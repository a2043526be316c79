"""NOWPayments: instant payment notifications (IPN), signed over the body with its keys sorted.

A genuine notification may carry the code of any of several texts (`canonical`). All of them cover the values at the top
level and one of them, the old sample's, nothing deeper. `read` looks at nothing deeper: what it says is always signed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, cast

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers import canonical
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.parsing import Unreadable, amount, currency, identifier, moment, parse, table, word
from paidwatch.providers.proof import from_hex, matches

HEADER: Final = "x-nowpayments-sig"
DIGEST: Final = "sha512"
LARGEST: Final = 65536
"""Bytes of a body that is written anew; a notification has about a thousand."""

STATUSES: Final[Mapping[str, Status]] = {
    "waiting": Status.PENDING,
    "confirming": Status.SETTLING,
    "confirmed": Status.SETTLING,
    "sending": Status.SETTLING,
    "finished": Status.PAID,
    "partially_paid": Status.UNDERPAID,
    "failed": Status.FAILED,
    "expired": Status.FAILED,
    "refunded": Status.REVERSED,
}


class NowPayments(Webhooks):
    """Its notifications have no time and no id of their own: the same body again is the same message."""

    signature_headers = frozenset({HEADER})

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:  # noqa: ARG002 - no time in it
        """Say what the signature is worth: HMAC-SHA512 in hex over one of the texts of the body."""
        header = headers.get(HEADER, "").strip()
        if refused := refuse(self._keys, header):
            return refused
        code = from_hex(header, hashlib.new(DIGEST).digest_size)
        if code is None:
            return Signature.MALFORMED
        found = any(matches(self._keys, text, (code,), DIGEST) for text in _texts(body))
        return Signature.VALID if found else Signature.WRONG

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return the notification in canonical words: `finished` alone is paid."""
        said = table(payload)
        status = STATUSES.get(word(said.get("payment_status")), Status.UNKNOWN)
        return self._reading(
            status=status,
            said=word(said.get("payment_status")),
            references=(identifier(said.get("payment_id")), identifier(said.get("invoice_id"))),
            order_id=identifier(said.get("order_id")),
            amount=amount(said.get("price_amount")),
            currency=currency(said.get("price_currency")),
            repeated=said.get("parent_payment_id") is not None,
            at=moment(said.get("updated_at")) or moment(said.get("created_at")),
            problem=UNKNOWN_WORD if status is Status.UNKNOWN else "",
        )

    def dedupe_key(self, reading: Reading, body: bytes) -> str:
        """Return payment, status and a digest of the body."""
        return f"{reading.reference or ''} {reading.said} {hashlib.sha256(body).hexdigest()}"


def _texts(body: bytes) -> Iterator[bytes]:
    """Yield what may have been signed: the body written anew, then as it came."""
    if len(body) <= LARGEST:
        try:
            document = parse(body)
        except Unreadable:
            document = None
        if isinstance(document, dict):
            yield from canonical.texts(cast("dict[str, object]", document))
    yield body
