"""What an activation is for, as the ledger has it: a payment's row, or a story that only webhooks tell."""

from collections.abc import Sequence

from paidwatch.core.model import Subject
from paidwatch.store.pool import Row, Session

Columns = tuple[str | None, str | None, str | None]
"""Payment, method and reference."""


def columns(subject: Subject) -> Columns:
    """Return a subject as the ledger has it."""
    return subject.payment_id, subject.method, subject.reference


def of(row: Row) -> Subject:
    """Return the subject of a row of the ledger."""
    return Subject(payment_id=row["payment_id"], method=row["method"], reference=row["reference"])


async def lock(session: Session, subject: Subject) -> None:
    """Take the locks of an activation in the daemon's order: what is judged, then the ledger."""
    if subject.payment_id is not None:
        await session.rows("lock_watch", subject.payment_id)
    else:
        await session.rows("lock_story", subject.method, subject.reference)
    await session.rows("serialize_activations")


async def note(session: Session, subject: Subject, lines: Sequence[str]) -> None:
    """Say these lines about activation on its open alert."""
    await session.rows("note_activation", *columns(subject), list(lines))


async def note_refusal(session: Session, subject: Subject, lines: Sequence[str]) -> None:
    """Say on its open alert why nothing was activated, and let its messages go now, unless they wait for others."""
    await session.rows("note_refusal", *columns(subject), list(lines))
