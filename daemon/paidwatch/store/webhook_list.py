"""Webhooks as a person looks at them and acts on them: what came, what was made of it, who was passed what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from paidwatch import __version__
from paidwatch.store.ledger import as_json
from paidwatch.store.pool import Row, Session
from paidwatch.store.webhooks import Forward, Headers, State, headers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One webhook as a person looks at it."""

    webhook_id: int
    provider: str
    received_at: datetime
    state: State
    signature: str | None
    problem: str | None
    reference: str | None
    status: str | None
    duplicate_of: int | None
    log_id: str | None
    size: int
    forward_state: Forward
    forward_at: datetime | None
    forward_attempts: int
    forwarded_at: datetime | None
    under_way: bool
    last_code: str | None
    last_error: str | None
    replayed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """One request by which a webhook was passed on."""

    at: datetime
    took: timedelta
    result: str
    code: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One webhook with everything that was kept."""

    listed: Listed
    body: bytes = field(repr=False)
    headers: Headers
    requests: Sequence[Requested]
    down_since: datetime | None
    """Since when the application's handler takes nothing."""
    down_reason: str | None
    not_before: datetime | None
    """When the handler may be asked next."""


async def listed(
    session: Session, *, provider: str | None, state: str | None, forward: str | None, reference: str | None, most: int
) -> list[Listed]:
    """Return webhooks, the newest first."""
    return [_listed(row) for row in await session.rows("list_webhooks", provider, state, forward, reference, most)]


async def logged(session: Session) -> bool:
    """Say whether there is any webhook in the application's log."""
    found: bool = await session.value("webhooks_logged")
    return found


async def shown(session: Session, webhook_id: int) -> Shown | None:
    """Return one webhook and the requests by which it was passed on; None: there is none with this number."""
    row = await session.row("show_webhook", webhook_id)
    if row is None:
        return None
    return Shown(
        listed=_listed(row),
        body=row["body"],
        headers=headers_of(row),
        requests=[Requested(**dict(it)) for it in await session.rows("forward_attempts_of", webhook_id)],
        down_since=row["down_since"],
        down_reason=row["down_reason"],
        not_before=row["not_before"],
    )


async def replay(session: Session, wanted: Sequence[int] | None, *, again: bool, by: str) -> list[int]:
    """Have webhooks passed on or read anew, all dead letters where none are named; return which ones."""
    rows = await session.rows("replay_webhooks", None if wanted is None else list(wanted), by, again)
    found = sorted(row["webhook_id"] for row in rows)
    if found:
        await session.rows("ask_target_now", sorted({row["provider"] for row in rows}))
        await session.rows("audit", by, "webhook_replay", None, None, as_json({"webhooks": found}), __version__)
        await session.rows("ring_outbox")
    return found


def _listed(row: Row) -> Listed:
    return Listed(
        webhook_id=row["webhook_id"],
        provider=row["provider"],
        received_at=row["received_at"],
        state=State(row["state"]),
        signature=row["signature"],
        problem=row["problem"],
        reference=row["reference"],
        status=row["status"],
        duplicate_of=row["duplicate_of"],
        log_id=row["log_id"],
        size=row["size"],
        forward_state=Forward(row["forward_state"]),
        forward_at=row["forward_at"],
        forward_attempts=row["forward_attempts"],
        forwarded_at=row["forwarded_at"],
        under_way=row["under_way"],
        last_code=row["last_code"],
        last_error=row["last_error"],
        replayed_by=row["replayed_by"],
    )
