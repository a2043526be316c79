"""The auditor (F2): a planted loss is found, told and healed; where nothing is lost it finds nothing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from paidwatch.config import load
from paidwatch.core.routing import Routing
from paidwatch.flow.audit import Audit, Audited
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store.connect import Target
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of
from tests.ops.still_clock import StillClock
from tests.support import shop
from tests.support.daemon import told_and_done
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.watched import Start

NOTHING = Audited(forgotten=0, unheard=0, buried=0)
OPEN = "INSERT INTO paidwatch.alert (kind, cause, look_at) VALUES ($1, 'no webhook', NULL) RETURNING alert_id"


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file: Path = tmp_path_factory.mktemp("audit") / "paidwatch.toml"
    file.touch(mode=0o600)
    channels = "".join(
        f'[channels.{name}]\ntype = "webhook"\nurl = "http://127.0.0.1/{name}"\n' for name in ("ops", "team")
    )
    file.write_text(f'[database]\ndsn = "postgresql://nobody@localhost/none"\n{channels}')
    return policy_of(load(file, {}, needs_database=True))


@pytest.fixture
async def pool(watched: Database, statements: Statements) -> AsyncIterator[Pool]:
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=60))
    async with Pool(target, statements) as opened:
        yield opened


def audit_with(pool: Pool, policy: Policy) -> tuple[Audit, Metrics]:
    metrics = Metrics(status=Status(clock=StillClock()), version="0", channels=policy.channels)
    return Audit(database=pool, policy=lambda: policy, metrics=metrics, log=Log()), metrics


async def again(db: Database) -> None:
    """An hour passes."""
    await db.execute("UPDATE paidwatch.installation SET audited_at = audited_at - interval '1 hour'")


async def alert(db: Database, *channels: str, kind: str = "paid_not_active", **columns: str) -> int:
    """An alert that these channels were told of, with the columns of the deliveries given as SQL."""
    number: int = await db.fetchval(OPEN, kind)
    told = {"told_revision": "1", "told_at": "now()"} | columns
    for channel in channels:
        await db.execute(
            f"INSERT INTO paidwatch.delivery (alert_id, channel, {', '.join(told)})"
            f" VALUES ($1, $2, {', '.join(told.values())})",
            number,
            channel,
        )
    return number


async def ended(db: Database, *alerts: int) -> None:
    await db.execute(
        "UPDATE paidwatch.alert SET state = 'resolved', outcome = 'activated', resolved_at = now(),"
        " revision = revision + 1 WHERE alert_id = ANY ($1::bigint[])",
        list(alerts),
    )


async def told_of(db: Database) -> Sequence[Any]:
    return await db.fetch("SELECT * FROM paidwatch.alert WHERE kind = 'audit' ORDER BY alert_id")


async def test_a_recovery_that_nobody_was_going_to_tell_is_found_and_told(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    audit, metrics = audit_with(pool, policy)
    lost, told = await alert(watched, "ops", "team"), await alert(watched, "ops", "team")
    await ended(watched, lost, told)
    await watched.execute("UPDATE paidwatch.delivery SET due_at = now() WHERE alert_id = $1 AND channel = 'ops'", lost)
    await watched.execute("UPDATE paidwatch.delivery SET told_revision = 2 WHERE alert_id = $1", told)
    assert await audit.run_due() == replace(NOTHING, forgotten=1)
    assert await watched.fetchval(
        "SELECT due_at <= now() FROM paidwatch.delivery WHERE alert_id = $1 AND channel = 'team'", lost
    )
    [note] = await told_of(watched)
    assert note["notes"] == [f"alert {lost} (paid_not_active) on team: the recovery was not told"]
    assert (
        await watched.fetchval(
            "SELECT count(*) FROM paidwatch.delivery WHERE alert_id = $1 AND due_at <= now()", note["alert_id"]
        )
        == 2
    )
    assert b"paidwatch_audit_mismatches_total 1.0" in metrics.render("")[0]
    await again(watched)
    assert await audit.run_due() == NOTHING, "it is told once"


@pytest.mark.parametrize(
    "loss",
    [
        {"told_revision": "0", "told_at": "NULL"},
        {"told_revision": "0", "waits_for": "'held'"},
        {"told_revision": "0", "waits_for": "'quiet'"},
    ],
)
async def test_a_first_message_that_nobody_was_going_to_send_is_found(
    watched: Database, pool: Pool, policy: Policy, loss: dict[str, str]
) -> None:
    audit, _metrics = audit_with(pool, policy)
    await alert(watched, "ops", **loss)
    assert await audit.run_due() == replace(NOTHING, forgotten=1)
    assert await watched.fetchval("SELECT waits_for IS NULL AND due_at <= now() FROM paidwatch.delivery LIMIT 1")


async def test_a_digest_that_was_given_up_without_its_stories_is_found(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    audit, _metrics = audit_with(pool, policy)
    await alert(watched, "ops", kind="held", told_revision="0", dead_at="now()")
    digest = await watched.fetchval("SELECT delivery_id FROM paidwatch.delivery")
    await alert(watched, "ops", told_revision="0", waits_for="'held'", bundle_id=str(digest))
    assert await audit.run_due() == replace(NOTHING, forgotten=1)


async def test_an_alert_without_any_delivery_is_found_and_told_on_the_usual_channels(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    audit, _metrics = audit_with(pool, policy)
    await alert(watched, "ops")
    lost = await alert(watched)
    assert await audit.run_due() == replace(NOTHING, unheard=1)
    rows = await watched.fetch("SELECT channel FROM paidwatch.delivery WHERE alert_id = $1 ORDER BY channel", lost)
    assert [row["channel"] for row in rows] == ["ops", "team"]


async def test_messages_for_a_channel_that_is_gone_become_dead_letters(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    audit, _metrics = audit_with(pool, policy)
    await alert(watched, "former", told_revision="0", due_at="now() - interval '2 hours'")
    await alert(watched, "former", told_revision="0", due_at="now() - interval '5 minutes'")
    assert await audit.run_due() == replace(NOTHING, buried=1)
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.delivery WHERE dead_at IS NOT NULL") == 1


async def test_what_is_as_it_should_be_is_no_finding(watched: Database, pool: Pool, policy: Policy) -> None:
    audit, _metrics = audit_with(pool, policy)
    await alert(watched, "ops", "team")
    await alert(watched, "ops", told_revision="0", due_at="now() + interval '1 hour'")
    await alert(watched, "ops", told_revision="0", dead_at="now()")
    await alert(watched, "ops", told_revision="0", waits_for="'quiet'", due_at="now() + interval '8 hours'")
    await alert(watched, "ops", told_revision="0", waits_for="'held'", due_at="now()")
    await alert(watched, "ops", kind="held", told_revision="0", due_at="now()")
    digest = await watched.fetchval("SELECT max(delivery_id) FROM paidwatch.delivery")
    await alert(watched, "ops", told_revision="0", waits_for="'held'", bundle_id=str(digest))
    incident = await alert(watched, "ops", kind="incident")
    await watched.execute("UPDATE paidwatch.alert SET revision = 9 WHERE alert_id = $1", incident)
    member = await alert(watched)
    await watched.execute("UPDATE paidwatch.alert SET incident_id = $1 WHERE alert_id = $2", incident, member)
    silence = await watched.fetchval(
        "INSERT INTO paidwatch.silence (author, kind, expires_at)"
        " VALUES ('somebody', 'paid_not_active', now() + interval '1 hour') RETURNING silence_id"
    )
    silenced = await alert(watched)
    await watched.execute("UPDATE paidwatch.alert SET silence_id = $1 WHERE alert_id = $2", silence, silenced)
    await alert(watched, kind="channel_down")
    await alert(watched, "ops", kind="test", told_revision="0")
    assert await audit.run_due() == NOTHING
    assert await told_of(watched) == []


async def test_without_channels_nobody_is_told_and_nothing_is_lost(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    silent = replace(policy, channels=(), routing=Routing(usual=(), low=frozenset(), routes=(), escalations=()))
    audit, _metrics = audit_with(pool, silent)
    await alert(watched)
    assert await audit.run_due() == NOTHING


async def test_the_audit_is_made_once_an_hour_by_all_daemons_together(
    watched: Database, pool: Pool, policy: Policy
) -> None:
    audit, _metrics = audit_with(pool, policy)
    found: list[Audited | None] = []

    async def one() -> None:
        found.append(await audit.run_due())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    assert sorted(found, key=lambda it: it is None) == [NOTHING, None, None, None]
    await again(watched)
    assert await audit.run_due() == NOTHING


async def test_a_healthy_run_has_no_finding(
    watched: Database, told: Sink, start: Start, pool: Pool, policy: Policy
) -> None:
    """Gaps that open and close under a real daemon, one of them while its channel refuses."""
    channels = {
        f"channels.{name}": {"type": "webhook", "url": told.url(name), "pace": "1ms"} for name in ("ops", "team")
    }
    audit, _metrics = audit_with(pool, policy)
    told.refuse_with["team"] = 503
    async with start({"grace": {"default": "200ms"}, "deliveries": {"first_retry": "1s"}}, channels) as daemon:
        await daemon.ready()
        users = [await shop.add_user(watched) for _ in range(2)]
        payments = [await shop.add_payment(watched, user, status="completed") for user in users]
        await told.until_told(payments)
        await shop.activate(watched, users[0], payment=payments[0])
        await told.until_told(payments[:1], word="RESOLVED")
        assert await audit.run_due() == NOTHING
        await again(watched)
        del told.refuse_with["team"]
        await told.until_told(payments[:1], word="RESOLVED", channel="team")
        with anyio.fail_after(30):
            while not await told_and_done(watched):
                await anyio.lowlevel.checkpoint()
        assert await audit.run_due() == NOTHING
    assert await told_of(watched) == []
