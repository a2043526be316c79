"""The shapes differ exactly where the application's real databases do."""

import tomllib

import pytest

from tests.support import shop
from tests.support.postgres import SHAPE_FILES, Database

COLUMN = """
    SELECT attnotnull AS required, atthasdef AS has_default, format_type(atttypid, atttypmod) AS type
    FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2 AND NOT attisdropped
"""


async def column(database: Database, name: str) -> tuple[bool, bool, str] | None:
    table, _, attribute = name.partition(".")
    row = await database.fetchrow(COLUMN, f"public.{table}", attribute)
    return None if row is None else (row["required"], row["has_default"], row["type"])


@pytest.mark.parametrize(
    "name",
    [
        "users.is_active",
        "users.subscription_status",
        "users.subscription_tier",
        "payment_transactions.created_at",
        "payment_transactions.updated_at",
        "subscription_events.processed",
        "subscription_events.created_at",
    ],
)
async def test_fresh_columns_are_required_and_have_no_default(database: Database, name: str) -> None:
    found = await column(database, name)
    assert found is not None
    assert found[:2] == (True, False)


@pytest.mark.parametrize(
    ("shape", "name", "kind"),
    [
        ("F", "subscription_events.event_data", "json"),
        ("F", "payment_transactions.payment_data", "json"),
        ("F", "webhook_logs.webhook_data", "jsonb"),
        ("L", "subscription_events.event_data", "jsonb"),
        ("L", "payment_transactions.payment_data", "jsonb"),
        ("M", "subscription_events.event_type", "character varying(50)"),
    ],
)
async def test_types(database: Database, name: str, kind: str) -> None:
    found = await column(database, name)
    assert found is not None
    assert found[2] == kind


@pytest.mark.parametrize(
    ("shape", "name", "required"),
    [
        ("F", "subscription_events.stripe_event_id", False),
        ("L", "subscription_events.stripe_event_id", True),
        ("L", "users.subscription_tier", False),
        ("L", "payment_transactions.created_at", False),
    ],
)
async def test_required_columns(database: Database, name: str, required: bool) -> None:
    found = await column(database, name)
    assert found is not None
    assert found[0] is required


@pytest.mark.parametrize("shape", ["M"])
@pytest.mark.parametrize(
    "name",
    [
        "users.subscription_status",
        "users.plan_id",
        "users.current_period_end",
        "subscription_events.processed",
        "subscription_events.stripe_event_id",
    ],
)
async def test_the_oldest_shape_lacks(database: Database, name: str) -> None:
    assert await column(database, name) is None


@pytest.mark.parametrize(("shape", "rule"), [("F", "a"), ("L", "c"), ("M", "a")])
async def test_what_deleting_a_user_does_to_payments(database: Database, rule: str) -> None:
    found = await database.fetchval(
        "SELECT confdeltype::text FROM pg_constraint WHERE contype = 'f'"
        " AND conrelid = 'public.payment_transactions'::regclass AND confrelid = 'public.users'::regclass"
    )
    assert found == rule


@pytest.mark.parametrize("shape", ["F", "L", "M"])
async def test_a_payment_knows_when_it_was_changed(database: Database) -> None:
    user = await shop.add_user(database)
    payment = await shop.add_payment(database, user)
    before = (await shop.read(database, "payments", payment))["updated_at"]
    await shop.complete(database, payment)
    assert (await shop.read(database, "payments", payment))["updated_at"] > before


@pytest.mark.parametrize("shape", ["F", "L", "M"])
async def test_plans(database: Database) -> None:
    rows = await database.fetch(
        "SELECT id, price_usd::text, duration_days FROM public.subscription_plans ORDER BY price_usd"
    )
    assert [tuple(row) for row in rows] == [
        ("free_trial", "0.00", 7),
        ("professional", "14.99", 30),
        ("vip_elite", "29.99", 30),
    ]


@pytest.mark.parametrize("shape", ["X"])
async def test_the_description_of_the_other_shop_names_what_is_there(database: Database) -> None:
    described = tomllib.loads((SHAPE_FILES / "X.toml").read_text(encoding="utf-8"))
    for section in ("payments", "users", "plans"):
        keys = described[section]
        lists = {"active", "auto", "failed", "free", "order", "paid", "pending", "reversed"}
        named = [
            value for key, value in keys.items() if key not in {*lists, "table"} and isinstance(value, str) and value
        ]
        named += [column for key in ("amounts", "prices") for column in keys.get(key, {}).values() if column]
        there = await database.fetch("SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass", keys["table"])
        assert set(named) <= {row["attname"] for row in there}
