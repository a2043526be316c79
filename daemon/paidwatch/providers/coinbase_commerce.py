"""Coinbase Commerce: closed on 2026-03-31, read because old rows of the application's log are its webhooks."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.parsing import amount, at_path, currency, identifier, items, moment, table, word
from paidwatch.providers.proof import from_hex, matches

HEADER: Final = "x-cc-webhook-signature"
DIGEST: Final = "sha256"

STATUSES: Final[Mapping[str, Status]] = {
    "charge:created": Status.PENDING,
    "charge:pending": Status.SETTLING,
    "charge:confirmed": Status.PAID,
    "charge:delayed": Status.SETTLING,
    "charge:resolved": Status.SETTLING,
    "charge:failed": Status.FAILED,
}
"""Events, where the charge's own history does not say more. A person resolves a charge, whatever arrived."""
_CONFIRMED: Final = frozenset({"COMPLETED", "CONFIRMED"})
_SIZE: Final = 32


class CoinbaseCommerce(Webhooks):
    """The event is nested: `{"id": …, "event": {"id": …, "type": …, "data": {…}}}`."""

    signature_headers = frozenset({HEADER})

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:  # noqa: ARG002 - no time in it
        """Say what the signature is worth: HMAC-SHA256 in hex over the body."""
        header = headers.get(HEADER, "").strip()
        if refused := refuse(self._keys, header):
            return refused
        code = from_hex(header, _SIZE)
        if code is None:
            return Signature.MALFORMED
        return Signature.VALID if matches(self._keys, body, (code,), DIGEST) else Signature.WRONG

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return the event in canonical words; a log may hold the event without what was around it."""
        outer = table(payload)
        event = table(outer.get("event")) or (outer if "type" in outer else {})
        charge = table(event.get("data"))
        kind = word(event.get("type"))
        latest = table(next(reversed(items(charge.get("timeline"))), None))
        status, problem = _status(kind, charge, latest)
        return self._reading(
            status=status,
            said=f"{kind} {word(latest.get('status'))}".strip(),
            references=(identifier(charge.get("id")), identifier(charge.get("code"))),
            event_id=identifier(event.get("id")),
            metadata=table(charge.get("metadata")),
            amount=amount(at_path(charge, "pricing.local.amount")),
            currency=currency(at_path(charge, "pricing.local.currency")),
            at=moment(event.get("created_at")),
            problem=problem,
        )


def _status(kind: str, charge: Mapping[str, object], latest: Mapping[str, object]) -> tuple[Status, str]:
    """Return what the event says about the money, and what is doubtful about it."""
    match (word(latest.get("status")), word(latest.get("context"))):
        case ("REFUNDED", _):
            return Status.REVERSED, ""
        case ("UNRESOLVED", "UNDERPAID"):
            return Status.UNDERPAID, ""
        case _:
            pass
    status = STATUSES.get(kind, Status.UNKNOWN)
    history = {word(table(entry).get("status")) for entry in items(charge.get("timeline"))}
    if status is Status.PAID and history and not history & _CONFIRMED:
        return Status.SETTLING, "its history does not say that it is confirmed"
    return status, UNKNOWN_WORD if status is Status.UNKNOWN and kind.startswith("charge:") else ""
