"""The outbox as a person looks at it and acts on it: what waits, what was given up, every request that was made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from paidwatch import __version__
from paidwatch.store.ledger import as_json
from paidwatch.store.pool import Row, Session


class Standing(StrEnum):
    """Where a message stands."""

    DUE = "due"
    """It goes out by itself, at its time."""
    HELD = "held"
    """It waits for the repair of its channel, the end of the quiet hours, or the digest that tells it."""
    DEAD = "dead"
    """Given up: somebody must replay it."""
    SENT = "sent"
    """Everything there is to tell was told."""
    NONE = "none"
    """Never told, and not to be told: somebody silenced it, or an incident speaks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One channel's knowledge of one alert."""

    delivery_id: int
    alert_id: int
    kind: str
    channel: str
    state: Standing
    alert_state: str
    revision: int
    told_revision: int
    told_at: datetime | None
    due_at: datetime | None
    attempts: int
    """Of the message under way, or of the one that was taken last; 0 where a digest told it."""
    trying_since: datetime | None
    dead_at: datetime | None
    under_way: bool
    last_error: str | None
    bundle_id: int | None
    replayed_by: str | None
    payment_id: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """One request that was made."""

    at: datetime
    took: timedelta
    revision: int
    word: str
    result: str
    code: str
    size: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One delivery with everything that is known of it."""

    listed: Listed
    reference: Mapping[str, str]
    escalated: bool
    waits_for: str | None
    down_since: datetime | None
    """Since when its channel takes nothing."""
    down_reason: str | None
    not_before: datetime | None
    """When its channel may be asked next."""
    requests: Sequence[Requested]


async def listed(session: Session, *, channel: str | None, state: Standing | None, most: int) -> list[Listed]:
    """Return messages, the newest first."""
    return [_listed(row) for row in await session.rows("list_deliveries", channel, state, most)]


async def shown(session: Session, delivery_id: int) -> Shown | None:
    """Return one delivery and its requests; None: there is none with this number."""
    row = await session.row("show_delivery", delivery_id)
    if row is None:
        return None
    requests = await session.rows("attempts_of", delivery_id)
    return Shown(
        listed=_listed(row),
        reference=json.loads(row["reference"]),
        escalated=row["escalated"],
        waits_for=row["waits_for"],
        down_since=row["down_since"],
        down_reason=row["down_reason"],
        not_before=row["channel_not_before"],
        requests=[Requested(**dict(it)) for it in requests],
    )


async def retry(session: Session, delivery_id: int, *, by: str) -> bool:
    """Have a waiting message tried now; False if it does not wait, or is under way."""
    row = await session.row("retry_delivery", delivery_id)
    if row is not None:
        await _record(session, "delivery_retry", by, [delivery_id])
    return row is not None


async def replay(session: Session, wanted: Sequence[int] | None, *, channel: str | None, by: str) -> list[int]:
    """Have dead letters tried anew, all of them where none are named; return which ones were dead letters."""
    rows = await session.rows("replay_deliveries", None if wanted is None else list(wanted), channel, by)
    found = sorted(row["delivery_id"] for row in rows)
    if found:
        await _record(session, "delivery_replay", by, found)
    return found


async def _record(session: Session, act: str, by: str, deliveries: Sequence[int]) -> None:
    """Append to the audit, and have a running daemon deliver once this is committed."""
    await session.rows("audit", by, act, None, None, as_json({"deliveries": list(deliveries)}), __version__)
    await session.rows("ring_outbox")
    await session.rows("tell_feed")


def _listed(row: Row) -> Listed:
    return Listed(
        delivery_id=row["delivery_id"],
        alert_id=row["alert_id"],
        kind=row["kind"],
        channel=row["channel"],
        state=Standing(row["state"]),
        alert_state=row["alert_state"],
        revision=row["revision"],
        told_revision=row["told_revision"],
        told_at=row["told_at"],
        due_at=row["due_at"],
        # What is due and was not tried yet has the count of the message before it.
        attempts=row["attempts"] if row["trying_since"] is not None or row["due_at"] is None else 0,
        trying_since=row["trying_since"],
        dead_at=row["dead_at"],
        under_way=row["under_way"],
        last_error=row["last_error"],
        bundle_id=row["bundle_id"],
        replayed_by=row["replayed_by"],
        payment_id=row["payment_id"],
        user_id=row["user_id"],
    )
