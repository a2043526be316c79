"""The ordinary case is settled in SQL; whatever it settles, the core would have called activated on the same facts."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paidwatch.core.model import Outcome, Rules, Settled
from paidwatch.core.verdict import judge
from paidwatch.store import watches
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements
from tests.support.postgres import Database

DAY = timedelta(days=1)
GRACES: tuple[list[str], list[timedelta], timedelta] = ([], [], timedelta(minutes=2))
PLANS = (
    "INSERT INTO subscription_plans (id, name, price_usd, price_usdt, duration_days) VALUES"
    " ('odd', 'not in the order', 5, 5, 30), ('gift', 'costs nothing', 0, 0, 30), ('negative', 'pays you', -1, -1, 30)"
)
ODD = "UPDATE subscription_plans SET duration_days = $1, price_usd = $2 WHERE id = 'vip_elite'"

AMOUNTS = [Decimal("14.99"), Decimal("29.99"), Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("0.01")]

FINE = {
    "user": {
        "status": "active",
        "tier": "vip_elite",
        "active": True,
        "admin": False,
        "revoked": None,
        "until": DAY * 30,
    },
    "payment": {
        "plan": "vip_elite",
        "status": "completed",
        "usd": Decimal("29.99"),
        "usdt": None,
        "touched": None,
        "reversed": None,
        "granted": False,
        "state": "waiting",
        "age": timedelta(hours=1),
    },
}
"""The ordinary case; what is drawn differs from it in a few places, so that most of it is nearly ordinary."""

OTHERWISE = {
    ("user", "status"): st.sampled_from(["inactive", "trial", None]),
    ("user", "tier"): st.sampled_from(["professional", "free", "odd", "unheard of", None]),
    ("user", "active"): st.sampled_from([False, None]),
    ("user", "admin"): st.sampled_from([True, None]),
    ("user", "revoked"): st.just(-DAY),
    ("user", "until"): st.one_of(
        st.none(),
        st.sampled_from([-3, 0, 6, 28, 29, 31, 400]).map(lambda days: DAY * days),
        st.timedeltas(min_value=DAY * 28, max_value=DAY * 31),
    ),
    ("payment", "plan"): st.sampled_from(["professional", "free_trial", "odd", "gift", "negative", None]),
    ("payment", "status"): st.sampled_from(["finished", "paid", "pending", "refunded", "surprising", None]),
    ("payment", "usd"): st.sampled_from(AMOUNTS),
    ("payment", "usdt"): st.sampled_from(AMOUNTS),
    ("payment", "touched"): st.sampled_from([timedelta(minutes=-1), timedelta(), timedelta(minutes=1)]),
    ("payment", "reversed"): st.just(timedelta(minutes=1)),
    ("payment", "granted"): st.just(True),
    ("payment", "state"): st.just("gap"),
    ("payment", "age"): st.sampled_from([timedelta(minutes=1), DAY * 40]),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw a user and a payment that differ from the ordinary in up to three places."""
    drawn: dict[str, dict[str, Any]] = {name: dict(values) for name, values in FINE.items()}
    for table, field in draw(st.sets(st.sampled_from(sorted(OTHERWISE)), max_size=3)):
        drawn[table][field] = draw(OTHERWISE[table, field])
    return drawn["user"], drawn["payment"]


async def put(db: Database, number: int, of_user: Mapping[str, Any], of_payment: Mapping[str, Any]) -> None:
    now = await db.fetchval("SELECT now()")
    paid_at = now - of_payment["age"]
    key = await db.fetchval(
        "INSERT INTO users (email, username, hashed_password, is_active, is_admin, subscription_status,"
        " subscription_tier, payment_due_date, access_revoked_at)"
        " VALUES ($1, $1, 'x', $2, $3, $4, $5, $6::timestamptz AT TIME ZONE 'UTC',"
        " $7::timestamptz AT TIME ZONE 'UTC') RETURNING id",
        f"u{number}",
        of_user["active"],
        of_user["admin"],
        of_user["status"],
        of_user["tier"],
        None if of_user["until"] is None else paid_at + of_user["until"],
        None if of_user["revoked"] is None else now + of_user["revoked"],
    )
    made = await db.fetchval(
        "INSERT INTO payment_transactions (user_id, plan_id, amount_usd, amount_usdt, payment_method, status)"
        " VALUES ($1, $2, $3, $4, 'nowpayments', $5) RETURNING id",
        key,
        of_payment["plan"],
        of_payment["usd"],
        of_payment["usdt"],
        of_payment["status"],
    )
    await db.execute(
        "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at,"
        " touched_at, reversed_at) "
        " VALUES ($1, $2, $3, 'trigger', $4::timestamptz, $4, $4::timestamptz + interval '2 minutes', now(), $5, $6)",
        made,
        key,
        of_payment["state"],
        paid_at,
        None if of_payment["touched"] is None else paid_at + of_payment["touched"],
        None if of_payment["reversed"] is None else paid_at + of_payment["reversed"],
    )
    if of_payment["granted"]:
        await db.execute(
            "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, done_at, version)"
            " VALUES ($1, $2, 'done', 'sql', 'auto', now(), '0')",
            made,
            key,
        )


@pytest.mark.parametrize("shape", ["L"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(cases(), min_size=20, max_size=40),
    days=st.sampled_from([30, 30, 7, 0, -5, None]),
    price=st.sampled_from([Decimal("29.99"), Decimal("29.99"), Decimal(0), Decimal(-1), Decimal("NaN")]),
    slack=st.sampled_from([timedelta(hours=24), timedelta(), timedelta(days=3)]),
)
async def test_the_fast_path_settles_only_what_the_core_calls_activated(
    watched: Database, drawn: list[tuple[Any, Any]], days: int | None, price: Decimal, slack: timedelta
) -> None:
    statements = await anyio.to_thread.run_sync(Statements.load)
    connection = await watched.connection()
    transaction = connection.transaction()
    await transaction.start()
    try:
        await watched.execute("SET LOCAL session_replication_role = replica")
        await watched.execute(PLANS)
        await watched.execute(ODD, days, price)
        for number, (of_user, of_payment) in enumerate(drawn):
            await put(watched, number, of_user, of_payment)
        session = Session(connection, statements)
        keys = [str(row["payment_id"]) for row in await watched.fetch("SELECT payment_id FROM paidwatch.watch")]
        now, known = await watches.facts_of(session, keys, GRACES)
        rules = Rules(period_slack=slack)
        verdicts = {one.facts.payment_id: judge(one.facts, rules, now) for one in known}
        claimed = await watches.claim_due(session, most=1000, slack=slack, graces=GRACES)
        left = {one.facts.payment_id for one in claimed.open}
        settled = set(keys) - left
        assert claimed.settled == len(settled)
        for key in settled:
            verdict = verdicts[key]
            assert isinstance(verdict, Settled), (key, verdict)
            assert verdict.outcome is Outcome.ACTIVATED
        assert {one.facts.payment_id: judge(one.facts, rules, claimed.now) for one in claimed.open} == {
            key: verdicts[key] for key in left
        }
        closed = await watched.fetch("SELECT payment_id::text AS key FROM paidwatch.watch WHERE state = 'closed'")
        assert {row["key"] for row in closed} == settled
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("shape", ["L"])
async def test_the_ordinary_case_is_settled_without_the_core(watched: Database) -> None:
    statements = await anyio.to_thread.run_sync(Statements.load)
    async with watched.transaction():
        await put(watched, 1, FINE["user"], FINE["payment"])
        claimed = await watches.claim_due(
            Session(await watched.connection(), statements), most=10, slack=timedelta(), graces=GRACES
        )
    assert (claimed.settled, len(claimed.open)) == (1, 0)
