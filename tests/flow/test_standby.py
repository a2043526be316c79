"""A standby that is stopped leaves nothing behind on the server, and does not wait for one that does not answer."""

import os
import signal
from collections.abc import AsyncIterator

import pytest

from tests.conftest import OwnServer
from tests.support.daemon import installed
from tests.support.postgres import Database, Server
from tests.support.watched import Start

PATIENT = {"daemon": {"leader_wait": "10m"}}
"""A wait for leadership that outlasts the test: what ends before was ended."""
LEADING = (
    "SELECT count(*) = 1 FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'paidwatch locks'"
)
"""There is the session that leads, and none that waits for it."""
WAITING = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'paidwatch locks' AND wait_event = 'advisory')"
)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_standby_that_is_stopped_leaves_no_session(
    watched: Database, start: Start, how: signal.Signals
) -> None:
    async with start() as leader:
        await leader.ready()
        async with start(PATIENT) as standby:
            await standby.log("lead.waiting")
            await standby.database_by_asking(watched, WAITING)
            standby.signal(how)
            assert await standby.ended() == 0
            assert not standby.noise
            assert not standby.events("listen.lost")
        await leader.database_by_asking(watched, LEADING)


@pytest.fixture
async def mute(own_server: OwnServer) -> AsyncIterator[tuple[Database, int]]:
    """A database whose server the test makes deaf, and the process to stop for it; it goes on afterwards."""
    own = own_server()
    database = await installed(Server(own), "F")
    yield database, own.pid
    os.kill(own.pid, signal.SIGCONT)
    database.close()


async def test_a_standby_of_a_server_that_does_not_answer_ends_all_the_same(
    mute: tuple[Database, int], start: Start
) -> None:
    database, postmaster = mute
    await database.execute("SELECT pg_advisory_lock(paidwatch.leadership())")
    async with start(PATIENT, database=database) as standby:
        await standby.log("lead.waiting")
        await standby.database_by_asking(database, WAITING)
        os.kill(postmaster, signal.SIGSTOP)
        await standby.stop()
    assert not standby.events("listen.lost")
