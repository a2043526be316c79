"""The owner's choices that the flow needs, as one frozen value: a reload swaps it whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from paidwatch.core.breaker import Rules as BreakerRules
from paidwatch.core.guards import Actor, Mode, Request
from paidwatch.core.model import Rules
from paidwatch.core.routing import Routing
from paidwatch.core.schedule import QuietHours


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything a reload may change while the daemon runs."""

    grace: timedelta
    grace_by_method: Mapping[str, timedelta]
    rules: Rules
    reminders: Sequence[timedelta]
    """Ages of an open gap at which people are told again."""
    channels: Sequence[str]
    """Every channel there is, in the order of the configuration; `routing` says who is told what."""
    routing: Routing
    storm_threshold: int
    """So many alike within `storm_window` become one incident."""
    storm_window: timedelta
    quiet: QuietHours | None
    """When low severity waits for the morning; None is never."""
    digest_at: time | None
    """Time of day of the daily digest, in `zone`; None is never."""
    zone: ZoneInfo
    expire: timedelta
    """Age at which an open alert is given up."""
    heartbeat_url: str = field(repr=False)
    """Address that is called while the whole pipe works, a secret; empty is none."""
    heartbeat_every: timedelta
    mode: Mode
    strategy: str
    """`sql` or `http`."""
    auto_words: frozenset[str]
    max_age: timedelta
    max_amount: Decimal | None
    max_per_hour: int
    max_per_day: int
    max_per_user_day: int
    require_corroboration: bool
    breaker: BreakerRules
    link_key: str = field(repr=False)
    """Signs links, a secret; empty is no links."""
    link_ttl: timedelta
    public_url: str
    """Address under which people reach paidwatch; empty is no links."""
    active_word: str
    event_type: str
    look_back: timedelta
    reconcile_every: timedelta
    keep_closed: timedelta
    keep_attempts: timedelta
    keep_webhooks: timedelta
    retry_first: timedelta
    retry_most: timedelta
    give_up: timedelta
    lease: timedelta

    def request(self, actor: Actor, *, corroborated: bool | None = None) -> Request:
        """Return the wish to grant one payment, as the guards want it; a person at a terminal is a second witness.

        `corroborated` is what the payment provider says.
        """
        return Request(
            actor=actor,
            mode=self.mode,
            auto_words=self.auto_words,
            max_age=self.max_age,
            max_amount=self.max_amount,
            require_corroboration=self.require_corroboration and actor is not Actor.MANUAL,
            corroborated=corroborated,
            rules=self.rules,
        )

    def machine(self) -> tuple[object, ...]:
        """Return the choices about automatic activation: where they change, open gaps are to be judged anew."""
        reins = (self.max_per_hour, self.max_per_day, self.max_per_user_day, self.max_amount, self.max_age)
        return (self.mode, self.strategy, self.auto_words, self.require_corroboration, self.breaker, *reins)

    def graces(self) -> tuple[list[str], list[timedelta], timedelta]:
        """Return methods, their graces and the default, as statements take them."""
        return list(self.grace_by_method), list(self.grace_by_method.values()), self.grace
