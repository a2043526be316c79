"""What the live view shows: one consistent look at gaps, closures, channels and the daemon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.compare import in_words
from paidwatch.core.guards import Mode
from paidwatch.store import ledger, report
from paidwatch.store.pool import Row, Session
from paidwatch.store.report import Watcher

FEED = "paidwatch_feed"
"""Where the daemon hints that something changed."""
MANY = 10_000
"""What is counted no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGap:
    """One gap."""

    payment_id: str
    user_id: str | None
    kind: str
    plan_id: str | None
    amount: Decimal | None
    currency: str | None
    method: str | None
    paid_at: datetime
    opened_at: datetime | None
    cause: str
    reminders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedGap:
    """One gap that is over."""

    alert_id: int
    payment_id: str
    user_id: str | None
    kind: str
    outcome: str
    opened_at: datetime
    resolved_at: datetime
    plan_id: str | None
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """One channel."""

    name: str
    configured: bool
    down_since: datetime | None
    down_reason: str | None
    queued: int
    retrying: int
    dead: int
    told_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One request to a channel."""

    attempt_id: int
    at: datetime
    took: timedelta
    channel: str
    payment_id: str | None
    word: str
    result: str
    code: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Payment to activation, today."""

    count: int
    p50: timedelta
    p90: timedelta
    p99: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Everything, as of `now`."""

    now: datetime
    count: int
    """Open gaps; `gaps` may hold fewer."""
    gaps: Sequence[OpenGap]
    money: Mapping[str, Decimal]
    closed: Sequence[ClosedGap]
    channels: Sequence[ChannelState]
    attempts: Sequence[Tried]
    waiting: int
    noted: int
    """Rows the daemon has not read; MANY + 1 stands for more."""
    unread: timedelta | None
    """Age of the oldest of them."""
    overdue: timedelta | None
    """For how long a verdict has been due."""
    speed: Speed | None
    watcher: Watcher
    activation: str
    """How automatic activation stands: `shadow, would have been right 41 of 41`."""


async def frame(session: Session, channels: Sequence[str], today: datetime, most: int, mode: Mode) -> Frame:
    """Take one look; lists hold at most `most`. Raises DatabaseError."""
    async with report.snapshot(session):
        state = await session.one("live_state", today)
        record, stopped = await ledger.track_record(session)
        return Frame(
            now=state["now"],
            count=state["gaps"],
            gaps=[_gap(row) for row in await session.rows("live_gaps", most)],
            money={row["currency"]: row["amount"] or Decimal() for row in await session.rows("live_money")},
            closed=[_closed(row) for row in await session.rows("live_closed", most)],
            channels=[_channel(row) for row in await session.rows("live_channels", list(channels))],
            attempts=[_tried(row) for row in await session.rows("live_attempts", most)],
            waiting=state["waiting"],
            noted=state["noted"],
            unread=state["unread"],
            overdue=state["overdue"],
            speed=_speed(state),
            watcher=await report.watcher(session),
            activation=in_words(mode, record, stopped),
        )


def _gap(row: Row) -> OpenGap:
    return OpenGap(
        payment_id=row["payment_id"],
        user_id=row["user_id"],
        kind=row["kind"] or "",
        plan_id=row["plan_id"],
        amount=row["amount"],
        currency=row["currency"],
        method=row["method"],
        paid_at=row["paid_at"],
        opened_at=row["opened_at"],
        cause=row["cause"] or "",
        reminders=row["reminders"] or 0,
    )


def _closed(row: Row) -> ClosedGap:
    return ClosedGap(
        alert_id=row["alert_id"],
        payment_id=row["payment_id"],
        user_id=row["user_id"],
        kind=row["kind"],
        outcome=row["outcome"] or "",
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
        plan_id=row["plan_id"],
        amount=row["amount"],
        currency=row["currency"],
    )


def _channel(row: Row) -> ChannelState:
    return ChannelState(
        name=row["name"],
        configured=row["configured"],
        down_since=row["down_since"],
        down_reason=row["down_reason"],
        queued=row["queued"],
        retrying=row["retrying"],
        dead=row["dead"],
        told_at=row["told_at"],
    )


def _tried(row: Row) -> Tried:
    return Tried(
        attempt_id=row["attempt_id"],
        at=row["at"],
        took=row["took"],
        channel=row["channel"],
        payment_id=row["payment_id"],
        word=row["word"],
        result=row["result"],
        code=row["code"],
        error=row["error"],
    )


def _speed(row: Row) -> Speed | None:
    if not row["activations"]:
        return None
    p50, p90, p99 = row["percentiles"]
    return Speed(count=row["activations"], p50=p50, p90=p90, p99=p99, longest=row["longest"])
