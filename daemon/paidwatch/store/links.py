"""Links that were used: each acts once. Links that were only made are nowhere."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a link is measured by."""

    installation_id: str
    now: datetime
    used_at: datetime | None
    """None: it was not used."""
    result: str
    """What came of it."""


async def standing(session: Session, digest: str) -> Standing:
    """Return what the database knows about a link, and about itself."""
    row = await session.one("link_standing", digest)
    return Standing(
        installation_id=row["installation_id"], now=row["now"], used_at=row["used_at"], result=row["result"] or ""
    )


async def is_open(session: Session, alert_id: int, payment_id: str) -> bool:
    """Say whether the alert is not over, and is about this payment."""
    try:
        async with session.connection.transaction():
            found: bool = await session.value("alert_is_open", alert_id, payment_id)
    except asyncpg.DataError:
        # The application's keys have another type than when the link was made.
        return False
    return found


async def use(session: Session, digest: str, *, payment_id: str, actor: str, result: str, expires_at: datetime) -> None:
    """Remember that a link was used. Raises LookupError where it was used before: then nothing of it may stand."""
    await session.one("use_link", digest, payment_id, actor, result, expires_at)
