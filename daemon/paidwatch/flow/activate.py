"""Activate: what was claimed is granted, in one transaction with the user's row locked and every guard asked again.

Crash points: before the transaction commits nothing happened and the claim is due again; after it everything did.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from paidwatch.core.grant import Grant, plan_grant
from paidwatch.core.guards import Actor, GuardResult, Reason, allowed
from paidwatch.core.model import Gap, Outcome
from paidwatch.core.timing import retry_delay
from paidwatch.core.verdict import judge
from paidwatch.errors import Unreadable
from paidwatch.flow.claim import GRANTABLE, guard, why_not
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import ActivationResult, Metrics
from paidwatch.store import ledger, watches
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Database, Session

BATCH = 20
TRIES = 5


class Result(StrEnum):
    """How an attempt to grant ended."""

    DONE = "done"
    REFUSED = "refused"
    GONE = "gone"
    """Somebody else ended the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one attempt, with what it was decided by."""

    result: Result
    guards: tuple[GuardResult, ...]
    grant: Grant | None = None
    notes: tuple[str, ...] = ()


class Activate:
    """Grants claims."""

    def __init__(self, *, database: Database, policy: Callable[[], Policy], metrics: Metrics, log: Log) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._log = log

    async def run_due(self) -> int:
        """Grant the claims that are due; return how many were handled. Raises DatabaseError."""
        due = await self._database.read(lambda session: ledger.claimed(session, BATCH))
        for claim in due:
            await self._handle(claim)
        return len(due)

    async def _handle(self, claim: Claim) -> None:
        try:
            ended = await self._database.write(lambda session: self._grant(session, claim))
        except Unreadable as error:
            await self._failed(claim, error.message)
            return
        match ended.result:
            case Result.DONE:
                self._metrics.activation(ActivationResult.DONE)
                self._log.warning(
                    "activation.done", "a subscription was activated", payment=claim.payment_id, user=claim.user_id
                )
            case Result.REFUSED:
                self._metrics.activation(ActivationResult.REFUSED)
                self._log.warning(
                    "activation.refused",
                    "an activation was refused",
                    payment=claim.payment_id,
                    why=" ".join(ended.notes),
                )
            case Result.GONE:
                pass

    async def _grant(self, session: Session, claim: Claim) -> Ended:
        policy = self._policy()
        if not await ledger.take(session, claim.activation_id):
            return Ended(result=Result.GONE, guards=())
        before = await ledger.lock_subscriber(session, claim.user_id)
        now, known = await watches.facts_of(session, [claim.payment_id], policy.graces())
        facts = known[0].facts
        actor = Actor.AUTO if claim.actor == Actor.AUTO.value else Actor.MANUAL
        results = await guard(session, known[0], policy, now, actor=actor, claim_id=claim.activation_id)
        verdict = judge(facts, policy.rules, now)
        owed = actor is Actor.MANUAL or (isinstance(verdict, Gap) and verdict.kind in GRANTABLE)
        grant = plan_grant(facts, now, active_word=policy.active_word)
        if not owed or not allowed(results) or isinstance(grant, Reason):
            notes = why_not(results) or ("Not activated: nothing is owed any more.",)
            await ledger.finish(session, claim.activation_id, state="refused", guards=results, before=before)
            await session.rows("note_refusal", claim.payment_id, list(notes))
            await self._wake(session, claim.payment_id, now)
            return Ended(result=Result.REFUSED, guards=results, notes=notes)
        after, event_id = await ledger.write_grant(
            session, grant, claim_id=claim.activation_id, event_type=policy.event_type
        )
        await ledger.finish(
            session, claim.activation_id, state="done", guards=results, before=before, after=after, event_id=event_id
        )
        await ledger.audit(
            session,
            actor=claim.actor,
            act="activate",
            payment_id=claim.payment_id,
            user_id=claim.user_id,
            detail={
                "activation_id": claim.activation_id,
                "reason": claim.reason,
                "before": before,
                "after": after,
                "event_id": event_id,
            },
        )
        until = grant.user["paid_until"] or "for ever"
        notes = (f"Activated by paidwatch ({claim.actor}): {grant.user['tier']} until {until}.",)
        await session.rows("note_activation", claim.payment_id, list(notes))
        await watches.close_watches(session, {claim.payment_id: (Outcome.FIXED.value, now)})
        return Ended(result=Result.DONE, guards=results, grant=grant, notes=notes)

    @staticmethod
    async def _wake(session: Session, payment_id: str, now: datetime) -> None:
        await watches.postpone(session, {payment_id: now})

    async def _failed(self, claim: Claim, error: str) -> None:
        """The database refused to write: again later, then for a person."""
        if claim.attempts + 1 < TRIES:
            wait = retry_delay(claim.attempts + 1, roll=1.0)
            await self._database.write(lambda session: ledger.retry(session, claim.activation_id, wait, error))
        else:
            await self._database.write(lambda session: self._give_up(session, claim, error))
        self._metrics.activation(ActivationResult.FAILED)
        self._log.error(
            "activation.failed", "an activation could not be written", payment=claim.payment_id, error=error
        )

    @staticmethod
    async def _give_up(session: Session, claim: Claim, error: str) -> None:
        await ledger.finish(session, claim.activation_id, state="failed", guards=(), error=error)
        await session.rows("note_refusal", claim.payment_id, [f"Activation failed {TRIES} times: {error}"])
