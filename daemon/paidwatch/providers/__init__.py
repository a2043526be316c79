"""One module for each payment provider: its signature, its words, its ids. Nothing here waits, logs or raises.

    bytes ── verify ──► is it theirs?        bytes ── parse ──► payload ── read ──► Reading, in canonical words

`build` makes the provider of one section. `reader` finds who can read a row that the application logged itself.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

from paidwatch.core.webhook import Reading, Signature
from paidwatch.providers.coinbase_business import CoinbaseBusiness
from paidwatch.providers.coinbase_commerce import CoinbaseCommerce
from paidwatch.providers.generic import Generic
from paidwatch.providers.nowpayments import NowPayments
from paidwatch.providers.parsing import Unreadable, parse, storable, table
from paidwatch.providers.settings import Fields, Kind, ProviderSettings, Signing
from paidwatch.providers.standard_webhooks import StandardWebhooks
from paidwatch.providers.stripe import Stripe

__all__ = [
    "Fields",
    "Kind",
    "Provider",
    "ProviderSettings",
    "Reader",
    "Signing",
    "Unreadable",
    "build",
    "parse",
    "reader",
    "storable",
]


class Provider(Protocol):
    """What is known about the webhooks of one provider."""

    @property
    def name(self) -> str:
        """The NAME of its section, and of its address `/webhooks/NAME`."""
        ...

    @property
    def kind(self) -> str:
        """Whose webhooks these are."""
        ...

    @property
    def method(self) -> str:
        """The usual one of them: the word under which its webhooks are logged and told."""
        ...

    @property
    def methods(self) -> frozenset[str]:
        """The payment methods that come through it, in small letters."""
        ...

    @property
    def kept_headers(self) -> frozenset[str]:
        """The headers that are kept, in small letters: signature, id, time."""
        ...

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:
        """Say what the signature is worth; `headers` have names in small letters. Never raises."""
        ...

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:
        """Return what `parse` made of a body in canonical words. Never raises.

        It looks only at what every accepted form of the signature covers. `headers` of a verified webhook give the id
        of the message where that stands in a header.
        """
        ...

    def dedupe_key(self, reading: Reading, body: bytes) -> str:
        """Return what is the same each time this message is sent, and different for every other message."""
        ...


Reader = Callable[[object], Reading]
"""From a payload to canonical words."""


def build(name: str, settings: ProviderSettings) -> Provider:
    """Return the provider of `[providers.NAME]`; raises ConfigError for a certificate that is none."""
    if settings.kind is Kind.BINANCE_PAY:
        from paidwatch.providers.binance_pay import BinancePay  # noqa: PLC0415 - it alone needs `cryptography`

        return BinancePay(name, settings)
    return _KINDS[settings.kind](name, settings)


_KINDS: Final[Mapping[Kind, Callable[[str, ProviderSettings], Provider]]] = {
    Kind.NOWPAYMENTS: NowPayments,
    Kind.STRIPE: Stripe,
    Kind.COINBASE_COMMERCE: CoinbaseCommerce,
    Kind.COINBASE_BUSINESS: CoinbaseBusiness,
    Kind.STANDARD_WEBHOOKS: StandardWebhooks,
    Kind.GENERIC: Generic,
}
_WORDS: Final[Mapping[str, Kind]] = {
    "nowpayments": Kind.NOWPAYMENTS,
    "now_payments": Kind.NOWPAYMENTS,
    "stripe": Kind.STRIPE,
    "stripe_crypto": Kind.STRIPE,
    "coinbase_commerce": Kind.COINBASE_COMMERCE,
    "coinbase_business": Kind.COINBASE_BUSINESS,
    "binance": Kind.BINANCE_PAY,
    "binance_pay": Kind.BINANCE_PAY,
    "binancepay": Kind.BINANCE_PAY,
    "polar": Kind.STANDARD_WEBHOOKS,
    "dodo": Kind.STANDARD_WEBHOOKS,
    "dodopayments": Kind.STANDARD_WEBHOOKS,
}
"""What shops call the providers; `coinbase` is either of two."""
_USUAL: Final = Fields(
    reference="payment_id",
    order="order_id",
    user="user_id",
    plan="plan_id",
    amount="amount",
    currency="currency",
)
"""Where most webhooks say so. There is no way to a status: what nobody knows is never paid."""


def reader(method: str, configured: Mapping[str, Provider]) -> Reader:
    """Return who can read the webhooks of a payment method, in the shop's own word for it.

    1. The provider in `configured` that has this method.
    2. A provider of that name as it is everywhere.
    3. A cautious reader of common fields, for which nothing is ever paid.
    """
    wanted = method.lower()
    for provider in configured.values():
        if wanted in provider.methods:
            return provider.read
    bare = wanted.replace("-", "_").replace(" ", "_")
    if bare == "coinbase":
        commerce, business = (
            build(method, ProviderSettings(kind=kind)) for kind in (Kind.COINBASE_COMMERCE, Kind.COINBASE_BUSINESS)
        )
        return lambda payload: (business if "eventType" in table(payload) else commerce).read(payload)
    if bare in _WORDS:
        return build(method, ProviderSettings(kind=_WORDS[bare])).read
    return build(method, ProviderSettings(kind=Kind.GENERIC, fields=_USUAL)).read
