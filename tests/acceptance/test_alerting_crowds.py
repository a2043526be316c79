"""What must hold of alerting, groups B and C, of the whole daemon: channels that hang, and hundreds of gaps at once."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from tests.support.daemon import Daemon
from tests.support.listeners import Heard, Listener, listening, sections
from tests.support.postgres import Database
from tests.support.watched import Start

QUICK = {"grace": {"default": "300ms"}}
USUAL = {"alerts": {"storm_threshold": 5, "storm_window": "1m"}}
"""Storms as they are without any configuration; the tests' own usual one has none."""
PAY = """
WITH u AS (
    INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status, subscription_tier,
        trial_used, created_at, updated_at)
    SELECT v, v, 'x', true, false, 'inactive', 'free', false, now(), now()
    FROM (SELECT gen_random_uuid() || '@example.org' AS v FROM generate_series(1, $1::int)) n RETURNING id
)
INSERT INTO payment_transactions
    (user_id, plan_id, amount_usd, payment_method, status, completed_at, created_at, updated_at)
SELECT id, 'professional', $3, $2, 'completed', now() AT TIME ZONE 'UTC', now(), now() FROM u
RETURNING id
"""
ACTIVATE = """
UPDATE users SET subscription_status = 'active', subscription_tier = 'professional',
    payment_due_date = now() AT TIME ZONE 'UTC' + interval '31 days'
WHERE id IN (SELECT user_id FROM payment_transactions WHERE payment_method = 'nowpayments')
"""
PRICE = Decimal("14.99")
DONE = "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
ALL_FOUND = """
SELECT (SELECT count(*) FROM paidwatch.alert WHERE payment_id IS NOT NULL) = (SELECT count(*) FROM payment_transactions)
"""
ALL_CLOSED = "SELECT NOT EXISTS (SELECT FROM paidwatch.watch WHERE state <> 'closed')"
THREE = {"ops": "webhook", "room": "slack", "chat": "discord"}
GAP, INCIDENT = "paid_not_active", "incident"


async def paid(db: Database, count: int = 1, *, method: str = "nowpayments") -> set[str]:
    return {str(row["id"]) for row in await db.fetch(PAY, count, method, PRICE)}


async def pass_by(daemon: Daemon, db: Database, span: timedelta) -> None:
    """So much time passes: everything that was happened longer ago, everything that is to come comes sooner."""
    await daemon.database(db, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE lease IS NOT NULL)")
    for table, columns in {
        "alert": ("opened_at", "resolved_at", "remind_at", "escalate_at", "look_at", "storm_until"),
        "delivery": ("told_at", "due_at", "not_before"),
        "watch": ("paid_at", "noticed_at", "touched_at", "grace_until", "settled_at", "closed_at", "due_at"),
    }.items():
        changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await db.execute(f"UPDATE paidwatch.{table} SET {changes}", span)
    await db.execute("NOTIFY paidwatch, 'outbox'")


async def everywhere(channels: Mapping[str, Listener], kind: str, word: str) -> None:
    """Wait until each channel was told this."""
    for channel in channels.values():
        await channel.until(lambda channel=channel: (kind, word) in channel.counted())  # type: ignore[misc]


def only(channel: Listener, kind: str, word: str) -> Heard:
    """Return the one message of this kind and word."""
    (found,) = [one for one in channel.heard if (one.kind, one.word) == (kind, word)]
    return found


def assert_numbers(incident: Heard) -> None:
    """How many, how much money, the cause of most, since when the oldest waits."""
    number = int(incident.facts["Affected"].removesuffix(" payments"))
    assert incident.text.startswith(f"{incident.word} · {number} payments by nowpayments: paid, not active")
    assert incident.facts["At risk"] == f"{number * PRICE} USD"
    assert incident.facts["Causes"] == f"{number} times: no webhook was recorded for this payment"
    assert incident.facts["Oldest paid"]
    assert "the oldest paid" in incident.text


# B6


async def test_b6_three_channels_that_hang_hold_up_neither_the_grace_nor_the_fourth(
    watched: Database, start: Start
) -> None:
    """Fifty gaps are found and told while the first message to each of the others is still without an answer."""
    async with listening(ops="webhook", one="webhook", two="slack", three="discord") as channels:
        hanging = [channels[name] for name in ("one", "two", "three")]
        for channel in hanging:
            channel.hangs = True
        async with start(QUICK, sections(channels)) as daemon:
            await daemon.ready()
            payments = await paid(watched)
            for channel in hanging:
                await channel.until(lambda channel=channel: channel.hanging == 1)  # type: ignore[misc]
            for _ in range(50):
                payments |= await paid(watched)
            await channels["ops"].until_told(payments, within=10)
            await daemon.log("delivery.sent", channel="ops", count=51)
            assert not daemon.events("delivery.failed"), "the others hung all the time"
            await daemon.kill9()
        assert [channel.hanging for channel in hanging] == [1, 1, 1]
        assert channels["ops"].counted() == {(GAP, "NEW"): 51}


# C1, C2


async def test_c1_five_hundred_stuck_payments_are_three_messages_and_their_recovery_is_two(
    watched: Database, start: Start
) -> None:
    """Where messages can be edited the recovery shows in the first ones, quietly; nothing new appears at all."""
    async with listening(**THREE) as channels, start(QUICK, USUAL, sections(channels)) as daemon:
        await daemon.ready()
        for _ in range(2):
            single = await paid(watched)
            for channel in channels.values():
                await channel.until_told(single)
        for count in (1, 97, 200, 200):
            await paid(watched, count)
            await daemon.database_by_asking(watched, ALL_FOUND)
        await everywhere(channels, INCIDENT, "NEW")
        await pass_by(daemon, watched, timedelta(seconds=46))
        await channels["chat"].until(lambda: (INCIDENT, "STILL") in channels["chat"].counted())
        await daemon.database(watched, DONE)
        for channel in channels.values():
            assert channel.counted(edited=False) == {(GAP, "NEW"): 2, (INCIDENT, "NEW"): 1}
            assert_numbers(only(channel, INCIDENT, "NEW"))
        edit = only(channels["chat"], INCIDENT, "STILL")
        assert_numbers(edit)
        assert edit.facts["Affected"] == "500 payments"
        before = {name: channel.counted(edited=False) for name, channel in channels.items()}

        await watched.execute(ACTIVATE)
        await daemon.database_by_asking(watched, ALL_CLOSED)
        await pass_by(daemon, watched, timedelta(minutes=2))
        await everywhere(channels, INCIDENT, "RESOLVED")
        await daemon.database(watched, DONE)
    for name, channel in channels.items():
        recovery = channel.counted(edited=False) - before[name]
        assert recovery.total() <= (0 if channel.kind == "discord" else 2), recovery
        end = only(channel, INCIDENT, "RESOLVED")
        assert "500 of 500 payments rescued, 0 ended otherwise, none still stuck" in end.text
        assert not channel.refused
    await assert_all_told(watched, channels)


async def test_c2_meanwhile_a_single_gap_of_another_provider_is_announced_alone(
    watched: Database, start: Start
) -> None:
    async with listening(**THREE) as channels, start(QUICK, USUAL, sections(channels)) as daemon:
        await daemon.ready()
        await paid(watched, 20)
        await everywhere(channels, INCIDENT, "NEW")
        (other,) = await paid(watched, method="cryptomus")
        for channel in channels.values():
            await channel.until_told({other})
        await daemon.database(watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE lease IS NOT NULL)")
    for channel in channels.values():
        # The first of a cause are told at once, where they were due a moment before the others.
        singly = Counter(one.facts["Method"] for one in channel.heard if (one.kind, one.word) == (GAP, "NEW"))
        assert singly["cryptomus"] == 1
        assert singly.keys() <= {"cryptomus", "nowpayments"}
        assert singly["nowpayments"] <= 2
        assert channel.counted() == {(INCIDENT, "NEW"): 1, (GAP, "NEW"): singly.total()}
        assert only(channel, INCIDENT, "NEW").facts["Affected"] == "20 payments"
    joined = await watched.fetchval("SELECT count(*) FROM paidwatch.alert WHERE incident_id IS NOT NULL")
    assert joined == 20


async def assert_all_told(db: Database, channels: Mapping[str, Listener]) -> None:
    """Nothing is left to say, and what a channel was shown last of each payment is the truth."""
    assert not await db.fetchval(
        "SELECT count(*) FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id)"
        " WHERE a.state <> 'resolved' OR d.told_revision < a.revision"
    )
    assert {stories[-1].word for stories in channels["chat"].stories().values()} == {"RESOLVED"}
