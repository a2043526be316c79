"""What `check` asks the application's own tables: which payments may be gaps, and what decides about them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from paidwatch.core.model import Facts
from paidwatch.errors import Unfit
from paidwatch.store import watches
from paidwatch.store.explain import STANDBY
from paidwatch.store.pool import Session
from paidwatch.store.watches import Graces

SESSION: Final = {
    # Compiling a statement takes longer than running it.
    "jit": "off",
    # Every row is looked up by an index; the server has no statistics that would tell it so.
    "enable_seqscan": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Which of the application's keys are numbers; inside the program all of them are text."""

    payments: bool
    users: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """The daemon as the server sees it."""

    pid: int | None
    """The session that leads; None: no daemon watches."""
    since: datetime | None
    """None also where the role may not see other sessions."""
    standbys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One payment that may be a gap, with what the daemon has noted and not read yet."""

    payment_id: str
    paid_at: datetime
    grace_until: datetime
    reversed_at: datetime | None
    touched_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What is to be judged, and how much was looked at for it."""

    now: datetime
    since: datetime
    looked: int
    waiting: int
    """Not activated, and still within their grace."""
    open: Sequence[Candidate]


@asynccontextmanager
async def snapshot(session: Session) -> AsyncGenerator[None]:
    """Everything asked inside is of one moment, and nothing can be written."""
    async with session.connection.transaction(isolation="repeatable_read", readonly=True):
        yield


async def keys(session: Session) -> Keys:
    """Say what the keys are. Raises Unfit on a standby, whose rows may be of the past."""
    row = await session.one("keys")
    if row["standby"]:
        message = "the server is a standby (read-only), and what it shows may be of the past"
        raise Unfit(message, remedy=STANDBY)
    return Keys(payments=row["payments"], users=row["users"])


async def watcher(session: Session) -> Watcher:
    """Say whether a daemon leads."""
    row = await session.one("watcher")
    return Watcher(pid=row["pid"], since=row["since"], standbys=row["standbys"])


async def candidates(session: Session, since: timedelta, slack: timedelta, graces: Graces) -> Candidates:
    """Return what may be a gap among the payments of the last `since` and those that are watched."""
    rows = await session.rows("candidates", since, slack, *graces)
    first = rows[0]
    return Candidates(
        now=first["now"],
        since=first["since"],
        looked=first["looked"],
        waiting=first["waiting"],
        open=[
            Candidate(
                payment_id=row["payment_id"],
                paid_at=row["paid_at"],
                grace_until=row["grace_until"],
                reversed_at=row["reversed_at"],
                touched_at=row["touched_at"],
            )
            for row in rows
            if row["payment_id"] is not None
        ],
    )


async def facts(session: Session, batch: Sequence[Candidate], graces: Graces) -> list[Facts]:
    """Return the facts of these payments, with what was noted of them."""
    noted = {candidate.payment_id: candidate for candidate in batch}
    if not noted:
        return []
    _now, known = await watches.facts_of(session, list(noted), graces)
    return [_with(noted[one.facts.payment_id], one.facts) for one in known]


def _with(noted: Candidate, found: Facts) -> Facts:
    evidence = replace(found.evidence, reversed_at=noted.reversed_at or found.evidence.reversed_at)
    return replace(
        found,
        paid_at=noted.paid_at,
        grace_until=noted.grace_until,
        touched_at=noted.touched_at or found.touched_at,
        evidence=evidence,
    )
