"""The application as the tests play it, on every shape: people register, pay, are activated, are refunded.

Columns and words are given in those of shapes F, L and M (`subscription_tier`, `completed`); shape X has other names
for them, and columns that a shape lacks are left out. Times without zone are UTC.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from tests.support.postgres import Database

PRICES = {"free_trial": Decimal("0.00"), "professional": Decimal("14.99"), "vip_elite": Decimal("29.99")}
MONTH = timedelta(days=30)

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a shape calls the tables, columns and words."""

    tables: Mapping[str, str]
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


_USUAL = Names(
    tables={
        "users": "public.users",
        "payments": "public.payment_transactions",
        "events": "public.subscription_events",
        "webhooks": "public.webhook_logs",
    }
)
_OTHER = Names(
    tables={"users": '"Shop"."Accounts"', "payments": '"Shop"."Orders"'},
    columns={
        "users": {
            "id": "AccountId",
            "email": "Mail",
            "hashed_password": "Secret",
            "is_active": "Enabled",
            "is_admin": "Staff",
            "subscription_status": "State",
            "subscription_tier": "Level",
            "payment_due_date": "PaidUntil",
            "access_revoked_at": "ShutOffAt",
            "created_at": "Made",
            "subscription_updated_at": "Changed",
        },
        "payments": {
            "id": "OrderNo",
            "user_id": "AccountId",
            "plan_id": "Offer",
            "amount_usd": "Total",
            "payment_method": "PaidWith",
            "transaction_id": "Receipt",
            "status": "State",
            "created_at": "Placed",
            "completed_at": "Settled",
        },
    },
    words={
        "pending": "Open",
        "completed": "Settled",
        "failed": "Declined",
        "refunded": "Refunded",
        "active": "Live",
        "inactive": "Dormant",
        "past_due": "Overdue",
        "canceled": "Closed",
        "free": "none",
        "free_trial": "none",
        "professional": "basic",
        "vip_elite": "gold",
    },
)
_WORDY = frozenset({"status", "subscription_status", "subscription_tier", "plan_id"})
"""Columns whose values are words that a shape may have its own for."""


def names(db: Database) -> Names:
    return _OTHER if db.shape == "X" else _USUAL


async def now(db: Database) -> datetime:
    """Return the database's time, aware."""
    moment = await db.fetchval("SELECT clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


async def add_user(
    db: Database,
    *,
    status: str = "inactive",
    tier: str | None = "free",
    plan: str | None = None,
    paid_until: datetime | None = None,
    revoked_at: datetime | None = None,
    active: bool = True,
    admin: bool = False,
    email: str | None = None,
    created_at: datetime | None = None,
) -> Any:
    """Register a user and return the key."""
    number = next(_numbers)
    at = created_at or await now(db)
    return await _insert(
        db,
        "users",
        {
            "email": email or f"user{number}@example.org",
            "username": f"user{number}",
            "hashed_password": f"not-a-hash-{number}",
            "is_active": active,
            "is_admin": admin,
            "subscription_status": status,
            "subscription_tier": tier,
            "plan_id": plan,
            "current_period_end": paid_until,
            "payment_due_date": paid_until,
            "subscription_renewal_date": paid_until,
            "access_revoked_at": revoked_at,
            "trial_used": False,
            "created_at": at,
            "updated_at": at,
            "subscription_updated_at": at,
        },
    )


async def add_payment(
    db: Database,
    user: Any,
    *,
    plan: str = "professional",
    amount: Decimal | None = None,
    method: str = "nowpayments",
    status: str = "pending",
    reference: str | None = None,
    created_at: datetime | None = None,
    completed_at: datetime | None = None,
) -> Any:
    """Insert a payment, pending unless said, and return the key."""
    number = next(_numbers)
    at = created_at or await now(db)
    row: dict[str, object] = {
        "user_id": user,
        "plan_id": plan,
        "amount_usd": PRICES[plan] if amount is None else amount,
        "payment_method": method,
        "transaction_id": reference or f"np-{number}",
        "status": status,
        "payment_data": json.dumps({"order": number}),
        "created_at": at,
        "completed_at": completed_at,
        "updated_at": at,
    }
    if db.shape == "X":
        row["id"] = f"ORD-{number:06}"
    return await _insert(db, "payments", row)


async def complete(db: Database, payment: Any, *, status: str = "completed") -> None:
    """The money is there: the statement by which the application says so."""
    await update(db, "payments", payment, {"status": status, "completed_at": await now(db)})


async def fail(db: Database, payment: Any) -> None:
    """The payment failed; the application sets `completed_at` then as well."""
    await complete(db, payment, status="failed")


async def refund(db: Database, payment: Any) -> None:
    """The money went back."""
    await update(db, "payments", payment, {"status": "refunded"})


async def activate(
    db: Database, user: Any, *, plan: str = "professional", payment: Any = None, days: int = 30, event: bool = True
) -> None:
    """Grant access the way the application does: one UPDATE of the user and one event that names the payment."""
    at = await now(db)
    until = at + timedelta(days=days)
    granted: dict[str, object] = {
        "subscription_status": "active",
        "subscription_tier": plan,
        "plan_id": plan,
        "last_payment_date": at,
        "payment_due_date": until,
        "subscription_renewal_date": until,
        "current_period_end": until,
        "access_revoked_at": None,
        "subscription_updated_at": at,
    }
    await update(db, "users", user, granted)
    if event and "events" in names(db).tables:
        reference = None if payment is None else (await read(db, "payments", payment))["transaction_id"]
        data = {"plan_id": plan, "payment_reference": reference, "activated_at": at.isoformat()}
        await add_event(db, user, "activated", data)


async def add_event(
    db: Database, user: Any, kind: str, data: Mapping[str, object] | None = None, *, at: datetime | None = None
) -> Any:
    """Insert a subscription event and return the key."""
    moment = at or await now(db)
    return await _insert(
        db,
        "events",
        {
            "user_id": user,
            "event_type": kind,
            "stripe_event_id": f"evt-{next(_numbers)}",
            "event_data": json.dumps(data or {}),
            "processed": True,
            "created_at": moment,
            "updated_at": moment,
        },
    )


async def add_webhook(
    db: Database,
    *,
    method: str = "nowpayments",
    data: Mapping[str, object] | None = None,
    valid: bool | None = True,
    status: str = "received",
    error: str | None = None,
    user: Any = None,
    payment: str | None = None,
) -> Any:
    """Insert a row into the log of webhooks and return the key."""
    return await _insert(
        db,
        "webhooks",
        {
            "payment_method": method,
            "webhook_data": json.dumps(data or {}),
            "signature_valid": valid,
            "processing_status": status,
            "error_message": error,
            "user_id": user,
            "payment_id": payment,
            "created_at": await now(db),
        },
    )


async def read(db: Database, table: str, key: Any) -> dict[str, Any]:
    """Return one row, under the names of shapes F, L and M, with the shape's own words; a missing row raises."""
    columns = names(db).columns.get(table)
    row = await db.fetchrow(f"SELECT * FROM {names(db).tables[table]} WHERE {_key(db, table)} = $1", key)
    assert row is not None, f"{table} has no row {key}"
    return dict(row) if columns is None else {name: row[column] for name, column in columns.items()}


async def update(db: Database, table: str, key: Any, values: Mapping[str, object]) -> None:
    """Change one row; columns that the shape lacks are left out."""
    row = await _fitting(db, table, values)
    changes = ", ".join(f'"{column}" = ${place}' for place, column in enumerate(row, 2))
    tag = await db.execute(
        f"UPDATE {names(db).tables[table]} SET {changes} WHERE {_key(db, table)} = $1", key, *row.values()
    )
    assert tag == "UPDATE 1", f"{table} has no row {key}"


async def _insert(db: Database, table: str, values: Mapping[str, object]) -> Any:
    row = await _fitting(db, table, values)
    columns = ", ".join(f'"{column}"' for column in row)
    places = ", ".join(f"${place}" for place in range(1, len(row) + 1))
    into = names(db).tables[table]
    return await db.fetchval(
        f"INSERT INTO {into} ({columns}) VALUES ({places}) RETURNING {_key(db, table)}", *row.values()
    )


def _key(db: Database, table: str) -> str:
    return '"' + names(db).columns.get(table, {}).get("id", "id") + '"'


async def _fitting(db: Database, table: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values under the shape's own column names and in its words, without what it lacks."""
    if table not in db.columns:
        rows = await db.fetch(
            "SELECT attname, atttypid::regtype::text AS type FROM pg_attribute"
            " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
            names(db).tables[table],
        )
        db.columns[table] = {row["attname"]: row["type"] for row in rows}
    types, columns = db.columns[table], names(db).columns.get(table)
    fitting: dict[str, object] = {}
    for name, value in values.items():
        column = name if columns is None else columns.get(name)
        if column in types:
            fitting[column] = _converted(db, name, types[column], value)
    return fitting


def _converted(db: Database, name: str, sql_type: str, value: object) -> object:
    if isinstance(value, datetime) and sql_type == "timestamp without time zone":
        return value.astimezone(UTC).replace(tzinfo=None)
    return names(db).words.get(value, value) if name in _WORDY and isinstance(value, str) else value
