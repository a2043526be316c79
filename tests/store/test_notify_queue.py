"""The server's one queue of notifications is full, because somebody's listening session sits in a transaction.

A NOTIFY fails at commit then, where no trigger can catch it. So nobody rings, payments commit, and the daemon looks by
itself.
"""

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support import shop
from tests.support.daemon import Sections, installed, told_and_done
from tests.support.postgres import Database, Server, embedded
from tests.support.sink import Sink
from tests.support.watched import Start

PLAIN: Sections = {
    "grace": {"default": "100ms"},
    "alerts": {"storm_threshold": 1000, "storm_window": "1ms", "digest_at": ""},
}
SELDOM: Sections = {**PLAIN, "reconcile": {"every": "1h"}}
"""No look by reconciliation within the life of a test: only intake is left."""
PIECE = 7_900
"""Bytes of a payload: the most is 8000, so that the smallest queue is full after some sixty messages."""
FIRST_TO_LIMIT_IT = 17


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server with the smallest queue there can be; the usual one holds 8 GB."""
    told = subprocess.run((embedded().bin("postgres"), "--version"), check=True, capture_output=True, text=True).stdout
    version = int(re.findall(r"\d+", told)[0])
    if version < FIRST_TO_LIMIT_IT:
        pytest.skip(f"PostgreSQL {version} has no max_notify_queue_pages: its queue of 8 GB takes too long to fill")
    with embedded({"max_notify_queue_pages": "64"}) as own:
        yield Server(own)


@pytest.fixture
async def db(small: Server) -> AsyncIterator[Database]:
    fresh = await installed(small, "F")
    yield fresh
    await small.drop(fresh)


@asynccontextmanager
async def pinned(db: Database) -> AsyncIterator[None]:
    """Somebody listens, and reads nothing: the queue keeps every message for his sake."""
    async with db.another() as somebody:
        await somebody.execute("LISTEN elsewhere")
        async with somebody.transaction():
            await somebody.execute("SELECT 1")
            yield


async def usage(db: Database) -> float:
    used: float = await db.fetchval("SELECT pg_notification_queue_usage()")
    return used


async def fill(db: Database, *, until: float) -> None:
    number = 0
    while await usage(db) < until:
        number += 1
        await db.execute("SELECT pg_notify('elsewhere', rpad($1::text, $2, '.'))", str(number), PIECE)


async def fill_to_the_brim(db: Database) -> None:
    """Until not even the smallest message finds room."""
    for size in (PIECE, 1):
        with pytest.raises(asyncpg.ProgramLimitExceededError, match="too many notifications"):
            await notify_for_ever(db, size)


async def notify_for_ever(db: Database, size: int) -> None:
    while True:
        await db.execute("SELECT pg_notify('elsewhere', rpad(gen_random_uuid()::text, $1, '.'))", size)


async def pay(db: Database) -> str:
    """Pay on a connection of its own, as an application that waits for nobody, and hear no warning."""
    warnings: list[str] = []
    payment = await shop.add_payment(db, await shop.add_user(db))
    connection = await db.connect()
    try:
        connection.add_log_listener(lambda _connection, message: warnings.append(str(message.message)))
        await connection.execute("SET statement_timeout = '5s'")
        await connection.execute("UPDATE payment_transactions SET status = 'completed' WHERE id = $1", payment)
    finally:
        await connection.close()
    assert warnings == []
    assert (await shop.read(db, "payments", payment))["status"] == "completed"
    return str(payment)


async def cut(db: Database) -> None:
    """The daemon loses its listening connection and has to prove a new one."""
    cut = await db.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'paidwatch listen'"
    )
    assert cut == 1


async def test_a_queue_that_fills_up_while_the_daemon_sleeps(
    small: Server, db: Database, told: Sink, start: Start
) -> None:
    """Nobody can wake it: the first payment waits for the next reconciliation, and from then on it looks by itself."""
    async with start(PLAIN, {"reconcile": {"every": "1s"}}, database=db) as daemon:
        await daemon.ready()
        async with pinned(db):
            await fill(db, until=0.5)
            payments = [await pay(db)]
            await told.until_told(payments)
            await daemon.reload(SELDOM, database=db, sink=told)
            await daemon.log("config.reloaded")
            payments += [await pay(db) for _ in range(3)]
            await told.until_told(payments)
            await daemon.database(db, "SELECT NOT EXISTS (SELECT FROM paidwatch.inbox)")
        assert not daemon.events("listen.lost")
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in payments}
    assert await told_and_done(db)


@pytest.mark.thorough
async def test_a_full_queue_costs_no_payment_no_proof_and_no_second_message(
    small: Server, db: Database, told: Sink, start: Start
) -> None:
    payments: list[str] = []
    async with start(SELDOM, database=db) as daemon:
        await daemon.ready()
        async with pinned(db):
            # Half full: the daemon connects anew, and finds that it will not be rung for.
            await fill(db, until=0.5)
            await cut(db)
            await daemon.ready(count=2)
            payments.append(await pay(db))
            await told.until_told(payments)
            await fill_to_the_brim(db)
            payments.append(await pay(db))
            await told.until_told(payments)
            # Full: a message to oneself cannot be sent either.
            await cut(db)
            await daemon.ready(count=3)
            payments.append(await pay(db))
            await told.until_told(payments)
            await daemon.database(
                db, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
            )
            assert await usage(db) > 0.9
        # The transaction is over: with the next message the queue is empty, and the bell is heard again.
        await fill(db, until=0.01)
        await db.execute("NOTIFY elsewhere")
        await daemon.database_by_asking(db, "SELECT pg_notification_queue_usage() < 0.5")
        payments.append(await pay(db))
        await told.until_told(payments)
        await daemon.log("delivery.sent", count=len(payments))
    assert len(daemon.events("listen.lost")) == 2
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in payments}
    assert await told_and_done(db)
