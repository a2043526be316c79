"""Intake on real connections inside the test, and writers that do to it whatever applications do."""

import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from paidwatch.clock import SystemClock
from paidwatch.config import load
from paidwatch.flow.intake import Intake, Rhythm
from paidwatch.flow.listen import Ears, Locks
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store.connect import Target, connect
from paidwatch.store.inbox import SESSION, Drained, Inbox
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of
from tests.support.postgres import Database

WITHIN = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What blocks to be read, and therefore is read before the loop runs."""

    statements: Statements
    policy: Policy


def equipment(folder: Path) -> Equipment:
    """Read statements and a configuration with an hour of grace."""
    file = folder / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text('[database]\ndsn = "postgresql://nobody@localhost/none"\n[grace]\ndefault = "1h"\n')
    return Equipment(statements=Statements.load(), policy=policy_of(load(file, {}, needs_database=True)))


@dataclass(slots=True, kw_only=True)
class Bench:
    """A running intake and what it has done so far."""

    db: Database
    intake: Intake
    signal: Signal
    sleeps: int = 0
    """How often it fell asleep."""
    rings: int = 0
    taken: int = 0
    drains: int = 0
    _news: anyio.Event = field(default_factory=anyio.Event)

    def news(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until_taken(self, rows: int, *, within: float = WITHIN) -> bool:
        """Wait until so many rows were taken from the inbox in all; False if they were not."""
        with anyio.move_on_after(within):
            while self.taken < rows:
                await self._news.wait()
        return self.taken >= rows

    async def until_asleep(self, *, within: float = WITHIN) -> None:
        """Wait until the bell is held and intake waits to be rung: it is asleep, not about to be."""
        asleep = False
        with anyio.move_on_after(within):
            while not (asleep := self.sleeps > 0 and await bell(self.db, granted=True)):
                await anyio.lowlevel.checkpoint()
        assert asleep, "intake does not fall asleep"

    async def until_asking(self, *, within: float = WITHIN) -> None:
        """Wait until intake waits for the bell behind a writer that shares it."""
        with anyio.move_on_after(within):
            while not await bell(self.db, granted=False):
                await anyio.lowlevel.checkpoint()
        assert await bell(self.db, granted=False), "intake does not ask for the bell"


async def bell(db: Database, *, granted: bool) -> bool:
    """Say whether somebody holds the bell exclusively, or waits to."""
    found = await db.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted = $1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32 | objid::bigint) = paidwatch.bell())",
        granted,
    )
    assert isinstance(found, bool)
    return found


@asynccontextmanager
async def intake(
    db: Database,
    means: Equipment,
    *,
    kind: type[Intake] = Intake,
    linger: timedelta = timedelta(microseconds=200),
    bell_slice: timedelta = timedelta(milliseconds=500),
) -> AsyncIterator[Bench]:
    """Yield a bench whose intake runs until the end of the body; whatever breaks it breaks the test."""
    target = Target(dsn=db.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=60))
    status = Status(clock=SystemClock())
    signal = Signal()
    async with AsyncExitStack() as stack:
        ears, locks = Ears(target, means.statements, signal), Locks(target, means.statements)
        stack.callback(ears.close)
        stack.callback(locks.close)
        await ears.open()
        await locks.open(bell_slice)
        reader = await connect(target, purpose="intake", settings=SESSION)
        stack.callback(reader.terminate)

        def on_rows(drained: Drained) -> None:
            bench.taken += drained.taken
            bench.news()

        class Counted(kind):  # type: ignore[misc, valid-type]
            async def drain(self) -> int:
                bench.drains += 1
                return int(await super().drain())

            async def _fall_asleep(self) -> bool:
                asleep = bool(await super()._fall_asleep())
                bench.sleeps += asleep
                return asleep

        made = Counted(
            inbox=Inbox(reader, means.statements),
            locks=locks,
            signal=signal,
            policy=lambda: means.policy,
            rhythm=Rhythm(linger=linger, drain_limit=timedelta(minutes=1), look=None),
            status=status,
            metrics=Metrics(status=status, version="0", channels=()),
            on_rows=on_rows,
        )
        bench = Bench(db=db, intake=made, signal=signal)

        def on_ring() -> None:
            bench.rings += 1

        ears.on_ring = on_ring
        async with anyio.create_task_group() as group:
            group.start_soon(made.run, name="intake")
            yield bench
            group.cancel_scope.cancel()


ISOLATIONS = ("read_committed", "read_committed", "repeatable_read", "serializable")


class Writer:
    """One session of the application with users of its own, and a ledger of what it really committed."""

    def __init__(self, connection: Any, user: int, dice: random.Random) -> None:
        self.connection = connection
        self.user = user
        self.dice = dice
        self.committed: list[int] = []
        self.undone: list[int] = []

    async def pay(self, status: str = "completed") -> int:
        """Insert one payment."""
        key = await self.connection.fetchval(
            "INSERT INTO payment_transactions"
            " (user_id, plan_id, amount_usd, payment_method, status, created_at, updated_at)"
            " VALUES ($1, 'professional', 14.99, 'nowpayments', $2, now(), now()) RETURNING id",
            self.user,
            status,
        )
        assert isinstance(key, int)
        return key

    async def act(self, longest: float) -> None:
        """Do one thing an application might do; `committed` then has the payments that must be seen."""
        act = self.dice.choice((self._plainly, self._in_a_transaction, self._undone, self._to_a_savepoint, self._idle))
        with suppress(asyncpg.SerializationError):
            kept, undone = await act(longest)
            self.committed += kept
            self.undone += undone

    async def _pause(self, longest: float) -> None:
        await anyio.sleep(self.dice.random() * longest)

    async def _plainly(self, longest: float) -> tuple[list[int], list[int]]:
        return [await self.pay()], []

    async def _in_a_transaction(self, longest: float) -> tuple[list[int], list[int]]:
        async with self.connection.transaction(isolation=self.dice.choice(ISOLATIONS)):
            key = await self.pay("pending")
            await self.connection.execute("UPDATE payment_transactions SET status = 'finished' WHERE id = $1", key)
        return [key], []

    async def _undone(self, longest: float) -> tuple[list[int], list[int]]:
        transaction = self.connection.transaction(isolation=self.dice.choice(ISOLATIONS))
        await transaction.start()
        key = await self.pay()
        await self._pause(longest)
        await transaction.rollback()
        return [], [key]

    async def _to_a_savepoint(self, longest: float) -> tuple[list[int], list[int]]:
        kept, undone = [], []
        async with self.connection.transaction(isolation=self.dice.choice(ISOLATIONS)):
            if self.dice.random() < 0.5:
                kept.append(await self.pay())
            savepoint = self.connection.transaction()
            await savepoint.start()
            undone.append(await self.pay())
            await savepoint.rollback()
            await self._pause(longest)
            if self.dice.random() < 0.5:
                kept.append(await self.pay())
        return kept, undone

    async def _idle(self, longest: float) -> tuple[list[int], list[int]]:
        async with self.connection.transaction(isolation=self.dice.choice(ISOLATIONS)):
            await self._pause(longest)
            key = await self.pay()
            await self._pause(longest)
        return [key], []


@asynccontextmanager
async def writers(db: Database, count: int, seed: int) -> AsyncIterator[list[Writer]]:
    """Yield so many sessions, each with a user."""
    sys.stdout.write(f"the dice's seed is {seed}\n")
    users = await db.fetch(
        "INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status,"
        " subscription_tier, trial_used, created_at, updated_at)"
        " SELECT 'w' || n, 'w' || n, 'x', true, false, 'inactive', 'free', false, now(), now()"
        " FROM generate_series(1, $1::int) n RETURNING id",
        count,
    )
    made: list[Writer] = []
    try:
        for number, user in enumerate(users):
            made.append(Writer(await db.connect(), user["id"], random.Random(seed * 1000 + number)))
        yield made
    finally:
        for writer in made:
            writer.connection.terminate()


async def verify(db: Database, sessions: Sequence[Writer]) -> None:
    """Every committed payment is watched, none of the others is, and nothing is left in the inbox."""
    committed = {key for writer in sessions for key in writer.committed}
    watched = {row["payment_id"] for row in await db.fetch("SELECT payment_id FROM paidwatch.watch")}
    assert committed - watched == set(), "committed and never seen"
    assert watched - committed == set(), "seen and never committed"
    assert await db.fetchval("SELECT count(*) FROM paidwatch.inbox") == 0
