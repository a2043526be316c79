"""When the machine must stop and call a person: activations keep failing, or too many recent payments became gaps.

What happened before the breaker was last armed is not counted: the person who armed it has seen that.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

FAILING: Final = "activations fail one after the other"
GAPPING: Final = "a large share of recent payments became gaps, as after a broken deploy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The owner's choices: `[activation] breaker_…`."""

    failures: int = 3
    """So many failed activations in a row; 0 is never."""
    share: Decimal = Decimal("0.5")
    """Share of the payments within `window` that became gaps; 0 is never."""
    window: timedelta = timedelta(hours=1)
    least: int = 10
    """Payments within `window` before their share counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What happened since the breaker was armed."""

    failures_in_row: int
    """Activations that failed for good since the last one that was done."""
    payments: int
    """Payments within the window that have a verdict."""
    gaps: int
    """Of these, the ones that were not activated by the application in time."""


def trip(recent: Recent, rules: Rules) -> str | None:
    """Return why the breaker must open, in constant words; None: it stays as it is."""
    if 0 < rules.failures <= recent.failures_in_row:
        return FAILING
    enough = recent.payments >= max(rules.least, 1)
    if rules.share > 0 and enough and recent.gaps >= rules.share * recent.payments:
        return GAPPING
    return None
