"""The owner's choices that the flow needs, as one frozen value: a reload swaps it whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from paidwatch.core.guards import Actor, Mode, Request
from paidwatch.core.model import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything a reload may change while the daemon runs."""

    grace: timedelta
    grace_by_method: Mapping[str, timedelta]
    rules: Rules
    reminders: Sequence[timedelta]
    """Ages of an open gap at which people are told again."""
    channels: Sequence[str]
    """Who is told; in the order of the configuration."""
    mode: Mode
    auto_words: frozenset[str]
    max_age: timedelta
    max_amount: Decimal | None
    max_per_hour: int
    max_per_day: int
    max_per_user_day: int
    require_corroboration: bool
    active_word: str
    event_type: str
    look_back: timedelta
    reconcile_every: timedelta
    keep_closed: timedelta
    keep_attempts: timedelta
    retry_first: timedelta
    retry_most: timedelta
    give_up: timedelta
    lease: timedelta

    def request(self, actor: Actor) -> Request:
        """Return the wish to grant one payment, as the guards want it; a person is a witness of their own."""
        return Request(
            actor=actor,
            mode=self.mode,
            auto_words=self.auto_words,
            max_age=self.max_age,
            max_amount=self.max_amount,
            require_corroboration=self.require_corroboration and actor is Actor.AUTO,
            rules=self.rules,
        )

    def graces(self) -> tuple[list[str], list[timedelta], timedelta]:
        """Return methods, their graces and the default, as statements take them."""
        return list(self.grace_by_method), list(self.grace_by_method.values()), self.grace
