"""The doorbell: no payment is lost and none waits, whatever writers do while intake falls asleep and wakes up."""

import random
from datetime import timedelta
from typing import Any

import anyio
import pytest

from paidwatch.flow.intake import Intake
from tests.support import shop
from tests.support.postgres import Database
from tests.support.torture import Bench, Equipment, Writer, bell, equipment, intake, verify, writers
from tests.support.watched import Start

STORM = 5.0
ROUNDS = 5.0
"""Seconds."""
BOUND = timedelta(seconds=5)
"""No row waits longer while intake is up; generous, because the machine has other things to do."""


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Equipment:
    return equipment(tmp_path_factory.mktemp("doorbell"))


class WithoutTheLastDrain(Intake):
    """What must not be: asleep as soon as the bell is granted."""

    async def _fall_asleep(self) -> bool:
        return await self._locks.hold_bell()


class WithoutTheBell(Intake):
    """What must not be either: asleep without holding anything that writers could notice."""

    async def _fall_asleep(self) -> bool:
        await self.drain()
        return True

    async def _wake_up(self) -> None:
        await self.drain()


# Interleavings, one by one


async def begun(db: Database, user: int) -> tuple[Any, Any, int]:
    """Return a session with a payment in an open transaction, and the transaction."""
    connection = await db.connect()
    transaction = connection.transaction()
    await transaction.start()
    writer = Writer(connection, user, random.Random(0))
    return connection, transaction, await writer.pay()


async def watches(db: Database) -> set[int]:
    return {row["payment_id"] for row in await db.fetch("SELECT payment_id FROM paidwatch.watch")}


async def test_asleep_a_commit_rings(watched: Database, means: Equipment) -> None:
    user = await shop.add_user(watched)
    async with intake(watched, means) as bench:
        await bench.until_asleep()
        payment = await shop.add_payment(watched, user, status="completed")
        assert await bench.until_taken(1)
        assert await watches(watched) == {payment}
        assert bench.rings == 1


@pytest.mark.parametrize(("kind", "left"), [(Intake, 0), (WithoutTheLastDrain, 1)])
async def test_a_writer_that_shared_the_bell_is_seen_by_the_last_drain(
    watched: Database, means: Equipment, kind: type[Intake], left: int
) -> None:
    """The mutation: without the last drain this payment would lie in the inbox until somebody else rings."""
    connection, transaction, payment = await begun(watched, await shop.add_user(watched))
    async with intake(watched, means, kind=kind, bell_slice=timedelta(seconds=30)) as bench:
        await bench.until_asking()
        await transaction.commit()
        await bench.until_asleep()
        assert bench.rings == 0
        assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") == left
        assert await watches(watched) == ({payment} if left == 0 else set())
    connection.terminate()


async def test_while_one_writer_takes_its_time_the_others_are_served(watched: Database, means: Equipment) -> None:
    user = await shop.add_user(watched)
    connection, transaction, slow = await begun(watched, user)
    async with intake(watched, means, bell_slice=timedelta(seconds=30)) as bench:
        await bench.until_asking()
        quick = [await shop.add_payment(watched, user, status="completed") for _ in range(3)]
        assert await bench.until_taken(3)
        assert await watches(watched) == set(quick)
        assert bench.rings == 3
        await transaction.commit()
        assert await bench.until_taken(4)
        assert await watches(watched) == {slow, *quick}
    connection.terminate()


async def test_a_writer_slower_than_a_slice_of_waiting_is_seen_too(watched: Database, means: Equipment) -> None:
    connection, transaction, payment = await begun(watched, await shop.add_user(watched))
    async with intake(watched, means, bell_slice=timedelta(milliseconds=20)) as bench:
        await bench.until_asking()
        asked = bench.drains
        while bench.drains < asked + 8:
            await anyio.lowlevel.checkpoint()
        assert bench.sleeps == 0
        await transaction.commit()
        assert await bench.until_taken(1)
        assert await watches(watched) == {payment}
        await bench.until_asleep()
    connection.terminate()


async def test_a_writer_that_will_ring_later_is_not_forgotten_meanwhile(watched: Database, means: Equipment) -> None:
    user = await shop.add_user(watched)
    async with intake(watched, means) as bench:
        await bench.until_asleep()
        connection, transaction, late = await begun(watched, user)
        other = await shop.add_payment(watched, user, status="completed")
        assert await bench.until_taken(1)
        await bench.until_asleep()
        await transaction.commit()
        assert await bench.until_taken(2)
        assert await watches(watched) == {late, other}
        connection.terminate()


async def test_nobody_is_woken_for_what_was_rolled_back(watched: Database, means: Equipment) -> None:
    user = await shop.add_user(watched)
    async with intake(watched, means) as bench:
        await bench.until_asleep()
        connection, transaction, _payment = await begun(watched, user)
        await transaction.rollback()
        drains = bench.drains
        other = await shop.add_payment(watched, user, status="completed")
        assert await bench.until_taken(1)
        assert bench.rings == 1
        assert bench.drains > drains
        assert await watches(watched) == {other}
        connection.terminate()


async def test_a_dead_intake_leaves_the_rows_for_the_next_one(watched: Database, means: Equipment) -> None:
    user = await shop.add_user(watched)
    async with intake(watched, means) as bench:
        await bench.until_asleep()
    async with intake(watched, means) as bench:
        await bench.until_asleep()
        first = await shop.add_payment(watched, user, status="completed")
        assert await bench.until_taken(1)
    while await bell(watched, granted=True):
        await anyio.lowlevel.checkpoint()
    second = await shop.add_payment(watched, user, status="completed")
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") == 1
    async with intake(watched, means) as bench:
        assert await bench.until_taken(1)
    assert await watches(watched) == {first, second}


# Torture


async def rounds(bench: Bench, sessions: list[Writer], seconds: float, sleeps: int, dice: random.Random) -> int:
    """Let a few writers act at once, again and again, and wait after each round until their rows were taken.

    Nothing else happens meanwhile: whoever is forgotten stays forgotten. It goes on for `seconds`, and on a slow
    machine until intake fell asleep often enough. Return how many rows were forgotten, at the first time.
    """
    until = anyio.current_time() + seconds

    async def act(writer: Writer) -> None:
        await anyio.sleep(dice.random() * 0.002)
        await writer.act(0.002)

    while anyio.current_time() < until or bench.sleeps <= sleeps:
        acting = dice.sample(sessions, dice.randint(2, 5))
        if dice.random() < 0.4:
            # One wakes intake up, the other shares the bell while intake wants to sleep again.
            await acting[0].act(0)
            await acting[1].act(0.005)
        else:
            async with anyio.create_task_group() as group:
                for writer in acting:
                    group.start_soon(act, writer)
        committed = sum(len(writer.committed) for writer in sessions)
        if not await bench.until_taken(committed, within=BOUND.total_seconds()):
            return committed - bench.taken
        await anyio.sleep(dice.random() * 0.003)
    return 0


@pytest.mark.timeout(180)
async def test_torture(watched: Database, means: Equipment) -> None:
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    async with writers(watched, 100, seed) as sessions, intake(watched, means) as bench:
        assert await rounds(bench, sessions, ROUNDS, 300, dice) == 0, f"a row waited for more than {BOUND}: seed {seed}"
        oldest = timedelta()
        until = anyio.current_time() + STORM

        async def act(writer: Writer) -> None:
            while anyio.current_time() < until:
                await writer.act(0.05)
                await anyio.sleep(writer.dice.random() * 0.3)

        async def look(watching: Database) -> None:
            nonlocal oldest
            while anyio.current_time() < until:
                found = await watching.fetchval(
                    "SELECT max(clock_timestamp() - at) FROM paidwatch.inbox"
                    " WHERE txid < pg_snapshot_xmin(pg_current_snapshot())"
                )
                oldest = max(oldest, found or timedelta())

        async with watched.another() as watching, anyio.create_task_group() as group:
            group.start_soon(look, watching)
            for writer in sessions:
                group.start_soon(act, writer)
        committed = sum(len(writer.committed) for writer in sessions)
        assert await bench.until_taken(committed, within=BOUND.total_seconds()), f"seed {seed}"
        assert oldest < BOUND
        await bench.until_asleep()
        await verify(watched, sessions)
        assert bench.taken == committed
        assert sum(len(writer.undone) for writer in sessions) > 100


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [WithoutTheLastDrain, WithoutTheBell])
async def test_the_torture_finds_a_doorbell_that_is_broken(
    watched: Database, means: Equipment, kind: type[Intake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.flow.test_doorbell.BOUND", timedelta(seconds=1))
    seed = 7
    async with writers(watched, 40, seed) as sessions, intake(watched, means, kind=kind) as bench:
        assert await rounds(bench, sessions, 30, 0, random.Random(seed)) > 0, (
            f"{bench.sleeps} sleeps, {bench.rings} rings"
        )
        assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") > 0


# The whole daemon


async def test_with_open_watches_and_nothing_due_the_server_is_asked_nothing(watched: Database, start: Start) -> None:
    await watched.execute("CREATE EXTENSION pg_stat_statements")
    question = (
        "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'"
        " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    async with start({"grace": {"default": "1h"}}) as daemon:
        await daemon.ready()
        user = await shop.add_user(watched)
        for _ in range(3):
            await shop.add_payment(watched, user, status="completed")
        while await watched.fetchval("SELECT count(*) FROM paidwatch.watch") < 3 or not await bell(
            watched, granted=True
        ):
            await anyio.lowlevel.checkpoint()
        await watched.fetchval("SELECT pg_sleep(0.5)")
        before = await watched.fetchval(question)
        await watched.fetchval("SELECT pg_sleep(2.5)")
        assert await watched.fetchval(question) - before == 1, "only this test's own sleep"
        payment = await shop.add_payment(watched, user, status="completed")
        while not await watched.fetchval("SELECT EXISTS (SELECT FROM paidwatch.watch WHERE payment_id = $1)", payment):
            await anyio.lowlevel.checkpoint()
