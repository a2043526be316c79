"""Claim: which of the gaps just found paidwatch will close itself, which it proposes, which only in the shadow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from paidwatch.core.answer import confirms
from paidwatch.core.grant import GRANTABLE, Grant, in_words, plan_grant
from paidwatch.core.guards import (
    Actor,
    Guard,
    GuardResult,
    Limits,
    Mode,
    Reason,
    Usage,
    allowed,
    allowed_but_for_mode,
    evaluate,
    override,
    refusals,
)
from paidwatch.core.model import Gap, Subject
from paidwatch.core.said import pasteable
from paidwatch.errors import DatabaseError
from paidwatch.flow import breaker
from paidwatch.flow.policy import Policy
from paidwatch.store import ledger
from paidwatch.store.pool import Session
from paidwatch.store.watches import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What was claimed, and what is said about each gap."""

    made: frozenset[Subject] = frozenset()
    proposed: frozenset[Subject] = frozenset()
    """What a person may say yes to, in supervised mode."""
    said: dict[Subject, tuple[str, ...]] = field(default_factory=dict[Subject, tuple[str, ...]])
    breaker: str | None = None
    """Why the breaker was opened, if it was."""

    @property
    def count(self) -> int:
        """Return how many activations were claimed."""
        return len(self.made)

    def has(self, subject: Subject) -> bool:
        """Say whether its activation was claimed."""
        return subject in self.made

    def notes(self, subject: Subject) -> tuple[str, ...]:
        """Return what people are told about activation; nothing leaves what they were told before."""
        return self.said.get(subject, ())


class Claimant:
    """Asks the guards about each gap, in the transaction that records it."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        """Bind the owner's choices; they are asked for anew each time, so a reload counts at once."""
        self._policy = policy

    async def consider(self, session: Session, gaps: Sequence[tuple[Known, Gap]], now: datetime) -> Claims:
        """Claim, propose or record what may be granted; gaps of a kind that nothing can be granted for are left alone.

        Before any of it the breaker is asked, with these gaps among the recent ones.
        """
        policy = self._policy()
        grantable = [known for known, gap in gaps if gap.kind in GRANTABLE] if policy.mode is not Mode.OFF else []
        if not grantable:
            return Claims()
        await session.rows("serialize_activations")
        subjects = [known.facts.subject for known in grantable]
        payments = [it.payment_id for it in subjects if it.payment_id is not None]
        opened = await breaker.check(session, policy, opening=payments)
        recorded = await ledger.shadowed(session, subjects) if policy.mode is Mode.SHADOW else frozenset[Subject]()
        made: set[Subject] = set()
        proposed: set[Subject] = set()
        said: dict[Subject, tuple[str, ...]] = {}
        for known in grantable:
            subject = known.facts.subject
            if subject in recorded:
                continue
            results = await guard(session, known, policy, now)
            planned = plan_grant(known.facts, now, active_word=policy.active_word)
            if isinstance(planned, Reason) or not allowed_but_for_mode(results):
                said[subject] = why_not(_but_for_mode(results))
                continue
            match policy.mode:
                case Mode.AUTO:
                    if allowed(results) and await self._claim(session, planned, results, policy):
                        made.add(subject)
                case Mode.SUPERVISED:
                    proposed.add(subject)
                    said[subject] = (_proposal(planned),)
                case Mode.SHADOW:
                    said[subject] = (await self._record(session, planned, results, policy),)
                case Mode.OFF:
                    pass
                case _ as unreachable:
                    assert_never(unreachable)
        return Claims(made=frozenset(made), proposed=frozenset(proposed), said=said, breaker=opened)

    @staticmethod
    async def _claim(session: Session, planned: Grant, results: Sequence[GuardResult], policy: Policy) -> bool:
        found = await ledger.claim(
            session,
            subject=planned.subject,
            user_id=planned.user_id,
            actor=Actor.AUTO.value,
            reason="",
            guards=results,
            strategy=policy.strategy,
        )
        return found is not None

    @staticmethod
    async def _record(session: Session, planned: Grant, results: Sequence[GuardResult], policy: Policy) -> str:
        try:
            await ledger.record_shadow(session, grant=planned, strategy=policy.strategy, guards=results)
        except DatabaseError as error:
            return f"Shadow mode: what would be written does not fit the application's columns: {error.message}"
        return f"Shadow mode: paidwatch would have activated {in_words(planned)}."


def _but_for_mode(results: Sequence[GuardResult]) -> tuple[GuardResult, ...]:
    return tuple(result for result in results if result.guard is not Guard.MODE)


def _proposal(planned: Grant) -> str:
    """Say what a person may say yes to, and how."""
    user, payment = pasteable(planned.user_id), pasteable(planned.subject.payment_id or planned.subject.reference)
    command = f"paidwatch activate {user} --payment {payment}" if user and payment else "paidwatch check"
    return f"Proposed: {in_words(planned)}. A person decides: {command}"


async def guard(
    session: Session,
    known: Known,
    policy: Policy,
    now: datetime,
    *,
    actor: Actor = Actor.AUTO,
    claim_id: int | None = None,
    forced: frozenset[Guard] = frozenset(),
) -> tuple[GuardResult, ...]:
    """Ask every guard about one payment; automatic requests are measured by what was done lately, and by the breaker.

    `forced` are the guards that a person overrides.
    """
    if actor is Actor.AUTO and known.facts.subscriber is not None:
        shadows = policy.mode is Mode.SHADOW
        used, stopped = await ledger.usage(session, known.facts.subscriber.id, apart_from=claim_id, shadows=shadows)
    else:
        used, stopped = Usage(last_hour=0, last_day=0, user_last_day=0), False
    limits = Limits(
        max_per_hour=policy.max_per_hour,
        max_per_day=policy.max_per_day,
        max_per_user_day=policy.max_per_user_day,
        usage=used,
        breaker_open=stopped,
    )
    request = policy.request(actor, corroborated=_provider_says(known, policy, now))
    return override(evaluate(known.facts, request, limits, now), forced)


def _provider_says(known: Known, policy: Policy, now: datetime) -> bool | None:
    """Return whether the payment provider, when it was asked, confirmed the payment; None: there is no word of it."""
    payment = known.facts.payment
    if payment is None:
        return None
    tolerance = policy.rules.amount_tolerance
    return confirms(known.facts.evidence.answer, payment.amount, payment.currency, now, tolerance=tolerance)


def why_not(results: Sequence[GuardResult]) -> tuple[str, ...]:
    """Say which guards refused."""
    return tuple(f"Not activated: {result.reason.value} ({result.guard.value})." for result in refusals(tuple(results)))
