"""What all providers have in common: names, headers, orders, and the making of a reading."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final

from paidwatch.core import orders
from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.parsing import LONGEST_WORD, identifier
from paidwatch.providers.proof import keys_of
from paidwatch.providers.settings import ProviderSettings

UNKNOWN_WORD: Final = "its status word is not known"
NO_REFERENCE: Final = "it names no payment"
OTHER_ORDER: Final = "its order id has another form"
TWO_USERS: Final = "its order id and its metadata name different users"


class Webhooks:
    """The webhooks of one provider; what differs, `verify` and `read`, is in the classes of the modules."""

    signature_headers: ClassVar[frozenset[str]] = frozenset()
    """Headers that the signature needs, in small letters."""

    def __init__(self, name: str, settings: ProviderSettings, headers: frozenset[str] = frozenset()) -> None:
        """Keep what is known about `[providers.NAME]`; `headers` are those that the signature needs besides."""
        self.name: Final = name
        self.kind: Final = str(settings.kind)
        methods = settings.methods or (name.lower(),)
        self.method: Final = methods[0]
        """The shop's own word for payments that come through it, under which webhooks are logged and told."""
        self.methods: Final = frozenset(methods)
        self.kept_headers: Final = self.signature_headers | settings.kept_headers | headers
        self._keys: Final = keys_of(settings.secrets)
        self._order_pattern: Final = settings.order_pattern

    def dedupe_key(self, reading: Reading, body: bytes) -> str:
        """Return the provider's id of the message, or a digest of the body where there is none."""
        return f"event {reading.event_id}" if reading.event_id else f"body {hashlib.sha256(body).hexdigest()}"

    def _reading(  # noqa: PLR0913 - one argument for each field
        self,
        *,
        status: Status,
        said: str,
        references: tuple[str | None, ...],
        event_id: str | None = None,
        order_id: str | None = None,
        metadata: Mapping[str, object] | None = None,
        amount: Decimal | None = None,
        currency: str | None = None,
        repeated: bool = False,
        at: datetime | None = None,
        problem: str = "",
    ) -> Reading:
        """Fill user and plan in from the order id or, without one, from what the application put into the metadata.

        The first of `references` that is one is the reference, the others and the order id are further names of it.
        """
        named = metadata or {}
        user, plan = _either(named, "user_id", "userId"), _either(named, "plan_id", "planId")
        order_id = order_id or _either(named, "order_id", "orderId")
        order = orders.parse(order_id, self._order_pattern)
        known = tuple(dict.fromkeys(it for it in references if it))
        also = tuple(dict.fromkeys((*known[1:], *((order_id,) if order_id and order_id not in known[:1] else ()))))
        if not problem and not known and status is not Status.UNKNOWN:
            problem = NO_REFERENCE
        elif not problem and order is not None and user is not None and user != order.user_id:
            problem = TWO_USERS
        elif not problem and order is None and order_id is not None and user is None:
            problem = OTHER_ORDER
        return Reading(
            status=status,
            said=said[: 2 * LONGEST_WORD],
            reference=known[0] if known else None,
            event_id=event_id,
            order_id=order_id,
            user_id=order.user_id if order else user,
            plan_id=order.plan_id if order else plan,
            amount=amount,
            currency=currency if amount is not None else None,
            repeated=repeated,
            at=at,
            ordered_at=order.at if order else None,
            also=also,
            problem=problem,
        )


def _either(named: Mapping[str, object], *keys: str) -> str | None:
    return next((found for key in keys if (found := identifier(named.get(key))) is not None), None)


def refuse(keys: tuple[bytes, ...], header: str) -> Signature | None:
    """Return why nothing needs to be computed: there is no secret, or there is no signature."""
    if not keys:
        return Signature.NO_SECRET
    return None if header else Signature.NO_HEADER
