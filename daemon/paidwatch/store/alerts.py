"""Alerts after they were opened: looked at when it is time, and what a look or a person changed about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.lifecycle import Act, Look, Standing
from paidwatch.core.routing import About, Severity
from paidwatch.core.story import BREAKER, CHANNEL_DOWN, DOUBLE, FORWARD, INCIDENT, State
from paidwatch.store.pool import Row, Session

PAIDWATCH = "paidwatch"
"""Who did what nobody asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Why nobody is told of an alert, and until when."""

    silence_id: int
    author: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One alert that is to be looked at, locked."""

    alert_id: int
    error_class: str
    standing: Standing
    channel: str | None
    """The one that a story about a channel is about."""
    acked_by: str | None
    silence: Silence | None
    """The one that fits it now."""
    former: str | None
    """Author of the silence that spoke for it until now."""
    heard: frozenset[str]
    """The channels that were, or are, to be told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """How an alert stands after a look."""

    seen: Seen
    look: Look
    delay: str | None
    """Why it is told late; None leaves what was said."""
    outcome: str | None
    """Of what is over now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of an alert's history."""

    alert_id: int
    what: Act
    actor: str = PAIDWATCH
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """A channel that is to hear of an alert from now on."""

    alert_id: int
    channel: str
    due_at: datetime
    waits_for: str | None = None
    """`quiet`: it waits for the end of the quiet hours."""
    escalated: bool = False
    escalated_from: Decimal | None = None


async def due(session: Session) -> datetime | None:
    """Return the present if any alert is to be looked at, None if not."""
    found: datetime | None = await session.value("alerts_due")
    return found


async def look_again(session: Session, channels: Sequence[str]) -> None:
    """Have everything that is not over looked at anew, and forget the troubles of channels that are not configured."""
    note = "the channel is not configured any more"
    await session.rows("channels_over", list(channels), False, note)  # noqa: FBT003  a statement's argument
    await session.rows("look_again")


async def gaps_to_expire(session: Session, now: datetime, expire: timedelta, most: int) -> list[str]:
    """Lock what is open for longer than `expire`; return the payments."""
    return [row["payment_id"] for row in await session.rows("gaps_to_expire", now, expire, most)]


async def look_at(session: Session, now: datetime, most: int) -> list[Seen]:
    """Lock and return the alerts that are to be looked at."""
    return [_seen(row) for row in await session.rows("look_at_alerts", now, most)]


async def write_looks(session: Session, stands: Sequence[Stand], now: datetime) -> None:
    """Write how alerts stand after a look, in the transaction that locked them."""
    if stands:
        await session.rows(
            "write_looks",
            [it.seen.alert_id for it in stands],
            [it.look.state.value for it in stands],
            [it.seen.silence.silence_id if it.look.silenced and it.seen.silence else None for it in stands],
            [it.look.reminders for it in stands],
            [it.look.remind_at for it in stands],
            [it.look.escalations for it in stands],
            [it.look.escalate_at for it in stands],
            [it.look.look_at for it in stands],
            [it.look.says_more for it in stands],
            [it.delay for it in stands],
            [it.outcome for it in stands],
            now,
        )


async def note(session: Session, events: Sequence[Event]) -> None:
    """Write the history."""
    if events:
        await session.rows(
            "note_history",
            [it.alert_id for it in events],
            [it.what.value for it in events],
            [it.actor for it in events],
            [it.note for it in events],
        )


async def tell_again(session: Session, alert_ids: Sequence[int], now: datetime, quiet: datetime | None) -> int:
    """Have everybody who hears of these alerts told more, after the quiet hours where they wait for those.

    Returns how many deliveries that is.
    """
    return len(await session.rows("tell_again", list(alert_ids), now, quiet)) if alert_ids else 0


async def tell_quietly(session: Session, alert_ids: Sequence[int], now: datetime) -> None:
    """Show what changed where a message can be changed; nobody is told anew."""
    if alert_ids:
        await session.rows("tell_quietly", list(alert_ids), now)


async def tell_further(session: Session, further: Sequence[Further]) -> list[tuple[int, str]]:
    """Queue deliveries to channels that have none of an alert yet; return (alert, channel) of those."""
    if not further:
        return []
    rows = await session.rows(
        "tell_further",
        [it.alert_id for it in further],
        [it.channel for it in further],
        [it.due_at for it in further],
        [it.waits_for for it in further],
        [it.escalated for it in further],
        [it.escalated_from for it in further],
    )
    return [(row["alert_id"], row["channel"]) for row in rows]


async def close_incidents(
    session: Session, alert_ids: Sequence[int], every: timedelta, quiet: datetime | None
) -> list[int]:
    """End incidents whose quiet time is over, edited not sooner than `every`; return those that have no open member."""
    if not alert_ids:
        return []
    return [row["alert_id"] for row in await session.rows("close_incidents", list(alert_ids), every, quiet)]


async def withdraw(session: Session, alert_ids: Sequence[int]) -> None:
    """A silence began: take back what was not sent yet."""
    if alert_ids:
        await session.rows("withdraw", list(alert_ids))


async def break_acks(session: Session, alert_ids: Sequence[int]) -> list[int]:
    """End acknowledgements that new money breaks: of the users of these fresh alerts, and of incidents they joined.

    Call it in the transaction that opened them, once they have joined. Those alerts are told again as STILL. Returns
    their numbers.
    """
    if not alert_ids:
        return []
    return [row["alert_id"] for row in await session.rows("break_acks", list(alert_ids))]


def _seen(row: Row) -> Seen:
    silence = None
    if row["fitting"] is not None:
        silence = Silence(silence_id=row["fitting"], author=row["author"], reason=row["reason"])
    return Seen(
        alert_id=row["alert_id"],
        error_class=row["error_class"],
        standing=Standing(
            state=State(row["state"]),
            about=About(
                kind=row["kind"], severity=Severity(row["severity"]), method=row["method"], amount=row["amount"]
            ),
            opened_at=row["opened_at"],
            is_gap=row["is_gap"],
            insists=row["is_gap"] or row["kind"] in {INCIDENT, CHANNEL_DOWN, DOUBLE, BREAKER, FORWARD},
            reminders=row["reminders"],
            remind_at=row["remind_at"],
            escalations=row["escalations"],
            acked_until=row["acked_until"],
            silenced=row["silence_id"] is not None,
            silenced_until=row["silenced_until"],
            spoken_for=row["spoken_for"],
            over_at=row["over_at"],
        ),
        channel=row["channel"],
        acked_by=row["acked_by"],
        silence=silence,
        former=row["former_author"],
        heard=frozenset(row["heard"]),
    )
