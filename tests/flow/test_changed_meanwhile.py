"""What must not lead an activation astray: rows that changed hands, columns too small, old payments, planted names."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import pytest

from paidwatch.core.guards import Guard, Mode
from paidwatch.flow.grant import Result, grant
from paidwatch.flow.policy import Policy
from paidwatch.store import activations, ledger
from paidwatch.store.statements import Statements
from tests.flow.test_modes import NEVER, ROUTING, Scene, pool_of
from tests.support import shop
from tests.support.postgres import Database
from tests.support.torture import equipment

LONG = "professional_annual_2026"
"""A plan whose name is longer than the column of tiers."""


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    usual = equipment(tmp_path_factory.mktemp("meanwhile")).policy
    return replace(usual, mode=Mode.AUTO, require_corroboration=False, breaker=NEVER, routing=ROUTING, quiet=None)


@pytest.fixture
async def scene(watched: Database, statements: Statements, policy: Policy) -> AsyncIterator[Scene]:
    async with pool_of(watched, statements) as pool:
        yield Scene(db=watched, pool=pool, policy=policy)


async def test_a_claim_is_not_granted_to_whoever_the_payment_was_given_to(scene: Scene) -> None:
    payment = await scene.paid()
    await scene.tick()
    first = await scene.user_of(payment)
    other = await shop.add_user(scene.db)
    await shop.update(scene.db, "payments", int(payment), {"user_id": other})
    before = await shop.read(scene.db, "users", other)
    assert await scene.fix() == 0
    assert await shop.read(scene.db, "users", other) == before
    assert await shop.read(scene.db, "users", first["id"]) == first
    assert "another user" in await scene.notes(payment)
    await scene.tick()
    assert await scene.fix() == 1
    rows = await scene.ledger(payment)
    assert [(row["state"], row["user_id"]) for row in rows] == [("refused", first["id"]), ("done", other)]


async def test_a_shadow_that_would_not_fit_is_none(scene: Scene) -> None:
    await scene.db.execute(
        "INSERT INTO subscription_plans SELECT (jsonb_populate_record(p, jsonb_build_object('id', $1::text))).*"
        " FROM subscription_plans p WHERE id = 'professional'",
        LONG,
    )
    scene.policy = replace(scene.policy, mode=Mode.SHADOW)
    payment = await scene.paid()
    await shop.update(scene.db, "payments", int(payment), {"plan_id": LONG})
    await scene.tick()
    assert await scene.ledger(payment) == []
    assert "does not fit" in await scene.notes(payment)


@pytest.mark.parametrize("completed", [True, False])
async def test_an_old_payment_that_is_paid_once_more_was_activated_all_the_same(scene: Scene, completed: bool) -> None:
    """Nobody watched it then, so that only its event tells; it is touched, or its status goes there and back."""
    long_ago = await shop.now(scene.db) - timedelta(days=200)
    user = await shop.add_user(scene.db)
    payment = await shop.add_payment(scene.db, user, status="completed", created_at=long_ago)
    reference = (await shop.read(scene.db, "payments", payment))["transaction_id"]
    await shop.add_event(scene.db, user, "activated", {"payment_reference": reference}, at=long_ago)
    if completed:
        await shop.update(scene.db, "payments", payment, {"completed_at": long_ago})
    await scene.db.execute(
        "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)"
        " VALUES ($1, $2, 'waiting', 'trigger', now() - interval '1 minute', now(), now(), now())",
        payment,
        user,
    )
    assert (await scene.tick()).activations == 0
    assert Guard.NOT_DONE.value in await scene.notes(str(payment))


async def test_an_activation_takes_its_locks_in_the_order_of_all_others(scene: Scene) -> None:
    """Watch, then the ledger: who holds a watch and wants the ledger must not meet one who has it and wants that."""
    payment = await scene.paid()
    await scene.tick()
    (claim,) = await scene.pool.read(lambda session: ledger.claimed(session, 10))
    ended: list[Result] = []

    async def granting() -> None:
        ended.append((await scene.pool.write(partial(grant, claim=claim, policy=scene.policy))).result)

    async with scene.db.another() as person, anyio.create_task_group() as group, person.transaction():
        await person.execute("SELECT FROM paidwatch.watch WHERE payment_id::text = $1 FOR UPDATE", payment)
        group.start_soon(granting)
        with anyio.fail_after(20):
            while not await scene.db.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database())"
            ):
                pass
        assert await person.fetchval("SELECT pg_try_advisory_xact_lock(paidwatch.activations())")
    assert ended == [Result.DONE]


async def test_what_others_put_into_public_is_not_called(scene: Scene) -> None:
    """An operator that fits better than PostgreSQL's own would run with the rights of whoever installed paidwatch."""
    payment = await scene.paid()
    await scene.db.execute(
        "CREATE TABLE public.caught (who text);"
        "CREATE FUNCTION public.catch(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN $1 = $2::oid; END $$;"
        "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.catch)"
    )
    await scene.tick()
    assert await scene.fix() == 1
    (row,) = await scene.ledger(payment)
    assert json.loads(row["after"])["subscription_status"] == "active"
    assert await scene.db.fetchval("SELECT count(*) FROM public.caught") == 0


async def test_a_shadow_of_a_former_version_is_held_against_what_happened(scene: Scene) -> None:
    """It had no plan: what would have been written stood in its image."""
    scene.policy = replace(scene.policy, mode=Mode.SHADOW)
    payment = await scene.paid()
    await scene.tick()
    await scene.db.execute("UPDATE paidwatch.activation SET after = planned -> 'user', before = NULL, planned = NULL")
    await shop.activate(scene.db, (await scene.user_of(payment))["id"], payment=int(payment))
    await scene.look_again(payment)
    (row,) = await scene.ledger(payment)
    assert (row["was_right"], row["comparison"]) == (True, "the same was granted")


async def test_what_failed_within_the_grace_period_is_activated_when_that_is_over(scene: Scene) -> None:
    """The alert waits for no grace, the activation does, and not for the next reminder."""
    payment = await scene.paid(grace_ended="-1 hour")
    await shop.add_event(scene.db, (await scene.user_of(payment))["id"], "activation_failed", {"payment_id": payment})
    assert (await scene.tick()).activations == 0
    assert Guard.FINAL.value in await scene.notes(payment)
    assert await scene.db.fetchval("SELECT due_at = grace_until FROM paidwatch.watch")
    await scene.db.execute("UPDATE paidwatch.watch SET grace_until = now(), due_at = now()")
    assert (await scene.tick()).activations == 1
    assert await scene.db.fetchval("SELECT due_at IS NULL FROM paidwatch.watch")


async def test_money_that_went_back_by_a_signed_webhook_is_not_granted_by_the_machine_nor_by_hand(scene: Scene) -> None:
    """The row still says paid, since the handler failed. P2 refuses, whether or not a second witness is needed."""
    payment = await scene.paid()
    reference = (await shop.read(scene.db, "payments", int(payment)))["transaction_id"]
    for log_id, status in enumerate(("paid", "reversed")):
        await scene.db.execute(
            "INSERT INTO paidwatch.reading (log_id, at, method, status, said, valid, reference)"
            " VALUES ($1, now(), 'nowpayments', $2, $2, true, $3)",
            str(log_id),
            status,
            reference,
        )
    assert (await scene.tick()).activations == 0
    assert Guard.NOT_REVERSED.value in await scene.notes(payment)


async def test_what_is_said_of_the_caps_is_what_they_count(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.SHADOW)
    await scene.paid()
    await scene.tick()
    assert (await scene.pool.read(partial(activations.used, shadows=True))).hour == 1
    assert (await scene.pool.read(partial(activations.used, shadows=False))).hour == 0
