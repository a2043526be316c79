"""The gaps there are now, judged from the application's own tables, whether or not a daemon runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.config import Settings
from paidwatch.core.access import money
from paidwatch.core.model import Facts, Gap
from paidwatch.core.verdict import judge
from paidwatch.flow.policy import Policy
from paidwatch.store import installation, report
from paidwatch.store.pool import Session
from paidwatch.store.report import Keys, Watcher
from paidwatch.wiring import policy_of

_BATCH = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One gap."""

    facts: Facts
    gap: Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one look at the database found."""

    now: datetime
    since: datetime
    looked: int
    waiting: int
    gaps: Sequence[Found]
    not_watched: Sequence[str]
    """What the configuration names and the database lacks, and what is wrong with the triggers."""
    watcher: Watcher
    keys: Keys

    @property
    def money(self) -> dict[str, Decimal]:
        """Return what was paid for these gaps, by currency."""
        return by_currency(found.facts for found in self.gaps)


async def look(session: Session, settings: Settings, since: timedelta) -> Report:
    """Judge every payment that may be a gap, as of one moment. Raises DatabaseError: then nothing is known."""
    policy = policy_of(settings)
    async with report.snapshot(session):
        keys = await report.keys(session)
        found = await installation.installed(session, settings.mapping())
        installation.refuse_unfit(found)
        faults = await installation.trigger_faults(session, found)
        candidates = await report.candidates(session, since, policy.rules.period_slack, policy.graces())
        gaps: list[Found] = []
        for start in range(0, len(candidates.open), _BATCH):
            batch = candidates.open[start : start + _BATCH]
            gaps += _judged(await report.facts(session, batch, policy.graces()), policy, candidates.now)
        watcher = await report.watcher(session)
    return Report(
        now=candidates.now,
        since=candidates.since,
        looked=candidates.looked,
        waiting=candidates.waiting,
        gaps=sorted(gaps, key=lambda one: (one.facts.paid_at, one.facts.payment_id)),
        not_watched=(*found.not_watched, *faults),
        watcher=watcher,
        keys=keys,
    )


def _judged(facts: Iterable[Facts], policy: Policy, now: datetime) -> list[Found]:
    verdicts = ((one, judge(one, policy.rules, now)) for one in facts)
    return [Found(facts=one, gap=verdict) for one, verdict in verdicts if isinstance(verdict, Gap)]


def by_currency(payments: Iterable[Facts]) -> dict[str, Decimal]:
    """Sum up what is known of the amounts."""
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    for facts in payments:
        if facts.payment is not None and facts.payment.currency is not None:
            total[facts.payment.currency] += money(facts.payment.amount) or Decimal()
    return dict(sorted(total.items()))


def said_money(total: Mapping[str, Decimal]) -> str:
    """Return `29.98 USD, 5.00 USDT`."""
    return ", ".join(f"{amount} {currency}" for currency, amount in total.items()) or "no known amount"


def key(text: str | None, *, number: bool) -> int | str | None:
    """Return a key as JSON shows it: a number where the application's own is one."""
    return int(text) if number and text is not None else text


def said_watcher(watcher: Watcher) -> str:
    """Say whether a daemon runs."""
    if watcher.pid is None:
        return "daemon: not running"
    standbys = f", {watcher.standbys} standing by" if watcher.standbys else ""
    since = f" since {watcher.since:%Y-%m-%d %H:%M:%S} UTC" if watcher.since else ""
    return f"daemon: running{since}{standbys}"
