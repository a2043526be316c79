"""Money that only webhooks tell of, in the wrong order: late, repeated, under other names, while others are at work."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from paidwatch.application.endpoint import build
from paidwatch.config.activation import ActivationHttp
from paidwatch.core.guards import Mode, Reason
from paidwatch.core.model import Subject
from paidwatch.flow.call import Call, Speak
from paidwatch.flow.double import Double
from paidwatch.flow.grant import Result
from paidwatch.flow.sweep import Sweep
from paidwatch.log import Log
from paidwatch.store import calls, ledger, subjects
from paidwatch.store.pool import Session
from tests.flow.test_ask import MINUTE, REFERENCE, Desk, desk, statements, usual
from tests.flow.test_told import ORDER, TOLD, answered, confirmed, found, machine, notices, orphaned, story, tier, told
from tests.support import shop
from tests.support.admin import OWN, TOKEN, admin
from tests.support.watched import watched

__all__ = ["desk", "machine", "statements", "usual", "watched"]
LOCKED = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"


@pytest.fixture
def shape() -> str:
    return "L"


async def says_paid(desk: Desk, method: str, reference: str) -> None:
    """The provider has said that it is paid."""
    await desk.db.execute(
        "INSERT INTO paidwatch.answer"
        " (method, reference, provider, status, said, amount, currency, asked_at, answered_at)"
        " VALUES ($1, $2, $1, 'paid', 'paid', 14.99, 'USD', now(), now())",
        method,
        reference,
    )


async def stripe_says(desk: Desk, kind: str, **about: Any) -> None:
    event = {"id": f"evt_{time.time_ns()}", "type": kind, "created": int(time.time()), "data": {"object": about}}
    await shop.add_webhook(desk.db, method="stripe", data=event)


async def test_what_was_made_good_before_the_webhook_came_again_is_not_given_twice(machine: Desk) -> None:
    """The first webhook was lost, support activated by hand without a word of the payment, and the provider repeats."""
    at = await shop.now(machine.db)
    helped_at = at - timedelta(hours=26)
    until = helped_at + timedelta(days=30)
    user = await shop.add_user(machine.db, status="active", tier="professional", paid_until=until)
    await shop.add_event(machine.db, user, "manual_activation", {"reason": "ticket 7"}, at=helped_at)
    await machine.db.execute("DELETE FROM paidwatch.inbox")
    await told(machine, user, order_id=f"winu_sub_{user}_professional_{int((at - timedelta(hours=27)).timestamp())}")
    await found(machine)
    assert await answered(machine) == []
    assert (await shop.read(machine.db, "users", user))["payment_due_date"] == until.replace(tzinfo=None)
    assert Reason.GRANTED_SINCE.value in await machine.notes()


async def test_the_application_has_its_time_from_when_it_is_paid(machine: Desk) -> None:
    """A part of the money opened the story; all of it comes much later."""
    user = await orphaned(machine, payment_status="partially_paid")
    await told(machine, user)
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    await machine.db.execute("UPDATE paidwatch.answer SET ask_at = now()")
    assert await answered(machine) == []
    assert Reason.IN_GRACE.value in await machine.notes()
    await machine.pass_by(2 * MINUTE)
    await machine.detect.run()
    assert await machine.fix() == [Result.DONE]
    assert await tier(machine, user) == "professional"


async def test_one_webhook_that_names_two_users_activates_neither(machine: Desk) -> None:
    first, second = [await shop.add_user(machine.db) for _ in range(2)]
    await stripe_says(
        machine,
        "checkout.session.completed",
        id="cs_1",
        payment_intent="pi_1",
        payment_status="paid",
        amount_total=1499,
        currency="usd",
        client_reference_id=ORDER.format(user=first, plan="professional"),
        metadata={"user_id": str(second)},
    )
    await says_paid(machine, "stripe", "pi_1")
    await found(machine)
    assert await machine.fix() == []
    assert [await tier(machine, first), await tier(machine, second)] == ["free", "free"]


async def test_a_log_that_names_another_user_than_the_order_activates_neither(machine: Desk) -> None:
    first, second = [await shop.add_user(machine.db) for _ in range(2)]
    order = ORDER.format(user=first, plan="professional")
    data = {"payment_id": REFERENCE, "payment_status": "finished", "price_amount": 14.99, "price_currency": "usd"}
    await shop.add_webhook(machine.db, data=data | {"order_id": order}, user=second)
    await found(machine)
    assert await answered(machine) == []
    assert [await tier(machine, first), await tier(machine, second)] == ["free", "free"]


@pytest.mark.parametrize("kind", ["charge.refunded", "invoice.paid"])
async def test_stripe_tells_one_payment_under_several_names(machine: Desk, kind: str) -> None:
    """A refund counts under whichever; and a payment is not its own newer one."""
    user = await shop.add_user(machine.db)
    order = {"client_reference_id": ORDER.format(user=user, plan="professional")}
    paid = {"payment_status": "paid", "amount_total": 1499, "currency": "usd"}
    await stripe_says(
        machine, "checkout.session.completed", id="cs_1", mode="subscription", invoice="in_1", **paid, **order
    )
    metadata = {"metadata": {"user_id": str(user), "plan_id": "professional"}}
    more: dict[str, Any] = {"id": "in_1", "status": "paid", "total": 1499, **metadata}
    if kind == "charge.refunded":
        more = {"id": "ch_1", "payment_intent": "pi_1", "invoice": "in_1", "refunded": True, "amount_refunded": 1499}
        more |= {"amount": 1499, "status": "succeeded"}
    await stripe_says(machine, kind, currency="usd", **more)
    await says_paid(machine, "stripe", "cs_1")
    await found(machine)
    assert await machine.fix() == ([] if kind == "charge.refunded" else [Result.DONE])
    assert await tier(machine, user) == ("free" if kind == "charge.refunded" else "professional")


async def test_what_failed_over_http_is_not_asked_for_again_under_another_name(machine: Desk) -> None:
    machine.policy = replace(machine.policy, strategy="http")
    user = await orphaned(machine)
    assert await answered(machine) == []
    await machine.db.execute("UPDATE paidwatch.activation SET state = 'failed', done_at = now(), due_at = NULL")
    row = Subject(payment_id=await machine.paid(reference=REFERENCE, owner=user))

    async def claim(session: Session, actor: str) -> list[int | None]:
        await subjects.lock(session, row)
        arguments: dict[str, Any] = {"user_id": str(user), "actor": actor, "reason": "", "guards": ()}
        return [await ledger.claim(session, subject=it, strategy="http", **arguments) for it in (TOLD, row)]

    assert await machine.pool.write(lambda session: claim(session, "auto")) == [None, None]
    assert (await machine.pool.write(lambda session: claim(session, "cli:ann")))[0] is not None


async def test_a_late_activation_that_names_the_row_is_a_second_one(machine: Desk) -> None:
    user = await confirmed(machine)
    payment = await shop.add_payment(machine.db, user, status="completed", reference=REFERENCE)
    await shop.add_event(machine.db, user, "activated", {"payment_id": str(payment)})
    await machine.inbox.drain(MINUTE, {})
    assert (await Double(database=machine.pool, policy=lambda: machine.policy, log=Log()).run()).told


async def test_what_the_application_does_on_request_is_not_told_as_its_own_work(machine: Desk) -> None:
    machine.policy = replace(machine.policy, strategy="http")
    await orphaned(machine)
    assert await answered(machine) == []
    async with admin(machine.db, OWN) as endpoint:
        headers = {"Authorization": SecretStr(f"Bearer {TOKEN}")}
        built = build(
            ActivationHttp.model_validate({"url": endpoint.url, "body": OWN, "headers": headers}), machine.session
        )
        call = Call(database=machine.pool, policy=lambda: machine.policy, application=lambda: built)
        (number,) = await machine.pool.read(lambda session: calls.due(session, 10, apart_from=[]))
        step = await machine.pool.write(lambda session: call.decide(session, number))
        assert isinstance(step, Speak)
        await step.application.activate(step.ask)
        # The application has committed, and its answer is on the way.
        await machine.inbox.drain(MINUTE, {})
        await machine.detect.run()
        assert (await story(machine))["state"] == "gap"
        await machine.db.execute("UPDATE paidwatch.activation SET due_at = now()")
        await call.advance(number)
    assert (await story(machine))["outcome"] == "fixed"
    assert [notice.word for notice in await notices(machine)] == ["FIXED"]


async def test_a_webhook_that_is_repeated_does_not_let_the_message_go_before_the_answer(machine: Desk) -> None:
    user = await orphaned(machine)
    await told(machine, user, updated_at=5)
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    assert await notices(machine) == []
    assert await answered(machine) == [Result.DONE]
    assert [notice.word for notice in await notices(machine)] == ["FIXED"]


async def test_intake_wakes_no_story_that_was_closed_under_its_hands(machine: Desk) -> None:
    """What is closed is looked at by nobody: a moment at which it is due would be one for ever."""
    user = await orphaned(machine)
    await shop.activate(machine.db, user)
    close = "UPDATE paidwatch.claim SET state = 'closed', outcome = 'activated', closed_at = now(), due_at = NULL"

    async def hold(session: Session) -> None:
        await session.connection.execute(f"{close} WHERE reference = $1", REFERENCE)
        tasks.start_soon(machine.inbox.drain, MINUTE, {})
        while not await machine.db.fetchval(LOCKED):
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        await machine.pool.write(hold)
    assert (await story(machine))["due_at"] is None


async def test_a_silence_that_waits_is_not_due_for_its_reminder(machine: Desk) -> None:
    db = machine.db
    heard = (
        "INSERT INTO paidwatch.reading (log_id, method, reference, status, valid, at)"
        " SELECT $1 || g, 'nowpayments', $1 || g, 'paid', true, now() - $2::interval - g * interval '10 minutes'"
        " FROM generate_series(0, $3) g"
    )
    await db.execute(heard, "before", timedelta(hours=3), 9)
    user = await shop.add_user(db)
    for _ in range(2):
        await shop.add_payment(db, user)
    await db.execute("UPDATE payment_transactions SET created_at = now() AT TIME ZONE 'UTC' - interval '2 hours'")
    await db.execute(
        "INSERT INTO paidwatch.claim (method, reference, due_at, opened_at, grace_until)"
        " VALUES ('nowpayments', '!', now(), now() - interval '3 hours', now())"
    )
    await machine.detect.run()
    await db.execute("UPDATE paidwatch.alert SET remind_at = now() - interval '1 second'")
    # A webhook comes, and a payment is made in the same moment: nobody knows yet whether the silence goes on.
    await db.execute(heard, "after", timedelta(seconds=1), 0)
    await shop.add_payment(db, user)
    await db.execute("UPDATE paidwatch.claim SET due_at = now()")
    await machine.detect.run()
    assert await db.fetchval("SELECT state FROM paidwatch.claim") == "gap"
    waits = await machine.pool.read(lambda session: session.one("next_alarm"))
    assert waits["detect"] > MINUTE


@pytest.mark.parametrize("state", ["claimed", "calling"])
async def test_what_is_being_activated_under_one_name_is_not_claimed_under_another(machine: Desk, state: str) -> None:
    user = await orphaned(machine)
    row = Subject(payment_id=await machine.paid(reference=REFERENCE, owner=user))

    async def claim(session: Session, subject: Subject) -> int | None:
        await subjects.lock(session, subject)
        return await ledger.claim(session, subject=subject, user_id=str(user), actor="cli:ann", reason="", guards=())

    assert await machine.pool.write(lambda session: claim(session, TOLD)) is not None
    await machine.db.execute("UPDATE paidwatch.activation SET state = $1", state)
    assert await machine.pool.write(lambda session: claim(session, row)) is None


async def test_the_message_of_what_was_claimed_waits_for_its_end(machine: Desk) -> None:
    """The provider has answered before: the gap is found and claimed in one transaction."""
    await says_paid(machine, "nowpayments", REFERENCE)
    user = await orphaned(machine)
    assert await notices(machine) == []
    await told(machine, user, updated_at=5)
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    assert await notices(machine) == [], "and looking again does not let it go"
    assert await machine.fix() == [Result.DONE]
    assert [notice.word for notice in await notices(machine)] == ["FIXED"]


async def test_what_was_found_with_activation_off_is_judged_anew_once_it_is_on(machine: Desk) -> None:
    on = machine.policy
    machine.policy = replace(on, mode=Mode.OFF)
    sweep = Sweep(database=machine.pool, policy=lambda: machine.policy, log=Log())
    await sweep.follow()
    user = await orphaned(machine)
    assert await answered(machine) == []
    machine.policy = on
    await sweep.follow()
    await machine.detect.run()
    assert await machine.fix() == [Result.DONE]
    assert await tier(machine, user) == "professional"
