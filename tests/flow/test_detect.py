"""Money that only webhooks tell of, and webhooks that go wrong: each one story, told like every other gap, and once."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from paidwatch.clock import SystemClock
from paidwatch.core.cause import explain
from paidwatch.core.evidence import CALM, reference_of
from paidwatch.core.model import GapKind
from paidwatch.core.render import render
from paidwatch.core.routing import Routing
from paidwatch.flow.audit import Audit
from paidwatch.flow.detect import Detect, Detected
from paidwatch.flow.policy import Policy
from paidwatch.flow.reconcile import Reconcile
from paidwatch.flow.sweep import Sweep
from paidwatch.flow.tend import Person, Tend
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store import alert_list, installation, outbox, watches
from paidwatch.store.alert_acts import Wanted
from paidwatch.store.connect import Target, connect
from paidwatch.store.inbox import SESSION, Inbox
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.daemon import configuration, paidwatch
from tests.support.postgres import Database
from tests.support.torture import equipment

CHAT = "chat"
GRACE = timedelta(minutes=1)
MINUTE = timedelta(minutes=1)
on_both = pytest.mark.parametrize("shape", ["F", "L"])
on_old_too = pytest.mark.parametrize("shape", ["F", "L", "M"])
"""M's log of webhooks has the first form: nothing beside the data says whose it is."""


@pytest.fixture
def shape() -> str:
    return "L"


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = equipment(tmp_path_factory.mktemp("detect")).policy
    routing = Routing(usual=(CHAT,), low=frozenset(), routes=(), escalations=())
    return replace(
        policy, grace=GRACE, routing=routing, channels=(CHAT,), storm_threshold=1000, storm_window=MINUTE, quiet=None
    )


class Bench:
    """The application with its log of webhooks, and what paidwatch makes of it."""

    def __init__(self, db: Database, pool: Pool, policy: Policy, inbox: Inbox) -> None:
        self.db = db
        self.pool = pool
        self.policy = policy
        self.inbox = inbox
        metrics = Metrics(status=Status(clock=SystemClock()), version="0", channels=(CHAT,))
        self.detect = Detect(database=pool, policy=lambda: self.policy, providers=dict, metrics=metrics, log=Log())
        self.reconcile = Reconcile(
            database=pool,
            policy=lambda: self.policy,
            status=Status(clock=SystemClock()),
            log=Log(),
            audit=Audit(database=pool, policy=lambda: self.policy, metrics=metrics, log=Log()),
            on_look=lambda: None,
            on_news=lambda: None,
            on_told=lambda: None,
            detect=self.detect,
        )

    async def look(self) -> Detected:
        await self.inbox.drain(self.policy.grace, self.policy.grace_by_method)
        return await self.detect.run()

    async def start(self) -> None:
        """What a daemon does when it comes up."""
        await self.inbox.drain(self.policy.grace, self.policy.grace_by_method)
        mapping = json.loads(await self.db.fetchval("SELECT mapping::text FROM paidwatch.installation"))
        found = await self.pool.read(lambda session: installation.installed(session, mapping))
        await self.reconcile.catch_up(found)

    async def ipn(
        self, status: str = "finished", *, reference: str = "5524759814", order: str | None = None, **more: Any
    ) -> Any:
        """The application logs one IPN."""
        row: dict[str, Any] = {name: more.pop(name) for name in ("valid", "error", "user", "payment") if name in more}
        row |= {"status": more.pop("processing", "received"), "method": more.pop("method", "nowpayments")}
        data = {
            "payment_id": reference,
            "payment_status": status,
            "order_id": order,
            "price_amount": 14.99,
            "price_currency": "usd",
        } | more
        return await shop.add_webhook(self.db, data={key: value for key, value in data.items() if value}, **row)

    async def pass_by(self, span: timedelta) -> None:
        """So much time passes: everything that was happened longer ago, everything that is to come comes sooner."""
        for table, columns in {
            "alert": ("opened_at", "resolved_at", "remind_at", "escalate_at", "look_at", "storm_until", "acked_until"),
            "delivery": ("told_at", "due_at", "not_before"),
            "silence": ("created_at", "expires_at"),
            "claim": ("due_at", "opened_at", "grace_until", "closed_at"),
            "reading": ("at",),
        }.items():
            changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self.db.execute(f"UPDATE paidwatch.{table} SET {changes}", span)

    async def stories(self) -> dict[tuple[str, str], str]:
        """Return (kind, state) of every alert by reference and the cause."""
        rows = await self.db.fetch(
            "SELECT kind, state, outcome, reference, cause FROM paidwatch.alert ORDER BY alert_id"
        )
        return {(row["kind"], row["reference"]): row["outcome"] or row["state"] for row in rows}

    async def alert(self) -> Any:
        (row,) = await self.db.fetch("SELECT * FROM paidwatch.alert")
        return row

    async def due(self) -> Any:
        """When the daemon would look next; None: never."""
        return (await self.pool.read(lambda session: session.one("next_alarm")))["detect"]

    async def told(self) -> list[Any]:
        """Take what is due, and return the notices."""

        async def body(session: Session) -> list[Any]:
            due = await outbox.claim(session, CHAT, lease="l", span=MINUTE, most=100)
            return [render(one.story, now=one.now) for one in due]

        notices = await self.pool.write(body)
        await self.db.execute(
            "UPDATE paidwatch.delivery d SET told_revision = a.revision, told_at = now(), due_at = NULL, lease = NULL,"
            ' lease_until = NULL, reference = \'{"ts": "1", "channel": "C"}\' FROM paidwatch.alert a'
            " WHERE a.alert_id = d.alert_id AND d.lease IS NOT NULL"
        )
        return notices


@pytest.fixture
async def log(watched: Database, statements: Statements, usual: Policy) -> AsyncIterator[Bench]:
    seconds = timedelta(seconds=60)
    target = Target(dsn=watched.dsn, connect_timeout=seconds, statement_timeout=seconds)
    reader = await connect(target, purpose="intake", settings=SESSION)
    async with Pool(target, statements, size=4, settings=BY_KEY) as pool:
        it = Bench(watched, pool, usual, Inbox(reader, statements))
        await it.start()
        yield it
    reader.terminate()


def facts(notice: Any) -> Mapping[str, Any]:
    return {line.label: line.value for line in notice.lines}


# Money


@on_old_too
async def test_signed_and_paid_without_a_row_is_an_orphan_after_its_grace(log: Bench) -> None:
    """Scenarios 12 and 13: the order id of `vip_elite` names user and plan."""
    user = await shop.add_user(log.db)
    await log.ipn(order=f"winu_sub_{user}_vip_elite_1700000000", price_amount=29.99)
    assert (await log.look()).looked == 1
    assert await log.stories() == {}
    assert timedelta() < await log.due() <= GRACE

    await log.pass_by(GRACE)
    assert (await log.look()).told
    alert = await log.alert()
    assert (alert["kind"], alert["user_id"], alert["plan_id"]) == ("orphan_webhook", user, "vip_elite")
    assert str(alert["amount"]) == "29.99"
    (notice,) = await log.told()
    assert notice.subject == f"user {user} paid 29.99 USD (vip_elite), no payment row, not activated"
    assert notice.command == f"paidwatch activate {user} --payment 5524759814 --dry-run"
    assert facts(notice)["Provider id"] == "5524759814"
    assert "Said paid" in facts(notice)

    for _ in range(5):
        await log.ipn(order=f"winu_sub_{user}_vip_elite_1700000000", price_amount=29.99)
    await log.look()
    assert await log.told() == []
    payment = await shop.add_payment(log.db, user, plan="vip_elite", reference="5524759814", status="completed")
    assert payment
    await log.look()
    assert await log.stories() == {("orphan_webhook", "5524759814"): "followed"}
    assert [one.word for one in await log.told()] == ["RESOLVED"]


@on_both
async def test_an_activation_without_a_row_is_enough(log: Bench) -> None:
    silent, late = await shop.add_user(log.db), await shop.add_user(log.db)
    await log.ipn(reference="1", order=f"winu_sub_{silent}_professional_1700000000")
    await log.ipn(reference="2", order=f"winu_sub_{late}_professional_1700000000")
    await shop.activate(log.db, silent)
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {("orphan_webhook", "2"): "open"}
    await shop.activate(log.db, late)
    await log.look()
    assert await log.stories() == {("orphan_webhook", "2"): "activated"}


@on_both
async def test_a_row_that_does_not_say_paid(log: Bench) -> None:
    user = await shop.add_user(log.db)
    payment = await shop.add_payment(log.db, user, reference="77")
    await log.ipn(reference="77", processing="failed", error="KeyError: plan")
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    alert = await log.alert()
    assert (alert["kind"], alert["cause"], alert["detail"]) == (
        "provider_paid_db_pending",
        "a webhook arrived and its handler failed",
        "KeyError: plan",
    )
    await shop.complete(log.db, payment)
    await log.look()
    assert (await log.alert())["outcome"] == "followed"


@on_both
async def test_partial_repeated_and_cheap_are_told_and_never_confirm(log: Bench) -> None:
    """Scenario 16."""
    user = await shop.add_user(log.db)
    order = f"winu_sub_{user}_professional_1700000000"
    await log.ipn("partially_paid", reference="1", order=order)
    await log.ipn(reference="2", order=order, parent_payment_id="1")
    await log.ipn(reference="3", order=order, price_amount=4.99)
    await log.ipn("confirming", reference="4", order=order)
    await log.ipn(reference="5", valid=None, order=order)
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {
        ("underpaid", "1"): "open",
        ("orphan_webhook", "2"): "open",
        ("underpaid", "3"): "open",
    }
    causes = {
        row["reference"]: row["cause"] for row in await log.db.fetch("SELECT reference, cause FROM paidwatch.alert")
    }
    assert causes == {
        "1": "a webhook says that less arrived than was asked for",
        "2": "money was sent again for a payment that was made already",
        "3": "less was paid than the plan costs",
    }
    payments = {
        reference: await shop.add_payment(log.db, user, reference=reference, status="completed")
        for reference in "12345"
    }
    assert await signed(log, payments) == set()


@on_both
async def test_only_as_much_money_as_the_row_says_in_money_that_can_be_compared_confirms(log: Bench) -> None:
    user = await shop.add_user(log.db)
    said: Mapping[str, Mapping[str, Any]] = {
        "enough": {"price_amount": 14.99},
        "rounded": {"price_amount": 14.98},
        "unsaid": {"price_amount": None},
        "the other price": {"price_amount": 14.99, "price_currency": "usdt"},
        "too little": {"price_amount": 1},
        "rupiahs": {"price_amount": 14.99, "price_currency": "idr"},
    }
    payments = {name: await shop.add_payment(log.db, user, reference=name, status="completed") for name in said}
    for name, more in said.items():
        await log.ipn(reference=name, **more)
    await log.look()
    assert await signed(log, payments) == {"enough", "rounded", "unsaid", "the other price"}


async def test_another_providers_number_is_not_the_key_of_a_row(log: Bench) -> None:
    user = await shop.add_user(log.db)
    payments = {
        method: await shop.add_payment(log.db, user, method=method, reference=method, status="completed")
        for method in ("stripe", "nowpayments")
    }
    for payment in payments.values():
        await log.ipn(reference=str(payment))
    await log.look()
    assert await signed(log, payments) == {"nowpayments"}


async def signed(log: Bench, payments: Mapping[str, Any]) -> set[str]:
    """Return the references whose payments a webhook confirms."""
    names = {str(payment): reference for reference, payment in payments.items()}

    async def body(session: Session) -> set[str]:
        _, known = await watches.facts_of(session, list(names), log.policy.graces())
        return {names[one.facts.payment_id] for one in known if one.facts.evidence.webhook_paid}

    return await log.pool.read(body)


@on_both
async def test_a_late_status_lowers_nothing_and_a_reversal_ends_it(log: Bench) -> None:
    """Scenario 15, its second half: `confirmed` after `finished`."""
    user = await shop.add_user(log.db)
    payments = {name: await shop.add_payment(log.db, user, reference=name, status="completed") for name in "abcd"}
    for name, words in {
        "a": ("finished", "confirmed"),
        "b": ("confirmed",),
        "c": ("finished", "refunded"),
        "d": ("finished",),
    }.items():
        for word in words:
            await log.ipn(word, reference=name, valid=name != "d")
    await log.look()
    assert await signed(log, payments) == {"a"}
    await log.db.execute("UPDATE paidwatch.reading SET at = at + interval '1 s' WHERE said = 'confirmed'")

    async def causes(session: Session) -> dict[str, str]:
        _, known = await watches.facts_of(session, [str(one) for one in payments.values()], log.policy.graces())
        names = {str(payment): name for name, payment in payments.items()}
        return {names[it.facts.payment_id]: explain(GapKind.PAID_NOT_ACTIVE, it.facts).cause for it in known}

    found = await log.pool.read(causes)
    assert found["a"] == "webhooks arrived out of order: an earlier status came after the one that says paid"
    assert found["b"] == "webhooks arrived, and none says that the money is final"
    assert found["d"] == "a webhook arrived with a bad signature"


@on_both
async def test_nobody_knows_whose_money_it_is(log: Bench) -> None:
    await log.ipn(reference="1", order="something else")
    await log.ipn(reference="2", order="winu_sub_999999_professional_1700000000")
    await shop.add_webhook(log.db, data={"payment_status": "finished"})
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    rows = await log.db.fetch("SELECT kind, reference, cause FROM paidwatch.alert ORDER BY alert_id")
    assert [row["kind"] for row in rows] == ["orphan_webhook"] * 3
    causes = {row["reference"]: row["cause"] for row in rows}
    assert causes["1"].startswith("the webhook names no order")
    assert causes["2"] == "the webhook names a user who does not exist"
    assert [one.command.rsplit(" ", 1)[0] for one in await log.told()].count("paidwatch alerts show") == 2


# Webhooks that go wrong


def binance_pay(**data: Any) -> dict[str, Any]:
    """A notification of Binance Pay that an order of 14.99 USD was paid."""
    said = {
        "merchantTradeNo": "shop-77",
        "transactionId": "M_R_282737362839373",
        "totalFee": "14.99",
        "currency": "USD",
    }
    return {
        "bizType": "PAY",
        "bizStatus": "PAY_SUCCESS",
        "bizIdStr": "29383937493038367292",
        "data": json.dumps(said | data),
    }


@on_both
@pytest.mark.parametrize("kept", ["shop-77", "29383937493038367292", "M_R_282737362839373"])
async def test_any_id_of_a_payment_leads_to_its_row(log: Bench, kept: str) -> None:
    """The shop's own number of the order, and the provider's two: the application may have kept any of them."""
    user = await shop.add_user(log.db)
    payment = await shop.add_payment(log.db, user, reference=kept, method="binance_pay")
    other = await shop.add_payment(log.db, user, reference="another", method="binance_pay")
    await shop.add_webhook(log.db, method="binance_pay", data=binance_pay())
    await log.look()
    signed = (
        "SELECT f.webhook_signed FROM paidwatch.facts(ARRAY[$1::text]::paidwatch.payment_key[], '{}', '{}', '1s') f"
    )
    assert await log.db.fetchval(signed, str(payment)) is True
    assert await log.db.fetchval(signed, str(other)) is False
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {("provider_paid_db_pending", "shop-77"): "open"}, "and no orphan"
    await shop.complete(log.db, payment)
    await log.look()
    assert await log.stories() == {("provider_paid_db_pending", "shop-77"): "followed"}


async def test_the_facts_of_a_payment_never_read_the_whole_log(log: Bench) -> None:
    """The table is young and large: nothing is known of it but its size."""
    payment = await shop.add_payment(log.db, await shop.add_user(log.db), reference="r7")
    await log.db.execute(
        "INSERT INTO paidwatch.reading (log_id, method, reference, order_id, status, valid, at)"
        " SELECT n::text, 'nowpayments', 'r' || n, 'o' || n, 'paid', true, now() FROM generate_series(1, 20000) n"
    )

    async def read(session: Session) -> tuple[bool, int]:
        fetch = session.connection.fetchval
        signed = await fetch(
            "SELECT f.webhook_signed"
            " FROM paidwatch.facts(ARRAY[$1::text]::paidwatch.payment_key[], '{}', '{}', '1s') f",
            str(payment),
        )
        rows = (
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_all_tables"
            " WHERE relid = 'paidwatch.reading'::regclass"
        )
        return signed, await fetch(rows)

    signed, rows = await log.pool.write(read)
    assert signed is True
    assert rows < 20


async def test_what_a_wrong_signature_names_leads_nowhere(log: Bench) -> None:
    user = await shop.add_user(log.db)
    payment = await shop.add_payment(log.db, user, reference="29383937493038367292", method="binance_pay")
    await shop.add_webhook(log.db, method="binance_pay", data=binance_pay(), valid=False)
    await log.look()
    assert await log.db.fetchval("SELECT count(*) FROM paidwatch.reading_name") == 0
    signed = (
        "SELECT f.webhook_signed FROM paidwatch.facts(ARRAY[$1::text]::paidwatch.payment_key[], '{}', '{}', '1s') f"
    )
    assert await log.db.fetchval(signed, str(payment)) is False


@on_both
async def test_a_dead_letter_is_told_once_as_such(log: Bench) -> None:
    """Its row in the log says failed; `forward_failed` has told of it."""
    row = await log.ipn("waiting", processing="failed", error="the handler answered 422")
    await log.db.execute(
        "INSERT INTO paidwatch.webhook (provider, body, state, log_id, forward_state)"
        " VALUES ('nowpayments', '', 'verified', $1, 'dead')",
        str(row),
    )
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {}
    assert await log.detect.look() == 0, "and it is not read again and again"
    await log.ipn("waiting", processing="failed", error="boom", reference="2")
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {("webhook_failed", "2"): "open"}


@on_both
async def test_a_handler_that_failed_until_it_did_it(log: Bench) -> None:
    row = await log.ipn("waiting", processing="failed", error="boom")
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {("webhook_failed", "5524759814"): "open"}
    await shop.update(log.db, "webhooks", row, {"processing_status": "completed", "error_message": None})
    await log.look()
    assert await log.stories() == {("webhook_failed", "5524759814"): "cleared"}
    assert await log.due() > timedelta(minutes=20)


async def test_ten_thousand_bad_signatures_are_one_line_with_their_count(log: Bench) -> None:
    """C8."""
    many = (
        "INSERT INTO webhook_logs (payment_method, webhook_data, signature_valid, processing_status)"
        " SELECT 'nowpayments', jsonb_build_object('payment_id', n, 'payment_status', 'finished'), false, 'failed'"
        " FROM generate_series(1, $1::int) n"
    )
    await log.db.execute(many, 10_000)
    await log.look()
    assert await log.stories() == {("webhook_bad_signature", ""): "open"}
    (notice,) = await log.told()
    assert facts(notice)["Webhooks"] == "10000"
    assert notice.subject == "nowpayments: bad signatures"
    assert notice.command == "paidwatch doctor"

    await log.db.execute(many, 1)
    await log.look()
    await log.pass_by(MINUTE)
    (notice,) = await log.told()
    assert (notice.word, facts(notice)["Webhooks"]) == ("STILL", "10001"), "edited, as it can be"
    await log.pass_by(CALM)
    await log.look()
    assert await log.stories() == {("webhook_bad_signature", ""): "cleared"}
    assert await log.due() is None


async def test_a_provider_that_says_nothing_while_payments_are_made(log: Bench) -> None:
    user = await shop.add_user(log.db)
    for number in range(8):
        await log.ipn("waiting", reference=str(number))
        await log.look()
        await log.pass_by(10 * MINUTE)
    await log.pass_by(30 * MINUTE)
    await log.look()
    assert await log.due() is None, "no payment was made, so nothing is missing, and nobody looks"

    await shop.add_payment(log.db, user, created_at=await shop.now(log.db) - 20 * MINUTE)
    assert await log.detect.look() == 1
    await log.look()
    assert timedelta(minutes=39) < await log.due() < timedelta(minutes=41), "six times ten minutes since then"
    await shop.add_payment(log.db, user)
    await log.db.execute("UPDATE payment_transactions SET created_at = created_at - interval '41 min'")
    await log.pass_by(41 * MINUTE)
    await log.look()
    assert await log.stories() == {("provider_silent", "!"): "open"}
    (notice,) = await log.told()
    assert notice.subject == "nowpayments: no webhooks arrive"
    assert "dashboard" in facts(notice)["To check"]
    assert (await log.look()).looked == 0
    await log.ipn("waiting", reference="back")
    await log.look()
    assert await log.stories() == {("provider_silent", "!"): "cleared"}


# As every other alert


async def test_the_past_is_one_digest_and_what_no_trigger_saw_is_found(log: Bench) -> None:
    await log.db.execute("TRUNCATE paidwatch.reading, paidwatch.reading_name, paidwatch.claim, paidwatch.unread")
    await log.db.execute("UPDATE paidwatch.installation SET baseline_at = NULL, log_read_at = NULL")
    await unseen(log, 40)
    await log.start()
    await log.start()
    await log.look()
    (digest,) = await log.db.fetch("SELECT kind, notes FROM paidwatch.alert")
    assert digest["kind"] == "baseline"
    assert any("40 orphan_webhook" in line for line in digest["notes"])
    assert any("599.60 USD" in line for line in digest["notes"])

    await unseen(log, 1, prefix="new")
    await log.reconcile.look()
    await log.look()
    assert (await log.stories())["orphan_webhook", "new1"] == "open"


async def unseen(log: Bench, count: int, *, prefix: str = "old") -> None:
    """So many paid webhooks of an hour ago, of which no trigger told."""
    await log.db.execute("ALTER TABLE webhook_logs DISABLE TRIGGER ALL")
    await log.db.execute(
        "INSERT INTO webhook_logs (payment_method, webhook_data, signature_valid, processing_status, created_at)"
        " SELECT 'nowpayments', jsonb_build_object('payment_id', $2 || n, 'payment_status', 'finished',"
        " 'price_amount', 14.99, 'price_currency', 'usd'), true, 'received',"
        " now() AT TIME ZONE 'UTC' - interval '1 hour' FROM generate_series(1, $1::int) n",
        count,
        prefix,
    )
    await log.db.execute("ALTER TABLE webhook_logs ENABLE TRIGGER ALL")


async def test_reminded_silenced_expired_and_dismissed(log: Bench) -> None:
    log.policy = replace(log.policy, reminders=(30 * MINUTE, 60 * MINUTE), expire=timedelta(hours=2))
    sweep, tend = Sweep(database=log.pool, policy=lambda: log.policy, log=Log()), Tend(database=log.pool)
    for number in ("1", "2"):
        await log.ipn(reference=number)
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    await sweep.run()
    assert [one.word for one in await log.told()] == ["NEW", "NEW"]
    await log.pass_by(30 * MINUTE)
    assert await log.due() <= timedelta()
    await log.look()
    assert [one.word for one in await log.told()] == ["STILL", "STILL"]

    first, second = [row["alert_id"] for row in await log.db.fetch("SELECT alert_id FROM paidwatch.alert ORDER BY 1")]
    assert await tend.dismiss(first, Person(name="ada", reason="a test"), members=False) == 1
    await log.ipn(reference="1")
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    assert await log.stories() == {("orphan_webhook", "1"): "dismissed", ("orphan_webhook", "2"): "open"}
    assert second
    await log.pass_by(timedelta(hours=2))
    await sweep.run()
    assert (await log.stories())["orphan_webhook", "2"] == "expired"
    assert await log.db.fetchval("SELECT count(*) FROM paidwatch.claim WHERE state = 'gap'") == 0

    await tend.silence(Wanted(kind="orphan_webhook"), Person(name="ada"), timedelta(hours=1))
    await log.told()
    await log.ipn(reference="3")
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    await sweep.run()
    assert (await log.stories())["orphan_webhook", "3"] == "open"
    assert await log.told() == []
    await log.pass_by(timedelta(hours=1))
    await sweep.run()
    assert [one.word for one in await log.told()] == ["NEW"], "the silence ended, and it still stands"


async def test_many_orphans_are_one_incident(log: Bench) -> None:
    log.policy = replace(log.policy, storm_threshold=3)
    for number in range(12):
        await log.ipn(reference=str(number))
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    (notice,) = await log.told()
    assert (notice.kind, notice.subject) == ("incident", "12 payments by nowpayments: paid by webhook, no payment row")


async def test_the_commands_show_what_only_webhooks_tell(log: Bench, tmp_path: Path) -> None:
    user = await shop.add_user(log.db)
    await log.ipn(reference="7", order=f"winu_sub_{user}_professional_1700000000")
    await log.ipn(reference="8", valid=False)
    await log.look()
    await log.pass_by(GRACE)
    await log.look()
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(log.db))
    checked = json.loads((await paidwatch("check", "--json", config=file, expect=1)).stdout)
    assert {(gap["kind"], gap["payment_id"], gap["reference"], gap["user_id"]) for gap in checked["gaps"]} == {
        ("orphan_webhook", None, "7", user),
        ("webhook_bad_signature", None, None, None),
    }
    assert checked["money_at_risk"] == {"USD": "14.99"}
    known = json.loads((await paidwatch("user", str(user), "--json", config=file, expect=1)).stdout)
    assert [(one["kind"], one["reference"]) for one in known["webhooks"]] == [("orphan_webhook", "7")]
    assert "webhook" in {moment["what"] for moment in known["timeline"]}

    async def listed(session: Session) -> tuple[set[Any], set[Any]]:
        alerts = {(one.kind, reference_of(one.reference)) for one in await alert_list.listed(session)}
        return alerts, {(row["kind"], row["payment_id"]) for row in await session.rows("live_gaps", 10)}

    alerts, live = await log.pool.read(listed)
    assert alerts == {("orphan_webhook", "7"), ("webhook_bad_signature", "")}
    assert live == {("orphan_webhook", "7"), ("webhook_bad_signature", "nowpayments")}
