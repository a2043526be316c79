"""Claim: which of the gaps that were just found paidwatch will close itself, and which only in the shadow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from paidwatch.core.grant import plan_grant
from paidwatch.core.guards import (
    Actor,
    GuardResult,
    Limits,
    Mode,
    Reason,
    Usage,
    allowed,
    allowed_but_for_mode,
    evaluate,
    refusals,
)
from paidwatch.core.model import Facts, Gap, GapKind
from paidwatch.flow.policy import Policy
from paidwatch.store import ledger
from paidwatch.store.pool import Session
from paidwatch.store.watches import Known

GRANTABLE = frozenset(
    {
        GapKind.PAID_NOT_ACTIVE,
        GapKind.TIER_MISMATCH,
        GapKind.RENEWAL_NOT_APPLIED,
        GapKind.PAID_BUT_REVOKED,
        GapKind.ACTIVATION_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What was claimed, and what is said about each gap."""

    made: frozenset[str]
    said: dict[str, tuple[str, ...]]

    @property
    def count(self) -> int:
        """Return how many activations were claimed."""
        return len(self.made)

    def has(self, payment_id: str) -> bool:
        """Say whether this payment's activation was claimed."""
        return payment_id in self.made

    def notes(self, payment_id: str) -> tuple[str, ...]:
        """Return what people are told about activation."""
        return self.said.get(payment_id, ())


class Claimant:
    """Asks the guards about each gap, in the transaction that records it."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        """Bind the owner's choices."""
        self._policy = policy

    async def consider(self, session: Session, gaps: Sequence[tuple[Known, Gap]], now: datetime) -> Claims:
        """Claim what may be granted; gaps of a kind that nothing can be granted for are left alone."""
        policy = self._policy()
        grantable = [known for known, gap in gaps if gap.kind in GRANTABLE] if policy.mode is not Mode.OFF else []
        made: set[str] = set()
        said: dict[str, tuple[str, ...]] = {}
        if grantable:
            await session.rows("serialize_activations")
        for known in grantable:
            payment_id = known.facts.payment_id
            results = await guard(session, known, policy, now)
            if policy.mode is Mode.SHADOW:
                said[payment_id] = await self._shadow(session, known.facts, results, policy, now)
            elif allowed(results) and await self._claim(session, known.facts, results):
                made.add(payment_id)
            else:
                said[payment_id] = why_not(results)
        return Claims(made=frozenset(made), said=said)

    @staticmethod
    async def _claim(session: Session, facts: Facts, results: Sequence[GuardResult]) -> bool:
        user_id = facts.subscriber.id if facts.subscriber else ""
        found = await ledger.claim(
            session, payment_id=facts.payment_id, user_id=user_id, actor=Actor.AUTO.value, reason="", guards=results
        )
        return found is not None

    @staticmethod
    async def _shadow(
        session: Session, facts: Facts, results: tuple[GuardResult, ...], policy: Policy, now: datetime
    ) -> tuple[str, ...]:
        grant = plan_grant(facts, now, active_word=policy.active_word)
        if not allowed_but_for_mode(results) or isinstance(grant, Reason):
            return why_not(tuple(result for result in results if result.reason is not Reason.MODE_SHADOW))
        await ledger.record_shadow(
            session, payment_id=facts.payment_id, user_id=grant.user_id, reason="", guards=results, grant=grant
        )
        until = grant.user["paid_until"]
        return (f"Shadow mode: paidwatch would have activated {grant.user['tier']} until {until or 'for ever'}.",)


async def guard(
    session: Session,
    known: Known,
    policy: Policy,
    now: datetime,
    *,
    actor: Actor = Actor.AUTO,
    claim_id: int | None = None,
) -> tuple[GuardResult, ...]:
    """Ask every guard about one payment; automatic requests are measured by what was done lately."""
    if actor is Actor.AUTO and known.facts.subscriber is not None:
        used = await ledger.usage(session, known.facts.subscriber.id, apart_from=claim_id)
    else:
        used = Usage(last_hour=0, last_day=0, user_last_day=0)
    limits = Limits(
        max_per_hour=policy.max_per_hour,
        max_per_day=policy.max_per_day,
        max_per_user_day=policy.max_per_user_day,
        usage=used,
    )
    return evaluate(known.facts, policy.request(actor), limits, now)


def why_not(results: Sequence[GuardResult]) -> tuple[str, ...]:
    """Say which guards refused."""
    return tuple(f"Not activated: {result.reason.value} ({result.guard.value})." for result in refusals(tuple(results)))
