"""Coinbase Commerce's API: `GET /charges/{id}`, by the charge's id or its short code."""

import re
from collections.abc import Mapping
from typing import Final

from paidwatch.core.webhook import Status
from paidwatch.providers.api import Api, Found
from paidwatch.providers.parsing import amount, at_path, currency, identifier, items, table, word

VERSION: Final = "2018-03-22"
_ID: Final = re.compile(r"[A-Za-z0-9]{8}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
STATUSES: Final[Mapping[str, Status]] = {
    "NEW": Status.PENDING,
    "PENDING": Status.SETTLING,
    "CONFIRMED": Status.PAID,
    "COMPLETED": Status.PAID,
    "EXPIRED": Status.FAILED,
    "CANCELED": Status.FAILED,
    "UNRESOLVED": Status.SETTLING,
    "REFUND PENDING": Status.REVERSED,
    "REFUNDED": Status.REVERSED,
}
"""A charge's last word. A person resolves a charge, whatever arrived: RESOLVED says nothing."""


class CoinbaseCommerceApi(Api):
    """A charge has no status of its own: the last entry of its timeline is one."""

    usual_url = "https://api.commerce.coinbase.com"

    def path(self, reference: str) -> str | None:
        """Return the charge's address."""
        return f"/charges/{reference}" if _ID.fullmatch(reference) else None

    def headers(self, key: str) -> dict[str, str]:
        """Return the key's header, and the version whose form is read here."""
        return {"X-CC-Api-Key": key, "X-CC-Version": VERSION}

    def read(self, payload: Mapping[str, object], reference: str) -> Found | None:  # noqa: ARG002 - one form for all
        """Return the charge."""
        charge = table(payload.get("data"))
        latest = table(next(reversed(items(charge.get("timeline"))), None))
        said, context = word(latest.get("status")), word(latest.get("context"))
        ids = frozenset(it for key in ("id", "code") if (it := identifier(charge.get(key))) is not None)
        if not said or not ids:
            return None
        status = STATUSES.get(said, Status.UNKNOWN)
        if (said, context) == ("UNRESOLVED", "UNDERPAID"):
            status = Status.UNDERPAID
        return Found(
            ids=ids,
            status=status,
            said=f"{said} {context}".strip(),
            amount=amount(at_path(charge, "pricing.local.amount")),
            currency=currency(at_path(charge, "pricing.local.currency")),
        )
