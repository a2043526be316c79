"""Two that act in the same moment: caps are counted one after the other, and an undo compares while it writes."""

import json
from dataclasses import replace

import anyio

from paidwatch.core.model import Gap, Subject
from paidwatch.core.verdict import judge
from paidwatch.flow.claim import Claimant, Claims
from paidwatch.store import undo, watches
from paidwatch.store.pool import Session
from tests.flow.test_modes import Scene, policy, scene, statements

__all__ = ["policy", "scene", "statements"]

WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"


async def consider(session: Session, scene: Scene, payment: str) -> Claims:
    """Ask whether this payment may be granted, and claim it, in the caller's transaction."""
    now, (known,) = await watches.facts_of(session, [payment], scene.policy.graces())
    gap = judge(known.facts, scene.policy.rules, now)
    assert isinstance(gap, Gap)
    return await Claimant(lambda: scene.policy).consider(session, [(known, gap)], now)


async def test_of_two_that_count_at_once_one_waits_for_the_other(scene: Scene) -> None:
    scene.policy = replace(scene.policy, max_per_hour=1)
    first, second = await scene.paid(), await scene.paid()
    later: list[Claims] = []

    async def another() -> None:
        later.append(await scene.pool.write(lambda session: consider(session, scene, second)))

    async def one(session: Session) -> Claims:
        found = await consider(session, scene, first)
        tasks.start_soon(another)
        while not later and not await scene.db.fetchval(WAITING):
            await anyio.lowlevel.checkpoint()
        return found

    async with anyio.create_task_group() as tasks:
        claims = await scene.pool.write(one)
        assert claims.made == {Subject(payment_id=first)}
    assert [it.made for it in later] == [frozenset()]
    assert "the cap per hour is reached" in " ".join(later[0].notes(Subject(payment_id=second)))


async def test_what_undoing_writes_it_writes_only_over_what_was_written(scene: Scene) -> None:
    """Whoever looked first and was overtaken overwrites nothing: the statement itself compares, column by column."""
    user = await scene.user_of(await scene.paid())
    ours = {"subscription_status": user["subscription_status"], "subscription_tier": "professional"}
    former = json.dumps({"subscription_status": "canceled", "subscription_tier": "vip_elite"})

    async def restore(after: dict[str, str]) -> str | None:
        return await scene.pool.write(
            lambda session: undo.restore(session, str(user["id"]), after=json.dumps(after), before=former)
        )

    assert await restore(ours) is None
    payment = await scene.db.fetchval("SELECT max(id)::text FROM payment_transactions")
    assert await scene.user_of(payment) == user
    assert await restore(ours | {"subscription_tier": user["subscription_tier"]}) is not None
    assert (await scene.user_of(payment))["subscription_tier"] == "vip_elite"
