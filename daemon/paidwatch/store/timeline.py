"""Everything that is known of one user: the state, the payments with their facts, and what happened, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import asyncpg

from paidwatch.core.model import Outcome
from paidwatch.store.pool import Session
from paidwatch.store.report import Candidate
from paidwatch.store.watches import Graces


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user as the application has them; the label is for the operator's own eyes."""

    user_id: str
    label: str | None
    name: str | None
    enabled: bool
    admin: bool
    status: str | None
    tier: str | None
    plan_id: str | None
    paid_until: datetime | None
    revoked_at: datetime | None
    last_paid_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """One payment of the user, and what is known of it apart from the payment's row."""

    payment_id: str
    plan_id: str | None
    amount: Decimal | None
    currency: str | None
    method: str | None
    reference: str | None
    status: str | None
    """None: the row was deleted."""
    watched: bool
    """It is paid, or once was."""
    open: bool
    """The daemon watches it and has not closed it."""
    outcome: Outcome | None
    """How the watch was closed; None while it is open, and where there is none."""
    created_at: datetime | None
    candidate: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened."""

    at: datetime | None
    what: str
    """payment, event, webhook, watch, alert, delivery, activation."""
    id: str
    payment_id: str | None
    word: str
    said: str
    """What else is known of it; untrusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """The newest activation of the user, which a person undid."""

    activation_id: int
    at: datetime
    by: str
    """The person's name."""


async def find(session: Session, wanted: str) -> str | None:
    """Return the key that `wanted` is, or the one user it is the e-mail address of; None: nobody can be meant."""
    if "@" in wanted:
        named = await session.rows("users_named", wanted)
        if len(named) == 1:
            key: str = named[0]["user_id"]
            return key
    try:
        async with session.connection.transaction():
            found: str = await session.value("user_key", wanted)
    except asyncpg.DataError:
        return None
    return found


async def user(session: Session, user_id: str) -> User | None:
    """Return the user's present state."""
    row = await session.row("user_state", user_id)
    if row is None:
        return None
    return User(
        user_id=row["user_id"],
        label=row["label"],
        name=row["name"],
        enabled=row["enabled"],
        admin=row["admin"],
        status=row["status"],
        tier=row["tier"],
        plan_id=row["plan_id"],
        paid_until=row["paid_until"],
        revoked_at=row["revoked_at"],
        last_paid_at=row["last_paid_at"],
    )


async def payments(session: Session, user_id: str, most: int, graces: Graces) -> list[Bought]:
    """Return the newest payments, the newest first."""
    return [
        Bought(
            payment_id=row["payment_id"],
            plan_id=row["plan_id"],
            amount=row["amount"],
            currency=row["currency"],
            method=row["method"],
            reference=row["reference"],
            status=row["status"],
            watched=row["paid"] or row["watch_state"] is not None,
            open=row["watch_state"] in {"waiting", "gap"},
            outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
            created_at=row["created_at"],
            candidate=Candidate(
                payment_id=row["payment_id"],
                paid_at=row["paid_at"],
                grace_until=row["grace_until"],
                reversed_at=row["reversed_at"],
                touched_at=row["touched_at"],
            ),
        )
        for row in await session.rows("user_payments", user_id, most, *graces)
    ]


async def moments(session: Session, user_id: str, bought: Sequence[Bought], most: int) -> list[Moment]:
    """Return the newest things that happened, in the order of time; what has no time stands first."""
    references = [one.reference for one in bought if one.reference is not None]
    rows = await session.rows("timeline", user_id, most, [one.payment_id for one in bought], references)
    return [
        Moment(
            at=row["at"],
            what=row["what"],
            id=row["id"],
            payment_id=row["payment_id"],
            word=row["word"],
            said=row["said"],
        )
        for row in reversed(rows)
    ]


async def undone(session: Session, user_id: str) -> Undone | None:
    """Return the user's newest activation if a person undid it; None: there is none, or it stands."""
    row = await session.row("newest_undone", user_id)
    if row is None:
        return None
    by = (row["undone_by"] or "somebody").removeprefix("cli:")
    return Undone(activation_id=row["activation_id"], at=row["undone_at"], by=by)
