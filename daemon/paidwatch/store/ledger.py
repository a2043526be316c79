"""The ledger of activations: claimed once per subject, written in one transaction with what was granted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch import __version__
from paidwatch.core.compare import Course, Record, Shadow, compare
from paidwatch.core.grant import Grant
from paidwatch.core.guards import Actor, Guard, GuardResult, Usage
from paidwatch.core.model import Outcome, Rules, Subject
from paidwatch.store import subjects
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One activation that was claimed and not yet done."""

    activation_id: int
    subject: Subject
    user_id: str
    actor: str
    reason: str
    attempts: int
    strategy: str = "sql"
    forced: frozenset[Guard] = frozenset()
    """The guards that a person overrode."""


async def usage(
    session: Session, user_id: str, *, apart_from: int | None = None, shadows: bool = False
) -> tuple[Usage, bool]:
    """Return what automatic activation did lately, without the claim `apart_from`, and whether the breaker is open.

    With `shadows` what was only recorded counts as well: in shadow mode it stands for what would have been done.
    """
    row = await session.one("usage", user_id, apart_from, shadows)
    used = Usage(last_hour=row["hour"], last_day=row["day"], user_last_day=row["user_day"])
    return used, row["breaker_open"]


async def claim(
    session: Session,
    *,
    subject: Subject,
    user_id: str,
    actor: str,
    reason: str,
    guards: Sequence[GuardResult],
    strategy: str = "sql",
    forced: frozenset[Guard] = frozenset(),
) -> int | None:
    """Claim a payment; None if it was claimed or granted before, by its row or by one of its other names."""
    found: int | None = await session.value(
        "claim_activation",
        *subjects.columns(subject),
        user_id,
        actor,
        reason,
        guards_as_json(guards),
        __version__,
        strategy,
        sorted(guard.value for guard in forced),
    )
    return found


async def shadowed(session: Session, wanted: Sequence[Subject]) -> frozenset[Subject]:
    """Return those for which a shadow activation is recorded."""
    split = [list(column) for column in zip(*map(subjects.columns, wanted), strict=True)]
    return frozenset(subjects.of(row) for row in await session.rows("shadowed", *split)) if wanted else frozenset()


async def record_shadow(session: Session, *, grant: Grant, strategy: str, guards: Sequence[GuardResult]) -> None:
    """Record what automatic activation would have written, without writing or locking anything of the application.

    Raises Unreadable, and the transaction goes on, where the application's columns would not take it.
    """
    subject = subjects.columns(grant.subject)
    arguments = (*subject, grant.user_id, strategy, guards_as_json(guards), planned_as_json(grant), __version__)

    async def record() -> None:
        await session.rows("record_shadow", *arguments)

    await session.attempt(record)


async def compare_shadows(
    session: Session, rules: Rules, *, payments: Sequence[str] = (), told: Sequence[tuple[str, str]] = ()
) -> None:
    """Hold the shadow activations of what was just closed, payments or stories of webhooks, against what happened."""
    methods, references = [method for method, _ in told], [reference for _, reference in told]
    rows = await session.rows("shadows_to_compare", list(payments), methods, references)
    if not rows:
        return
    found = [(row["activation_id"], compare(_shadow(row), _course(row), rules)) for row in rows]
    await session.rows(
        "record_comparisons",
        [number for number, _ in found],
        [comparison.was_right for _, comparison in found],
        [comparison.said for _, comparison in found],
    )


async def track_record(session: Session) -> tuple[Record, str | None]:
    """Return the track record of shadow mode, and why the breaker is open (None: it is not)."""
    row = await session.one("track_record")
    return Record(right=row["right_ones"], compared=row["compared"]), row["stopped"]


async def claimed(session: Session, most: int) -> list[Claim]:
    """Return the claims that are due."""
    return [
        Claim(
            activation_id=row["activation_id"],
            subject=subjects.of(row),
            user_id=row["user_id"],
            actor=row["actor"],
            reason=row["reason"],
            attempts=row["attempts"],
            strategy=row["strategy"],
            forced=frozenset(Guard(name) for name in row["forced"]),
        )
        for row in await session.rows("claimed_activations", most)
    ]


async def take(session: Session, activation_id: int, subject: Subject) -> bool:
    """Lock subject and claim for this transaction, in the order of all others; False if it is none any more."""
    await subjects.lock(session, subject)
    return await session.row("take_claim", activation_id) is not None


async def lock_subscriber(session: Session, user_id: str) -> str | None:
    """Lock the user's row; return what an activation may write in it, as JSON by column."""
    image: str | None = await session.value("lock_subscriber", user_id)
    return image


async def write_grant(session: Session, grant: Grant, *, claim_id: int, event_type: str) -> tuple[str, str | None]:
    """Write user and event; return the user's after image as JSON by column, and the event's id."""
    image: str = await session.value("write_subscriber", grant.user_id, as_json(dict(grant.user)))
    data = dict(grant.event_data) | {"activation_id": claim_id}
    event_id: str | None = await session.value(
        "write_event", grant.user_id, event_type, as_json(data), grant.external_id
    )
    return image, event_id


async def finish(
    session: Session,
    activation_id: int,
    *,
    state: str,
    guards: Sequence[GuardResult],
    before: str | None = None,
    after: str | None = None,
    event_id: str | None = None,
    error: str | None = None,
) -> bool:
    """End a claim as done, refused or failed; False if it was none any more."""
    row = await session.row(
        "finish_activation", activation_id, state, guards_as_json(guards), before, after, event_id, error
    )
    return row is not None


async def retry(session: Session, activation_id: int, after: timedelta, error: str) -> None:
    """Try a claim again later."""
    await session.rows("retry_activation", activation_id, after, error)


async def audit(
    session: Session,
    *,
    actor: str,
    act: str,
    subject: Subject | None,
    user_id: str | None,
    detail: Mapping[str, object],
) -> None:
    """Append to the audit; `subject` is None where it is about no payment."""
    payment_id, method, reference = (None, None, None) if subject is None else subjects.columns(subject)
    more = {} if reference is None else {"method": method, "reference": reference}
    await session.rows("audit", actor, act, payment_id, user_id, as_json(more | dict(detail)), __version__)


def planned_as_json(grant: Grant) -> str:
    """Return a grant for the ledger: what is to be written, in canonical words."""
    return as_json(
        {
            "payment_id": grant.subject.payment_id,
            "user_id": grant.user_id,
            "user": dict(grant.user),
            "event_type": grant.event_type,
            "event_data": dict(grant.event_data),
            "external_id": grant.external_id,
        }
    )


def _shadow(row: Row) -> Shadow:
    return Shadow(at=row["claimed_at"], tier=row["tier"], paid_until=row["paid_until"])


def _course(row: Row) -> Course:
    return Course(
        outcome=Outcome(row["outcome"]),
        at=row["closed_at"],
        done_by=None if row["done_by"] is None else Actor.of(row["done_by"]),
        user_exists=row["user_exists"],
        tier=row["now_tier"],
        tier_watched=bool(row["tier_watched"]),
        paid_until=row["now_paid_until"],
        paid_until_watched=bool(row["paid_until_watched"]),
    )


def guards_as_json(guards: Sequence[GuardResult]) -> str:
    """Return every guard's answer, for the ledger and the audit."""
    return as_json([{"guard": g.guard.value, "passed": g.passed, "reason": g.reason.value} for g in guards])


def as_json(value: object) -> str:
    """Return JSON with points in time in ISO 8601."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
