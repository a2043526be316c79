"""The pool, and the one way to write: short, bounded, and not to be torn apart by a cancellation."""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import asyncpg

from paidwatch.errors import Unreachable, Unreadable
from paidwatch.store.connect import Connection, Target, server_settings, translated, welcome
from paidwatch.store.statements import Statements

T = TypeVar("T")

BY_KEY = {
    # The daemon looks a few keys up in tables of any size, in sessions that live for weeks: no plan for a young table
    # may be kept that reads it whole, and none be made anew for milliseconds at every tick.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
"""Settings of the daemon's sessions; reports, which read much, do without."""
Row = asyncpg.Record
DEADLOCK_TRIES = 4


class Session:
    """One connection and the named statements: what a repository needs."""

    def __init__(self, connection: Connection, statements: Statements) -> None:
        """Bind statements to a connection."""
        self.connection = connection
        self._statements = statements

    async def rows(self, name: str, *arguments: object) -> Sequence[Row]:
        """Run the named statement and return its rows. Raises Unreadable, as its siblings do."""
        with _readable():
            return await self.connection.fetch(self._statements[name], *arguments)

    async def row(self, name: str, *arguments: object) -> Row | None:
        """Run the named statement and return its first row."""
        with _readable():
            return await self.connection.fetchrow(self._statements[name], *arguments)

    async def one(self, name: str, *arguments: object) -> Row:
        """Run the named statement and return its only row; LookupError if there is none."""
        found = await self.row(name, *arguments)
        if found is None:
            message = f"statement {name} returned no row"
            raise LookupError(message)
        return found

    async def value(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  the caller knows the column's type
        """Run the named statement and return the first column of its first row."""
        with _readable():
            return await self.connection.fetchval(self._statements[name], *arguments)

    async def attempt(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run `body` behind a savepoint, so that the transaction goes on after an Unreadable. Raises DatabaseError."""
        with translated():
            async with self.connection.transaction():
                return await body()


@contextmanager
def _readable() -> Generator[None]:
    """A value that PostgreSQL can hold and Python cannot (a date beyond year 9999, say) is one row's trouble."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        message = f"a value cannot be read: {error}"
        raise Unreadable(message, remedy="See paidwatch doctor.") from error


class Database:
    """A small pool on one primary."""

    def __init__(
        self,
        target: Target,
        statements: Statements,
        *,
        size: int = 4,
        least: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Remember where to connect, and what to set in each session; `async with` opens the pool.

        With `least` 0 nothing is connected before it is needed: who serves people goes on while the database is away,
        and each request is told so by DatabaseError.
        """
        self._target = target
        self._statements = statements
        self._size = size
        self._least = least
        self._settings = dict(settings or {})
        self._pool: asyncpg.Pool[Row] | None = None

    async def __aenter__(self) -> Self:
        """Open the least number of connections: with one, a wrong address is told at once."""
        with translated():
            self._pool = await asyncpg.create_pool(
                self._target.dsn,
                min_size=self._least,
                max_size=self._size,
                timeout=self._target.connect_timeout.total_seconds(),
                command_timeout=self._target.statement_timeout.total_seconds(),
                max_inactive_connection_lifetime=0,
                server_settings=server_settings("work", self._target.statement_timeout) | self._settings,
                init=self._welcome,
                reset=_keep_session,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop all connections at once: after a failure a polite goodbye may never end."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _welcome(self, connection: Any) -> None:  # noqa: ANN401  a pool's proxy
        await welcome(self._target, connection)

    async def read(self, body: Callable[[Session], Awaitable[T]]) -> T:
        """Run `body` on a connection, without a transaction of its own. Raises DatabaseError."""
        with translated():
            async with self._acquire() as connection:
                return await body(Session(cast("Connection", connection), self._statements))

    async def write(self, body: Callable[[Session], Awaitable[T]], *, limit: timedelta | None = None) -> T:
        """Run `body` in one transaction, which a cancellation from outside does not interrupt.

        `body` speaks to the database only: no HTTP, no sleep. It has `limit` (default: the statement time-out and five
        seconds) and is rolled back after that. As the loser of a deadlock it is run again, so it must not mind being
        run twice. Raises DatabaseError.
        """
        bound = (limit or self._target.statement_timeout) + timedelta(seconds=5)
        with translated():
            try:
                return await undisturbed(lambda: self._in_transaction(body, bound))
            except TimeoutError as error:
                message = "a transaction took too long and was rolled back"
                raise Unreachable(message, remedy="See the server's load and locks.") from error

    async def _in_transaction(self, body: Callable[[Session], Awaitable[T]], bound: timedelta) -> T:
        result: T
        with anyio.fail_after(bound.total_seconds(), shield=True):
            async with self._acquire() as connection, connection.transaction():
                result = await body(Session(cast("Connection", connection), self._statements))
        return result

    def _acquire(self) -> AbstractAsyncContextManager[Any]:
        if self._pool is None:
            message = "the pool is closed"
            raise Unreachable(message, remedy="")
        return self._pool.acquire(timeout=self._target.connect_timeout.total_seconds())


async def undisturbed(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again where the server chose it as the victim of a deadlock; the last try's error is the caller's."""
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            return await work()
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            continue
    return await work()


async def _keep_session(connection: Any) -> None:  # noqa: ANN401  a pool's proxy
    """Send nothing on release: the daemon leaves no session state behind, and idle means idle."""
