"""What must hold of alerting, group A: never lost, never told without need. The daemon itself, killed and restarted."""

import re
import signal
from collections import Counter
from typing import Any

import anyio
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.channels.fakes.smtp import Post, posting
from tests.support import shop
from tests.support.daemon import Daemon, told_and_done
from tests.support.listeners import Heard, Listener, listening, sections
from tests.support.postgres import Database
from tests.support.watched import Start

QUICK = {"grace": {"default": "300ms"}, "deliveries": {"first_retry": "50ms", "max_retry": "100ms"}}
DONE = "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
OVER = "SELECT NOT EXISTS (SELECT FROM paidwatch.watch WHERE state <> 'closed')"
LATE = re.compile(r"paidwatch looked at the payment 7 min late: it was not .* when the grace period ended")
AT_ONCE = {"webhook": 4, "slack": 1, "discord": 1}
"""How many messages a channel is sent at the same time; a kill may find so many accepted and not yet recorded."""
PENDING = """
WITH u AS (
    INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status, subscription_tier,
        trial_used, created_at, updated_at)
    SELECT 'many' || n || '@example.org', 'many' || n, 'x', true, false, 'inactive', 'free', false, now(), now()
    FROM generate_series(1, $1::int) n RETURNING id
)
INSERT INTO payment_transactions (user_id, plan_id, amount_usd, payment_method, status, created_at, updated_at)
SELECT id, 'professional', 14.99, 'nowpayments', 'pending', now(), now() FROM u
RETURNING id
"""
PAY_ALL = "UPDATE payment_transactions SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC'"
RACES = """
CREATE TABLE race AS
SELECT p.id AS payment_id, p.user_id, p.id % 4 AS lane, e.activates, NULL::timestamptz AS done_at,
    clock_timestamp() + interval '1 s' * (p.id / 200.0 + CASE WHEN NOT e.activates THEN 0 WHEN p.id % 3 > 0
        THEN 0.9 + random() * 0.3 ELSE 0.9 + random() * 3 END) AS at
FROM payment_transactions p CROSS JOIN (VALUES (false), (true)) AS e (activates)
"""
"""Two hundred pay in a second; each is activated from shortly before the grace of a second is over to well after it:
before that is noticed, while it is judged, queued, told and recorded."""
RUN = """
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT * FROM race WHERE lane = {lane} ORDER BY at LOOP
        PERFORM pg_sleep_until(r.at);
        IF r.activates THEN
            UPDATE users SET subscription_status = 'active', subscription_tier = 'professional',
                payment_due_date = now() AT TIME ZONE 'UTC' + interval '31 days' WHERE id = r.user_id;
        ELSE
            UPDATE payment_transactions SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC'
            WHERE id = r.payment_id;
        END IF;
        COMMIT;
        UPDATE race SET done_at = clock_timestamp() WHERE payment_id = r.payment_id AND activates = r.activates;
        COMMIT;
    END LOOP;
END $$
"""
"""One of four writers; it notes a moment at which each of its changes was committed for sure."""


async def paid(db: Database, user: Any = None) -> str:
    payment = await shop.add_payment(db, user or await shop.add_user(db))
    await shop.complete(db, payment)
    return str(payment)


async def many_pending(db: Database, count: int) -> set[str]:
    return {str(row["id"]) for row in await db.fetch(PENDING, count)}


def words(told: list[Heard]) -> list[str]:
    return [one.word for one in told]


def more_than_once(listener: Listener) -> dict[tuple[str, str], int]:
    """Return what was told more than once, and how often; with one key, where the service has keys."""
    times = Counter((one.payment, one.word) for one in listener.heard)
    keys = {(one.payment, one.word, one.key) for one in listener.heard}
    assert len(keys) == len(times), "a repeated message has the key of the first"
    return {what: count for what, count in times.items() if count > 1}


# A1: kill -9 at every step between the end of the grace and acceptance


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("06 due claimed, not committed", marks=pytest.mark.thorough),
        "08 alerts written, not committed",
        pytest.param("10 decided", marks=pytest.mark.thorough),
        "16 leased",
    ],
)
async def test_a1_a_kill_between_the_end_of_the_grace_and_acceptance_leaves_no_channel_out(
    watched: Database, start: Start, point: str
) -> None:
    async with listening(ops="webhook", chat="discord", room="slack") as channels:
        users = [await shop.add_user(watched) for _ in range(3)]
        async with start(QUICK, sections(channels), crash=point) as doomed:
            await doomed.ready()
            payments = [await paid(watched, user) for user in users]
            assert await doomed.ended() == -signal.SIGKILL
        before = {name: len(channel.heard) for name, channel in channels.items()}
        async with start(QUICK, sections(channels)) as daemon:
            await daemon.ready()
            for channel in channels.values():
                await channel.until_told(set(payments))
            await daemon.database(watched, DONE)
            for user, payment in zip(users, payments, strict=True):
                await shop.activate(watched, user, payment=int(payment))
            for channel in channels.values():
                await channel.until_told(set(payments), word="RESOLVED")
        for name, channel in channels.items():
            repeated = more_than_once(channel)
            assert len(repeated) <= AT_ONCE[channel.kind], repeated
            assert not repeated or before[name], "only what was under way at the kill comes again"
            stories = channel.stories()
            assert set(stories) == set(payments)
            assert all(words(told)[-1] == "RESOLVED" and words(told)[0] == "NEW" for told in stories.values())
    assert await told_and_done(watched)
    assert await watched.fetchval("SELECT bool_and(state = 'resolved') FROM paidwatch.alert")


# A2: a crash between acceptance and our commit


async def test_a2_what_was_accepted_and_not_recorded_comes_once_more_as_the_same_message(
    watched: Database, start: Start
) -> None:
    async with listening(ops="webhook") as channels:
        ops = channels["ops"]
        for rounds in (1, 2):
            async with start(QUICK, sections(channels)) as daemon:
                ops.on_taken = lambda _heard, daemon=daemon: daemon.signal(signal.SIGKILL)
                if rounds == 1:
                    await daemon.ready()
                    await paid(watched)
                assert await daemon.ended() == -signal.SIGKILL
            assert len(ops.heard) == rounds
        ops.on_taken = None
        async with start(QUICK, sections(channels)) as daemon:
            await daemon.ready()
            await daemon.database(watched, DONE)
        assert ops.counted() == {("paid_not_active", "NEW"): 3}
        assert len({one.key for one in ops.heard}) == 1


class Deadly(Post):
    """A mail server whose clients do not live to see its answer."""

    victim: Daemon | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        if self.victim is not None:
            self.victim.signal(signal.SIGKILL)
        return answer


async def test_a2_a_mail_that_comes_once_more_has_the_same_message_id(watched: Database, start: Start) -> None:
    async with posting(Deadly()) as post:
        assert isinstance(post, Deadly)
        mail = {
            "type": "email",
            "host": "127.0.0.1",
            "port": post.port,
            "tls": "none",
            "sender": "paidwatch@example.org",
            "recipients": ["ops@example.org"],
            "pace": "1ms",
        }
        only = {"channels.mail": mail, "alerts": {"channels": ["mail"]}}
        async with start(QUICK, only) as daemon:
            await daemon.ready()
            post.victim = daemon
            await paid(watched)
            assert await daemon.ended() == -signal.SIGKILL
        post.victim = None
        async with start(QUICK, only) as daemon:
            await daemon.ready()
            await daemon.database(watched, DONE)
        first, again = post.mails
        assert first["Message-ID"] == again["Message-ID"]
        assert first["Subject"] == again["Subject"]


# A3: down while the grace ended


async def test_a3_down_while_the_grace_ended_is_told_at_the_start_with_how_late_and_why(
    watched: Database, start: Start
) -> None:
    async with listening(ops="webhook", chat="discord") as channels:
        patient = {"grace": {"default": "1h"}}
        async with start(patient, sections(channels)) as daemon:
            await daemon.ready()
            payment = await paid(watched)
            await daemon.database_by_asking(
                watched, "SELECT EXISTS (SELECT FROM paidwatch.watch WHERE state = 'waiting')"
            )
            await daemon.kill9()
        moments = ("paid_at", "noticed_at", "touched_at", "grace_until", "due_at")
        earlier = ", ".join(f"{moment} = {moment} - interval '1 hour 7 minutes'" for moment in moments)
        await watched.execute(f"UPDATE paidwatch.watch SET {earlier}")
        async with start(patient, sections(channels)) as daemon:
            await daemon.ready()
            for channel in channels.values():
                await channel.until(lambda channel=channel: bool(channel.heard), within=5)  # type: ignore[misc]
            await daemon.database(watched, DONE)
        for channel in channels.values():
            (told,) = channel.heard
            assert (told.word, told.payment) == ("NEW", payment)
            assert LATE.fullmatch(told.facts["Delay"]), told.facts["Delay"]


# A5: activated around the end of the grace


@pytest.mark.timeout(120)
async def test_a5_of_a_thousand_races_at_the_end_of_the_grace_every_story_is_whole(
    watched: Database, start: Start
) -> None:
    """Per channel nothing at all; or the gap, then its end; or, where it ended before it could be told, both in one."""
    async with listening(ops="webhook", chat="discord") as channels:
        async with start({"grace": {"default": "1s"}}, sections(channels)) as daemon:
            await daemon.ready()
            payments = await many_pending(watched, 1000)
            await watched.execute(RACES)
            async with anyio.create_task_group() as writers:
                for lane in range(4):
                    writers.start_soon(race, watched, lane)
            await daemon.database(watched, OVER, within=60)
            await daemon.database(watched, DONE, within=60)
            assert not daemon.noise
        said = {str(row["payment_id"]) for row in await watched.fetch("SELECT payment_id FROM paidwatch.alert")}
        in_time = {
            str(row["payment_id"])
            for row in await watched.fetch(
                "SELECT r.payment_id FROM race r JOIN paidwatch.watch w ON w.payment_id = r.payment_id"
                " WHERE r.activates AND r.done_at < w.grace_until"
            )
        }
        for channel in channels.values():
            stories = channel.stories()
            assert set(stories) == said, "no channel is told what another is not"
            for told in stories.values():
                assert_whole(told)
            assert not more_than_once(channel)
            assert not channel.refused
        assert not said & in_time, "activated within the grace is silence"
        assert said, "nobody was late: these were no races"
        assert in_time, "nobody was in time: these were no races"
        assert said < payments
    assert await told_and_done(watched)


def assert_whole(told: list[Heard]) -> None:
    match words(told):
        case ["NEW", "RESOLVED"]:
            assert "There was a gap" not in told[1].text
        case ["RESOLVED"]:
            assert "There was a gap" in told[0].text
        case other:
            raise AssertionError(f"{told[0].payment}: {other}")


async def race(db: Database, lane: int) -> None:
    async with db.another() as writer:
        await writer.execute(RUN.format(lane=lane))


# A7: two daemons


@pytest.mark.timeout(120)
async def test_a7_two_daemons_and_a_thousand_alerts_and_a_leader_killed_in_the_middle(
    watched: Database, start: Start
) -> None:
    async with listening(ops="webhook", room="slack") as channels:
        async with start(QUICK, sections(channels)) as leader:
            await leader.ready()
            async with start(QUICK, sections(channels)) as standby:
                await standby.log("lead.waiting")
                payments = await many_pending(watched, 1000)
                await watched.execute(PAY_ALL)
                await channels["ops"].until(lambda: len(channels["ops"].heard) >= 400)
                await leader.kill9()
                for channel in channels.values():
                    assert 0 < len(channel.heard) < 1000, "it was not killed in the middle"
                for channel in channels.values():
                    await channel.until_told(payments)
                await standby.database(watched, DONE)
        for channel in channels.values():
            assert set(channel.stories()) == payments
            assert set(channel.counted()) == {("paid_not_active", "NEW")}
            repeated = more_than_once(channel)
            assert len(repeated) <= AT_ONCE[channel.kind]
            assert set(repeated.values()) <= {2}
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.alert") == 1000


# A8: a channel was down, and meanwhile the gap closed


async def test_a8_a_channel_that_was_down_while_a_gap_came_and_went_is_told_once_and_truly(
    watched: Database, start: Start
) -> None:
    user = await shop.add_user(watched)
    async with listening(ops="webhook", chat="discord") as channels:
        ops, chat = channels["ops"], channels["chat"]
        ops.answers = 503
        async with start(QUICK, sections(channels)) as daemon:
            await daemon.ready()
            payment = await paid(watched, user)
            await daemon.log("delivery.failed", channel="ops")
            await watched.execute(
                "UPDATE paidwatch.delivery SET trying_since = trying_since - interval '6 hours' WHERE channel = 'ops'"
            )
            await daemon.log("channel.down", channel="ops")
            await chat.until(lambda: ("channel_down", "NEW") in chat.counted())
            await shop.activate(watched, user, payment=int(payment))
            await daemon.closed(watched, payment, "activated")
            await chat.until_told({payment}, word="RESOLVED")
            assert not ops.heard
            ops.answers = 0
            await daemon.log("channel.works", channel="ops")
            await chat.until(lambda: ("channel_down", "RESOLVED") in chat.counted())
            await daemon.database(watched, DONE)
        (told,) = ops.heard
        assert (told.word, told.payment) == ("RESOLVED", payment)
        assert "There was a gap" in told.text
        assert "the gap was closed before this channel was told of it" in told.facts["Delay"]
        assert words(chat.stories()[payment]) == ["NEW", "RESOLVED"]
    assert await told_and_done(watched)
