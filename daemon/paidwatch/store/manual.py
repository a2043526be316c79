"""What a person means who asks for an activation, and the locks it needs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """One payment, whose it is and what it bought."""

    payment_id: str
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
    return None if row is None else Owned(payment_id=row["payment_id"], user_id=row["user_id"], plan_id=row["plan_id"])


async def newest_payment(session: Session, user_id: str) -> str | None:
    """Return the newest paid payment of a user."""
    found: str | None = await session.value("newest_payment", user_id)
    return found


async def lock(session: Session, payment_id: str) -> None:
    """Take the locks of an activation in the daemon's order: watch, then the ledger."""
    await session.rows("lock_watch", payment_id)
    await session.rows("serialize_activations")


async def current_claim(session: Session, payment_id: str) -> str | None:
    """Say who granted this payment or is about to; None: nobody."""
    row = await session.row("current_claim", payment_id)
    if row is None:
        return None
    done = "activated it" if row["state"] == "done" else "is activating it"
    return f"{row['actor']} {done} (activation {row['activation_id']}, {row['claimed_at']:%Y-%m-%d %H:%M:%S} UTC)"


async def _maybe(session: Session, statement: str, key: str) -> Row | None:
    """Ask for a key that may be none of the application's type."""
    try:
        async with session.connection.transaction():
            return await session.row(statement, key)
    except asyncpg.DataError:
        return None
