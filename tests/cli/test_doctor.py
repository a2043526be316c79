"""The doctor finds what is wrong: each problem is made for real, and each is found under its name with a remedy."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import asyncpg
import pytest

from paidwatch.cli.doctor_command import examination, with_configuration
from paidwatch.config import load
from paidwatch.core.answer import Trouble
from paidwatch.ops.doctor import Doctor, Finding, Limits, Report, State
from paidwatch.store.installation import Server as Answering
from tests.conftest import OwnServer
from tests.support.daemon import Sections, configuration, installed, paidwatch, running
from tests.support.pooler import pooler
from tests.support.postgres import Database, Server
from tests.support.shop import add_payment, add_user, complete
from tests.support.sink import sink

Examine = Callable[..., Awaitable[Report]]
NOW = Limits(patience=timedelta(0))
"""Everything that waits counts as late."""
WEBHOOK: Sections = {"channels.ops": {"type": "webhook", "url": "http://127.0.0.1:9/x"}}
AUTO: Sections = {"activation": {"mode": "auto"}}


@pytest.fixture
async def watched(server: Server, shape: str) -> AsyncIterator[Database]:
    fresh = await installed(server, shape)
    yield fresh
    await server.drop(fresh)


@pytest.fixture
def examine(watched: Database, tmp_path: Path) -> Examine:
    """`await examine(…)` has the database examined under the usual configuration, changed by what is given."""

    async def examined(
        *extra: Sections, limits: Limits | None = None, dsn: str | None = None, database: Database | None = None
    ) -> Report:
        file = written(tmp_path, database or watched, *extra, dsn=dsn)
        doctor = await anyio.to_thread.run_sync(prepared, file, limits)
        return await doctor.examine()

    return examined


def prepared(file: Path, limits: Limits | None) -> Doctor:
    return examination(load(file, {}), limits)


def written(folder: Path, database: Database, *extra: Sections, dsn: str | None = None) -> Path:
    file = folder / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(database, None, *(extra or (WEBHOOK,)), dsn=dsn))
    return file


def of(report: Report, part: str, state: State = State.PROBLEM) -> list[Finding]:
    return [finding for finding in report.findings if finding.part == part and finding.state is state]


def said(report: Report, part: str, state: State = State.PROBLEM) -> str:
    """Return what was found about a part, and insist on a remedy for each."""
    found = of(report, part, state)
    assert found, f"nothing about {part}: {report.findings}"
    assert all(finding.remedy for finding in found)
    return "\n".join(f"{finding.what} → {finding.remedy}" for finding in found)


async def test_a_sound_installation_with_a_daemon_is_well(watched: Database, tmp_path: Path) -> None:
    async with sink() as told:
        file = tmp_path / "paidwatch.toml"
        file.touch(mode=0o600)
        file.write_text(configuration(watched, told))
        async with running(file) as daemon:
            await daemon.ready()
            done = await paidwatch("doctor", "--json", config=file)
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["problems"] == report["warnings"] == 0, report["findings"]
    assert {"listening", "triggers", "views", "rights", "indexes", "daemon", "inbox", "deliveries"} <= {
        finding["part"] for finding in report["findings"]
    }


async def test_problems_end_with_1_and_their_remedies_on_paper(watched: Database, tmp_path: Path) -> None:
    done = await paidwatch("doctor", config=written(tmp_path, watched), expect=1)
    assert "problem  daemon" in done.stdout
    assert "→ systemctl start paidwatch" in done.stdout
    assert done.stdout.rstrip().endswith("1 problem, 0 warnings")


async def test_a_database_that_cannot_be_asked_ends_with_2(watched: Database, tmp_path: Path) -> None:
    gone = written(tmp_path, watched, dsn="postgresql://postgres:c4n4ry@127.0.0.1:1/shop")
    done = await paidwatch("doctor", "--json", config=gone, expect=2)
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert not report["asked"]
    assert "c4n4ry" not in done.stdout + done.stderr


async def test_a_wrong_database_name_ends_with_2(examine: Examine, server: Server) -> None:
    report = await examine(dsn=server.dsn("no_such_database"))
    assert not report.asked
    assert "no_such_database" in said(report, "connection")


async def test_doubts_about_the_configuration_come_first(watched: Database, tmp_path: Path) -> None:
    file = written(tmp_path, watched, {"log": {"level": "info"}})
    report = await anyio.to_thread.run_sync(lambda: with_configuration(load(file, {}), Report(findings=[], asked=True)))
    assert [finding.state for finding in report.findings] == [State.OK, State.WARNING]


async def test_a_database_without_an_installation(examine: Examine, database: Database) -> None:
    report = await examine(database=database)
    assert "HOST/DATABASE' install" in said(report, "installation")
    assert of(report, "listening", State.OK)


async def test_a_schema_that_is_too_old(examine: Examine, watched: Database) -> None:
    await watched.execute("DELETE FROM paidwatch.migration WHERE version > 1")
    await watched.execute("UPDATE paidwatch.migration SET version = 0")
    assert "version 0" in said(await examine(), "installation")


async def test_a_configuration_that_is_not_the_installed_one(examine: Examine) -> None:
    report = await examine(WEBHOOK, {"payments": {"paid": ["settled"]}})
    assert "not the installed ones" in said(report, "installation")


def test_a_server_that_is_too_old() -> None:
    old = Answering(
        standby=False,
        version="13.9",
        version_num=130_009,
        system_identifier="1",
        timeline="1",
        two_phase=False,
        database="shop",
        role="x",
    )
    assert Doctor._version(old).state is State.PROBLEM
    assert Doctor._version(replace(old, version_num=140_000)).state is State.OK


async def test_a_standby(examine: Examine, own_server: OwnServer) -> None:
    primary = own_server({"wal_level": "replica"})
    standby = await anyio.to_thread.run_sync(lambda: own_server(copy_of=primary))
    report = await examine(dsn=standby.dsn())
    assert "standby" in said(report, "connection")


async def test_a_pooler_in_transaction_mode(examine: Examine, watched: Database) -> None:
    async with pooler(watched) as dsn:
        report = await examine(dsn=dsn)
    assert "pooler" in said(report, "listening")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("DROP TRIGGER paidwatch_payment_updated ON public.payment_transactions", "missing"),
        ("ALTER TABLE public.users DISABLE TRIGGER paidwatch_user_updated", "disabled"),
        ("ALTER FUNCTION paidwatch.on_payment() SECURITY INVOKER", "altered"),
    ],
)
async def test_triggers_that_are_not_as_installed(examine: Examine, watched: Database, change: str, word: str) -> None:
    await watched.execute(change)
    assert word in said(await examine(), "triggers")


async def test_a_view_that_cannot_be_read(examine: Examine, watched: Database, stranger: str) -> None:
    await watched.execute(f'ALTER VIEW paidwatch.webhooks OWNER TO "{stranger}"')
    report = await examine()
    assert "paidwatch.webhooks" in said(report, "views")
    assert of(report, "inbox", State.OK), "one part that is ill keeps no other from being examined"


@pytest.mark.parametrize("shape", ["M"])
async def test_columns_that_are_not_there_and_what_follows(examine: Examine) -> None:
    found = said(await examine(), "mapping", State.WARNING)
    assert "users.status is not there: access is judged by" in found
    assert "webhooks.payment is not there: no webhook can be matched" in found


@pytest.fixture
async def stranger(server: Server, watched: Database) -> AsyncIterator[str]:
    """A role with no right to anything."""
    name = f"paidwatch_test_{secrets.token_hex(4)}"
    await server.administer(f'CREATE ROLE "{name}" LOGIN')
    yield name
    async with watched.another() as owner:
        await owner.execute(f'DROP OWNED BY "{name}" CASCADE')
    await server.administer(f'DROP ROLE "{name}"')


async def test_a_runtime_role_without_rights(examine: Examine, watched: Database, stranger: str) -> None:
    report = await examine(WEBHOOK, {"database": {"dsn": watched.dsn, "two_phase": "never", "runtime_role": stranger}})
    # The role belongs to what is installed, so the configuration is another one; the rights are examined all the same.
    found = said(report, "rights")
    assert "lacks SELECT on paidwatch.payments" in found
    assert "lacks UPDATE (listening_at) on paidwatch.installation" in found
    assert "write_event" in said(report, "rights", State.WARNING)


async def test_a_revoked_right(examine: Examine, watched: Database, stranger: str) -> None:
    await watched.execute("SELECT paidwatch.grant_runtime($1)", stranger)
    role: Sections = {"database": {"dsn": watched.dsn, "two_phase": "never", "runtime_role": stranger}}
    assert of(await examine(WEBHOOK, role), "rights", State.OK)
    await watched.execute(f'REVOKE DELETE ON paidwatch.inbox FROM "{stranger}"')
    assert "lacks DELETE on paidwatch.inbox" in said(await examine(WEBHOOK, role), "rights")


async def test_automatic_activation_without_the_right_to_write(
    examine: Examine, watched: Database, stranger: str
) -> None:
    await watched.execute("SELECT paidwatch.grant_runtime($1)", stranger)
    await watched.execute(
        f'REVOKE EXECUTE ON FUNCTION paidwatch.write_subscriber(paidwatch.user_key, jsonb) FROM "{stranger}"'
    )
    role: Sections = {"database": {"dsn": watched.dsn, "two_phase": "never", "runtime_role": stranger}}
    assert "write_subscriber" in said(await examine(WEBHOOK, AUTO, role), "rights")
    assert "cannot activate" in said(await examine(WEBHOOK, role), "rights", State.WARNING)


async def test_a_runtime_role_that_is_not_there(examine: Examine, watched: Database) -> None:
    role: Sections = {"database": {"dsn": watched.dsn, "two_phase": "never", "runtime_role": "nobody_by_this_name"}}
    assert "no role nobody_by_this_name" in said(await examine(WEBHOOK, role), "rights")


async def test_the_index_of_recent_payments_is_missing(examine: Examine, watched: Database) -> None:
    await watched.execute("DROP INDEX public.paidwatch_recent_paid")
    assert "missing" in said(await examine(), "indexes")


async def test_the_index_of_recent_payments_is_invalid(examine: Examine, watched: Database) -> None:
    await watched.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.paidwatch_recent_paid'::regclass"
    )
    assert "invalid" in said(await examine(), "indexes")


async def test_a_large_table_without_an_index_by_user(examine: Examine, watched: Database) -> None:
    await watched.execute("DROP INDEX public.ix_payment_transactions_user_id")
    for _ in range(3):
        await add_payment(watched, await add_user(watched))
    await watched.execute("ANALYZE public.payment_transactions")
    assert of(await examine(), "indexes", State.OK), "a small table needs none"
    found = said(await examine(limits=Limits(large=2)), "indexes", State.WARNING)
    assert "CREATE INDEX CONCURRENTLY ON payment_transactions (user_id);" in found


async def test_prepared_transactions_keep_triggers_from_ringing(
    watched: Database, server: Server, tmp_path: Path
) -> None:
    if await setting(server, "max_prepared_transactions") == 0:
        pytest.skip("the server allows none")
    file = written(tmp_path, watched, WEBHOOK, {"database": {"dsn": watched.dsn, "two_phase": "auto"}})
    await paidwatch("install", config=file)
    report = await (await anyio.to_thread.run_sync(prepared, file, None)).examine()
    assert 'two_phase = "never"' in said(report, "doorbell", State.WARNING)


async def test_events_that_an_activation_cannot_write(examine: Examine, watched: Database) -> None:
    await watched.execute("ALTER TABLE public.subscription_events ADD COLUMN tenant text NOT NULL")
    assert "tenant" in said(await examine(WEBHOOK, AUTO), "activation")
    assert "tenant" in said(await examine(), "activation", State.WARNING)


UNTIMED = "ALTER TABLE public.subscription_events ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL"


@pytest.mark.parametrize("column", ["nowhere", "event_type"])
async def test_events_without_a_time_blind_the_guards(examine: Examine, server: Server, column: str) -> None:
    """Whether there is no such column, or one that is no time."""
    untimed: Sections = {"events": {"created_at": column}}
    database = await installed(server, "F", untimed)
    try:
        found = said(await examine(WEBHOOK, AUTO, untimed, database=database), "activation")
        assert "events have no time" in found
        assert "created_at" in found
        assert "no time" in said(await examine(WEBHOOK, untimed, database=database), "activation", State.WARNING)
    finally:
        await server.drop(database)


async def test_events_that_lack_their_time_are_counted_where_it_matters(examine: Examine, watched: Database) -> None:
    await watched.execute(UNTIMED)
    await watch(watched, "state = 'gap', kind = 'paid_not_active', due_at = NULL")
    payer, other = await watched.fetchval("SELECT min(user_id) FROM paidwatch.watch"), await add_user(watched)
    into = (
        "INSERT INTO public.subscription_events (user_id, event_type, event_data, processed, created_at)"
        " VALUES ($1, $2, '{}', true, $3)"
    )
    for user, kind in ((payer, "activated"), (payer, "status_update"), (payer, "login"), (other, "activated")):
        await watched.execute(into, user, kind, None)
    found = said(await examine(WEBHOOK, AUTO), "activation")
    assert "of users with gaps or alerts: 2" in found
    assert "of users with gaps or alerts: 2" in said(await examine(), "activation", State.WARNING)
    await watched.execute("UPDATE public.subscription_events SET created_at = now()")
    assert not of(await examine(WEBHOOK, AUTO), "activation")


async def test_an_unindexed_table_of_events_is_not_read_as_a_whole(examine: Examine, watched: Database) -> None:
    await watched.execute(UNTIMED)
    await watch(watched, "state = 'gap', kind = 'paid_not_active', due_at = NULL")
    await watched.execute(
        "INSERT INTO public.subscription_events (user_id, event_type, event_data, processed)"
        " SELECT user_id, 'activated', '{}', true FROM paidwatch.watch, generate_series(1, 3)"
    )
    await watched.execute("DROP INDEX public.ix_subscription_events_user_id")
    await watched.execute("ANALYZE public.subscription_events")
    report = await examine(WEBHOOK, AUTO, limits=Limits(large=2))
    assert "subscription_events" in said(report, "indexes", State.WARNING)
    assert not of(report, "activation")


@pytest.mark.parametrize("shape", ["X"])
async def test_what_an_application_without_events_means_for_automatic_activation(examine: Examine) -> None:
    report = await examine(WEBHOOK, AUTO)
    assert "what paidwatch itself did" in said(report, "activation", State.WARNING)
    mapping = said(report, "mapping", State.WARNING)
    assert "[events] names no table" in mapping
    assert '"" says that there is none' not in mapping
    assert not of(await examine(), "activation", State.WARNING)


async def test_payments_from_the_future_betray_a_wrong_zone(examine: Examine, watched: Database) -> None:
    payment = await add_payment(watched, await add_user(watched))
    await watched.execute(
        "UPDATE public.payment_transactions SET status = 'completed',"
        " completed_at = now() AT TIME ZONE 'UTC' + interval '2 h' WHERE id = $1",
        payment,
    )
    assert "in the future" in said(await examine(), "time zone")


async def test_a_server_in_another_zone(examine: Examine, watched: Database) -> None:
    await watched.execute(f"ALTER DATABASE \"{watched.name}\" SET timezone = 'Asia/Tokyo'")
    assert "Asia/Tokyo" in said(await examine(), "time zone", State.WARNING)


async def test_nobody_watches_and_the_inbox_fills(examine: Examine, watched: Database) -> None:
    await complete(watched, await add_payment(watched, await add_user(watched)))
    assert of(await examine(), "inbox", State.OK), "a moment is no backlog"
    report = await examine(limits=NOW)
    assert "not taken in: 1" in said(report, "inbox")
    assert "nobody watches" in said(report, "daemon")


async def test_verdicts_that_are_overdue(examine: Examine, watched: Database) -> None:
    await watch(watched, "due_at = now() - interval '1 hour'")
    assert "judged: 1, the oldest 1 h ago" in said(await examine(), "verdicts")


async def test_payments_that_cannot_be_judged(examine: Examine, watched: Database) -> None:
    await watch(watched, "due_at = now() + interval '1 hour', failures = 3")
    assert "cannot be read or judged" in said(await examine(), "verdicts")


async def test_activations_that_wait_or_failed(examine: Examine, watched: Database) -> None:
    await watch(watched, "state = 'gap', kind = 'paid_not_active', due_at = NULL")
    into = (
        "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, version, due_at, done_at)"
        " SELECT payment_id, user_id, $1, 'sql', 'auto', '0', $2::timestamptz, $3::timestamptz FROM paidwatch.watch"
    )
    then = await watched.fetchval("SELECT now() - interval '1 hour'")
    await watched.execute(into, "failed", None, then)
    assert "failed for good" in said(await examine(), "activation")
    await watched.execute(into, "claimed", then, None)
    assert "should have been written" in said(await examine(), "activation")


async def watch(database: Database, change: str) -> None:
    """Take one payment in and change its watch."""
    payment = await add_payment(database, await add_user(database))
    await database.execute(
        "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)"
        " SELECT id, user_id, 'waiting', 'trigger', now(), now(), now(), now() FROM public.payment_transactions"
        " WHERE id = $1",
        payment,
    )
    await database.execute(f"UPDATE paidwatch.watch SET {change}")


async def alert(database: Database, kind: str, channel: str, delivery: str) -> None:
    """Queue one message and change its delivery."""
    await database.execute(
        "WITH told AS (INSERT INTO paidwatch.alert (kind) VALUES ($1) RETURNING alert_id)"
        " INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT alert_id, $2, now() FROM told",
        kind,
        channel,
    )
    await database.execute(f"UPDATE paidwatch.delivery SET {delivery}")


async def test_messages_that_were_given_up(examine: Examine, watched: Database) -> None:
    await alert(watched, "paid_not_active", "ops", "dead_at = now(), due_at = NULL, last_error = 'invalid_payload'")
    assert "given up: 1 (invalid_payload)" in said(await examine(), "deliveries")


async def test_messages_that_are_late(examine: Examine, watched: Database) -> None:
    await alert(watched, "paid_not_active", "ops", "trying_since = now() - interval '2 hours', last_error = '503'")
    assert "the oldest due for 2 h (503)" in said(await examine(), "deliveries")


async def test_messages_for_a_channel_that_is_gone(examine: Examine, watched: Database) -> None:
    await alert(watched, "paid_not_active", "former", "attempts = 0")
    assert "[channels.former]" in said(await examine(), "deliveries")


async def test_a_test_message_is_no_message_that_is_missing(examine: Examine, watched: Database) -> None:
    await alert(watched, "test", "ops", "dead_at = now(), due_at = NULL")
    assert of(await examine(), "deliveries", State.OK)


async def test_a_channel_that_is_broken(examine: Examine, watched: Database) -> None:
    await watched.execute(
        "INSERT INTO paidwatch.channel (name, down_since, down_reason)"
        " VALUES ('ops', now(), 'Slack answered 404 no_service')"
    )
    assert "no_service" in said(await examine(), "channels")


async def test_how_automatic_activation_stands(examine: Examine, watched: Database) -> None:
    (off,) = [it.what for it in of(await examine(), "activation", State.OK)]
    assert off == "automatic activation is off"
    await watched.execute("UPDATE paidwatch.breaker SET opened_at = now(), opened_by = 'cli:kim', reason = 'a deploy'")
    stopped = said(await examine(AUTO), "activation")
    assert "auto, stopped by the breaker (a deploy)" in stopped
    assert "paidwatch activation resume" in stopped


async def test_no_channel_at_all(examine: Examine) -> None:
    assert "nobody is told" in said(await examine({"log": {"level": "info"}}), "channels")


async def test_a_transaction_that_does_not_end(examine: Examine, watched: Database) -> None:
    payment = await add_payment(watched, await add_user(watched))
    async with watched.another() as writer, writer.transaction():
        await complete(writer, payment)
        report = await examine(limits=NOW)
    assert "idle in transaction" in said(report, "doorbell", State.WARNING)
    assert not of(await examine(limits=NOW), "doorbell", State.WARNING)


async def test_a_prepared_transaction_that_nobody_ends(examine: Examine, watched: Database, server: Server) -> None:
    if await setting(server, "max_prepared_transactions") == 0:
        pytest.skip("the server allows none")
    user = await add_user(watched)
    connection = await watched.connect()
    await connection.execute("BEGIN")
    await connection.execute("UPDATE public.users SET is_active = false WHERE id = $1", user)
    await connection.execute("PREPARE TRANSACTION 'forgotten'")
    assert "'forgotten'" in said(await examine(limits=NOW), "doorbell", State.WARNING)
    await connection.execute("ROLLBACK PREPARED 'forgotten'")
    await connection.close()


async def test_a_full_queue_of_notifications(examine: Examine, own_server: OwnServer, server: Server) -> None:
    if await setting(server, "server_version_num") < 170_000:
        pytest.skip("only PostgreSQL 17 and later can be given a small queue")
    own = Server(own_server({"max_notify_queue_pages": "64", "max_prepared_transactions": "0"}))
    small = await installed(own, "F")
    async with small.another() as listener:
        await listener.execute("LISTEN elsewhere")
        async with listener.transaction():
            await listener.fetchval("SELECT 1")
            used = 0.0
            while used < 0.5:
                await small.execute("SELECT pg_notify('other', repeat('x', 7900))")
                used = await small.fetchval("SELECT pg_notification_queue_usage()")
            assert "triggers do not ring" in said(await examine(database=small), "notifications")
    small.close()


async def setting(server: Server, name: str) -> int:
    connection = await asyncpg.connect(server.dsn(), timeout=20)
    try:
        return int(await connection.fetchval(f"SHOW {name}"))
    finally:
        await connection.close()


async def test_the_doctor_reads_only(examine: Examine, watched: Database) -> None:
    await complete(watched, await add_payment(watched, await add_user(watched)))
    tables = ("inbox", "watch", "alert", "delivery", "channel", "activation", "installation", "migration")
    before = [await watched.fetch(f"SELECT t::text FROM paidwatch.{table} t") for table in tables]
    await examine(limits=NOW)
    assert before[0]
    assert [await watched.fetch(f"SELECT t::text FROM paidwatch.{table} t") for table in tables] == before


# Webhooks

GATEWAYS: Sections = {
    "providers.nowpayments": {"secret": "c4n4ry-ipn", "forward_to": "http://127.0.0.1:9/ipn"},
    "providers.stripe": {"methods": ["card"]},
}
ONE: Sections = {"providers.nowpayments": {"secret": "c4n4ry-ipn"}}
LISTENS = {"listen": "127.0.0.1:8787"}
FRONT: Sections = {"http": LISTENS | {"public_url": "https://pay.example.org"}}
CAME = (
    "INSERT INTO paidwatch.webhook (provider, body, state, problem, dedupe_key, received_at) VALUES"
    " ($1, '', $2, $3, gen_random_uuid()::text, now() - $4::interval)"
)


async def findings_of(tmp_path: Path, database: Database, *extra: Sections) -> Report:
    """What the configuration alone tells."""
    file = written(tmp_path, database, WEBHOOK, *extra)
    return await anyio.to_thread.run_sync(lambda: with_configuration(load(file, {}), Report(findings=[], asked=True)))


async def test_a_provider_without_a_secret_or_with_no_way_to_us(watched: Database, tmp_path: Path) -> None:
    found = said(await findings_of(tmp_path, watched, GATEWAYS, FRONT), "webhooks")
    assert "stripe: no secret is configured: every webhook is refused with 503" in found
    assert "[providers.stripe] secret" in found
    assert "nowpayments" not in found
    well = of(await findings_of(tmp_path, watched, GATEWAYS, FRONT), "webhooks", State.OK)
    assert ["https://pay.example.org/webhooks/" in it.what for it in well] == [True]
    for http, why in (
        ({"listen": ""}, "listen is empty"),
        ({"public_url": ""}, "public_url is not set"),
        ({"public_url": "http://pay.internal"}, "is not https"),
        ({"public_url": "https://10.0.0.7"}, "private network"),
    ):
        doubt = said(await findings_of(tmp_path, watched, ONE, {"http": LISTENS | http}), "webhooks", State.WARNING)
        assert why in doubt
        assert "c4n4ry" not in doubt
    assert not of(await findings_of(tmp_path, watched), "webhooks", State.WARNING), "nobody to receive from"


async def test_a_certificate_that_is_none_is_a_problem_and_no_crash(watched: Database, tmp_path: Path) -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    broken: Sections = {"providers.binance_pay": {"certificate": pem}}
    done = await paidwatch("doctor", "--json", config=written(tmp_path, watched, WEBHOOK, broken), expect=1)
    (found,) = [
        it for it in json.loads(done.stdout)["findings"] if it["part"] == "webhooks" and it["state"] == "problem"
    ]
    assert "no RSA key" in found["what"]
    assert "certPublic" in found["remedy"]


async def test_a_success_page_that_no_customer_can_use(watched: Database, tmp_path: Path) -> None:
    page: Sections = {"success_page": {"url": "https://shop.example.org/thanks"}}
    assert "no address" in said(await findings_of(tmp_path, watched, page), "success page")
    assert "key is not set" in said(await findings_of(tmp_path, watched, page, FRONT), "success page", State.WARNING)
    page = {"success_page": {"url": "https://shop.example.org/thanks", "key": "c4n4ry" * 8}}
    (well,) = of(await findings_of(tmp_path, watched, page, FRONT), "success page", State.OK)
    assert "https://pay.example.org/payment/return" in well.what
    assert "c4n4ry" not in well.what


async def test_what_came_of_each_provider_and_why_it_was_not_believed(examine: Examine, watched: Database) -> None:
    assert "nowpayments: none has come yet" in said(await examine(WEBHOOK, ONE), "webhooks", State.WARNING)
    minute = timedelta(minutes=1)
    for age in range(1, 4):
        await watched.execute(CAME, "nowpayments", "rejected", "the signature is wrong", age * minute)
    found = said(await examine(WEBHOOK, ONE), "webhooks")
    assert "0 of the last 3 believed (the signature is wrong: 3); the last came 1 min ago" in found
    assert "paidwatch webhooks list --provider nowpayments --state rejected" in found
    for _ in range(18):
        await watched.execute(CAME, "nowpayments", "verified", None, timedelta())
    (well,) = of(await examine(WEBHOOK, ONE), "webhooks", State.OK)
    assert "18 of the last 20 believed (the signature is wrong: 2)" in well.what
    # Where the application receives, its own log tells.
    await watched.execute(
        "INSERT INTO paidwatch.reading (log_id, method, status, valid, failed, error, at)"
        " SELECT n::text, 'card', 'paid', true, n = 1, CASE n WHEN 1 THEN 'KeyError: plan' END, now()"
        " FROM generate_series(1, 5) n"
    )
    report = await examine(WEBHOOK, GATEWAYS)
    assert "stripe: 5 of the last 5 believed" in "\n".join(it.what for it in of(report, "webhooks", State.OK))
    failures = said(report, "webhooks", State.WARNING)
    assert "card: handler failures of the last 7 days: 1 (KeyError: plan: 1)" in failures
    assert "have the provider send them again" in failures
    assert "webhooks replay" not in failures, "paidwatch has none of stripe's, though it has nowpayments'"
    await watched.execute(CAME, "stripe", "rejected", "the signature is wrong", timedelta())
    assert "webhooks replay" not in said(await examine(WEBHOOK, GATEWAYS), "webhooks", State.WARNING), "a stranger's"
    await watched.execute(CAME, "stripe", "verified", None, timedelta())
    failures = said(await examine(WEBHOOK, GATEWAYS), "webhooks", State.WARNING)
    assert "have the provider send them again, or: paidwatch webhooks replay" in failures


async def test_what_is_not_passed_on(examine: Examine, watched: Database) -> None:
    assert of(await examine(WEBHOOK, GATEWAYS), "passing on", State.OK)
    for state in ("dead", "due"):
        await watched.execute(CAME, "nowpayments", "verified", None, timedelta(hours=1))
        await watched.execute(
            "UPDATE paidwatch.webhook SET forward_state = $1, forward_at = now() WHERE forward_state = 'none'", state
        )
    report = await examine(WEBHOOK, GATEWAYS)
    assert "or did not take in time: 1 → mend the handler, then: paidwatch webhooks replay --dead" in said(
        report, "passing on"
    )
    assert "wait to be passed on: 1, the oldest for 1 h" in said(report, "passing on", State.WARNING)
    await watched.execute(
        "INSERT INTO paidwatch.forward_target (provider, failures, down_since, down_reason)"
        " VALUES ('nowpayments', 3, now() - interval '10 minutes', 'no connection')"
    )
    assert "has taken nothing for 10 min (no connection); waiting: 1" in said(
        await examine(WEBHOOK, GATEWAYS), "passing on"
    )


async def test_a_log_that_the_receiver_could_not_fill(examine: Examine, watched: Database) -> None:
    await watched.execute("ALTER TABLE public.webhook_logs ADD COLUMN shard integer NOT NULL")
    assert "no value for: shard" in said(await examine(WEBHOOK, ONE), "webhooks")
    assert "no value for: shard" in said(await examine(), "webhooks", State.WARNING)


ASKED = (
    "INSERT INTO paidwatch.answer (method, reference, provider, asked_at, problem, answered_at)"
    " VALUES ('nowpayments', gen_random_uuid()::text, 'nowpayments', now() - $1::interval, $2,"
    " CASE WHEN $2 = '' THEN now() - $1::interval END)"
)


async def test_how_a_provider_answers_and_whether_it_takes_the_key(examine: Examine, watched: Database) -> None:
    hour = timedelta(hours=1)
    await watched.execute(ASKED, 24 * hour, "")
    assert not [it for it in (await examine(WEBHOOK, GATEWAYS)).findings if "stripe: asked" in it.what]
    (old,) = of(await examine(WEBHOOK, ONE), "asking", State.OK)
    assert old.what == "nowpayments: not asked about any payment in the last day; last answered 1 d ago"

    for problem in ("", "", Trouble.MISSING, Trouble.MISSING, Trouble.TIMEOUT):
        await watched.execute(ASKED, 2 * hour, problem)
    (well,) = of(await examine(WEBHOOK, ONE), "asking", State.OK)
    reasons = f"{Trouble.MISSING.value}: 2; {Trouble.TIMEOUT.value}: 1"
    what = (
        f"nowpayments: asked about payments in the last day: 5, without an answer: 3 ({reasons}); last answered 2 h ago"
    )
    assert well.what == what

    for _ in range(4):
        await watched.execute(ASKED, hour, Trouble.FAILING)
    assert "without an answer: 7" in said(await examine(WEBHOOK, ONE), "asking", State.WARNING)

    await watched.execute(ASKED, timedelta(minutes=5), Trouble.REFUSED)
    refused = said(await examine(WEBHOOK, ONE), "asking")
    assert f"{Trouble.REFUSED.value} (401 or 403), when it was asked about a payment 5 min ago" in refused
    assert "[providers.nowpayments] api_key" in refused
    await watched.execute(ASKED, timedelta(minutes=1), "")
    assert not of(await examine(WEBHOOK, ONE), "asking", State.PROBLEM), "the key was changed"
