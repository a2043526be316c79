"""The daemon's own life: started late, restarted, reloaded, doubled, and what people hear of it: each gap once."""

import json
import signal
from datetime import timedelta
from typing import Any

import pytest

from tests.support import shop
from tests.support.daemon import install, told_and_done
from tests.support.postgres import Database, Server, on_shapes
from tests.support.sink import Sink
from tests.support.watched import Start

SHAPES = on_shapes("L", thorough="F")
ANY = pytest.mark.parametrize("shape", ["L"])
"""Of the daemon and its channels, where the shape of the application decides nothing."""
QUICK = {"grace": {"default": "300ms"}}
AUTO = {"activation": {"mode": "auto", "require_corroboration": False}}
HOURLY = "SELECT count(*) FROM paidwatch.activation WHERE state IN ('claimed', 'done')"


async def paid(db: Database, user: Any = None, **more: Any) -> str:
    payment = await shop.add_payment(db, user or await shop.add_user(db), **more)
    await shop.complete(db, payment)
    return str(payment)


async def many_paid(db: Database, count: int, *, method: str = "nowpayments") -> set[str]:
    """Let this many users pay in two statements: one gap each."""
    rows = await db.fetch(
        "WITH u AS (INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status,"
        " subscription_tier, trial_used, created_at, updated_at)"
        " SELECT 'many' || n || '@example.org', 'many' || n, 'x', true, false, 'inactive', 'free', false, now(), now()"
        " FROM generate_series(1, $1::int) n RETURNING id)"
        " INSERT INTO payment_transactions"
        " (user_id, plan_id, amount_usd, payment_method, status, created_at, updated_at)"
        " SELECT id, 'professional', 14.99, $2, 'pending', now(), now() FROM u RETURNING id",
        count,
        method,
    )
    await db.execute("UPDATE payment_transactions SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC'")
    return {str(row["id"]) for row in rows}


# 5, A3: down when the payment came


@SHAPES
async def test_a_payment_while_nobody_watched_is_told_at_the_start_with_the_reason_and_only_once(
    watched: Database, told: Sink, start: Start
) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
    payment = await paid(watched)
    await watched.execute("UPDATE paidwatch.inbox SET at = at - interval '7 minutes'")
    for _ in range(3):
        async with start(QUICK) as daemon:
            await daemon.ready()
            await told.until_told([payment])
    assert told.announced() == {(payment, "paid_not_active"): 1}
    (message,) = told.told
    assert "noticed the payment 7 min late" in json.dumps(message.body)


@ANY
async def test_fifty_open_alerts_are_not_repeated_by_a_restart(watched: Database, told: Sink, start: Start) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
        payments = await many_paid(watched, 50)
        await told.until_told(payments)
        await daemon.log("delivery.sent", count=50)
        await daemon.kill9()
    for _ in range(2):
        async with start(QUICK) as daemon:
            await daemon.ready()
            marker = await paid(watched)
            await told.until_told([marker])
            payments.add(marker)
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in payments}
    assert len(told.told) == 52
    assert await told_and_done(watched)


# The first run


@SHAPES
async def test_history_is_one_digest_and_never_followed(
    server: Server, shape: str, told: Sink, start: Start, watched: Database
) -> None:
    old = await server.create(shape)
    history = await many_paid(old, 7)
    await old.execute(
        "UPDATE payment_transactions SET completed_at = completed_at - interval '5 hours', updated_at = now()"
    )
    active = await shop.add_user(
        old, status="active", tier="professional", paid_until=await shop.now(old) + timedelta(days=40)
    )
    await paid(old, active, method="slow")
    await install(old)
    for _ in range(2):
        async with start(QUICK, AUTO, database=old) as daemon:
            await daemon.ready()
            await told.until(lambda: any(message.kind == "baseline" for message in told.told))
            news = await paid(old)
            await told.until(lambda news=news: news in {message.payment for message in told.told})  # type: ignore[misc]
    digests = [message for message in told.told if message.kind == "baseline"]
    assert len(digests) == 1
    assert "7 payments" in json.dumps(digests[0].body)
    assert not history & {message.payment for message in told.told}
    assert await old.fetchval("SELECT count(*) FROM users WHERE subscription_status = 'active'") == 3
    await server.drop(old)


@ANY
async def test_a_late_change_of_a_payment_of_the_past_is_no_alarm(
    server: Server, shape: str, told: Sink, start: Start, watched: Database
) -> None:
    old = await server.create(shape)
    history = await many_paid(old, 2)
    await old.execute("UPDATE payment_transactions SET completed_at = completed_at - interval '5 hours'")
    await install(old)
    async with start(QUICK, database=old) as daemon:
        await daemon.ready()
        for payment in history:
            await shop.update(old, "payments", int(payment), {"amount_usd": shop.PRICES["professional"] - 1})
        marker = await paid(old)
        await told.until_told([marker])
    assert not history & {message.payment for message in told.told}
    await server.drop(old)


# Reminders


@ANY
async def test_an_open_gap_is_told_again_at_its_ages_and_not_after_its_end(
    watched: Database, told: Sink, start: Start
) -> None:
    user = await shop.add_user(watched)
    async with start(QUICK | {"alerts": {"reminders": ["1s", "2s", "1h"]}}) as daemon:
        await daemon.ready()
        payment = await paid(watched, user)
        await told.until(lambda: [message.word for message in told.told].count("STILL") == 2)
        await shop.activate(watched, user, payment=int(payment))
        await told.until_told([payment], word="RESOLVED")
    assert [message.word for message in told.told] == ["NEW", "STILL", "STILL", "RESOLVED"]


@ANY
async def test_reminders_that_were_missed_are_one(watched: Database, told: Sink, start: Start) -> None:
    user = await shop.add_user(watched)
    reminding = QUICK | {"alerts": {"reminders": ["1h", "2h", "3h", "9h"]}}
    async with start(reminding) as daemon:
        await daemon.ready()
        payment = await paid(watched, user)
        await told.until_told([payment])
    await watched.execute(
        "UPDATE paidwatch.alert"
        " SET opened_at = opened_at - interval '4 hours', remind_at = remind_at - interval '4 hours'"
    )
    async with start(reminding) as daemon:
        await daemon.ready()
        await told.until(lambda: "STILL" in [message.word for message in told.told])
        await shop.activate(watched, user, payment=int(payment))
        await told.until_told([payment], word="RESOLVED")
    assert [message.word for message in told.told] == ["NEW", "STILL", "RESOLVED"]


# Reload


@ANY
async def test_a_reload_counts_for_new_watches_and_a_broken_file_for_none(
    watched: Database, told: Sink, start: Start
) -> None:
    grace = "SELECT extract(epoch FROM grace_until - paid_at)::int FROM paidwatch.watch WHERE payment_id::text = $1"
    noticed = "SELECT EXISTS (SELECT FROM paidwatch.watch WHERE payment_id::text = $1)"
    async with start({"grace": {"default": "3600s"}}) as daemon:
        await daemon.ready()
        first = await paid(watched)
        await told_when(watched, noticed, first)
        await daemon.reload({"grace": {"default": "1800s"}}, database=watched, sink=told)
        await daemon.log("config.reloaded")
        second = await paid(watched)
        await told_when(watched, noticed, second)
        daemon.config.write_text("[grace]\ndefault = 'soon'\n")
        daemon.signal(signal.SIGHUP)
        await daemon.log("config.refused")
        daemon.config.write_text("[grace\n")
        daemon.signal(signal.SIGHUP)
        await daemon.log("config.refused", count=2)
        third = await paid(watched)
        await told_when(watched, noticed, third)
        await daemon.reload({"grace": {"default": "100ms"}}, database=watched, sink=told)
        await daemon.log("config.reloaded", count=2)
        fourth = await paid(watched)
        await told.until_told([fourth])
        found = [await watched.fetchval(grace, payment) for payment in (first, second, third, fourth)]
    assert found == [3600, 1800, 1800, 0]
    assert told.announced() == {(fourth, "paid_not_active"): 1}


async def told_when(db: Database, question: str, *values: object) -> None:
    """Wait for the database itself: a listener of its own hears the same rings as the daemon."""
    for _ in range(2000):
        if await db.fetchval(question, *values):
            return
        await db.fetchval("SELECT pg_sleep(0.005)")
    raise AssertionError(question)


@ANY
async def test_a_channel_that_is_added_by_a_reload_is_told_what_is_new(
    watched: Database, told: Sink, start: Start
) -> None:
    extra = {"channels.chat": {"type": "slack", "url": told.url("slack"), "pace": "1ms"}}
    async with start(QUICK) as daemon:
        await daemon.ready()
        first = await paid(watched)
        await told.until_told([first])
        await daemon.reload(QUICK, extra, database=watched, sink=told)
        await daemon.log("config.reloaded")
        second = await paid(watched)
        await told.until_told([second])
        await told.until(lambda: any(message.channel == "slack" for message in told.told))
    assert [message.channel for message in told.told].count("slack") == 1
    assert told.announced() == {(first, "paid_not_active"): 1, (second, "paid_not_active"): 1}


# Two daemons


@ANY
async def test_a_standby_takes_over_as_soon_as_the_leader_is_killed(
    watched: Database, told: Sink, start: Start
) -> None:
    async with start(QUICK) as leader:
        await leader.ready()
        async with start(QUICK) as standby:
            await standby.log("lead.waiting")
            first = await paid(watched)
            await leader.log("delivery.sent")
            await leader.kill9()
            second = await paid(watched)
            await standby.ready()
            await told.until_told([second])
            assert not standby.events("gap.opened", payment=first)
    assert told.announced() == {(first, "paid_not_active"): 1, (second, "paid_not_active"): 1}


@ANY
async def test_a_standby_leaves_at_once_when_told_to(watched: Database, told: Sink, start: Start) -> None:
    async with start(QUICK) as leader:
        await leader.ready()
        async with start(QUICK) as standby:
            await standby.log("lead.waiting")
            await standby.stop()
        payment = await paid(watched)
        await told.until_told([payment])


@ANY
async def test_a_standby_waits_patiently_however_long_one_wait_may_be(
    watched: Database, told: Sink, start: Start
) -> None:
    """A wait for the lock that is as long as a statement may take is no lost connection."""
    even = {"database": {"statement_timeout": "1s"}, "daemon": {"leader_wait": "1s"}}
    async with start(QUICK) as leader:
        await leader.ready()
        async with start(QUICK, even) as standby:
            await standby.log("lead.waiting")
            for _ in range(3):
                await watched.fetchval("SELECT pg_sleep(1.1)")
            assert not standby.events("listen.lost")
            assert len(standby.events("lead.waiting")) == 1
            await leader.kill9()
            await standby.ready()


@SHAPES
async def test_ten_rings_and_two_daemons_activate_once(watched: Database, told: Sink, start: Start) -> None:
    async with start(QUICK, AUTO) as one, start(QUICK, AUTO) as two:
        await one.until(lambda: bool(one.events("listen.ready") or one.events("lead.waiting")))
        await two.until(lambda: bool(two.events("listen.ready") or two.events("lead.waiting")))
        user = await shop.add_user(watched)
        payment = await shop.add_payment(watched, user)
        await shop.complete(watched, payment)
        for number in range(10):
            await shop.complete(watched, payment, status="finished" if number % 2 else "completed")
            await watched.execute("NOTIFY paidwatch")
        await told.until_told([payment], word="FIXED")
        until = (await shop.read(watched, "users", user))["payment_due_date"]
        leader = one if one.events("listen.ready") else two
        await leader.log("delivery.sent")
        await leader.kill9()
        await (two if leader is one else one).ready()
        marker = await shop.add_payment(watched, await shop.add_user(watched))
        await shop.complete(watched, marker)
        await told.until_told([marker], word="FIXED")
    assert (await shop.read(watched, "users", user))["payment_due_date"] == until
    assert await watched.fetchval("SELECT count(*) FROM subscription_events WHERE user_id = $1", user) == 1
    assert told.announced(words=("NEW", "FIXED")) == {
        (str(payment), "paid_not_active"): 1,
        (str(marker), "paid_not_active"): 1,
    }


# 18: the cap


@SHAPES
async def test_thirty_gaps_and_a_cap_of_five_an_hour_over_restarts(watched: Database, told: Sink, start: Start) -> None:
    capped = {"activation": {"max_per_hour": 5, "max_per_day": 20, "breaker_share": 0}}
    async with start(QUICK, AUTO, capped) as daemon:
        await daemon.ready()
        payments = await many_paid(watched, 30)
        await told.until(lambda: payments <= {message.payment for message in told.told})
    assert await watched.fetchval(HOURLY) == 5
    async with start(QUICK, AUTO, capped) as daemon:
        await daemon.ready()
        marker = await paid(watched)
        await told.until_told([marker])
    assert await watched.fetchval(HOURLY) == 5
    assert await watched.fetchval("SELECT count(*) FROM users WHERE subscription_status = 'active'") == 5
    assert len(told.payments("FIXED")) == 5
    assert len(told.payments("NEW")) == 26
    assert len(told.told) == 31
    refused = [message for message in told.told if message.word == "NEW"]
    assert all("the cap per hour is reached" in json.dumps(message.body) for message in refused)


async def test_thirty_gaps_are_one_storm_and_open_the_breaker_over_restarts(
    watched: Database, told: Sink, start: Start
) -> None:
    usual = {"activation": {"max_per_hour": 5}, "alerts": {"storm_threshold": 5, "storm_window": "1m"}}
    async with start(QUICK, AUTO, usual) as daemon:
        await daemon.ready()
        payments = await many_paid(watched, 30)
        (opened,) = await daemon.log("breaker.opened")
        await told.until(lambda: any(message.kind == "breaker" for message in told.told))
        await daemon.until(lambda: payments <= {line["payment"] for line in daemon.events("gap.opened")})
    assert "a broken deploy" in opened["reason"]
    fixed = await watched.fetchval(HOURLY)
    assert fixed <= 5
    async with start(QUICK, AUTO, usual) as daemon:
        await daemon.ready()
        marker = await paid(watched)
        await daemon.log("gap.opened", payment=marker)
    assert await watched.fetchval(HOURLY) == fixed
    assert len([message for message in told.told if message.kind == "breaker" and message.word == "NEW"]) == 1
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.alert WHERE kind = 'incident'") == 1


# 20: shadow, zones, NULL


@SHAPES
async def test_shadow_computes_exactly_what_auto_writes(watched: Database, told: Sink, start: Start) -> None:
    shadow = {"activation": {"mode": "shadow", "require_corroboration": False}}
    user = await shop.add_user(watched)
    before = await shop.read(watched, "users", user)
    async with start(QUICK, shadow) as daemon:
        await daemon.ready()
        payment = await paid(watched, user)
        await told.until_told([payment])
    assert await shop.read(watched, "users", user) == before
    async with start(QUICK, AUTO) as daemon:
        await daemon.ready()
        await told.until_told([payment], word="FIXED")
    images = await watched.fetch(
        "SELECT a.state, c.key, CASE WHEN c.key ~ '(_date|_end|_updated_at)$'"
        " THEN (c.value::timestamp - a.done_at AT TIME ZONE 'UTC')::text ELSE c.value END AS value"
        " FROM paidwatch.activation a CROSS JOIN LATERAL jsonb_each_text(a.after) c WHERE a.payment_id::text = $1",
        payment,
    )
    planned, written = (
        {row["key"]: row["value"] for row in images if row["state"] == state} for state in ("shadow", "done")
    )
    assert planned == written
    assert written["payment_due_date"] == "30 days"
    assert written["subscription_tier"] == "professional"


@SHAPES
async def test_the_zone_of_sessions_and_their_isolation_make_no_difference(
    watched: Database, told: Sink, start: Start, shape: str
) -> None:
    for setting in (
        "timezone = 'Asia/Tokyo'",
        "default_transaction_isolation = 'serializable'",
        "datestyle = 'German'",
    ):
        await watched.execute(f'ALTER DATABASE "{watched.name}" SET {setting}')
    watched.close()
    tier = None if shape == "L" else "free"
    until = await shop.now(watched) + timedelta(hours=30)
    lapsing = await shop.add_user(watched, status="active", tier="professional", paid_until=until)
    bare = await shop.add_user(watched, tier=tier)
    async with start(QUICK, AUTO) as daemon:
        await daemon.ready()
        renewed, fresh = await paid(watched, lapsing), await paid(watched, bare)
        await told.until_told([renewed, fresh], word="FIXED")
    assert told.announced(words=("FIXED",)) == {(renewed, "renewal_not_applied"): 1, (fresh, "paid_not_active"): 1}
    ends = (await shop.read(watched, "users", lapsing))["payment_due_date"]
    assert ends == (until + timedelta(days=30)).replace(tzinfo=None)


@ANY
async def test_the_next_start_says_for_how_long_nobody_listened(watched: Database, told: Sink, start: Start) -> None:
    async with start(QUICK) as daemon:
        await daemon.ready()
        (first,) = await daemon.log("listen.ready")
    payment = await paid(watched)
    async with start(QUICK) as daemon:
        (line,) = await daemon.log("listen.ready")
        await told.until_told([payment])
        await daemon.kill9()
    assert "blind_seconds" not in first
    assert float(line["blind_seconds"]) > 0
    assert line["recovered"] == 1
    async with start(QUICK) as daemon:
        (after_a_crash,) = await daemon.log("listen.ready")
    assert "blind_seconds" not in after_a_crash, "nobody knows when it died"
