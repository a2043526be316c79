"""A PostgreSQL server for the tests, and a fresh database per test, copied from a template."""

import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
import asyncpg
import pytest

from paidwatch.ops.embedded import EmbeddedServer

SHAPES = ("F", "L", "M", "X")


def on_shapes(usual: str, *, thorough: str) -> pytest.MarkDecorator:
    """Run a test on the `usual` shapes, and in `make test-all` on the others as well: a letter each."""
    others = [pytest.param(shape, marks=pytest.mark.thorough) for shape in thorough]
    return pytest.mark.parametrize("shape", [*usual, *others])


SHAPE_FILES = Path(__file__).parents[1] / "shapes"

TEST_DSN = "PAIDWATCH_TEST_DSN"
"""Names a running server; its user must be a superuser. Tests that stop the server are skipped then."""
TEST_PG_BIN = "PAIDWATCH_TEST_PG_BIN"
"""Names a `bin` directory of another PostgreSQL to run the tests on."""

FAST = {
    "autovacuum_naptime": "1h",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "max_wal_size": "4GB",
    "shared_preload_libraries": "pg_stat_statements",
}
"""A test's server may lose everything when the machine loses power, and nothing when the server is killed."""


MEMORY = Path("/dev/shm")
ROOMY = 2 << 30


def _base() -> Path | None:
    """Return a directory in memory, if there is plenty: copying a database takes a quarter of the time there."""
    if not MEMORY.is_dir():
        return None
    room = os.statvfs(MEMORY)
    return MEMORY if room.f_bavail * room.f_frsize >= ROOMY else None


def embedded(settings: Mapping[str, str] | None = None, *, copy_of: EmbeddedServer | None = None) -> EmbeddedServer:
    """Return a server, not yet started, of the PostgreSQL that the tests are to run on."""
    binaries = os.environ.get(TEST_PG_BIN)
    return EmbeddedServer(
        settings={**FAST, **(settings or {})},
        binaries=Path(binaries) if binaries else None,
        base=_base(),
        copy_of=copy_of,
    )


class Database:
    """One database of the server under test, and a connection to it that is made when it is first used."""

    def __init__(self, server: "Server", name: str, shape: str) -> None:
        self.server = server
        self.name = name
        self.shape = shape
        self.columns: dict[str, dict[str, str]] = {}
        """Types of the columns of the shop's tables, as far as the shop's helpers have asked."""
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._lock = anyio.Lock()

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def dsn_of(self, user: str, password: str) -> str:
        """Return the address for another role, over TCP where the server is our own."""
        return self.server.dsn(self.name, user=user, password=password)

    async def execute(self, sql: str, *values: object) -> str:
        async with self._lock:
            return await (await self.connection()).execute(sql, *values)

    async def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        async with self._lock:
            await (await self.connection()).executemany(sql, rows)

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self._lock:
            return await (await self.connection()).fetch(sql, *values)

    async def fetchrow(self, sql: str, *values: object) -> asyncpg.Record | None:
        async with self._lock:
            return await (await self.connection()).fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: object) -> Any:
        async with self._lock:
            return await (await self.connection()).fetchval(sql, *values)

    async def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return this object's own connection, a new one if the last was lost."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.connect()
        return self._connection

    async def connect(self, dsn: str | None = None, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        """Return one more connection; the caller closes it."""
        return await asyncpg.connect(dsn or self.dsn, timeout=20, command_timeout=60, **options)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[Self]:
        """Yield the same database with a connection of its own: another client of it."""
        other = type(self)(self.server, self.name, self.shape)
        try:
            yield other
        finally:
            other.close()

    @asynccontextmanager
    async def transaction(self, isolation: str | None = None) -> AsyncIterator[None]:
        """Everything this object does inside is one transaction, rolled back when the body raises."""
        connection = await self.connection()
        async with connection.transaction(isolation=isolation):  # type: ignore[arg-type]
            yield

    def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def aclose(self) -> None:
        """Take leave of the server, so that dropping the database need not wait until it ends this session by force."""
        if self._connection is not None and not self._connection.is_closed():
            with anyio.move_on_after(2):
                await self._connection.close()
        self.close()


class Server:
    """The server under test: our own embedded one, or one that runs already."""

    def __init__(self, address: str | EmbeddedServer) -> None:
        self.address = address
        self._templates: dict[str, str] = {}
        self._prefix = f"paidwatch_test_{secrets.token_hex(4)}"
        self._count = 0

    @property
    def embedded(self) -> EmbeddedServer:
        """Our own server, to be asked for its programs and its log."""
        if isinstance(self.address, str):
            message = f"this test needs a server of its own; unset {TEST_DSN}"
            raise TypeError(message)
        return self.address

    def dsn(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        if isinstance(self.address, EmbeddedServer):
            return self.address.dsn(database, user=user or "postgres", password=password)
        parts = urlsplit(self.address)
        place = parts.netloc.rpartition("@")[2]
        login = parts.netloc.rpartition("@")[0] if user is None else f"{quote(user)}:{quote(password or '')}"
        return urlunsplit(parts._replace(netloc=f"{login}@{place}", path=f"/{database}"))

    async def administer(self, sql: str) -> None:
        """Run one statement beside all databases."""
        connection = await asyncpg.connect(self.dsn(), timeout=20, command_timeout=60)
        try:
            await connection.execute(sql)
        finally:
            connection.terminate()

    async def create(self, shape: str) -> Database:
        """Return a fresh database with the tables of `shape`; "" is an empty one."""
        if shape not in self._templates:
            template = await self._new("template0", shape)
            if shape:
                await template.execute((SHAPE_FILES / f"{shape}.sql").read_text(encoding="utf-8"))
            await template.aclose()
            self._templates[shape] = template.name
        return await self._new(self._templates[shape], shape)

    async def _new(self, template: str, shape: str) -> Database:
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        await self.administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return Database(self, name, shape)

    async def drop(self, database: Database) -> None:
        """Remove a database with whatever the test left in it: sessions, prepared transactions."""
        await database.aclose()
        try:
            await self.administer(f'DROP DATABASE "{database.name}" WITH (FORCE)')
        except asyncpg.ObjectInUseError:
            for row in await database.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
                await database.execute(f"ROLLBACK PREPARED '{row['gid']}'")
            await self.administer(f'DROP DATABASE "{database.name}" WITH (FORCE)')
        finally:
            database.close()

    async def drop_templates(self) -> None:
        """Remove the templates, so that a server which is not ours is left as it was."""
        for name in self._templates.values():
            await self.administer(f'DROP DATABASE "{name}" WITH (FORCE)')
