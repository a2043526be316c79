"""Decide: claim what is due, judge it, record verdict, alert, activation claim and deliveries in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from paidwatch.core.model import Facts, Gap, GapKind, Outcome, Settled, Subject, Waiting
from paidwatch.core.routing import About
from paidwatch.core.timing import next_reminder, reminders_due
from paidwatch.core.verdict import judge
from paidwatch.errors import Unreadable
from paidwatch.flow import breaker, storm
from paidwatch.flow.ask import Questions
from paidwatch.flow.claim import Claimant, Claims
from paidwatch.flow.policy import Policy
from paidwatch.flow.storm import Fresh
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.store import alerts, answers, watches
from paidwatch.store.pool import Database, Session
from paidwatch.store.watches import Claimed, Closed, Known, NewGap, Told

BATCH = 2_000
LATE = timedelta(seconds=5)
"""A payment that was noticed later than this is told with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """What one tick did."""

    claimed: int
    told: int
    """Deliveries were queued or changed."""
    activations: int
    """Activations were claimed."""


@dataclass(slots=True, kw_only=True)
class _Sorted:
    """Verdicts by what is to be written."""

    waiting: dict[str, datetime]
    settled: dict[str, tuple[str, datetime]]
    gaps: list[tuple[Known, Gap]]
    poisoned: list[str]


class Decide:
    """One tick after the other; the alarm says when."""

    def __init__(
        self,
        *,
        database: Database,
        policy: Callable[[], Policy],
        claimant: Claimant,
        metrics: Metrics,
        log: Log,
        questions: Questions | None = None,
    ) -> None:
        """Bind the database, the owner's choices, and where it is noted what payment providers are to be asked."""
        self._database = database
        self._policy = policy
        self._claimant = claimant
        self._metrics = metrics
        self._log = log
        self._questions = questions or Questions(dict)

    async def tick(self) -> Ticked:
        """Judge one batch of what is due. Raises DatabaseError; then nothing was written."""
        try:
            return await self._tick(BATCH)
        except Unreadable as error:
            self._log.warning(
                "decide.batch_failed", "a batch could not be judged; looking at its payments singly", error=str(error)
            )
        try:
            return await self._tick(1)
        except Unreadable as error:
            payment = await self._database.write(lambda session: session.value("postpone_first"))
            self._log.error(
                "decide.poisoned",
                "a payment cannot be read and is tried again later",
                payment=payment,
                error=str(error),
            )
            return Ticked(claimed=1, told=0, activations=0)

    async def _tick(self, most: int) -> Ticked:
        policy = self._policy()

        async def body(session: Session) -> tuple[Claimed, list[Told], list[Closed], Claims, int, bool]:
            await session.rows("remind", most)
            claimed = await watches.claim_due(
                session, most=most, slack=policy.rules.period_slack, graces=policy.graces()
            )
            found = self._judge(claimed, policy)
            for payment_id in found.poisoned:
                await session.rows("postpone_poisoned", payment_id)
            await watches.postpone(session, found.waiting)
            quiet_until = storm.quiet_until(policy, claimed.now)
            closed = await watches.close_watches(session, found.settled, quiet_until=quiet_until, rules=policy.rules)
            claims = await self._claimant.consider(session, found.gaps, claimed.now)
            gaps = {
                known.facts.payment_id: self._new_gap(known, gap, claims, policy, claimed.now)
                for known, gap in found.gaps
            }
            told = await watches.open_gaps(
                session, list(gaps.values()), first_reminder=policy.reminders[0] if policy.reminders else None
            )
            asked = await self._ask(session, found.gaps)
            fresh = [self._fresh(alert, gaps, claims, asked) for alert in told if alert.fresh and not alert.silenced]
            await storm.announce(session, fresh, policy, claimed.now)
            await alerts.break_acks(session, [alert.alert_id for alert in fresh])
            reminded = await self._remind(session, told, claimed.now, policy)
            answered = [
                known.facts.payment_id
                for known, _gap in found.gaps
                if was_answered(known.facts, claimed.now) and not claims.has(known.facts.subject)
            ]
            released = await answers.release(session, answered) if answered else False
            if told or closed:
                self._metrics.gaps_open(await watches.open_by_kind(session))
            if told or any(watch.alert_id is not None for watch in closed):
                await session.rows("tell_feed")
            return claimed, told, closed, claims, reminded + released, bool(asked)

        claimed, told, closed, claims, reminded, asks = await self._database.write(body)
        if asks:
            self._questions.wanted.ring()
        self._report(claimed, told, closed)
        if claims.breaker is not None:
            breaker.say(self._log, claims.breaker)
        return Ticked(
            claimed=claimed.settled + len(claimed.open),
            told=sum(1 for alert in told if alert.fresh or alert.woken)
            + sum(1 for watch in closed if watch.alert_id is not None)
            + reminded,
            activations=claims.count,
        )

    def _judge(self, claimed: Claimed, policy: Policy) -> _Sorted:
        found = _Sorted(waiting={}, settled={}, gaps=[], poisoned=[])
        for known in claimed.open:
            payment_id = known.facts.payment_id
            try:
                verdict = judge(known.facts, policy.rules, claimed.now)
            except Exception as error:  # noqa: BLE001  one payment that cannot be judged must not hold up the others
                self._log.error(
                    "decide.poisoned",
                    "a payment cannot be judged and is tried again later",
                    payment=payment_id,
                    error=repr(error),
                )
                found.poisoned.append(payment_id)
                continue
            match verdict:
                case Waiting(until=until):
                    found.waiting[payment_id] = until
                case Settled(outcome=outcome, at=at):
                    found.settled[payment_id] = (outcome.value, at)
                case Gap():
                    found.gaps.append((known, verdict))
                case _ as unreachable:
                    assert_never(unreachable)
        return found

    @staticmethod
    def _new_gap(known: Known, gap: Gap, claims: Claims, policy: Policy, now: datetime) -> NewGap:
        payment = known.facts.payment
        return NewGap(
            payment_id=known.facts.payment_id,
            kind=gap.kind.value,
            cause=gap.cause,
            detail=gap.detail[:2000],
            delay=delay_of(known, now),
            notes=claims.notes(known.facts.subject),
            severity=policy.routing.severity(gap.kind),
            proposed=known.facts.subject in claims.proposed,
            plan_id=None if payment is None else payment.plan_id,
            method=None if payment is None else payment.method,
            amount=None if payment is None else payment.amount,
            currency=None if payment is None else payment.currency,
        )

    async def _ask(self, session: Session, gaps: Sequence[tuple[Known, Gap]]) -> frozenset[str]:
        """Note what providers are to be asked; return the payments about which they are asked at once."""
        asked = {
            known.facts.payment_id: (known.facts.payment.method, known.facts.payment.reference)
            for known, _gap in gaps
            if known.facts.payment is not None
        }
        now = await self._questions.want(session, [(*key, payment_id) for payment_id, key in asked.items()])
        return frozenset(it for it, (method, key) in asked.items() if ((method or "").lower(), key) in now)

    @staticmethod
    def _fresh(alert: Told, gaps: Mapping[str, NewGap], claims: Claims, asked: frozenset[str]) -> Fresh:
        gap = gaps[alert.payment_id]
        return Fresh(
            alert_id=alert.alert_id,
            about=About(kind=gap.kind, severity=gap.severity, method=gap.method, amount=storm.worth(gap.amount)),
            error_class=gap.cause,
            claimed=claims.has(Subject(payment_id=alert.payment_id)),
            asked=alert.payment_id in asked,
        )

    @staticmethod
    async def _remind(session: Session, told: list[Told], now: datetime, policy: Policy) -> int:
        standing = [alert.payment_id for alert in told if not alert.fresh]
        if not standing:
            return 0
        due = await session.rows("reminders", standing)
        if due:
            sent = [max(row["reminders"] + 1, reminders_due(row["opened_at"], now, policy.reminders)) for row in due]
            upcoming = [
                next_reminder(row["opened_at"], count, policy.reminders) for row, count in zip(due, sent, strict=True)
            ]
            await session.rows(
                "send_reminders", [row["alert_id"] for row in due], sent, upcoming, storm.quiet_until(policy, now)
            )
        return len(due)

    def _report(self, claimed: Claimed, told: list[Told], closed: list[Closed]) -> None:
        if claimed.settled:
            self._metrics.settled(Outcome.ACTIVATED, claimed.settled)
            for span in claimed.took:
                self._metrics.activated_after(span)
            self._log.debug("watch.settled", "payments were activated as they should be", count=claimed.settled)
        for alert in told:
            if alert.fresh:
                self._metrics.gap_opened(GapKind(alert.kind))
                self._log.warning(
                    "gap.opened", "a gap was opened", kind=alert.kind, payment=alert.payment_id, alert=alert.alert_id
                )
        for watch in closed:
            self._metrics.settled(Outcome(watch.outcome))
            if watch.outcome == Outcome.ACTIVATED:
                self._metrics.activated_after(watch.took)
            if watch.alert_id is None or watch.kind is None:
                self._log.debug("watch.closed", "a watch was closed", payment=watch.payment_id, outcome=watch.outcome)
            else:
                self._metrics.gap_closed(GapKind(watch.kind))
                self._log.info(
                    "gap.closed",
                    "a gap was closed",
                    payment=watch.payment_id,
                    outcome=watch.outcome,
                    kind=watch.kind,
                    alert=watch.alert_id,
                )


def was_answered(facts: Facts, now: datetime) -> bool:
    """Say whether the provider answered just now, so that a message need wait for that no longer."""
    answer = facts.evidence.answer
    return answer is not None and now - answer.at <= answers.PAUSE


def delay_of(known: Known, now: datetime) -> str:
    """Say why a gap is found late, if it is: nobody listened when it was paid, or looked when its grace ended."""
    facts = known.facts
    if known.noticed_at is None:
        return ""
    late = known.noticed_at - facts.paid_at
    if late >= LATE:
        return f"paidwatch noticed the payment {spoken(late)} late: it was not listening when the payment became paid"
    late = now - facts.grace_until
    if late >= LATE and (facts.touched_at is None or facts.touched_at <= facts.grace_until):
        return (
            f"paidwatch looked at the payment {spoken(late)} late:"
            " it was not running, or behind, when the grace period ended"
        )
    return ""


def spoken(span: timedelta) -> str:
    """Return a span for people: `42 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if seconds < 60:  # noqa: PLR2004  a minute
        return f"{seconds} s"
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"
