"""Reconcile: the row is the truth. Paid payments that no trigger told of get their watch; history is told once."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import anyio

from paidwatch.core.model import Gap, Outcome, Settled, Waiting
from paidwatch.core.verdict import judge
from paidwatch.errors import Unreadable
from paidwatch.flow.audit import Audit
from paidwatch.flow.decide import spoken
from paidwatch.flow.detect import Detect, Past
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.status import Status
from paidwatch.store import watches
from paidwatch.store.facts import read_facts
from paidwatch.store.installation import Installed
from paidwatch.store.pool import Database, Session
from paidwatch.store.watches import Known

WORKER = "reconcile"
LIMIT = timedelta(minutes=10)
_BATCH = 2_000
_PURGE = 2_000
_PURGE_PAUSE = 0.2
_UNHURRIED = timedelta(hours=24)


@dataclass(slots=True, kw_only=True)
class History:
    """What the first run found in the past."""

    kinds: Counter[str] = field(default_factory=Counter[str])
    webhooks: Counter[str] = field(default_factory=Counter[str])
    """What only webhooks tell of."""
    money: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict[str, Decimal](Decimal))
    oldest: datetime | None = None

    def add(self, known: Known, gap: Gap) -> None:
        """Count one gap."""
        self.kinds[gap.kind.value] += 1
        payment = known.facts.payment
        if payment is not None and payment.amount is not None:
            self.money[payment.currency or "?"] += payment.amount
        if self.oldest is None or known.facts.paid_at < self.oldest:
            self.oldest = known.facts.paid_at

    def add_webhooks(self, found: Sequence[Past]) -> None:
        """Count what the log of webhooks has."""
        for gap in found:
            self.webhooks[gap.kind.value] += 1
            if gap.amount is not None:
                self.money[gap.currency or "?"] += gap.amount

    def lines(self, now: datetime, look_back: timedelta) -> Sequence[str]:
        """Return the digest, one fact a line."""
        money = ", ".join(f"{amount} {currency}" for currency, amount in sorted(self.money.items()))
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        webhooks = ", ".join(f"{count} {kind}" for kind, count in self.webhooks.most_common())
        return (
            f"{self.kinds.total()} payments of the last {spoken(look_back)} are gaps already: {kinds}."
            if kinds
            else "",
            f"The log of webhooks of the last {spoken(look_back)} has more: {webhooks}." if webhooks else "",
            f"Money at risk: {money or 'unknown'}.",
            f"Oldest: paid {spoken(now - self.oldest)} ago." if self.oldest else "",
            "They are from before the installation: listed by `paidwatch check`, not followed and not changed.",
        )


class Reconcile:
    """The net below triggers and notifications."""

    def __init__(  # noqa: PLR0913  what it needs, and whom it tells what
        self,
        *,
        database: Database,
        policy: Callable[[], Policy],
        status: Status,
        log: Log,
        audit: Audit,
        on_look: Callable[[], None],
        on_news: Callable[[], None],
        on_told: Callable[[], None],
        detect: Detect,
    ) -> None:
        """Bind the database, and whom to tell of every look, of new watches, and of what is to be delivered."""
        self._database = database
        self._policy = policy
        self._status = status
        self._log = log
        self._audit = audit
        self._on_told = on_told
        self._detect = detect
        self._on_look = on_look
        self._on_news = on_news

    async def catch_up(self, found: Installed) -> int:
        """On every connect: watch what is unwatched and judge every open gap anew; return how many watches are new."""
        policy = self._policy()
        fresh = await self._watch_paid(policy, found.installed_at if found.baseline_at is None else None)
        unlogged = await self._database.write(self._detect.catch_up)
        if found.baseline_at is None or unlogged:
            await self._baseline(policy)
        await self._database.write(lambda session: session.rows("wake_gaps"))
        return fresh

    async def run(self) -> None:
        """Now and then: look for what was missed, remove what is past its keeping. Raises DatabaseError."""
        while True:
            every = self._policy().reconcile_every
            await anyio.sleep((every or _UNHURRIED).total_seconds())
            self._status.busy(WORKER, LIMIT)
            if every:
                await self.look()
            if await self._audit.run_due() is not None:
                self._on_told()
            await self._purge()
            self._status.beat(WORKER)

    async def look(self) -> None:
        """Look for what no trigger told of. Raises DatabaseError."""
        policy = self._policy()
        # Rows of the inbox whose ring was lost (the queue was full, say) are not to wait for the next ring.
        self._on_look()
        unread = await self._detect.look()
        if await self._watch_paid(policy, None) or unread:
            self._on_news()

    async def _watch_paid(self, policy: Policy, news_since: datetime | None) -> int:
        """Give every recent paid payment its watch; return how many of them are news."""
        row = await self._database.write(
            lambda session: session.one("watch_paid", policy.look_back, *policy.graces(), news_since)
        )
        fresh: int = row["found"] - row["history"]
        if fresh:
            self._log.warning("reconcile.found", "paid payments had no watch", count=fresh)
        return fresh

    async def _baseline(self, policy: Policy) -> None:
        """Close history and queue its digest in one transaction: a crash in between leaves a first run to be done."""

        async def body(session: Session) -> int:
            history = History()
            while await self._judge_readable(session, policy, history) is not None:
                pass
            history.add_webhooks(await self._detect.past(session))
            if history.kinds or history.webhooks:
                now = await session.value("transaction_now")
                lines = [line for line in history.lines(now, policy.look_back) if line]
                await session.rows("open_digest", "baseline", "", lines, list(policy.channels))
            await session.rows("baseline_done")
            return history.kinds.total() + history.webhooks.total()

        gaps = await self._database.write(body, limit=LIMIT)
        self._log.info("baseline.done", "the first run took the past as it is", gaps=gaps)

    async def _judge_readable(self, session: Session, policy: Policy, history: History) -> datetime | None:
        """Judge a batch; payments that cannot be read are closed as history unseen, and named in the log."""
        try:
            return await session.attempt(lambda: self._judge_history(session, policy, history, _BATCH))
        except Unreadable:
            pass
        try:
            return await session.attempt(lambda: self._judge_history(session, policy, history, 1))
        except Unreadable as error:
            row = await session.one("close_unreadable_history")
            self._log.error(
                "baseline.unreadable",
                "a payment of the past cannot be read and is left out",
                payment=row["payment_id"],
                error=error.message,
            )
            now: datetime = row["now"]
            return now

    @staticmethod
    async def _judge_history(session: Session, policy: Policy, history: History, most: int) -> datetime | None:
        rows = await session.rows("close_history", *policy.graces(), most)
        if not rows:
            return None
        now: datetime = rows[0]["now"]
        outcomes: dict[str, str] = {}
        waiting: dict[str, datetime] = {}
        for row in rows:
            known = Known(facts=read_facts(row), noticed_at=None)
            verdict = judge(known.facts, policy.rules, now)
            match verdict:
                case Gap():
                    history.add(known, verdict)
                    outcomes[known.facts.payment_id] = Outcome.BASELINE.value
                case Settled(outcome=outcome):
                    outcomes[known.facts.payment_id] = outcome.value
                case Waiting(until=until):
                    waiting[known.facts.payment_id] = until
        await watches.postpone(session, waiting)
        await session.rows("close_as_history", list(outcomes), list(outcomes.values()))
        return now

    async def _purge(self) -> None:
        policy = self._policy()
        await self._purge_by("purge_closed", policy.keep_closed)
        await self._purge_by("purge_attempts", policy.keep_attempts)
        await self._purge_by("purge_webhooks", policy.keep_webhooks)
        await self._purge_by("purge_claims", policy.keep_closed)
        await self._purge_by("purge_answers", policy.keep_closed)
        # What reconciliation looks back at would be read again.
        await self._purge_by("purge_readings", max(policy.keep_closed, 2 * policy.look_back))

    async def _purge_by(self, statement: str, keep: timedelta) -> None:
        """Remove in small batches with pauses, so that nobody notices."""
        removed = _PURGE
        while removed == _PURGE:
            removed = await self._database.write(lambda session: session.value(statement, keep, _PURGE))
            self._status.busy(WORKER, LIMIT)
            await anyio.sleep(_PURGE_PAUSE)
