"""Claims: stories of money and of webhooks that no payment tells, one for each reference of a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from paidwatch.core.evidence import NAMELESS, SIGNATURES, SILENCE, STREAMS, Claim, Silence, Stream
from paidwatch.core.model import Facts, GapKind, Phase, Rules
from paidwatch.core.routing import Severity
from paidwatch.store import incidents, ledger
from paidwatch.store.facts import plan_of, read_told, subscriber_of
from paidwatch.store.pool import Row, Session
from paidwatch.store.watches import notes_as_json

Key = tuple[str, str]
"""Method and reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A story that is to be judged, locked where it is claimed."""

    key: Key
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An alert as it stands after a gap was recorded."""

    alert_id: int
    key: Key
    kind: str
    fresh: bool
    silenced: bool
    """A silence speaks for it: nobody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGap:
    """A story that is a gap, to be told."""

    key: Key
    kind: GapKind
    cause: str
    detail: str
    severity: Severity
    user_id: str | None = None
    plan_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    look_at: datetime | None = None
    """When it is judged again if nothing happens; None: never."""
    notes: Sequence[str] = ()
    """What people are told about activation; nothing leaves what they were told before."""
    proposed: bool = False
    """A person may say yes to an activation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A story that is over, and the alert it had."""

    key: Key
    outcome: str
    alert_id: int | None
    kind: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known about stories, by their kind; one that is in none of them is gone."""

    claims: Mapping[Key, Claim]
    streams: Mapping[Key, Stream]
    silences: Mapping[Key, Silence]
    plans: Mapping[Key, str | None]
    """The plan that was paid for, as far as it is known."""
    since: Mapping[Key, datetime]
    """When the story began."""


async def due(session: Session, most: int) -> tuple[datetime | None, list[Due]]:
    """Claim what is due, in the caller's transaction; return the transaction's now (None: nothing is due)."""
    return _due(await session.rows("due_claims", most))


async def history(session: Session, most: int) -> tuple[datetime | None, list[Due]]:
    """Lock the stories of the past that are to be judged."""
    return _due(await session.rows("history_claims", most))


async def standing(session: Session, most: int, user_id: str | None = None) -> tuple[datetime | None, list[Due]]:
    """Return the stories that are gaps or are to be judged, the oldest first; of one user only, if one is named."""
    return _due(await session.rows("open_claims", most, user_id))


async def facts(session: Session, keys: Sequence[Key]) -> Known:
    """Read what is known about these stories."""
    single = [key for key in keys if key[1] not in STREAMS and key[1] != SILENCE]
    streams = [key for key in keys if key[1] in STREAMS]
    silences = [key for key in keys if key[1] == SILENCE]
    none: Sequence[Row] = ()
    rows = none if not single else await session.rows("claim_facts", *_columns(single))
    counted = none if not streams else await session.rows("stream_facts", *_columns(streams))
    quiet = none if not silences else await session.rows("silence_facts", [method for method, _ in silences])
    return Known(
        claims={_key(row): _claim(row) for row in rows},
        streams={_key(row): _stream(row) for row in counted},
        silences={_key(row): _silence(row) for row in quiet},
        plans={_key(row): row["claim_plan"] for row in rows},
        since={_key(row): row["opened_at"] for row in (*rows, *counted, *quiet)},
    )


async def told_facts(session: Session, keys: Sequence[Key]) -> tuple[datetime | None, list[Facts]]:
    """Return the transaction's now and what is known about money that only signed webhooks tell of."""
    rows = await session.rows("told_facts", *_columns(keys)) if keys else ()
    return (rows[0]["now"] if rows else None), [read_told(row) for row in rows]


async def postpone(session: Session, until: Mapping[Key, datetime]) -> None:
    """Look at these stories again at the given moments."""
    if until:
        await session.rows("postpone_claims", *_columns(list(until)), list(until.values()))


async def postpone_poisoned(session: Session, keys: Sequence[Key]) -> None:
    """Look at what cannot be judged again later, ever more rarely."""
    if keys:
        await session.rows("postpone_poisoned_claims", *_columns(keys))


async def open_alerts(session: Session, gaps: Sequence[NewGap], *, first_reminder: timedelta | None) -> list[Told]:
    """Record gaps and open their alerts, for which nothing is queued yet; an open alert is only brought up to date."""
    if not gaps:
        return []
    rows = await session.rows(
        "open_claim_gaps",
        *_columns([gap.key for gap in gaps]),
        [gap.kind.value for gap in gaps],
        [gap.cause for gap in gaps],
        [gap.detail for gap in gaps],
        [gap.severity.value for gap in gaps],
        first_reminder,
        [gap.user_id for gap in gaps],
        [gap.plan_id for gap in gaps],
        [gap.amount for gap in gaps],
        [gap.currency for gap in gaps],
        [gap.look_at for gap in gaps],
        [notes_as_json(gap.notes) for gap in gaps],
        [gap.proposed for gap in gaps],
    )
    return [
        Told(
            alert_id=row["alert_id"],
            key=_key(row),
            kind=row["kind"],
            fresh=row["fresh"],
            silenced=row["silenced"],
        )
        for row in rows
    ]


async def close(
    session: Session, outcomes: Mapping[Key, str], *, quiet_until: datetime | None = None, rules: Rules | None = None
) -> list[Closed]:
    """Close stories and resolve their alerts, and incidents that are over with them.

    What was recorded of them in shadow mode is held against what happened, by `rules` or the usual ones.
    `quiet_until` is the end of the quiet hours, in which what is of low severity says nothing; None outside them.
    """
    if not outcomes:
        return []
    rows = await session.rows("close_claims", *_columns(list(outcomes)), list(outcomes.values()), quiet_until)
    members = [row["alert_id"] for row in rows if row["incident_id"] is not None]
    await incidents.members_ended(session, members, quiet_until=quiet_until)
    await ledger.compare_shadows(session, rules or Rules(), told=list(outcomes))
    return [Closed(key=_key(row), outcome=row["outcome"], alert_id=row["alert_id"], kind=row["kind"]) for row in rows]


async def of_alert(session: Session, alert_id: int) -> dict[Key, int]:
    """Lock the stories that an alert tells, its members' too; return story → alert."""
    return {_key(row): row["alert_id"] for row in await session.rows("claims_of_alert", alert_id)}


async def to_expire(session: Session, now: datetime, expire: timedelta, most: int) -> list[Key]:
    """Lock what is open for longer than `expire`."""
    return [_key(row) for row in await session.rows("claims_to_expire", now, expire, most)]


def _due(rows: Sequence[Row]) -> tuple[datetime | None, list[Due]]:
    now: datetime | None = rows[0]["now"] if rows else None
    return now, [Due(key=_key(row), state=row["state"]) for row in rows]


def _key(row: Row) -> Key:
    return row["method"], row["reference"]


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [method for method, _ in keys], [reference for _, reference in keys]


def _claim(row: Row) -> Claim:
    return Claim(
        method=row["method"],
        reference=row["reference"],
        grace_until=row["grace_until"],
        paid_at=row["paid_at"],
        short_at=row["short_at"],
        reversed_at=row["reversed_at"],
        failed_at=row["failed_at"],
        error=row["error"] or "",
        handled_at=row["handled_at"],
        repeated=row["repeated"],
        problem=row["problem"],
        user_id=row["claim_user"],
        amount=row["claim_amount"],
        currency=row["claim_currency"],
        payment_id=row["payment_id"],
        phase=None if row["phase"] is None else Phase(row["phase"]),
        subscriber=subscriber_of(row) if row["user_exists"] else None,
        plan=plan_of(row) if row["plan_exists"] else None,
        activated_at=row["activated_at"],
    )


def _stream(row: Row) -> Stream:
    kinds = {SIGNATURES: GapKind.WEBHOOK_BAD_SIGNATURE, NAMELESS: GapKind.WEBHOOK_FAILED}
    return Stream(kind=kinds[row["reference"]], count=row["count"], last_at=row["last_at"], error=row["error"] or "")


def _silence(row: Row) -> Silence:
    return Silence(
        last_at=row["last_at"],
        pauses=row["pauses"],
        usual=row["usual"],
        asked_at=row["asked_at"],
        asked=row["asked"],
    )
