"""The application's log of webhooks, row by row: what is to be read, and what it says in canonical words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from paidwatch.core.evidence import CALM, FLOOR
from paidwatch.core.webhook import Reading
from paidwatch.store.pool import Row, Session
from paidwatch.store.watches import Graces

LONGEST: Final = 500
"""Characters of what names a payment, or a method, that are kept: indexes hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One row of the log."""

    log_id: str
    at: datetime
    """When it came."""
    method: str
    """In small letters."""
    reference: str | None
    """The provider's id of the payment, as the application wrote it beside the data."""
    user_id: str | None
    status: str
    """The application's own word for what became of it."""
    failed: bool
    error: str | None
    valid: bool | None
    """None: nobody looked at the signature."""
    data: str | None
    """JSON as text, untrusted; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A row, and what it says."""

    row: Logged
    reading: Reading
    reference: str | None
    """What the story is filed under."""
    names: tuple[str, ...]
    """Further ids of the same payment, beside the reference; the order's is among them."""
    user_id: str | None
    handled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stirred:
    """What reading changed."""

    opened: int
    growing: Sequence[str]
    """Stories that are counted and are told already."""


async def take(session: Session, most: int, *, history: bool) -> list[Logged]:
    """Take rows that are to be read off the list, in the caller's transaction."""
    return [_logged(row) for row in await session.rows("take_unread", most, history)]


async def write(session: Session, read: Sequence[Read], graces: Graces, *, history: bool) -> Stirred:
    """Keep what rows say, and open or wake the stories and gaps that it concerns."""
    await session.rows(
        "write_readings",
        [one.row.log_id for one in read],
        [one.row.method for one in read],
        [one.reference for one in read],
        [one.reading.order_id for one in read],
        [one.reading.status.value for one in read],
        [one.reading.said for one in read],
        [one.row.valid for one in read],
        [one.row.failed for one in read],
        [one.handled for one in read],
        [one.row.error for one in read],
        [one.user_id for one in read],
        [one.reading.plan_id for one in read],
        [one.reading.amount for one in read],
        [one.reading.currency for one in read],
        [one.reading.repeated for one in read],
        [one.reading.problem for one in read],
        [one.row.at for one in read],
        [one.reading.ordered_at or one.reading.at for one in read],
    )
    named = [(one.row.log_id, name) for one in read for name in one.names]
    if named:
        await session.rows("write_reading_names", [log_id for log_id, _ in named], [name for _, name in named])
    row = await session.one("stir_claims", [one.row.log_id for one in read], *graces, history, CALM, FLOOR)
    return Stirred(opened=row["opened"], growing=row["growing"])


async def grow(session: Session, growing: Sequence[str], every: timedelta) -> None:
    """Have stories that are counted edited where they can be, not more often than `every`."""
    if growing:
        await session.rows("grow_streams", every, list(growing))


async def note_unread(session: Session, look_back: timedelta, *, history: bool) -> int:
    """List rows of the log that no trigger told of; return how many. `history`: they are told in one digest only."""
    return int(await session.value("note_unread", look_back, history))


async def first_look(session: Session) -> bool:
    """Return whether the log was never looked at."""
    return await session.value("log_read_at") is None


def _logged(row: Row) -> Logged:
    return Logged(
        log_id=row["log_id"],
        at=row["noted_at"],
        method=row["method"][:LONGEST],
        reference=(row["reference"] or "")[:LONGEST] or None,
        user_id=row["user_id"],
        status=row["status"] or "",
        failed=row["failed"],
        error=row["error"],
        valid=row["valid"],
        data=row["data"],
    )
