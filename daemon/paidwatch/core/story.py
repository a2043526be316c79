"""What the database knows about one alert at the moment of sending: the only thing a message is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from paidwatch.core.answer import Asked
from paidwatch.core.model import Outcome
from paidwatch.core.routing import Severity

BASELINE: Final = "baseline"
"""The kind of the one digest of the first run."""
TEST: Final = "test"
"""The kind of a story that `paidwatch test-alert` starts and ends."""
INCIDENT: Final = "incident"
"""Many gaps that are alike, told as one."""
CHANNEL_DOWN: Final = "channel_down"
"""A channel that takes nothing, told on the others."""
HELD: Final = "held"
"""The digest of what waited for a broken channel, told once it works again."""
MORNING: Final = "morning"
"""The digest of what waited for the end of the quiet hours."""
DAILY: Final = "daily"
"""The proof of life, once a day."""
AUDIT: Final = "audit"
"""What should have been told and was not."""
BREAKER: Final = "breaker"
"""Automatic activation was stopped, by itself or by a person."""
DOUBLE: Final = "double_activation"
"""The application activated a payment that paidwatch had activated."""
FORWARD: Final = "forward_failed"
"""The application does not take the webhooks of a provider."""

BUNDLES: Final = frozenset({HELD, MORNING})
"""The kinds that tell several stories in one line each."""
DIGESTS: Final = BUNDLES | {BASELINE, DAILY}
"""The kinds that nothing has to follow."""


class State(StrEnum):
    """Where a story stands."""

    OPEN = "open"
    ACKED = "acked"
    """Somebody looks after it; it is as little over as an open one, and nobody is reminded."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Many gaps of one kind, method and cause, as they are now. `open`, `rescued` and `otherwise` add up to `total`."""

    kind_of: str
    """The GapKind of its members."""
    method: str | None
    started_at: datetime
    """When the first of them opened."""
    total: int
    open: int
    """Not over; an acknowledged one is not over."""
    rescued: int
    """Activated, by the application or by paidwatch."""
    otherwise: int
    """Over for another reason: reversed, left, gone, dismissed, expired."""
    money_at_risk: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Of the open ones, by currency; empty text stands for an unknown currency."""
    oldest_paid_at: datetime | None = None
    """Of the open ones."""
    causes: tuple[tuple[str, int], ...] = ()
    """The most frequent ones, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """What the log of webhooks has about a payment, or about what is counted; None is: there is none of that."""

    count: int
    first_at: datetime
    last_at: datetime
    paid_at: datetime | None = None
    """The first signed one that says paid."""
    moving_at: datetime | None = None
    """The last signed one that says the money is awaited or moving."""
    bad_at: datetime | None = None
    """The last one whose signature is wrong."""
    failed_at: datetime | None = None
    """The last one that the application could not handle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One alert as one channel is to be told it now, from the present truth and not from what was true when it opened.

    All text may come from the application and is untrusted. Times are aware; None is unknown. Only a gap has a
    payment.
    """

    alert_id: str
    kind: str
    """A GapKind, one of the kinds above, or a kind that a later version opens."""
    state: State
    revision: int
    """Grows with everything worth telling."""
    reminders: int
    """How many reminders are due or were sent; 0 before the first."""
    announced: bool
    """This channel has taken a message of this story before."""
    opened_at: datetime
    resolved_at: datetime | None = None
    outcome: Outcome | None = None
    ended_by: str | None = None
    """Who dismissed it."""
    ended_why: str = ""
    """The reason that person gave."""
    severity: Severity = Severity.HIGH

    acked_by: str | None = None
    """Who acknowledged it last; stays when the acknowledgement is over."""
    acked_until: datetime | None = None
    """None unless it is acknowledged now."""
    escalated: bool = False
    """This channel hears of it because of an escalation, not because of the route."""
    escalations: int = 0
    """How many steps of the escalation were taken."""
    escalated_from: Decimal | None = None
    """The least amount of the step that brought it to this channel; None: its age alone."""

    payment_id: str | None = None
    user_id: str | None = None
    user_label: str | None = None
    """E-mail or name; never shown unmasked."""
    plan_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    method: str | None = None
    reference: str | None = None
    """The provider's id of the payment."""
    status: str | None = None
    """The application's own word for the payment."""

    paid_at: datetime | None = None
    noticed_at: datetime | None = None
    """When the watcher saw it."""
    due_at: datetime | None = None
    """The end of the grace period."""

    cause: str = ""
    """A named cause, in constant words; of a broken channel, the reason."""
    webhooks: Webhooks | None = None
    asked: Asked | None = None
    """What the payment provider says; None: it is not asked."""
    sharing: int = 0
    """How many other open gaps have the same cause."""
    detail: str = ""
    """The application's own words."""
    mode: str = ""
    """How automatic activation stands: `shadow, would have been right 41 of 41`; empty says nothing about it."""
    activation: tuple[str, ...] = ()
    """What automatic activation did or would have done, or which guards refused; one line each."""
    proposed: bool = False
    """Every guard of an activation holds but the mode, which waits for a person."""
    link: str = field(default="", repr=False)
    """Address of the page on which this channel's readers may approve the activation: a credential."""
    activation_id: str | None = None
    """The activation that a story about one is about."""
    delay: str = ""
    """Why it was noticed late: `the watcher was not listening for 42 s`."""
    digest: tuple[str, ...] = ()
    """The lines of a digest, an audit or a test; of the daily digest, `Label: value` is a fact of its own."""

    incident: Incident | None = None
    """Only of an incident."""
    about_channel: str | None = None
    """The channel that is broken, or that works again and is told what it missed."""
    waiting: int | None = None
    """How many messages wait for the broken channel, or webhooks for the application's handler."""
    dead: int | None = None
    """How many webhooks the application's handler refused, or did not take in time."""
    away_since: datetime | None = None
    """Since when that handler takes nothing; None: it takes some."""
    members: tuple[str, ...] = ()
    """What a bundle tells: one line per story, made by `core.render.line_of`."""
    members_total: int = 0
    """How many stories it tells, where there are more of them than lines."""
