"""What the world does to a daemon: connections cut at random, restarts of the server, pauses.

The oracle is always the same: the set of announced gaps is the set of gaps, each once.
"""

import random
import signal
from collections import Counter
from typing import Any

import anyio
import pytest

from paidwatch.ops.embedded import EmbeddedServer, Mode
from tests.conftest import OwnServer
from tests.support import shop
from tests.support.daemon import installed, told_and_done
from tests.support.postgres import Database, Server
from tests.support.sink import Sink
from tests.support.watched import Start

QUICK = {"grace": {"default": "300ms"}, "reconcile": {"every": "1s"}}


async def paid(db: Database, user: Any) -> str:
    payment = await shop.add_payment(db, user)
    await shop.complete(db, payment)
    return str(payment)


async def oracle(db: Database, told: Sink, gaps: set[str], *, cut: bool) -> None:
    """Each gap was announced once; where connections were cut, one message may have come twice, with the same key."""
    assert told.payments() == gaps
    assert {message.word for message in told.told} <= {"NEW"}
    keys: dict[str, set[str]] = {}
    for message in told.told:
        keys.setdefault(message.payment, set()).add(message.key)
    assert all(len(found) == 1 for found in keys.values())
    if not cut:
        assert not told.repeated()
    assert max(Counter(message.key for message in told.told).values()) <= 3
    assert await told_and_done(db)
    assert await db.fetchval("SELECT count(*) FROM paidwatch.inbox") == 0


@pytest.mark.timeout(180)
async def test_connections_cut_at_random_under_twenty_writers(watched: Database, told: Sink, start: Start) -> None:
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    gaps: set[str] = set()
    silent: set[str] = set()
    async with start(QUICK) as daemon:
        await daemon.ready()
        users = [await shop.add_user(watched) for _ in range(20)]
        writing = 20

        async def write(number: int) -> None:
            nonlocal writing
            own = random.Random(seed + number)
            async with watched.another() as db:
                for _ in range(6):
                    user = await shop.add_user(db)
                    payment = await paid(db, user)
                    if own.random() < 0.4:
                        await shop.activate(db, user, payment=int(payment))
                        silent.add(payment)
                    else:
                        gaps.add(payment)
                    await anyio.sleep(own.random() * 0.5)
            writing -= 1

        async def cut() -> None:
            async with watched.another() as db:
                while writing:
                    victims = await db.fetch(
                        "SELECT pid FROM pg_stat_activity"
                        " WHERE datname = current_database() AND application_name LIKE 'paidwatch %'"
                    )
                    if victims:
                        await db.execute("SELECT pg_terminate_backend($1)", dice.choice(victims)["pid"])
                    await anyio.sleep(dice.random() * 0.4)

        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            for number in range(len(users)):
                group.start_soon(write, number)
        await told.until(lambda: gaps <= told.payments(), within=40)
        await daemon.database(
            watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.watch WHERE state = 'waiting')", within=30
        )
        await daemon.database(
            watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
        )
        await daemon.until(lambda: daemon.lines[-1]["event"] != "listen.lost", within=20)
    late = told.payments() - gaps
    assert late <= silent
    assert late <= told.payments("RESOLVED")
    told.told = [message for message in told.told if message.payment not in late]
    await oracle(watched, told, gaps, cut=True)
    assert not daemon.noise, f"seed {seed}"


@pytest.fixture(scope="module")
def separate() -> Any:
    """A server of this module's own, which its tests may restart."""
    from tests.support.postgres import embedded  # noqa: PLC0415

    with embedded() as own:
        yield own


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.timeout(180)
async def test_a_restart_of_the_server(
    separate: EmbeddedServer, told: Sink, start: Start, mode: Mode, watched: Database
) -> None:
    server = Server(separate)
    db = await installed(server, "F")
    gaps: set[str] = set()
    async with start(QUICK, database=db) as daemon:
        await daemon.ready()
        for _ in range(3):
            gaps.add(await paid(db, await shop.add_user(db)))
        await told.until_told(gaps)
        await daemon.log("delivery.sent", count=3)
        before = await paid(db, await shop.add_user(db))
        await anyio.to_thread.run_sync(separate.restart, mode)
        gaps.add(before)
        db.close()
        for _ in range(3):
            gaps.add(await paid(db, await shop.add_user(db)))
        await daemon.ready(count=2, within=40)
        assert daemon.events("listen.lost")
        assert "blind_seconds" in daemon.events("listen.ready")[-1]
        gaps.add(await paid(db, await shop.add_user(db)))
        await told.until_told(gaps)
        await daemon.database(
            db, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
        )
        assert not daemon.noise
    await oracle(db, told, gaps, cut=True)
    await server.drop(db)


async def test_a_server_that_is_away_at_the_start_is_waited_for(
    own_server: OwnServer, told: Sink, start: Start, watched: Database
) -> None:
    own = own_server()
    server = Server(own)
    db = await installed(server, "F")
    payment = await paid(db, await shop.add_user(db))
    db.close()
    await anyio.to_thread.run_sync(own.stop)
    async with start(QUICK, database=db) as daemon:
        await daemon.log("listen.lost", count=2)
        assert not daemon.events("listen.ready")
        assert not told.told
        await anyio.to_thread.run_sync(own.start)
        await daemon.ready(within=40)
        await told.until_told([payment])
    await oracle(db, told, {payment}, cut=True)
    db.close()


async def test_a_long_pause_of_the_leader_does_no_harm(watched: Database, told: Sink, start: Start) -> None:
    """Paused past its lease in the middle of its work, with a standby beside it; then it goes on."""
    quick = {"deliveries": {"lease": "1s"}}
    async with start(QUICK, quick) as leader:
        await leader.ready()
        async with start(QUICK, quick) as standby:
            await standby.log("lead.waiting")
            gaps = {await paid(watched, await shop.add_user(watched)) for _ in range(30)}
            await told.until(lambda: len(told.told) > 3)
            leader.signal(signal.SIGSTOP)
            gaps |= {await paid(watched, await shop.add_user(watched)) for _ in range(5)}
            await watched.execute("SELECT pg_sleep(1.5)")
            leader.signal(signal.SIGCONT)
            await told.until_told(gaps)
            await leader.database(
                watched,
                "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)",
            )
    await oracle(watched, told, gaps, cut=True)


async def test_leaders_killed_one_after_the_other_under_load(watched: Database, told: Sink, start: Start) -> None:
    gaps: set[str] = set()
    for _ in range(4):
        async with start(QUICK) as daemon:
            await daemon.ready()
            already = len(told.told)
            gaps |= {await paid(watched, await shop.add_user(watched)) for _ in range(15)}
            await told.until(lambda already=already: len(told.told) > already + 4)  # type: ignore[misc]
            await daemon.kill9()
    async with start(QUICK) as daemon:
        await daemon.ready()
        await told.until_told(gaps)
        await daemon.database(
            watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
        )
    await oracle(watched, told, gaps, cut=True)


async def test_a_channel_that_is_away_loses_nothing_over_a_kill(watched: Database, told: Sink, start: Start) -> None:
    told.refuse_with["ops"] = 503
    async with start(QUICK) as daemon:
        await daemon.ready()
        payment = await paid(watched, await shop.add_user(watched))
        await daemon.log("delivery.failed")
        await daemon.kill9()
    told.refuse_with.clear()
    async with start(QUICK) as daemon:
        await daemon.ready()
        await told.until_told([payment])
    await oracle(watched, told, {payment}, cut=False)
