"""`paidwatch undo`: exactly what was there before comes back, and only where nobody has touched it since."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from paidwatch.core.guards import Guard
from paidwatch.errors import DatabaseError, Refused
from tests.support.command import config, everything, watched
from tests.support.daemon import install
from tests.support.hands import Hands, command, hands_on, missed
from tests.support.postgres import Database
from tests.support.shop import add_payment, add_user, complete, names, read, refund, update
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]
SHAPES = pytest.mark.parametrize("shape", ["F", "L", "M", "X"])
LAPSED = datetime(2025, 3, 30, 2, 30, 0, 123457, tzinfo=UTC)
AUTO = {"activation": {"mode": "auto", "require_corroboration": False}, "grace": {"default": "200ms"}}
P7 = frozenset({Guard.NOT_DONE})


@pytest.fixture
async def hands(config: Path) -> AsyncIterator[Hands]:
    async with hands_on(config) as able:
        yield able


async def row_of(db: Database, user: Any) -> str:
    """Return the user's row as the server spells it, byte for byte."""
    table, key = names(db).tables["users"], names(db).columns.get("users", {}).get("id", "id")
    text: str = await db.fetchval(f'SELECT t::text FROM {table} t WHERE "{key}" = $1', user)
    return text


async def refused(db: Database, hands: Hands, number: int, why: str) -> None:
    before = await everything(db)
    with pytest.raises(Refused) as error:
        await hands.undo(number)
    assert why in error.value.message
    assert await everything(db) == before


@SHAPES
async def test_what_was_there_before_comes_back_byte_for_byte(
    watched: Database, hands: Hands, config: Path, shape: str
) -> None:
    histories: list[Mapping[str, Any]] = [
        {},
        {"status": "past_due", "tier": "professional", "paid_until": LAPSED, "revoked_at": LAPSED},
    ]
    if shape == "L":
        histories.append({"tier": None})
    for history in histories:
        person, payment = await missed(watched, **history)
        former = await row_of(watched, person)
        number, _ended = await hands.activate(person)
        assert await row_of(watched, person) != former
        done = await hands.undo(number)
        assert await row_of(watched, person) == former
        assert done.inexact == ()
        entry = await watched.fetchrow("SELECT * FROM paidwatch.activation WHERE activation_id = $1", number)
        assert entry is not None
        assert (entry["state"], entry["undone_by"], entry["undone_why"]) == ("undone", "cli:ann", "ticket 18")
        audit = await watched.fetchrow("SELECT * FROM paidwatch.audit ORDER BY audit_id DESC LIMIT 1")
        assert audit is not None
        assert (audit["act"], audit["actor"]) == ("undo", "cli:ann")
        if shape != "X":
            event = await watched.fetchrow("SELECT * FROM public.subscription_events ORDER BY id DESC LIMIT 1")
            assert event is not None
            data = event["event_data"] if isinstance(event["event_data"], dict) else json.loads(event["event_data"])
            reference = (await read(watched, "payments", payment))["transaction_id"]
            assert event["event_type"] == "activation_reverted"
            assert (data["activation_id"], data["payment_id"]) == (number, str(payment))
            assert (data["payment_reference"], data["reason"]) == (reference, "ticket 18")
        await refused(watched, hands, number, "it was undone before, by cli:ann")
    if shape in {"F", "X"}:
        # Nobody is to be told that these are gaps: that they are not active is what a person wanted.
        await command(config, "check", expect=0)


async def test_columns_that_others_changed_and_we_did_not_write_do_not_matter(watched: Database, hands: Hands) -> None:
    user, _payment, number = await hands.granted(watched)
    await update(watched, "users", user, {"email": "moved@example.org", "trial_used": True})
    await hands.undo(number)
    row = await read(watched, "users", user)
    assert (row["email"], row["trial_used"], row["subscription_tier"]) == ("moved@example.org", True, "free")


async def test_whoever_changed_a_column_since_is_not_overruled(watched: Database, hands: Hands, config: Path) -> None:
    wrote = "and the activation wrote"
    changes: list[tuple[Mapping[str, Any], str]] = [
        ({"subscription_tier": "vip_elite"}, f"subscription_tier is 'vip_elite' now, {wrote} 'professional'"),
        ({"subscription_status": "Active"}, f"subscription_status is 'Active' now, {wrote} 'active'"),
        ({"current_period_end": None}, f"current_period_end is NULL now, {wrote} '20"),
        ({"access_revoked_at": LAPSED}, f"access_revoked_at is '2025-03-30 02:30:00.123457' now, {wrote} NULL"),
    ]
    number = 0
    for change, why in changes:
        user, _payment, number = await hands.granted(watched)
        await update(watched, "users", user, change)
        await refused(watched, hands, number, why)
    done = await command(config, "undo", str(number), "--yes", expect=1)
    assert "access_revoked_at is" in done.stderr
    assert f"paidwatch activations show {number}" in done.stderr


async def test_a_column_that_was_dropped_since_is_named(watched: Database, hands: Hands, config: Path) -> None:
    _user, _payment, number = await hands.granted(watched)
    await watched.execute("ALTER TABLE users DROP COLUMN subscription_renewal_date")
    await install(watched)
    await refused(watched, hands, number, "subscription_renewal_date cannot be written any more")


async def test_columns_that_the_database_computes_are_left_to_it(watched: Database, hands: Hands) -> None:
    await watched.execute(
        "ALTER TABLE users DROP COLUMN current_period_end;"
        "ALTER TABLE users ADD COLUMN current_period_end timestamp GENERATED ALWAYS AS (payment_due_date) STORED"
    )
    person = await watched.fetchval(
        "INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status,"
        " subscription_tier, trial_used, created_at, updated_at) VALUES ('g@example.org', 'g', '-', true, false,"
        " 'inactive', 'free', false, now(), now()) RETURNING id"
    )
    former = await row_of(watched, person)
    await add_payment(watched, person, status="completed", completed_at=LAPSED.replace(year=2026))
    await watched.execute(
        "UPDATE payment_transactions SET completed_at = (now() - interval '1 hour') AT TIME ZONE 'UTC'"
    )
    await watched.execute("UPDATE paidwatch.inbox SET at = at - interval '1 hour'")
    number, _ended = await hands.activate(person)
    row = await read(watched, "users", person)
    assert row["current_period_end"] == row["payment_due_date"] is not None
    await hands.undo(number)
    assert await row_of(watched, person) == former


async def test_a_trigger_that_sets_a_column_of_its_own_is_told(watched: Database, hands: Hands) -> None:
    await watched.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.subscription_updated_at := clock_timestamp(); RETURN NEW; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    user, _payment, number = await hands.granted(watched)
    done = await hands.undo(number)
    assert [change.column for change in done.inexact] == ["subscription_updated_at"]
    assert (await read(watched, "users", user))["subscription_tier"] == "free"


async def test_only_what_was_done_can_be_undone(watched: Database, hands: Hands, config: Path) -> None:
    user, payment = await missed(watched)
    for state, why in (
        ("shadow", "it was a shadow and wrote nothing"),
        ("refused", "it was refused and wrote nothing"),
        ("failed", "it failed and wrote nothing"),
        ("failed over http", "it failed: the application was asked, and its tables did not show that it did anything"),
        ("claimed", "it is not done yet"),
    ):
        word, _, strategy = state.partition(" over ")
        number = await watched.fetchval(
            "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, version, after)"
            " VALUES ($1, $2, $3, $4, 'auto', '0', '{}') RETURNING activation_id",
            payment,
            user,
            word,
            strategy or "sql",
        )
        await refused(watched, hands, number, why)
    await refused(watched, hands, 999, "there is no activation 999")


async def test_what_cannot_be_undone_shows_no_user_that_nobody_looked_at(
    watched: Database, hands: Hands, config: Path
) -> None:
    _user, _payment, number = await hands.granted(watched)
    await hands.undo(number)
    said = (await command(config, "undo", str(number), "--yes", expect=1)).output
    assert "it was undone before" in said
    assert "NOW" not in said


async def test_a_dry_run_shows_the_images_and_writes_nothing_and_a_script_has_to_say_yes(
    watched: Database, hands: Hands, config: Path
) -> None:
    _user, _payment, number = await hands.granted(watched)
    before = await everything(watched)
    shown = await command(config, "undo", str(number), "--dry-run")
    line = next(line for line in shown.stdout.splitlines() if line.startswith("subscription_tier"))
    assert line.split() == ["subscription_tier", "free", "professional", "professional", "free"]
    assert "no terminal" in (await command(config, "undo", str(number), expect=1)).stderr
    assert await everything(watched) == before
    done = await command(config, "undo", str(number), "--yes", "--json", "--by", "ben", "--reason", "r")
    assert json.loads(done.stdout)["restored"]["subscription_tier"] == "free"
    entry = await watched.fetchrow("SELECT undone_by, undone_why FROM paidwatch.activation")
    assert entry is not None
    assert tuple(entry) == ("cli:ben", "r")


async def test_a_row_that_the_application_is_writing_is_not_overwritten(watched: Database, hands: Hands) -> None:
    user, _payment, number = await hands.granted(watched)
    other, _paid, second = await hands.granted(watched)
    outcome: list[str] = []
    async with watched.another() as application:
        async with application.transaction():
            await update(application, "users", user, {"subscription_tier": "vip_elite"})
            with pytest.raises(DatabaseError):
                await hands.undo(number)
        async with anyio.create_task_group() as group, application.transaction():
            await update(application, "users", other, {"subscription_tier": "vip_elite"})

            async def take_back() -> None:
                try:
                    await hands.undo(second)
                except Refused as error:
                    outcome.append(error.message)

            group.start_soon(take_back)
            while not await watched.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await anyio.lowlevel.checkpoint()
    # It waited for the application, and then saw what the application had written.
    assert len(outcome) == 1
    assert "subscription_tier is 'vip_elite' now" in outcome[0]
    for person in (user, other):
        assert (await read(watched, "users", person))["subscription_tier"] == "vip_elite"
    await refused(watched, hands, number, "subscription_tier is 'vip_elite' now")


async def test_several_people_undo_once(watched: Database, hands: Hands) -> None:
    user, _payment, number = await hands.granted(watched)
    refusals: list[str] = []

    async def one() -> None:
        try:
            await hands.undo(number)
        except Refused as error:
            refusals.append(error.message)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert len(refusals) == 2
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.audit WHERE act = 'undo'") == 1
    assert (await read(watched, "users", user))["subscription_tier"] == "free"


@pytest.mark.parametrize("shape", ["L", "X"])
async def test_a_person_activates_what_was_undone_only_by_force(watched: Database, hands: Hands, shape: str) -> None:
    user, _payment, number = await hands.granted(watched)
    former = await row_of(watched, user)
    await hands.undo(number)
    with pytest.raises(Refused, match="a person undid the activation of this payment"):
        await hands.activate(user)
    again, _ended = await hands.activate(user, forced=P7, reason="the customer was right")
    entry = await watched.fetchrow("SELECT * FROM paidwatch.activation WHERE activation_id = $1", again)
    assert entry is not None
    assert (entry["state"], entry["forced"], entry["reason"]) == (
        "done",
        ["P7_not_activated_yet"],
        "the customer was right",
    )
    detail = await watched.fetchval("SELECT detail ->> 'forced' FROM paidwatch.audit ORDER BY audit_id DESC LIMIT 1")
    assert json.loads(detail) == ["P7_not_activated_yet"]
    assert await row_of(watched, user) != former
    with pytest.raises(Refused, match="this payment was activated before, by paidwatch"):
        await hands.activate(user, forced=P7, reason="twice")
    await hands.undo(again)
    await refused(watched, hands, number, "it was undone before")


# With a running daemon


async def test_the_machine_does_not_do_again_what_a_person_undid(watched: Database, start: Start, told: Sink) -> None:
    async with start(AUTO) as daemon:
        await daemon.ready()
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        await told.until_told([payment], word="FIXED")
        number = await watched.fetchval("SELECT activation_id FROM paidwatch.activation WHERE state = 'done'")
        await command(daemon.config, "undo", str(number), "--yes", "--reason", "wrong account")
        assert await watched.fetchval("SELECT outcome FROM paidwatch.watch") == "ended"
        await told.until_told([payment], word="RESOLVED")
        # Whatever happens to the payment and its user from now on, the daemon looks at it and leaves it so.
        await update(watched, "users", user, {"email": "other@example.org", "subscription_status": "past_due"})
        await update(watched, "payments", payment, {"amount_usd": 15})
        await daemon.database(watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.inbox)")
        await daemon.closed(watched, payment, "ended")
        bystander = await add_payment(watched, await add_user(watched))
        await complete(watched, bystander)
        await told.until_told([bystander], word="FIXED")
        await command(daemon.config, "check", expect=0)
    [resolved] = [it for it in told.told if it.word == "RESOLVED"]
    assert "Activation 1 was undone by" in json.dumps(resolved.body)
    row = await watched.fetchrow("SELECT state, outcome FROM paidwatch.watch WHERE payment_id::text = $1", str(payment))
    assert row is not None
    assert tuple(row) == ("closed", "ended")
    counts = await watched.fetch("SELECT state FROM paidwatch.activation ORDER BY activation_id")
    assert [row["state"] for row in counts] == ["undone", "done"]
    assert (await read(watched, "users", user))["subscription_tier"] == "free"


async def test_a_reversal_after_our_activation_is_told_and_nothing_is_revoked(
    watched: Database, start: Start, told: Sink
) -> None:
    async with start(AUTO) as daemon:
        await daemon.ready()
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        await told.until_told([payment], word="FIXED")
        granted = await row_of(watched, user)
        await refund(watched, payment)
        await told.until(lambda: any(it.kind == "reversed_but_active" for it in told.told))
        assert await row_of(watched, user) == granted
        # A person takes it back, and with it the gap is over.
        await command(daemon.config, "undo", "1", "--yes")
        await told.until(lambda: any(it.kind == "reversed_but_active" and it.word == "RESOLVED" for it in told.told))
    assert (await read(watched, "users", user))["subscription_tier"] == "free"
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.activation") == 1
