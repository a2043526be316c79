"""The breaker as the database keeps it: opened, judged by what happened lately, armed again. It survives any restart.

Locks are taken in the order of the daemon's decisions: watches, then the breaker, then alerts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.breaker import Recent
from paidwatch.core.grant import GRANTABLE
from paidwatch.core.routing import Severity
from paidwatch.core.story import BREAKER
from paidwatch.store import ledger, outbox
from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the breaker stands."""

    opened_at: datetime | None
    """None: it is armed, and the machine may act."""
    opened_by: str | None
    """`paidwatch`, or `cli:NAME` of a person who paused."""
    reason: str | None
    armed_at: datetime
    armed_by: str


async def standing(session: Session) -> Standing:
    """Return how the breaker stands."""
    row = await session.one("breaker")
    return Standing(
        opened_at=row["opened_at"],
        opened_by=row["opened_by"],
        reason=row["reason"],
        armed_at=row["armed_at"],
        armed_by=row["armed_by"],
    )


async def recent(
    session: Session, *, window: timedelta, opening: Sequence[str] = (), share: Decimal, least: int
) -> Recent:
    """Return what the breaker is judged by; `opening` are payments that become gaps in this transaction."""
    kinds = sorted(kind.value for kind in GRANTABLE)
    row = await session.one("recent_activations", window, kinds, list(opening), share, least)
    return Recent(failures_in_row=row["failures"], payments=row["payments"], gaps=row["gaps"])


async def pause(
    session: Session,
    by: str,
    reason: str,
    *,
    channels: Sequence[str] = (),
    notes: Sequence[str] = (),
    severity: Severity = Severity.HIGH,
) -> bool:
    """Open the breaker, audit it and tell these channels, once until it is resumed; False if it is open already."""
    if not await session.rows("open_breaker", by, reason):
        return False
    await ledger.audit(session, actor=by, act="breaker opened", subject=None, user_id=None, detail={"reason": reason})
    if channels:
        await outbox.open_note(session, kind=BREAKER, cause=reason, notes=notes, channels=channels, severity=severity)
    await session.rows("ring_outbox")
    await session.rows("tell_feed")
    return True


async def resume(session: Session, by: str) -> Standing | None:
    """Arm the breaker again and have every open gap judged anew; return how it stood, None if it was not open.

    What failed or gapped before is not counted any more. Whoever was told that it is open is told this.
    """
    before = await standing(session)
    if before.opened_at is None:
        return None
    await session.rows("wake_gaps")
    await session.rows("wake_claims")
    if not await session.rows("arm_breaker", by):
        return None
    detail = {"reason": before.reason, "opened_by": before.opened_by, "opened_at": before.opened_at}
    await ledger.audit(session, actor=by, act="breaker armed", subject=None, user_id=None, detail=detail)
    await session.rows("ring_outbox")
    await session.rows("tell_feed")
    return before
