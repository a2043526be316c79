"""A database that is made for a drill and removed after it, beside the application's own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from anyio import to_thread

from paidwatch.errors import DatabaseError, Refused
from paidwatch.store.connect import Target, connect, translated
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements

PREFIX: Final = "paidwatch_drill_"
ABANDONED: Final = timedelta(minutes=10)
"""A drill takes a minute; what is older was left by one whose machine died."""
_NAMES_A_DATABASE: Final = frozenset({"dbname", "database"})


def new_name(now: datetime) -> str:
    """Return a name that tells when the database was made."""
    return f"{PREFIX}{int(now.astimezone(UTC).timestamp())}_{token_hex(4)}"


def within(target: Target, name: str) -> Target:
    """Return the same server, its other database; nobody greets there."""
    parts = urlsplit(target.dsn)
    rest = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in _NAMES_A_DATABASE]
    # urlunsplit leaves the two slashes out where there is no host.
    dsn = f"{parts.scheme}://{parts.netloc}" + urlunsplit(("", "", f"/{name}", urlencode(rest, safe="/,"), ""))
    return replace(target, dsn=dsn, greet=None)


async def make(target: Target, name: str) -> None:
    """Make an empty database on the server of `target`.

    Raises Refused where the role may not, DatabaseError where the server cannot be asked.
    """
    async with _session(target) as session:
        row = await session.one("drill_database", name)
        try:
            await session.connection.execute(row["make"])
        except asyncpg.InsufficientPrivilegeError:
            message = "the role may not make databases, and a drill has one of its own"
            remedy = "ALTER ROLE … CREATEDB; or --dsn with a role that may; or paidwatch drill --embedded"
            raise Refused(message, remedy=remedy) from None


async def remove(target: Target, name: str) -> None:
    """Remove it with whoever is connected to it. Raises DatabaseError."""
    async with _session(target) as session:
        row = await session.one("drill_database", name)
        await session.connection.execute(row["remove"])


async def remove_abandoned(target: Target, now: datetime) -> list[str]:
    """Remove what drills left whose machine died; return their names. Raises DatabaseError."""
    removed: list[str] = []
    async with _session(target) as session:
        before = int((now - ABANDONED).timestamp())
        for row in await session.rows("drill_leftovers", before):
            found = await session.one("drill_database", row["name"])
            try:
                with translated():
                    await session.connection.execute(found["remove"])
            except DatabaseError:
                continue  # somebody else is at it
            removed.append(row["name"])
    return removed


@asynccontextmanager
async def _session(target: Target) -> AsyncGenerator[Session]:
    statements = await to_thread.run_sync(Statements.load)
    connection = await connect(target, purpose="drill")
    try:
        with translated():
            yield Session(connection, statements)
    finally:
        connection.terminate()
