"""Who is told what, when, and how often."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from paidwatch.config.credentials import NO_SECRET
from paidwatch.config.hours import Hours, TimeOfDay, Zone
from paidwatch.config.section import Section
from paidwatch.config.values import MOST, Count, OptionalSecretUrl, Span, check_some
from paidwatch.config.wrong import Wrong

_BUSIEST_HEART = timedelta(seconds=1)


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return `names` if none of them occurs twice, in whatever case; raises Wrong."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name.lower() in seen:
            what = "stands in the list twice"
            raise Wrong(what, "keep one of them", below=(index,))
        seen.add(name.lower())
    return names


def _check_methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    for index, method in enumerate(methods):
        if not method or method != method.strip():
            what = "is empty or has blanks around it"
            raise Wrong(what, "write the method as it stands in the payments table", below=(index,))
    return _each_once(methods)


Gap = Literal[
    "paid_not_active",
    "tier_mismatch",
    "renewal_not_applied",
    "paid_but_revoked",
    "activation_failed",
    "amount_mismatch",
    "reversed_but_active",
    "user_missing_or_disabled",
    "orphan_webhook",
    "provider_paid_db_pending",
    "underpaid",
    "webhook_failed",
    "webhook_bad_signature",
    "provider_silent",
]
Rated = Literal[Gap, "double_activation", "forward_failed", "breaker"]
"""What may be of low severity: gaps, and what wants a person for another reason."""
Gaps = Annotated[tuple[Rated, ...], AfterValidator(_each_once)]
Routable = Literal[Rated, "daily"]
"""An incident goes where its members go, and what paidwatch tells of its own troubles to the usual channels."""
Kinds = Annotated[tuple[Routable, ...], AfterValidator(_each_once)]
Names = Annotated[tuple[str, ...], AfterValidator(_each_once)]
"""Names of channels; that they exist is looked at once everything is read."""
SomeNames = Annotated[tuple[str, ...], AfterValidator(check_some), AfterValidator(_each_once)]
Methods = Annotated[tuple[str, ...], AfterValidator(_check_methods)]
Amount = Annotated[Decimal, Field(gt=0)]


class Route(Section):
    """Channels for what meets all its conditions; the first route that fits decides alone."""

    channels: SomeNames
    """Names of the channels that are told."""
    kinds: Kinds = ()
    """Kinds of alert. An incident goes where its members go; the daily digest follows only a route that names it."""
    severity: Literal["high", "low"] | None = None
    """Severity, see `alerts.low`."""
    methods: Methods = ()
    """Payment methods, in the words of the payments table; capital letters make no difference."""
    min_amount: Amount | None = None
    """Least amount, in whatever currency was paid."""


class Escalation(Section):
    """Further channels for what is still open, and not acknowledged, at an age. Each is told once."""

    after: Span
    """Age of the alert."""
    channels: SomeNames
    """Names of the channels that are told as well."""
    min_amount: Amount | None = None
    """Least amount, in whatever currency was paid."""
    severity: Literal["high", "low"] | None = None
    """Severity, see `alerts.low`."""


class Alerts(Section):
    """Who is told what, when, and how often."""

    channels: Names = ()
    """Names of the channels that are told where no route fits, also of paidwatch's own troubles; empty: all but those
    that only escalations name."""
    low: Gaps = ("amount_mismatch",)
    """Kinds of low severity; all others are high."""
    reminders: tuple[Span, ...] = (
        timedelta(minutes=30),
        timedelta(hours=1),
        timedelta(hours=2),
        timedelta(hours=4),
    )
    """Ages of an open gap at which it is told again; none with an empty list."""
    storm_threshold: Count = Field(default=5, ge=2, le=MOST)
    """Gaps of one cause within `storm_window` that become one incident."""
    storm_window: Span = timedelta(minutes=1)
    """See `storm_threshold`."""
    quiet_hours: Hours = ""
    """Hours like `22:00-07:00` in which low severity waits for one digest at their end; empty: none."""
    time_zone: Zone = "UTC"
    """Zone of `quiet_hours` and `digest_at`."""
    digest_at: TimeOfDay = "09:00"
    """When the daily digest is sent, also after a day without payments; empty: never."""
    expire: Span = timedelta(days=30)
    """Age at which an open alert is closed as expired."""
    heartbeat_url: OptionalSecretUrl = NO_SECRET
    """Address that is called every `heartbeat_every`, only while everything from the database's bell to the channels
    works; whoever misses the calls notices that paidwatch is down. Empty: none."""
    heartbeat_every: Span = timedelta(minutes=1)
    """See `heartbeat_url`."""
    routes: tuple[Route, ...] = ()
    """See [[alerts.routes]]."""
    escalations: tuple[Escalation, ...] = ()
    """See [[alerts.escalations]]; in ascending order of `after`."""

    @field_validator("reminders")
    @classmethod
    def _ascending(cls, ages: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if list(ages) != sorted(set(ages)):
            what = "is not in ascending order"
            raise Wrong(what, "each entry is the age of the gap, so each is longer than the one before")
        return ages

    @field_validator("heartbeat_every")
    @classmethod
    def _not_too_often(cls, every: timedelta) -> timedelta:
        if every < _BUSIEST_HEART:
            what = "is shorter than a second"
            raise Wrong(what, 'write "1m", or what the service that counts the calls expects')
        return every

    @field_validator("escalations")
    @classmethod
    def _in_order(cls, steps: tuple[Escalation, ...]) -> tuple[Escalation, ...]:
        for index in range(1, len(steps)):
            if steps[index].after < steps[index - 1].after:
                what = "is shorter than that of the escalation before it"
                raise Wrong(what, "write the escalations in ascending order of after", below=(index, "after"))
        return steps
