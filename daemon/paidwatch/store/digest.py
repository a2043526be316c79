"""What the watcher tells of itself: the numbers of the daily digest, and how the outbox is for the heartbeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from paidwatch.store.pool import Session
from paidwatch.store.report import snapshot

MOST: Final = 2_000_000
"""Closed watches that are counted, a few seconds' work; a digest of more says that it is not everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Whether people can be told."""

    living: int
    """Configured channels that are not broken."""
    oldest: timedelta | None
    """For how long the oldest message on one of them is due and unsent; negative, or None, where none is."""


class Fate(StrEnum):
    """What became of gaps and payments in the digest's time; OPEN is of its end."""

    OPENED = "opened"
    CLOSED = "closed"
    EXPIRED = "expired"
    OPEN = "open"
    RESCUED = "rescued"
    """Activated by paidwatch, by itself or on command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """How many, and their money."""

    count: int = 0
    money: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """By currency; `?` where it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """From payment to activation."""

    p50: timedelta
    p90: timedelta
    p99: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What was from `since` until `until`, of one snapshot."""

    since: datetime
    until: datetime
    complete: bool
    """False: there were more payments than are counted, and these are the newest."""
    seen: int
    """Payments noticed, of whatever end."""
    activated: int
    """By the application."""
    waiting: int
    """Within their grace period at the end."""
    times: Times | None
    """None: no payment that a trigger told of was activated."""
    sums: Mapping[Fate, Sum]
    dead: int
    """Dead letters since then."""
    dead_in_all: int
    broken: Sequence[str]
    """Configured channels that are broken."""

    def sum(self, fate: Fate) -> Sum:
        """Return one of the sums; there is none for what did not happen."""
        return self.sums.get(fate, Sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Appointment:
    """Which digest was the last."""

    last: datetime | None
    """Until when it told; None: there never was one."""
    now: datetime


async def pulse_state(session: Session, channels: Sequence[str]) -> Outbox:
    """Say how many of these channels work, and how long the oldest message waits on them."""
    row = await session.one("pulse_state", list(channels))
    return Outbox(living=row["living"], oldest=row["oldest"])


async def appointment(session: Session) -> Appointment:
    """Say which digest was the last."""
    row = await session.one("digest_state")
    return Appointment(last=row["digest_at"], now=row["now"])


async def begin(session: Session, since: datetime) -> None:
    """Let the first digest be the one of the time after `since`; changes nothing where there was one."""
    await session.rows("begin_digests", since)


async def claim(session: Session, last: datetime, until: datetime) -> bool:
    """Take the digest from `last` until `until` for oneself, in the transaction that tells it; False: it was told."""
    return await session.row("claim_digest", last, until) is not None


async def day(session: Session, since: datetime, channels: Sequence[str], *, most: int = MOST) -> Day:
    """Count what was from `since` until now, in one snapshot."""
    async with snapshot(session):
        closed = await session.one("digest_closed", since, most)
        still = await session.one("digest_open", since)
        sums = await session.rows("digest_sums", since)
        dead = await session.one("digest_dead", since, list(channels))
    counts: dict[Fate, int] = {}
    money: dict[Fate, dict[str, Decimal]] = {}
    for row in sums:
        fate = Fate(row["fate"])
        counts[fate] = counts.get(fate, 0) + row["count"]
        if row["amount"]:
            money.setdefault(fate, {})[row["currency"] or "?"] = row["amount"]
    times = None
    if closed["longest"] is not None:
        p50, p90, p99 = closed["percentiles"]
        times = Times(p50=p50, p90=p90, p99=p99, longest=closed["longest"])
    return Day(
        since=since,
        until=closed["now"],
        complete=closed["looked"] < most,
        seen=closed["seen"] + still["seen"] + still["gaps"],
        activated=closed["activated"],
        waiting=still["waiting"],
        times=times,
        sums={fate: Sum(count=count, money=money.get(fate, {})) for fate, count in counts.items()},
        dead=dead["fresh"],
        dead_in_all=dead["dead"],
        broken=dead["broken"],
    )
