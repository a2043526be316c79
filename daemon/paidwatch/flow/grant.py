"""Grant: one claim is granted or refused, whoever claimed it, in one transaction with the user's row locked.

The guards are asked again on facts read under the lock, and what they answer is what counts. Callers: flow.activate for
the claims of the machine, flow.manual and flow.approve for those of people. What flow.call does over HTTP begins and
ends with the same questions and the same words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from paidwatch.core.grant import GRANTABLE, Grant, in_words, plan_grant
from paidwatch.core.guards import Actor, Guard, GuardResult, Reason, allowed
from paidwatch.core.model import Facts, Gap, Outcome, Subject, Verdict
from paidwatch.flow import storm
from paidwatch.flow import subject as subjects
from paidwatch.flow.claim import guard, why_not
from paidwatch.flow.policy import Policy
from paidwatch.store import ledger
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Session
from paidwatch.store.subjects import note, note_refusal


class Result(StrEnum):
    """How an attempt to grant ended."""

    DONE = "done"
    REFUSED = "refused"
    GONE = "gone"
    """Somebody else ended the claim."""
    FAILED = "failed"
    """The application was asked over HTTP, and its tables do not show it."""
    UNDER_WAY = "under way"
    """The application was asked over HTTP; whether it did it is not known yet, and is found out later."""


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
    about: str = ""
    """What it was about, for the log."""


async def consider(
    session: Session,
    policy: Policy,
    *,
    subject: Subject,
    user_id: str,
    actor: Actor,
    claim_id: int | None = None,
    forced: frozenset[Guard] = frozenset(),
) -> Prospect:
    """Lock the user's row and ask everything about one payment; nothing is written."""
    before = await ledger.lock_subscriber(session, user_id)
    now, known, verdict = await subjects.known(session, subject, policy)
    return Prospect(
        now=now,
        facts=known.facts,
        verdict=verdict,
        guards=await guard(session, known, policy, now, actor=actor, claim_id=claim_id, forced=forced),
        grant=plan_grant(known.facts, now, active_word=policy.active_word),
        before=before,
    )


async def ask_again(session: Session, claim: Claim, policy: Policy) -> Prospect:
    """Ask everything about a claim, with the user's row locked."""
    return await consider(
        session,
        policy,
        subject=claim.subject,
        user_id=claim.user_id,
        actor=Actor.of(claim.actor),
        claim_id=claim.activation_id,
        forced=claim.forced,
    )


def agreed(claim: Claim, found: Prospect) -> Grant | None:
    """Return what may be granted: the guards agree, and to the machine something must be owed."""
    owed = Actor.of(claim.actor) is not Actor.AUTO or (
        isinstance(found.verdict, Gap) and found.verdict.kind in GRANTABLE
    )
    if not owed or not found.allowed or isinstance(found.grant, Reason):
        return None
    # Whose row is locked, and whom the ledger names: the payment may have been given to another user since the claim.
    return found.grant if found.grant.user_id == claim.user_id else None


async def grant(session: Session, claim: Claim, policy: Policy) -> Ended:
    """Grant a claim or refuse it, in the caller's transaction; user, event, ledger, audit, watch and alert at once."""
    if not await ledger.take(session, claim.activation_id, claim.subject):
        return Ended(result=Result.GONE, guards=())
    found = await ask_again(session, claim, policy)
    planned = agreed(claim, found)
    if planned is None:
        await ledger.finish(session, claim.activation_id, state="refused", guards=found.guards, before=found.before)
        return await refused(session, claim, found)
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
    done = Ended(
        result=Result.DONE,
        guards=found.guards,
        grant=planned,
        notes=(f"Activated by paidwatch ({claim.actor}): {in_words(planned)}.",),
        before=found.before,
        after=after,
        event_id=event_id,
        about=str(claim.subject),
    )
    await fixed(session, claim, policy, found.now, done)
    return done


async def refused(session: Session, claim: Claim, found: Prospect, why: tuple[str, ...] = ()) -> Ended:
    """Say on the alert why nothing was activated (`why`, or what the guards say), and have the payment judged anew."""
    user = found.facts.subscriber
    moved = found.allowed and user is not None and user.id != claim.user_id
    otherwise = "the payment belongs to another user now" if moved else "nothing is owed any more"
    notes = why or found.refusals or (f"Not activated: {otherwise}.",)
    await note_refusal(session, claim.subject, notes)
    await subjects.look_again(session, claim.subject, found.now)
    return Ended(result=Result.REFUSED, guards=found.guards, notes=notes, before=found.before, about=str(claim.subject))


async def fixed(
    session: Session,
    claim: Claim,
    policy: Policy,
    now: datetime,
    done: Ended,
    detail: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Audit what was granted, say it on the alert, and close the watch; `detail` is more for the audit."""
    await ledger.audit(
        session,
        actor=claim.actor,
        act="activate",
        subject=claim.subject,
        user_id=claim.user_id,
        detail={
            "activation_id": claim.activation_id,
            "reason": claim.reason,
            "forced": sorted(guard.value for guard in claim.forced),
            "before": done.before,
            "after": done.after,
            "event_id": done.event_id,
            **detail,
        },
    )
    await note(session, claim.subject, done.notes)
    await subjects.close(session, claim.subject, Outcome.FIXED, now, quiet_until=storm.quiet_until(policy, now))
    await session.rows("tell_feed")
