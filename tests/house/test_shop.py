"""The tests' own ground: every shape can be filled by the shop's helpers, and a database is fresh."""

from datetime import timedelta

import asyncpg
import pytest

from tests.support import shop
from tests.support.postgres import SHAPES, Database, Server

pytestmark = pytest.mark.parametrize("shape", SHAPES)


async def test_a_user_pays_and_is_activated(database: Database) -> None:
    user = await shop.add_user(database)
    payment = await shop.add_payment(database, user, plan="vip_elite")
    await shop.complete(database, payment)
    await shop.activate(database, user, plan="vip_elite", payment=payment)

    words = shop.names(database).words
    paid = await shop.read(database, "payments", payment)
    granted = await shop.read(database, "users", user)
    assert paid["status"] == words.get("completed", "completed")
    assert paid["completed_at"] is not None
    assert granted["subscription_tier"] == words.get("vip_elite", "vip_elite")
    assert granted["payment_due_date"] - paid["completed_at"] >= shop.MONTH


async def test_every_optional_column_can_be_said(database: Database) -> None:
    until = await shop.now(database) + timedelta(days=1)
    user = await shop.add_user(
        database, status="active", tier="professional", paid_until=until, admin=True, active=False
    )
    row = await shop.read(database, "users", user)
    assert row["is_admin"] is True
    assert row["is_active"] is False
    assert row["payment_due_date"].replace(tzinfo=None) == until.replace(tzinfo=None)


async def test_a_refund_and_a_failure_are_words_of_the_shape(database: Database) -> None:
    user = await shop.add_user(database)
    refunded, failed = await shop.add_payment(database, user), await shop.add_payment(database, user)
    await shop.complete(database, refunded)
    await shop.refund(database, refunded)
    await shop.fail(database, failed)
    words = shop.names(database).words
    assert (await shop.read(database, "payments", refunded))["status"] == words.get("refunded", "refunded")
    assert (await shop.read(database, "payments", failed))["completed_at"] is not None


async def test_a_database_starts_without_users(database: Database) -> None:
    assert await database.fetchval(f"SELECT count(*) FROM {shop.names(database).tables['users']}") == 0


async def test_a_prepared_transaction_does_not_outlive_its_test(server: Server, shape: str) -> None:
    left = await server.create(shape)
    async with left.another() as writer:
        await writer.execute("BEGIN")
        await shop.add_user(writer)
        await writer.execute("PREPARE TRANSACTION 'left behind'")
    await server.drop(left)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await left.fetchval("SELECT 1")
