"""The gaps there are now, judged from the application's own tables, whether or not a daemon runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.config import Settings
from paidwatch.core.access import money
from paidwatch.core.answer import Asked
from paidwatch.core.evidence import reference_of
from paidwatch.core.model import Facts, Gap
from paidwatch.core.verdict import judge
from paidwatch.flow.detect import judged
from paidwatch.flow.policy import Policy
from paidwatch.store import answers, claims, installation, report
from paidwatch.store.pool import Session
from paidwatch.store.report import Keys, Watcher
from paidwatch.wiring import policy_of

_BATCH = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One gap."""

    facts: Facts
    gap: Gap
    asked: Asked | None
    """What the payment provider says; None: it is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One gap that only webhooks tell of."""

    gap: Gap
    method: str
    reference: str
    """The provider's id; empty where there is none."""
    since: datetime
    user_id: str | None
    plan_id: str | None
    amount: Decimal | None
    currency: str | None
    asked: Asked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one look at the database found."""

    now: datetime
    since: datetime
    looked: int
    waiting: int
    gaps: Sequence[Found]
    webhooks: Sequence[Seen]
    """What the daemon has read in the log of webhooks, judged anew."""
    not_watched: Sequence[str]
    """What the configuration names and the database lacks, and what is wrong with the triggers."""
    watcher: Watcher
    keys: Keys

    @property
    def money(self) -> dict[str, Decimal]:
        """Return what was paid for these gaps, by currency."""
        total = defaultdict[str, Decimal](Decimal, by_currency(found.facts for found in self.gaps))
        for seen in self.webhooks:
            if seen.currency is not None:
                total[seen.currency] += money(seen.amount) or Decimal()
        return dict(sorted(total.items()))


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
            judged_now = _judged(await report.facts(session, batch, policy.graces()), policy, candidates.now)
            asked = await answers.about(session, [_key(facts) for facts, _gap in judged_now])
            gaps += [Found(facts=facts, gap=gap, asked=asked.get(_key(facts))) for facts, gap in judged_now]
        webhooks = await seen(session, policy)
        watcher = await report.watcher(session)
    return Report(
        now=candidates.now,
        since=candidates.since,
        looked=candidates.looked,
        waiting=candidates.waiting,
        gaps=sorted(gaps, key=lambda one: (one.facts.paid_at, one.facts.payment_id)),
        webhooks=webhooks,
        not_watched=(*found.not_watched, *faults),
        watcher=watcher,
        keys=keys,
    )


async def seen(session: Session, policy: Policy, user_id: str | None = None) -> list[Seen]:
    """Judge what webhooks alone tell of, all of it or one user's; nothing is written."""
    now, due = await claims.standing(session, _BATCH, user_id)
    if now is None:
        return []
    known = await claims.facts(session, [one.key for one in due])
    asked = await answers.about(session, [one.key for one in due])
    found: list[Seen] = []
    for one in due:
        verdict = judged(one.key, known, policy.rules, now) if one.key in known.since else None
        if isinstance(verdict, Gap):
            claim = known.claims.get(one.key)
            found.append(
                Seen(
                    gap=verdict,
                    method=one.key[0],
                    reference=reference_of(one.key[1]),
                    since=known.since[one.key],
                    user_id=None if claim is None else claim.user_id,
                    plan_id=known.plans.get(one.key),
                    amount=None if claim is None else claim.amount,
                    currency=None if claim is None else claim.currency,
                    asked=asked.get(one.key),
                )
            )
    return found


def _judged(facts: Iterable[Facts], policy: Policy, now: datetime) -> list[tuple[Facts, Gap]]:
    verdicts = ((one, judge(one, policy.rules, now)) for one in facts)
    return [(one, verdict) for one, verdict in verdicts if isinstance(verdict, Gap)]


def _key(facts: Facts) -> answers.Key:
    """Return what the provider is asked about; empty where there is nothing to ask about."""
    payment = facts.payment
    return ("", "") if payment is None else ((payment.method or "").lower(), payment.reference or "")


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
