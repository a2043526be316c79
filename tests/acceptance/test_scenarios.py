"""The scenarios of a shop's life, each on both shapes, with one daemon that only alerts and one that activates.

All scenarios of one daemon share its database: each has users of its own, and nobody's story touches another's.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import shop
from tests.support.daemon import Daemon, configuration, installed, running
from tests.support.postgres import Database, Server
from tests.support.sink import Sink, sink

AUTO = {
    "activation": {
        "mode": "auto",
        "require_corroboration": False,
        "max_per_hour": 1000,
        "max_per_day": 1000,
        "breaker_share": 0,  # nearly all of its payments are gaps
    },
}
DAY = timedelta(days=1)
GRACES = {"grace": {"default": "300ms"}, "grace.by_method": {"slow": "2s", "barrier": "20ms"}}
"""Short where a gap is waited for, longer where the shop has to be faster than the daemon."""


class Scene(NamedTuple):
    """A shop with a daemon."""

    db: Database
    told: Sink
    daemon: Daemon


async def scene(server: Server, shape: str, folder: Path, *extra: Any) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(sink())
        database = await installed(server, shape)
        file = folder / "paidwatch.toml"
        file.touch(mode=0o600)
        file.write_text(configuration(database, receiver, GRACES, *extra))
        daemon = await stack.enter_async_context(running(file))
        await daemon.ready()
        yield Scene(database, receiver, daemon)
        await daemon.stop()
        await server.drop(database)


@pytest.fixture(scope="module", params=["F", "L"])
async def alerting(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    async for found in scene(server, request.param, tmp_path_factory.mktemp("alerting")):
        yield found


@pytest.fixture(scope="module", params=["F", "L"])
async def activating(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    async for found in scene(server, request.param, tmp_path_factory.mktemp("activating"), AUTO):
        yield found


async def paid(db: Database, user: Any, plan: str = "professional", **more: Any) -> Any:
    payment = await shop.add_payment(db, user, plan=plan, **more)
    await shop.complete(db, payment)
    return payment


async def announced_since(here: Scene, *payments: Any) -> dict[str, list[str]]:
    """Return what was told of these payments, after everything noticed up to now was surely judged and delivered.

    The barrier is one more gap: the alarm clock judges in the order of due times, and one channel tells in that order.
    """
    user = await shop.add_user(here.db)
    barrier = str(await paid(here.db, user, method="barrier"))
    await here.told.until(lambda: any(told.payment == barrier for told in here.told.told))
    wanted = [str(payment) for payment in payments]
    return {
        payment: [f"{told.word} {told.kind}" for told in here.told.told if told.payment == payment]
        for payment in wanted
        if any(told.payment == payment for told in here.told.told)
    }


async def watch(here: Scene, payment: Any) -> Any:
    return await here.db.fetchrow("SELECT * FROM paidwatch.watch WHERE payment_id::text = $1", str(payment))


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


# 1 and 6: the webhook never came


async def test_a_missed_webhook_is_told_once_and_not_before_the_grace_is_over(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    before = await shop.read(alerting.db, "users", user)
    payment = await paid(alerting.db, user)
    await alerting.told.until_told([payment])
    assert await announced_since(alerting, payment) == {str(payment): ["NEW paid_not_active"]}
    assert await shop.read(alerting.db, "users", user) == before
    row = await alerting.db.fetchrow(
        "SELECT a.opened_at, w.grace_until, w.grace_until - w.paid_at AS grace"
        " FROM paidwatch.alert a JOIN paidwatch.watch w USING (payment_id) WHERE a.payment_id = $1",
        payment,
    )
    assert row is not None
    assert row["opened_at"] >= row["grace_until"]
    assert row["grace"] == timedelta(seconds=0.3)


async def test_a_slow_payment_counts_from_when_it_was_paid_not_from_when_it_was_made(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user, created_at=await shop.now(alerting.db) - timedelta(hours=3))
    await alerting.told.until_told([payment])
    found = await watch(alerting, payment)
    assert found["paid_at"] > await shop.now(alerting.db) - timedelta(hours=1)


# 2: the application does its work


async def test_an_activation_within_the_grace_is_silence_and_its_latency_is_kept(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user, method="slow")
    await shop.activate(alerting.db, user, payment=payment)
    await alerting.daemon.closed(alerting.db, payment, "activated")
    assert await announced_since(alerting, payment) == {}
    found = await watch(alerting, payment)
    assert timedelta() <= found["settled_at"] - found["paid_at"] < timedelta(seconds=2)


async def test_a_late_activation_resolves_what_was_announced(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user)
    await alerting.told.until_told([payment])
    await shop.activate(alerting.db, user, payment=payment)
    await alerting.told.until_told([payment], word="RESOLVED")
    told = await announced_since(alerting, payment)
    assert told == {str(payment): ["NEW paid_not_active", "RESOLVED paid_not_active"]}


# 7 and 8: upgrades


async def test_an_upgrade_that_was_applied_is_no_gap(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    first = await paid(alerting.db, user, method="slow")
    second = await paid(alerting.db, user, "vip_elite", method="slow")
    await shop.activate(alerting.db, user, plan="vip_elite", payment=second)
    await alerting.daemon.closed(alerting.db, first, "activated")
    await alerting.daemon.closed(alerting.db, second, "activated")
    assert await announced_since(alerting, first, second) == {}


async def test_of_two_payments_only_the_better_one_is_told(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    first = await paid(alerting.db, user, method="slow")
    second = await paid(alerting.db, user, "vip_elite", method="slow")
    await alerting.told.until_told([second])
    await alerting.daemon.closed(alerting.db, first, "superseded")
    assert await announced_since(alerting, first, second) == {str(second): ["NEW paid_not_active"]}


# 9: renewals


async def test_a_renewal_that_was_not_applied_is_told(alerting: Scene) -> None:
    until = await shop.now(alerting.db) + DAY
    user = await shop.add_user(alerting.db, status="active", tier="professional", paid_until=until)
    payment = await paid(alerting.db, user)
    await alerting.told.until_told([payment])
    assert await announced_since(alerting, payment) == {str(payment): ["NEW renewal_not_applied"]}


# 10: refunds


async def test_a_refund_within_the_grace_is_silence(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user, method="slow")
    await shop.refund(alerting.db, payment)
    await alerting.daemon.closed(alerting.db, payment, "reversed")
    assert await announced_since(alerting, payment) == {}


async def test_a_refund_that_overtook_the_payment_is_silence(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await shop.add_payment(alerting.db, user)
    await shop.refund(alerting.db, payment)
    await shop.complete(alerting.db, payment)
    await alerting.daemon.closed(alerting.db, payment, "reversed")
    assert await announced_since(alerting, payment) == {}


async def test_a_refund_after_activation_is_told_and_nothing_is_revoked(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user, method="slow")
    await shop.activate(alerting.db, user, payment=payment)
    await alerting.daemon.closed(alerting.db, payment, "activated")
    before = await shop.read(alerting.db, "users", user)
    await shop.refund(alerting.db, payment)
    await alerting.told.until_told([payment])
    assert await announced_since(alerting, payment) == {str(payment): ["NEW reversed_but_active"]}
    assert await shop.read(alerting.db, "users", user) == before


async def test_a_refund_of_an_open_gap_resolves_it(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user)
    await alerting.told.until_told([payment])
    await shop.refund(alerting.db, payment)
    await alerting.told.until_told([payment], word="RESOLVED")


# 11: a payment that failed


async def test_a_failed_payment_with_a_completion_time_is_nothing(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await shop.add_payment(alerting.db, user)
    await shop.fail(alerting.db, payment)
    assert await announced_since(alerting, payment) == {}
    assert await watch(alerting, payment) is None


async def test_the_application_says_that_it_failed_and_nobody_waits_for_the_grace(alerting: Scene) -> None:
    user = await shop.add_user(alerting.db)
    payment = await paid(alerting.db, user, method="slow")
    await shop.add_event(alerting.db, user, "activation_failed", {"payment_id": str(payment), "reason": "it broke"})
    await alerting.told.until_told([payment])
    assert await announced_since(alerting, payment) == {str(payment): ["NEW activation_failed"]}


# 17: users for whom nothing may be done


async def without_user(db: Database, user: Any) -> None:
    """Remove a user whom a payment still names, as a restore or a careless script does."""
    async with db.transaction():
        await db.execute("SET LOCAL session_replication_role = replica")
        await db.execute("DELETE FROM users WHERE id = $1", user)


@pytest.mark.parametrize("which", ["disabled", "missing"])
async def test_no_usable_user(activating: Scene, which: str) -> None:
    user = await shop.add_user(activating.db, active=which != "disabled")
    payment = await shop.add_payment(activating.db, user)
    if which == "missing":
        await without_user(activating.db, user)
    await shop.complete(activating.db, payment)
    await activating.told.until_told([payment])
    assert await announced_since(activating, payment) == {str(payment): ["NEW user_missing_or_disabled"]}
    assert not await activations(activating, payment)


async def test_an_administrator_is_nobodys_alarm(activating: Scene) -> None:
    user = await shop.add_user(activating.db, admin=True)
    payment = await paid(activating.db, user)
    await activating.daemon.closed(activating.db, payment, "admin")
    assert await announced_since(activating, payment) == {}
    assert not await activations(activating, payment)


async def test_what_an_administrator_took_away_is_not_given_back_by_a_machine(activating: Scene) -> None:
    user = await shop.add_user(activating.db)
    payment = await paid(activating.db, user)
    await shop.add_event(activating.db, user, "cancelled", {"by": "an administrator"})
    await activating.told.until_told([payment])
    assert await announced_since(activating, payment) == {str(payment): ["NEW paid_not_active"]}
    assert not await activations(activating, payment)


# 3, 9: activation


async def activations(here: Scene, payment: Any) -> list[Any]:
    return await here.db.fetch("SELECT * FROM paidwatch.activation WHERE payment_id::text = $1", str(payment))


async def test_an_activation_writes_every_field_and_one_event_and_says_so(activating: Scene) -> None:
    db = activating.db
    revoked = await shop.now(db) - DAY
    user = await shop.add_user(db, status="canceled", revoked_at=revoked)
    payment = await paid(db, user, "vip_elite")
    await activating.told.until_told([payment], word="FIXED")
    (ledger,) = await activations(activating, payment)
    assert ledger["state"] == "done"
    row = await shop.read(db, "users", user)
    moment = naive(ledger["done_at"])
    assert (row["subscription_status"], row["subscription_tier"], row["plan_id"]) == (
        "active",
        "vip_elite",
        "vip_elite",
    )
    assert row["access_revoked_at"] is None
    assert row["last_payment_date"] == row["subscription_updated_at"] == moment
    assert (
        row["payment_due_date"]
        == row["subscription_renewal_date"]
        == row["current_period_end"]
        == moment + timedelta(days=30)
    )
    (event,) = await db.fetch(
        "SELECT *, event_data::jsonb ->> 'plan_id' AS plan FROM subscription_events WHERE user_id = $1", user
    )
    assert event["event_type"] == "activated"
    assert event["stripe_event_id"] == f"paidwatch:{payment}"
    assert event["plan"] == "vip_elite"
    assert await announced_since(activating, payment) == {str(payment): ["FIXED paid_but_revoked"]}


async def test_a_renewal_is_applied_once_and_nothing_is_lost(activating: Scene) -> None:
    db = activating.db
    until = (await shop.now(db) + DAY).replace(microsecond=0)
    user = await shop.add_user(db, status="active", tier="professional", paid_until=until)
    payment = await paid(db, user)
    await activating.told.until_told([payment], word="FIXED")
    assert await announced_since(activating, payment) == {str(payment): ["FIXED renewal_not_applied"]}
    assert (await shop.read(db, "users", user))["payment_due_date"] == naive(until + timedelta(days=30))
    await shop.update(db, "payments", payment, {"completed_at": await shop.now(db)})
    await shop.update(db, "users", user, {"subscription_updated_at": await shop.now(db)})
    await announced_since(activating, payment)
    assert (await shop.read(db, "users", user))["payment_due_date"] == naive(until + timedelta(days=30))
    assert len(await activations(activating, payment)) == 1


async def test_a_downgrade_is_never_applied(activating: Scene) -> None:
    db = activating.db
    until = await shop.now(db) + timedelta(days=2)
    user = await shop.add_user(db, status="active", tier="vip_elite", paid_until=until)
    payment = await paid(db, user)
    await activating.told.until_told([payment])
    assert await announced_since(activating, payment) == {str(payment): ["NEW renewal_not_applied"]}
    assert (await shop.read(db, "users", user))["subscription_tier"] == "vip_elite"


async def test_a_confirmed_payment_is_not_final_enough(activating: Scene) -> None:
    user = await shop.add_user(activating.db)
    payment = await shop.add_payment(activating.db, user)
    await shop.complete(activating.db, payment, status="confirmed")
    await activating.told.until_told([payment])
    assert not await activations(activating, payment)
    assert (await shop.read(activating.db, "users", user))["subscription_status"] == "inactive"


async def test_a_wrong_price_is_told_and_not_activated(activating: Scene) -> None:
    user = await shop.add_user(activating.db)
    payment = await paid(activating.db, user, amount=shop.PRICES["professional"] / 2)
    await activating.told.until_told([payment])
    assert await announced_since(activating, payment) == {str(payment): ["NEW amount_mismatch"]}
    assert not await activations(activating, payment)
