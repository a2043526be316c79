"""Follow: what customers wait for is looked up, and looked at again whenever something changed; nothing is polled.

One connection serves everybody who asks: it LISTENs for the hints that intake and the verdicts give at commit, and
looks all ids up together, however many there are. It exists only while somebody asks or waits, also on a standby,
because the hints come from whichever daemon leads. A lock that it shares tells intake that there is somebody to tell,
so that ordinary payments cost no NOTIFY. Looks that a hint asked for take at most a fifth of the time.
"""

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Final

import anyio

from paidwatch.core.session import Asked, Sight
from paidwatch.core.timing import backoff
from paidwatch.errors import DatabaseError, Unreachable, Unreadable
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ports import Clock
from paidwatch.store import sessions
from paidwatch.store.connect import Connection, Target, connect, translated
from paidwatch.store.live import FEED
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.sessions import Found
from paidwatch.store.statements import Statements

IDLE: Final = timedelta(seconds=60)
"""How long the connection outlives the last who asked."""
LEAST: Final = timedelta(milliseconds=50)
"""However many hints come, looks are at least this far apart."""
REST: Final = 4
"""After a look for everybody there is a pause of so many times as long as it took."""
ANSWER_WITHIN: Final = timedelta(seconds=5)
"""Who asks waits no longer."""
STATEMENT: Final = timedelta(seconds=4)
BATCH: Final = 200
"""Ids of one statement."""
MOST: Final = 1000
"""Who asks at the same time; more are sent away."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Ask:
    asked: Sequence[Asked]
    found: Sequence[Found] = ()
    error: DatabaseError | None = None
    over: anyio.Event = field(default_factory=anyio.Event)


class Following:
    """One who waits: holds the last sight, and no queue of them."""

    def __init__(self, asked: Asked) -> None:
        """Start without a sight."""
        self.asked = asked
        self.sight: Sight | None = None
        self._news = Signal()

    async def news(self, within: timedelta) -> Sight | None:
        """Wait for a sight that differs from the one before; None if there was none `within`."""
        return self.sight if await self._news.wait(within) else None

    def seen(self, sight: Sight) -> None:
        """Take a new look; the pace of polls alone is no news."""
        if self.sight is None or self.sight.state is not sight.state:
            self.sight = sight
            self._news.ring()


class Follow:
    """Looks ids up for the pages; `run` is one task, the others are called by whoever serves a request."""

    def __init__(
        self, *, target: Target, statements: Statements, policy: Callable[[], Policy], clock: Clock, log: Log
    ) -> None:
        """Bind the database and the owner's choices; nothing is opened."""
        self._target = target
        self._statements = statements
        self._policy = policy
        self._clock = clock
        self._log = log
        self._wake = Signal()
        self._asks: list[_Ask] = []
        self._followers: set[Following] = set()
        self._stale = False
        self._rest_until = timedelta()
        self._answered = False
        self._away: DatabaseError | None = None
        """Why there is no answer before the next try."""

    async def look(self, asked: Sequence[Asked]) -> Sequence[Found]:
        """Return what the ids lead to. Raises DatabaseError, also when the answer takes too long."""
        if self._away is not None:
            raise self._away
        if len(self._asks) >= MOST:
            message = "too many ask at the same time"
            raise Unreachable(message)
        ask = _Ask(asked=asked)
        self._asks.append(ask)
        self._wake.ring()
        with anyio.move_on_after(ANSWER_WITHIN.total_seconds()):
            await ask.over.wait()
        if ask.error is not None:
            raise ask.error
        if not ask.over.is_set():
            message = "the database does not answer"
            raise Unreachable(message)
        return ask.found

    @contextmanager
    def follow(self, asked: Asked) -> Generator[Following]:
        """Follow an id while the block lasts; the first sight comes at once. Raises DatabaseError if none can come."""
        if self._away is not None:
            raise self._away
        following = Following(asked)
        self._followers.add(following)
        self._wake.ring()
        try:
            yield following
        finally:
            self._followers.discard(following)

    async def run(self) -> None:
        """Serve until cancelled."""
        failures = 0
        while True:
            if not self._followers:
                await self._wake.wait()
            self._answered = False
            try:
                await self._serve()
            except DatabaseError as error:
                failures = 1 if self._answered else failures + 1
                if failures == 1:
                    self._log.warning(
                        "session.unavailable", "payments cannot be looked up for their customers", error=error.message
                    )
                self._away = error
                self._fail(error)
                await self._clock.sleep(backoff(failures, roll=random.uniform(0.5, 1)))  # noqa: S311  jitter is no secret
                self._away = None
            else:
                failures = 0

    async def _serve(self) -> None:
        """Serve on one connection, until nobody has asked for a while. Raises DatabaseError."""
        target = Target(
            dsn=self._target.dsn,
            connect_timeout=min(self._target.connect_timeout, ANSWER_WITHIN),
            statement_timeout=STATEMENT,
            greet=self._target.greet,
        )
        connection = await connect(target, purpose="sessions", settings=BY_KEY)
        try:
            connection.add_termination_listener(self._heard)
            with translated():
                await connection.add_listener(FEED, self._heard)
                await connection.add_listener(sessions.CUSTOMERS, self._heard)
                await connection.execute(self._statements["await_news"])
            # What was hinted at before the subscription stood is in the first look, which comes after it.
            self._stale = True
            await self._answer_all(connection)
        finally:
            connection.terminate()

    async def _answer_all(self, connection: Connection) -> None:
        session = Session(connection, self._statements)
        wanted_at = self._clock.monotonic()
        while True:
            if connection.is_closed():
                message = "the connection to the database was lost"
                raise Unreachable(message)
            if self._followers or self._asks:
                wanted_at = self._clock.monotonic()
            await self._answer(session)
            # Hints alone keep nothing open: while it is, every news costs whoever tells it a NOTIFY.
            wait = wanted_at + IDLE - self._clock.monotonic()
            if self._followers:
                wait = max(self._rest_until - self._clock.monotonic(), timedelta()) if self._stale else timedelta.max
            elif wait <= timedelta() and not self._asks:
                return
            await self._wake.wait(None if wait == timedelta.max else wait)

    async def _answer(self, session: Session) -> None:
        """Look for those who ask, for followers that are new, and, where something changed, for all of them."""
        begun = self._clock.monotonic()
        everybody = self._stale and begun >= self._rest_until
        asks = list(self._asks)
        followers = [one for one in self._followers if everybody or one.sight is None]
        self._stale = self._stale and not everybody
        found = await self._look({it for ask in asks for it in ask.asked} | {one.asked for one in followers}, session)
        self._answered = True
        for ask in asks:
            self._asks.remove(ask)
            ask.found = [found[it] for it in ask.asked]
            ask.over.set()
        for one in followers:
            one.seen(found[one.asked].sight)
        if everybody:
            now = self._clock.monotonic()
            self._rest_until = now + max(LEAST, REST * (now - begun))

    async def _look(self, wanted: Iterable[Asked], session: Session) -> dict[Asked, Found]:
        policy = self._policy()
        found: dict[Asked, Found] = {}
        rest = iter(wanted)
        while batch := list(islice(rest, BATCH)):
            try:
                found |= zip(batch, await self._ask(session, batch, policy), strict=True)
            except Unreadable:
                for one in batch:
                    found[one] = await self._single(session, one, policy)
        return found

    async def _single(self, session: Session, one: Asked, policy: Policy) -> Found:
        """Look one id up by itself: a row that cannot be read is its own trouble and nobody else's."""
        try:
            return (await self._ask(session, [one], policy))[0]
        except Unreadable as error:
            self._log.warning("session.unreadable", "a payment cannot be read for its customer", error=error.message)
            return sessions.NOTHING

    async def _ask(self, session: Session, batch: Sequence[Asked], policy: Policy) -> Sequence[Found]:
        with translated():
            return await sessions.look(session, batch, policy.rules, policy.graces())

    def _fail(self, error: DatabaseError) -> None:
        for ask in self._asks:
            ask.error = error
            ask.over.set()
        self._asks.clear()

    def _heard(self, *_: object) -> None:
        self._stale = True
        self._wake.ring()
