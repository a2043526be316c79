"""Watches: claimed when due, closed, opened as gaps, and found where no trigger told of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.model import Facts, GapKind, Rules
from paidwatch.core.routing import Severity
from paidwatch.store import incidents, ledger
from paidwatch.store.facts import read_facts
from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The facts of one payment, and what the watch itself knows."""

    facts: Facts
    noticed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What was due: the ordinary cases are closed already, the rest is to be judged."""

    now: datetime
    settled: int
    took: Sequence[timedelta]
    """A sample of payment-to-activation times of the ordinary cases."""
    open: Sequence[Known]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGap:
    """A gap to be told."""

    payment_id: str
    kind: str
    cause: str
    detail: str
    delay: str
    notes: Sequence[str]
    severity: Severity
    proposed: bool
    """A person may say yes to an activation."""
    plan_id: str | None
    method: str | None
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An alert as it stands after a gap was recorded."""

    alert_id: int
    payment_id: str
    kind: str
    fresh: bool
    silenced: bool
    """A silence speaks for it: nobody is told."""
    woken: bool
    """It turned out to be serious, and waits for the morning no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A watch that was closed, and the alert it had."""

    payment_id: str
    outcome: str
    took: timedelta
    alert_id: int | None
    kind: str | None


LOOKED_AT = 5
"""So many times as many watches are looked at as are brought here: nearly all are ordinary, and cost one statement."""
Graces = tuple[list[str], list[timedelta], timedelta]


async def claim_due(session: Session, *, most: int, slack: timedelta, graces: Graces) -> Claimed:
    """Claim due watches in the caller's transaction: at most `most` that need a verdict, and the ordinary ones."""
    rows = await session.rows("claim_due", most, slack, *graces, most * LOOKED_AT if most > 1 else 1)
    first = rows[0]
    return Claimed(
        now=first["now"],
        settled=first["settled"],
        took=first["took"] or (),
        open=[
            Known(facts=read_facts(row), noticed_at=row["noticed_at"]) for row in rows if row["payment_id"] is not None
        ],
    )


async def facts_of(session: Session, payments: Sequence[str], graces: Graces) -> tuple[datetime, list[Known]]:
    """Return the transaction's now and the facts of these payments."""
    rows = await session.rows("facts_of", list(payments), *graces)
    if not rows:
        message = "no facts about no payments"
        raise LookupError(message)
    return rows[0]["now"], [Known(facts=read_facts(row), noticed_at=row["noticed_at"]) for row in rows]


async def postpone(session: Session, until: Mapping[str, datetime]) -> None:
    """Look at these payments again at the given moments."""
    if until:
        await session.rows("postpone", list(until), list(until.values()))


async def open_gaps(session: Session, gaps: Sequence[NewGap], *, first_reminder: timedelta | None) -> list[Told]:
    """Record gaps and open their alerts, for which nothing is queued yet; an open alert is only brought up to date."""
    if not gaps:
        return []
    rows = await session.rows(
        "open_gaps",
        [gap.payment_id for gap in gaps],
        [gap.kind for gap in gaps],
        [gap.cause for gap in gaps],
        [gap.detail for gap in gaps],
        [gap.severity.value for gap in gaps],
        first_reminder,
        [gap.plan_id for gap in gaps],
        [gap.method for gap in gaps],
        [gap.delay for gap in gaps],
        [notes_as_json(gap.notes) for gap in gaps],
        [gap.amount for gap in gaps],
        [gap.currency for gap in gaps],
        [gap.proposed for gap in gaps],
    )
    return [
        Told(
            alert_id=row["alert_id"],
            payment_id=row["payment_id"],
            kind=row["kind"],
            fresh=row["fresh"],
            silenced=row["silenced"],
            woken=row["woken"],
        )
        for row in rows
    ]


async def close_watches(
    session: Session,
    outcomes: Mapping[str, tuple[str, datetime]],
    *,
    quiet_until: datetime | None = None,
    rules: Rules | None = None,
) -> list[Closed]:
    """Close watches with (outcome, since when) and resolve their alerts, and incidents that are over with them.

    What was recorded of them in shadow mode is held against what happened, by `rules` or the usual ones.
    `quiet_until` is the end of the quiet hours, in which what is of low severity says nothing; None outside them.
    """
    if not outcomes:
        return []
    rows = await session.rows(
        "close_watches",
        list(outcomes),
        [outcome for outcome, _ in outcomes.values()],
        [at for _, at in outcomes.values()],
        quiet_until,
    )
    members = [row["alert_id"] for row in rows if row["incident_id"] is not None]
    await incidents.members_ended(session, members, quiet_until=quiet_until)
    await ledger.compare_shadows(session, rules or Rules(), payments=list(outcomes))
    return [
        Closed(
            payment_id=row["payment_id"],
            outcome=row["outcome"],
            took=row["took"],
            alert_id=row["alert_id"],
            kind=row["kind"],
        )
        for row in rows
    ]


async def open_by_kind(session: Session) -> dict[GapKind, int]:
    """Count the open gaps."""
    return {GapKind(row["kind"]): row["count"] for row in await session.rows("open_by_kind")}


def notes_as_json(notes: Sequence[str]) -> str:
    """Return lines of text as a JSON array: arrays of arrays of differing lengths are no SQL arrays."""
    return json.dumps(list(notes), ensure_ascii=False)
