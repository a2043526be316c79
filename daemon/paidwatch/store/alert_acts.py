"""What a person does about alerts: guarded changes, each with its line in the history and in the audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch import __version__
from paidwatch.core.story import State
from paidwatch.store.ledger import as_json
from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An alert that a person wants to change, locked."""

    alert_id: int
    kind: str
    state: State
    outcome: str | None
    resolved_at: datetime | None
    acked_by: str | None
    payment_id: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a silence is about: all that is given must fit; at least one is given."""

    user_id: str | None = None
    plan_id: str | None = None
    method: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Silenced:
    """A silence that was made or ended, and how many open alerts that concerns now."""

    silence_id: int
    expires_at: datetime | None
    fitting: int


async def lock(session: Session, alert_id: int) -> Found | None:
    """Lock an alert, and its watch or story before it, as everywhere; None: there is none with this number."""
    state = await session.row("alert_state", alert_id)
    if state is None:
        return None
    if state["payment_id"] is not None:
        await session.rows("lock_watch", state["payment_id"])
    if state["reference"] is not None:
        await session.rows("claims_of_alert", alert_id)
    row = await session.row("lock_alert", alert_id)
    if row is None:
        return None
    return Found(
        alert_id=row["alert_id"],
        kind=row["kind"],
        state=State(row["state"]),
        outcome=row["outcome"],
        resolved_at=row["resolved_at"],
        acked_by=row["acked_by"],
        payment_id=row["payment_id"],
        user_id=row["user_id"],
    )


async def ack(session: Session, alert_id: int, by: str, span: timedelta) -> datetime | None:
    """Acknowledge; return until when, None where it is over."""
    until: datetime | None = await session.value("ack_alert", alert_id, by, span)
    return until


async def unack(session: Session, alert_id: int) -> bool:
    """Take an acknowledgement back; False where there is none."""
    return await session.row("unack_alert", alert_id) is not None


async def open_members(session: Session, alert_id: int) -> dict[str, int]:
    """Lock the watches of what an incident speaks for; return payment → alert. Comes before `lock`."""
    rows = await session.rows("open_members", alert_id)
    return {row["payment_id"]: row["alert_id"] for row in rows if row["payment_id"] is not None}


async def resolve(session: Session, alert_id: int, outcome: str) -> bool:
    """End an alert that no watch ends; False where it is over already."""
    return await session.row("resolve_alert", alert_id, outcome) is not None


async def add_silence(session: Session, wanted: Wanted, *, author: str, reason: str, span: timedelta) -> Silenced:
    """Be quiet about something for `span`."""
    row = await session.one(
        "add_silence", author, reason, span, wanted.user_id, wanted.plan_id, wanted.method, wanted.kind
    )
    return Silenced(silence_id=row["silence_id"], expires_at=row["expires_at"], fitting=row["fitting"])


async def end_silence(session: Session, silence_id: int, by: str) -> Silenced | None:
    """End a silence before its time; None where it does not hold any more, or never did."""
    row = await session.row("end_silence", silence_id, by)
    return None if row is None else Silenced(silence_id=silence_id, expires_at=None, fitting=row["fitting"])


async def silence_over(session: Session, silence_id: int) -> datetime | None:
    """Return when a silence ended or ends; None: there is none with this number."""
    row = await session.row("silence_state", silence_id)
    return None if row is None else row["ended_at"] or row["expires_at"]


async def audit(session: Session, *, actor: str, act: str, about: Found | None, detail: Mapping[str, object]) -> None:
    """Append to the audit."""
    payment, user = (None, None) if about is None else (about.payment_id, about.user_id)
    await session.rows("audit", actor, act, payment, user, as_json(dict(detail)), __version__)


async def ring(session: Session) -> None:
    """Have a running daemon look at alerts and deliver, and let live views know, once this is committed."""
    await session.rows("ring_outbox")
    await session.rows("tell_feed")
