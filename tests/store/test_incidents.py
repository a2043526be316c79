"""What incidents are made of, and the plans by which they are found."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from paidwatch.core.routing import Severity
from paidwatch.core.storm import Alike, Likeness
from paidwatch.store import incidents
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.postgres import Database

MINUTE = timedelta(minutes=1)
LIKENESS = Likeness(kind="paid_not_active", method="nowpayments", error_class="a handler failed")


@pytest.fixture
async def session(watched: Database) -> Session:
    return Session(await watched.connection(), await anyio.to_thread.run_sync(Statements.load))


async def alert(db: Database, **columns: object) -> int:
    values: dict[str, Any] = {
        "kind": LIKENESS.kind,
        "method": LIKENESS.method,
        "error_class": LIKENESS.error_class,
        "cause": LIKENESS.error_class,
    } | columns
    if "outcome" in values:
        values |= {"state": "resolved", "resolved_at": await shop.now(db)}
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    number: int = await db.fetchval(
        f"INSERT INTO paidwatch.alert ({', '.join(values)}) VALUES ({places}) RETURNING alert_id", *values.values()
    )
    return number


async def incident(db: Database) -> int:
    return await alert(db, kind="incident", kind_of=LIKENESS.kind)


async def test_an_incident_counts_its_members_and_the_money_of_the_open_ones(
    watched: Database, session: Session
) -> None:
    number = await incident(watched)
    other = await incident_of_another_method(watched)
    for outcome in ("activated", "fixed", "reversed", "dismissed", "expired"):
        await alert(watched, incident_id=number, outcome=outcome, amount=Decimal(7), currency="EUR")
    for amount, currency in (("14.99", "USD"), ("0.01", "USD"), ("5", "EUR"), ("NaN", "EUR"), ("3", None)):
        await alert(watched, incident_id=number, amount=Decimal(amount), currency=currency)
    await alert(
        watched,
        incident_id=number,
        state="acked",
        acked_until=await shop.now(watched) + MINUTE,
        amount=Decimal(1),
        currency="EUR",
    )
    found = await incidents.of(session, [number, other])
    assert set(found) == {number, other}
    it = found[number]
    assert (it.kind_of, it.method) == (LIKENESS.kind, LIKENESS.method)
    assert (it.total, it.open, it.rescued, it.otherwise) == (11, 6, 2, 3)
    assert it.money_at_risk == {"USD": Decimal("15.00"), "EUR": Decimal(6), "": Decimal(3)}
    assert it.started_at == await watched.fetchval(
        "SELECT min(opened_at) FROM paidwatch.alert WHERE incident_id = $1", number
    )
    empty = found[other]
    assert (empty.total, empty.open, empty.money_at_risk, empty.causes, empty.oldest_paid_at) == (0, 0, {}, (), None)


async def incident_of_another_method(db: Database) -> int:
    return await alert(db, kind="incident", kind_of=LIKENESS.kind, method=None)


async def test_the_most_frequent_causes_come_first_with_the_applications_own_words(
    watched: Database, session: Session
) -> None:
    number = await incident(watched)
    for detail, times in (("", 2), ("no such column", 4), ("x" * 300, 1), ("time-out", 3)):
        for _ in range(times):
            await alert(watched, incident_id=number, detail=detail)
    found = (await incidents.of(session, [number]))[number]
    assert found.causes == (
        ("a handler failed: no such column", 4),
        ("a handler failed: time-out", 3),
        ("a handler failed", 2),
    )


async def test_the_oldest_payment_is_the_oldest_open_one(watched: Database, session: Session) -> None:
    number = await incident(watched)
    now = await shop.now(watched)
    for age, more in ((3, {"outcome": "activated"}), (2, {}), (1, {})):
        user = await shop.add_user(watched)
        payment = await shop.add_payment(watched, user)
        await watched.execute(
            "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until)"
            " VALUES ($1, $2, 'gap', 'trigger', $3, $3, $3)",
            payment,
            user,
            now - age * MINUTE,
        )
        await alert(watched, incident_id=number, payment_id=payment, **more)
    assert (await incidents.of(session, [number]))[number].oldest_paid_at == now - 2 * MINUTE


async def test_what_is_no_incident_is_left_out(watched: Database, session: Session) -> None:
    assert await incidents.of(session, [await alert(watched), 12345]) == {}
    assert await incidents.of(session, []) == {}


async def test_what_there_is_of_a_likeness(watched: Database, session: Session) -> None:
    async def known(*apart_from: int) -> Alike:
        found = await incidents.alike(
            session,
            [LIKENESS, Likeness(kind="other", method="", error_class="")],
            apart_from=apart_from,
            window=MINUTE,
            most=3,
        )
        assert found[Likeness(kind="other", method="", error_class="")] == Alike()
        return found[LIKENESS]

    now = await shop.now(watched)
    assert await known() == Alike()
    for seconds in (61, 50, 40):
        await alert(watched, opened_at=now - timedelta(seconds=seconds))
    newest = await alert(watched, opened_at=now - timedelta(seconds=30))
    await alert(watched, opened_at=now, method="stripe")
    assert await known() == Alike(recent=3, first_at=now - timedelta(seconds=50))
    assert await known(newest) == Alike(recent=2, first_at=now - timedelta(seconds=50))
    await alert(watched, opened_at=now - timedelta(seconds=20))
    assert (await known()).recent == 3
    number = await incident(watched)
    assert (await known()).incident
    await watched.execute(
        "UPDATE paidwatch.alert SET state = 'resolved', resolved_at = now() WHERE alert_id = $1", number
    )
    assert not (await known()).incident


async def test_there_is_one_open_incident_of_a_likeness(watched: Database, session: Session) -> None:
    first = await incidents.open_incident(session, LIKENESS, severity=Severity.HIGH, window=MINUTE)
    again = await incidents.open_incident(session, LIKENESS, severity=Severity.HIGH, window=MINUTE)
    assert (first.fresh, again.fresh, first.alert_id) == (True, False, again.alert_id)


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        ("next_alarm", [], "alert_look"),
        ("alike", ["'{}'", "'{}'", "'{}'", "'1 min'", "5", "'{}'"], "alert_like"),
        ("incidents_of", ["'{1}'"], "alert_members"),
        ("end_members", ["'{1}'"], "alert_pkey"),
        ("close_incidents", ["'{1}'", "'1 s'", "NULL"], "alert_members_left"),
        ("join_incident", ["1", "'{1}'", "'{ops}'", "now()", "NULL", "'1 min'"], "alert_like"),
    ],
)
async def test_everything_is_found_by_key_also_in_a_young_database(
    watched: Database, session: Session, statement: str, arguments: list[str], index: str
) -> None:
    for name, value in BY_KEY.items():
        await watched.execute(f"SET {name} = {value}")
    await watched.execute(f"PREPARE look AS {session._statements[statement]}")
    call = f"({', '.join(arguments)})" if arguments else ""
    plan = "\n".join(row[0] for row in await watched.fetch(f"EXPLAIN EXECUTE look{call}"))
    assert index in plan
    for whole in ("Seq Scan on alert", "Seq Scan on delivery", "Seq Scan on watch"):
        assert whole not in plan, plan
    if statement == "next_alarm":
        assert "Sort" not in plan, plan
