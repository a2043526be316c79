"""[providers.NAME]: whose webhooks come, how they are proven, where they go on to, and what is asked of their API."""

import re
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, SecretStr

from paidwatch.config.credentials import NO_SECRET, key_of
from paidwatch.config.section import Section
from paidwatch.config.values import Name, Span, Url, Words
from paidwatch.config.wrong import Wrong, did_you_mean
from paidwatch.core.orders import DEFAULT_PATTERN

TYPES: Final = (
    "nowpayments",
    "stripe",
    "coinbase_commerce",
    "coinbase_business",
    "standard_webhooks",
    "binance_pay",
    "generic",
)
"""Every type there is, as `type` spells them."""
ASKABLE: Final = frozenset({"nowpayments", "stripe", "coinbase_commerce"})
"""The types whose API can be asked about one payment."""

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH: Final = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_PEM: Final = re.compile(
    r"\s*(?:-----BEGIN (CERTIFICATE|PUBLIC KEY|RSA PUBLIC KEY)-----\s[A-Za-z0-9+/=\s]+-----END \1-----\s*)+"
)
_NAMED_GROUPS: Final = frozenset({"user", "plan", "time"})


def _check_header(name: str) -> str:
    if name and not _HEADER.fullmatch(name):
        what = "is not the name of a header"
        raise Wrong(what, 'write it like "x-signature"')
    return name.lower()


def _check_path(path: str) -> str:
    if path and not _PATH.fullmatch(path):
        what = "is not the way to a value"
        raise Wrong(what, 'write the keys with dots between them, like "data.object.id" or "items.0.id"')
    return path


def _check_pattern(text: str) -> str:
    form = "write a regular expression with the groups (?P<user>…), (?P<plan>…) and (?P<time>…)"
    try:
        pattern = re.compile(text)
    except re.error:
        what = "is not a regular expression"
        raise Wrong(what, form) from None
    names = pattern.groupindex.keys()
    if names != _NAMED_GROUPS and (names or pattern.groups != len(_NAMED_GROUPS)):
        what = "does not have the three groups"
        raise Wrong(what, form)
    return text


def _check_certificate(text: str) -> str:
    if text and not _PEM.fullmatch(text):
        what = "is not a certificate or public key in PEM"
        raise Wrong(what, 'it begins with "-----BEGIN"; give several one after the other')
    return text


HeaderName = Annotated[str, AfterValidator(_check_header)]
"""The name of a header, in small letters, or ""."""
JsonPath = Annotated[str, AfterValidator(_check_path)]
"""The way to a value in a JSON document, or ""."""
OrderPattern = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression that takes an order id apart."""
Certificate = Annotated[str, AfterValidator(_check_certificate)]
"""Certificates or public keys in PEM, or ""."""


class ProviderSignature(Section):
    """How webhooks of the type `generic` are signed: over the body as it comes, by the secret."""

    header: HeaderName = ""
    """Header with the signature."""
    prefix: str = ""
    """What stands before the signature in that header, like `sha256=`."""
    digest: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    """How it is computed."""
    encoding: Literal["hex", "base64"] = "hex"
    """How it is written."""


class ProviderFields(Section):
    """Where a webhook says what, and in which words; for the types `generic` and `standard_webhooks`."""

    status: JsonPath = ""
    """Way to the word for what happened, like `data.status`."""
    reference: JsonPath = ""
    """Way to the provider's id of the payment."""
    event: JsonPath = ""
    """Way to the id of the message, which is the same when it is sent again."""
    order: JsonPath = ""
    """Way to the order id."""
    user: JsonPath = ""
    """Way to the key of the user, where the order id does not say it."""
    plan: JsonPath = ""
    """Way to the key of the plan, where the order id does not say it."""
    amount: JsonPath = ""
    """Way to the price."""
    currency: JsonPath = ""
    """Way to the currency of the price."""
    pending: Words = ()
    """Words that mean not paid yet."""
    settling: Words = ()
    """Words that mean money was seen and is not final."""
    paid: Words = ()
    """Words that mean paid."""
    underpaid: Words = ()
    """Words that mean too little was paid."""
    failed: Words = ()
    """Words that mean never paid."""
    reversed: Words = ()
    """Words that mean the money went back."""


class Provider(Section):
    """One payment provider."""

    type: (
        Literal[
            "nowpayments",
            "stripe",
            "coinbase_commerce",
            "coinbase_business",
            "standard_webhooks",
            "binance_pay",
            "generic",
        ]
        | None
    ) = None
    """Whose webhooks these are; left out, what NAME says."""
    secret: SecretStr = NO_SECRET
    """Key of the webhook signatures; empty: every webhook is refused."""
    old_secrets: tuple[SecretStr, ...] = ()
    """Further keys that are accepted, while keys are changed."""
    certificate: Certificate = ""
    """For `binance_pay`, in place of a secret: the public key or certificate in PEM; several while they are changed."""
    api_key: SecretStr = NO_SECRET
    """Key of the provider's API, which is asked about gaps; for `nowpayments`, `stripe` and `coinbase_commerce`."""
    api_url: Url = ""
    """Address of the provider's API, where it is not the usual one."""
    methods: Words = ()
    """Payment methods of the payments table for this provider; webhooks are logged under the first; empty: NAME."""
    order_pattern: OrderPattern = DEFAULT_PATTERN
    """Regular expression that takes order ids apart, with the groups `user`, `plan` and `time`."""
    forward_to: Url = ""
    """Address of the application's own webhook handler, to which a verified webhook is passed on."""
    forward_headers: tuple[HeaderName, ...] = ()
    """Headers that are kept and passed on besides those of the signature."""
    forward_give_up: Span = timedelta(days=3)
    """Age at which a webhook that the application does not take becomes a dead letter."""
    signature: ProviderSignature = ProviderSignature()
    """See [providers.NAME.signature]."""
    fields: ProviderFields = ProviderFields()
    """See [providers.NAME.fields]."""


def kind_of(name: str, provider: Provider) -> str:
    """Return whose webhooks `[providers.NAME]` is about."""
    return provider.type or name.replace("-", "_")


def _check_providers(providers: dict[str, Provider]) -> dict[str, Provider]:
    """Refuse what only shows when the NAME is known; raises Wrong."""
    taken: dict[str, str] = {}
    for name, provider in providers.items():
        _check_kind(name, provider)
        for method in provider.methods or (name,):
            if method.lower() in taken:
                what = f'and providers.{taken[method.lower()]} both mean the payment method "{method}"'
                below = (name, "methods") if provider.methods else (name,)
                raise Wrong(what, "keep it in one of them", below=below)
            taken[method.lower()] = name
    return providers


def _check_kind(name: str, provider: Provider) -> None:
    kind = kind_of(name, provider)
    if kind not in TYPES:
        what = "is missing, and NAME is none of them"
        raise Wrong(what, did_you_mean(name, TYPES) or f"write one of {', '.join(TYPES)}", below=(name, "type"))
    if kind == "generic" and not provider.signature.header:
        what = "is missing"
        raise Wrong(what, "name the header with the signature", below=(name, "signature", "header"))
    if kind != "generic" and provider.signature != ProviderSignature():
        what = f"is not for {kind}, whose signatures are known"
        raise Wrong(what, 'leave it out, or write type = "generic"', below=(name, "signature"))
    if kind not in {"generic", "standard_webhooks"} and provider.fields != ProviderFields():
        what = f"is not for {kind}, whose webhooks are known"
        raise Wrong(what, 'leave it out, or write type = "generic"', below=(name, "fields"))
    if kind == "standard_webhooks":
        _check_keys(name, provider)
    if kind not in ASKABLE and (provider.api_key.get_secret_value() or provider.api_url):
        what = f"is not for {kind}, which cannot be asked about a payment"
        below = "api_key" if provider.api_key.get_secret_value() else "api_url"
        raise Wrong(what, "leave it out", below=(name, below))
    _check_words(name, provider.fields)
    if kind == "binance_pay":
        if provider.secret.get_secret_value() or provider.old_secrets:
            what = "is not for binance_pay, which signs with a certificate"
            raise Wrong(what, "give certificate", below=(name, "secret"))
    elif provider.certificate:
        what = f"is not for {kind}, which signs with a secret"
        raise Wrong(what, "give secret", below=(name, "certificate"))


def _check_keys(name: str, provider: Provider) -> None:
    form = "copy it from the provider's dashboard; it may follow whsec_"
    what = "is not a key in base64"
    if provider.secret.get_secret_value().strip() and not key_of(provider.secret):
        raise Wrong(what, form, below=(name, "secret"))
    for index, secret in enumerate(provider.old_secrets):
        if not key_of(secret):
            raise Wrong(what, form, below=(name, "old_secrets", index))


def _check_words(name: str, fields: ProviderFields) -> None:
    seen: dict[str, str] = {}
    for key in ("pending", "settling", "paid", "underpaid", "failed", "reversed"):
        words: Words = getattr(fields, key)
        for word in words:
            if word in seen:
                what = f'and {seen[word]} both name "{word}"'
                raise Wrong(what, "keep it in one of them", below=(name, "fields", key))
            seen[word] = key


Providers = Annotated[dict[Name, Provider], AfterValidator(_check_providers)]
"""Every provider by its NAME."""
