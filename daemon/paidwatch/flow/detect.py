"""Detect: money that is seen in webhooks only, and webhooks that go wrong, told as every other gap is told.

    webhook_logs ── trigger ──► inbox ── intake ──► unread ── read ──► reading ──► claim ── judge ──► alert

A claim is one story for each reference of a method. It is judged when its grace ends, when something about its payment
or user changes, and before a reminder repeats it; verdict, alert and deliveries are written in one transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, assert_never

from paidwatch.core.evidence import (
    CALM,
    METHODWIDE,
    Claim,
    Silence,
    Stream,
    judge,
    judge_silence,
    judge_stream,
    reference_of,
)
from paidwatch.core.grant import GRANTABLE
from paidwatch.core.guards import Mode
from paidwatch.core.model import Gap, GapKind, Outcome, Rules, Settled, Subject, Verdict, Waiting
from paidwatch.core.routing import About
from paidwatch.core.timing import next_reminder, reminders_due
from paidwatch.flow import breaker, storm
from paidwatch.flow.ask import Questions
from paidwatch.flow.claim import Claimant, Claims
from paidwatch.flow.policy import Policy
from paidwatch.flow.read_log import ReadLog
from paidwatch.flow.storm import Fresh
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.providers import Provider
from paidwatch.store import alerts, answers, claims, readings, watches
from paidwatch.store.claims import Closed, Due, Key, NewGap, Told
from paidwatch.store.claims import Known as Stories
from paidwatch.store.pool import Database, Session
from paidwatch.store.watches import Known

BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What one look did."""

    looked: int
    """Rows that were read and stories that were judged; 0: nothing was due."""
    told: bool
    """Deliveries were queued or changed."""
    activations: int
    """Activations were claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What one transaction wrote."""

    judged: int = 0
    told: Sequence[Told] = ()
    closed: Sequence[Closed] = ()
    claims: Claims = field(default_factory=Claims)
    sent: int = 0
    """Reminders, and messages that need wait for an answer no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One gap of the first run."""

    kind: GapKind
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """Verdicts by what is to be written."""

    waiting: dict[Key, datetime] = field(default_factory=dict[Key, datetime])
    settled: dict[Key, str] = field(default_factory=dict[Key, str])
    gaps: dict[Key, Gap] = field(default_factory=dict[Key, Gap])
    poisoned: list[Key] = field(default_factory=list[Key])


class Detect:
    """Reads the log and judges what it tells; the alarm says when."""

    def __init__(
        self,
        *,
        database: Database,
        policy: Callable[[], Policy],
        providers: Callable[[], Mapping[str, Provider]],
        metrics: Metrics,
        log: Log,
        claimant: Claimant | None = None,
        questions: Questions | None = None,
    ) -> None:
        """Bind the database, the owner's choices, how webhooks are read, who activates, and what is asked."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._log = log
        self._claimant = claimant or Claimant(policy)
        self._questions = questions or Questions(dict)
        self._read = ReadLog(database=database, policy=policy, providers=providers)

    async def run(self) -> Detected:
        """Read and judge one batch of what is due. Raises DatabaseError; then what is left is due again."""
        due = await self._database.read(lambda session: session.one("detection_due"))
        read = await self._read.run() if due["unread"] else 0
        if not read and not due["claims"]:
            return Detected(looked=0, told=False, activations=0)
        done = await self._database.write(self._judge_due)
        self._questions.wanted.ring()
        self._report(done.told, done.closed)
        if done.claims.breaker is not None:
            breaker.say(self._log, done.claims.breaker)
        heard = any(one.fresh for one in done.told) or any(one.alert_id is not None for one in done.closed)
        return Detected(
            looked=read + done.judged, told=heard or done.sent > 0 or read > 0, activations=done.claims.count
        )

    async def catch_up(self, session: Session) -> bool:
        """List rows that no trigger told of; return whether this is the first look, so that they are history."""
        first = await readings.first_look(session)
        found = await readings.note_unread(session, self._policy().look_back, history=first)
        await session.rows("wake_claims")
        await session.rows("wake_silences")
        if found and not first:
            self._log.warning("reconcile.webhooks", "rows of the log of webhooks were not read yet", count=found)
        return first

    async def look(self) -> int:
        """List rows that no trigger told of, and methods that say nothing; return how many there are to look at."""

        async def body(session: Session) -> int:
            found = await readings.note_unread(session, self._policy().look_back, history=False)
            return found + len(await session.rows("wake_silences"))

        return await self._database.write(body)

    async def past(self, session: Session) -> Sequence[Past]:
        """Read and close the past in the caller's transaction; return the gaps that it has."""
        while await self._read.read(session, history=True):
            pass
        policy, found = self._policy(), list[Past]()
        while True:
            now, due = await claims.history(session, BATCH)
            if now is None:
                break
            known = await claims.facts(session, [one.key for one in due])
            verdicts = self._sorted(due, known, policy.rules, now)
            await claims.postpone(session, verdicts.waiting)
            over = dict.fromkeys([*verdicts.gaps, *verdicts.poisoned], Outcome.BASELINE.value)
            await claims.close(session, verdicts.settled | over)
            found += [self._of_past(key, gap, known) for key, gap in verdicts.gaps.items()]
        await session.rows("log_is_read")
        return found

    async def _judge_due(self, session: Session) -> _Judged:
        policy = self._policy()
        await session.rows("remind_claims", BATCH)
        now, due = await claims.due(session, BATCH)
        if now is None:
            return _Judged()
        known = await claims.facts(session, [one.key for one in due])
        found = self._sorted(due, known, policy.rules, now)
        await claims.postpone_poisoned(session, found.poisoned)
        await claims.postpone(session, found.waiting)
        closed = await claims.close(
            session, found.settled, quiet_until=storm.quiet_until(policy, now), rules=policy.rules
        )
        claimed, later = await self._activate(session, found.gaps, now)
        gaps = {key: _new_gap(key, gap, known, policy, claimed, later.get(key)) for key, gap in found.gaps.items()}
        first = policy.reminders[0] if policy.reminders else None
        told = await claims.open_alerts(session, list(gaps.values()), first_reminder=first)
        asked = await self._questions.want(session, [(*key, None) for key, gap in gaps.items() if _can_be_asked(gap)])
        fresh = [_fresh(one, gaps[one.key], claimed, asked) for one in told if one.fresh and not one.silenced]
        await storm.announce(session, fresh, policy, now)
        await alerts.break_acks(session, [one.alert_id for one in fresh])
        sent = await _remind(session, [one.alert_id for one in told if not one.fresh], now, policy)
        standing = [one.key for one in told if not one.fresh and not claimed.has(Subject.of_story(one.key))]
        sent += await answers.release(session, keys=standing) if standing else False
        if told or closed:
            self._metrics.gaps_open(await watches.open_by_kind(session))
        if any(one.fresh for one in told) or any(one.alert_id is not None for one in closed):
            await session.rows("tell_feed")
        return _Judged(judged=len(due), told=told, closed=closed, claims=claimed, sent=sent)

    async def _activate(
        self, session: Session, gaps: Mapping[Key, Gap], now: datetime
    ) -> tuple[Claims, dict[Key, datetime]]:
        """Claim, propose or record what may be granted; return that, and when the rest's grace is over."""
        if self._policy().mode is Mode.OFF:
            return Claims(), {}
        owed = [key for key, gap in gaps.items() if gap.kind in GRANTABLE]
        _, told = await claims.told_facts(session, owed)
        found = [(Known(facts=facts, noticed_at=None), gaps[facts.told]) for facts in told if facts.told is not None]
        later = {it.told: it.grace_until for it in told if it.told is not None and it.grace_until > now}
        return await self._claimant.consider(session, found, now), later

    def _sorted(self, due: Sequence[Due], known: Stories, rules: Rules, now: datetime) -> _Sorted:
        found = _Sorted()
        for one in due:
            try:
                verdict = judged(one.key, known, rules, now)
            except Exception as error:  # noqa: BLE001  one story that cannot be judged must not hold up the others
                self._log.error(
                    "detect.poisoned",
                    "a story of webhooks cannot be judged and is tried again later",
                    method=one.key[0],
                    reference=one.key[1],
                    error=repr(error),
                )
                found.poisoned.append(one.key)
                continue
            match verdict:
                case Waiting(until=until):
                    found.waiting[one.key] = until
                case Settled(outcome=outcome):
                    found.settled[one.key] = outcome.value
                case Gap():
                    found.gaps[one.key] = verdict
                case _ as unreachable:
                    assert_never(unreachable)
        return found

    @staticmethod
    def _of_past(key: Key, gap: Gap, known: Stories) -> Past:
        claim = known.claims.get(key)
        if claim is None:
            return Past(kind=gap.kind, amount=None, currency=None)
        return Past(kind=gap.kind, amount=storm.worth(claim.amount), currency=claim.currency)

    def _report(self, told: Sequence[Told], closed: Sequence[Closed]) -> None:
        for alert in told:
            if alert.fresh:
                self._metrics.gap_opened(GapKind(alert.kind))
                self._log.warning(
                    "gap.opened",
                    "a gap was opened",
                    kind=alert.kind,
                    method=alert.key[0],
                    reference=alert.key[1],
                    alert=alert.alert_id,
                )
        for claim in closed:
            if claim.alert_id is not None and claim.kind is not None:
                self._metrics.gap_closed(GapKind(claim.kind))
                self._log.info(
                    "gap.closed",
                    "a gap was closed",
                    method=claim.key[0],
                    reference=claim.key[1],
                    outcome=claim.outcome,
                    kind=claim.kind,
                    alert=claim.alert_id,
                )


def judged(key: Key, known: Stories, rules: Rules, now: datetime) -> Verdict:
    """Return the verdict on one story; raises LookupError where nothing is known of it."""
    about: Claim | Stream | Silence | None = known.claims.get(key) or known.streams.get(key) or known.silences.get(key)
    match about:
        case Claim():
            return judge(about, rules, now)
        case Stream():
            return judge_stream(about, now)
        case Silence():
            return judge_silence(about, now)
        case None:
            message = "nothing is known of it"
            raise LookupError(message)
        case _ as unreachable:
            assert_never(unreachable)


def _new_gap(key: Key, gap: Gap, known: Stories, policy: Policy, claimed: Claims, later: datetime | None) -> NewGap:
    claim, stream, subject = known.claims.get(key), known.streams.get(key), Subject.of_story(key)
    return NewGap(
        key=key,
        kind=gap.kind,
        cause=gap.cause,
        detail=gap.detail[:2000],
        severity=policy.routing.severity(gap.kind),
        user_id=None if claim is None else claim.user_id,
        plan_id=known.plans.get(key),
        amount=None if claim is None else claim.amount,
        currency=None if claim is None else claim.currency,
        look_at=later if stream is None or stream.last_at is None else stream.last_at + CALM,
        notes=claimed.notes(subject),
        proposed=subject in claimed.proposed,
    )


def _can_be_asked(gap: NewGap) -> bool:
    """Say whether it is about one payment of a provider."""
    return bool(reference_of(gap.key[1])) and gap.key[1] not in METHODWIDE


def _fresh(alert: Told, gap: NewGap, claimed: Claims, asked: frozenset[Key]) -> Fresh:
    about = About(kind=gap.kind, severity=gap.severity, method=gap.key[0], amount=storm.worth(gap.amount))
    return Fresh(
        alert_id=alert.alert_id,
        about=about,
        error_class=gap.cause,
        claimed=claimed.has(Subject.of_story(alert.key)),
        asked=alert.key in asked,
    )


async def _remind(session: Session, standing: Sequence[int], now: datetime, policy: Policy) -> int:
    """Tell those of these alerts again whose reminder is due; return how many."""
    if not standing:
        return 0
    due = await session.rows("claim_reminders", list(standing))
    if due:
        sent = [max(row["reminders"] + 1, reminders_due(row["opened_at"], now, policy.reminders)) for row in due]
        upcoming = [
            next_reminder(row["opened_at"], count, policy.reminders) for row, count in zip(due, sent, strict=True)
        ]
        await session.rows(
            "send_reminders", [row["alert_id"] for row in due], sent, upcoming, storm.quiet_until(policy, now)
        )
    return len(due)
