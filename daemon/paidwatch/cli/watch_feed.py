"""The feed of the live view: looks when the daemon hints, and every few seconds for what nobody can hint at.

A daemon that died sends no hint, so the view asks by itself as well; that is the viewer's load, not the daemon's. A
lost database is said at once, and looked for again with growing pauses.
"""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from paidwatch.config import Settings
from paidwatch.core.guards import Mode
from paidwatch.core.timing import backoff
from paidwatch.errors import DatabaseError
from paidwatch.flow.signal import Signal
from paidwatch.ports import Clock
from paidwatch.store import installation, live, report
from paidwatch.store.connect import connect, translated
from paidwatch.store.live import Frame
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements
from paidwatch.wiring import target_of

LOOK_EVERY: Final = timedelta(seconds=5)
LEAST: Final = timedelta(milliseconds=250)
"""However many hints come, looks are at least this far apart."""
ANSWER_WITHIN: Final = timedelta(seconds=10)
"""A database that takes longer counts as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look, and when it was taken on our own clock."""

    frame: Frame
    at: timedelta


class Viewer(Protocol):
    """Who is told."""

    def seen(self, seen: Seen) -> None:
        """Take a new look."""
        ...

    def lost(self, error: DatabaseError) -> None:
        """Learn that the database cannot be asked at present; said again at every try."""
        ...


class Feed:
    """Keeps a viewer up to date."""

    def __init__(
        self, *, settings: Settings, statements: Statements, clock: Clock, most: int, least: timedelta = LEAST
    ) -> None:
        """Take the configuration; `most` is how long lists may be, `least` the least time between two looks."""
        self._settings = settings
        self._statements = statements
        self._target = target_of(settings, statement_timeout=ANSWER_WITHIN)
        self._clock = clock
        self._least = max(least, LEAST)
        self._most = most
        self._hint = Signal()
        self._answered = False

    async def once(self) -> Seen:
        """Take a single look. Raises DatabaseError."""
        async with self._connected() as session:
            return await self._look(session)

    async def run(self, viewer: Viewer) -> None:
        """Look until cancelled. Raises DatabaseError if there never was an answer: then the address is wrong."""
        failures = 0
        ever = False
        while True:
            self._answered = False
            try:
                await self._follow(viewer)
            except DatabaseError as error:
                ever = ever or self._answered
                if not ever:
                    raise
                failures = 1 if self._answered else failures + 1
                viewer.lost(error)
            await self._clock.sleep(backoff(failures, roll=random.uniform(0.5, 1)))  # noqa: S311  jitter is no secret

    async def _follow(self, viewer: Viewer) -> None:
        async with self._connected() as session:
            session.connection.add_termination_listener(self._heard)
            await session.connection.add_listener(live.FEED, self._heard)
            while True:
                viewer.seen(await self._look(session))
                self._answered = True
                await self._clock.sleep(self._least)
                await self._hint.wait(LOOK_EVERY)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Session]:
        """Connect to an installation that fits; what the body asks raises DatabaseError as well."""
        connection = await connect(self._target, purpose="watch", settings=report.SESSION)
        try:
            with translated():
                session = Session(connection, self._statements)
                found = await installation.installed(session, self._settings.mapping())
                installation.refuse_unfit(found)
                await report.keys(session)
                yield session
        finally:
            connection.terminate()

    async def _look(self, session: Session) -> Seen:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        mode = Mode(self._settings.activation.mode)
        found = await live.frame(session, tuple(self._settings.channels), today, self._most, mode)
        return Seen(frame=found, at=self._clock.monotonic())

    def _heard(self, *_: object) -> None:
        self._hint.ring()
