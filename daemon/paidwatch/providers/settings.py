"""What a provider needs to know, made from its section of the configuration. Keys are secrets: no repr shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr

from paidwatch.core.orders import DEFAULT_PATTERN
from paidwatch.core.webhook import Status


class Kind(StrEnum):
    """Whose webhooks there are."""

    NOWPAYMENTS = "nowpayments"
    STRIPE = "stripe"
    COINBASE_COMMERCE = "coinbase_commerce"
    COINBASE_BUSINESS = "coinbase_business"
    STANDARD_WEBHOOKS = "standard_webhooks"
    BINANCE_PAY = "binance_pay"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How the type `generic` signs a body."""

    header: str = ""
    """In small letters."""
    prefix: str = ""
    digest: str = "sha256"
    """The name `hashlib` knows."""
    base64: bool = False
    """Else in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where a configured webhook says what: ways like `data.items.0.id`, "" where it does not."""

    status: str = ""
    reference: str = ""
    event: str = ""
    order: str = ""
    user: str = ""
    plan: str = ""
    amount: str = ""
    currency: str = ""
    words: Mapping[str, Status] = field(default_factory=dict[str, Status])
    """What each status word means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider."""

    kind: Kind
    secrets: tuple[SecretStr, ...] = ()
    """The key of the signatures, and the ones before it that are still accepted."""
    certificate: str = ""
    """Public keys or certificates in PEM, one after the other."""
    methods: tuple[str, ...] = ()
    """Payment methods that come through it, in small letters, the usual one first; empty: its name."""
    order_pattern: str = DEFAULT_PATTERN
    kept_headers: frozenset[str] = frozenset()
    """Headers that are kept besides those of the signature, in small letters."""
    signing: Signing = Signing()
    fields: Fields = field(default_factory=Fields)
