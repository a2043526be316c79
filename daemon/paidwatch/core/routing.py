"""Who is told about what: the first fitting route, and further channels for what stays open too long."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum


class Severity(StrEnum):
    """How urgent a kind of alert is."""

    HIGH = "high"
    LOW = "low"
    """Waits for the end of the quiet hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a route looks at."""

    kind: str
    """A GapKind, or one of the kinds that are no gaps: `incident`, `channel_down`, …"""
    severity: Severity
    method: str | None
    """In any case of letters; None is unknown, which no condition on methods fits."""
    amount: Decimal | None
    """In whatever currency was paid; None is unknown, which no condition on amounts fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Channels for what meets every condition; an empty condition is met by everything."""

    channels: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    severity: Severity | None = None
    methods: frozenset[str] = frozenset()
    """In small letters."""
    min_amount: Decimal | None = None

    def fits(self, about: About) -> bool:
        """Return whether `about` meets every condition."""
        method = None if about.method is None else about.method.lower()
        return (
            (not self.kinds or about.kind in self.kinds)
            and (self.severity is None or about.severity is self.severity)
            and (not self.methods or method in self.methods)
            and _is_worth(about.amount, self.min_amount)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Further channels for what is still open at an age."""

    after: timedelta
    """Age of the alert."""
    channels: tuple[str, ...]
    min_amount: Decimal | None = None
    severity: Severity | None = None

    def fits(self, about: About) -> bool:
        """Return whether `about` meets both conditions."""
        return (self.severity is None or about.severity is self.severity) and _is_worth(about.amount, self.min_amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The owner's choices about who is told."""

    usual: tuple[str, ...]
    """Who is told where no route fits."""
    low: frozenset[str]
    """Kinds of low severity; every other one is high."""
    routes: tuple[Route, ...]
    """The first that fits decides alone."""
    escalations: tuple[Escalation, ...]
    """In ascending order of age."""

    def severity(self, kind: str) -> Severity:
        """Return how urgent alerts of `kind` are."""
        return Severity.LOW if kind in self.low else Severity.HIGH

    def channels(self, about: About) -> tuple[str, ...]:
        """Return who is told at once; a route without channels does not count, so that nothing goes unheard."""
        return next((route.channels for route in self.routes if route.channels and route.fits(about)), self.usual)

    def escalate_at(self, about: About, opened_at: datetime, steps_done: int) -> datetime | None:
        """Return when the next fitting step is due; None: no further step fits.

        `steps_done` is how many entries of `escalations` are behind, whether they fitted or not.
        """
        return next((opened_at + step.after for step in self.escalations[steps_done:] if step.fits(about)), None)

    def due_steps(
        self, about: About, opened_at: datetime, now: datetime, steps_done: int
    ) -> tuple[int, tuple[str, ...]]:
        """Return how many entries of `escalations` are behind now, and the channels of the fitting ones just passed.

        Several that became due together, after a pause, are one answer; a channel is named once. An entry is passed
        when its age is reached, also where it does not fit: an amount that grows later does not bring it back.
        """
        due = [step for step in self.escalations[steps_done:] if opened_at + step.after <= now]
        channels = _each_once(channel for step in due if step.fits(about) for channel in step.channels)
        return steps_done + len(due), channels


def _is_worth(amount: Decimal | None, least: Decimal | None) -> bool:
    return least is None or (amount is not None and amount >= least)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
