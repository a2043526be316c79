"""Activations that the application made as well: found by its own events, told once, over when nothing is doubled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from paidwatch.core.model import Subject
from paidwatch.core.routing import Severity
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One of the application's events."""

    event_id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One activation of paidwatch's, and what the application did about the same payment."""

    now: datetime
    activation_id: int
    subject: Subject
    user_id: str
    done_at: datetime
    plan_id: str | None
    method: str | None
    amount: Decimal | None
    currency: str | None
    paid_for_until: datetime | None
    paid_for_ever: bool
    """What the activation gave; for ever where it wrote no end."""
    user_exists: bool
    paid_until: datetime | None
    paid_until_watched: bool
    """What the user has now; None is for ever, where it is watched."""
    untouched: bool
    """The row still is what the activation wrote, so that undoing would take all of it back."""
    doubled: bool
    """It was found and told before."""
    alert_id: int | None
    alert_open: bool
    found: Event | None


async def look(session: Session, most: int) -> list[Looked]:
    """Return activations that are to be looked at, each once."""
    return [_looked(row) for row in await session.rows("look_for_doubles", most)]


async def tell(
    session: Session,
    looked: Looked,
    event: Event,
    *,
    cause: str,
    notes: Sequence[str],
    severity: Severity,
    channels: Sequence[str],
    quiet_until: datetime | None,
) -> int | None:
    """Mark one as made twice and open its alert; None where that was done before."""
    found: int | None = await session.value(
        "open_double",
        looked.activation_id,
        event.event_id,
        looked.user_id,
        cause,
        list(notes),
        severity.value,
        list(channels),
        looked.plan_id,
        looked.method,
        looked.amount,
        looked.currency,
        quiet_until,
    )
    return found


async def over(session: Session, alert_id: int) -> bool:
    """End the alert; False where it was over."""
    return await session.row("double_over", alert_id) is not None


def _looked(row: Row) -> Looked:
    found = None
    if row["found_event"] is not None:
        found = Event(event_id=row["found_event"], type=row["found_type"], at=row["found_at"])
    return Looked(
        now=row["now"],
        activation_id=row["activation_id"],
        subject=Subject(payment_id=row["payment_id"], method=row["told_method"], reference=row["told_reference"]),
        user_id=row["user_id"],
        done_at=row["done_at"],
        plan_id=row["plan_id"],
        method=row["method"],
        amount=row["amount"],
        currency=row["currency"],
        paid_for_until=row["paid_for_until"],
        paid_for_ever=row["paid_for_ever"],
        user_exists=row["user_exists"],
        paid_until=row["paid_until"],
        paid_until_watched=row["paid_until_watched"],
        untouched=row["untouched"],
        doubled=row["doubled_at"] is not None,
        alert_id=row["alert_id"],
        alert_open=row["alert_state"] not in {None, "resolved"},
        found=found,
    )
