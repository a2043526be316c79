"""Open alerts are looked after: what is due is done once, by whoever comes first; what is not due costs one look."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from paidwatch.core.routing import Escalation, Route, Routing
from paidwatch.flow.policy import Policy
from paidwatch.flow.sweep import Sweep, Swept
from paidwatch.log import Log
from paidwatch.store import alerts
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.postgres import Database
from tests.support.torture import equipment

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
AGES = (30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR)
ROUTING = Routing(
    usual=("ops", "mail"),
    low=frozenset({"amount_mismatch"}),
    routes=(Route(channels=("cards",), methods=frozenset({"card"})),),
    escalations=(
        Escalation(after=MINUTE, channels=("treasury",), min_amount=Decimal(1000)),
        Escalation(after=HOUR, channels=("boss", "ops")),
    ),
)


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    usual = equipment(tmp_path_factory.mktemp("sweep")).policy
    return replace(
        usual,
        reminders=AGES,
        routing=ROUTING,
        storm_threshold=5,
        storm_window=MINUTE,
        quiet=None,
        expire=timedelta(days=30),
    )


def pool_of(db: Database, statements: Statements) -> Pool:
    seconds = timedelta(seconds=20)
    target = Target(dsn=db.dsn, connect_timeout=seconds, statement_timeout=seconds)
    return Pool(target, statements, size=2, settings=BY_KEY)


class Sweeper:
    """The sweep on its own, and alerts as the decision leaves them."""

    def __init__(self, db: Database, pool: Pool, policy: Policy) -> None:
        self.db = db
        self.pool = pool
        self.policy = policy

    async def sweep(self) -> Swept:
        return await Sweep(database=self.pool, policy=lambda: self.policy, log=Log()).run()

    async def gap(self, *, told: bool = True, age: str = "0", user: Any = None, **columns: object) -> int:
        """A gap that `ops` and `mail` were told of."""
        user = user or await shop.add_user(self.db)
        payment = await shop.add_payment(self.db, user)
        await self.db.execute(
            "INSERT INTO paidwatch.watch (payment_id, user_id, state, kind, source, paid_at, noticed_at, grace_until)"
            " VALUES ($1, $2, 'gap', 'paid_not_active', 'trigger', now(), now(), now())",
            payment,
            user,
        )
        return await self.alert(
            kind="paid_not_active", told=told, age=age, payment_id=payment, user_id=user, **(columns)
        )

    async def alert(self, *, kind: str, told: bool = True, age: str = "0", **columns: object) -> int:
        values = {
            "kind": kind,
            "plan_id": "professional",
            "method": "nowpayments",
            "amount": Decimal("14.99"),
        } | columns
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        number: int = await self.db.fetchval(
            f"INSERT INTO paidwatch.alert ({', '.join(values)}, opened_at) VALUES ({places}, now() - interval '{age}')"
            " RETURNING alert_id",
            *values.values(),
        )
        if told:
            await self.db.execute(
                "INSERT INTO paidwatch.delivery (alert_id, channel, told_revision, told_at, reference)"
                """ VALUES ($1, 'ops', 1, now() - interval '1 hour', '{"ts": "1"}'),"""
                """ ($1, 'mail', 1, now(), '{"message_id": "m", "subject": "s"}')""",
                number,
            )
        return number

    async def write(self, alert: int, change: str) -> None:
        await self.db.execute(f"UPDATE paidwatch.alert SET {change} WHERE alert_id = $1", alert)

    async def row(self, alert: int) -> Any:
        return await self.db.fetchrow("SELECT *, now() AS now FROM paidwatch.alert WHERE alert_id = $1", alert)

    async def due(self, alert: int) -> set[str]:
        rows = await self.db.fetch(
            "SELECT channel FROM paidwatch.delivery WHERE alert_id = $1 AND due_at IS NOT NULL", alert
        )
        return {row["channel"] for row in rows}

    async def history(self, alert: int) -> list[str]:
        rows = await self.db.fetch(
            "SELECT what FROM paidwatch.alert_history WHERE alert_id = $1 ORDER BY history_id", alert
        )
        return [row["what"] for row in rows]


@pytest.fixture
async def sweeper(watched: Database, statements: Statements, policy: Policy) -> AsyncIterator[Sweeper]:
    async with pool_of(watched, statements) as pool:
        yield Sweeper(watched, pool, policy)


async def test_a_fresh_gap_is_scheduled_and_then_costs_nothing(sweeper: Sweeper) -> None:
    gap = await sweeper.gap()
    swept = await sweeper.sweep()
    assert (swept.looked, swept.told, await sweeper.due(gap)) == (1, False, set())
    row = await sweeper.row(gap)
    assert row["look_at"] == row["escalate_at"] == row["opened_at"] + HOUR
    assert row["remind_at"] == row["opened_at"] + AGES[0]
    assert (await sweeper.sweep()).looked == 0
    assert await sweeper.history(gap) == []


async def test_nothing_due_is_one_look_into_the_index(sweeper: Sweeper, statements: Statements) -> None:
    await sweeper.gap()
    await sweeper.sweep()

    async def plan(session: Any) -> str:
        rows = await session.connection.fetch(f"EXPLAIN (ANALYZE, TIMING off) {statements['alerts_due']}")
        return "\n".join(row[0] for row in rows)

    said = await sweeper.pool.read(plan)
    assert "using alert_look" in said
    assert "Seq Scan" not in said


async def test_every_due_look_uses_the_index(sweeper: Sweeper, statements: Statements) -> None:
    async def plan(session: Any) -> str:
        question = f"EXPLAIN {statements['look_at_alerts']}"
        rows = await session.connection.fetch(question, await shop.now(sweeper.db), 500)
        return "\n".join(row[0] for row in rows)

    assert "using alert_look" in await sweeper.pool.read(plan)


# Escalations


async def test_an_escalation_tells_further_channels_once(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(age="61 minutes")
    assert (await sweeper.sweep()).told
    assert await sweeper.due(gap) == {"boss"}, "ops has heard of it"
    assert await sweeper.history(gap) == ["escalated"]
    row = await sweeper.row(gap)
    assert (row["escalations"], row["escalate_at"], row["revision"]) == (2, None, 1)
    for _ in range(3):
        await sweeper.write(gap, "look_at = now()")
        assert not (await sweeper.sweep()).told
    assert await sweeper.history(gap) == ["escalated"]
    by_step = await sweeper.db.fetch("SELECT channel, escalated FROM paidwatch.delivery ORDER BY channel")
    assert [tuple(row) for row in by_step] == [("boss", True), ("mail", False), ("ops", False)]


async def test_amounts_escalate_to_their_own_channel(sweeper: Sweeper) -> None:
    dear = await sweeper.gap(age="2 minutes", amount=Decimal(1000))
    odd = await sweeper.gap(age="2 minutes", amount=Decimal("NaN"))
    await sweeper.sweep()
    assert await sweeper.due(dear) == {"treasury"}
    assert await sweeper.due(odd) == set()
    asked = await sweeper.db.fetchval("SELECT escalated_from FROM paidwatch.delivery WHERE channel = 'treasury'")
    assert asked == 1000


async def test_two_daemons_take_each_step_once(sweeper: Sweeper, statements: Statements) -> None:
    gaps = [await sweeper.gap(age="61 minutes") for _ in range(20)]
    async with pool_of(sweeper.db, statements) as pool:
        other = Sweeper(sweeper.db, pool, sweeper.policy)
        async with anyio.create_task_group() as group:
            for each in (sweeper, other) * 3:
                group.start_soon(each.sweep)
    assert await sweeper.db.fetchval("SELECT count(*) FROM paidwatch.alert_history WHERE what = 'escalated'") == len(
        gaps
    )
    assert await sweeper.db.fetchval("SELECT count(*) FROM paidwatch.delivery WHERE channel = 'boss'") == len(gaps)


async def test_a_broken_channel_is_not_told_that_it_is_broken(sweeper: Sweeper) -> None:
    down = await sweeper.alert(kind="channel_down", age="61 minutes", channel="boss", told=False)
    await sweeper.sweep()
    assert await sweeper.due(down) == {"ops"}


async def test_a_changed_choice_is_followed(sweeper: Sweeper) -> None:
    gap, over = await sweeper.gap(age="10 minutes"), await sweeper.gap()
    await sweeper.write(over, "state = 'resolved', resolved_at = now(), look_at = NULL")
    runner = Sweep(database=sweeper.pool, policy=lambda: sweeper.policy, log=Log())
    await runner.follow()
    assert (await runner.run()).looked == 1
    sooner = replace(ROUTING.escalations[1], after=5 * MINUTE)
    await runner.follow()
    assert (await runner.run()).looked == 0
    sweeper.policy = replace(sweeper.policy, routing=replace(ROUTING, escalations=(ROUTING.escalations[0], sooner)))
    await runner.follow()
    assert (await runner.run()).told
    assert await sweeper.due(gap) == {"boss"}


# Acknowledgements


async def acked(sweeper: Sweeper, alert: int, until: str) -> None:
    await sweeper.write(
        alert,
        "state = 'acked', acked_by = 'ann', acked_at = now() - interval '1 hour', remind_at = NULL,"
        f" acked_until = now() + interval '{until}', look_at = now() + interval '{until}'",
    )


async def test_an_ack_holds_until_it_ends(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(age="3 hours")
    await acked(sweeper, gap, "5 minutes")
    assert (await sweeper.sweep()).looked == 0
    await sweeper.write(gap, "look_at = now()")
    await sweeper.sweep()
    row = await sweeper.row(gap)
    assert (row["state"], row["remind_at"], row["look_at"]) == ("acked", None, row["acked_until"])
    assert await sweeper.history(gap) == []
    assert await sweeper.due(gap) == set()


async def test_an_ack_that_ended_is_told_as_still_after_a_new_verdict(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(age="10 minutes")
    await acked(sweeper, gap, "-1 second")
    await sweeper.sweep()
    row = await sweeper.row(gap)
    assert (row["state"], row["acked_by"], row["acked_until"]) == ("open", "ann", None)
    assert row["remind_at"] <= row["now"]
    assert await sweeper.history(gap) == ["ack_expired"]
    assert not await sweeper.due(gap)
    await sweeper.pool.write(lambda session: session.rows("remind", 10))
    assert await sweeper.db.fetchval("SELECT due_at <= now() FROM paidwatch.watch")


async def test_the_ack_of_an_incident_ends_aloud(sweeper: Sweeper) -> None:
    crowd = await sweeper.alert(kind="incident", age="10 minutes", kind_of="paid_not_active")
    await sweeper.gap(age="10 minutes", incident_id=crowd)
    await acked(sweeper, crowd, "-1 second")
    assert (await sweeper.sweep()).told
    row = await sweeper.row(crowd)
    assert (row["state"], row["revision"], row["reminders"]) == ("open", 2, 1)
    assert await sweeper.due(crowd) == {"ops", "mail"}
    assert await sweeper.history(crowd) == ["ack_expired", "reminded"]


async def test_new_money_breaks_an_ack_of_the_same_user_and_of_the_incident_joined(sweeper: Sweeper) -> None:
    user = await shop.add_user(sweeper.db)
    crowd = await sweeper.alert(kind="incident", kind_of="paid_not_active")
    first = await sweeper.gap(user=user, age="10 minutes")
    stranger = await sweeper.gap(age="10 minutes")
    for each in (first, stranger, crowd):
        await acked(sweeper, each, "1 hour")
    fresh = await sweeper.gap(user=user, incident_id=crowd)
    broken = await sweeper.pool.write(lambda session: alerts.break_acks(session, [fresh]))
    assert set(broken) == {first, crowd}
    assert await sweeper.pool.write(lambda session: alerts.break_acks(session, [fresh])) == []
    await sweeper.sweep()
    states = {each: (await sweeper.row(each))["state"] for each in (first, stranger, crowd, fresh)}
    assert states == {first: "open", stranger: "acked", crowd: "open", fresh: "open"}
    row = await sweeper.row(first)
    assert row["remind_at"] <= row["now"]
    assert await sweeper.history(first) == ["ack_broken"]
    assert await sweeper.history(crowd) == ["ack_broken", "reminded"]
    assert await sweeper.due(crowd) == {"ops", "mail"}


async def test_break_acks_of_nothing_asks_nothing(sweeper: Sweeper) -> None:
    assert await sweeper.pool.write(lambda session: alerts.break_acks(session, [])) == []


# Silences


async def silence(sweeper: Sweeper, *, expires: str = "1 hour", **what: object) -> int:
    names = ["author", "reason", *what]
    places = ", ".join(f"${place}" for place in range(1, len(names) + 1))
    number: int = await sweeper.db.fetchval(
        "INSERT INTO paidwatch.silence"
        f" ({', '.join(names)}, created_at, expires_at) VALUES ({places}, now() - interval '2 hours',"
        f" now() + interval '{expires}') RETURNING silence_id",
        "ann",
        "planned",
        *what.values(),
    )
    return number


async def test_a_silence_takes_back_what_was_not_told_and_tells_it_when_it_ends(sweeper: Sweeper) -> None:
    sweeper.policy = replace(sweeper.policy, channels=("ops", "mail", "chat"))
    fresh, told = await sweeper.gap(told=False), await sweeper.gap()
    other = await sweeper.gap(told=False, method="paypal")
    for each in (fresh, told, other):
        await sweeper.db.execute(
            "INSERT INTO paidwatch.delivery (alert_id, channel, due_at) VALUES ($1, 'chat', now())", each
        )
    number = await silence(sweeper, method="NowPayments")
    await sweeper.sweep()
    assert await sweeper.due(fresh) == await sweeper.due(told) == set()
    assert await sweeper.due(other) == {"chat"}
    row = await sweeper.row(fresh)
    assert (row["silence_id"], row["remind_at"], row["look_at"] - row["now"] > 50 * MINUTE) == (number, None, True)
    assert await sweeper.history(fresh) == ["silenced"]

    await sweeper.db.execute("UPDATE paidwatch.silence SET expires_at = now()")
    await sweeper.db.execute("UPDATE paidwatch.alert SET look_at = now() WHERE silence_id IS NOT NULL")
    assert (await sweeper.sweep()).told
    assert await sweeper.due(fresh) == {"ops", "mail"}
    assert await sweeper.due(told) == {"ops", "mail"}, "who had heard hears that it still stands"
    row = await sweeper.row(fresh)
    assert (row["silence_id"], row["delay"]) == (None, "it was silenced by ann")
    assert row["remind_at"] == row["opened_at"] + AGES[0]
    assert await sweeper.history(fresh) == ["silenced", "silence_ended"]


async def test_what_is_over_before_its_silence_is_never_told(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(told=False)
    await silence(sweeper, method="nowpayments")
    await sweeper.sweep()
    await sweeper.write(gap, "state = 'resolved', resolved_at = now(), outcome = 'activated'")
    await sweeper.db.execute("UPDATE paidwatch.silence SET expires_at = now()")
    await sweeper.write(gap, "look_at = now()")
    assert not (await sweeper.sweep()).told
    assert await sweeper.due(gap) == set()
    assert (await sweeper.row(gap))["look_at"] is None


async def test_another_silence_carries_on(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(told=False)
    short = await silence(sweeper, kind="paid_not_active")
    await sweeper.sweep()
    await sweeper.db.execute("UPDATE paidwatch.silence SET expires_at = now()")
    other = await silence(sweeper, plan_id="professional", expires="3 hours")
    await sweeper.write(gap, "look_at = now()")
    assert not (await sweeper.sweep()).told
    assert (await sweeper.row(gap))["silence_id"] == other != short


async def test_a_silence_of_other_things_does_not_count(sweeper: Sweeper) -> None:
    user = await shop.add_user(sweeper.db)
    gap = await sweeper.gap(user=user)
    await silence(sweeper, user_id=user, plan_id="vip_elite")
    await silence(sweeper, kind="tier_mismatch")
    await silence(sweeper, method="nowpayments", expires="-1 minute")
    await sweeper.sweep()
    assert (await sweeper.row(gap))["silence_id"] is None


# The end


async def test_an_incident_is_over_when_nobody_joined_for_a_while(sweeper: Sweeper) -> None:
    crowd = await sweeper.alert(kind="incident", kind_of="paid_not_active", age="10 minutes")
    await sweeper.write(crowd, "storm_until = now() + interval '30 seconds'")
    member = await sweeper.gap(age="30 seconds", incident_id=crowd)
    await sweeper.write(member, "state = 'resolved', resolved_at = now(), outcome = 'activated'")
    await sweeper.sweep()
    row = await sweeper.row(crowd)
    assert row["state"] == "open"
    assert row["look_at"] == row["storm_until"]
    await sweeper.write(crowd, "look_at = now(), storm_until = now()")
    swept = await sweeper.sweep()
    assert swept.told
    assert [(event.alert_id, event.what.value) for event in swept.events] == [(crowd, "resolved")]
    row = await sweeper.row(crowd)
    assert (row["state"], row["revision"], row["look_at"]) == ("resolved", 2, None)
    assert await sweeper.due(crowd) == {"ops", "mail"}
    assert await sweeper.history(crowd) == ["resolved"]


async def test_an_old_gap_expires_and_is_followed_no_further(sweeper: Sweeper) -> None:
    old = await sweeper.gap(age="31 days")
    ended = await sweeper.gap(age="31 days")
    await acked(sweeper, ended, "-1 second")
    tended = await sweeper.gap(age="31 days")
    await acked(sweeper, tended, "1 day")
    await sweeper.write(tended, "look_at = now()")
    assert (await sweeper.sweep()).told
    for each in (old, ended):
        row = await sweeper.row(each)
        assert (row["state"], row["outcome"], row["look_at"]) == ("resolved", "expired", None)
        assert await sweeper.due(each) == {"ops", "mail"}
        assert "expired" in await sweeper.history(each)
    assert (await sweeper.row(tended))["state"] == "acked"
    states = await sweeper.db.fetch("SELECT state, outcome FROM paidwatch.watch ORDER BY payment_id")
    assert [tuple(row) for row in states] == [("closed", "expired"), ("closed", "expired"), ("gap", None)]
    assert (await sweeper.sweep()).looked == 0


async def test_quiet_hours_hold_an_escalation_of_low_severity(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(age="61 minutes", severity="low")
    ends = (await shop.now(sweeper.db)) + 3 * HOUR

    class Quiet:
        def ends(self, _now: object) -> object:
            return ends

    sweeper.policy = replace(sweeper.policy, quiet=Quiet())  # type: ignore[arg-type]
    await sweeper.sweep()
    [row] = await sweeper.db.fetch("SELECT * FROM paidwatch.delivery WHERE alert_id = $1 AND escalated", gap)
    assert (row["waits_for"], row["due_at"]) == ("quiet", ends)


async def test_a_sweep_of_thousands_ends(sweeper: Sweeper) -> None:
    await sweeper.db.execute(
        "INSERT INTO paidwatch.alert (kind, method, opened_at, state, resolved_at)"
        " SELECT 'test', 'x', now(), (ARRAY['open', 'resolved'])[1 + n % 2], CASE WHEN n % 2 = 1 THEN now() END"
        " FROM generate_series(1, 2000) n"
    )
    looked = 0
    while (swept := await sweeper.sweep()).looked:
        looked += swept.looked
    assert looked == 2000


async def test_many_that_were_silenced_are_told_as_one(sweeper: Sweeper) -> None:
    await silence(sweeper, method="nowpayments")
    gaps = [await sweeper.gap(told=False, cause="one", error_class="one") for _ in range(20)]
    await sweeper.sweep()
    await sweeper.db.execute("UPDATE paidwatch.silence SET expires_at = now()")
    await sweeper.db.execute("UPDATE paidwatch.alert SET look_at = now()")
    assert (await sweeper.sweep()).told
    crowd = await sweeper.db.fetchval("SELECT alert_id FROM paidwatch.alert WHERE kind = 'incident'")
    assert await sweeper.due(crowd) == {"ops", "mail"}
    for gap in gaps:
        assert (await sweeper.row(gap))["incident_id"] == crowd
        assert await sweeper.due(gap) == set()


async def test_more_gaps_than_a_batch_expire_and_none_comes_back(sweeper: Sweeper) -> None:
    await sweeper.db.execute(
        "WITH w AS (INSERT INTO paidwatch.watch (payment_id, state, kind, source, paid_at, noticed_at, grace_until)"
        " SELECT n, 'gap', 'paid_not_active', 'trigger', now(), now(), now() FROM generate_series(1, 1100) n"
        " RETURNING payment_id)"
        " INSERT INTO paidwatch.alert (kind, payment_id, opened_at)"
        " SELECT 'paid_not_active', payment_id, now() - interval '31 days' FROM w"
    )
    while (await sweeper.sweep()).looked:
        pass
    ended = "SELECT count(*) FROM paidwatch.alert a JOIN paidwatch.watch w USING (payment_id) WHERE"
    assert await sweeper.db.fetchval(f"{ended} a.outcome = 'expired' AND w.state = 'closed'") == 1100


async def test_a_gap_whose_channels_left_the_configuration_is_told_to_those_that_are_there(sweeper: Sweeper) -> None:
    gap = await sweeper.gap()
    routing = replace(ROUTING, usual=("team",))
    sweeper.policy = replace(sweeper.policy, channels=("team",), routing=routing)
    assert (await sweeper.sweep()).told
    assert await sweeper.due(gap) == {"team"}
    await sweeper.write(gap, "look_at = now()")
    assert not (await sweeper.sweep()).told, "once"


async def test_a_broken_channel_that_left_the_configuration_troubles_nobody(sweeper: Sweeper) -> None:
    down = await sweeper.alert(kind="channel_down", channel="gone")
    await sweeper.db.execute("INSERT INTO paidwatch.channel (name, down_since) VALUES ('gone', now()), ('ops', now())")
    sweep = Sweep(database=sweeper.pool, policy=lambda: replace(sweeper.policy, channels=("ops", "mail")), log=Log())
    await sweep.follow()
    row = await sweeper.row(down)
    assert (row["state"], row["outcome"]) == ("resolved", "ended")
    assert await sweeper.due(down) == {"ops", "mail"}
    assert await sweeper.db.fetchval("SELECT array_agg(name) FROM paidwatch.channel WHERE down_since IS NOT NULL") == [
        "ops"
    ]


async def test_a_silence_does_not_take_back_a_step_of_an_escalation(sweeper: Sweeper) -> None:
    gap = await sweeper.gap(age="61 minutes")
    await sweeper.sweep()
    await silence(sweeper, method="nowpayments")
    await sweeper.write(gap, "look_at = now()")
    await sweeper.sweep()
    assert await sweeper.due(gap) == set()
    await sweeper.db.execute("UPDATE paidwatch.silence SET expires_at = now()")
    await sweeper.write(gap, "look_at = now()")
    await sweeper.sweep()
    assert "boss" in await sweeper.due(gap)
