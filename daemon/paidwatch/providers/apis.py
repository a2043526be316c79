"""Which providers can be asked, and how the clients of their APIs are made."""

from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
from pydantic import SecretStr

from paidwatch.providers.api import Api
from paidwatch.providers.api_coinbase_commerce import CoinbaseCommerceApi
from paidwatch.providers.api_nowpayments import NowPaymentsApi
from paidwatch.providers.api_stripe import StripeApi
from paidwatch.providers.settings import Kind

ASKABLE: Final[Mapping[Kind, Callable[[str, frozenset[str], SecretStr, str, aiohttp.ClientSession], Api]]] = {
    Kind.NOWPAYMENTS: NowPaymentsApi,
    Kind.STRIPE: StripeApi,
    Kind.COINBASE_COMMERCE: CoinbaseCommerceApi,
}
"""The others cannot be asked about one payment by its id and a key alone."""


def build_api(
    name: str,
    kind: Kind,
    *,
    methods: frozenset[str],
    key: SecretStr,
    url: str,
    session: aiohttp.ClientSession,
) -> Api | None:
    """Return the API of `[providers.NAME]`, None where there is no key, or none of it can be asked."""
    if kind not in ASKABLE or not key.get_secret_value().strip():
        return None
    return ASKABLE[kind](name, methods or frozenset({name.lower()}), key, url, session)
