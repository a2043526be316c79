"""Activations to be shown: the ledger with what it knows about each, and what the audit says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from paidwatch.store.pool import Row, Session

MOST = 1000
"""Rows of one list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answer of one guard, as the ledger keeps it."""

    guard: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One row of the ledger; text of the application is untrusted, and the user's name unmasked."""

    now: datetime
    activation_id: int
    payment_id: str | None
    """None: only webhooks told of it, under `method` and `reference`."""
    user_id: str
    user_label: str | None
    plan_id: str | None
    method: str | None
    amount: Decimal | None
    currency: str | None
    reference: str | None
    state: str
    strategy: str
    actor: str
    reason: str
    claimed_at: datetime
    done_at: datetime | None
    due_at: datetime | None
    attempts: int
    calls: int
    """Requests made to the application."""
    called_at: datetime | None
    answer: str | None
    guards: tuple[Asked, ...]
    forced: tuple[str, ...]
    """Guards that a person overrode."""
    before: dict[str, object]
    after: dict[str, object]
    """The user as it was and as it was written, by column; of a shadow, by canonical name."""
    planned: dict[str, object]
    event_id: str | None
    error: str | None
    version: str
    undone_at: datetime | None
    undone_by: str | None
    undone_why: str | None
    compared_at: datetime | None
    was_right: bool | None
    comparison: str | None
    doubled_at: datetime | None
    doubled_by: str | None
    """The event by which the application activated the payment as well."""
    tier: str | None
    paid_until: datetime | None
    """What it gave, would have given, or is about to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One line of the audit."""

    at: datetime
    actor: str
    act: str
    version: str
    reason: str | None


async def listed(
    session: Session,
    *,
    states: Sequence[str] | None = None,
    since: timedelta | None = None,
    user_id: str | None = None,
    one: int | None = None,
    most: int = MOST,
) -> list[Activation]:
    """Return activations, the newest first."""
    rows = await session.rows("list_activations", None if states is None else list(states), since, user_id, one, most)
    return [_activation(row) for row in rows]


async def audited(session: Session, activation_id: int) -> list[Audited]:
    """Return what the audit has about one activation, in order."""
    return [Audited(**dict(row.items())) for row in await session.rows("audit_of", activation_id)]


def _activation(row: Row) -> Activation:
    fields: dict[str, Any] = dict(row.items())
    fields["guards"] = tuple(
        Asked(guard=str(one["guard"]), passed=bool(one["passed"]), reason=str(one["reason"]))
        for one in cast("list[dict[str, object]]", _json(row["guards"]) or [])
    )
    for name in ("before", "after", "planned"):
        value = _json(row[name])
        fields[name] = value if isinstance(value, dict) else {}
    fields["forced"] = tuple(row["forced"])
    return Activation(**fields)


def _json(text: str | None) -> object:
    found: object = json.loads(text) if text else None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What automatic activation did lately, and what is under way."""

    now: datetime
    hour: int
    day: int
    """By the machine, as its caps count them."""
    under_way: int
    failed: int
    undone: int
    """Within a day, whoever asked for it."""


async def used(session: Session, *, shadows: bool) -> Usage:
    """Return what was done lately; with `shadows` what was only recorded counts as done, as it does for the caps."""
    return Usage(**dict((await session.one("activation_usage", shadows)).items()))
