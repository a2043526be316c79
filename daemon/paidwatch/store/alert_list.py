"""Alerts to be shown: what stands, what was, what happened to one, and what each channel knows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.story import INCIDENT, Incident, State
from paidwatch.store import incidents
from paidwatch.store.pool import Row, Session

MOST = 1000
"""Rows of one list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One alert as it stands; text of the application is untrusted, and the user's name unmasked."""

    now: datetime
    alert_id: int
    kind: str
    state: State
    outcome: str | None
    severity: str
    payment_id: str | None
    reference: str | None
    """What a story of webhooks is about, see core.evidence; None: it is about something else."""
    user_id: str | None
    user_label: str | None
    plan_id: str | None
    method: str | None
    amount: Decimal | None
    currency: str | None
    cause: str
    detail: str
    delay: str
    notes: tuple[str, ...]
    paid_at: datetime | None
    opened_at: datetime
    resolved_at: datetime | None
    acked_by: str | None
    acked_at: datetime | None
    acked_until: datetime | None
    revision: int
    reminders: int
    remind_at: datetime | None
    escalations: int
    escalate_at: datetime | None
    incident_id: int | None
    channel: str | None
    silenced_by: str | None
    silenced_until: datetime | None
    incident: Incident | None

    @property
    def money(self) -> Mapping[str, Decimal]:
        """What was paid, by currency; of an incident, for what is open."""
        if self.incident is not None:
            return self.incident.money_at_risk
        finite = self.amount is not None and self.amount.is_finite()
        return {self.currency or "": self.amount} if finite and self.amount is not None else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One line of the history."""

    at: datetime
    what: str
    actor: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Knows:
    """What one channel knows of an alert."""

    delivery_id: int
    channel: str
    told_revision: int
    told_at: datetime | None
    due_at: datetime | None
    not_before: datetime | None
    waits_for: str | None
    dead_at: datetime | None
    last_error: str | None
    escalated: bool
    under_way: bool
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """One silence."""

    silence_id: int
    open: bool
    created_at: datetime
    author: str
    reason: str
    expires_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    user_id: str | None
    plan_id: str | None
    method: str | None
    kind: str | None
    alerts: int
    """Open ones that it speaks for."""


async def listed(
    session: Session,
    *,
    over: bool = False,
    since: timedelta | None = None,
    members: bool = False,
    one: int | None = None,
) -> list[Listed]:
    """Return alerts, the newest first: what is not over, with `over` or `since` also what is; or the `one`."""
    rows = await session.rows("alert_list", over, since, members, one, MOST)
    gathered = await incidents.of(session, [row["alert_id"] for row in rows if row["kind"] == INCIDENT])
    return [_listed(row, gathered.get(row["alert_id"])) for row in rows]


async def history(session: Session, alert_id: int) -> list[Happened]:
    """Return what happened to an alert, in order."""
    rows = await session.rows("alert_events", alert_id)
    return [Happened(at=row["at"], what=row["what"], actor=row["actor"], note=row["note"]) for row in rows]


async def deliveries(session: Session, alert_id: int) -> list[Knows]:
    """Return what each channel knows of an alert."""
    rows = await session.rows("alert_deliveries", alert_id)
    return [Knows(**dict(row.items())) for row in rows]


async def silences(session: Session, *, over: bool) -> Sequence[Quiet]:
    """Return the silences that hold, with `over` also those that ended; the newest first."""
    return [Quiet(**dict(row.items())) for row in await session.rows("silences", over, MOST)]


def _listed(row: Row, incident: Incident | None) -> Listed:
    fields = dict(row.items())
    for unused in ("kind_of", "silence_id"):
        del fields[unused]
    fields |= {"state": State(row["state"]), "notes": tuple(row["notes"]), "incident": incident}
    return Listed(**fields)
