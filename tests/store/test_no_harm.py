"""A watcher that is broken, stopped or absent never fails and never holds up a payment."""

import signal
from typing import Any

import asyncpg
import pytest

from tests.support import shop
from tests.support.daemon import install, installed, told_and_done
from tests.support.postgres import Database, Server
from tests.support.sink import Sink
from tests.support.watched import Start

QUICK = {"grace": {"default": "300ms"}, "reconcile": {"every": "500ms"}}


async def payment_of(db: Database) -> int:
    payment = await shop.add_payment(db, await shop.add_user(db))
    assert isinstance(payment, int)
    return payment


async def completes(db: Database, payment: int, isolation: str | None = None) -> list[str]:
    """Complete a payment within a second on a connection of its own; return the server's warnings."""
    connection = await db.connect()
    warnings: list[str] = []
    connection.add_log_listener(lambda _connection, message: warnings.append(str(message.message)))
    try:
        await connection.execute("SET statement_timeout = '5s'")
        async with connection.transaction(isolation=isolation):  # type: ignore[arg-type]
            await connection.execute(
                "UPDATE payment_transactions SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC'"
                " WHERE id = $1",
                payment,
            )
        await connection.execute("SELECT 1")
    finally:
        await connection.close()
    assert (await shop.read(db, "payments", payment))["status"] == "completed"
    return warnings


BREAKS = {
    "the inbox is gone": "DROP TABLE paidwatch.inbox",
    "the inbox is another": "ALTER TABLE paidwatch.inbox DROP COLUMN txid",
    "the owner may not write": "GRANT USAGE ON SCHEMA paidwatch TO harmless;"
    "ALTER FUNCTION paidwatch.on_payment_update() OWNER TO harmless",
    "the schema is closed": "ALTER FUNCTION paidwatch.on_payment_update() OWNER TO harmless",
    "the disk is full": "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END$$;"
    "CREATE TRIGGER full_disk BEFORE INSERT ON paidwatch.inbox FOR EACH ROW EXECUTE FUNCTION public.full()",
    "memory is out": "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN RAISE EXCEPTION 'out of memory' USING ERRCODE = 'out_of_memory'; END$$;"
    "CREATE TRIGGER full_memory BEFORE INSERT ON paidwatch.inbox FOR EACH ROW EXECUTE FUNCTION public.full()",
    "a value is refused": "ALTER TABLE paidwatch.inbox ADD CONSTRAINT never CHECK (false) NOT VALID",
    "the index is broken": "CREATE UNIQUE INDEX ON paidwatch.inbox ((1 / (CASE WHEN kind = 'P' THEN 0 ELSE 1 END)))",
}


@pytest.mark.parametrize("what", BREAKS)
async def test_the_payment_commits_and_the_trouble_is_a_warning(watched: Database, what: str) -> None:
    payment = await payment_of(watched)
    await watched.execute("DROP ROLE IF EXISTS harmless; CREATE ROLE harmless")
    try:
        await watched.execute(BREAKS[what])
        (warning,) = await completes(watched, payment)
    finally:
        await watched.execute("DROP OWNED BY harmless CASCADE; DROP ROLE harmless")
    assert "could not note a change of public.payment_transactions" in warning


async def test_a_trigger_without_its_schema_is_gone_with_it(watched: Database) -> None:
    payment = await payment_of(watched)
    await watched.execute("DROP SCHEMA paidwatch CASCADE")
    assert await completes(watched, payment) == []


async def test_what_the_triggers_could_not_note_is_found_by_reconciliation(
    watched: Database, told: Sink, start: Start
) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
        await watched.execute("ALTER TABLE paidwatch.inbox ADD CONSTRAINT never CHECK (false) NOT VALID")
        payment = await payment_of(watched)
        assert len(await completes(watched, payment)) == 1
        await told.until_told([payment])
    assert told.announced() == {(str(payment), "paid_not_active"): 1}
    assert "reconcile.found" in {line["event"] for line in daemon.lines}


async def test_every_ring_is_lost_and_the_payment_is_still_told(watched: Database, told: Sink, start: Start) -> None:
    """As with a full queue: the row is in the inbox, and nobody says so."""
    await watched.execute("ALTER FUNCTION paidwatch.on_payment_update() RENAME TO on_payment_real")
    body = await watched.fetchval("SELECT pg_get_functiondef('paidwatch.on_payment_real'::regproc)")
    await watched.execute("ALTER FUNCTION paidwatch.on_payment_real() RENAME TO on_payment_update")
    assert "pg_notification_queue_usage() < 0.5" in body
    await watched.execute(
        body.replace("on_payment_real", "on_payment_update").replace("pg_notification_queue_usage()", "1.0")
    )
    async with start(QUICK) as daemon:
        await daemon.ready()
        payment = await payment_of(watched)
        assert await completes(watched, payment) == []
        await told.until_told([payment])
        await daemon.database(watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.inbox)", within=8)
    assert told.announced() == {(str(payment), "paid_not_active"): 1}


async def test_disabled_triggers_are_named_and_made_good_for(watched: Database, told: Sink, start: Start) -> None:
    await watched.execute("ALTER TABLE payment_transactions DISABLE TRIGGER paidwatch_payment_updated")
    payment = await payment_of(watched)
    await completes(watched, payment)
    async with start(QUICK) as daemon:
        (fault,) = await daemon.log("triggers.faulty")
        assert "paidwatch_payment_updated" in str(fault)
        await told.until_told([payment])


async def test_a_stopped_daemon_holds_up_nobody(watched: Database, told: Sink, start: Start) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
        daemon.signal(signal.SIGSTOP)
        payments = [await payment_of(watched) for _ in range(20)]
        for payment in payments:
            assert await completes(watched, payment) == []
        assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") == 20
        daemon.signal(signal.SIGCONT)
        await told.until_told(payments)
    assert told.announced() == {(str(payment), "paid_not_active"): 1 for payment in payments}
    assert await told_and_done(watched)


async def test_ten_thousand_rows_in_one_statement(watched: Database, told: Sink, start: Start) -> None:
    quiet = {"grace": {"default": "1h"}}
    user = await shop.add_user(watched)
    await watched.execute(
        "INSERT INTO payment_transactions"
        " (user_id, plan_id, amount_usd, payment_method, status, created_at, updated_at)"
        " SELECT $1, 'professional', 14.99, 'nowpayments', 'pending', now(), now() FROM generate_series(1, 10000)",
        user,
    )
    async with start(quiet) as daemon:
        await daemon.ready()
        await watched.execute("UPDATE payment_transactions SET status = 'finished'")
        await daemon.database_by_asking(watched, "SELECT count(*) = 10000 FROM paidwatch.watch")
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") == 0


@pytest.mark.parametrize("isolation", ["serializable", "repeatable_read"])
async def test_every_isolation_commits_and_is_seen(watched: Database, told: Sink, start: Start, isolation: str) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
        payments = [await payment_of(watched) for _ in range(10)]
        for payment in payments:
            assert await completes(watched, payment, isolation) == []
        await told.until_told(payments)
    assert told.announced() == {(str(payment), "paid_not_active"): 1 for payment in payments}


# Prepared transactions: PREPARE fails after a NOTIFY, so the trigger must not ring where they are possible


async def test_a_prepared_transaction_commits_and_is_seen(server: Server, told: Sink, start: Start) -> None:
    db = await installed(server, "F", {"database": {"two_phase": "auto"}})
    if await db.fetchval("SHOW max_prepared_transactions") == "0":
        pytest.skip("this server has no prepared transactions")
    try:
        async with start(QUICK, {"database": {"two_phase": "auto"}}, database=db) as daemon:
            await daemon.ready()
            payment = await payment_of(db)
            connection = await db.connect()
            await connection.execute("BEGIN")
            await connection.execute("UPDATE payment_transactions SET status = 'completed' WHERE id = $1", payment)
            await connection.execute("PREPARE TRANSACTION 'paidwatch test'")
            await connection.close()
            await db.execute("COMMIT PREPARED 'paidwatch test'")
            await told.until_told([payment])
    finally:
        await server.drop(db)
    assert told.announced() == {(str(payment), "paid_not_active"): 1}


async def test_without_prepared_transactions_declared_away_the_trigger_does_not_ring(server: Server) -> None:
    db = await installed(server, "F", {"database": {"two_phase": "auto"}})
    try:
        if await db.fetchval("SHOW max_prepared_transactions") == "0":
            pytest.skip("this server has no prepared transactions")
        async with db.another() as asleep, db.another() as listener:
            await asleep.fetchval("SELECT pg_advisory_lock(paidwatch.bell())")
            heard: list[Any] = []
            await (await listener.connection()).add_listener("paidwatch", lambda *message: heard.append(message))
            await completes(db, await payment_of(db))
            await listener.fetchval("SELECT 1")
        assert heard == []
    finally:
        await server.drop(db)


async def test_a_user_row_that_the_application_keeps_locked_holds_up_its_own_activation_only(
    watched: Database, told: Sink, start: Start
) -> None:
    """An activation waits for the row a moment, not for ever; the other gaps are told meanwhile."""
    auto = {
        "activation": {"mode": "auto", "require_corroboration": False},
        "database": {"statement_timeout": "5s"},
    }
    locked, other = await shop.add_user(watched), await shop.add_user(watched)
    async with start(QUICK, auto) as daemon, watched.another() as application:
        await daemon.ready()
        async with application.transaction():
            await application.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", locked)
            stuck = await shop.add_payment(watched, locked)
            await shop.complete(watched, stuck)
            await daemon.log("gap.opened", payment=stuck)
            second = await shop.add_payment(watched, other)
            await shop.complete(watched, second)
            await told.until_told([second], word="FIXED")
        await told.until_told([stuck], word="FIXED")
        assert not daemon.events("listen.lost")


async def test_an_application_that_refuses_the_activation_is_told_and_the_rest_goes_on(
    watched: Database, told: Sink, start: Start
) -> None:
    await watched.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'not you' USING ERRCODE = 'insufficient_privilege'; END$$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.email LIKE 'refused%')"
        " EXECUTE FUNCTION public.refuse()"
    )
    refused, other = await shop.add_user(watched, email="refused@example.org"), await shop.add_user(watched)
    async with start(QUICK, {"activation": {"mode": "auto", "require_corroboration": False}}) as daemon:
        await daemon.ready()
        first, second = await shop.add_payment(watched, refused), await shop.add_payment(watched, other)
        await shop.complete(watched, first)
        await shop.complete(watched, second)
        await told.until_told([second], word="FIXED")
        await told.until_told([first])
        assert not daemon.events("listen.lost")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("payment_due_date", "'0044-03-15 BC'"),
        ("payment_due_date", "'20000-01-01'"),
        ("payment_due_date", "'infinity'"),
        ("access_revoked_at", "'-infinity'"),
        ("subscription_tier", "repeat('x', 20)"),
    ],
)
async def test_a_row_that_python_cannot_hold_stops_nobody_else(
    watched: Database, told: Sink, start: Start, column: str, value: str
) -> None:
    odd, other = await shop.add_user(watched), await shop.add_user(watched)
    await watched.execute(f"UPDATE users SET {column} = {value} WHERE id = $1", odd)
    async with start(QUICK) as daemon:
        await daemon.ready()
        strange = await shop.add_payment(watched, odd)
        await shop.complete(watched, strange)
        payment = await shop.add_payment(watched, other)
        await shop.complete(watched, payment)
        await told.until_told([payment])
        assert not daemon.events("listen.lost")


async def test_an_odd_row_in_the_past_does_not_keep_the_first_run_from_starting(
    server: Server, told: Sink, start: Start, watched: Database
) -> None:
    from tests.support.daemon import install  # noqa: PLC0415

    old = await server.create("F")
    user = await shop.add_user(old)
    await shop.add_payment(old, user, status="completed", completed_at=await shop.now(old) - shop.MONTH / 30)
    await old.execute("UPDATE users SET payment_due_date = '20000-01-01'")
    await install(old)
    try:
        async with start(QUICK, database=old) as daemon:
            await daemon.ready()
            payment = await shop.add_payment(old, await shop.add_user(old))
            await shop.complete(old, payment)
            await told.until_told([payment])
    finally:
        await server.drop(old)


async def test_methods_that_differ_in_their_letters_only_do_not_stop_intake(
    watched: Database, told: Sink, start: Start
) -> None:
    twice = {"grace.by_method": {"nowpayments": "100ms", "NOWPayments": "200ms"}}
    async with start(QUICK, twice) as daemon:
        if await daemon_refuses(daemon):
            return
        payment = await payment_of(watched)
        await completes(watched, payment)
        await told.until_told([payment])


async def daemon_refuses(daemon: Any) -> bool:
    """Say whether the configuration was refused at the start, which is an answer too."""
    await daemon.until(lambda: bool(daemon.events("listen.ready")))
    return daemon.process.returncode == 78 or (not daemon.events("listen.ready") and await daemon.ended() == 78)


async def test_asyncpg_raises_on_a_date_beyond_python(watched: Database) -> None:
    """The premise of the tests above."""
    with pytest.raises((ValueError, OverflowError, asyncpg.PostgresError)):
        await watched.fetchval("SELECT '20000-01-01'::timestamptz")


async def test_what_names_a_payment_may_be_of_any_length(database: Database) -> None:
    """An index that is ours must not refuse a row of theirs; one of an earlier version is made anew."""
    await database.execute(
        "ALTER TABLE payment_transactions ALTER transaction_id TYPE text;"
        "ALTER TABLE webhook_logs ALTER payment_id TYPE text"
    )
    for table, column in (("payment_transactions", "transaction_id"), ("webhook_logs", "payment_id")):
        theirs = await database.fetch(
            "SELECT i.indexrelid::regclass::text, n.conname FROM pg_index i"
            " LEFT JOIN pg_constraint n ON n.conindid = i.indexrelid"
            f" JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
            f" WHERE i.indrelid = '{table}'::regclass AND a.attname = '{column}'"
        )
        for index, constraint in theirs:
            drop = f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}"
            await database.execute(drop)
    await database.execute("CREATE INDEX paidwatch_webhooks_payment ON webhook_logs (payment_id)")
    await install(database)
    await install(database)
    long = "".join(chr(97 + number * number % 26) + str(number) for number in range(3000))
    user = await shop.add_user(database)
    await shop.add_payment(database, user, reference=long, status="completed")
    await shop.add_webhook(database, payment=long)
