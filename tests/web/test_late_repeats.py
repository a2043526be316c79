"""Webhooks are forgotten in two steps: what they say first, and much later that they came at all."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from paidwatch.store import webhook_list
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY
from paidwatch.store.pool import Database as Pool
from tests.support.postgres import Database
from tests.support.receiver import STATEMENTS, payment, serving, signed, sources

KEEP = timedelta(days=30)
SECONDS = timedelta(seconds=9)


@pytest.fixture
async def pool(watched: Database) -> AsyncIterator[Pool]:
    target = Target(dsn=watched.dsn, connect_timeout=SECONDS, statement_timeout=SECONDS)
    async with Pool(target, STATEMENTS, size=1, settings=BY_KEY) as pool:
        yield pool


async def purge(pool: Pool, most: int = 100) -> int:
    removed: int = await pool.write(lambda session: session.value("purge_webhooks", KEEP, most))
    return removed


async def pass_days(db: Database, days: int) -> None:
    await db.execute(f"UPDATE paidwatch.webhook SET received_at = received_at - interval '{days} days'")


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_a_repeat_after_the_body_was_removed_is_a_duplicate_still(watched: Database, pool: Pool) -> None:
    body, headers = signed(payment(5077125051))
    async with serving(watched, sources(forwards=True)) as desk:
        assert await desk.post(body, headers) == 200
        assert await desk.post(body, headers) == 200
        assert await desk.send(payment(1), key="wrong") == 401
        await watched.execute("UPDATE paidwatch.webhook SET forward_state = 'done' WHERE webhook_id = 1")
        await watched.execute(
            "INSERT INTO paidwatch.forward_attempt (webhook_id, took, result) VALUES (1, '1s', 'passed')"
        )
        await pass_days(watched, 29)
        assert await purge(pool) == 0
        await pass_days(watched, 2)
        assert await purge(pool) == 3
        assert await purge(pool) == 0, "what was emptied is not emptied again"
        assert await desk.kept("webhook_id", "body", "headers", "state", "reference", "forward_state") == [
            (1, b"", "[]", "verified", "5077125051", "done")
        ]
        assert await watched.fetchval("SELECT count(*) FROM paidwatch.forward_attempt") == 0

        await pass_days(watched, 80)
        assert await purge(pool) == 0
        assert await desk.post(body, headers) == 200
        assert await desk.kept("webhook_id", "state", "duplicate_of", "forward_state") == [
            (1, "verified", None, "done"),
            (4, "duplicate", 1, "none"),
        ]
        assert len(await desk.logged("id")) == 2, "one of them for the rejected one"
        again = await pool.write(lambda session: webhook_list.replay(session, [1], again=True, by="ann"))
        assert again == [], "there is nothing left to pass on"

        await pass_days(watched, 10)
        assert await purge(pool) == 1
        assert [row for (row,) in await desk.kept("webhook_id")] == [4]
        assert await desk.post(body, headers) == 200
        assert (await desk.kept("state", "forward_state"))[-1] == ("verified", "due")


async def test_what_waits_to_be_passed_on_stays_whole_and_what_was_given_up_does_not(
    watched: Database, pool: Pool
) -> None:
    async with serving(watched, sources(forwards=True)) as desk:
        for number in (1, 2):
            assert await desk.send(payment(number)) == 200
        await watched.execute("UPDATE paidwatch.webhook SET forward_state = 'dead' WHERE webhook_id = 2")
        await pass_days(watched, 200)
        assert await purge(pool) == 1
        assert await desk.kept("webhook_id", "body <> ''", "forward_state") == [(1, True, "due")]
        assert await desk.send(payment(3)) == 200
        await watched.execute("UPDATE paidwatch.webhook SET forward_state = 'dead' WHERE webhook_id = 3")
        await pass_days(watched, 40)
        assert await purge(pool) == 1
        rows = await desk.kept("webhook_id", "body <> ''", "forward_state")
        assert rows == [(1, True, "due"), (3, False, "none")], "it cannot be replayed any more"


async def test_batches_get_through_everything(watched: Database, pool: Pool) -> None:
    async with serving(watched) as desk:
        for number in range(7):
            assert await desk.send(payment(number)) == 200
    await pass_days(watched, 31)
    assert [await purge(pool, most=3) for _ in range(4)] == [3, 3, 1, 0]
    await pass_days(watched, 91)
    assert [await purge(pool, most=3) for _ in range(4)] == [3, 3, 1, 0]
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.webhook") == 0


async def test_old_ones_are_found_by_index(watched: Database) -> None:
    for name, value in BY_KEY.items():
        await watched.execute(f"SET {name} = {value}")
    await watched.execute(f"PREPARE look AS {STATEMENTS['purge_webhooks']}")
    plan = "\n".join(row[0] for row in await watched.fetch("EXPLAIN EXECUTE look('30 days', 100)"))
    assert "Index Scan using webhook_whole" in plan, plan
    assert "Index Scan using webhook_at" in plan, plan
    assert "Seq Scan" not in plan, plan
