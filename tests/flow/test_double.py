"""The application that activates what paidwatch had activated: found by its events, told once, never fought (I6)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from paidwatch.errors import Refused
from tests.support.command import config, watched, written
from tests.support.hands import Hands, hands_on
from tests.support.postgres import Database
from tests.support.shop import activate, add_event, add_payment, add_user, complete, now, read, update
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]
USUAL = pytest.mark.parametrize("shape", ["F", "L"])
CHAT = {"channels.chat": {"type": "webhook", "url": "http://127.0.0.1:9/chat"}}


@pytest.fixture
async def hands(watched: Database, tmp_path: Path) -> AsyncIterator[Hands]:
    async with hands_on(written(tmp_path, watched, CHAT)) as able:
        yield able


async def look(hands: Hands) -> bool:
    """Take in what the triggers noted, then look; return whether anybody is to hear something."""
    grace = timedelta(minutes=2)
    await hands.pool.write(lambda session: session.rows("drain_inbox", [], "0", 1000, [], [], grace))
    return (await hands.double()).told


async def alerts(db: Database) -> list[Any]:
    return await db.fetch("SELECT * FROM paidwatch.alert WHERE kind = 'double_activation' ORDER BY alert_id")


@USUAL
async def test_a_late_webhook_is_told_once_with_what_puts_it_right(watched: Database, hands: Hands, shape: str) -> None:
    user, payment, number = await hands.granted(watched)
    assert not await look(hands), "its own event is no second activation"
    ours = (await read(watched, "users", user))["payment_due_date"]
    await activate(watched, user, payment=payment, days=31)
    theirs = await read(watched, "users", user)
    assert await look(hands)
    assert not await look(hands)
    await activate(watched, user, payment=payment, days=31)
    assert not await look(hands), "told once, however often it happens"
    [told] = await alerts(watched)
    assert (told["state"], told["activation_id"], told["user_id"]) == ("open", number, user)
    said = "\n".join(told["notes"])
    assert f"Paid for until: {ours:%Y-%m-%d %H:%M:%S} UTC" in said
    assert f"Paid until now: {theirs['payment_due_date']:%Y-%m-%d %H:%M:%S} UTC, 1 d" in said
    assert f"set paid-until to {ours:%Y-%m-%d %H:%M:%S} UTC; paidwatch undo {number} refuses" in said
    with pytest.raises(Refused, match=r"payment_due_date is .* now, and the activation wrote"):
        await hands.undo(number)
    queued = await watched.fetch("SELECT channel FROM paidwatch.delivery WHERE due_at IS NOT NULL")
    assert [row["channel"] for row in queued] == ["chat"]
    entry = await watched.fetchrow("SELECT doubled_at, doubled_by FROM paidwatch.activation")
    assert entry is not None
    event = await watched.fetchval(
        "SELECT min(id)::text FROM subscription_events WHERE event_data::text NOT LIKE '%paidwatch%'"
    )
    assert entry["doubled_by"] == event
    # A person puts it right, by the minute.
    await update(watched, "users", user, {"payment_due_date": ours.replace(second=0, microsecond=0)})
    assert await look(hands)
    [told] = await alerts(watched)
    assert (told["state"], told["outcome"]) == ("resolved", "ended")


@USUAL
async def test_an_event_that_names_no_payment_counts_where_no_newer_payment_explains_it(
    watched: Database, hands: Hands, shape: str
) -> None:
    user, _payment, _number = await hands.granted(watched)
    explained, _paid, _other = await hands.granted(watched)
    await add_payment(watched, explained, status="completed", completed_at=await now(watched))
    for person in (user, explained):
        await add_event(watched, person, "access_restored", {"note": "by webhook"})
    assert await look(hands)
    [told] = await alerts(watched)
    assert told["user_id"] == user


async def test_what_is_no_second_activation_is_not_told(watched: Database, hands: Hands) -> None:
    user, _payment, number = await hands.granted(watched)
    other = await add_payment(watched, user, reference="np-other")
    late = await now(watched) + timedelta(days=4)
    await add_event(watched, user, "activated", {"payment_reference": "np-other"})
    await add_event(watched, user, "activated", {"payment_id": str(other)})
    await add_event(watched, user, "activated", {"payment_reference": "a payment without a row"})
    await add_event(watched, user, "manual_activation", {"reason": f"ticket [paidwatch:0123abcd:{number}]"})
    await add_event(watched, user, "activated", {}, at=late)
    await add_event(watched, user, "status_update", {})
    assert not await look(hands)
    assert await alerts(watched) == []
    # What was undone is nobody's activation any more.
    await hands.undo(number)
    await add_event(watched, user, "activated", {"payment_reference": "np-other"})
    await watched.execute("UPDATE paidwatch.activation SET look_at = now()")
    assert not await look(hands)


async def test_where_the_row_is_untouched_undoing_is_proposed_and_ends_the_story(
    watched: Database, hands: Hands
) -> None:
    user, payment, number = await hands.granted(watched)
    reference = (await read(watched, "payments", payment))["transaction_id"]
    await add_event(watched, user, "payment_completed", {"transaction_id": reference})
    assert await look(hands)
    [told] = await alerts(watched)
    assert f"To take back: paidwatch undo {number}" in "\n".join(told["notes"])
    await hands.undo(number)
    [told] = await alerts(watched)
    assert (told["state"], told["outcome"], told["revision"]) == ("resolved", "ended", 2)


async def test_a_silence_speaks_for_it(watched: Database, hands: Hands) -> None:
    user, payment, _number = await hands.granted(watched)
    await watched.execute(
        "INSERT INTO paidwatch.silence (author, expires_at, kind)"
        " VALUES ('ann', now() + interval '1 hour', 'double_activation')"
    )
    await activate(watched, user, payment=payment)
    await look(hands)
    [told] = await alerts(watched)
    assert told["silence_id"] is not None
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.delivery") == 0


async def test_the_application_that_shortened_what_was_paid_for_is_said_so(watched: Database, hands: Hands) -> None:
    days_left = await now(watched) + timedelta(days=10)
    user, payment, _number = await hands.granted(watched, tier="professional", status="inactive", paid_until=days_left)
    await activate(watched, user, payment=payment)
    await look(hands)
    [told] = await alerts(watched)
    line = next(line for line in told["notes"] if line.startswith("Paid until now"))
    assert line.endswith("less than was paid for")


async def test_the_daemon_tells_of_a_late_webhook_at_once(watched: Database, start: Start, told: Sink) -> None:
    quick = {"grace": {"default": "200ms"}, "activation": {"mode": "auto", "require_corroboration": False}}
    async with start(quick) as daemon:
        await daemon.ready()
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        await told.until_told([payment], word="FIXED")
        await activate(watched, user, payment=payment)
        await told.until(lambda: any(it.kind == "double_activation" for it in told.told))
        await daemon.log("activation.doubled", payment=payment)
    [doubled] = [it for it in told.told if it.kind == "double_activation"]
    assert doubled.word == "NEW"
    assert doubled.body["data"]["command"] == "paidwatch undo 1 --dry-run"
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.activation WHERE look_at IS NOT NULL") == 0
