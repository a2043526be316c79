"""From what webhooks say to one verdict: is there money that no payment tells of, and is anything wrong with webhooks?

The steps of `judge`, in the order in which they are asked; the first that answers decides:

 1. administrator   administrators are never alerted about                             → settled: admin
 2. returned        a signed webhook says that the money went back                     → settled: reversed
 3. followed        the payment has a row that says paid, or reversed, itself          → settled: followed
 4. granted         an activation since, or access that is as paid                     → settled: activated
 5. in_grace        the application may still do it                                    → waiting
 6. paid            signed and paid: no row, a row that is not paid, or too little     → gap
 7. short           signed, and less arrived than was asked for                        → gap: underpaid
 8. failed          not handled by the application, and nothing handled later          → gap: webhook failed
 9. otherwise       a webhook that needs nobody                                        → settled: cleared

Stories of a method as a whole have a verdict of their own each: `judge_stream` for bad signatures and for failures that
name no payment, `judge_silence` for webhooks that do not come.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from paidwatch.core.access import after, before, money
from paidwatch.core.cause import Cause
from paidwatch.core.model import Gap, GapKind, Outcome, Phase, Plan, Rules, Settled, Subscriber, Verdict, Waiting

SIGNATURES: Final = ""
"""Stands for a reference: the story of a method's bad signatures."""
NAMELESS: Final = "?"
"""Stands for a reference: the story of a method's failures that name no payment."""
SILENCE: Final = "!"
"""Stands for a reference: the story of a method that says nothing."""
STREAMS: Final = frozenset({SIGNATURES, NAMELESS})
"""Stories that are counted."""
METHODWIDE: Final = STREAMS | {SILENCE}
CALM: Final = timedelta(hours=1)
"""What is counted is over when none has come for so long."""
FLOOR: Final = timedelta(minutes=30)
"""No provider is held to be silent for less."""
USUAL: Final = 6
"""So many times its usual longest pause (the 99th percentile of a week) makes a provider silent."""
LEAST: Final = 5
"""Fewer pauses within a week say nothing about what is usual."""
TELLING: Final = 2
"""So many payments that nobody answered tell of a silent provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is known about one provider's reference; times are ours, None is absent, and only signed webhooks count."""

    method: str
    reference: str
    grace_until: datetime
    paid_at: datetime | None = None
    """When the first webhook came that says paid."""
    short_at: datetime | None = None
    """When the last one came that says too little arrived."""
    reversed_at: datetime | None = None
    failed_at: datetime | None = None
    """When the last one came that the application could not handle; its signature may be unchecked."""
    error: str = ""
    """The application's words for that, untrusted."""
    handled_at: datetime | None = None
    """When the last one came that the application has handled."""
    repeated: bool = False
    """It speaks of a further deposit for a payment that was made already."""
    problem: str = ""
    """What could not be read in it."""
    user_id: str | None = None
    """As far as the webhooks name a user whose key this can be."""
    amount: Decimal | None = None
    currency: str | None = None
    payment_id: str | None = None
    """The row that has this reference; None: there is none."""
    phase: Phase | None = None
    """Of the row."""
    subscriber: Subscriber | None = None
    plan: Plan | None = None
    activated_at: datetime | None = None
    """An activation event of the user since, which names no other payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What every step looks at."""

    claim: Claim
    rules: Rules
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Webhooks of one method that are alike and are told as one."""

    kind: GapKind
    count: int
    last_at: datetime | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """What is known about how often valid webhooks of one method come."""

    last_at: datetime | None
    """The last one; None: there never was one."""
    pauses: int
    """How many pauses between two of them the last week has."""
    usual: timedelta | None
    """The 99th percentile of those."""
    asked_at: datetime | None
    """When the first payment of the method was created since the last webhook; None: none was."""
    asked: int
    """How many were."""


def judge(claim: Claim, rules: Rules, now: datetime) -> Verdict:
    """Return the one verdict on a reference at `now`, the database's clock; the order of the rules is the module's."""
    case = Case(claim=claim, rules=rules, now=now)
    for step in STEPS:
        verdict = step(case)
        if verdict is not None:
            return verdict
    return Settled(outcome=Outcome.CLEARED, at=claim.handled_at or now)


def administrator(case: Case) -> Verdict | None:
    """Administrators have access whatever they pay."""
    user = case.claim.subscriber
    return Settled(outcome=Outcome.ADMIN, at=case.now) if user is not None and user.admin else None


def returned(case: Case) -> Verdict | None:
    """Money that went back is owed nothing, in any order of arrival."""
    at = case.claim.reversed_at
    return None if at is None else Settled(outcome=Outcome.REVERSED, at=at)


def followed(case: Case) -> Verdict | None:
    """The payment's own row says so, and is watched by itself."""
    its_own = case.claim.phase in {Phase.PAID, Phase.REVERSED}
    return Settled(outcome=Outcome.FOLLOWED, at=case.now) if its_own else None


def granted(case: Case) -> Verdict | None:
    """There is an activation for it, or access that only this money can have bought."""
    at = case.claim.activated_at
    if at is None and not _has_access(case.claim, case.rules):
        return None
    return Settled(outcome=Outcome.ACTIVATED, at=at or case.now)


def in_grace(case: Case) -> Verdict | None:
    """Until the grace is over the application may still do it."""
    until = case.claim.grace_until
    return Waiting(until=until) if case.now < until else None


def paid(case: Case) -> Verdict | None:
    """The money is there, and nothing came of it."""
    claim = case.claim
    if claim.paid_at is None:
        return None
    kind = GapKind.ORPHAN_WEBHOOK if claim.payment_id is None else GapKind.PROVIDER_PAID_DB_PENDING
    if claim.repeated:
        return Gap(kind=kind, cause=Cause.REPEATED)
    if _is_too_little(claim, case.rules):
        return Gap(kind=GapKind.UNDERPAID, cause=Cause.UNDERPAID)
    if _is_unhandled(claim):
        return Gap(kind=kind, cause=Cause.HANDLER_FAILED, detail=claim.error)
    return _left_alone(kind, claim)


def short(case: Case) -> Verdict | None:
    """Some money is there, and less than was asked for."""
    if case.claim.short_at is None:
        return None
    return Gap(kind=GapKind.UNDERPAID, cause=Cause.REPEATED if case.claim.repeated else Cause.SHORT)


def failed(case: Case) -> Verdict | None:
    """The application could not handle a webhook, and handled none later."""
    if not _is_unhandled(case.claim):
        return None
    return Gap(kind=GapKind.WEBHOOK_FAILED, cause=Cause.HANDLER_FAILED, detail=case.claim.error)


STEPS: tuple[Callable[[Case], Verdict | None], ...] = (
    administrator,
    returned,
    followed,
    granted,
    in_grace,
    paid,
    short,
    failed,
)


def judge_stream(stream: Stream, now: datetime) -> Verdict:
    """Return the verdict on webhooks that are counted: a gap while they keep coming."""
    if stream.last_at is None or after(stream.last_at, CALM) <= now:
        return Settled(outcome=Outcome.CLEARED, at=stream.last_at or now)
    cause = Cause.BAD_SIGNATURE if stream.kind is GapKind.WEBHOOK_BAD_SIGNATURE else Cause.HANDLER_FAILED
    return Gap(kind=stream.kind, cause=cause, detail=stream.error)


def judge_silence(silence: Silence, now: datetime) -> Verdict:
    """Return the verdict on a method that has said nothing for a while; settled: nothing was to be said.

    The pause counts from the first payment that was created since the last webhook: nobody expects a webhook before. A
    single one may be a checkout that was left, at night above all, and is waited with for another one.
    """
    if silence.last_at is None or silence.asked_at is None or silence.usual is None or silence.pauses < LEAST:
        return Settled(outcome=Outcome.CLEARED, at=silence.last_at or now)
    silent_at = after(max(silence.asked_at, silence.last_at), patience(silence.usual))
    if now < silent_at:
        return Waiting(until=silent_at)
    if silence.asked < TELLING:
        return Waiting(until=after(now, patience(silence.usual)))
    return Gap(kind=GapKind.PROVIDER_SILENT, cause=Cause.SILENT)


def reference_of(filed: str | None) -> str:
    """Return the provider's id that a story is filed under; empty where there is none."""
    return "" if not filed or filed in METHODWIDE or filed.startswith("#") else filed


def patience(usual: timedelta) -> timedelta:
    """Return how long a method may say nothing while payments are created."""
    return max(FLOOR, USUAL * min(usual, timedelta(days=7)))


def _left_alone(kind: GapKind, claim: Claim) -> Gap:
    """Name the cause of money that the application made nothing of."""
    if claim.payment_id is not None:
        return Gap(kind=kind, cause=Cause.ROW_LEFT)
    if claim.user_id is None:
        return Gap(kind=kind, cause=Cause.UNKNOWN_ORDER, detail=claim.problem)
    return Gap(kind=kind, cause=Cause.UNKNOWN_USER if claim.subscriber is None else Cause.NO_ROW)


def _is_unhandled(claim: Claim) -> bool:
    return claim.failed_at is not None and (claim.handled_at is None or claim.handled_at < claim.failed_at)


def _is_too_little(claim: Claim, rules: Rules) -> bool:
    """Whether less was paid than the plan costs, as far as both are known in one currency."""
    paid = money(claim.amount)
    price = money(claim.plan.price) if claim.plan is not None else None
    return paid is not None and price is not None and paid < price * (1 - rules.amount_tolerance)


def _has_access(claim: Claim, rules: Rules) -> bool:
    """Whether the user holds what was paid for, and could only have got it by this money."""
    user, plan, paid_at = claim.subscriber, claim.plan, claim.paid_at
    if user is None or plan is None or paid_at is None or claim.repeated or not user.paid_until_watched:
        return False
    standing = user.enabled and user.status_active is not False and user.revoked_at is None
    tier = not user.tier_watched or (
        user.tier_rank is not None and plan.rank is not None and user.tier_rank >= plan.rank > 0
    )
    covered = user.paid_until is None or user.paid_until >= before(after(paid_at, plan.duration), rules.period_slack)
    return standing and tier and covered
