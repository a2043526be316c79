"""Passing webhooks on: leased, sent outside of any transaction, and marked only after the application took them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from paidwatch.store.pool import Session
from paidwatch.store.webhooks import Headers, headers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One webhook to be passed on, under lease."""

    webhook_id: int
    lease: str
    received_at: datetime
    body: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    reference: str | None
    log_id: str | None
    attempts: int
    """This one included."""
    since: datetime
    """Since when it is tried."""
    failures: int
    """How often in a row the handler took nothing."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request, for the log of them."""

    webhook_id: int
    took: timedelta
    result: str
    """passed, transient or refused."""
    code: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What is known once the application took a webhook."""

    replayed: bool
    """A person had it passed on anew."""
    works: bool
    """The handler had refused what came before."""


async def claim(session: Session, provider: str, *, lease: str, span: timedelta, most: int) -> list[Passage]:
    """Lease what is due for one provider's handler, in the order in which it came; of one payment only the oldest."""
    rows = await session.rows("claim_forwards", provider, span, lease, most)
    found = [
        Passage(
            webhook_id=row["webhook_id"],
            lease=lease,
            received_at=row["received_at"],
            body=row["body"],
            headers=headers_of(row),
            reference=row["reference"],
            log_id=row["log_id"],
            attempts=row["forward_attempts"],
            since=row["forward_since"],
            failures=row["failures"],
            now=row["now"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda passage: passage.webhook_id)


async def wait(session: Session, provider: str) -> timedelta | None:
    """Return how long until something may be passed to this handler; None: nothing is queued."""
    row = await session.row("next_forward", provider)
    return None if row is None else max(row["wait"], timedelta())


async def record_attempt(session: Session, attempt: Attempt) -> None:
    """Write the log of requests."""
    await session.rows(
        "record_forward_attempt",
        attempt.webhook_id,
        attempt.took,
        attempt.result,
        attempt.code[:200],
        attempt.error,
    )


async def record_passed(session: Session, passage: Passage, code: str) -> Passed | None:
    """Mark as taken; None if the lease was lost meanwhile."""
    row = await session.row("record_forwarded", passage.webhook_id, passage.lease, code)
    return None if row is None else Passed(replayed=row["replayed"], works=row["works"])


async def record_retry(
    session: Session,
    passage: Passage,
    pause: timedelta,
    *,
    code: str,
    error: str,
    wish: timedelta | None,
    down_from: int,
) -> timedelta | None:
    """Try again after `pause`, also after a restart; return for how long the handler has been down, None: it is not."""
    row = await session.row(
        "record_forward_retry", passage.webhook_id, passage.lease, pause, code[:200], error, wish, down_from
    )
    return None if row is None else row["down_for"]


async def record_dead(session: Session, passage: Passage, *, code: str, error: str) -> bool:
    """Keep as a dead letter; False if the lease was lost meanwhile."""
    return await session.row("record_forward_dead", passage.webhook_id, passage.lease, code[:200], error) is not None


async def tell(
    session: Session,
    provider: str,
    *,
    cause: str,
    notes: Sequence[str],
    channels: Sequence[str],
    severity: str,
    quiet_until: datetime | None,
) -> int | None:
    """Open the one alert about this provider's handler; None: it is open already."""
    row = await session.row("tell_forward", provider, cause, list(notes), list(channels), severity, quiet_until)
    if row is None:
        return None
    await session.rows("ring_outbox")
    await session.rows("tell_feed")
    return int(row["alert_id"])


async def over(session: Session, provider: str) -> int | None:
    """End that alert, where nothing is wrong any more; None: there was none, or something still is."""
    row = await session.row("forward_over", provider)
    if row is None:
        return None
    await session.rows("ring_outbox")
    await session.rows("tell_feed")
    return int(row["alert_id"])


async def release(session: Session) -> None:
    """Take over from a former leader: what it had under way is due now."""
    await session.rows("release_forwards")
