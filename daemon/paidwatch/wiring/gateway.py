"""From the configuration's words to what the HTTP side is built from: providers, handlers, the success page.

A module of its own, because commands that only ask the database start twice as fast without it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp

from paidwatch.config.providers import Provider as ProviderSection
from paidwatch.config.providers import ProviderFields, kind_of
from paidwatch.config.settings import Settings
from paidwatch.core.orders import DEFAULT_PATTERN, parse
from paidwatch.core.webhook import Order, Signature, Status
from paidwatch.flow.forward import Destination
from paidwatch.flow.settle import Source
from paidwatch.outbound import read_url
from paidwatch.ports import ProviderApi
from paidwatch.providers import Fields, Kind, Provider, ProviderSettings, Signing, build
from paidwatch.providers.apis import build_api
from paidwatch.web.success import SuccessPage

_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


def providers_of(settings: Settings) -> dict[str, Provider]:
    """Return every configured provider by its NAME; raises ConfigError for a certificate that is none."""
    return {name: provider_of(name, section) for name, section in settings.providers.items()}


def provider_of(name: str, section: ProviderSection) -> Provider:
    """Return one configured provider; raises ConfigError for a certificate that is none."""
    return build(name, _provider(name, section))


def apis_of(settings: Settings, session: aiohttp.ClientSession) -> dict[str, ProviderApi]:
    """Return the providers that can be asked about a payment, by their NAMEs."""
    made = {
        name: build_api(
            name,
            Kind(kind_of(name, section)),
            methods=frozenset(method.lower() for method in section.methods),
            key=section.api_key,
            url=section.api_url,
            session=session,
        )
        for name, section in settings.providers.items()
    }
    return {name: api for name, api in made.items() if api is not None}


def sources_of(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Source]:
    """Return the providers as the receiver of webhooks needs them."""
    return {
        name: Source(
            provider=provider,
            has_secret=provider.verify({}, b"", _ANY_TIME) is not Signature.NO_SECRET,
            forwards=bool(settings.providers[name].forward_to),
        )
        for name, provider in providers.items()
    }


def destinations_of(settings: Settings) -> tuple[Destination, ...]:
    """Return the application's handlers to which webhooks are passed on."""
    return tuple(
        Destination(provider=name, url=url, give_up=section.forward_give_up)
        for name, section in settings.providers.items()
        if (url := read_url(section.forward_to)) is not None
    )


def _provider(name: str, section: ProviderSection) -> ProviderSettings:
    signature = section.signature
    return ProviderSettings(
        kind=Kind(kind_of(name, section)),
        secrets=(section.secret, *section.old_secrets),
        certificate=section.certificate,
        methods=tuple(method.lower() for method in section.methods),
        order_pattern=section.order_pattern,
        kept_headers=frozenset(section.forward_headers) - {""},
        signing=Signing(
            header=signature.header,
            prefix=signature.prefix,
            digest=signature.digest.removeprefix("hmac-"),
            base64=signature.encoding == "base64",
        ),
        fields=_fields(section.fields),
    )


def _fields(fields: ProviderFields) -> Fields:
    words = (fields.pending, fields.settling, fields.paid, fields.underpaid, fields.failed, fields.reversed)
    meanings = (Status.PENDING, Status.SETTLING, Status.PAID, Status.UNDERPAID, Status.FAILED, Status.REVERSED)
    return Fields(
        status=fields.status,
        reference=fields.reference,
        event=fields.event,
        order=fields.order,
        user=fields.user,
        plan=fields.plan,
        amount=fields.amount,
        currency=fields.currency,
        words={word: status for said, status in zip(words, meanings, strict=True) for word in said},
    )


def success_page_of(settings: Settings) -> SuccessPage:
    """Return what the pages for customers go by."""
    page = settings.success_page
    patterns = dict.fromkeys([*(it.order_pattern for it in settings.providers.values()), DEFAULT_PATTERN])

    def order_of(session_id: str) -> Order | None:
        return next((order for pattern in patterns if (order := parse(session_id, pattern)) is not None), None)

    return SuccessPage(
        url=page.url,
        unknown_url=page.unknown_url,
        key=page.key.get_secret_value(),
        origins=page.allowed(),
        order_of=order_of,
    )
