"""The outbox: leased, sent outside of any transaction, and marked only after the channel took the message."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch.core.model import Outcome
from paidwatch.core.story import State, Story
from paidwatch.errors import DeliveryError
from paidwatch.ports import Receipt
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One story to be told to one channel, under lease."""

    delivery_id: int
    lease: str
    installation_id: str
    revision: int
    told_revision: int
    reference: Mapping[str, str]
    attempts: int
    trying_since: datetime
    story: Story
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to a channel, for the delivery log."""

    delivery_id: int
    revision: int
    word: str
    took: timedelta
    result: str
    code: str
    size: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a story once a message about it was taken."""

    opened_at: datetime
    moved_on: bool
    """There is more to tell: it changed while the message was under way."""


async def claim(session: Session, channel: str, *, lease: str, span: timedelta, most: int) -> list[Due]:
    """Lease what is due on one channel, with the story as it is at this moment."""
    rows = await session.rows("claim_deliveries", channel, span, lease, most)
    return [_due(row, lease) for row in rows]


async def record_sent(session: Session, due: Due, receipt: Receipt) -> Told | None:
    """Mark as told; None if the lease was lost meanwhile."""
    row = await session.row(
        "record_sent", due.delivery_id, due.lease, due.revision, json.dumps(dict(receipt.reference))
    )
    return None if row is None else Told(opened_at=row["opened_at"], moved_on=row["moved_on"])


async def record_retry(session: Session, due: Due, wait: timedelta, error: DeliveryError) -> None:
    """Try again after `wait`, also after a restart."""
    await session.rows("record_retry", due.delivery_id, due.lease, wait, error.message)


async def record_dead(session: Session, due: Due, error: DeliveryError) -> None:
    """Keep as a dead letter."""
    await session.rows("record_dead", due.delivery_id, due.lease, error.message)


async def record_attempt(session: Session, attempt: Attempt) -> None:
    """Write the delivery log."""
    await session.rows(
        "record_attempt",
        attempt.delivery_id,
        attempt.took,
        attempt.revision,
        attempt.word,
        attempt.result,
        attempt.code[:200],
        attempt.size,
        attempt.error,
    )


async def hold_channel(session: Session, channel: str, wait: timedelta, broken: str | None) -> None:
    """Send nothing to this channel for `wait`; `broken` says why if a person must repair it."""
    await session.rows("hold_channel", channel, wait, broken)


async def channel_works(session: Session, channel: str) -> bool:
    """A message was taken; True if the channel had been marked as broken."""
    return await session.row("channel_works", channel) is not None


async def next_delivery(session: Session, channel: str) -> timedelta | None:
    """Return how long until this channel is due to be told something; None: nothing is queued."""
    row = await session.one("next_delivery", channel)
    if not row["waiting"]:
        return None
    wait: timedelta | None = row["wait"]
    return max(wait or timedelta(), timedelta())


async def queue_test(session: Session, channels: Sequence[str], lines: Sequence[str]) -> dict[str, int]:
    """Queue a marked test story; return channel → delivery. The alert is the same for all."""
    rows = await session.rows("queue_test", list(channels), list(lines))
    return {row["channel"]: row["delivery_id"] for row in rows}


def _due(row: Row, lease: str) -> Due:
    return Due(
        delivery_id=row["delivery_id"],
        lease=lease,
        installation_id=row["installation_id"],
        revision=row["revision"],
        told_revision=row["told_revision"],
        reference=json.loads(row["reference"]),
        attempts=row["attempts"],
        trying_since=row["trying_since"],
        story=_story(row),
        now=row["now"],
    )


def _story(row: Row) -> Story:
    return Story(
        alert_id=str(row["alert_id"]),
        kind=row["kind"],
        state=State(row["state"]),
        revision=row["revision"],
        reminders=row["reminders"],
        announced=row["told_revision"] > 0,
        payment_id=row["payment_id"],
        user_id=row["user_id"],
        user_label=row["user_label"],
        plan_id=row["plan_id"],
        amount=row["amount"],
        currency=row["currency"],
        method=row["method"],
        reference=row["provider_reference"],
        status=row["status"],
        paid_at=row["paid_at"],
        noticed_at=row["noticed_at"],
        due_at=row["grace_until"],
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        cause=row["cause"],
        sharing=row["sharing"],
        detail=row["detail"],
        activation=tuple(row["notes"]) if row["payment_id"] is not None else (),
        delay=row["delay"],
        digest=tuple(row["notes"]) if row["payment_id"] is None else (),
    )
