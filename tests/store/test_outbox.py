"""The outbox on real PostgreSQL: leases, what a claim brings, guarded records, notes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from paidwatch.core.routing import Severity
from paidwatch.core.story import State
from paidwatch.errors import DeliveryError, Fault
from paidwatch.ports import Receipt
from paidwatch.store import channels, outbox
from paidwatch.store.channels import Wait
from paidwatch.store.connect import Target
from paidwatch.store.outbox import Due
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support.postgres import Database

SPAN = timedelta(minutes=1)
TAKEN = Receipt(reference={"message_id": "9"}, code="200", size=1)
BUSY = DeliveryError("the service answered 503", fault=Fault.TRANSIENT, code="503")


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture
async def pool(watched: Database, statements: Statements) -> AsyncIterator[Pool]:
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=60))
    async with Pool(target, statements, size=8) as opened:
        yield opened


async def queue(db: Database, count: int = 1, channel: str = "ops", **columns: str) -> list[int]:
    """Alerts with a delivery due now; further columns of the alerts as SQL."""
    given = {"kind": "'paid_not_active'", "cause": "'no webhook'", "look_at": "NULL"} | columns
    rows = await db.fetch(
        f"WITH told AS (INSERT INTO paidwatch.alert ({', '.join(given)}) SELECT {', '.join(given.values())}"
        " FROM generate_series(1, $1) RETURNING alert_id)"
        " INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT alert_id, $2, now() FROM told"
        " RETURNING alert_id",
        count,
        channel,
    )
    return [row["alert_id"] for row in rows]


async def claim(pool: Pool, lease: str = "a", most: int = 10, channel: str = "ops") -> list[Due]:
    return await pool.write(lambda session: outbox.claim(session, channel, lease=lease, span=SPAN, most=most))


async def test_what_one_claims_no_other_does(watched: Database, pool: Pool) -> None:
    await queue(watched, 60)
    claimed: list[int] = []

    async def one(name: str) -> None:
        while batch := await claim(pool, name, most=7):
            claimed.extend(due.delivery_id for due in batch)

    async with anyio.create_task_group() as group:
        for name in "abcdef":
            group.start_soon(one, name)
    assert len(claimed) == 60
    assert len(set(claimed)) == 60


async def test_a_lease_that_was_lost_records_nothing(watched: Database, pool: Pool) -> None:
    await queue(watched)
    [due] = await claim(pool, "a")
    await watched.execute("UPDATE paidwatch.delivery SET due_at = now()")
    [taken] = await claim(pool, "b")
    before = await watched.fetchval("SELECT d::text FROM paidwatch.delivery d")
    assert await pool.write(lambda session: outbox.record_sent(session, due, TAKEN)) is None
    await pool.write(lambda session: outbox.record_retry(session, due, SPAN, BUSY))
    await pool.write(lambda session: outbox.record_held(session, due, SPAN, BUSY, counts=True))
    await pool.write(lambda session: outbox.record_dead(session, due, BUSY))
    await pool.write(lambda session: outbox.put_back(session, due))
    assert await watched.fetchval("SELECT d::text FROM paidwatch.delivery d") == before
    assert await pool.write(lambda session: outbox.record_sent(session, taken, TAKEN)) is not None


async def test_a_claim_tells_all_that_the_alert_says(watched: Database, pool: Pool) -> None:
    [number] = await queue(
        watched,
        severity="'low'",
        state="'acked'",
        acked_by="'somebody'",
        acked_until="now() + interval '1 hour'",
        escalations="2",
        plan_id="'professional'",
        method="'nowpayments'",
        amount="14.99",
        currency="'USD'",
    )
    await queue(watched, 2)
    await queue(watched, 1, "team", state="'resolved'", resolved_at="now()")
    await watched.execute(
        "UPDATE paidwatch.delivery SET escalated = true, escalated_from = 10 WHERE alert_id = $1", number
    )
    due = next(it for it in await claim(pool) if it.story.alert_id == str(number))
    story = due.story
    assert (story.state, story.severity, story.acked_by) == (State.ACKED, Severity.LOW, "somebody")
    assert story.acked_until is not None
    assert (story.escalated, story.escalated_from, story.escalations) == (True, Decimal(10), 2)
    assert (story.plan_id, story.method, story.amount, story.currency) == (
        "professional",
        "nowpayments",
        Decimal("14.99"),
        "USD",
    )
    assert story.sharing == 2, "two others are not over and have its cause"


async def test_who_dismissed_it_and_why_is_told(watched: Database, pool: Pool) -> None:
    [number] = await queue(watched, state="'resolved'", resolved_at="now()", outcome="'dismissed'")
    await watched.execute(
        "INSERT INTO paidwatch.alert_history (alert_id, what, actor, note)"
        " VALUES ($1, 'dismissed', 'somebody', 'a test account')",
        number,
    )
    [due] = await claim(pool)
    assert (due.story.ended_by, due.story.ended_why) == ("somebody", "a test account")


async def test_a_story_about_a_broken_channel_says_how_much_waits_for_it(watched: Database, pool: Pool) -> None:
    await queue(watched, 4)
    fresh = await pool.write(
        lambda session: channels.take_down(session, "ops", SPAN, "answered 404", others=[["team"], ["team", "spare"]])
    )
    assert fresh
    [due] = await claim(pool, channel="team")
    assert (due.story.kind, due.story.about_channel, due.story.waiting) == ("channel_down", "ops", 4)
    again = await pool.write(
        lambda session: channels.take_down(session, "ops", SPAN, "answered 404", others=[["team"]])
    )
    assert not again


@pytest.mark.parametrize(
    ("down", "told"), [((), ["team"]), (("team",), ["spare"]), (("team", "spare"), ["team"])], ids=str
)
async def test_of_a_broken_channel_a_living_one_is_told(
    watched: Database, pool: Pool, down: tuple[str, ...], told: list[str]
) -> None:
    for name in down:
        await watched.execute("INSERT INTO paidwatch.channel (name, down_since) VALUES ($1, now())", name)
    await pool.write(
        lambda session: channels.take_down(session, "ops", SPAN, "gone", others=[["team"], ["team", "spare"]])
    )
    rows = await watched.fetch("SELECT channel FROM paidwatch.delivery")
    assert [row["channel"] for row in rows] == told


async def test_a_channel_that_is_down_is_asked_about_one_message(watched: Database, pool: Pool) -> None:
    await queue(watched, 5)
    await watched.execute("INSERT INTO paidwatch.channel (name, down_since) VALUES ('ops', now())")
    assert len(await claim(pool)) == 1


async def test_what_waits_for_the_morning_is_not_claimed(watched: Database, pool: Pool) -> None:
    await queue(watched, 3)
    await watched.execute("UPDATE paidwatch.delivery SET waits_for = 'quiet'")
    assert await claim(pool) == []
    ahead = await pool.read(lambda session: channels.ahead(session, "ops"))
    assert ahead.quiet
    assert ahead.wait is None


async def test_a_digest_is_told_with_its_stories_in_one_transaction(watched: Database, pool: Pool) -> None:
    numbers = await queue(watched, 3)
    await watched.execute("UPDATE paidwatch.delivery SET waits_for = 'quiet'")
    gathered = await pool.write(lambda session: channels.gather(session, "ops", Wait.QUIET))
    assert (gathered.waited, gathered.alert_id is None) == (3, False)
    assert await pool.write(lambda session: channels.gather(session, "ops", Wait.QUIET)) == channels.Gathered(
        waited=0, alert_id=None
    )
    [due] = await claim(pool)
    assert (due.story.kind, due.story.members_total, len(due.members)) == ("morning", 3, 3)
    await watched.execute("UPDATE paidwatch.alert SET revision = 2, reminders = 1 WHERE alert_id = $1", numbers[0])
    told = await pool.write(lambda session: outbox.record_sent(session, due, TAKEN))
    assert told is not None
    assert told.moved_on, "one of them changed meanwhile"
    rows = await watched.fetch(
        "SELECT told_revision, due_at IS NOT NULL AS due, waits_for FROM paidwatch.delivery WHERE bundle_id IS NOT NULL"
        " ORDER BY alert_id"
    )
    assert [tuple(row.values()) for row in rows] == [(1, True, None), (1, False, None), (1, False, None)]


async def test_one_message_that_waited_is_no_digest(watched: Database, pool: Pool) -> None:
    await queue(watched)
    await watched.execute("UPDATE paidwatch.delivery SET waits_for = 'quiet'")
    assert (await pool.write(lambda session: channels.gather(session, "ops", Wait.QUIET))).alert_id is None
    [due] = await claim(pool)
    assert due.story.kind == "paid_not_active"


@pytest.mark.parametrize("state", [State.OPEN, State.RESOLVED])
async def test_a_note_is_told_on_every_channel(watched: Database, pool: Pool, state: State) -> None:
    number = await pool.write(
        lambda session: outbox.open_note(
            session, kind="daily", cause="why", notes=["one", "two"], channels=["ops", "team"], state=state
        )
    )
    [row] = await watched.fetch("SELECT * FROM paidwatch.alert")
    found: dict[str, Any] = dict(row)
    assert (found["alert_id"], found["kind"], found["cause"], found["notes"]) == (
        number,
        "daily",
        "why",
        ["one", "two"],
    )
    assert (found["state"], found["resolved_at"] is None, found["look_at"] is None) == (
        state.value,
        state is State.OPEN,
        state is State.RESOLVED,
    )
    for channel in ("ops", "team"):
        [due] = await claim(pool, channel=channel)
        assert (due.story.digest, due.story.state) == (("one", "two"), state)


async def test_a_given_up_message_whose_story_moved_on_has_all_its_time_anew(watched: Database, pool: Pool) -> None:
    await queue(watched)
    await watched.execute(
        "UPDATE paidwatch.delivery SET told_revision = 1, dead_at = now() - interval '1 day', attempts = 40,"
        " trying_since = now() - interval '2 days'"
    )
    [due] = await claim(pool)
    assert due.attempts == 1
    assert due.now - due.trying_since == timedelta()
    assert await watched.fetchval("SELECT dead_at IS NULL FROM paidwatch.delivery")
