"""Many gaps of one cause are one incident: few messages while it grows, fewer when it ends, whoever decides."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from paidwatch.clock import SystemClock
from paidwatch.core.routing import About, Route, Routing, Severity
from paidwatch.core.schedule import QuietHours
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide, Ticked
from paidwatch.flow.policy import Policy
from paidwatch.flow.storm import Fresh, announce
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store import incidents, watches
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support.postgres import Database
from tests.support.torture import equipment

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
CHAT, HOOK, MAIL = "chat", "hook", "mail"
REFERENCES = {
    CHAT: '{"ts": "1", "channel": "C1"}',
    HOOK: '{"webhook_id": "1"}',
    MAIL: '{"message_id": "1", "subject": "s"}',
}
"""What a channel gives for a message it took; only `chat` can edit."""
PAID = """
WITH u AS (
    INSERT INTO users (email, username, hashed_password, is_active, subscription_status, subscription_tier)
    SELECT v, v, 'x', true, 'inactive', 'free'
    FROM (SELECT gen_random_uuid()::text AS v FROM generate_series(1, $1)) n
    RETURNING id
), p AS (
    INSERT INTO payment_transactions (user_id, plan_id, amount_usd, payment_method, status)
    SELECT id, 'professional', $2, $3, 'completed' FROM u RETURNING id, user_id
)
INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)
SELECT id, user_id, 'waiting', 'trigger', now() - interval '3 minutes', now() - interval '3 minutes', now(), now()
FROM p
RETURNING payment_id
"""
PAY_NOW = """
WITH u AS (
    INSERT INTO users (email, username, hashed_password, is_active, subscription_status, subscription_tier)
    SELECT v, v, 'x', true, 'inactive', 'free' FROM (SELECT gen_random_uuid()::text AS v FROM generate_series(1, $1)) n
    RETURNING id
)
INSERT INTO payment_transactions (user_id, plan_id, amount_usd, payment_method, status)
SELECT id, 'professional', 14.99, 'nowpayments', 'completed' FROM u
"""
HEAR = """
WITH due AS (
    SELECT d.delivery_id, d.told_revision > 0 AND d.edits AS edited FROM paidwatch.delivery d
    WHERE d.channel = $1 AND d.due_at <= now() AND d.waits_for IS NULL AND d.dead_at IS NULL
)
UPDATE paidwatch.delivery d SET told_revision = a.revision, told_at = now(), due_at = NULL, reference = $2::jsonb
FROM due, paidwatch.alert a WHERE d.delivery_id = due.delivery_id AND a.alert_id = d.alert_id
RETURNING a.kind, a.state, a.alert_id, a.payment_id, due.edited
"""
ROUTING = Routing(usual=(CHAT, HOOK, MAIL), low=frozenset({"amount_mismatch"}), routes=(), escalations=())


@pytest.fixture
def shape() -> str:
    """The one whose columns may be empty."""
    return "L"


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = equipment(tmp_path_factory.mktemp("storm")).policy
    return replace(policy, routing=ROUTING, storm_threshold=5, storm_window=MINUTE, quiet=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message as a person on a channel notices it."""

    kind: str
    state: str
    alert: int
    payment: int | None
    edited: bool
    """An earlier message was changed; nothing new appeared."""


class Shop:
    """A shop's payments, the decisions about them, and people on channels."""

    def __init__(self, db: Database, pool: Pool, policy: Policy) -> None:
        self.db = db
        self.pool = pool
        self.policy = policy

    def decide(self) -> Decide:
        metrics = Metrics(status=Status(clock=SystemClock()), version="0", channels=(CHAT, HOOK, MAIL))
        return Decide(
            database=self.pool,
            policy=lambda: self.policy,
            claimant=Claimant(lambda: self.policy),
            metrics=metrics,
            log=Log(),
        )

    async def tick(self) -> Ticked:
        return await self.decide().tick()

    async def paid(self, count: int = 1, *, method: str = "nowpayments", amount: str = "14.99") -> list[int]:
        """So many users paid, and nobody activated them; their grace is over."""
        rows = await self.db.fetch(
            PAID,
            count,
            Decimal(amount),
            method,
        )
        return [row["payment_id"] for row in rows]

    async def activated(self, payments: Sequence[int]) -> None:
        await self.db.execute(
            "UPDATE users SET subscription_status = 'active', subscription_tier = 'professional',"
            " payment_due_date = now() AT TIME ZONE 'UTC' + interval '31 days' WHERE id IN"
            " (SELECT user_id FROM payment_transactions WHERE id = ANY ($1::int[]))",
            payments,
        )
        await self.db.execute("UPDATE paidwatch.watch SET due_at = now() WHERE payment_id = ANY ($1::int[])", payments)

    async def hear(self, channel: str) -> list[Heard]:
        """Everything that is due on a channel is taken there."""
        rows = await self.db.fetch(
            HEAR,
            channel,
            REFERENCES[channel],
        )
        return [
            Heard(
                kind=row["kind"],
                state=row["state"],
                alert=row["alert_id"],
                payment=row["payment_id"],
                edited=row["edited"],
            )
            for row in rows
        ]

    async def everybody_hears(self) -> dict[str, list[Heard]]:
        return {channel: await self.hear(channel) for channel in (CHAT, HOOK, MAIL)}

    async def pass_by(self, span: timedelta) -> None:
        """So much time passes: everything that was happened longer ago, everything that is to come comes sooner."""
        for table, columns in {
            "alert": ("opened_at", "resolved_at", "remind_at", "escalate_at", "look_at", "storm_until", "acked_until"),
            "delivery": ("told_at", "due_at", "not_before"),
            "silence": ("created_at", "expires_at"),
        }.items():
            changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self.db.execute(f"UPDATE paidwatch.{table} SET {changes}", span)

    async def alerts(self, where: str = "true") -> list[Any]:
        return await self.db.fetch(f"SELECT * FROM paidwatch.alert WHERE {where} ORDER BY alert_id")

    async def incident(self) -> Any:
        (row,) = await self.alerts("kind = 'incident'")
        return row

    async def unsaid(self) -> list[Any]:
        """Who heard an alert, is not told the rest, and nothing says why."""
        return await self.db.fetch(
            "SELECT a.kind, d.channel FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id)"
            " WHERE d.told_revision > 0 AND d.told_revision < a.revision AND d.due_at IS NULL AND d.dead_at IS NULL"
        )

    async def look(self) -> None:
        """The sweep's part: an incident whose quiet time is over."""

        async def body(session: Any) -> None:
            await session.rows("close_incidents", [(await self.incident())["alert_id"]], timedelta(seconds=45), None)

        await self.pool.write(body)


@pytest.fixture
async def here(watched: Database, statements: Statements, usual: Policy) -> AsyncIterator[Shop]:
    seconds = timedelta(seconds=60)
    target = Target(dsn=watched.dsn, connect_timeout=seconds, statement_timeout=seconds)
    async with Pool(target, statements, size=4, settings=BY_KEY) as pool:
        yield Shop(watched, pool, usual)


def new(heard: Sequence[Heard]) -> list[tuple[str, str]]:
    return [(one.kind, one.state) for one in heard if not one.edited]


# C1


async def test_five_hundred_in_a_minute_are_three_messages_and_their_end_is_one(here: Shop) -> None:
    payments: list[int] = []
    heard: dict[str, list[Heard]] = {CHAT: [], HOOK: [], MAIL: []}

    async def listen() -> None:
        for channel, messages in (await here.everybody_hears()).items():
            heard[channel] += messages

    for second, count in enumerate((1, 1, 1, 97, 100, 100, 100, 100)):
        payments += await here.paid(count)
        await here.tick()
        await listen()
        await here.pass_by(SECOND * (7 if second else 1))
    await here.pass_by(45 * SECOND)
    await listen()
    gap, incident = ("paid_not_active", "open"), ("incident", "open")
    assert {channel: new(messages) for channel, messages in heard.items()} == {
        channel: [gap, gap, incident] for channel in heard
    }
    edits = [one for one in heard[CHAT] if one.edited]
    assert [one.kind for one in edits] == ["incident"]
    members = await here.alerts("incident_id IS NOT NULL")
    assert len(members) == 500
    made_of = await here.pool.read(lambda session: incidents.of(session, [members[0]["incident_id"]]))
    (found,) = made_of.values()
    assert (found.total, found.open, found.rescued, found.otherwise) == (500, 500, 0, 0)
    assert found.money_at_risk == {"USD": 500 * Decimal("14.99")}
    assert (found.kind_of, found.method) == ("paid_not_active", "nowpayments")
    assert [count for _, count in found.causes] == [500]
    assert found.oldest_paid_at is not None

    for channel in heard:
        heard[channel] = []
    await here.pass_by(MINUTE)
    for part in (payments[:200], payments[200:499], payments[499:]):
        await here.activated(part)
        await here.tick()
        await listen()
        await here.pass_by(50 * SECOND)
    await listen()
    assert {channel: new(messages) for channel, messages in heard.items()} == {
        CHAT: [],
        HOOK: [("incident", "resolved")],
        MAIL: [("incident", "resolved")],
    }
    edited = Counter((one.kind, one.state) for one in heard[CHAT])
    assert edited == {("paid_not_active", "resolved"): 2, ("incident", "open"): 2, ("incident", "resolved"): 1}
    made_of = await here.pool.read(lambda session: incidents.of(session, [members[0]["incident_id"]]))
    (found,) = made_of.values()
    assert (found.total, found.open, found.rescued, found.otherwise, found.money_at_risk) == (500, 0, 500, 0, {})
    assert (await here.incident())["state"] == "resolved"
    assert await here.unsaid() == []


async def test_five_hundred_at_once_are_one_message(here: Shop) -> None:
    await here.paid(500)
    await here.tick()
    heard = await here.everybody_hears()
    assert {channel: new(messages) for channel, messages in heard.items()} == {
        channel: [("incident", "open")] for channel in heard
    }


async def test_ten_thousand_of_one_cause_are_one_message_with_a_count(here: Shop) -> None:
    """C8: bad signatures are a cause like any other."""
    await here.paid(10_000)
    while (await here.tick()).claimed:
        heard = await here.everybody_hears()
        assert [one for messages in heard.values() for one in messages if one.kind != "incident"] == []
    (row,) = await here.db.fetch(
        "SELECT count(*) FILTER (WHERE told_revision > 0) AS told, count(*) AS all FROM paidwatch.delivery"
    )
    assert tuple(row) == (3, 3)
    number = (await here.incident())["alert_id"]
    found = await here.pool.read(lambda session: incidents.of(session, [number]))
    assert found[number].total == 10_000


async def test_edits_are_forty_five_seconds_apart(here: Shop) -> None:
    await here.paid(5)
    await here.tick()
    await here.everybody_hears()
    edits = 0
    for _ in range(18):
        await here.pass_by(10 * SECOND)
        await here.paid(1)
        await here.tick()
        heard = await here.everybody_hears()
        edits += len(heard[CHAT])
        assert heard[HOOK] == heard[MAIL] == []
        assert await here.unsaid() == []
    assert edits == 3


async def test_the_incident_waits_for_more_before_it_is_over(here: Shop) -> None:
    payments = await here.paid(5)
    await here.tick()
    await here.everybody_hears()
    await here.pass_by(30 * SECOND)
    await here.activated(payments)
    await here.tick()
    row = await here.incident()
    assert row["state"] == "open"
    assert row["look_at"] <= row["storm_until"]
    assert new((await here.everybody_hears())[HOOK]) == []
    await here.look()
    assert (await here.incident())["state"] == "open"
    await here.pass_by(31 * SECOND)
    await here.look()
    assert (await here.incident())["state"] == "resolved"
    heard = await here.everybody_hears()
    assert [(one.kind, one.state) for one in heard[HOOK] + heard[MAIL]] == [("incident", "resolved")] * 2


async def test_another_storm_after_the_end_is_another_incident(here: Shop) -> None:
    payments = await here.paid(5)
    await here.tick()
    await here.pass_by(2 * MINUTE)
    await here.activated(payments)
    await here.tick()
    await here.paid(5)
    await here.tick()
    assert [row["state"] for row in await here.alerts("kind = 'incident'")] == ["resolved", "open"]


# What is no storm


async def test_what_waited_goes_out_singly_where_no_storm_came(here: Shop) -> None:
    await here.paid(4)
    await here.tick()
    assert len((await here.everybody_hears())[HOOK]) == 2
    await here.pass_by(59 * SECOND)
    assert (await here.everybody_hears())[HOOK] == []
    await here.pass_by(2 * SECOND)
    assert len((await here.everybody_hears())[HOOK]) == 2
    assert await here.alerts("kind = 'incident'") == []


async def test_a_slow_drip_is_no_storm(here: Shop) -> None:
    for _ in range(12):
        await here.paid(1)
        await here.tick()
        assert len((await here.everybody_hears())[HOOK]) == 1
        await here.pass_by(31 * SECOND)
    assert await here.alerts("kind = 'incident'") == []


async def test_what_closed_while_it_waited_is_told_when_its_wait_is_over(here: Shop) -> None:
    """Until then an incident may still swallow it."""
    payments = await here.paid(4)
    await here.tick()
    await here.everybody_hears()
    waiting = [row["payment_id"] for row in await here.alerts("storm_until IS NOT NULL")]
    assert len(waiting) == 2
    await here.activated(waiting)
    await here.tick()
    assert (await here.everybody_hears())[HOOK] == []
    await here.paid(1)
    await here.tick()
    assert new((await here.everybody_hears())[HOOK]) == [("incident", "open")]
    assert len(await here.alerts("incident_id IS NOT NULL")) == 5
    await here.pass_by(2 * MINUTE)
    assert (await here.everybody_hears())[HOOK] == []
    assert len(payments) == 4


# C2


async def test_another_providers_gap_is_announced_alone_during_the_storm(here: Shop) -> None:
    await here.paid(500)
    (other,) = await here.paid(1, method="stripe")
    await here.tick()
    heard = await here.everybody_hears()
    for messages in heard.values():
        assert sorted((one.kind, one.payment) for one in messages) == [("incident", None), ("paid_not_active", other)]


async def test_no_method_is_a_likeness_too(here: Shop) -> None:
    await here.db.execute("ALTER TABLE payment_transactions ALTER payment_method DROP NOT NULL")
    for count in (5, 1):
        await here.paid(count)
        await here.db.execute("UPDATE payment_transactions SET payment_method = NULL")
        await here.tick()
    row = await here.incident()
    assert row["method"] is None
    assert len(await here.alerts(f"incident_id = {row['alert_id']}")) == 6


# Who hears it


async def test_each_alert_goes_its_own_way_and_the_incident_the_way_of_all(here: Shop) -> None:
    routes = (
        Route(channels=(MAIL,), min_amount=Decimal(1000)),
        Route(channels=(CHAT,), methods=frozenset({"card"})),
    )
    here.policy = replace(here.policy, routing=replace(ROUTING, usual=(HOOK,), routes=routes))
    await here.paid(1)
    await here.paid(1, amount="5000")
    await here.paid(1, method="Card")
    await here.paid(1, method="Card", amount="NaN")
    await here.tick()
    rows = await here.db.fetch(
        "SELECT a.amount, a.method, d.channel FROM paidwatch.alert a JOIN paidwatch.delivery d USING (alert_id)"
        " ORDER BY 1, 2"
    )
    assert [(str(row["amount"]), row["method"], row["channel"]) for row in rows] == [
        ("14.99", "Card", CHAT),
        ("14.99", "nowpayments", HOOK),
        ("5000.00", "nowpayments", MAIL),
        ("NaN", "Card", CHAT),
    ]
    await here.paid(5)
    await here.tick()
    told = await here.db.fetch(
        "SELECT d.channel FROM paidwatch.alert a JOIN paidwatch.delivery d USING (alert_id) WHERE a.kind = 'incident'"
    )
    assert {row["channel"] for row in told} == {HOOK, MAIL}


async def test_low_severity_waits_for_the_morning_even_as_an_incident(here: Shop) -> None:
    now = datetime.now(UTC)
    night = QuietHours(
        start=(now - timedelta(hours=2)).time(), end=(now + timedelta(hours=2)).time(), zone=ZoneInfo("UTC")
    )
    here.policy = replace(here.policy, quiet=night, routing=replace(ROUTING, low=frozenset({"paid_not_active"})))
    (first,) = await here.paid(1)
    await here.tick()
    waiting = await here.db.fetch(
        "SELECT channel, waits_for, due_at > now() + interval '1 hour' AS late FROM paidwatch.delivery"
    )
    assert {(row["channel"], row["waits_for"], row["late"]) for row in waiting} == {
        (channel, "quiet", True) for channel in (CHAT, HOOK, MAIL)
    }
    assert {row["severity"] for row in await here.alerts()} == {"low"}
    await here.activated([first])
    await here.tick()
    assert await here.db.fetchval("SELECT count(*) FROM paidwatch.delivery WHERE waits_for = 'quiet'") == 3
    await here.paid(5)
    await here.tick()
    waiting = await here.db.fetch(
        "SELECT DISTINCT a.kind, d.waits_for FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id)"
    )
    assert [tuple(row) for row in waiting] == [("incident", "quiet")]


async def test_high_severity_goes_out_at_night(here: Shop) -> None:
    everything = QuietHours(start=time(0, 0), end=time(23, 59, 59), zone=ZoneInfo("UTC"))
    here.policy = replace(here.policy, quiet=everything)
    await here.paid(1)
    await here.tick()
    assert len((await here.everybody_hears())[HOOK]) == 1


# Silences


async def silence(here: Shop, **about: object) -> int:
    columns = {"author": "ops", "reason": "known", "expires_at": datetime.now(UTC) + timedelta(hours=1)} | about
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    number: int = await here.db.fetchval(
        f"INSERT INTO paidwatch.silence ({', '.join(columns)}) VALUES ({places}) RETURNING silence_id",
        *columns.values(),
    )
    return number


@pytest.mark.parametrize(
    "about",
    [
        {"plan_id": "professional"},
        {"method": "NowPayments"},
        {"kind": "paid_not_active"},
        {"plan_id": "professional", "kind": "paid_not_active"},
    ],
    ids=str,
)
async def test_a_silence_speaks_for_what_it_fits(here: Shop, about: dict[str, object]) -> None:
    number = await silence(here, **about)
    payments = await here.paid(1)
    await here.tick()
    (row,) = await here.alerts()
    assert (row["silence_id"], row["remind_at"]) == (number, None)
    assert await here.db.fetchval("SELECT count(*) FROM paidwatch.delivery") == 0
    history = await here.db.fetch("SELECT what, note FROM paidwatch.alert_history ORDER BY history_id")
    assert [tuple(row) for row in history] == [("opened", ""), ("silenced", f"silence {number} by ops")]
    await here.activated(payments)
    await here.tick()
    assert await here.everybody_hears() == {CHAT: [], HOOK: [], MAIL: []}


@pytest.mark.parametrize(
    "about",
    [
        {"plan_id": "vip_elite"},
        {"method": "stripe"},
        {"kind": "tier_mismatch"},
        {"plan_id": "professional", "method": "stripe"},
        {"kind": "paid_not_active", "ended_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {
            "kind": "paid_not_active",
            "created_at": datetime(2020, 1, 1, tzinfo=UTC),
            "expires_at": datetime(2020, 1, 2, tzinfo=UTC),
        },
    ],
    ids=str,
)
async def test_a_silence_that_does_not_fit_or_is_over_says_nothing(here: Shop, about: dict[str, object]) -> None:
    await silence(here, **about)
    await here.paid(1)
    await here.tick()
    assert len((await here.everybody_hears())[HOOK]) == 1


async def test_a_user_is_silenced_and_others_are_not(here: Shop) -> None:
    first, second = await here.paid(2)
    user = await here.db.fetchval("SELECT user_id FROM payment_transactions WHERE id = $1", first)
    await silence(here, user_id=user)
    await here.tick()
    assert [one.payment for one in (await here.everybody_hears())[HOOK]] == [second]


async def test_what_is_silenced_makes_no_storm(here: Shop) -> None:
    await silence(here, method="nowpayments")
    await here.paid(100)
    await here.tick()
    assert await here.alerts("kind = 'incident'") == []
    await here.db.execute("UPDATE paidwatch.silence SET ended_at = now()")
    await here.paid(2)
    await here.tick()
    assert len((await here.everybody_hears())[HOOK]) == 2
    assert await here.alerts("kind = 'incident'") == []


# Acknowledgements


async def test_new_money_ends_the_acknowledgement_of_the_incident(here: Shop) -> None:
    await here.paid(5)
    await here.tick()
    await here.db.execute(
        "UPDATE paidwatch.alert SET state = 'acked', acked_by = 'ops', acked_until = now() + interval '2 hours'"
        " WHERE kind = 'incident'"
    )
    await here.paid(1)
    await here.tick()
    row = await here.incident()
    assert (row["state"], row["acked_until"]) == ("open", None)
    assert len(await here.alerts("kind = 'incident'")) == 1


async def test_an_acknowledged_gap_is_resolved_like_any_other(here: Shop) -> None:
    payments = await here.paid(1)
    await here.tick()
    await here.everybody_hears()
    await here.db.execute(
        "UPDATE paidwatch.alert SET state = 'acked', acked_by = 'ops', acked_until = now() + interval '2 hours'"
    )
    await here.activated(payments)
    await here.tick()
    assert [(one.kind, one.state) for one in (await here.everybody_hears())[HOOK]] == [("paid_not_active", "resolved")]


# Who decides, and what is under way meanwhile


async def test_two_deciders_open_one_incident(here: Shop) -> None:
    """One of them was paused and leads no more; both find gaps of the same cause at the same time."""
    await here.paid(60)
    most = replace(here.policy, storm_threshold=5)
    here.policy = most
    results: list[Ticked] = []

    async def one(decide: Decide) -> None:
        results.append(await decide._tick(20))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one, here.decide())
    await here.tick()
    (incident,) = await here.alerts("kind = 'incident'")
    assert len(await here.alerts(f"incident_id = {incident['alert_id']}")) == 60
    for messages in (await here.everybody_hears()).values():
        assert new(messages) == [("incident", "open")]


class Meeting:
    """An incident whose members are about to end, and a gap outside it that is about to join."""

    def __init__(self, here: Shop) -> None:
        self.here = here
        self.first = anyio.Event()
        self.go = anyio.Event()

    async def prepare(self) -> None:
        members = await self.here.paid(5)
        await self.here.tick()
        await self.here.everybody_hears()
        await self.here.pass_by(2 * MINUTE)
        number = await silence(self.here, method="nowpayments")
        await self.here.paid(1)
        await self.here.tick()
        (self.outside,) = await self.here.alerts(f"silence_id = {number}")
        await self.here.db.execute("UPDATE paidwatch.alert SET silence_id = NULL")
        await self.here.activated(members)

    async def joins(self, *, pauses: bool) -> None:
        about = About(kind="paid_not_active", severity=Severity.HIGH, method="nowpayments", amount=None)
        alert = Fresh(alert_id=self.outside["alert_id"], about=about, error_class=self.outside["error_class"])

        async def body(session: Session) -> None:
            await announce(session, [alert], self.here.policy, await session.connection.fetchval("SELECT now()"))
            await self.pause(pauses)

        await self.here.pool.write(body)

    async def ends(self, *, pauses: bool) -> None:
        payments = await self.here.db.fetch(
            "SELECT payment_id::text AS key FROM paidwatch.watch WHERE due_at IS NOT NULL"
        )

        async def body(session: Session) -> None:
            at = await session.connection.fetchval("SELECT now()")
            await watches.close_watches(session, {row["key"]: ("activated", at) for row in payments})
            await self.pause(pauses)

        await self.here.pool.write(body)

    async def pause(self, pauses: bool) -> None:
        if pauses:
            self.first.set()
            await self.go.wait()

    async def let_go_when_the_other_waits(self) -> None:
        with anyio.fail_after(20):
            while not await self.here.db.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND a.datname = current_database()"
            ):
                await anyio.lowlevel.checkpoint()
        self.go.set()


async def test_who_joins_before_the_last_one_ends_keeps_the_incident_open(here: Shop) -> None:
    meeting = Meeting(here)
    await meeting.prepare()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(meeting.joins, pauses=True))
        await meeting.first.wait()
        group.start_soon(partial(meeting.ends, pauses=False))
        await meeting.let_go_when_the_other_waits()
    row = await here.incident()
    assert row["state"] == "open"
    assert len(await here.alerts(f"incident_id = {row['alert_id']} AND state = 'open'")) == 1


async def test_who_joins_after_the_last_one_ended_is_told_alone(here: Shop) -> None:
    meeting = Meeting(here)
    await meeting.prepare()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(meeting.ends, pauses=True))
        await meeting.first.wait()
        group.start_soon(partial(meeting.joins, pauses=False))
        await meeting.let_go_when_the_other_waits()
    rows = await here.alerts("kind = 'incident'")
    (alert,) = await here.alerts(f"alert_id = {meeting.outside['alert_id']}")
    assert [row["state"] for row in rows] == ["resolved"]
    assert (alert["state"], alert["incident_id"]) == ("open", None)
    assert ("paid_not_active", "open") in new((await here.everybody_hears())[HOOK])


async def test_many_whose_silence_ended_are_one_incident(here: Shop) -> None:
    await silence(here, method="nowpayments")
    await here.paid(100)
    await here.tick()
    await here.db.execute("UPDATE paidwatch.alert SET silence_id = NULL")
    rows = await here.alerts()
    about = About(kind="paid_not_active", severity=Severity.HIGH, method="nowpayments", amount=None)
    freed = [Fresh(alert_id=row["alert_id"], about=about, error_class=row["error_class"]) for row in rows]

    async def body(session: Session) -> None:
        now = await session.connection.fetchval("SELECT now()")
        await announce(session, freed[:2], here.policy, now)
        await announce(session, freed[2:], here.policy, now)

    await here.pool.write(body)
    assert new((await here.everybody_hears())[HOOK]) == [("incident", "open")]


async def test_a_message_that_is_under_way_stays_and_the_log_of_attempts_too(here: Shop) -> None:
    await here.paid(4)
    await here.tick()
    await here.db.execute(
        "UPDATE paidwatch.delivery SET lease = 'x', lease_until = now() + interval '1 minute' WHERE delivery_id ="
        " (SELECT min(delivery_id) FROM paidwatch.delivery WHERE channel = 'hook')"
    )
    await here.db.execute(
        "INSERT INTO paidwatch.attempt (delivery_id, took, revision, word, result)"
        " SELECT delivery_id, interval '1 second', 1, 'NEW', 'transient' FROM paidwatch.delivery"
        " WHERE channel = 'mail' ORDER BY delivery_id LIMIT 1"
    )
    await here.paid(1)
    await here.tick()
    left = await here.db.fetch(
        "SELECT d.channel, d.due_at IS NOT NULL AS due, d.lease IS NOT NULL AS leased FROM paidwatch.delivery d"
        " JOIN paidwatch.alert a USING (alert_id) WHERE a.kind <> 'incident' ORDER BY 1"
    )
    assert [tuple(row) for row in left] == [(HOOK, True, True), (MAIL, False, False)]
    assert await here.db.fetchval("SELECT count(*) FROM paidwatch.attempt") == 1


async def test_a_storm_costs_a_handful_of_statements(here: Shop) -> None:
    async def asked(count: int) -> int:
        await here.db.execute("SELECT pg_stat_statements_reset()")
        await here.paid(count)
        await here.tick()
        calls: int = await here.db.fetchval(
            "SELECT sum(calls)::int FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE d.datname = current_database() AND query NOT LIKE '%generate_series%'"
        )
        return calls

    await here.db.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    few, many = await asked(10), await asked(2000)
    assert many <= few + 3
    assert len(await here.alerts("incident_id IS NOT NULL")) == 2010
