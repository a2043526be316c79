"""From the configuration's words to what the inside is built from."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from paidwatch.config.hours import hours_of, time_of, zone_of
from paidwatch.config.providers import Provider as ProviderSection
from paidwatch.config.providers import ProviderFields, kind_of
from paidwatch.config.settings import Settings
from paidwatch.core.breaker import Rules as BreakerRules
from paidwatch.core.guards import Mode
from paidwatch.core.model import Rules
from paidwatch.core.orders import DEFAULT_PATTERN, parse
from paidwatch.core.routing import Escalation, Route, Routing, Severity
from paidwatch.core.schedule import QuietHours
from paidwatch.core.webhook import Order, Signature, Status
from paidwatch.flow.policy import Policy
from paidwatch.providers import Fields, Kind, Provider, ProviderSettings, Signing, build
from paidwatch.store.connect import Target
from paidwatch.web.success import SuccessPage

if TYPE_CHECKING:
    import aiohttp

    from paidwatch.flow.forward import Destination
    from paidwatch.flow.settle import Source
    from paidwatch.ports import ProviderApi

_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


def policy_of(settings: Settings) -> Policy:
    """Return everything a reload may change."""
    activation, alerts, deliveries = settings.activation, settings.alerts, settings.deliveries
    zone = zone_of(alerts.time_zone)
    return Policy(
        grace=settings.grace.default,
        # Methods are compared without regard to case, in SQL too, where one payment must not match twice.
        grace_by_method={method.lower(): span for method, span in settings.grace.by_method.items()},
        rules=Rules(period_slack=settings.verdict.period_slack, amount_tolerance=settings.verdict.amount_tolerance),
        reminders=alerts.reminders,
        channels=tuple(settings.channels),
        routing=routing_of(settings),
        storm_threshold=alerts.storm_threshold,
        storm_window=alerts.storm_window,
        quiet=_quiet(alerts.quiet_hours, zone) if alerts.quiet_hours else None,
        digest_at=time_of(alerts.digest_at) if alerts.digest_at else None,
        zone=zone,
        expire=alerts.expire,
        heartbeat_url=alerts.heartbeat_url.get_secret_value(),
        heartbeat_every=alerts.heartbeat_every,
        mode=Mode(activation.mode),
        strategy=activation.strategy,
        auto_words=frozenset(settings.payments.auto),
        max_age=activation.max_age,
        max_amount=activation.max_amount,
        max_per_hour=activation.max_per_hour,
        max_per_day=activation.max_per_day,
        max_per_user_day=activation.max_per_user_per_day,
        require_corroboration=activation.require_corroboration,
        breaker=BreakerRules(
            failures=activation.breaker_failures,
            share=activation.breaker_share,
            window=activation.breaker_window,
            least=activation.breaker_least,
        ),
        link_key=activation.link_key.get_secret_value(),
        link_ttl=activation.link_ttl,
        public_url=settings.http.public_url.rstrip("/"),
        active_word=settings.users.active[0],
        event_type=settings.events.write,
        look_back=settings.reconcile.look_back,
        reconcile_every=settings.reconcile.every,
        keep_closed=settings.retention.closed,
        keep_attempts=settings.retention.attempts,
        keep_webhooks=settings.retention.webhooks,
        retry_first=deliveries.first_retry,
        retry_most=deliveries.max_retry,
        give_up=deliveries.give_up,
        lease=deliveries.lease,
    )


def routing_of(settings: Settings) -> Routing:
    """Return who is told what."""
    alerts = settings.alerts
    return Routing(
        usual=_usual(settings),
        low=frozenset(alerts.low),
        routes=tuple(
            Route(
                channels=route.channels,
                kinds=frozenset(route.kinds),
                severity=Severity(route.severity) if route.severity else None,
                methods=frozenset(method.lower() for method in route.methods),
                min_amount=route.min_amount,
            )
            for route in alerts.routes
        ),
        escalations=tuple(
            Escalation(
                after=step.after,
                channels=step.channels,
                min_amount=step.min_amount,
                severity=Severity(step.severity) if step.severity else None,
            )
            for step in alerts.escalations
        ),
    )


def _usual(settings: Settings) -> tuple[str, ...]:
    """Return who is told where no route fits: never nobody, where there is a channel."""
    alerts = settings.alerts
    if alerts.channels:
        return alerts.channels
    routed = {name for route in alerts.routes for name in route.channels}
    escalated = {name for step in alerts.escalations for name in step.channels}
    return tuple(name for name in settings.channels if name not in escalated - routed) or tuple(settings.channels)


def _quiet(text: str, zone: ZoneInfo) -> QuietHours:
    start, end = hours_of(text)
    return QuietHours(start=start, end=end, zone=zone)


def providers_of(settings: Settings) -> dict[str, Provider]:
    """Return every configured provider by its NAME; raises ConfigError for a certificate that is none."""
    return {name: provider_of(name, section) for name, section in settings.providers.items()}


def provider_of(name: str, section: ProviderSection) -> Provider:
    """Return one configured provider; raises ConfigError for a certificate that is none."""
    return build(name, _provider(name, section))


def apis_of(settings: Settings, session: "aiohttp.ClientSession") -> "dict[str, ProviderApi]":
    """Return the providers that can be asked about a payment, by their NAMEs."""
    from paidwatch.providers.apis import build_api  # noqa: PLC0415 - not needed by commands, which start fast

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


def sources_of(settings: Settings, providers: Mapping[str, Provider]) -> "dict[str, Source]":
    """Return the providers as the receiver of webhooks needs them."""
    from paidwatch.flow.settle import Source  # noqa: PLC0415 - not needed by commands, which start fast

    return {
        name: Source(
            provider=provider,
            has_secret=provider.verify({}, b"", _ANY_TIME) is not Signature.NO_SECRET,
            forwards=bool(settings.providers[name].forward_to),
        )
        for name, provider in providers.items()
    }


def destinations_of(settings: Settings) -> "tuple[Destination, ...]":
    """Return the application's handlers to which webhooks are passed on."""
    from paidwatch.flow.forward import Destination  # noqa: PLC0415 - not needed by commands, which start fast
    from paidwatch.outbound import read_url  # noqa: PLC0415 - the same

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
        methods=frozenset(method.lower() for method in section.methods),
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


def target_of(settings: Settings, *, statement_timeout: timedelta | None = None) -> Target:
    """Return where the database is."""
    return Target(
        dsn=settings.database.dsn.get_secret_value(),
        connect_timeout=settings.database.connect_timeout,
        statement_timeout=statement_timeout or settings.database.statement_timeout,
    )
