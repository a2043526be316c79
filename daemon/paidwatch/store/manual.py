"""What a person means who asks for an activation, and the locks it needs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from paidwatch.core.model import Subject
from paidwatch.store import subjects
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """One payment, whose it is and what it bought."""

    subject: Subject
    user_id: str | None
    plan_id: str | None


@asynccontextmanager
async def rolled_back(session: Session) -> AsyncGenerator[None]:
    """Whatever the body does, it never happened; what it locks is free again afterwards."""
    transaction = session.connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def user_exists(session: Session, user_id: str) -> bool:
    """Say whether the application has such a user."""
    return await session.row("user_state", user_id) is not None


async def user_key(session: Session, wanted: str) -> str | None:
    """Return the key as the application spells it; None: no user can have it."""
    row = await _maybe(session, "user_key", wanted)
    return None if row is None else row["user_id"]


async def owned(session: Session, payment_id: str) -> Owned | None:
    """Return one payment; None: there is none with this key."""
    row = await _maybe(session, "payment_owner", payment_id)
    return None if row is None else _owned(Subject(payment_id=row["payment_id"]), row)


async def told(session: Session, user_id: str, name: str | None) -> list[Owned]:
    """Return the user's money that signed webhooks tell of, under one of its names or as an open gap; at most two.

    Where a payment row bears one of the names, that row is what is meant.
    """
    found: list[Owned] = []
    for row in await session.rows("told_owner", user_id, name):
        its_row = None if row["payment_id"] is None else await owned(session, row["payment_id"])
        found.append(its_row or _owned(Subject(method=row["method"], reference=row["reference"]), row))
    return found


async def newest_payment(session: Session, user_id: str) -> str | None:
    """Return the newest paid payment of a user."""
    found: str | None = await session.value("newest_payment", user_id)
    return found


async def current_claim(session: Session, subject: Subject) -> str | None:
    """Say who granted this payment or is about to, under whichever of its names; None: nobody."""
    row = await session.row("current_claim", *subjects.columns(subject))
    if row is None:
        return None
    done = "activated it" if row["state"] == "done" else "is activating it"
    return f"{row['actor']} {done} (activation {row['activation_id']}, {row['claimed_at']:%Y-%m-%d %H:%M:%S} UTC)"


def _owned(subject: Subject, row: Row) -> Owned:
    return Owned(subject=subject, user_id=row["user_id"], plan_id=row["plan_id"])


async def _maybe(session: Session, statement: str, key: str) -> Row | None:
    """Ask for a key that may be none of the application's type."""
    try:
        async with session.connection.transaction():
            return await session.row(statement, key)
    except asyncpg.DataError:
        return None
