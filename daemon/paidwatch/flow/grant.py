"""Grant: one claim is granted or refused, whoever claimed it, in one transaction with the user's row locked.

The guards are asked again on facts read under the lock, and what they answer is what counts. Callers: flow.activate for
the claims of the machine, cli.activate for those of people.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from paidwatch.core.grant import Grant, plan_grant
from paidwatch.core.guards import Actor, GuardResult, Reason, allowed
from paidwatch.core.model import Facts, Gap, Outcome, Verdict
from paidwatch.core.verdict import judge
from paidwatch.flow import storm
from paidwatch.flow.claim import GRANTABLE, guard, why_not
from paidwatch.flow.policy import Policy
from paidwatch.store import ledger, watches
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Session


class Result(StrEnum):
    """How an attempt to grant ended."""

    DONE = "done"
    REFUSED = "refused"
    GONE = "gone"
    """Somebody else ended the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What would come of granting one payment at `now`, and why."""

    now: datetime
    facts: Facts
    verdict: Verdict
    guards: tuple[GuardResult, ...]
    grant: Grant | Reason
    before: str | None
    """What an activation may write of the user, as JSON by column; None: there is no such user."""

    @property
    def allowed(self) -> bool:
        """Say whether every guard agrees, and there is something to write."""
        return allowed(self.guards) and not isinstance(self.grant, Reason)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Return why not, a sentence each."""
        more = (f"Not activated: {self.grant.value}.",) if isinstance(self.grant, Reason) else ()
        return why_not(self.guards) or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one attempt, with what it was decided by."""

    result: Result
    guards: tuple[GuardResult, ...]
    grant: Grant | None = None
    notes: tuple[str, ...] = ()
    before: str | None = None
    after: str | None = None
    """The user as it was and as it is now, as JSON by column."""
    event_id: str | None = None


async def consider(
    session: Session, policy: Policy, *, payment_id: str, user_id: str, actor: Actor, claim_id: int | None = None
) -> Prospect:
    """Lock the user's row and ask everything about one payment; nothing is written."""
    before = await ledger.lock_subscriber(session, user_id)
    now, known = await watches.facts_of(session, [payment_id], policy.graces())
    facts = known[0].facts
    return Prospect(
        now=now,
        facts=facts,
        verdict=judge(facts, policy.rules, now),
        guards=await guard(session, known[0], policy, now, actor=actor, claim_id=claim_id),
        grant=plan_grant(facts, now, active_word=policy.active_word),
        before=before,
    )


async def grant(session: Session, claim: Claim, policy: Policy) -> Ended:
    """Grant a claim or refuse it, in the caller's transaction; user, event, ledger, audit, watch and alert at once."""
    if not await ledger.take(session, claim.activation_id):
        return Ended(result=Result.GONE, guards=())
    actor = Actor.AUTO if claim.actor == Actor.AUTO.value else Actor.MANUAL
    found = await consider(
        session,
        policy,
        payment_id=claim.payment_id,
        user_id=claim.user_id,
        actor=actor,
        claim_id=claim.activation_id,
    )
    owed = actor is Actor.MANUAL or (isinstance(found.verdict, Gap) and found.verdict.kind in GRANTABLE)
    if not owed or not found.allowed or isinstance(found.grant, Reason):
        notes = found.refusals or ("Not activated: nothing is owed any more.",)
        await ledger.finish(session, claim.activation_id, state="refused", guards=found.guards, before=found.before)
        await session.rows("note_refusal", claim.payment_id, list(notes))
        await watches.postpone(session, {claim.payment_id: found.now})
        return Ended(result=Result.REFUSED, guards=found.guards, notes=notes, before=found.before)
    return await _write(session, claim, policy, found, found.grant)


async def _write(session: Session, claim: Claim, policy: Policy, found: Prospect, planned: Grant) -> Ended:
    after, event_id = await ledger.write_grant(
        session, planned, claim_id=claim.activation_id, event_type=policy.event_type
    )
    await ledger.finish(
        session,
        claim.activation_id,
        state="done",
        guards=found.guards,
        before=found.before,
        after=after,
        event_id=event_id,
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
            "before": found.before,
            "after": after,
            "event_id": event_id,
        },
    )
    notes = (f"Activated by paidwatch ({claim.actor}): {granted(planned)}.",)
    await session.rows("note_activation", claim.payment_id, list(notes))
    await watches.close_watches(
        session, {claim.payment_id: (Outcome.FIXED.value, found.now)}, quiet_until=storm.quiet_until(policy, found.now)
    )
    await session.rows("tell_feed")
    return Ended(
        result=Result.DONE,
        guards=found.guards,
        grant=planned,
        notes=notes,
        before=found.before,
        after=after,
        event_id=event_id,
    )


def granted(planned: Grant) -> str:
    """Say what a grant gives: `professional until 2026-12-23 12:54 UTC`."""
    until = planned.user["paid_until"]
    return (
        f"{planned.user['tier']} {f'until {until:%Y-%m-%d %H:%M} UTC' if isinstance(until, datetime) else 'for ever'}"
    )
