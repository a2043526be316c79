"""The heartbeat: it goes out while the whole pipe works, and for every part that does not work it stays away."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
from aiohttp import web

from paidwatch.channels.http import open_session
from paidwatch.flow.listen import Ears
from paidwatch.flow.policy import Policy
from paidwatch.flow.pulse import Failed, Pulse, Reason, Sent, Withheld
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.status import Role, Status
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY
from paidwatch.store.pool import Database as Pool
from tests.channels.fakes.http import Received, Service, serving
from tests.ops.still_clock import StillClock
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.torture import Equipment, equipment
from tests.support.watched import Start

SECRET = "8f14e45f-ceea-467f-a830-5d3b9c4c5e11"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Equipment:
    return equipment(tmp_path_factory.mktemp("pulse"))


@dataclass(slots=True, kw_only=True)
class Pipe:
    """Everything that the heartbeat looks at, for real; `policy` may be replaced."""

    db: Database
    pulse: Pulse
    ears: Ears
    pool: Pool
    status: Status
    clock: StillClock
    signal: Signal
    service: Service
    policy: Policy
    notified: list[str]


async def yes(_received: Received) -> web.Response:
    return web.Response(text="OK")


@pytest.fixture
async def pipe(watched: Database, means: Equipment) -> AsyncIterator[Pipe]:
    """A pipe that works, and somebody who expects its heartbeat."""
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=20))
    clock = StillClock()
    signal = Signal()
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(Service(yes)))
        session = await stack.enter_async_context(open_session())
        pool = await stack.enter_async_context(Pool(target, means.statements, settings=BY_KEY))
        ears = Ears(target, means.statements, signal)
        stack.callback(ears.close)
        await ears.open()
        status = Status(clock=clock)
        status.leading(0)
        # Somebody else on the same channel, to see what is sent.
        notified: list[str] = []
        other = await watched.connect()
        stack.callback(other.terminate)
        await other.add_listener("paidwatch", lambda *heard: notified.append(str(heard[-1])))
        policy = replace(
            means.policy,
            channels=("ops", "mail"),
            heartbeat_url=f"{service.base}/ping/{SECRET}",
            heartbeat_every=MINUTE,
        )
        built: Pipe
        pulse = Pulse(
            database=pool,
            ears=ears,
            session=session,
            policy=lambda: built.policy,
            status=status,
            clock=clock,
            log=Log(),
        )
        built = Pipe(
            db=watched,
            pulse=pulse,
            ears=ears,
            pool=pool,
            status=status,
            clock=clock,
            signal=signal,
            service=service,
            policy=policy,
            notified=notified,
        )
        yield built


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.__dict__.get("event") == event]


async def queue(db: Database, channel: str, *, due: str, trying: str = "NULL", waits_for: str | None = None) -> None:
    alert = await db.fetchval("INSERT INTO paidwatch.alert (kind) VALUES ('test') RETURNING alert_id")
    await db.execute(
        "INSERT INTO paidwatch.delivery (alert_id, channel, due_at, trying_since, waits_for)"
        f" VALUES ($1, $2, {due}, {trying}, $3)",
        alert,
        channel,
        waits_for,
    )


async def break_channel(db: Database, *names: str) -> None:
    for name in names:
        await db.execute("INSERT INTO paidwatch.channel (name, down_since) VALUES ($1, now())", name)


async def test_while_the_pipe_works_the_beat_goes_out(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="paidwatch")
    await queue(pipe.db, "ops", due="now() - interval '9 minutes'")
    assert await pipe.pulse.beat() == Sent()
    assert await pipe.pulse.beat() == Sent()
    first, second = pipe.service.received
    assert (first.method, first.path) == ("POST", f"/ping/{SECRET}")
    assert first.headers["content-type"] == "application/json"
    said = json.loads(first.body)
    assert set(said) == {"program", "version", "at", "state"}
    assert len(second.body) < 200
    assert len(lines(caplog, "heartbeat.sent")) == 1, "said once"


async def test_the_canary_wakes_nobody(pipe: Pipe) -> None:
    await pipe.signal.wait(timedelta())
    await pipe.pulse.beat()
    assert not await pipe.signal.wait(timedelta()), "the doorbell was not rung"


async def test_without_an_address_nothing_is_asked_and_nothing_is_sent(pipe: Pipe) -> None:
    pipe.policy = replace(pipe.policy, heartbeat_url="")
    await pipe.db.execute("CREATE EXTENSION pg_stat_statements")
    asked = (
        "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements"
        " WHERE query LIKE '%pg_notify%' OR query LIKE '%down_since%'"
    )
    before = await pipe.db.fetchval(asked)
    assert await pipe.pulse.beat() is None
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.pulse.run)
        await anyio.wait_all_tasks_blocked()
        assert await pipe.db.fetchval(asked) == before
        assert pipe.service.received == []

        # The same sight does see a beat: a reload names an address.
        pipe.policy = replace(pipe.policy, heartbeat_url=f"{pipe.service.base}/ping")
        pipe.pulse.poke.ring()
        with anyio.fail_after(20):
            while not pipe.service.received:
                await anyio.lowlevel.checkpoint()
        assert await pipe.db.fetchval(asked) > before
        group.cancel_scope.cancel()


async def withheld(pipe: Pipe, reason: Reason) -> Withheld:
    """Beat, and see that it stays away for this reason and no other."""
    beat = await pipe.pulse.beat()
    assert isinstance(beat, Withheld), beat
    assert beat.reason is reason
    assert pipe.service.received == []
    return beat


async def test_no_beat_where_the_daemon_does_not_lead(pipe: Pipe) -> None:
    pipe.status.role = Role.STANDBY
    await withheld(pipe, Reason.NOT_LEADING)


@pytest.mark.parametrize("worker", ["intake", "decide"])
async def test_no_beat_while_a_worker_is_stuck(pipe: Pipe, worker: str) -> None:
    pipe.status.busy(worker, MINUTE)
    assert await pipe.pulse.beat() == Sent(), "busy is not stuck"
    pipe.service.received.clear()
    pipe.clock.passed += MINUTE * 2
    assert worker in (await withheld(pipe, Reason.STUCK)).detail
    pipe.status.beat(worker)
    assert await pipe.pulse.beat() == Sent()


async def test_no_beat_while_an_appointment_is_missed(pipe: Pipe) -> None:
    pipe.status.due_in(MINUTE)
    pipe.clock.passed += MINUTE * 4
    await withheld(pipe, Reason.STUCK)


async def test_no_beat_where_notifications_do_not_come_back(pipe: Pipe) -> None:
    pipe.policy = replace(pipe.policy, heartbeat_every=timedelta(milliseconds=200))
    connection = pipe.ears._connection
    assert connection is not None
    await connection.execute("UNLISTEN *")
    await withheld(pipe, Reason.DEAF)
    assert len(pipe.notified) == 1, "it was sent all the same"
    assert not pipe.ears._nonces
    await connection.execute("LISTEN paidwatch")
    assert await pipe.pulse.beat() == Sent()


async def test_no_beat_where_the_query_path_is_dead_though_the_ear_is_not(pipe: Pipe) -> None:
    await pipe.pool.__aexit__(None, None, None)
    await withheld(pipe, Reason.DATABASE)


@pytest.mark.parametrize(
    ("due", "trying"),
    [
        ("now() - interval '11 minutes'", "NULL"),
        # Tried again and again: it is due in the future all the time.
        ("now() + interval '5 minutes'", "now() - interval '11 minutes'"),
    ],
)
async def test_no_beat_while_a_message_is_unsent_for_long(pipe: Pipe, due: str, trying: str) -> None:
    await queue(pipe.db, "mail", due=due, trying=trying)
    assert "11 min" in (await withheld(pipe, Reason.OUTBOX)).detail


async def test_what_is_held_back_on_purpose_is_not_old(pipe: Pipe) -> None:
    await queue(pipe.db, "mail", due="now() - interval '1 day'", waits_for="held")
    await queue(pipe.db, "mail", due="now() + interval '8 hours'", waits_for="quiet")
    assert await pipe.pulse.beat() == Sent()


async def test_no_beat_where_the_quiet_is_over_and_its_messages_are_not_sent(pipe: Pipe) -> None:
    await queue(pipe.db, "mail", due="now() - interval '11 minutes'", waits_for="quiet")
    await withheld(pipe, Reason.OUTBOX)


async def test_one_broken_channel_of_two_is_told_on_the_other_and_no_reason_for_silence(pipe: Pipe) -> None:
    await break_channel(pipe.db, "mail")
    await queue(pipe.db, "mail", due="now() - interval '1 day'")
    await queue(pipe.db, "not configured any more", due="now() - interval '1 day'")
    assert await pipe.pulse.beat() == Sent()


async def test_no_beat_where_no_channel_works(pipe: Pipe) -> None:
    await break_channel(pipe.db, "ops", "mail")
    await withheld(pipe, Reason.NO_CHANNEL)


async def test_no_beat_where_nobody_can_be_told_at_all(pipe: Pipe) -> None:
    pipe.policy = replace(pipe.policy, channels=())
    await withheld(pipe, Reason.NO_CHANNEL)


async def test_why_it_stays_away_is_said_once_per_change(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="paidwatch")
    await break_channel(pipe.db, "ops", "mail")
    for _ in range(3):
        await pipe.pulse.beat()
    pipe.status.busy("decide", timedelta())
    pipe.clock.passed += MINUTE
    for _ in range(3):
        await pipe.pulse.beat()
    pipe.status.beat("decide")
    await pipe.db.execute("DELETE FROM paidwatch.channel")
    await pipe.pulse.beat()
    await pipe.pulse.beat()
    assert [line["reason"] for line in lines(caplog, "heartbeat.withheld")] == [Reason.NO_CHANNEL, Reason.STUCK]
    assert len(lines(caplog, "heartbeat.sent")) == 1


@pytest.mark.parametrize("status", [301, 302, 404, 429, 500])
async def test_a_beat_that_is_not_taken_is_said_without_the_address(
    pipe: Pipe, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        pipe.service.then(status, body=f"no {SECRET}", headers={"Location": f"{pipe.service.base}/elsewhere/{SECRET}"})
        beat = await pipe.pulse.beat()
        assert beat == Failed(code=str(status), error=f"the receiver of the heartbeat answered {status}")
    assert [request.path for request in pipe.service.received] == [f"/ping/{SECRET}"] * 2, "no redirect was followed"
    assert [line["code"] for line in lines(caplog, "heartbeat.failed")] == [str(status)], "once per change"
    assert await pipe.pulse.beat() == Sent(), "tried again at the next interval"
    assert len(lines(caplog, "heartbeat.sent")) == 1
    said = "\n".join(str(vars(record)) for record in caplog.records)
    assert SECRET not in said
    assert pipe.service.base not in said


async def test_a_receiver_that_does_not_answer_holds_up_nothing_for_long(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(
        "paidwatch.flow.pulse.LIMITS",
        replace_limits(total=timedelta(milliseconds=200)),
    )

    async def never(_received: Received) -> web.Response:
        await anyio.sleep_forever()
        return web.Response()

    pipe.service.handler = never
    with anyio.fail_after(20):
        beat = await pipe.pulse.beat()
    assert beat == Failed(code="timeout", error="the service did not answer in time")
    assert SECRET not in "\n".join(str(vars(record)) for record in caplog.records)


def replace_limits(*, total: timedelta) -> Any:
    from paidwatch.flow.pulse import LIMITS  # noqa: PLC0415 - the one that is replaced

    assert LIMITS.total == LIMITS.connect == timedelta(seconds=5)
    return replace(LIMITS, total=total)


async def test_nobody_listens_there(pipe: Pipe) -> None:
    pipe.policy = replace(pipe.policy, heartbeat_url=f"http://127.0.0.1:1/{SECRET}")
    beat = await pipe.pulse.beat()
    assert isinstance(beat, Failed)
    assert beat.code == "connect"


async def test_it_beats_again_and_again(pipe: Pipe) -> None:
    pipe.policy = replace(pipe.policy, heartbeat_every=timedelta(milliseconds=1))
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.pulse.run)
        with anyio.fail_after(20):
            while len(pipe.service.received) < 3:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


# The whole daemon


async def test_the_daemon_beats_and_withholds(watched: Database, told: Sink, start: Start) -> None:
    alerts = {"alerts": {"heartbeat_url": told.url(f"heart/{SECRET}"), "heartbeat_every": "1s"}}

    def beats() -> int:
        return sum(1 for message in told.told if message.channel == f"heart/{SECRET}")

    async with start(alerts) as daemon:
        await daemon.ready()
        await told.until(lambda: beats() >= 2)
        await break_channel(watched, "ops")
        (line,) = await daemon.log("heartbeat.withheld")
        assert line["reason"] == Reason.NO_CHANNEL
        before = beats()
        await watched.execute("DELETE FROM paidwatch.channel")
        await told.until(lambda: beats() > before)
        # Somebody does not want it any more, then again: no restart is needed.
        await daemon.reload({}, database=watched, sink=told)
        await daemon.log("config.reloaded")
        await daemon.reload(alerts, database=watched, sink=told)
        await daemon.log("config.reloaded", count=2)
        before = beats()
        await told.until(lambda: beats() > before)
    assert len(daemon.events("heartbeat.withheld")) == 1
    assert SECRET not in daemon.tail()
    assert not [line for line in daemon.lines if SECRET in str(line)]
