"""`paidwatch check`: gaps from the application's tables themselves, and never "no gaps" where nothing is known."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from paidwatch.core.model import Gap, Rules
from paidwatch.core.verdict import judge
from paidwatch.store import watches
from paidwatch.store.pool import Session
from paidwatch.store.report import SESSION
from paidwatch.store.statements import Statements
from tests.conftest import OwnServer
from tests.support.command import age, config, watched, write_watch, written
from tests.support.daemon import paidwatch
from tests.support.postgres import Database, Server, on_shapes
from tests.support.shop import (
    MONTH,
    activate,
    add_event,
    add_payment,
    add_user,
    complete,
    names,
    refund,
    update,
)
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]
SHAPES = on_shapes("LX", thorough="FM")
STATEMENTS = Statements.load()
KEYS = {
    "kind",
    "payment_id",
    "user_id",
    "plan_id",
    "method",
    "reference",
    "status",
    "amount",
    "currency",
    "paid_at",
    "age_seconds",
    "user_status",
    "user_tier",
    "activation_event",
    "cause",
    "provider_answer",
}


async def check(config: Path, *options: str, expect: int | None = None) -> dict[str, Any]:
    done = await paidwatch("check", "--json", *options, config=config, expect=expect)
    assert done.returncode in {0, 1}, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if answer["gaps"] else 0)
    assert answer["count"] == len(answer["gaps"])
    return answer


async def missed(db: Database, **payment: Any) -> tuple[Any, Any]:
    """Return user and payment: paid an hour ago, and nothing else happened."""
    user = await add_user(db)
    paid = await add_payment(db, user, **payment)
    await complete(db, paid)
    await age(db)
    return user, paid


@SHAPES
async def test_a_missed_webhook_is_a_gap_without_any_daemon(watched: Database, config: Path, shape: str) -> None:
    user, payment = await missed(watched)
    answer = await check(config, expect=1)
    assert set(answer) == {"checked_at", "gaps", "count", "money_at_risk", "not_watched"}
    [gap] = answer["gaps"]
    assert set(gap) == KEYS
    assert gap["kind"] == "paid_not_active"
    number = not isinstance(payment, str)
    assert gap["payment_id"] == payment
    assert gap["user_id"] == (user if number else str(user))
    assert gap["amount"] == "14.99"
    currency = "EUR" if shape == "X" else "USD"
    assert (gap["currency"], answer["money_at_risk"]) == (currency, {currency: "14.99"})
    assert gap["plan_id"] == names(watched).words.get("professional", "professional")
    assert gap["user_tier"] == names(watched).words.get("free", "free")
    assert gap["user_status"] == {"M": None, "X": "Dormant"}.get(shape, "inactive")
    assert gap["activation_event"] is False
    checked, paid = datetime.fromisoformat(answer["checked_at"]), datetime.fromisoformat(gap["paid_at"])
    assert checked.utcoffset() == paid.utcoffset() == timedelta(0)
    assert gap["age_seconds"] == int((checked - paid).total_seconds()) >= 3600
    assert ("webhooks" in answer["not_watched"]) == (shape == "X")


ANSWERED = (
    "INSERT INTO paidwatch.answer (method, reference, provider, status, said, amount, currency, answered_at, problem,"
    " asked_at) VALUES ($1, $2, 'crypto', $3, coalesce($3 || '!', ''), 14.99, 'USD', now(), $4, now())"
)


async def test_what_the_provider_said_when_it_was_asked(watched: Database, config: Path) -> None:
    for reference in ("n-1", "n-2", "n-3"):
        await missed(watched, reference=reference, method="NowPayments")
    await watched.execute(ANSWERED, "nowpayments", "n-1", "settling", "")
    await watched.execute(ANSWERED, "nowpayments", "n-2", None, "it did not answer in time")
    by_reference = {gap["reference"]: gap["provider_answer"] for gap in (await check(config))["gaps"]}
    assert by_reference["n-3"] is None
    assert by_reference["n-2"]["problem"] == "it did not answer in time"
    assert by_reference["n-2"]["status"] is None
    said = by_reference["n-1"]
    assert {**said, "answered_at": 0, "asked_at": 0} == {
        "status": "settling",
        "said": "settling!",
        "amount": "14.99",
        "currency": "USD",
        "answered_at": 0,
        "problem": None,
        "asked_at": 0,
    }
    assert datetime.fromisoformat(said["answered_at"]).utcoffset() == timedelta(0)
    lines = (await paidwatch("check", config=config, expect=1)).stdout.splitlines()[1:4]
    ends = [line.partition("; ")[2] for line in lines]
    assert ends == ["the provider says settling", "the provider could not be asked: it did not answer in time", ""]


@SHAPES
async def test_no_gaps_is_said_and_how_much_was_looked_at(watched: Database, config: Path) -> None:
    user = await add_user(watched)
    payment = await add_payment(watched, user)
    await complete(watched, payment)
    await activate(watched, user, payment=payment)
    await age(watched)
    await add_payment(watched, await add_user(watched), status="completed", method="bank")
    done = await paidwatch("check", config=written(config.parent, watched, {"grace.by_method": {"bank": "2h"}}))
    assert "no gaps" in done.stdout
    assert "looked at 2 payments" in done.stdout
    assert "1 more within the grace period" in done.stdout
    assert "daemon: not running" in done.stdout


@on_shapes("X", thorough="L")
async def test_the_grace_runs_from_what_the_trigger_saw(watched: Database, config: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    payment = await add_payment(watched, await add_user(watched), created_at=long_ago)
    await update(watched, "payments", payment, {"status": "completed"})
    patient = written(config.parent, watched, {"grace": {"default": "10m"}})
    assert (await check(patient))["gaps"] == []
    await age(watched)
    assert (await check(patient))["count"] == 1
    await watched.execute("DELETE FROM paidwatch.inbox")
    soon = "now() + interval '1 hour'"
    await write_watch(watched, state="'waiting'", paid_at="now()", grace_until=soon, due_at=soon)
    assert (await check(patient))["gaps"] == []


@on_shapes("L", thorough="F")
async def test_history_is_a_gap_and_what_was_dismissed_is_none(watched: Database, config: Path) -> None:
    _user, payment = await missed(watched)
    await watched.execute("DELETE FROM paidwatch.inbox")
    await write_watch(watched, grace_until="now()", source="'baseline'", outcome="'baseline'", closed_at="now()")
    assert [gap["payment_id"] for gap in (await check(config))["gaps"]] == [payment]
    await watched.execute("UPDATE paidwatch.watch SET outcome = 'dismissed'")
    assert (await check(config, expect=0))["gaps"] == []


async def test_a_watch_that_is_open_is_looked_at_however_old_it_is(watched: Database, config: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=9)
    payment = await add_payment(watched, await add_user(watched), status="completed", created_at=old, completed_at=old)
    await watched.execute("DELETE FROM paidwatch.inbox")
    assert (await check(config))["gaps"] == []
    assert (await check(config, "--since", "10d"))["count"] == 1
    await write_watch(watched, state="'gap'", kind="'paid_not_active'")
    assert [gap["payment_id"] for gap in (await check(config))["gaps"]] == [payment]


@on_shapes("L", thorough="F")
async def test_the_applications_own_report_of_a_failure_needs_no_grace(watched: Database, config: Path) -> None:
    user = await add_user(watched)
    payment = await add_payment(watched, user, status="completed")
    patient = written(config.parent, watched, {"grace": {"default": "1h"}})
    assert (await check(patient))["gaps"] == []
    await add_event(watched, user, "activation_failed", {"payment_id": payment, "reason": "no such tier"})
    [gap] = (await check(patient))["gaps"]
    assert gap["kind"] == "activation_failed"


async def test_a_refund_that_nobody_has_read_yet(watched: Database, config: Path) -> None:
    user = await add_user(watched)
    payment = await add_payment(watched, user)
    await complete(watched, payment)
    await activate(watched, user, payment=payment)
    await refund(watched, payment)
    await age(watched)
    [gap] = (await check(config))["gaps"]
    assert gap["kind"] == "reversed_but_active"


@SHAPES
async def test_what_is_dropped_early_is_what_the_verdict_would_drop(
    watched: Database, config: Path, shape: str
) -> None:
    """The statement sifts by plain comparisons; judging every payment must find the same gaps."""
    for status, tier, plan, offset, revoked, enabled in product(
        ("active", "inactive"), ("free", "professional", "vip_elite"), ("professional", "vip_elite"), (None, -3, 3),
        (False, True), (True, False),
    ):  # fmt: skip
        at = datetime.now(UTC)
        user = await add_user(
            watched,
            status=status,
            tier=tier,
            paid_until=None if offset is None else at + MONTH + timedelta(days=offset),
            revoked_at=at if revoked else None,
            active=enabled,
        )
        await add_payment(watched, user, plan=plan, status="completed", completed_at=at)
    admin = await add_user(watched, admin=True)
    await add_payment(watched, admin, status="completed")
    await add_payment(watched, await add_user(watched), status="completed", amount=Decimal(0))
    await add_payment(watched, await add_user(watched), status="completed", amount=Decimal(3))
    await add_payment(watched, await add_user(watched), status="failed")
    twice = await add_user(watched, status="active", tier="professional")
    await add_payment(watched, twice, status="completed")
    await add_payment(watched, twice, plan="vip_elite", status="completed")
    if shape != "X":
        await add_payment(watched, await add_user(watched), plan="free_trial", status="completed")
    await age(watched)
    answer = await check(config)
    assert {str(gap["payment_id"]) for gap in answer["gaps"]} == await judged_one_by_one(watched)
    assert len({gap["kind"] for gap in answer["gaps"]}) >= 4


async def judged_one_by_one(db: Database) -> set[str]:
    """Return the gaps among all payments, each of them judged on its facts."""
    connection = await db.connect()
    try:
        ids = [row["id"] for row in await connection.fetch("SELECT payment_id::text AS id FROM paidwatch.payments")]
        session = Session(connection, STATEMENTS)
        now, known = await watches.facts_of(session, ids, ([], [], timedelta(0)))
    finally:
        await connection.close()
    return {one.facts.payment_id for one in known if isinstance(judge(one.facts, Rules(), now), Gap)}


@pytest.mark.parametrize("shape", ["F", "M"])
async def test_a_trigger_that_was_switched_off_is_told(watched: Database, config: Path) -> None:
    await watched.execute("ALTER TABLE public.payment_transactions DISABLE TRIGGER paidwatch_payment_updated")
    await watched.execute("DROP TRIGGER paidwatch_user_updated ON public.users")
    _user, payment = await missed(watched)
    await watched.execute("UPDATE public.payment_transactions SET completed_at = completed_at - interval '1 hour'")
    answer = await check(config, expect=1)
    assert [gap["payment_id"] for gap in answer["gaps"]] == [payment]
    told_of = " ".join(answer["not_watched"])
    assert "paidwatch_payment_updated on payment_transactions is disabled" in told_of
    assert "paidwatch_user_updated is missing" in told_of
    done = await paidwatch("check", config=config, expect=1)
    assert "next: paidwatch install" in done.stdout


async def test_a_running_daemon_is_seen(watched: Database, start: Start) -> None:
    async with start() as daemon:
        await daemon.ready()
        done = await paidwatch("check", config=daemon.config)
    assert "daemon: running since" in done.stdout
    assert "paidwatch run" not in done.stdout


async def test_text_from_the_database_is_shown_and_not_obeyed(watched: Database, config: Path) -> None:
    await missed(watched, method="\x1b[31m[bold]red\x07")
    done = await paidwatch("check", config=config, expect=1)
    assert "\x1b" not in done.stdout
    assert "\\x1b[31m[bold]red\\x07" in done.stdout


async def test_recent_payments_are_found_by_the_index_alone(watched: Database) -> None:
    await watched.execute("SET session_replication_role = replica")
    await watched.execute(
        "INSERT INTO public.users (email, username, hashed_password, is_active, is_admin, subscription_status,"
        " subscription_tier, trial_used, created_at, updated_at)"
        " SELECT n::text, n::text, '', true, false, 'active', 'vip_elite', false, now(), now()"
        " FROM generate_series(1, 20000) n"
    )
    await watched.execute(
        "INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, status, created_at,"
        " updated_at)"
        " SELECT n, 'professional', 14.99, 'card', 'completed', t.at, t.at FROM generate_series(1, 20000) n"
        " CROSS JOIN LATERAL (SELECT now() AT TIME ZONE 'UTC' - n * interval '1 hour' AS at) t"
    )
    connection = await watched.connect(server_settings=SESSION)
    try:
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE) {STATEMENTS['candidates']}",
            timedelta(hours=72), timedelta(hours=24), [], [], timedelta(minutes=2),
        )  # fmt: skip
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "paidwatch_recent_paid" in plan
    for table in ("payment_transactions", "users", "watch", "subscription_events"):
        assert f"Seq Scan on {table}" not in plan, plan


# Where nothing is known


async def refused(config: Path, *words: str) -> None:
    """Expect exit code 2, a sentence and a remedy, and nothing that could be taken for an answer."""
    for options in ((), ("--json",)):
        done = await paidwatch("check", *options, config=config, expect=2)
        assert done.stdout == ""
        assert "no gaps" not in done.stderr
        assert "→" in done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stderr


async def test_a_wrong_password(watched: Database, tmp_path: Path) -> None:
    await watched.execute("CREATE ROLE wrong_password LOGIN PASSWORD 'right'")
    try:
        dsn = watched.dsn_of("wrong_password", "canary")
        await refused(written(tmp_path, watched, dsn=dsn), "refused the login", "[database] dsn")
    finally:
        await watched.execute("DROP ROLE wrong_password")


async def test_no_such_database(watched: Database, server: Server, tmp_path: Path) -> None:
    dsn = server.dsn("there_is_none")
    await refused(written(tmp_path, watched, dsn=dsn), "there_is_none", "database name")


async def test_a_server_that_is_down(watched: Database, own_server: OwnServer, tmp_path: Path) -> None:
    gone = own_server()
    dsn = gone.dsn("postgres")
    gone.stop("immediate")
    await refused(written(tmp_path, watched, dsn=dsn), "cannot connect")


@pytest.mark.parametrize("shape", ["F"])
async def test_not_installed(database: Database, tmp_path: Path) -> None:
    await refused(written(tmp_path, database), "not installed", "HOST/DATABASE' install")


async def test_missing_rights(watched: Database, tmp_path: Path) -> None:
    await watched.execute("CREATE ROLE stranger LOGIN PASSWORD 'canary'")
    try:
        dsn = watched.dsn_of("stranger", "canary")
        await refused(written(tmp_path, watched, dsn=dsn), "lacks a right", "runtime_role")
    finally:
        await watched.execute("DROP ROLE stranger")


async def test_another_application_than_the_installed_one(watched: Database, tmp_path: Path) -> None:
    other = written(tmp_path, watched, {"payments": {"paid": ["completed"]}})
    await refused(other, "are not the installed ones", "HOST/DATABASE' install")


async def test_a_table_that_is_gone(watched: Database, config: Path) -> None:
    await missed(watched)
    await watched.execute("DROP TABLE public.payment_transactions CASCADE")
    done = await paidwatch("check", config=config, expect=2)
    assert done.stdout == ""


async def test_a_standby_is_not_asked(own_server: OwnServer, tmp_path: Path) -> None:
    primary = own_server()
    original = Database(Server(primary), "postgres", "F")
    await original.execute((Path(__file__).parents[1] / "shapes" / "F.sql").read_text(encoding="utf-8"))
    await paidwatch("install", config=written(tmp_path, original))
    await original.aclose()
    standby = own_server(copy_of=primary)
    await refused(written(tmp_path, original, dsn=standby.dsn("postgres")), "standby")


async def test_a_span_that_is_none_is_a_usage_error(config: Path) -> None:
    done = await paidwatch("check", "--since", "yesterday", config=config, expect=64)
    assert "72h" in done.stderr or "90s" in done.stderr
