"""From the facts about one payment to one verdict: is anything owed, to whom, and since when.

The steps of `judge`, in the order in which they are asked; the first that answers decides:

 1. gone              the payment row was deleted                                      → settled: gone
 2. reversal          reversed, in any order of arrival: is access still there?        → gap, waiting, settled: reversed
 3. left              no longer paid, without a reversal                               → settled: left
 4. administrator     administrators are never alerted about                           → settled: admin
 5. nothing_paid      a free plan, or no money                                         → settled: nothing paid
 6. as_paid           access is what was paid for                                      → settled: activated or fixed
 7. ran_out           the paid period is over, and it had been granted                 → settled: activated or fixed
 8. ended             granted for this payment, then ended by an administrator         → settled: ended
 9. superseded        a newer payment buys at least as much                            → settled: superseded
10. reported_failure  the application itself said `activation_failed`                  → gap, without any grace
11. in_grace          the application may still do it                                  → waiting
12. underpaid         there is a usable user, and too little was paid                  → gap: amount mismatch
13. what is missing   the first shortfall of the user's access names the gap           → gap

Step 13 is total, so every payment gets a verdict. A missing or disabled user is told before an amount that is too
small: without a user nothing can be granted, whatever was paid.

Which gap a shortfall is called follows what a person would say first: revoked access is *revoked*, also when a lapsed
user paid again and the mark was not lifted; a status that is not active is *not active*; a free tier is *not active*
too where there is no status column, and a *tier mismatch* where the status says active; a period that is merely too
short is a *renewal* that was not applied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from paidwatch.core.access import (
    Shortfall,
    after,
    before,
    covers_tier,
    held_rank,
    is_free,
    is_reversed,
    is_underpaid,
    plan_word,
    shortfalls,
    was_granted,
)
from paidwatch.core.cause import explain
from paidwatch.core.model import (
    Facts,
    Gap,
    GapKind,
    Outcome,
    Payment,
    Phase,
    Rules,
    Settled,
    Verdict,
    Waiting,
)

EARLY = timedelta(minutes=5)
"""An application may write its event this long before it marks the payment as paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What every step looks at; the payment row exists."""

    facts: Facts
    payment: Payment
    rules: Rules
    now: datetime


def judge(facts: Facts, rules: Rules, now: datetime) -> Verdict:
    """Return the one verdict on a payment at `now`, the database's clock; the order of the rules is the module's."""
    if facts.payment is None:
        return Settled(outcome=Outcome.GONE, at=_last_change(facts, now))
    case = Case(facts=facts, payment=facts.payment, rules=rules, now=now)
    for step in STEPS:
        verdict = step(case)
        if verdict is not None:
            return verdict
    return _missing(case)


def reversal(case: Case) -> Verdict | None:
    """A reversal wins over every status, in any order of arrival; access that outlives it is a gap after the grace."""
    if not is_reversed(case.facts):
        return None
    if case.now < case.facts.grace_until:
        return Waiting(until=case.facts.grace_until)
    if was_granted(case.facts) and not case.facts.evidence.other_paid and _still_has_access(case):
        return _gap(GapKind.REVERSED_BUT_ACTIVE, case.facts)
    return Settled(outcome=Outcome.REVERSED, at=case.facts.evidence.reversed_at or case.now)


def left(case: Case) -> Verdict | None:
    """A payment that is not paid any more is owed nothing; an unknown word is never paid."""
    if case.payment.phase is Phase.PAID:
        return None
    return Settled(outcome=Outcome.LEFT, at=_last_change(case.facts, case.now))


def administrator(case: Case) -> Verdict | None:
    """Administrators have access whatever they pay."""
    if case.facts.subscriber is None or not case.facts.subscriber.admin:
        return None
    return Settled(outcome=Outcome.ADMIN, at=case.now)


def nothing_paid(case: Case) -> Verdict | None:
    """A free plan, or an amount of nothing: no money is at stake."""
    if not is_free(case.payment, case.facts.plan):
        return None
    return Settled(outcome=Outcome.NOTHING_PAID, at=case.facts.paid_at)


def as_paid(case: Case) -> Verdict | None:
    """Access is what was paid for, whoever granted it and with or without an event."""
    if shortfalls(case.facts, case.rules):
        return None
    seen = case.facts.evidence
    known = seen.ledger_at or _last_change(case.facts, seen.activated_at or seen.granted_at or case.now)
    return Settled(outcome=_by_whom(case.facts), at=known)


def ran_out(case: Case) -> Verdict | None:
    """A period that is over and had been granted leaves nothing to want, however the user looks today.

    A change inside the period tells that access was cut short, so that stays a gap. Without evidence it is enough that
    paid-until covered the period and that access was revoked no earlier than that.
    """
    facts, user, seen = case.facts, case.facts.subscriber, case.facts.evidence
    if facts.plan is None or after(facts.paid_at, facts.plan.duration) > case.now:
        return None
    nearly = before(after(facts.paid_at, facts.plan.duration), case.rules.period_slack)
    cut_short = facts.touched_at is not None and facts.touched_at < nearly
    lapsed = (
        user is not None
        and user.revoked_at is not None
        and user.paid_until is not None
        and (
            user.revoked_at >= user.paid_until
            and set(shortfalls(facts, case.rules)) <= {Shortfall.REVOKED, Shortfall.INACTIVE}
        )
    )
    if not lapsed and (cut_short or not was_granted(facts)):
        return None
    known = seen.ledger_at or seen.activated_at or seen.settled_at or seen.granted_at or case.now
    return Settled(outcome=_by_whom(facts), at=known)


def ended(case: Case) -> Verdict | None:
    """An administrator, or somebody who undid paidwatch's activation, took back on purpose what had been granted."""
    seen = case.facts.evidence
    acts = [moment for moment in (seen.acted_at, seen.undone_at) if moment is not None]
    grants = [moment for moment in (seen.activated_at, seen.ledger_at, seen.settled_at) if moment is not None]
    # What was undone had been granted, whatever else is left to show it.
    proven = grants or seen.undone_at is not None
    if not acts or not proven or max(acts) <= max(grants, default=case.facts.paid_at):
        return None
    return Settled(outcome=Outcome.ENDED, at=max(acts))


def superseded(case: Case) -> Verdict | None:
    """A newer payment of the user buys at least as much; where a rank is unknown, only the same plan does."""
    newer, plan = case.facts.evidence, case.facts.plan
    if newer.newer_payment_id is None:
        return None
    if plan is not None and plan.rank is not None and newer.newer_rank is not None:
        enough = newer.newer_rank >= plan.rank
    else:
        enough = newer.newer_plan_id is not None and newer.newer_plan_id == plan_word(case.facts)
    return Settled(outcome=Outcome.SUPERSEDED, at=case.now) if enough else None


def reported_failure(case: Case) -> Verdict | None:
    """The application said that it failed, and nothing later says that it tried again with success."""
    seen = case.facts.evidence
    if seen.failed_at is None or seen.failed_at < before(case.facts.paid_at, EARLY):
        return None
    for moment in (seen.activated_at, seen.granted_at, seen.ledger_at, seen.settled_at):
        if moment is not None and moment >= seen.failed_at:
            return None
    return _gap(GapKind.ACTIVATION_FAILED, case.facts)


def in_grace(case: Case) -> Verdict | None:
    """Until the grace is over the application may still do it."""
    return Waiting(until=case.facts.grace_until) if case.now < case.facts.grace_until else None


def underpaid(case: Case) -> Verdict | None:
    """Too little was paid by a user who could be granted something."""
    user = case.facts.subscriber
    if user is None or not user.enabled or not is_underpaid(case.payment, case.facts.plan, case.rules):
        return None
    return _gap(GapKind.AMOUNT_MISMATCH, case.facts)


STEPS: tuple[Callable[[Case], Verdict | None], ...] = (
    reversal,
    left,
    administrator,
    nothing_paid,
    as_paid,
    ran_out,
    ended,
    superseded,
    reported_failure,
    in_grace,
    underpaid,
)


def _missing(case: Case) -> Verdict:
    """Name the gap after the gravest shortfall; `as_paid` has seen that there is one."""
    facts, user = case.facts, case.facts.subscriber
    match shortfalls(facts, case.rules)[0]:
        case Shortfall.USER_MISSING | Shortfall.USER_DISABLED:
            return _gap(GapKind.USER_MISSING_OR_DISABLED, facts)
        case Shortfall.REVOKED:
            return _gap(GapKind.PAID_BUT_REVOKED, facts)
        case Shortfall.INACTIVE:
            return _gap(GapKind.PAID_NOT_ACTIVE, facts)
        case Shortfall.TIER:
            bare = user is not None and user.status_active is None and held_rank(user) == 0
            return _gap(GapKind.PAID_NOT_ACTIVE if bare else GapKind.TIER_MISMATCH, facts)
        case Shortfall.PERIOD:
            return _gap(GapKind.RENEWAL_NOT_APPLIED, facts)
        case _ as unreachable:
            assert_never(unreachable)


def _still_has_access(case: Case) -> bool:
    """Say whether the user holds, now, access that this payment could have given; a free plan gives none."""
    user = case.facts.subscriber
    if user is None or user.admin or is_free(case.payment, case.facts.plan):
        return False
    lasting = not user.paid_until_watched or user.paid_until is None or user.paid_until > case.now
    standing = user.enabled and user.status_active is not False and user.revoked_at is None
    return standing and lasting and covers_tier(case.facts, user)


def _last_change(facts: Facts, now: datetime) -> datetime:
    """Return when something last changed since the payment was paid, or `now` where nobody saw it."""
    return facts.touched_at if facts.touched_at is not None and facts.touched_at >= facts.paid_at else now


def _by_whom(facts: Facts) -> Outcome:
    """Say who granted it: paidwatch if its ledger says so, otherwise the application."""
    return Outcome.ACTIVATED if facts.evidence.ledger_at is None else Outcome.FIXED


def _gap(kind: GapKind, facts: Facts) -> Gap:
    """Name the gap together with its cause."""
    found = explain(kind, facts)
    return Gap(kind=kind, cause=found.cause, detail=found.detail)
