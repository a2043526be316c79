"""The server fails over to its standby; later the old one comes back, and still answers as a primary."""

import signal
from collections.abc import AsyncIterator

import anyio
import pytest

from paidwatch.ops.embedded import EmbeddedServer
from tests.conftest import OwnServer
from tests.support import shop
from tests.support.daemon import Daemon, installed
from tests.support.postgres import Database, Server
from tests.support.sink import Sink
from tests.support.watched import Start

QUICK = {
    "grace": {"default": "100ms"},
    "reconcile": {"every": "1s"},
    "deliveries": {"first_retry": "100ms", "max_retry": "200ms"},
    "alerts": {"storm_threshold": 1000, "storm_window": "1ms", "digest_at": ""},
}
OLD = "the server that answers is an old primary: its timeline is behind the one served before"
DONE = "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"


class Pair:
    """A primary and its streaming standby, which have one database each of the same name."""

    def __init__(self, primary: EmbeddedServer, standby: EmbeddedServer, old: Database) -> None:
        self.primary = primary
        self.standby = standby
        self.old = old
        self.new = Database(Server(standby), old.name, old.shape)
        """The database on the standby, later the primary."""

    @property
    def dsn(self) -> str:
        """Both hosts; the daemon has to find the one that takes writes."""
        places = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        login = f"postgres:{self.primary.password}"
        return f"postgresql://{login}@{places}/{self.old.name}?target_session_attrs=read-write"

    async def replicated(self) -> None:
        """Wait until the standby has everything that is committed on the primary now."""
        there = await self.old.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        with anyio.fail_after(20):
            while not await self.new.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", there):
                # The walsender's last acknowledgement changes when there is news.
                await self.new.execute("SELECT 1")

    async def fail_over(self) -> None:
        """The primary is gone in this instant; the standby takes its place."""
        await anyio.to_thread.run_sync(self.primary.stop, "immediate")
        self.old.close()
        assert await self.new.fetchval("SELECT pg_promote()")

    async def old_comes_back(self) -> None:
        """Nobody told the old primary: it recovers from its crash and takes writes, with numbers that are its own."""
        await anyio.to_thread.run_sync(self.primary.start)
        assert not await self.old.fetchval("SELECT pg_is_in_recovery()")
        await self.old.execute("ALTER SEQUENCE payment_transactions_id_seq RESTART WITH 1000")

    async def cut(self, purpose: str) -> None:
        """End the daemon's sessions for this purpose on the new primary."""
        cut = await self.new.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1",
            f"paidwatch {purpose}",
        )
        assert cut >= 1

    async def served_by_old(self) -> int:
        """Return how many sessions of the daemon that do its work the old primary has."""
        sessions: int = await self.old.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name ~ '^paidwatch (locks|intake)'"
        )
        return sessions


@pytest.fixture
async def pair(own_server: OwnServer) -> AsyncIterator[Pair]:
    primary = own_server()
    old = await installed(Server(primary), "F")
    pair = Pair(primary, own_server(copy_of=primary), old)
    yield pair
    pair.old.close()
    pair.new.close()


async def paid(db: Database) -> str:
    payment = await shop.add_payment(db, await shop.add_user(db))
    await shop.complete(db, payment)
    return str(payment)


async def moved(pair: Pair, daemon: Daemon, told: Sink) -> set[str]:
    """Fail over under a daemon that is at work, and return the payments that were told up to then."""
    await daemon.ready()
    payments = {await paid(pair.old), await paid(pair.old)}
    await told.until_told(payments)
    await daemon.database(pair.old, DONE)
    await pair.replicated()
    await pair.fail_over()
    await daemon.ready(count=2)
    payments.add(await paid(pair.new))
    await told.until_told(payments)
    await daemon.database(pair.new, DONE)
    return payments


async def test_the_daemon_follows_and_tells_everything_once(pair: Pair, told: Sink, start: Start) -> None:
    async with start(QUICK, database=pair.old, dsn=pair.dsn) as daemon:
        await daemon.ready()
        payments = {await paid(pair.old) for _ in range(3)}
        await told.until_told(payments)
        await daemon.database(pair.old, DONE)
        # One is decided, and its message is not taken yet; others are in the inbox, where nobody has seen them.
        told.refuse_with["ops"] = 503
        payments.add(await paid(pair.old))
        await daemon.log("delivery.failed")
        daemon.signal(signal.SIGSTOP)
        payments |= {await paid(pair.old) for _ in range(3)}
        await pair.replicated()
        await pair.fail_over()
        daemon.signal(signal.SIGCONT)
        told.refuse_with.clear()
        payments |= {await paid(pair.new) for _ in range(3)}
        (again,) = (await daemon.log("listen.ready", count=2))[1:]
        assert float(again["blind_seconds"]) >= 0
        assert int(again["recovered"]) >= 3
        assert again["lost"] == 0
        payments |= {await paid(pair.new) for _ in range(3)}
        await told.until_told(payments)
        await daemon.database(pair.new, DONE)
        assert daemon.events("listen.lost")
        assert not daemon.noise
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in payments}
    assert {message.word for message in told.told} == {"NEW"}
    assert await pair.new.fetchval("SELECT count(*) FROM paidwatch.inbox") == 0


async def test_an_old_primary_that_comes_back_is_not_served(pair: Pair, told: Sink, start: Start) -> None:
    async with start(QUICK, database=pair.old, dsn=pair.dsn) as daemon:
        payments = await moved(pair, daemon, told)
        await pair.old_comes_back()
        assert await paid(pair.old) == "1000"
        # The old one stands first in the list, so that is where every new connection goes.
        await pair.cut("listen")
        (refused, *_) = await daemon.log("listen.lost", error=OLD)
        assert "Take the old primary away" in refused["remedy"]
        behind = await paid(pair.new)
        await daemon.log("listen.lost", error=OLD, count=2)
        assert await pair.served_by_old() == 0
        assert len(daemon.events("listen.ready")) == 2
        await anyio.to_thread.run_sync(pair.primary.stop)
        await daemon.ready(count=3)
        await told.until_told({*payments, behind})
        await daemon.database(pair.new, DONE)
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in {*payments, behind}}


async def test_one_connection_that_is_renewed_does_not_go_to_the_old_primary(
    pair: Pair, told: Sink, start: Start
) -> None:
    """Listening goes on where it was; only the connections that do the work are made anew."""
    async with start(QUICK, database=pair.old, dsn=pair.dsn) as daemon:
        payments = await moved(pair, daemon, told)
        await pair.old_comes_back()
        stray = await paid(pair.old)
        await pair.cut("work")
        behind = await paid(pair.new)
        await daemon.log("listen.lost", error=OLD)
        assert await pair.old.fetchval("SELECT count(*) FROM paidwatch.inbox") > 0
        assert not await pair.old.fetchval(
            "SELECT EXISTS (SELECT FROM paidwatch.watch WHERE payment_id = $1)", int(stray)
        )
        await anyio.to_thread.run_sync(pair.primary.stop)
        await daemon.ready(count=3)
        await told.until_told({*payments, behind})
        await daemon.database(pair.new, DONE)
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in {*payments, behind}}
