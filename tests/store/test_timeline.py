"""What is told of one user: webhooks that name a payment in another way than the application's row are among it."""

from datetime import timedelta

import anyio
import pytest

from paidwatch.store import timeline
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.postgres import Database

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def session(watched: Database) -> Session:
    return Session(await watched.connection(), await anyio.to_thread.run_sync(Statements.load))


async def add_reading(db: Database, reference: str, *names: str) -> str:
    """A webhook that names no user, as it came and as it is read."""
    row = str(await shop.add_webhook(db, method="stripe"))
    await db.execute(
        "INSERT INTO paidwatch.reading (log_id, method, reference, status, said, valid, at)"
        " VALUES ($1, 'stripe', $2, 'paid', 'invoice.paid', true, now())",
        row,
        reference,
    )
    await db.execute("INSERT INTO paidwatch.reading_name SELECT $1, name FROM unnest($2::text[]) AS name", row, names)
    return row


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_webhooks_that_name_a_payment_by_another_id_belong_to_it(watched: Database, session: Session) -> None:
    user = await shop.add_user(watched)
    await shop.add_payment(watched, user, reference="cs_test_a1b2c3d4e5f6")
    theirs = {
        await add_reading(watched, "pi_3MtwBwLkdIwHu7ix", "in_1MtHbELkdIwHu7ix", "cs_test_a1b2c3d4e5f6"),
        await add_reading(watched, "cs_test_a1b2c3d4e5f6"),
    }
    await add_reading(watched, "pi_of_somebody_else", "cs_of_somebody_else")
    bought = await timeline.payments(session, str(user), 10, ([], [], MINUTE))
    found = [it for it in await timeline.moments(session, str(user), bought, 50) if it.what == "webhook"]
    assert {it.id for it in found} == theirs
    assert {it.said for it in found} == {
        "stripe for pi_3MtwBwLkdIwHu7ix signature valid",
        "stripe for cs_test_a1b2c3d4e5f6 signature valid",
    }


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_readings_are_found_by_key_also_in_a_young_database(watched: Database, session: Session) -> None:
    for name, value in BY_KEY.items():
        await watched.execute(f"SET {name} = {value}")
    await watched.execute(f"PREPARE look AS {session._statements['timeline']}")
    plan = "\n".join(row[0] for row in await watched.fetch("EXPLAIN EXECUTE look('1', 50, '{1}', '{x}')"))
    for index in ("reading_user", "reading_reference", "reading_name_name", "reading_pkey"):
        assert index in plan, plan
    for whole in ("Seq Scan on reading", "Seq Scan on payment_transactions", "Seq Scan on watch"):
        assert whole not in plan, plan
