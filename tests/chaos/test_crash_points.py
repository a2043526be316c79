"""kill -9 at every numbered point between a payment and its alert, then a normal start: nothing lost, nothing twice."""

import signal
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from tests.support import shop
from tests.support.crash_main import FIRST_RUN, POINTS
from tests.support.daemon import install, told_and_done
from tests.support.postgres import Database, Server
from tests.support.sink import Sink
from tests.support.watched import Start

AUTO = {"activation": {"mode": "auto", "require_corroboration": False}, "grace": {"default": "300ms"}}


async def paid(db: Database, user: Any, *, status: str = "completed") -> str:
    payment = await shop.add_payment(db, user)
    await shop.complete(db, payment, status=status)
    return str(payment)


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_loses_nothing_and_says_nothing_twice(
    watched: Database, told: Sink, start: Start, point: str
) -> None:
    fixable, helped, hopeless = [await shop.add_user(watched) for _ in range(3)]
    active = await shop.add_user(
        watched, status="active", tier="professional", paid_until=await shop.now(watched) + timedelta(days=40)
    )
    async with start(AUTO, crash=point) as doomed:
        await doomed.until(lambda: bool(doomed.events("listen.ready")))
        fixed = await paid(watched, fixable)
        alerted = await paid(watched, hopeless, status="confirmed")
        quiet = await paid(watched, active)
        late = await paid(watched, helped, status="confirmed")
        if point == "09 watches closed, not committed":
            await told.until_told([late])
            await shop.activate(watched, helped, payment=int(late))
        assert await doomed.ended() == -signal.SIGKILL
    async with start(AUTO) as daemon:
        at_the_kill = {message.key for message in told.told}
        await daemon.ready()
        await told.until(lambda: {fixed, alerted, late} <= {message.payment for message in told.told})
        await shop.activate(watched, helped, payment=int(late))
        await daemon.closed(watched, late, "activated")
        await told.until_told([late], word="RESOLVED")
        await daemon.closed(watched, quiet, "activated")
        await told.until_told([fixed], word="FIXED")
        await daemon.database(
            watched, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
        )
    expected = {
        ("NEW", alerted): 1,
        ("NEW", late): 1,
        ("RESOLVED", late): 1,
        ("FIXED", fixed): 1,
    }
    counted: dict[tuple[str, str], set[str]] = {}
    for message in told.told:
        counted.setdefault((message.word, message.payment), set()).add(message.key)
    # A start that takes longer than a message waits for the activation that was claimed with it tells both, in order.
    assert {what: len(keys) for what, keys in counted.items()} in (expected, expected | {("NEW", fixed): 1})
    # Only what was accepted and not yet recorded when the kill came is said once more, with the same key.
    said = Counter(message.key for message in told.told)
    assert {key for key, times in said.items() if times > 1} <= at_the_kill
    assert max(said.values()) <= 2
    assert await told_and_done(watched)
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.activation WHERE state = 'done'") == 1
    assert await watched.fetchval("SELECT count(*) FROM subscription_events WHERE user_id = $1", fixable) == 1
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.audit WHERE act = 'activate'") == 1
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.inbox") == 0


@pytest.mark.parametrize("point", FIRST_RUN)
async def test_a_kill_in_the_first_run_costs_nothing_of_its_digest(
    server: Server, told: Sink, start: Start, point: str, watched: Database
) -> None:
    old = await server.create("F")
    for _ in range(5):
        payment = await paid(old, await shop.add_user(old))
        await shop.update(old, "payments", int(payment), {"completed_at": await shop.now(old) - timedelta(hours=5)})
    await install(old)
    async with start(AUTO, crash=point, database=old) as doomed:
        assert await doomed.ended() == -signal.SIGKILL
    for _ in range(2):
        async with start(AUTO, database=old) as daemon:
            await daemon.ready()
            await told.until(lambda: bool(told.told))
            await daemon.database(
                old, "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)"
            )
    (digest,) = told.told
    assert digest.kind == "baseline"
    assert "5 payments" in str(digest.body)
    await server.drop(old)
