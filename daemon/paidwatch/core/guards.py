"""When a payment may be granted by paidwatch: every guard answers, and all of them must hold.

The guards P1 to P9 are those of domain.md §4; P9 is three of them, so that an audit tells mode, caps and breaker
apart. They are asked again inside the writing transaction, on facts read with the user row locked. A request made by
a person is not held up by mode, caps or breaker, and by every other guard like any request.

Unknown is never good enough: an unknown price, amount, rank or corroboration refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from paidwatch.core.access import after, is_free, is_reversed, is_underpaid, money, shortfalls, was_granted
from paidwatch.core.model import Facts, Phase, Plan, Rules, Subscriber


class Guard(StrEnum):
    """What must hold, named as the audit names it."""

    FINAL = "P1_final_status_and_grace_over"
    NOT_REVERSED = "P2_not_reversed"
    NEWEST = "P3_newest_and_no_lower_tier"
    OPEN_PERIOD = "P4_period_open_and_recent"
    PRICE = "P5_plan_and_price"
    USER = "P6_user_may_be_granted"
    NOT_DONE = "P7_not_activated_yet"
    CORROBORATED = "P8_corroborated"
    MODE = "P9_mode"
    CAPS = "P9_caps"
    BREAKER = "P9_breaker"


class Reason(StrEnum):
    """Why a guard holds or refuses; constant words."""

    HOLDS = "holds"
    BY_HAND = "not asked of a person"
    NO_PAYMENT = "there is no such payment"
    NOT_FINAL = "the status is not one that allows activation"
    IN_GRACE = "the grace period is not over"
    REVERSED = "the payment was reversed"
    NEWER_PAID = "the user has a newer paid payment"
    LOWER_TIER = "the user's tier is higher than the plan, or cannot be compared with it"
    PERIOD_OVER = "the paid period is over"
    TOO_OLD = "the payment is older than the allowed age"
    AGE_UNKNOWN = "there is no payment row, and its webhooks do not say how old the money is"
    NO_PLAN = "there is no such plan"
    FREE = "no money was paid for this, or the plan is free"
    PRICE_UNKNOWN = "the price is not known"
    AMOUNT_UNKNOWN = "the amount is not known"
    UNDERPAID = "less was paid than the plan costs"
    NO_USER = "there is no such user"
    USER_DISABLED = "the user is disabled"
    USER_ADMIN = "the user is an administrator"
    ADMIN_ACTED = "an administrator acted on the user after the payment"
    DONE_HERE = "this payment was activated before, by paidwatch"
    DONE = "this payment was activated before"
    GRANTED_SINCE = "an activation of the user was recorded since the payment"
    AS_PAID = "the user already has what was paid for"
    CONTRADICTED = "the payment provider does not confirm the payment"
    NOT_CORROBORATED = "neither a signed webhook nor the payment provider confirms the payment"
    NOT_CONFIRMED = "there is no payment row, and the payment provider does not confirm what its webhook says"
    MODE_OFF = "activation is switched off"
    MODE_SHADOW = "shadow mode computes and does not write"
    MODE_SUPERVISED = "supervised mode waits for a person"
    HOUR_FULL = "the cap per hour is reached"
    DAY_FULL = "the cap per day is reached"
    USER_FULL = "the cap per user and day is reached"
    TOO_MUCH = "the amount is above the cap"
    BREAKER_OPEN = "the breaker is open"
    UNDONE = "a person undid the activation of this payment"
    FORCED = "overridden by a person"


FORCEABLE: Final = frozenset(Guard) - {Guard.MODE, Guard.CAPS, Guard.BREAKER}
"""What a person may override by name; the others are not asked of a person."""
NEVER_FORCED: Final = frozenset(
    {Reason.NO_PAYMENT, Reason.NO_PLAN, Reason.NO_USER, Reason.LOWER_TIER, Reason.AS_PAID, Reason.DONE_HERE}
)
"""Nothing could be written, or it has been: no name of a guard helps against that."""


class Actor(StrEnum):
    """Who asks."""

    AUTO = "auto"
    MANUAL = "manual"
    """A person at a command, whose word is a second witness of the money."""
    LINK = "link"
    """Whoever opened a message's link: a person whose word is no second witness of the money."""

    @classmethod
    def of(cls, name: str) -> "Actor":
        """Return who asks, by the ledger's name for it: `auto`, `link:CHANNEL`; anything else is `cli:NAME`."""
        known = name.partition(":")[0]
        return cls(known) if known in (cls.AUTO, cls.LINK) else cls.MANUAL


class Mode(StrEnum):
    """`[activation] mode`."""

    OFF = "off"
    SHADOW = "shadow"
    SUPERVISED = "supervised"
    AUTO = "auto"


_OF_MODE: Final = {
    Mode.OFF: Reason.MODE_OFF,
    Mode.SHADOW: Reason.MODE_SHADOW,
    Mode.SUPERVISED: Reason.MODE_SUPERVISED,
    Mode.AUTO: Reason.HOLDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One wish to grant one payment, with the owner's choices it is measured by."""

    actor: Actor
    mode: Mode
    auto_words: frozenset[str]
    """The application's status words that are final: money that can no longer fail to arrive."""
    max_age: timedelta
    max_amount: Decimal | None
    """Cap for one payment; None is no cap."""
    require_corroboration: bool = True
    corroborated: bool | None = None
    """What the payment provider's API said; None: it was not asked, or did not answer."""
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Automatic activations already done, counted in the database."""

    last_hour: int
    last_day: int
    user_last_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the machine may do by itself, and how much of it is used up."""

    max_per_hour: int
    max_per_day: int
    max_per_user_day: int
    usage: Usage
    breaker_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """The answer of one guard."""

    guard: Guard
    passed: bool
    reason: Reason


def evaluate(facts: Facts, request: Request, limits: Limits, now: datetime) -> tuple[GuardResult, ...]:
    """Ask every guard, also after one has refused: the audit shows all answers."""
    answers = ((guard, ask(facts, request, limits, now)) for guard, ask in GUARDS)
    return tuple(
        GuardResult(guard=guard, passed=reason in {Reason.HOLDS, Reason.BY_HAND}, reason=reason)
        for guard, reason in answers
    )


def override(results: tuple[GuardResult, ...], guards: frozenset[Guard]) -> tuple[GuardResult, ...]:
    """Return the answers as a person wants them who names the guards to override; all other refusals stand.

    A guard outside FORCEABLE, or one that refuses because there is nothing to write, cannot be overridden.
    """
    return tuple(
        GuardResult(guard=result.guard, passed=True, reason=Reason.FORCED)
        if not result.passed and result.guard in guards & FORCEABLE and result.reason not in NEVER_FORCED
        else result
        for result in results
    )


def allowed(results: tuple[GuardResult, ...]) -> bool:
    """Say whether the grant may be written: every guard was asked and holds."""
    return {result.guard for result in results} == set(Guard) and not refusals(results)


def allowed_but_for_mode(results: tuple[GuardResult, ...]) -> bool:
    """Say whether only the mode stands in the way: what shadow mode computes, and supervised mode proposes."""
    others = tuple(result for result in results if result.guard is not Guard.MODE)
    return {result.guard for result in others} == set(Guard) - {Guard.MODE} and not refusals(others)


def refusals(results: tuple[GuardResult, ...]) -> tuple[GuardResult, ...]:
    """Return the answers of the guards that refuse, in their order."""
    return tuple(result for result in results if not result.passed)


def lowers_tier(user: Subscriber, plan: Plan) -> bool:
    """Say whether the plan would lower the user's tier, or could: words that cannot be compared count as lower."""
    if not user.tier_watched or user.tier is None or user.tier == plan.id or user.tier_rank == 0:
        return False
    return user.tier_rank is None or plan.rank is None or user.tier_rank > plan.rank


def _final(facts: Facts, request: Request, _limits: Limits, now: datetime) -> Reason:
    """P1: paid in a word that is final, and the application has had its time.

    Where there is no row there is no word of the application: what counts is the canonical status of signed webhooks.
    """
    if facts.payment is None:
        return Reason.NO_PAYMENT
    final = facts.told is not None or facts.payment.status in request.auto_words
    if facts.payment.phase is not Phase.PAID or not final:
        return Reason.NOT_FINAL
    return Reason.HOLDS if now >= facts.grace_until else Reason.IN_GRACE


def _not_reversed(facts: Facts, _request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P2: no reversal was ever seen, before or after the payment became paid, nor told by a signed webhook."""
    told = facts.evidence.webhook_reversed_at is not None
    return Reason.REVERSED if told or is_reversed(facts) else Reason.HOLDS


def _newest(facts: Facts, _request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P3: the user's newest paid payment, and no step down."""
    if facts.evidence.newer_payment_id is not None:
        return Reason.NEWER_PAID
    if facts.subscriber is not None and facts.plan is not None and lowers_tier(facts.subscriber, facts.plan):
        return Reason.LOWER_TIER
    return Reason.HOLDS


def _open_period(facts: Facts, request: Request, _limits: Limits, now: datetime) -> Reason:
    """P4: what was bought has not run out, and the payment is no history.

    A webhook may be sent again after a year. Where no row says when it was paid, the money is as old as its order.
    """
    made_at = facts.paid_at if facts.told is None or facts.payment is None else facts.payment.created_at
    if made_at is None:
        return Reason.AGE_UNKNOWN
    since = min(facts.paid_at, made_at)
    if facts.plan is not None and after(since, facts.plan.duration) <= now:
        return Reason.PERIOD_OVER
    return Reason.HOLDS if now - since <= request.max_age else Reason.TOO_OLD


def _price(facts: Facts, request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P5: a plan that costs something, and enough money for it."""
    if facts.payment is None:
        return Reason.NO_PAYMENT
    if facts.plan is None:
        return Reason.NO_PLAN
    if is_free(facts.payment, facts.plan):
        return Reason.FREE
    if money(facts.plan.price) is None:
        return Reason.PRICE_UNKNOWN
    if money(facts.payment.amount) is None:
        return Reason.AMOUNT_UNKNOWN
    return Reason.UNDERPAID if is_underpaid(facts.payment, facts.plan, request.rules) else Reason.HOLDS


def _user(facts: Facts, _request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P6: a usable user whom no administrator has dealt with since the payment."""
    if facts.subscriber is None:
        return Reason.NO_USER
    if not facts.subscriber.enabled:
        return Reason.USER_DISABLED
    if facts.subscriber.admin:
        return Reason.USER_ADMIN
    return Reason.HOLDS if facts.evidence.acted_at is None else Reason.ADMIN_ACTED


def _not_done(facts: Facts, request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P7: nothing says that this payment, or since it this user, was activated; one payment buys one period."""
    if facts.evidence.ledger_at is not None:
        return Reason.DONE_HERE
    if facts.evidence.undone_at is not None:
        # A person may override an undo, and not what the user has been given since.
        return Reason.UNDONE if shortfalls(facts, request.rules) else Reason.AS_PAID
    if facts.evidence.activated_at is not None and not shortfalls(facts, request.rules):
        # An event names the payment, and the user has it: it has bought its one period.
        return Reason.AS_PAID
    if was_granted(facts):
        return Reason.DONE
    if facts.evidence.granted_at is not None:
        return Reason.GRANTED_SINCE
    return Reason.HOLDS if shortfalls(facts, request.rules) else Reason.AS_PAID


def _corroborated(facts: Facts, request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P8: money is believed on a second witness; the provider's no outweighs everything.

    Where there is no row, the signed webhook is the first one, and the second is the provider, or who types (§5, 12).
    """
    if request.corroborated is False:
        return Reason.CONTRADICTED
    signed = facts.evidence.webhook_valid is True and facts.evidence.webhook_paid is True
    if facts.told is not None and signed:
        return Reason.HOLDS if request.corroborated or request.actor is Actor.MANUAL else Reason.NOT_CONFIRMED
    confirmed = signed or request.corroborated is True
    if facts.told is not None or (request.require_corroboration and not confirmed):
        return Reason.NOT_CORROBORATED
    return Reason.HOLDS if confirmed or request.actor is not Actor.MANUAL else Reason.BY_HAND


def _mode(_facts: Facts, request: Request, _limits: Limits, _now: datetime) -> Reason:
    """P9: the owner lets the machine write."""
    return _OF_MODE[request.mode] if request.actor is Actor.AUTO else Reason.BY_HAND


def _caps(facts: Facts, request: Request, limits: Limits, _now: datetime) -> Reason:
    """P9: the machine has not done too much already, and this one is not too large for it."""
    if request.actor is not Actor.AUTO:
        return Reason.BY_HAND
    amount = money(facts.payment.amount) if facts.payment is not None else None
    if request.max_amount is not None and (amount is None or amount > request.max_amount):
        return Reason.TOO_MUCH
    if limits.usage.last_hour >= limits.max_per_hour:
        return Reason.HOUR_FULL
    if limits.usage.last_day >= limits.max_per_day:
        return Reason.DAY_FULL
    return Reason.HOLDS if limits.usage.user_last_day < limits.max_per_user_day else Reason.USER_FULL


def _breaker(_facts: Facts, request: Request, limits: Limits, _now: datetime) -> Reason:
    """P9: the breaker stops the machine, not the person it calls."""
    if request.actor is not Actor.AUTO:
        return Reason.BY_HAND
    return Reason.BREAKER_OPEN if limits.breaker_open else Reason.HOLDS


GUARDS: tuple[tuple[Guard, Callable[[Facts, Request, Limits, datetime], Reason]], ...] = (
    (Guard.FINAL, _final),
    (Guard.NOT_REVERSED, _not_reversed),
    (Guard.NEWEST, _newest),
    (Guard.OPEN_PERIOD, _open_period),
    (Guard.PRICE, _price),
    (Guard.USER, _user),
    (Guard.NOT_DONE, _not_done),
    (Guard.CORROBORATED, _corroborated),
    (Guard.MODE, _mode),
    (Guard.CAPS, _caps),
    (Guard.BREAKER, _breaker),
)
