"""What the success page may say: the id it was given, and from the facts about a payment to one of five states.

An id is what a provider or the application put into the address of the success page. Random ones are taken as they
are: who knows one has paid, or was told by who has. Ids that can be guessed count only together with a signature that
the application made with the key that both know: short ones, small numbers such as those of rows, times and dates,
words with a number (`INV-2026-0012`), and order ids (user, plan and time).

Large numbers lie in between. Providers number payments so (NOWPayments: ten digits, few of which are one shop's), add
the number to the address themselves, and cannot sign it. They are taken, but whoever tries many is stopped (web).
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final, assert_never

from paidwatch.core.access import is_reversed
from paidwatch.core.model import Facts, Outcome, Phase, Rules, Settled
from paidwatch.core.verdict import Case, as_paid, judge
from paidwatch.core.webhook import Order

LONGEST: Final = 255
"""Characters of an id; the application's column holds no more."""
_WELL_FORMED: Final = re.compile(rf"(?!#)[!-~]{{1,{LONGEST}}}")
"""Visible ASCII. What begins with # is our own name for a webhook that names nothing."""
_GUESSABLE: Final = re.compile(
    r".{1,8}|[0-9]{1,9}"
    # Seconds since 1970, and thousandths and finer, from 2014 to 2039; a date and more digits.
    r"|(1[4-9]|2[01])[0-9]{8}([0-9]{3}){0,3}|20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[0-9]{2,}"
    # Words and numbers. Of random letters and digits no part looks like that, or hardly ever.
    r"|(?=.*[a-zA-Z])(?=.*[0-9])([A-Z]?[a-z]+|[A-Z]+)?[0-9]*([-_.:/]([A-Z]?[a-z]+|[A-Z]+)?[0-9]*)*",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"[0-9]+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class State(StrEnum):
    """What a customer is told."""

    PAID_ACTIVE = "paid_active"
    """Paid, and access is what was paid for."""
    PAID_ACTIVATING = "paid_activating"
    """The money is there, access is not as paid yet."""
    PENDING = "pending"
    """The money is not there yet, as far as known."""
    FAILED = "failed"
    """The payment failed, was taken back, or its access was ended on purpose."""
    UNKNOWN = "unknown"
    """There is no such payment, it is not told about, or its period is long over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An id that may be looked up."""

    id: str
    signed: bool
    """The application vouches for it: it may be the number of a row."""
    random: bool
    """It is a UUID, which may be a row's."""
    number: bool
    """It is a large number that nobody vouches for: whoever tries many of them is guessing."""
    order: Order | None
    """What it says as an order id; only where it is signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A state, and when it is worth asking again; `next_poll` None: it stays like this."""

    state: State
    next_poll: timedelta | None


NOWHERE: Final = Sight(state=State.UNKNOWN, next_poll=timedelta(seconds=15))
"""What is said of an id that nobody knows; it may become known a moment later."""

_PACE: Final = (
    (timedelta(minutes=1), timedelta(seconds=2)),
    (timedelta(minutes=10), timedelta(seconds=5)),
    (timedelta(hours=1), timedelta(seconds=15)),
)
"""Until which age of the payment to ask how often."""
_SLOWEST: Final = timedelta(minutes=1)


def sign(session_id: str, key: str) -> str:
    """Return the signature of an id: HMAC-SHA256 with the key, in 64 hexadecimal digits."""
    return hmac.new(key.encode(), session_id.encode(), sha256).hexdigest()


def asked(session_id: str, signature: str, key: str, order_of: Callable[[str], Order | None]) -> Asked | None:
    """Return what may be looked up, or None for an id that has the wrong form, or may be guessed and is not signed.

    `order_of` reads order ids. An empty key signs nothing.
    """
    if not _WELL_FORMED.fullmatch(session_id):
        return None
    given = signature if signature.isascii() else ""
    signed = bool(key) and hmac.compare_digest(given, sign(session_id, key))
    order = order_of(session_id)
    random = _UUID.fullmatch(session_id) is not None
    if not signed and (order is not None or (_GUESSABLE.fullmatch(session_id) and not random)):
        return None
    return Asked(
        id=session_id,
        signed=signed,
        random=random,
        number=not signed and _NUMBER.fullmatch(session_id) is not None,
        order=order,
    )


def see(facts: Facts | None, rules: Rules, now: datetime) -> Sight:
    """Return what to say of a payment at `now`, the database's clock; no facts is a payment that nobody knows."""
    if facts is None or facts.payment is None:
        return NOWHERE
    state = _state(facts, facts.payment.phase, rules, now)
    if state is None:
        return Sight(state=State.UNKNOWN, next_poll=None)
    if state in {State.PAID_ACTIVE, State.FAILED}:
        return Sight(state=state, next_poll=None)
    begun = facts.paid_at if state is State.PAID_ACTIVATING else facts.payment.created_at or facts.paid_at
    return Sight(state=state, next_poll=_pace(now - begun))


def _state(facts: Facts, phase: Phase, rules: Rules, now: datetime) -> State | None:
    """Return the state; None is a payment whose time is over."""
    if is_reversed(facts):
        return State.FAILED
    match phase:
        case Phase.PAID:
            return _paid(facts, rules, now)
        case Phase.FAILED | Phase.REVERSED:
            return State.FAILED
        case Phase.PENDING | Phase.UNKNOWN:
            # The provider says that it has the money, only the application's row does not.
            return State.PAID_ACTIVATING if facts.evidence.webhook_paid else State.PENDING
        case _ as unreachable:
            assert_never(unreachable)


def _paid(facts: Facts, rules: Rules, now: datetime) -> State | None:
    """Say of a paid payment whether access is as paid; everything else that is not over is on its way."""
    if facts.payment is not None:
        if as_paid(Case(facts=facts, payment=facts.payment, rules=rules, now=now)) is not None:
            return State.PAID_ACTIVE
        match judge(facts, rules, now):
            case Settled(outcome=Outcome.ENDED):
                return State.FAILED
            case Settled(outcome=Outcome.ACTIVATED | Outcome.FIXED):
                return None
            case _:
                pass
    return State.PAID_ACTIVATING


def _pace(age: timedelta) -> timedelta:
    return next((pause for until, pause in _PACE if age < until), _SLOWEST)
