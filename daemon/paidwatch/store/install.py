"""Installing and uninstalling: one SQL script, the same for psql (`install --print`) and for this program."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import asyncpg

from paidwatch.errors import Refused, Unfit
from paidwatch.store import report
from paidwatch.store.connect import Connection, Target, connect, translated
from paidwatch.store.explain import INSTALL, UNINSTALL
from paidwatch.store.installation import VERSION, mapping_text
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements, sql_folder

TRIES = 20
BUILD = timedelta(hours=6)
"""An index on a large table takes its time."""
NO_LIMIT = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
_PAUSE = 1.0
_MIGRATION = re.compile(r"^(?P<number>\d{4})_(?P<name>\w+?)(?P<breaking>_breaking)?\.sql$")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much goes with the schema."""

    watches: int
    alerts: int
    activations: int


def script(mapping: Mapping[str, object]) -> str:
    """Return the whole installation as one transaction of plain SQL."""
    quoted = f"{dollar_quoted(mapping_text(mapping), 'mapping')}::json"
    return "\n".join(
        (
            _file("install/00_begin.sql"),
            _file("install/10_schema.sql"),
            f"SELECT paidwatch.define_keys({quoted});",
            *migrations(),
            _file("triggers.sql"),
            _file("install/20_views.sql"),
            _file("install/30_writes.sql"),
            _file("install/35_webhook_log.sql"),
            _file("install/40_attach.sql"),
            f"SELECT paidwatch.attach({quoted});",
            _file("install/50_facts.sql"),
            "COMMIT;",
        )
    )


def script_for_psql(mapping: Mapping[str, object], *, create_tables: bool) -> str:
    """Return everything that `install` does, for psql; the index at the end is made outside of the transaction."""
    index = Statements.load()["index_statements"].replace("$1::text", dollar_quoted(mapping_text(mapping), "mapping"))
    tables = [_file("install/webhook_logs.sql")] if create_tables else []
    return "\n".join((*tables, script(mapping), f"{index}\n\\gexec"))


def migrations() -> list[str]:
    """Return each migration as a call that runs it once."""
    calls: list[str] = []
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


async def install(target: Target, mapping: Mapping[str, object], *, create_tables: bool, tell: Tell) -> list[str]:
    """Install or bring up to date; return what the mapping names and the database does not have.

    Takes no lock for longer than a moment; waits for writers in short tries. Safe when several run at once. Raises
    DatabaseError, and Refused where the schema is newer than this program.
    """
    connection = await connect(target, purpose="install", settings=NO_LIMIT, no_right=INSTALL)
    session = Session(connection, Statements.load())
    try:
        with translated(no_right=INSTALL):
            await _refuse_downgrade(session)
            if create_tables:

                def told(_connection: object, message: Any) -> None:  # noqa: ANN401  asyncpg's callback
                    tell(str(message.message))

                connection.add_log_listener(told)
                await _in_tries(connection, _file("install/webhook_logs.sql"), tell)
                connection.remove_log_listener(told)
            await _in_tries(connection, script(mapping), tell)
            with anyio.fail_after(BUILD.total_seconds()):
                while not await session.value("index_turn"):  # noqa: ASYNC110  another session gives it
                    await anyio.sleep(_PAUSE)
            for row in await session.rows("index_statements", mapping_text(mapping)):
                if row["statement"].startswith("CREATE"):
                    tell("building an index; writers are not held up")
                await connection.execute(row["statement"], timeout=BUILD.total_seconds())
            missing: list[str] = await session.value("not_watched")
            return missing
    finally:
        connection.terminate()


async def history(target: Target) -> History | None:
    """Return what `uninstall` would take along, None where nothing is installed.

    Raises DatabaseError, and Refused where a daemon leads.
    """
    connection = await connect(target, purpose="uninstall", no_right=UNINSTALL)
    session = Session(connection, Statements.load())
    try:
        with translated(no_right=UNINSTALL):
            if not await session.value("schema_present"):
                return None
            await _refuse_led(session)
            row = await session.one("history")
            return History(watches=row["watches"], alerts=row["alerts"], activations=row["activations"])
    finally:
        connection.terminate()


async def uninstall(target: Target, *, tell: Tell) -> list[str]:
    """Take everything out; return what was kept and why. Raises DatabaseError, and Refused where a daemon leads."""
    connection = await connect(target, purpose="uninstall", settings=NO_LIMIT, no_right=UNINSTALL)
    session = Session(connection, Statements.load())
    try:
        with translated(no_right=UNINSTALL):
            if not await session.value("schema_present"):
                return ["paidwatch was not installed in this database"]
            await _refuse_led(session)
            for row in await session.rows("index_removals"):
                await _in_tries(connection, row["statement"], tell)
            kept: list[str] = []

            def note(_connection: object, message: Any) -> None:  # noqa: ANN401  asyncpg's callback
                kept.append(str(message.message))

            connection.add_log_listener(note)
            await _in_tries(connection, _file("install/uninstall.sql"), tell)
            return kept
    finally:
        connection.terminate()


async def _refuse_downgrade(session: Session) -> None:
    newest = await session.value("schema_version") if await session.value("migrated") else None
    if newest is not None and newest > VERSION:
        message = f"the schema is at version {newest}, newer than this program's {VERSION}"
        raise Refused(message, remedy="Upgrade paidwatch on this machine; a schema is never taken back.")


async def _refuse_led(session: Session) -> None:
    """Without its schema a daemon would go on saying that all is well until it next looks."""
    if (await report.watcher(session)).pid is not None:
        message = "a daemon runs on this installation"
        raise Refused(message, remedy="Stop it first: systemctl stop paidwatch")


async def _in_tries(connection: Connection, text: str, tell: Tell) -> None:
    """Run a script that needs a lock on a busy table: many short waits hold nobody up, one long wait would."""
    for attempt in range(1, TRIES + 1):
        try:
            await connection.execute(text, timeout=BUILD.total_seconds())
        except asyncpg.LockNotAvailableError:
            await connection.execute("ROLLBACK")
            tell(f"a table is busy; trying again ({attempt} of {TRIES})")
            await anyio.sleep(_PAUSE)
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        else:
            return
    message = "a table is locked by a long transaction, and waiting for it would hold up the application"
    raise Unfit(message, remedy="Find it in pg_stat_activity (idle in transaction?), then run it again.")


def _file(path: str) -> str:
    return (sql_folder() / path).read_text(encoding="utf-8")
