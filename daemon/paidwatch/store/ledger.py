"""The ledger of activations: claimed once per payment, written in one transaction with what was granted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch import __version__
from paidwatch.core.grant import Grant
from paidwatch.core.guards import GuardResult, Usage
from paidwatch.store.pool import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One activation that was claimed and not yet done."""

    activation_id: int
    payment_id: str
    user_id: str
    actor: str
    reason: str
    attempts: int


async def usage(session: Session, user_id: str, *, apart_from: int | None = None) -> Usage:
    """Return what automatic activation did lately, without the claim `apart_from`."""
    row = await session.one("usage", user_id, apart_from)
    return Usage(last_hour=row["hour"], last_day=row["day"], user_last_day=row["user_day"])


async def claim(
    session: Session, *, payment_id: str, user_id: str, actor: str, reason: str, guards: Sequence[GuardResult]
) -> int | None:
    """Claim a payment; None if it was claimed or granted before."""
    found: int | None = await session.value(
        "claim_activation", payment_id, user_id, actor, reason, guards_as_json(guards), __version__
    )
    return found


async def record_shadow(
    session: Session, *, payment_id: str, user_id: str, reason: str, guards: Sequence[GuardResult], grant: Grant
) -> None:
    """Record what automatic activation would have written."""
    await session.rows(
        "record_shadow", payment_id, user_id, reason, guards_as_json(guards), as_json(dict(grant.user)), __version__
    )


async def claimed(session: Session, most: int) -> list[Claim]:
    """Return the claims that are due."""
    return [
        Claim(
            activation_id=row["activation_id"],
            payment_id=row["payment_id"],
            user_id=row["user_id"],
            actor=row["actor"],
            reason=row["reason"],
            attempts=row["attempts"],
        )
        for row in await session.rows("claimed_activations", most)
    ]


async def take(session: Session, activation_id: int) -> bool:
    """Lock a claim for this transaction; False if it is none any more."""
    await session.rows("serialize_activations")
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
    session: Session, *, actor: str, act: str, payment_id: str, user_id: str | None, detail: Mapping[str, object]
) -> None:
    """Append to the audit."""
    await session.rows("audit", actor, act, payment_id, user_id, as_json(dict(detail)), __version__)


def guards_as_json(guards: Sequence[GuardResult]) -> str:
    """Return every guard's answer, for the ledger and the audit."""
    return as_json([{"guard": g.guard.value, "passed": g.passed, "reason": g.reason.value} for g in guards])


def as_json(value: object) -> str:
    """Return JSON with points in time in ISO 8601."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
