"""Coinbase Business: checkouts, signed by Hook0 with their time.

The header carries two codes. `v1` covers time, names and values of the listed headers, and body; `v0`, which the
provider calls sufficient, time and body. Either is accepted: `read` looks at nothing but the body.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.parsing import amount, currency, identifier, moment, table, word
from paidwatch.providers.proof import from_hex, judge, matches, raw, seconds

HEADER: Final = "x-hook0-signature"
DIGEST: Final = "sha256"
PARTLY_REFUNDED: Final = "part of it was paid back"
CONTRADICTION: Final = "its event and its status contradict each other"

_NAMES: Final = re.compile(r"[A-Za-z0-9-]{1,64}(?: [A-Za-z0-9-]{1,64}){0,15}", re.ASCII)
_SIZE: Final = 32
STATUSES: Final[Mapping[str, Status]] = {
    "checkout.payment.success": Status.PAID,
    "checkout.payment.failed": Status.FAILED,
    "checkout.payment.expired": Status.FAILED,
    "checkout.refund.success": Status.REVERSED,
}
_NO_MONEY: Final = frozenset({"checkout.refund.failed"})


class CoinbaseBusiness(Webhooks):
    """The event's name stands beside the fields of the checkout; there is no id of the message in the body."""

    signature_headers = frozenset({HEADER, "content-type", "x-event-id", "x-event-type", "x-hook0-id"})

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:
        """Say what the signature is worth: `t=…,v0=…,h=name name,v1=…`, HMAC-SHA256 in hex."""
        header = headers.get(HEADER, "").strip()
        if refused := refuse(self._keys, header):
            return refused
        pairs = [part.strip().partition("=") for part in header.split(",")]
        parts = {name: value for name, _equals, value in pairs}
        at = seconds(parts.get("t", ""))
        plain, bound = (from_hex(parts.get(name, ""), _SIZE) for name in ("v0", "v1"))
        names = parts.get("h", "")
        if len(parts) != len(pairs) or at is None or (plain is None and bound is None):
            return Signature.MALFORMED
        stamp = raw(parts["t"])
        right = plain is not None and matches(self._keys, stamp + b"." + body, (plain,), DIGEST)
        if bound is not None and _NAMES.fullmatch(names):
            values = ".".join(headers.get(name.lower(), "") for name in names.split(" "))
            text = b".".join((stamp, raw(names), raw(values), body))
            right |= matches(self._keys, text, (bound,), DIGEST)
        return judge(right=right, at=at, now=now)

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return the event in canonical words."""
        said = table(payload)
        kind, state = word(said.get("eventType")), word(said.get("status"))
        status, problem = _status(kind, state)
        in_fiat = amount(said.get("fiatAmount"))
        return self._reading(
            status=status,
            said=f"{kind} {state}".strip(),
            references=(identifier(said.get("id")), identifier(said.get("transactionHash"))),
            metadata=table(said.get("metadata")),
            amount=in_fiat if in_fiat is not None else amount(said.get("amount")),
            currency=currency(said.get("currency" if in_fiat is None else "fiatCurrency")),
            at=moment(said.get("updatedAt")) or moment(said.get("createdAt")),
            problem=problem,
        )


def _status(kind: str, state: str) -> tuple[Status, str]:
    """Return what the event says about the money, and what is doubtful about it."""
    status = STATUSES.get(kind, Status.UNKNOWN)
    if status is Status.PAID and state not in {"", "COMPLETED"}:
        return Status.UNKNOWN, CONTRADICTION
    if status is Status.REVERSED and state == "PARTIALLY_REFUNDED":
        return Status.UNKNOWN, PARTLY_REFUNDED
    known = status is not Status.UNKNOWN or kind in _NO_MONEY
    return status, UNKNOWN_WORD if not known and kind.startswith("checkout.") else ""
