"""What a link comes to when it is opened, and when it is used: the only thing its page is made from.

All text may come from the application and is untrusted; people's names are masked already.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from paidwatch.core.guards import GuardResult
from paidwatch.core.said import pasteable


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """It is no link of this installation: forged, malformed or foreign, which is nobody's business."""


class End(StrEnum):
    """Why a link does nothing any more; constant words."""

    USED = "This link was used before; each link acts once."
    RESOLVED = "The alert is over: there is nothing left to approve."
    EXPIRED = "This link has expired."
    OFF = "paidwatch does not wait for approval at present: [activation] mode is not supervised."


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A link of this installation that does nothing any more."""

    end: End
    payment_id: str
    user_id: str | None
    at: datetime | None = None
    """When it was used, or expired."""
    result: str = ""
    """What came of it where it was used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the link would do now, and what every guard says about it."""

    alert_id: int
    payment_id: str
    user_id: str | None
    who: str
    """The user, recognisable only for who knows them already."""
    facts: tuple[tuple[str, str], ...]
    """Label and value: what is known of the payment, and what the user has now."""
    written: tuple[tuple[str, str], ...]
    """Label and value: what would be written; empty where nothing can be."""
    how: str
    """Whether paidwatch writes itself or asks the application."""
    guards: tuple[GuardResult, ...]
    refusals: tuple[str, ...]
    """Why it cannot be done now, a sentence each; empty where it can."""
    expires_at: datetime

    @property
    def possible(self) -> bool:
        """Say whether approving would do it, as far as can be seen now."""
        return not self.refusals


class Result(StrEnum):
    """What came of approving; constant words, also kept with the used link."""

    DONE = "activated"
    STARTED = "accepted, the application is being asked"
    REFUSED = "refused by a guard"
    TAKEN = "somebody else is activating the payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The end of one use of a link."""

    result: Result
    payment_id: str
    user_id: str | None
    notes: tuple[str, ...]
    """What was done, or why not, a sentence each."""
    guards: tuple[GuardResult, ...] = ()


Seen = Unknown | Over | Offer
Acted = Unknown | Over | Approved


def command(user_id: str | None, payment_id: str) -> str:
    """Return what does the same at a terminal, after looking first."""
    user, payment = pasteable(user_id), pasteable(payment_id)
    if user is None:
        return "paidwatch check"
    return f"paidwatch activate {user}{f' --payment {payment}' if payment else ''} --dry-run"
