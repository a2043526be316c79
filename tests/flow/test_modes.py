"""Modes, caps and the breaker at work in the database: what is claimed, proposed and recorded, and what stops it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from paidwatch.clock import SystemClock
from paidwatch.core.breaker import FAILING, GAPPING
from paidwatch.core.breaker import Rules as BreakerRules
from paidwatch.core.compare import Record
from paidwatch.core.guards import Actor, Guard, Mode
from paidwatch.core.model import Gap, Subject
from paidwatch.core.routing import Routing
from paidwatch.core.verdict import judge
from paidwatch.flow.activate import Activate
from paidwatch.flow.breaker import after_failure
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide, Ticked
from paidwatch.flow.grant import Result, grant
from paidwatch.flow.policy import Policy
from paidwatch.flow.sweep import Sweep
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store import breaker, ledger, watches
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.postgres import Database
from tests.support.torture import equipment

NEVER = BreakerRules(failures=0, share=Decimal(0))
ROUTING = Routing(usual=("ops",), low=frozenset(), routes=(), escalations=())


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    usual = equipment(tmp_path_factory.mktemp("modes")).policy
    return replace(
        usual,
        mode=Mode.AUTO,
        require_corroboration=False,
        max_per_hour=100,
        max_per_day=100,
        breaker=NEVER,
        routing=ROUTING,
        channels=("ops",),
        storm_threshold=5,
        storm_window=timedelta(minutes=1),
        quiet=None,
    )


@dataclass(slots=True, kw_only=True)
class Scene:
    """A shop, and one daemon's decisions without the daemon."""

    db: Database
    pool: Pool
    policy: Policy
    decide: Decide = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered but what the database knows."""

        def choices() -> Policy:
            return self.policy

        self.decide = Decide(
            database=self.pool, policy=choices, claimant=Claimant(choices), metrics=metrics(), log=Log()
        )

    async def paid(self, *, grace_ended: str = "1 second", **user: Any) -> str:
        """A payment whose grace period is over and which is not applied."""
        plan, amount = user.pop("bought", "professional"), user.pop("amount", None)
        owner = await shop.add_user(self.db, **user)
        payment = await shop.add_payment(self.db, owner, plan=plan, amount=amount, status="completed")
        await self.db.execute(
            "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)"
            " VALUES ($1, $2, 'waiting', 'trigger', now() - interval '1 hour', now() - interval '1 hour',"
            f" now() - interval '{grace_ended}', now())",
            payment,
            owner,
        )
        return str(payment)

    async def tick(self) -> Ticked:
        return await self.decide.tick()

    async def look_again(self, payment: str) -> None:
        await self.db.execute("UPDATE paidwatch.watch SET due_at = now() WHERE payment_id::text = $1", payment)
        await self.tick()

    async def fix(self) -> int:
        """Grant every claim; return how many were granted."""
        done = 0
        for claim in await self.pool.read(lambda session: ledger.claimed(session, 100)):
            ended = await self.pool.write(partial(grant, claim=claim, policy=self.policy))
            done += ended.result is Result.DONE
        return done

    async def ledger(self, *payments: str) -> list[Any]:
        return await self.db.fetch(
            "SELECT *, payment_id::text AS payment FROM paidwatch.activation"
            " WHERE payment_id::text = ANY ($1) ORDER BY activation_id",
            list(payments),
        )

    async def notes(self, payment: str) -> str:
        found = await self.db.fetchval("SELECT notes FROM paidwatch.alert WHERE payment_id::text = $1", payment)
        return " ".join(found or ())

    async def stories(self, kind: str) -> list[Any]:
        return await self.db.fetch("SELECT * FROM paidwatch.alert WHERE kind = $1 ORDER BY alert_id", kind)

    async def user_of(self, payment: str) -> dict[str, Any]:
        row = await shop.read(self.db, "payments", int(payment))
        return await shop.read(self.db, "users", row["user_id"])

    async def record(self) -> Record:
        found, _stopped = await self.pool.read(ledger.track_record)
        return found


def metrics() -> Metrics:
    return Metrics(status=Status(clock=SystemClock()), version="0", channels=("ops",))


def pool_of(db: Database, statements: Statements) -> Pool:
    seconds = timedelta(seconds=20)
    target = Target(dsn=db.dsn, connect_timeout=seconds, statement_timeout=seconds)
    return Pool(target, statements, size=2, settings=BY_KEY)


@pytest.fixture
async def scene(watched: Database, statements: Statements, policy: Policy) -> AsyncIterator[Scene]:
    async with pool_of(watched, statements) as pool:
        yield Scene(db=watched, pool=pool, policy=policy)


# The rules P1 to P9, asked again in the writing transaction


async def second_payment(scene: Scene, payment: str) -> None:
    user = (await scene.user_of(payment))["id"]
    await shop.add_payment(scene.db, user, status="completed", completed_at=await shop.now(scene.db))


async def named_event(scene: Scene, payment: str) -> None:
    await shop.add_event(scene.db, (await scene.user_of(payment))["id"], "activated", {"payment_id": payment})


async def banned(scene: Scene, payment: str) -> None:
    await shop.update(scene.db, "users", (await scene.user_of(payment))["id"], {"is_active": False})


async def paused(scene: Scene, _payment: str) -> None:
    await scene.pool.write(partial(breaker.pause, by="cli:kim", reason="a deploy"))


def rows(table: str, **values: object) -> Callable[[Scene, str], Awaitable[None]]:
    async def change(scene: Scene, payment: str) -> None:
        await shop.update(scene.db, table, int(payment), values)

    return change


def watch(values: str) -> Callable[[Scene, str], Awaitable[None]]:
    async def change(scene: Scene, payment: str) -> None:
        await scene.db.execute(f"UPDATE paidwatch.watch SET {values} WHERE payment_id::text = $1", payment)

    return change


def choice(**values: Any) -> Callable[[Scene, str], Awaitable[None]]:
    async def change(scene: Scene, _payment: str) -> None:
        scene.policy = replace(scene.policy, **values)

    return change


MEANWHILE: dict[str, tuple[Guard, Callable[[Scene, str], Awaitable[None]]]] = {
    "P1 only confirmed": (Guard.FINAL, rows("payments", status="confirmed")),
    "P2 reversed": (Guard.NOT_REVERSED, watch("reversed_at = now()")),
    "P3 a newer payment": (Guard.NEWEST, second_payment),
    "P4 too old": (Guard.OPEN_PERIOD, choice(max_age=timedelta(minutes=1))),
    "P5 a lower amount": (Guard.PRICE, rows("payments", amount_usd=Decimal(1))),
    "P6 banned": (Guard.USER, banned),
    "P7 an event": (Guard.NOT_DONE, named_event),
    "P8 no second witness": (Guard.CORROBORATED, choice(require_corroboration=True)),
    "P9 mode": (Guard.MODE, choice(mode=Mode.SHADOW)),
    "P9 caps": (Guard.CAPS, choice(max_per_day=0)),
    "P9 breaker": (Guard.BREAKER, paused),
}


@pytest.mark.parametrize("rule", MEANWHILE)
async def test_what_changed_after_the_claim_is_seen_in_the_writing_transaction(scene: Scene, rule: str) -> None:
    payment = await scene.paid()
    assert (await scene.tick()).activations == 1
    named, change = MEANWHILE[rule]
    await change(scene, payment)
    before = await scene.user_of(payment)
    assert await scene.fix() == 0
    assert await scene.user_of(payment) == before
    (row,) = await scene.ledger(payment)
    refused = {it["guard"] for it in json.loads(row["guards"]) if not it["passed"]}
    assert (row["state"], len(json.loads(row["guards"]))) == ("refused", len(Guard))
    assert refused == {named}
    assert named.value in await scene.notes(payment)


# The rule L1: caps


async def test_caps_are_counted_in_the_database_and_hold_over_a_restart(scene: Scene) -> None:
    scene.policy = replace(scene.policy, max_per_hour=2)
    first = [await scene.paid() for _ in range(3)]
    assert (await scene.tick()).activations == 2
    assert await scene.fix() == 2
    scene.restart()
    await scene.db.execute("UPDATE paidwatch.activation SET claimed_at = claimed_at - interval '59 minutes'")
    later = await scene.paid()
    assert (await scene.tick()).activations == 0
    assert len(await scene.ledger(*first, later)) == 2
    assert "the cap per hour is reached" in await scene.notes(later)
    await scene.db.execute("UPDATE paidwatch.activation SET claimed_at = claimed_at - interval '2 minutes'")
    await scene.look_again(later)
    assert await scene.fix() == 1
    scene.policy = replace(scene.policy, max_per_day=3)
    await scene.db.execute("UPDATE paidwatch.activation SET claimed_at = claimed_at - interval '22 hours'")
    last = await scene.paid()
    assert (await scene.tick()).activations == 0
    assert "the cap per day is reached" in await scene.notes(last)


async def test_the_cap_per_user_counts_what_was_undone_and_the_amount_is_looked_at(scene: Scene) -> None:
    first = await scene.paid()
    await scene.tick()
    assert await scene.fix() == 1
    user = (await scene.user_of(first))["id"]
    await scene.db.execute("UPDATE paidwatch.activation SET state = 'undone', undone_at = now()")
    second = await scene.paid()
    await shop.update(scene.db, "payments", int(second), {"user_id": user})
    await shop.update(scene.db, "users", user, {"subscription_status": "inactive", "subscription_tier": "free"})
    await scene.db.execute("DELETE FROM subscription_events")
    dear = await scene.paid(bought="vip_elite")
    scene.policy = replace(scene.policy, max_amount=Decimal(20))
    assert (await scene.tick()).activations == 0
    assert "the cap per user and day is reached" in await scene.notes(second)
    assert "the amount is above the cap" in await scene.notes(dear)


# The rule L2: the breaker


async def test_thirty_gaps_in_a_minute(scene: Scene) -> None:
    """Scenario 18: at most five are fixed, the breaker opens, one storm and one breaker are told, restarts or not."""
    scene.policy = replace(scene.policy, max_per_hour=5, breaker=BreakerRules(least=10))
    payments: list[str] = []
    fixed = 0
    for _ in range(10):
        payments += [await scene.paid() for _ in range(3)]
        await scene.tick()
        fixed += await scene.fix()
        scene.restart()
    assert 0 < fixed <= 5
    active = [payment for payment in payments if (await scene.user_of(payment))["subscription_status"] == "active"]
    assert len(active) == fixed == len([row for row in await scene.ledger(*payments) if row["state"] == "done"])
    assert [story["state"] for story in await scene.stories("incident")] == ["open"]
    (story,) = await scene.stories("breaker")
    assert (story["state"], story["cause"]) == ("open", GAPPING)
    told = await scene.db.fetch("SELECT channel FROM paidwatch.delivery WHERE alert_id = $1", story["alert_id"])
    assert [row["channel"] for row in told] == ["ops"]
    assert "the breaker is open" in await scene.notes(payments[-1])
    assert await scene.db.fetchval("SELECT count(*) FROM paidwatch.audit WHERE act = 'breaker opened'") == 1


async def test_one_tick_full_of_gaps_fixes_nothing_and_a_person_resumes(scene: Scene) -> None:
    scene.policy = replace(scene.policy, breaker=BreakerRules(least=10))
    payments = [await scene.paid() for _ in range(12)]
    assert (await scene.tick()).activations == 0
    stood = await scene.pool.write(lambda session: breaker.resume(session, "cli:kim"))
    assert stood is not None
    assert stood.reason == GAPPING
    assert await scene.pool.write(lambda session: breaker.resume(session, "cli:kim")) is None
    (story,) = await scene.stories("breaker")
    assert story["state"] == "resolved"
    assert "Resumed by cli:kim." in story["notes"]
    # What it was opened over is not counted again: the gaps are judged anew, and now they are fixed.
    assert (await scene.tick()).activations == 12
    assert await scene.fix() == 12
    assert len(await scene.ledger(*payments)) == 12
    assert len(await scene.stories("breaker")) == 1


async def test_few_gaps_among_many_payments_are_no_broken_deploy(scene: Scene) -> None:
    scene.policy = replace(scene.policy, breaker=BreakerRules(least=10))
    paid_until = await shop.now(scene.db) + timedelta(days=31)
    for _ in range(11):
        await scene.paid(status="active", tier="professional", paid_until=paid_until)
    for _ in range(10):
        await scene.paid()
    assert (await scene.tick()).activations == 10
    assert not await scene.stories("breaker")


async def test_failures_in_a_row_open_it_and_what_was_claimed_before_is_not_done(scene: Scene) -> None:
    scene.policy = replace(scene.policy, breaker=BreakerRules(failures=3, share=Decimal(0)))
    payments = [await scene.paid() for _ in range(4)]
    assert (await scene.tick()).activations == 4
    await scene.db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    await scene.db.execute(
        "UPDATE paidwatch.activation SET attempts = 4 WHERE payment_id::text = ANY ($1)", payments[:3]
    )
    await scene.db.execute("UPDATE paidwatch.activation SET due_at = NULL WHERE payment_id::text = $1", payments[3])
    activate = Activate(database=scene.pool, policy=lambda: scene.policy, metrics=metrics(), log=Log())
    await activate.run_due()
    assert [row["state"] for row in await scene.ledger(*payments)] == ["failed", "failed", "failed", "claimed"]
    (story,) = await scene.stories("breaker")
    assert story["cause"] == FAILING
    await scene.db.execute(
        "DROP TRIGGER refuse ON users; UPDATE paidwatch.activation SET due_at = now() WHERE state = 'claimed'"
    )
    assert await scene.fix() == 0
    assert "the breaker is open" in await scene.notes(payments[3])


async def test_a_person_pauses_and_the_hook_of_failures_opens_nothing_twice(scene: Scene) -> None:
    paused = await scene.pool.write(
        lambda session: breaker.pause(session, "cli:kim", "we are deploying", channels=["ops"])
    )
    assert paused
    assert not await scene.pool.write(lambda session: breaker.pause(session, "cli:kim", "again", channels=["ops"]))
    await scene.pool.write(after_failure(lambda: scene.policy, Log()))
    payment = await scene.paid()
    assert (await scene.tick()).activations == 0
    assert "the breaker is open" in await scene.notes(payment)
    (story,) = await scene.stories("breaker")
    assert story["cause"] == "we are deploying"
    sweep = Sweep(database=scene.pool, policy=lambda: replace(scene.policy, reminders=(timedelta(0),)), log=Log())
    await sweep.run()
    assert (await scene.stories("breaker"))[0]["reminders"] == 1


# Supervised


async def test_supervised_proposes_and_writes_nothing(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.SUPERVISED)
    payment, poor = await scene.paid(), await scene.paid(amount=Decimal(14), grace_ended="-1 minute")
    before = await scene.user_of(payment)
    assert (await scene.tick()).activations == 0
    assert not await scene.ledger(payment, poor)
    assert await scene.user_of(payment) == before
    row = await scene.db.fetchrow("SELECT * FROM paidwatch.alert WHERE payment_id::text = $1", payment)
    assert row is not None
    assert row["proposed"]
    assert f"paidwatch activate {before['id']} --payment {payment}" in row["notes"][0]
    assert "professional until" in row["notes"][0]
    # What changes the guards' minds takes the proposal back, and a reload counts at once.
    scene.policy = replace(scene.policy, max_amount=Decimal(1))
    await scene.look_again(payment)
    assert not await scene.db.fetchval("SELECT proposed FROM paidwatch.alert WHERE payment_id::text = $1", payment)
    scene.policy = replace(scene.policy, mode=Mode.AUTO, max_amount=None)
    await scene.look_again(payment)
    assert [row["state"] for row in await scene.ledger(payment)] == ["claimed"]


# The rule A3: shadow


async def image(session: Session, payment: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The user's row as it is, and the user's events without what is new with every row."""
    connection = session.connection
    user = json.loads(
        await connection.fetchval(
            "SELECT to_jsonb(u)::text FROM users u JOIN payment_transactions p ON p.user_id = u.id"
            " WHERE p.id::text = $1",
            payment,
        )
    )
    events = await connection.fetch(
        "SELECT event_type, stripe_event_id, event_data::jsonb AS data FROM subscription_events WHERE user_id = $1",
        user["id"],
    )
    return user, [dict(event) for event in events]


async def recorded(session: Session, state: str) -> dict[str, Any]:
    row = await session.connection.fetchrow(
        "SELECT before::text, after::text, planned::text, guards::text FROM paidwatch.activation WHERE state = $1",
        state,
    )
    assert row is not None
    return {name: json.loads(text) for name, text in row.items() if text is not None}


LATER = timedelta(days=1)
USERS: dict[str, dict[str, Any]] = {
    "new": {},
    "past due": {"status": "past_due", "tier": "professional", "paid_until": -LATER},
    "renewal": {"status": "active", "tier": "professional", "paid_until": LATER},
    "revoked": {"status": "canceled", "revoked_at": -LATER},
    "upgrade": {"status": "active", "tier": "professional", "paid_until": LATER, "bought": "vip_elite"},
}


@pytest.mark.parametrize("shape", ["F", "L"])
@pytest.mark.parametrize("which", USERS)
async def test_shadow_is_what_auto_writes_column_by_column(scene: Scene, which: str) -> None:
    """Both in one transaction, so at the same moment: the shadow is recorded, then the real thing is written."""
    at = await shop.now(scene.db)
    user: dict[str, Any] = {
        name: at + value if isinstance(value, timedelta) else value for name, value in USERS[which].items()
    }
    payment = await scene.paid(**user)
    shadow, auto = (replace(scene.policy, mode=mode) for mode in (Mode.SHADOW, Mode.AUTO))

    async def body(session: Session) -> None:
        now, (known,) = await watches.facts_of(session, [payment], auto.graces())
        gap = judge(known.facts, auto.rules, now)
        assert isinstance(gap, Gap)
        before, events = await image(session, payment)
        await Claimant(lambda: shadow).consider(session, [(known, gap)], now)
        assert await image(session, payment) == (before, events)
        assert (await Claimant(lambda: auto).consider(session, [(known, gap)], now)).made == {
            Subject(payment_id=payment)
        }
        (claim,) = await ledger.claimed(session, 10)
        assert (await grant(session, claim, auto)).result is Result.DONE
        after, more_events = await image(session, payment)
        planned, written = await recorded(session, "shadow"), await recorded(session, "done")
        assert planned["before"] == written["before"]
        assert planned["after"] == written["after"]
        changed = {column for column in after if after[column] != before[column]} - {"updated_at"}
        assert {"payment_due_date", "subscription_updated_at"} <= changed <= set(planned["after"])
        assert {column: after[column] for column in planned["after"]} == planned["after"]
        (event,) = [it for it in more_events if it not in events]
        expected = planned["planned"]
        assert (event["event_type"], event["stripe_event_id"]) == (expected["event_type"], expected["external_id"])
        assert json.loads(event["data"]) == expected["event_data"] | {"activation_id": claim.activation_id}
        shadowed, asked = ([it for it in found["guards"] if it["guard"] != Guard.MODE] for found in (planned, written))
        assert shadowed == asked

    await scene.pool.write(body)


async def test_shadow_writes_nothing_records_once_and_is_measured_by_what_happened(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.SHADOW)
    right, other, back = await scene.paid(), await scene.paid(), await scene.paid()
    before = [await scene.user_of(payment) for payment in (right, other, back)]
    assert (await scene.tick()).activations == 0
    assert [await scene.user_of(payment) for payment in (right, other, back)] == before
    assert "would have activated professional until" in await scene.notes(right)
    for payment in (right, other, back):
        await scene.look_again(payment)
    assert [row["state"] for row in await scene.ledger(right, other, back)] == ["shadow"] * 3
    assert "would have activated professional until" in await scene.notes(right)
    assert await scene.record() == Record()
    await shop.activate(scene.db, before[0]["id"], payment=int(right))
    await shop.activate(scene.db, before[1]["id"], plan="vip_elite", payment=int(other))
    await shop.refund(scene.db, int(back))
    for payment in (right, other, back):
        await scene.look_again(payment)
    found = {row["payment"]: (row["was_right"], row["comparison"]) for row in await scene.ledger(right, other, back)}
    assert found == {
        right: (True, "the same was granted"),
        other: (False, "another tier was granted"),
        back: (False, "the payment was reversed"),
    }
    assert await scene.record() == Record(right=1, compared=3)


async def test_a_reload_counts_at_once_also_for_gaps_that_stand(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.OFF)
    sweep = Sweep(database=scene.pool, policy=lambda: scene.policy, log=Log())
    payment = await scene.paid()
    await scene.tick()
    await sweep.follow()
    assert (await scene.tick()).claimed == 0
    scene.policy = replace(scene.policy, mode=Mode.AUTO)
    await sweep.follow()
    assert (await scene.tick()).activations == 1
    scene.policy = replace(scene.policy, mode=Mode.SUPERVISED)
    assert await scene.fix() == 0
    assert "supervised mode waits for a person" in await scene.notes(payment)


async def test_shadow_has_the_caps_that_auto_has(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.SHADOW, max_per_hour=2)
    payments = [await scene.paid() for _ in range(3)]
    await scene.tick()
    assert len(await scene.ledger(*payments)) == 2
    notes = [await scene.notes(payment) for payment in payments]
    assert sum("the cap per hour is reached" in note for note in notes) == 1


async def test_what_the_machine_did_itself_proves_nothing(scene: Scene) -> None:
    scene.policy = replace(scene.policy, mode=Mode.SHADOW)
    payment = await scene.paid()
    await scene.tick()
    scene.policy = replace(scene.policy, mode=Mode.AUTO)
    await scene.look_again(payment)
    assert await scene.fix() == 1
    (shadow, done) = await scene.ledger(payment)
    assert (shadow["state"], shadow["was_right"], shadow["comparison"]) == (
        "shadow",
        None,
        "paidwatch activated it by itself",
    )
    assert (done["state"], done["actor"]) == ("done", Actor.AUTO.value)


# 16 and 17: what is never done by the machine, in any mode


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SUPERVISED, Mode.SHADOW])
async def test_partial_payments_and_unusable_users_are_told_and_left_alone(scene: Scene, mode: Mode) -> None:
    scene.policy = replace(scene.policy, mode=mode)
    kinds = {
        await scene.paid(amount=Decimal("7.49")): "amount_mismatch",
        await scene.paid(active=False): "user_missing_or_disabled",
        await scene.paid(admin=True): None,
    }
    cancelled = await scene.paid()
    await shop.add_event(scene.db, (await scene.user_of(cancelled))["id"], "cancelled", {"by": "an administrator"})
    kinds[cancelled] = "paid_not_active"
    assert (await scene.tick()).activations == 0
    assert await told_kinds(scene, list(kinds)) == kinds
    assert not await scene.ledger(*kinds)
    assert "an administrator acted" in await scene.notes(cancelled)


async def told_kinds(scene: Scene, payments: Sequence[str]) -> dict[str, str | None]:
    rows = await scene.db.fetch("SELECT payment_id::text AS payment, kind FROM paidwatch.alert")
    known = {row["payment"]: row["kind"] for row in rows}
    return {payment: known.get(payment) for payment in payments}
