"""From the configuration's words to what the inside is built from; what the HTTP side is built from is in `gateway`."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from paidwatch.config.hours import hours_of, time_of, zone_of
from paidwatch.config.settings import Settings
from paidwatch.core.breaker import Rules as BreakerRules
from paidwatch.core.guards import Mode
from paidwatch.core.model import Rules
from paidwatch.core.routing import Escalation, Route, Routing, Severity
from paidwatch.core.schedule import QuietHours
from paidwatch.flow.policy import Policy
from paidwatch.store.connect import Target


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


def target_of(settings: Settings, *, statement_timeout: timedelta | None = None) -> Target:
    """Return where the database is."""
    return Target(
        dsn=settings.database.dsn.get_secret_value(),
        connect_timeout=settings.database.connect_timeout,
        statement_timeout=statement_timeout or settings.database.statement_timeout,
    )
