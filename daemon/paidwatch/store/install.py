"""Installing and uninstalling: one SQL script, the same for psql (`install --print`) and for this program."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta

import anyio
import asyncpg

from paidwatch.errors import Refused, Unfit
from paidwatch.store.connect import Connection, Target, connect, translated
from paidwatch.store.installation import VERSION, mapping_text
from paidwatch.store.statements import sql_folder

LOCK_TIMEOUT = timedelta(seconds=3)
"""A trigger needs a lock that keeps writers out; whoever waits for it keeps them out too, so the wait is short."""
TRIES = 20
NO_LIMIT = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
"""An index on a large table takes its time."""
BUILD = timedelta(hours=6)
_PAUSE = 1.0
_MIGRATION = re.compile(r"^(?P<number>\d{4})_(?P<name>\w+?)(?P<breaking>_breaking)?\.sql$")


def script(mapping: Mapping[str, object]) -> str:
    """Return the whole installation as one transaction of plain SQL."""
    folder = sql_folder()
    quoted = dollar_quoted(mapping_text(mapping), "mapping") + "::json"

    def file(path: str) -> str:
        return (folder / path).read_text(encoding="utf-8")

    return "\n".join(
        (
            "-- The installation of paidwatch. It may be run again at any time.",
            "BEGIN;",
            "SET LOCAL client_min_messages = warning;",
            f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT.seconds}s';",
            "SELECT pg_advisory_xact_lock(8097873591115412579 + 8);",
            file("install/10_schema.sql"),
            f"SELECT paidwatch.define_keys({quoted});",
            *migrations(),
            file("triggers.sql"),
            file("install/20_views.sql"),
            file("install/30_writes.sql"),
            file("install/40_attach.sql"),
            f"SELECT paidwatch.attach({quoted});",
            file("install/50_facts.sql"),
            "COMMIT;",
        )
    )


def index_script(mapping: Mapping[str, object]) -> str:
    """Return the statement that asks which index to make; what it answers cannot run in a transaction (psql: gexec)."""
    quoted = dollar_quoted(mapping_text(mapping), "mapping") + "::json"
    return f"SELECT statement FROM paidwatch.index_statement({quoted}) AS statement"  # noqa: S608  quoted above


def migrations() -> list[str]:
    """Return each migration as a call that runs it once."""
    calls = []
    for source in sorted((sql_folder() / "migrations").iterdir(), key=lambda entry: entry.name):
        named = _MIGRATION.match(source.name)
        if named is None:
            continue
        text = dollar_quoted(source.read_text(encoding="utf-8"), "migration")
        breaking = "true" if named["breaking"] else "false"
        calls.append(f"SELECT paidwatch.migrate({int(named['number'])}, '{named['name']}', {breaking}, {text});")
    return calls


def dollar_quoted(text: str, tag: str) -> str:
    """Quote any text for SQL by a tag that it does not contain."""
    while f"${tag}$" in text:
        tag += "_"
    return f"${tag}${text}${tag}$"


async def install(
    target: Target, mapping: Mapping[str, object], *, create_tables: bool, tell: Callable[[str], None]
) -> list[str]:
    """Install or bring up to date; return what the mapping names and the database does not have.

    Takes no lock for longer than a moment; waits for writers in short tries. Safe when several run at once. Raises
    DatabaseError.
    """
    connection = await connect(target, purpose="install", settings=NO_LIMIT)
    try:
        with translated():
            await _refuse_downgrade(connection)
            if create_tables:
                await _in_tries(
                    connection, (sql_folder() / "install/webhook_logs.sql").read_text(encoding="utf-8"), tell
                )
            await _in_tries(connection, script(mapping), tell)
            await _make_index(connection, mapping, tell)
            missing: list[str] = await connection.fetchval(
                "SELECT paidwatch.not_watched(mapping) FROM paidwatch.installation"
            )
            return missing
    finally:
        connection.terminate()


async def uninstall(target: Target, *, tell: Callable[[str], None]) -> list[str]:
    """Take everything out; return what was kept and why. Raises DatabaseError."""
    connection = await connect(target, purpose="uninstall", settings=NO_LIMIT)
    try:
        with translated():
            if not await connection.fetchval("SELECT to_regnamespace('paidwatch') IS NOT NULL"):
                return ["paidwatch was not installed in this database"]
            for name in await connection.fetch("SELECT i.statement FROM paidwatch.index_removals() AS i (statement)"):
                await _in_tries(connection, name["statement"], tell)
            kept: list[str] = []
            text = (sql_folder() / "install/uninstall.sql").read_text(encoding="utf-8")
            connection.add_log_listener(lambda _connection, message: kept.append(str(message.message)))
            await _in_tries(connection, text, tell)
            return kept
    finally:
        connection.terminate()


async def _refuse_downgrade(connection: Connection) -> None:
    if not await connection.fetchval("SELECT to_regclass('paidwatch.migration') IS NOT NULL"):
        return
    newest = await connection.fetchval("SELECT max(version) FROM paidwatch.migration")
    if newest is not None and newest > VERSION:
        message = f"the schema is at version {newest}, newer than this program's {VERSION}"
        raise Refused(message, remedy="Upgrade paidwatch on this machine; a schema is never taken back.")


async def _in_tries(connection: Connection, text: str, tell: Callable[[str], None]) -> None:
    """Run a script that needs a lock on a busy table: many short waits hold nobody up, one long wait would."""
    for attempt in range(1, TRIES + 1):
        try:
            await connection.execute(text, timeout=BUILD.total_seconds())
        except asyncpg.LockNotAvailableError:
            await connection.execute("ROLLBACK")
            if attempt == TRIES:
                message = "a table is locked by a long transaction, and waiting for it would hold up the application"
                raise Unfit(
                    message, remedy="Find it in pg_stat_activity (idle in transaction?), then run it again."
                ) from None
            tell(f"a table is busy; trying again ({attempt} of {TRIES})")
            await anyio.sleep(_PAUSE)
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        else:
            return


async def _make_index(connection: Connection, mapping: Mapping[str, object], tell: Callable[[str], None]) -> None:
    """Make the index that `check` and reconciliation read, without keeping writers out."""
    for row in await connection.fetch(index_script(mapping)):
        tell("building the index of recent paid payments; writers are not held up")
        await connection.execute(row["statement"], timeout=BUILD.total_seconds())
