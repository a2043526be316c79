"""From the configuration's words to what the inside is built from."""

from datetime import timedelta

from paidwatch.config.settings import Settings
from paidwatch.core.guards import Mode
from paidwatch.core.model import Rules
from paidwatch.flow.policy import Policy
from paidwatch.store.connect import Target


def policy_of(settings: Settings) -> Policy:
    """Return everything a reload may change."""
    activation, deliveries = settings.activation, settings.deliveries
    return Policy(
        grace=settings.grace.default,
        # Methods are compared without regard to case, in SQL too, where one payment must not match twice.
        grace_by_method={method.lower(): span for method, span in settings.grace.by_method.items()},
        rules=Rules(period_slack=settings.verdict.period_slack, amount_tolerance=settings.verdict.amount_tolerance),
        reminders=settings.alerts.reminders,
        channels=tuple(settings.channels),
        mode=Mode(activation.mode),
        auto_words=frozenset(settings.payments.auto),
        max_age=activation.max_age,
        max_amount=activation.max_amount,
        max_per_hour=activation.max_per_hour,
        max_per_day=activation.max_per_day,
        max_per_user_day=activation.max_per_user_per_day,
        require_corroboration=activation.require_corroboration,
        active_word=settings.users.active[0],
        event_type=settings.events.write,
        look_back=settings.reconcile.look_back,
        reconcile_every=settings.reconcile.every,
        keep_closed=settings.retention.closed,
        keep_attempts=settings.retention.attempts,
        retry_first=deliveries.first_retry,
        retry_most=deliveries.max_retry,
        give_up=deliveries.give_up,
        lease=deliveries.lease,
    )


def target_of(settings: Settings, *, statement_timeout: timedelta | None = None) -> Target:
    """Return where the database is."""
    return Target(
        dsn=settings.database.dsn.get_secret_value(),
        connect_timeout=settings.database.connect_timeout,
        statement_timeout=statement_timeout or settings.database.statement_timeout,
    )
