"""Installing and uninstalling, as the owner of a database sees it: schema dumps before and after."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from paidwatch.config import load
from paidwatch.store.install import script
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.command import write_watch
from tests.support.daemon import ENVIRONMENT, application, configuration, install, installed, merged, paidwatch, toml
from tests.support.postgres import Database, Server, on_shapes
from tests.support.sink import Sink
from tests.support.watched import Start

every_shape = on_shapes("FX", thorough="LM")


async def program(server: Server, name: str, *arguments: str, text: str = "") -> str:
    """Run one of PostgreSQL's own programs."""
    done = await anyio.run_process(
        [str(server.embedded.bin(name)), *arguments], input=text.encode(), check=False, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def dump(db: Database, *more: str) -> str:
    """Return the whole schema as pg_dump writes it, without the line that is different every time."""
    text = await program(db.server, "pg_dump", "--schema-only", *more, "--dbname", db.dsn)
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def config_file(folder: Path, db: Database, *extra: Any) -> Path:
    file = folder / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(db, None, *extra))
    return file


async def catalogue(db: Database) -> list[Any]:
    """Return every catalogue row that an installation may write, with the transaction that wrote it."""
    return await db.fetch(
        "SELECT 'class' AS what, oid::text, relname::text AS name, xmin::text FROM pg_class"
        " WHERE relnamespace = 'paidwatch'::regnamespace"
        " UNION ALL SELECT 'trigger', oid::text, tgname, xmin::text FROM pg_trigger WHERE tgname LIKE 'paidwatch%'"
        " UNION ALL SELECT 'index', c.oid::text, relname, c.xmin::text FROM pg_class c WHERE relname LIKE 'paidwatch%'"
        " UNION ALL SELECT 'migration', version::text, name, xmin::text FROM paidwatch.migration"
        " UNION ALL SELECT 'installation', installation_id::text, '', xmin::text FROM paidwatch.installation"
        " ORDER BY 1, 2"
    )


@every_shape
async def test_uninstall_leaves_the_schema_byte_for_byte(database: Database, tmp_path: Path) -> None:
    before = await dump(database)
    file = config_file(tmp_path, database)
    await paidwatch("install", config=file)
    assert await dump(database) != before
    await paidwatch("uninstall", config=file)
    assert await dump(database) == before
    await paidwatch("uninstall", config=file)


async def test_a_table_that_install_made_goes_again_unless_it_is_used(database: Database, tmp_path: Path) -> None:
    await database.execute("DROP TABLE webhook_logs")
    before = await dump(database)
    file = config_file(tmp_path, database)
    await paidwatch("install", "--create-tables", config=file)
    await paidwatch("install", "--create-tables", config=file)
    await paidwatch("uninstall", config=file)
    assert await dump(database) == before
    await paidwatch("install", "--create-tables", config=file)
    await database.execute("INSERT INTO webhook_logs (payment_method, webhook_data) VALUES ('nowpayments', '{}')")
    said = await paidwatch("uninstall", config=file)
    assert "webhook_logs" in said.stdout + said.stderr
    assert await database.fetchval("SELECT count(*) FROM webhook_logs") == 1


async def test_nothing_is_taken_out_under_a_running_daemon(watched: Database, start: Start, tmp_path: Path) -> None:
    file = config_file(tmp_path, watched)
    async with start() as daemon:
        await daemon.ready()
        before = await dump(watched)
        for words in ((), ("--yes",)):
            said = await paidwatch("uninstall", *words, config=file, expect=1)
            assert said.stderr == (
                "paidwatch: a daemon runs on this installation\n  → Stop it first: systemctl stop paidwatch\n"
            )
        code, shown = await on_terminal(file, "y\n")
        assert (code, "goes too" in shown) == (1, False), shown
        assert await dump(watched) == before
    await paidwatch("uninstall", config=file)
    assert not await watched.fetchval("SELECT to_regnamespace('paidwatch') IS NOT NULL")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
async def test_a_person_is_asked_before_the_history_goes(
    watched: Database, tmp_path: Path, answer: str, code: int
) -> None:
    user = await shop.add_user(watched)
    for _ in range(2):
        await shop.complete(watched, await shop.add_payment(watched, user))
    await write_watch(watched, outcome="'activated'", closed_at="now()")
    file = config_file(tmp_path, watched)
    ended, shown = await on_terminal(file, answer)
    assert "The history of 2 watches, 0 alerts and 0 activations goes too. Uninstall? [y/N]" in shown
    assert ("nothing was taken out" in shown) == (code == 1)
    assert ended == code, shown
    present = await watched.fetchval("SELECT to_regnamespace('paidwatch') IS NOT NULL")
    assert present == (code == 1)


async def test_with_yes_and_where_nothing_is_installed_nobody_is_asked(watched: Database, tmp_path: Path) -> None:
    file = config_file(tmp_path, watched)
    for words, told in ((("--yes",), "uninstalled"), ((), "was not installed")):
        code, shown = await on_terminal(file, "", *words)
        assert code == 0, shown
        assert told in shown
        assert "[y/N]" not in shown


async def on_terminal(file: Path, answer: str, *words: str) -> tuple[int, str]:
    """Run `uninstall` with a keyboard, type the answer, and return the exit code and what was shown."""

    def run() -> tuple[int, str]:
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer.encode())
            done = subprocess.run(
                [sys.executable, "-m", "paidwatch", "uninstall", *words, "--config", str(file)],
                check=False,
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                env=ENVIRONMENT,
            )
        finally:
            os.close(theirs)
            os.close(ours)
        return done.returncode, done.stdout.decode()

    return await anyio.to_thread.run_sync(run)


AS_OWNER = "paidwatch --dsn 'postgresql://OWNER@HOST/DATABASE'"


async def test_whoever_may_not_install_is_sent_to_the_owner(database: Database, tmp_path: Path) -> None:
    role = "paidwatch_may_not"
    await role_of(database, role)
    try:
        dsn = database.dsn_of(role, "its own password")
        asking = config_file(tmp_path, database, {"database": {"dsn": dsn}})
        remedy = f"  → Run, as the owner of the tables: {AS_OWNER} install\n"
        said = await paidwatch("install", config=asking, expect=2)
        assert "the role lacks a right" in said.stderr
        assert said.stderr.endswith(remedy)
        said = await paidwatch("check", config=asking, expect=2)
        assert "not installed" in said.stderr
        assert said.stderr.endswith(remedy)
        await install(database, {"database": {"runtime_role": role}})
        before = await dump(database)
        said = await paidwatch("uninstall", config=asking, expect=2)
        assert "the role lacks a right" in said.stderr
        assert said.stderr.endswith(f"  → Run it as the owner of the tables: {AS_OWNER} uninstall\n")
        assert await dump(database) == before
    finally:
        await database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@every_shape
async def test_a_second_install_changes_nothing(database: Database) -> None:
    await install(database)
    first, text = await catalogue(database), await dump(database)
    await install(database)
    assert await dump(database) == text
    assert await catalogue(database) == first


@pytest.mark.parametrize("shape", ["F", "X"])
async def test_installs_at_the_same_time_agree(database: Database) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(install, database)
    text = await dump(database)
    await install(database)
    assert await dump(database) == text
    assert await database.fetchval("SELECT count(*) FROM paidwatch.migration") >= 1


@every_shape
async def test_the_printed_script_through_psql_is_the_same_installation(
    server: Server, shape: str, database: Database, tmp_path: Path
) -> None:
    file = config_file(tmp_path, database)
    printed = (await paidwatch("install", "--print", config=file)).stdout
    await program(server, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", database.dsn, text=printed)
    other = await server.create(shape)
    await install(other)
    assert await dump(database) == await dump(other)
    await program(server, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", database.dsn, text=printed)
    assert await dump(database) == await dump(other)
    await server.drop(other)


async def test_a_busy_table_is_waited_for_in_short_tries(database: Database) -> None:
    user = await shop.add_user(database)
    payment = await shop.add_payment(database, user)
    async with (
        database.another() as busy,
        database.another() as seller,
        anyio.create_task_group() as group,
        busy.transaction(),
    ):
        await shop.complete(busy, payment)
        group.start_soon(install, database)
        while not await seller.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await anyio.lowlevel.checkpoint()
        await seller.execute("SET statement_timeout = '10s'")
        await shop.add_payment(seller, user, status="completed")
    assert await database.fetchval("SELECT count(*) FROM paidwatch.installation") == 1


@every_shape
async def test_every_statement_is_prepared_on_every_shape(server: Server, shape: str) -> None:
    statements = await anyio.to_thread.run_sync(Statements.load)
    db = await installed(server, shape)
    connection = await db.connection()
    wrong = {}
    for name, text in statements.items():
        try:
            await connection.prepare(text)
        except asyncpg.PostgresError as error:
            wrong[name] = str(error)
    await server.drop(db)
    assert wrong == {}


async def test_migrations_applied_twice_are_nothing_and_a_newer_schema_is_refused(server: Server) -> None:
    db = await installed(server, "F")
    count = await db.fetchval("SELECT count(*) FROM paidwatch.migration")
    await install(db)
    assert await db.fetchval("SELECT count(*) FROM paidwatch.migration") == count
    await db.execute("INSERT INTO paidwatch.migration (version, name, breaking) VALUES (999, 'later', true)")
    said = await install(db, expect=1)
    assert "newer than this program" in said
    await server.drop(db)


# The role that runs the daemon


async def role_of(db: Database, name: str) -> None:
    await db.execute(f"DROP ROLE IF EXISTS {name}")
    await db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'its own password'")


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_the_runtime_role_can_do_its_work_and_nothing_else(
    database: Database, told: Sink, start: Start, shape: str
) -> None:
    role = f"paidwatch_run_{shape.lower()}"
    await role_of(database, role)
    owner = {"database": {"runtime_role": role}}
    await install(database, owner)
    dsn = database.dsn_of(role, "its own password")
    connection = await database.connect(dsn)
    forbidden = [
        "SELECT hashed_password FROM users",
        "SELECT * FROM users",
        "SELECT * FROM payment_transactions",
        "UPDATE users SET subscription_status = 'active'",
        "UPDATE payment_transactions SET status = 'completed'",
        "INSERT INTO subscription_events (user_id, event_type, event_data) VALUES (1, 'activated', '{}')",
        "DELETE FROM users",
        "UPDATE paidwatch.subscribers SET user_id = user_id",
        "UPDATE paidwatch.payments SET payment_id = payment_id",
        "UPDATE paidwatch.audit SET act = 'nothing'",
        "DELETE FROM paidwatch.audit",
        "UPDATE paidwatch.installation SET mapping = '{}'",
        "CREATE TABLE paidwatch.mine ()",
        "SELECT paidwatch.define_trigger_function('on_payment', '1', true)",
        "CREATE FUNCTION paidwatch.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ]
    allowed = []
    for statement in forbidden:
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            continue
        except asyncpg.PostgresError as error:
            allowed.append(f"{statement}: {error}")
            continue
        allowed.append(statement)
    await connection.close()
    assert allowed == []
    quick = {"grace": {"default": "300ms"}, "activation": {"mode": "auto", "require_corroboration": False}}
    async with start(quick, owner, database=database, dsn=dsn) as daemon:
        await daemon.ready()
        fixable, hopeless = await shop.add_user(database), await shop.add_user(database, active=False)
        first, second = await shop.add_payment(database, fixable), await shop.add_payment(database, hopeless)
        await shop.complete(database, first)
        await shop.complete(database, second)
        await told.until_told([first], word="FIXED")
        await told.until_told([second])
        assert not daemon.events("listen.lost")
    await database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_was_granted_by_hand_keeps_its_views_when_they_are_defined_anew(database: Database) -> None:
    role = "paidwatch_by_hand"
    await role_of(database, role)
    await install(database)
    await database.execute(f"SELECT paidwatch.grant_runtime('{role}')")
    other = {"payments": {"reference": ""}, "users": {"label": ""}, "events": {"table": ""}, "webhooks": {"table": ""}}
    await install(database, other, {"plans": {"default_days": 31}})
    readable = await database.fetchval(
        "SELECT array_agg(relname ORDER BY relname) FROM pg_class"
        " WHERE relnamespace = 'paidwatch'::regnamespace AND relkind = 'v' AND has_table_privilege($1, oid, 'SELECT')",
        role,
    )
    assert {"events", "payments", "plans", "subscribers", "webhooks"} <= set(readable)
    await database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("shape", ["M", "X"])
async def test_the_daemon_watches_other_shops(
    server: Server, shape: str, told: Sink, start: Start, watched: Database
) -> None:
    quick = {"grace": {"default": "300ms"}}
    async with start(quick) as daemon:
        await daemon.ready()
        silent, loud = await shop.add_user(watched), await shop.add_user(watched)
        fine, gap = await shop.add_payment(watched, silent), await shop.add_payment(watched, loud)
        await shop.activate(watched, silent, payment=fine)
        await shop.complete(watched, fine)
        await shop.complete(watched, gap)
        await told.until_told([gap])
        await daemon.closed(watched, fine, "activated")
        await shop.activate(watched, loud, payment=gap)
        await told.until_told([gap], word="RESOLVED")
    assert told.announced() == {(str(gap), "paid_not_active"): 1}


async def test_a_database_without_paidwatch_is_refused_with_the_command_to_type(
    database: Database, tmp_path: Path
) -> None:
    said = await paidwatch("run", config=config_file(tmp_path, database), expect=2)
    assert "HOST/DATABASE' install" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_script_is_one_transaction_and_names_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(
        toml(merged({"database": {"dsn": "postgresql://somebody:hunter-two@nowhere/shop"}}, application("X")))
    )
    text = script(load(file, {}, needs_database=True).mapping())
    assert text.count("\nBEGIN;") == text.count("\nCOMMIT;") == 1
    assert "hunter-two" not in text


async def test_a_role_that_was_granted_by_hand_gets_what_a_later_version_added(server: Server) -> None:
    db = await installed(server, "F")
    await db.execute("CREATE ROLE handy; SELECT paidwatch.grant_runtime('handy')")
    try:
        await db.execute("REVOKE ALL ON paidwatch.silence, paidwatch.alert_history FROM handy")
        await db.execute("REVOKE EXECUTE ON FUNCTION paidwatch.lock_subscriber(paidwatch.user_key) FROM handy")
        await install(db)
        assert await db.fetchval("SELECT has_table_privilege('handy', 'paidwatch.silence', 'INSERT')")
        assert not await db.fetchval(
            "SELECT has_function_privilege('handy', 'paidwatch.lock_subscriber(paidwatch.user_key)', 'EXECUTE')"
        ), "what its owner took away stays away"
    finally:
        await db.execute("DROP OWNED BY handy; DROP ROLE handy")
        await server.drop(db)


# The log of webhooks

FIRST_FORM = """
DROP TABLE webhook_logs;
CREATE TABLE webhook_logs (
    id serial PRIMARY KEY, payment_method varchar(50) NOT NULL, webhook_data jsonb NOT NULL, signature varchar(500),
    signature_valid boolean, processing_status varchar(50) NOT NULL DEFAULT 'received', error_message text,
    created_at timestamp DEFAULT now()
)
"""
OLD_INSERT = """
INSERT INTO webhook_logs (payment_method, webhook_data, signature, signature_valid, processing_status, error_message,
    created_at) VALUES ('nowpayments', '{}', 'abc', true, 'received', NULL, now())
"""
LATER_COLUMNS = {"webhook_type", "headers", "user_id", "payment_id", "plan_id", "processed_at"}


async def test_a_log_of_the_first_form_is_extended_and_taken_back(database: Database, tmp_path: Path) -> None:
    await database.execute(FIRST_FORM)
    before, file = await dump(database), config_file(tmp_path, database)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: paidwatch("install", "--create-tables", config=file))
    said = await paidwatch("install", "--create-tables", config=file)
    assert "added to table" not in said.stdout + said.stderr
    await database.execute(OLD_INSERT)
    row = await database.fetchrow("SELECT * FROM webhook_logs")
    assert row is not None
    assert {name for name, value in row.items() if value is None} >= LATER_COLUMNS
    await paidwatch("uninstall", config=file)
    assert await dump(database) == before
    assert await database.fetchval("SELECT count(*) FROM webhook_logs") == 1

    said = await paidwatch("install", "--create-tables", config=file)
    assert all(column in said.stdout + said.stderr for column in LATER_COLUMNS)
    await database.execute("UPDATE webhook_logs SET payment_id = 'np-1'")
    said = await paidwatch("uninstall", config=file)
    assert "webhook_logs.payment_id" in said.stdout + said.stderr
    assert await database.fetchval("SELECT payment_id FROM webhook_logs") == "np-1"


async def test_a_log_that_is_made_takes_the_inserts_of_both_forms(database: Database, tmp_path: Path) -> None:
    user = await shop.add_user(database)
    await database.execute("DROP TABLE webhook_logs")
    said = await paidwatch("install", "--create-tables", config=config_file(tmp_path, database))
    assert "created table public.webhook_logs" in said.stdout + said.stderr
    await database.execute(OLD_INSERT)
    await database.execute(
        "INSERT INTO webhook_logs (payment_method, webhook_type, webhook_data, headers, user_id, payment_id, plan_id)"
        " VALUES ('stripe', 'invoice.paid', '{}', '{}', $1, 'pi_1', 'professional')",
        user,
    )
    await database.execute("DELETE FROM users WHERE id = $1", user)
    assert await database.fetchval("SELECT count(*) FROM webhook_logs WHERE user_id IS NULL") == 2
    assert await database.fetchval("SELECT count(*) FROM paidwatch.inbox WHERE kind = 'W'") == 2
