"""A pool for whoever must stand while the database is away: it fails at each use, and not at the start."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import anyio

from paidwatch.errors import Unfit
from paidwatch.store.connect import Target
from paidwatch.store.pool import Database, Session
from paidwatch.store.statements import Statements

T = TypeVar("T")


class OnDemand:
    """A pool that is opened by its first use, and again after it was dropped."""

    def __init__(
        self, target: Target, statements: Statements, *, limit: timedelta, settings: Mapping[str, str], size: int = 4
    ) -> None:
        """Remember where to connect; neither a connection nor a statement takes longer than `limit`."""
        self._target = replace(target, connect_timeout=limit, statement_timeout=limit)
        self._statements = statements
        self._limit = limit
        self._settings = settings
        self._size = size
        self._database: Database | None = None
        self._opening = anyio.Lock()

    async def read(self, body: Callable[[Session], Awaitable[T]]) -> T:
        """Run `body` on a connection, without a transaction of its own. Raises DatabaseError."""
        try:
            return await (await self._open()).read(body)
        except Unfit:
            await self.renew()
            raise

    async def write(self, body: Callable[[Session], Awaitable[T]]) -> T:
        """Run `body` in one transaction. Raises DatabaseError."""
        try:
            return await (await self._open()).write(body, limit=self._limit)
        except Unfit:
            await self.renew()
            raise

    async def renew(self) -> None:
        """Drop the connections; the next use makes new ones."""
        database, self._database = self._database, None
        if database is not None:
            await database.__aexit__(None, None, None)

    async def _open(self) -> Database:
        async with self._opening:
            if self._database is None:
                database = Database(self._target, self._statements, size=self._size, settings=self._settings)
                self._database = await database.__aenter__()
            return self._database
