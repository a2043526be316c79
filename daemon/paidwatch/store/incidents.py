"""Incidents: alerts that are alike and are told as one; what they are made of, who joins, and when they are over."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.routing import Severity
from paidwatch.core.storm import EDIT_EVERY, Alike, Likeness
from paidwatch.core.story import Incident
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """The first message of an alert to one channel."""

    alert_id: int
    channel: str
    due_at: datetime
    waits_for: str | None = None
    """`quiet`: it waits for the end of the quiet hours."""
    held_until: datetime | None = None
    """Others like it are waited for; None: they are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The open incident of a likeness, locked."""

    alert_id: int
    fresh: bool
    """It was opened by this transaction."""


async def of(session: Session, alert_ids: Sequence[int]) -> dict[int, Incident]:
    """Return what these incidents are made of at this moment; an alert that is no incident is left out."""
    if not alert_ids:
        return {}
    return {row["alert_id"]: _incident(row) for row in await session.rows("incidents_of", list(alert_ids))}


async def alike(
    session: Session, likenesses: Sequence[Likeness], *, apart_from: Sequence[int], window: timedelta, most: int
) -> Mapping[Likeness, Alike]:
    """Return what there is of each likeness: its open incident, and up to `most` alerts that opened within `window`.

    Who else asks about one of them waits for the end of this transaction.

    `apart_from` are alerts that are not counted; neither is what this transaction opened.
    """
    words = [list(column) for column in zip(*((it.kind, it.method, it.error_class) for it in likenesses), strict=True)]
    await session.rows("one_at_a_time", *words)
    rows = await session.rows(
        "alike",
        *words,
        window,
        most,
        list(apart_from),
    )
    return {
        likeness: Alike(incident=row["incident"], recent=row["recent"], first_at=row["first_at"])
        for likeness, row in zip(likenesses, rows, strict=True)
    }


async def queue(session: Session, outgoing: Sequence[Outgoing]) -> None:
    """Queue the first messages of fresh alerts."""
    if not outgoing:
        return
    await session.rows(
        "queue_alerts",
        [it.alert_id for it in outgoing],
        [it.channel for it in outgoing],
        [it.due_at for it in outgoing],
        [it.waits_for for it in outgoing],
    )
    held = {it.alert_id: it.held_until for it in outgoing if it.held_until is not None}
    if held:
        await session.rows("hold_alerts", list(held), list(held.values()))


async def open_incident(session: Session, likeness: Likeness, *, severity: Severity, window: timedelta) -> Opened:
    """Open the incident of a likeness, or take the open one; it stays open for `window` at least."""
    row = await session.one(
        "open_incident", likeness.kind, likeness.method, likeness.error_class, severity.value, window
    )
    return Opened(alert_id=row["alert_id"], fresh=row["fresh"])


async def join(
    session: Session,
    incident: Opened,
    alert_ids: Sequence[int],
    *,
    channels: Sequence[str],
    due_at: datetime,
    waits_for: str | None,
    window: timedelta,
) -> int:
    """Have alerts join, with those alike of `window` if the incident is fresh; return how many joined.

    `channels` hear of the incident at `due_at`, and so does who was to hear, or heard, of those that joined.
    """
    return int(
        await session.value(
            "join_incident",
            incident.alert_id,
            list(alert_ids),
            list(channels),
            due_at,
            waits_for,
            window if incident.fresh else None,
        )
    )


async def tell_change(session: Session, incident_ids: Sequence[int], *, every: timedelta = EDIT_EVERY) -> None:
    """Have the open ones edited where they can be, not more often than `every`; locks them."""
    await session.rows("tell_incidents", list(incident_ids), every)


async def members_ended(
    session: Session, alert_ids: Sequence[int], *, quiet_until: datetime | None = None
) -> list[int]:
    """Let the incidents of alerts that were just resolved follow; return those that are over with them.

    Call it in the transaction that resolved them. `quiet_until` is the end of the quiet hours, None outside them.
    """
    if not alert_ids:
        return []
    touched = [row["incident_id"] for row in await session.rows("end_members", list(alert_ids))]
    if not touched:
        return []
    await tell_change(session, touched)
    # A statement of its own, after the rows were locked: it sees whoever joined until then.
    rows = await session.rows("close_incidents", touched, EDIT_EVERY, quiet_until)
    return [row["alert_id"] for row in rows]


def _incident(row: Row) -> Incident:
    return Incident(
        kind_of=row["kind_of"],
        method=row["method"],
        started_at=row["started_at"],
        total=row["total"],
        open=row["open"],
        rescued=row["rescued"],
        otherwise=row["total"] - row["open"] - row["rescued"],
        money_at_risk={currency: Decimal(amount) for currency, amount in json.loads(row["money"]).items()},
        oldest_paid_at=row["oldest_paid_at"],
        causes=tuple((cause, count) for cause, count in json.loads(row["causes"])),
    )
