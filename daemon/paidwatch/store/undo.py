"""One activation to be undone: what it wrote, how the row differs from that now, and putting back what was there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from paidwatch.core.model import Subject
from paidwatch.store import subjects
from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One activation, locked for this transaction."""

    activation_id: int
    subject: Subject
    user_id: str
    state: str
    strategy: str
    actor: str
    done_at: datetime | None
    before: str | None
    after: str | None
    """What an activation may write of the user, and what it wrote, as JSON by column."""
    undone_at: datetime | None
    undone_by: str | None
    named: str | None
    """The provider's id of the payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One column in which the row differs from an image, both as the database spells them."""

    column: str
    ours: str | None
    present: str | None
    writable: bool
    """False: the column is gone, computed by the database, or not in the configuration any more."""

    @property
    def said(self) -> str:
        """The difference in words."""
        if not self.writable:
            return f"{self.column} cannot be written any more (it is gone, generated, or not in [users])"
        return f"{self.column} is {_shown(self.present)} now, and the activation wrote {_shown(self.ours)}"


async def lock(session: Session, activation_id: int) -> Written | None:
    """Lock an activation of which the payment's locks are held; None: there is none with this number."""
    row = await session.row("lock_activation", activation_id)
    if row is None:
        return None
    fields: dict[str, Any] = dict(row.items())
    of = {name: fields.pop(name) for name in ("payment_id", "method", "reference")}
    return Written(subject=Subject(**of), **fields)


async def subject_of(session: Session, activation_id: int) -> Subject | None:
    """Return what an activation is for; None: there is none with this number."""
    row = await session.row("activation_subject", activation_id)
    return None if row is None else subjects.of(row)


async def differences(session: Session, user_id: str, image: str) -> tuple[Change, ...]:
    """Return the columns in which a user's row differs from an image, byte for byte."""
    return tuple(
        Change(column=row["col"], ours=row["ours"], present=row["present"], writable=row["writable"])
        for row in await session.rows("compare_subscriber", user_id, image)
    )


async def restore(session: Session, user_id: str, *, after: str, before: str) -> str | None:
    """Put back what was there before; None where the row is not what was written, and nothing is."""
    image: str | None = await session.value("restore_subscriber", user_id, after, before)
    return image


async def write_event(session: Session, user_id: str, *, event_type: str, data: str, external_id: str) -> str | None:
    """Insert one event; return its id, None where the application has no events."""
    event_id: str | None = await session.value("write_event", user_id, event_type, data, external_id)
    return event_id


async def finish(session: Session, activation_id: int, *, by: str, why: str) -> datetime | None:
    """Mark an activation as undone and return when; None: it was not done."""
    row = await session.row("finish_undo", activation_id, by, why)
    return None if row is None else row["undone_at"]


async def take_back_story(session: Session, written: Written, *, said: str, by: str, why: str) -> Sequence[int]:
    """End what people were told about this activation; return the alerts of which they are to hear that."""
    rows = await session.rows(
        "take_back_story",
        written.subject.payment_id,
        written.activation_id,
        said,
        by,
        why,
        written.subject.method,
        written.subject.reference,
    )
    return [row["alert_id"] for row in rows]


def _shown(value: str | None) -> str:
    return "NULL" if value is None else repr(value)
