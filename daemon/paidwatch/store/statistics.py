"""How long activations took, and what became of payments: counted by the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from paidwatch.store.pool import Row, Session


class Ending(StrEnum):
    """What became of a payment."""

    IN_GRACE = "in_grace"
    """The application activated it in time."""
    SAVED = "saved"
    """paidwatch activated it, or the application did after somebody had been told."""
    LATE = "late"
    """The application activated it after the grace period, and before anybody had been told."""
    LOST = "lost"
    """Still a gap."""
    WAITING = "waiting"
    """Not judged yet."""
    UNSEEN = "unseen"
    """Activated while no daemon listened: when, nobody knows."""
    NOTHING_OWED = "nothing_owed"
    """Superseded, reversed, free, dismissed, undone by a person, …"""
    HISTORY = "history"
    """From before the installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Payment to activation, for one method and plan or for all."""

    method: str | None
    plan_id: str | None
    count: int
    p50: timedelta
    p90: timedelta
    p99: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How many payments in one currency ended in one way, and their sum."""

    ending: Ending
    currency: str | None
    count: int
    amount: Decimal


async def latencies(session: Session, since: timedelta) -> tuple[Latency | None, Sequence[Latency]]:
    """Return the times over all payments (None: there were none), and by method and plan, the most frequent first."""
    rows = await session.rows("latencies", since)
    total = next((_latency(row) for row in rows if row["total"] and row["count"]), None)
    return total, [_latency(row) for row in rows if not row["total"]]


async def endings(session: Session, since: timedelta) -> Sequence[Ended]:
    """Return what became of the payments."""
    return [
        Ended(
            ending=Ending(row["ending"]),
            currency=row["currency"],
            count=row["count"],
            amount=row["amount"] or Decimal(),
        )
        for row in await session.rows("endings", since)
    ]


async def histogram(session: Session, since: timedelta, bounds: Sequence[timedelta]) -> list[int]:
    """Return how many activations took less than each bound and no less than the one before; the last is the rest."""
    counts = [0] * (len(bounds) + 1)
    for row in await session.rows("histogram", since, list(bounds)):
        counts[row["bucket"]] = row["count"]
    return counts


def _latency(row: Row) -> Latency:
    p50, p90, p99 = row["percentiles"]
    return Latency(
        method=row["method"],
        plan_id=row["plan_id"],
        count=row["count"],
        p50=p50,
        p90=p90,
        p99=p99,
        longest=row["longest"],
    )
