"""Audit: what was to be told is compared with what was told; what got lost is queued again, and people are told so.

Nothing should ever be found. Whatever else goes wrong with the outbox, a message that was forgotten is late, not lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from paidwatch.core.story import AUDIT, State
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.store import outbox
from paidwatch.store.pool import Database, Row, Session

EVERY: Final = timedelta(hours=1)
"""Least time between two audits, of all daemons together."""
MOST: Final = 1_000
"""Lost messages that are handled in one audit; further ones wait for the next."""
_LISTED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What one audit found."""

    forgotten: int
    """A channel was not told what it should have heard, and was not going to be."""
    unheard: int
    """Alerts that no channel was to be told of."""
    buried: int
    """Messages for channels that are not configured any more, now dead letters."""

    @property
    def mismatches(self) -> int:
        """How many messages were lost until now."""
        return self.forgotten + self.unheard


class Audit:
    """Compares alerts with deliveries."""

    def __init__(self, *, database: Database, policy: Callable[[], Policy], metrics: Metrics, log: Log) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._log = log

    async def run_due(self) -> Audited | None:
        """Audit if nobody did within the hour; None if somebody did. Raises DatabaseError."""
        policy = self._policy()

        async def body(session: Session) -> Audited | None:
            last = await session.row("begin_audit", EVERY)
            return None if last is None else await self._audit(session, policy, last)

        audited = await self._database.write(body)
        if audited is not None:
            self._metrics.mismatched(audited.mismatches)
        return audited

    async def _audit(self, session: Session, policy: Policy, last: Row) -> Audited:
        forgotten = await session.rows("requeue_forgotten", MOST, last["since"])
        told = list(policy.routing.usual) or list(policy.channels)
        unheard = await session.rows("queue_unheard", told, last["since"], MOST) if told else ()
        buried = await session.rows("bury_unserved", list(policy.channels), EVERY)
        lines: list[str] = []
        for row in forgotten:
            what = "the recovery" if row["state"] == "resolved" and row["told_revision"] else "the message"
            lines.append(f"alert {row['alert_id']} ({row['kind']}) on {row['channel']}: {what} was not told")
            self._say(row, channel=row["channel"], told=row["told_revision"], due=row["revision"])
        for row in unheard:
            lines.append(f"alert {row['alert_id']} ({row['kind']}): no channel was told")
            self._say(row, channel=None, told=0, due=row["revision"])
        if buried:
            self._log.warning(
                "audit.buried",
                "messages for channels that are not configured any more are dead letters now",
                count=len(buried),
                channels=sorted({row["channel"] for row in buried}),
            )
        if lines and told:
            notes = [*lines[:_LISTED], *([f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else [])]
            await outbox.open_note(
                session,
                kind=AUDIT,
                cause="what should have been told was not; it is queued again",
                notes=notes,
                channels=told,
                state=State.RESOLVED,
            )
            await session.rows("ring_outbox")
        return Audited(forgotten=len(forgotten), unheard=len(unheard), buried=len(buried))

    def _say(self, row: Row, *, channel: str | None, told: int, due: int) -> None:
        self._log.error(
            "audit.mismatch",
            "a message was not told and is queued again",
            alert=row["alert_id"],
            kind=row["kind"],
            channel=channel,
            told=told,
            revision=due,
        )
