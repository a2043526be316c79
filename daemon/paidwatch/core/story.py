"""What the database knows about one alert at the moment of sending: the only thing a message is made from."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from paidwatch.core.model import Outcome

BASELINE = "baseline"
"""The kind of the one digest of the first run."""
TEST = "test"
"""The kind of a story that `paidwatch test-alert` starts and ends."""


class State(StrEnum):
    """Where a story stands."""

    OPEN = "open"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One alert as one channel is to be told it now, from the present truth and not from what was true when it opened.

    All text may come from the application and is untrusted. Times are aware; None is unknown. A digest or a test has
    no payment.
    """

    alert_id: str
    kind: str
    """A GapKind, `baseline`, `test`, or a kind that a later version opens."""
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
    """A named cause, in constant words."""
    sharing: int = 0
    """How many other open gaps have the same cause."""
    detail: str = ""
    """The application's own words."""
    activation: tuple[str, ...] = ()
    """What automatic activation did or would have done, or which guards refused; one line each."""
    delay: str = ""
    """Why it was noticed late: `the watcher was not listening for 42 s`."""
    digest: tuple[str, ...] = ()
    """The lines of a digest or a test."""
