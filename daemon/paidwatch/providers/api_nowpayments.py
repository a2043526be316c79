"""NOWPayments' API: `GET /payment/{payment_id}` with the key in `x-api-key`."""

import re
from collections.abc import Mapping
from typing import Final

from paidwatch.core.webhook import Status
from paidwatch.providers.api import Api, Found
from paidwatch.providers.nowpayments import STATUSES
from paidwatch.providers.parsing import amount, currency, identifier, word

FURTHER: Final = "a further deposit"
_ID: Final = re.compile(r"[0-9]{1,30}", re.ASCII)


class NowPaymentsApi(Api):
    """Its price is what was asked for, in the currency of the order; `finished` says that all of it arrived."""

    usual_url = "https://api.nowpayments.io/v1"

    def path(self, reference: str) -> str | None:
        """Return the payment's address: its ids are numbers."""
        return f"/payment/{reference}" if _ID.fullmatch(reference) else None

    def headers(self, key: str) -> dict[str, str]:
        """Return the key's header."""
        return {"x-api-key": key}

    def read(self, payload: Mapping[str, object], reference: str) -> Found | None:  # noqa: ARG002 - one form for all
        """Return the payment: `finished` alone is paid, and a further deposit never is."""
        said = word(payload.get("payment_status"))
        number = identifier(payload.get("payment_id"), exact=False)
        if not said or number is None:
            return None
        status = STATUSES.get(said, Status.UNKNOWN)
        if payload.get("parent_payment_id") is not None and status is Status.PAID:
            status, said = Status.UNKNOWN, f"{said}, {FURTHER}"
        return Found(
            ids=frozenset({number}),
            status=status,
            said=said,
            amount=amount(payload.get("price_amount")),
            currency=currency(payload.get("price_currency")),
        )
