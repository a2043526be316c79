"""The daily proof of life: exactly once a day, whatever happens at that time, with the numbers of the tables."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from paidwatch.core.guards import Mode
from paidwatch.core.routing import Route, Routing, Severity
from paidwatch.errors import DatabaseError
from paidwatch.flow.digest import Digest, appointment_due, next_digest, receivers
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.status import Status
from paidwatch.store.connect import Target
from paidwatch.store.digest import day
from paidwatch.store.pool import BY_KEY
from paidwatch.store.pool import Database as Pool
from tests.ops.still_clock import StillClock
from tests.support import shop
from tests.support.command import write_watch
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.torture import Equipment, equipment
from tests.support.watched import Start

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
USUAL = Routing(usual=("ops", "mail"), low=frozenset(), routes=(), escalations=())


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Equipment:
    return equipment(tmp_path_factory.mktemp("digest"))


@dataclass(slots=True, kw_only=True)
class Desk:
    """A database, and daemons' digests on it; `policy` may be replaced."""

    db: Database
    target: Target
    means: Equipment
    stack: AsyncExitStack
    policy: Policy
    clock: StillClock
    status: Status
    news: int = 0

    async def digest(self) -> Digest:
        """Return the digest of one daemon, on a pool of its own."""
        pool = await self.stack.enter_async_context(Pool(self.target, self.means.statements, settings=BY_KEY))
        return Digest(database=pool, policy=lambda: self.policy, status=self.status, log=Log(), on_news=self._on_news)

    def _on_news(self) -> None:
        self.news += 1

    async def at(self, ago: timedelta, *, last: timedelta | None = None) -> datetime:
        """Let the appointment be `ago` before now, and the last digest `last` before now; return the appointment."""
        appointment = await shop.now(self.db) - ago
        self.policy = replace(self.policy, digest_at=appointment.time(), zone=ZoneInfo("UTC"))
        if last is not None:
            await self.last(last)
        return appointment

    async def last(self, ago: timedelta) -> None:
        await self.db.execute("UPDATE paidwatch.installation SET digest_at = now() - $1::interval", ago)

    async def told(self) -> list[list[str]]:
        """Return the lines of every digest."""
        rows = await self.db.fetch("SELECT notes FROM paidwatch.alert WHERE kind = 'daily' ORDER BY alert_id")
        return [row["notes"] for row in rows]

    async def facts(self) -> dict[str, str]:
        """Return the only digest by labels."""
        (lines,) = await self.told()
        return dict(line.split(": ", 1) for line in lines)


@pytest.fixture
async def desk(watched: Database, means: Equipment) -> AsyncIterator[Desk]:
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=20))
    policy = replace(
        means.policy, channels=("ops", "mail", "pager"), routing=USUAL, digest_at=time(9), zone=ZoneInfo("UTC")
    )
    clock = StillClock()
    async with AsyncExitStack() as stack:
        yield Desk(
            db=watched,
            target=target,
            means=means,
            stack=stack,
            policy=policy,
            clock=clock,
            status=Status(clock=clock),
        )


# When


async def test_on_an_empty_day_it_says_so_on_the_usual_channels(desk: Desk) -> None:
    digest = await desk.digest()
    await desk.at(timedelta(minutes=1), last=DAY)
    wait = await digest.tell_if_due()
    facts = await desk.facts()
    assert facts["Payments"] == "no payments"
    assert "Late" not in facts
    assert facts["Gaps"] == "0 opened, 0 closed, 0 still open"
    assert facts["Money at risk"] == "none"
    assert "Activation took" not in facts
    rows = await desk.db.fetch(
        "SELECT d.channel, state, due_at <= now() AS due"
        " FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id) WHERE kind = 'daily'"
    )
    assert {(row["channel"], row["state"], row["due"]) for row in rows} == {
        ("ops", "resolved", True),
        ("mail", "resolved", True),
    }
    assert desk.news == 1
    assert wait is not None
    assert DAY - HOUR < wait < DAY, "the next appointment is tomorrow's"


async def test_nothing_is_told_before_its_time(desk: Desk) -> None:
    digest = await desk.digest()
    await desk.at(-HOUR, last=timedelta(hours=23))
    wait = await digest.tell_if_due()
    assert wait is not None
    assert timedelta() < wait <= HOUR
    assert await desk.told() == []
    assert desk.news == 0


async def test_a_restart_tells_nothing_again(desk: Desk) -> None:
    await desk.at(timedelta(minutes=1), last=DAY)
    for _ in range(3):
        await (await desk.digest()).tell_if_due()
    assert len(await desk.told()) == 1


async def test_an_appointment_that_nobody_kept_is_told_at_the_next_start_as_late(desk: Desk) -> None:
    due = await desk.at(HOUR * 3, last=DAY * 3)
    wait = await (await desk.digest()).tell_if_due()
    facts = await desk.facts()
    assert facts["Late"] == f"this digest was due at {due:%Y-%m-%d %H:%M:%S} UTC and comes 3 h later"
    assert facts["Time"].endswith("that is 3 d"), "three missed ones are one"
    assert wait is not None
    assert HOUR * 20 < wait < HOUR * 21
    await (await desk.digest()).tell_if_due()
    assert len(await desk.told()) == 1


async def test_the_very_first_one_is_the_next_one_and_is_of_a_whole_day(desk: Desk) -> None:
    due = await desk.at(-HOUR)
    await (await desk.digest()).tell_if_due()
    assert await desk.told() == []
    assert await desk.db.fetchval("SELECT digest_at FROM paidwatch.installation") == due - DAY
    # A daemon that was away at that time is no reason to forget it.
    await desk.at(timedelta(minutes=10))
    await (await desk.digest()).tell_if_due()
    assert "Late" in await desk.facts()


async def test_of_two_daemons_one_tells(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="paidwatch")
    await desk.at(timedelta(minutes=1), last=DAY)
    digests = [await desk.digest(), await desk.digest()]
    blocker = await desk.db.connect()
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM paidwatch.installation FOR UPDATE")
    async with anyio.create_task_group() as group:
        for digest in digests:
            group.start_soon(digest.tell_if_due)
        # Both have counted, and both want to tell.
        with anyio.fail_after(20):
            while (
                await desk.db.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND wait_event_type = 'Lock' AND application_name = 'paidwatch work'"
                )
                < 2
            ):
                await anyio.lowlevel.checkpoint()
        await transaction.commit()
    blocker.terminate()
    assert len(await desk.told()) == 1
    assert desk.news == 1
    assert sorted(record.__dict__["event"] for record in caplog.records) == ["digest.elsewhere", "digest.told"]


async def test_what_could_not_be_queued_was_not_told_and_is_tried_again(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await desk.digest()
    await desk.at(timedelta(minutes=1), last=DAY)
    before = await desk.db.fetchval("SELECT digest_at FROM paidwatch.installation")
    await desk.db.execute("ALTER TABLE paidwatch.delivery RENAME TO away")
    await desk.db.execute("CREATE VIEW paidwatch.delivery AS SELECT * FROM paidwatch.away WHERE 1 / (SELECT 0) > 0")
    with pytest.raises(DatabaseError):
        await digest.tell_if_due()
    assert await desk.told() == []
    assert await desk.db.fetchval("SELECT digest_at FROM paidwatch.installation") == before

    # Within the daemon that is a line of the log and another try, and no reason for anything else to stop.
    monkeypatch.setattr("paidwatch.flow.digest.RETRY", timedelta(milliseconds=1))
    async with anyio.create_task_group() as group:
        group.start_soon(digest.run)
        with anyio.fail_after(20):
            while not [record for record in caplog.records if record.__dict__["event"] == "digest.failed"]:
                await anyio.lowlevel.checkpoint()
            await desk.db.execute("DROP VIEW paidwatch.delivery")
            await desk.db.execute("ALTER TABLE paidwatch.away RENAME TO delivery")
            while not await desk.told():
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert len(await desk.told()) == 1


@pytest.mark.parametrize("why", ["no time", "no channels"])
async def test_where_there_is_to_be_none_nothing_is_asked(desk: Desk, why: str) -> None:
    digest = await desk.digest()
    await desk.at(timedelta(minutes=1), last=DAY)
    wanted = desk.policy
    desk.policy = (
        replace(wanted, digest_at=None)
        if why == "no time"
        else replace(wanted, channels=(), routing=replace(USUAL, usual=()))
    )
    # Any statement would fail.
    await desk.db.execute("ALTER TABLE paidwatch.installation RENAME TO away")
    assert await digest.tell_if_due() is None
    await desk.db.execute("ALTER TABLE paidwatch.away RENAME TO installation")
    async with anyio.create_task_group() as group:
        group.start_soon(digest.run)
        await anyio.wait_all_tasks_blocked()
        desk.policy = wanted
        digest.poke.ring()
        with anyio.fail_after(20):
            while not await desk.told():
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


def test_only_a_route_that_names_it_takes_it_off_the_usual_channels(means: Equipment) -> None:
    urgent = Route(channels=("pager",), severity=Severity.HIGH)
    everything = Route(channels=("pager",))
    named = Route(channels=("mail",), kinds=frozenset({"daily", "audit"}))
    policy = replace(means.policy, routing=replace(USUAL, routes=(urgent, everything)))
    assert receivers(policy) == ("ops", "mail")
    policy = replace(policy, routing=replace(USUAL, routes=(urgent, named)))
    assert receivers(policy) == ("mail",)


def test_the_next_one_follows_the_clock_on_the_wall(means: Equipment) -> None:
    policy = replace(means.policy, digest_at=time(9), zone=BERLIN, routing=USUAL)
    last = datetime(2026, 3, 28, 8, 0, tzinfo=UTC)
    assert next_digest(policy, last) == datetime(2026, 3, 29, 7, 0, tzinfo=UTC), "the clocks were put forward"
    assert next_digest(replace(policy, digest_at=None), last) is None
    last = datetime(2026, 10, 24, 7, 0, 1, tzinfo=UTC)
    assert appointment_due(time(9), BERLIN, last, last + DAY) is None
    assert appointment_due(time(9), BERLIN, last, last + DAY + HOUR) == datetime(2026, 10, 25, 8, 0, tzinfo=UTC)
    assert appointment_due(time(9), BERLIN, last - DAY * 40, last) == datetime(2026, 10, 24, 7, 0, tzinfo=UTC)


# What


async def paid(db: Database, *, amount: str = "14.99", **watch: str) -> Any:
    payment = await shop.add_payment(db, await shop.add_user(db), amount=Decimal(amount), status="completed")
    await db.execute("DELETE FROM paidwatch.inbox")
    usual = {"paid_at": "now() - interval '2 hours'", "noticed_at": "now() - interval '2 hours'"}
    money = {"amount": "amount", "currency": "currency"}
    await write_watch(db, of=f"payment_id = {payment}", **(usual | money | watch))
    return payment


def closed(outcome: str, took: str = "1 minute", ago: str = "1 hour") -> dict[str, str]:
    return {
        "state": "'closed'",
        "outcome": f"'{outcome}'",
        "closed_at": f"now() - interval '{ago}'",
        "settled_at": f"now() - interval '2 hours' + interval '{took}'",
    }


async def alert(db: Database, payment: Any, *, opened: str, resolved: str | None = None, outcome: str = "") -> int:
    """Write the alert of a gap."""
    ended = "NULL" if resolved is None else f"now() - interval '{resolved}'"
    found: int = await db.fetchval(
        "INSERT INTO paidwatch.alert (kind, payment_id, opened_at, state, resolved_at, outcome) VALUES"
        f" ('paid_not_active', $1, now() - interval '{opened}', $2, {ended}, $3) RETURNING alert_id",
        payment,
        "open" if resolved is None else "resolved",
        None if resolved is None else outcome,
    )
    return found


async def test_the_numbers_are_those_of_the_tables(desk: Desk) -> None:
    db = desk.db
    for seconds in (0.4, 2, 30, 200):
        await paid(db, **closed("activated", f"{seconds} seconds"))
    # Found late: when it was activated, nobody knows. And: seen the day before, closed today; closed the day before.
    await paid(db, **closed("activated", "110 minutes"), source="'reconcile'")
    await paid(db, **closed("superseded"), noticed_at="now() - interval '30 hours'")
    await paid(db, **closed("activated", ago="25 hours"), noticed_at="now() - interval '26 hours'")
    await paid(db, **closed("baseline"), source="'baseline'")
    waiting = {"state": "'waiting'", "due_at": "now() + interval '1 minute'"}
    await paid(db, **waiting)
    await paid(db, **waiting, noticed_at="now() - interval '30 hours'")
    # Gaps: one of today, one of long ago, one that paidwatch closed, one that the application closed, one given up.
    today = await paid(db, state="'gap'", kind="'paid_not_active'")
    await alert(db, today, opened="1 hour")
    old = await paid(
        db, amount="100.00", state="'gap'", kind="'paid_not_active'", noticed_at="now() - interval '3 days'"
    )
    await alert(db, old, opened="3 days")
    fixed = await paid(db, amount="29.99", **closed("fixed"))
    await alert(db, fixed, opened="90 minutes", resolved="80 minutes", outcome="fixed")
    await db.execute(
        "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, done_at, version)"
        " SELECT payment_id, user_id, 'done', 'sql', 'auto', now() - interval '80 minutes', '1' FROM paidwatch.payments"
        " WHERE payment_id = $1",
        fixed,
    )
    late = await paid(db, **closed("activated", "40 minutes"), noticed_at="now() - interval '3 days'")
    await alert(db, late, opened="3 days", resolved="80 minutes", outcome="activated")
    given_up = await paid(db, amount="NaN", **closed("expired"), noticed_at="now() - interval '31 days'")
    await alert(db, given_up, opened="30 days", resolved="2 hours", outcome="expired")
    before = await paid(db, **closed("activated", ago="30 hours"), noticed_at="now() - interval '30 hours'")
    await alert(db, before, opened="29 hours", resolved="25 hours", outcome="activated")
    # Deliveries: one dead today, one before; a note that is no gap; a broken channel, and one that is not configured.
    for ago in ("1 hour", "3 days"):
        await db.execute(
            "INSERT INTO paidwatch.delivery (alert_id, channel, dead_at)"
            f" SELECT min(alert_id), 'dead ' || $1::text, now() - interval '{ago}' FROM paidwatch.alert",
            ago,
        )
    await db.execute("INSERT INTO paidwatch.channel (name, down_since) VALUES ('pager', now()), ('gone', now())")

    desk.clock.passed += HOUR * 50
    desk.policy = replace(desk.policy, mode=Mode.SHADOW)
    digest = await desk.digest()
    await desk.at(timedelta(minutes=1), last=DAY)
    await digest.tell_if_due()
    assert (await desk.facts()).items() >= {
        # 4 activated, 1 of them found late, 1 waiting, 1 gap, 1 fixed; the other gaps and the late one are older
        "Payments": "8 payments seen, 6 activated by the application, 2 within the grace period now",
        "Activation took": "p50 30 s, p90 40 min, p99 40 min, longest 40 min",
        "Rescued": "1 (29.99 USD) activated by paidwatch",
        "Gaps": "2 (44.98 USD) opened, 2 (44.98 USD) closed, 2 still open",
        "Money at risk": "114.99 USD",
        "Lost": "1 given up as too old",
        "Dead letters": "1 new, 2 in all",
        "Broken channels": "pager",
        "Listening": "this daemon has been up for 2 d 2 h, and was listening all the time",
        "Automatic activation": "shadow, nothing to compare yet",
    }.items()


async def test_it_says_for_how_long_it_was_blind(desk: Desk) -> None:
    desk.status.leading(0)
    desk.clock.passed += HOUR
    desk.status.lost("gone", retry_within=HOUR)
    desk.clock.passed += timedelta(seconds=42)
    desk.status.leading(3)
    await desk.at(timedelta(minutes=1), last=DAY)
    await (await desk.digest()).tell_if_due()
    assert (await desk.facts())["Listening"] == (
        "this daemon has been up for 1 h, and was not listening for 42 s of it, the last time for 42 s from"
        " 2026-01-01 01:00:00 UTC, when it missed 3 and found them afterwards"
    )


async def test_a_time_that_is_long_is_cut_to_a_week(desk: Desk) -> None:
    await paid(desk.db, **closed("activated", ago="8 days"), noticed_at="now() - interval '8 days'")
    await paid(desk.db, **closed("activated", ago="6 days"), noticed_at="now() - interval '6 days'")
    await desk.at(timedelta(minutes=1), last=DAY * 60)
    await (await desk.digest()).tell_if_due()
    facts = await desk.facts()
    assert facts["Time"].endswith("that is 7 d")
    assert facts["Payments"] == "1 payment seen, 1 activated by the application"


async def test_what_is_too_much_to_count_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await paid(desk.db, **closed("activated", "30 seconds", ago="1 hour"))
    await paid(desk.db, **closed("activated", "90 seconds", ago="2 hours"))

    def counted(*arguments: Any) -> Any:
        return day(*arguments, most=1)

    monkeypatch.setattr("paidwatch.flow.digest.store.day", counted)
    await desk.at(timedelta(minutes=1), last=DAY)
    await (await desk.digest()).tell_if_due()
    facts = await desk.facts()
    assert facts["Payments"] == (
        "1 payment seen, 1 activated by the application; there were more, and only the newest are counted"
    )
    assert facts["Activation took"].endswith("longest 30 s")


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("digest_closed", {"watch_closed"}),
        ("digest_open", {"watch_gap", "watch_due"}),
        ("digest_sums", {"watch_gap", "alert_story", "alert_resolved", "activation_done"}),
        ("digest_dead", {"delivery_dead"}),
        ("pulse_state", {"delivery_due"}),
    ],
)
async def test_no_table_is_read_as_a_whole(desk: Desk, name: str, indexes: set[str]) -> None:
    """With the settings of the daemon's sessions, and a plan that does not know the values."""
    text = desk.means.statements[name]
    arguments = {"pulse_state": "'{ops}'", "digest_dead": "now(), '{ops}'", "digest_closed": "now(), 10"}
    async with desk.db.another() as db:
        for setting, value in BY_KEY.items():
            await db.execute(f"SET {setting} = {value}")
        await db.execute(f"PREPARE it AS {text}")
        plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN EXECUTE it ({arguments.get(name, 'now()')})"))
    for index in indexes:
        assert f"using {index} " in plan, plan
    for table in ("watch", "alert", "delivery", "activation"):
        assert f"Seq Scan on {table} " not in plan, plan


# The whole daemon


async def test_the_daemon_tells_it_once_over_restarts(watched: Database, told: Sink, start: Start) -> None:
    def digests() -> list[str]:
        return [message.word for message in told.told if message.kind == "daily"]

    daily = {"alerts": {"digest_at": "09:00"}}
    async with start(daily) as daemon:
        await daemon.ready()
        await daemon.database_by_asking(watched, "SELECT digest_at IS NOT NULL FROM paidwatch.installation")
    assert digests() == [], "the first one has its time still before it"
    await watched.execute("UPDATE paidwatch.installation SET digest_at = now() - interval '25 hours'")
    async with start(daily) as daemon:
        await daemon.ready()
        async with start(daily) as standby:
            await standby.log("lead.waiting")
            await told.until(lambda: len(digests()) == 1)
            await daemon.database(watched, "SELECT bool_and(told_at IS NOT NULL) FROM paidwatch.delivery")
            await daemon.stop()
            await standby.ready()
    async with start(daily) as daemon:
        await daemon.ready()
    assert digests() == ["DIGEST"]
