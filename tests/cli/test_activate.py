"""`paidwatch activate`: the machine's guards and transaction, on a person's word; a refusal leaves nothing behind."""

import getpass
import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.admin import TOKEN, Fault, admin
from tests.support.command import age, config, everything, watched, written
from tests.support.daemon import ENVIRONMENT, Sections, paidwatch
from tests.support.hands import command
from tests.support.postgres import Database, Server, on_shapes
from tests.support.shop import MONTH, add_event, add_payment, add_user, complete, names, now, read, refund, update
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]
SHAPES = on_shapes("LX", thorough="FM")
USUAL = on_shapes("L", thorough="F")


async def missed(db: Database, **user: Any) -> tuple[Any, Any]:
    person = await add_user(db, **user)
    payment = await add_payment(db, person)
    await complete(db, payment)
    await update(db, "payments", payment, {"completed_at": await now(db) - timedelta(hours=1)})
    await age(db)
    return person, payment


@SHAPES
async def test_one_user_is_activated(watched: Database, config: Path, shape: str) -> None:
    user, payment = await missed(watched)
    bystander, _other = await missed(watched)
    before = await now(watched)
    done = await paidwatch("activate", str(user), "--yes", "--reason", "ticket 17", config=config)
    assert "Activated by paidwatch" in done.stdout
    words = names(watched).words
    row = await read(watched, "users", user)
    assert row["subscription_tier"] == words.get("professional", "professional")
    until = row["payment_due_date"]
    until = until if until.tzinfo else until.replace(tzinfo=before.tzinfo)
    assert timedelta(0) <= until - (before + MONTH) < timedelta(minutes=2)
    assert row["access_revoked_at"] is None
    if shape in {"F", "L"}:
        assert row["subscription_status"] == "active"
        assert row["plan_id"] == "professional"
        assert row["subscription_renewal_date"] == row["current_period_end"] == row["payment_due_date"]
    if shape != "X":
        [event] = await watched.fetch("SELECT * FROM public.subscription_events")
        data = event["event_data"] if isinstance(event["event_data"], dict) else json.loads(event["event_data"])
        assert (event["user_id"], event["event_type"], data["payment_id"]) == (user, "activated", str(payment))
    [entry] = await watched.fetch("SELECT *, guards::text AS asked FROM paidwatch.activation")
    assert (entry["state"], entry["actor"], entry["reason"]) == ("done", f"cli:{getpass.getuser()}", "ticket 17")
    assert len(json.loads(entry["asked"])) == 11
    [audit] = await watched.fetch("SELECT * FROM paidwatch.audit")
    assert (audit["actor"], audit["act"]) == (entry["actor"], "activate")
    assert (await read(watched, "users", bystander))["subscription_tier"] == words.get("free", "free")
    await paidwatch("user", str(user), config=config, expect=0)


@SHAPES
async def test_a_dry_run_writes_nothing_and_shows_before_and_after(watched: Database, config: Path, shape: str) -> None:
    user, _payment = await missed(watched)
    before = await everything(watched)
    assert any(before.values())
    done = await paidwatch("activate", str(user), "--dry-run", config=config)
    assert await everything(watched) == before
    assert "nothing was written" in done.stdout
    tier, words = {"X": "Level"}.get(shape, "subscription_tier"), names(watched).words
    line = next(line for line in done.stdout.splitlines() if line.startswith(tier))
    assert line.split() == [tier, words.get("free", "free"), words.get("professional", "professional")]
    until = {"X": "PaidUntil"}.get(shape, "payment_due_date")
    assert next(line for line in done.stdout.splitlines() if line.startswith(until)).split()[1] == "NULL"
    for guard in ("P1_final_status_and_grace_over", "P7_not_activated_yet", "P9_breaker"):
        assert guard in done.stdout
    assert ("subscription_events" in done.stdout) == (shape != "X")


@USUAL
async def test_the_daemon_tells_at_once_what_was_fixed_by_hand(watched: Database, start: Start, told: Sink) -> None:
    async with start() as daemon:
        await daemon.ready()
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        await told.until_told([payment])
        await paidwatch("activate", str(user), "--yes", config=daemon.config)
        await told.until_told([payment], word="FIXED")
    row = await watched.fetchrow(
        "SELECT w.state, w.outcome, a.state AS alert, a.outcome AS ending FROM paidwatch.watch w"
        " JOIN paidwatch.alert a ON a.payment_id = w.payment_id"
    )
    assert row is not None
    assert tuple(row) == ("closed", "fixed", "resolved", "fixed")
    assert told.announced(words=("NEW", "STILL", "FIXED", "RESOLVED")).total() == 2


async def test_a_person_needs_no_mode_no_caps_and_no_second_witness(watched: Database, config: Path) -> None:
    user, _payment = await missed(watched)
    strict = written(
        config.parent, watched, {"activation": {"mode": "off", "max_per_day": 0, "require_corroboration": True}}
    )
    shown = (await paidwatch("activate", str(user), "--dry-run", config=strict)).stdout
    (witness,) = [line for line in shown.splitlines() if "P8_corroborated" in line]
    assert "not asked of a person" in witness, "nobody confirmed anything"
    done = await paidwatch("activate", str(user), "--yes", config=strict)
    assert "not asked of a person" in done.stdout


# Refusals


async def refused(db: Database, config: Path, *arguments: str, why: str) -> None:
    before = await everything(db)
    done = await paidwatch("activate", *arguments, config=config, expect=1)
    assert why in done.stderr, done.stderr
    assert await everything(db) == before


@USUAL
async def test_guards_refuse_by_name(watched: Database, config: Path) -> None:
    banned, _ = await missed(watched, active=False)
    admin, _ = await missed(watched, admin=True)
    acted, _ = await missed(watched)
    await add_event(watched, acted, "access_revoked")
    returned, back = await missed(watched)
    await refund(watched, back)
    vip, _ = await missed(watched, tier="vip_elite", status="inactive")
    cheap = await add_user(watched)
    an_hour_ago = await now(watched) - timedelta(hours=1)
    await add_payment(watched, cheap, amount=Decimal(3), status="completed", completed_at=an_hour_ago)
    fresh = await add_user(watched)
    await complete(watched, await add_payment(watched, fresh))
    patient = written(config.parent, watched, {"grace": {"default": "10m"}})
    for user, why in (
        (banned, "the user is disabled (P6_user_may_be_granted)"),
        (admin, "the user is an administrator (P6_user_may_be_granted)"),
        (acted, "an administrator acted on the user after the payment (P6_user_may_be_granted)"),
        (vip, "(P3_newest_and_no_lower_tier)"),
        (cheap, "less was paid than the plan costs (P5_plan_and_price)"),
        (fresh, "the grace period is not over (P1_final_status_and_grace_over)"),
    ):
        await refused(watched, patient, str(user), "--yes", why=why)
    await refused(watched, patient, str(returned), "--payment", str(back), "--yes", why="(P2_not_reversed)")


@SHAPES
async def test_what_is_not_meant_is_refused(watched: Database, config: Path) -> None:
    user, payment = await missed(watched)
    _other, others = await missed(watched)
    vip = names(watched).words.get("vip_elite", "vip_elite")
    await refused(watched, config, str(user), "--plan", vip, "--yes", why=f"not {vip}")
    await refused(watched, config, str(user), "--payment", str(others), "--yes", why="is not a payment of user")
    await refused(watched, config, str(user), "--payment", "none/such", "--yes", why="there is no payment")
    await refused(watched, config, "nobody at all", "--yes", why="there is no user nobody at all")
    await refused(watched, config, str(await add_user(watched)), "--yes", why="has no paid payment")
    plan = names(watched).words.get("professional", "professional")
    await paidwatch("activate", str(user), "--payment", str(payment), "--plan", plan, "--yes", config=config)


@USUAL
async def test_one_payment_buys_one_period(watched: Database, config: Path) -> None:
    user, _payment = await missed(watched)
    await paidwatch("activate", str(user), "--yes", config=config)
    await refused(watched, config, str(user), "--yes", why="P7_not_activated_yet")
    await update(watched, "users", user, {"subscription_status": "inactive", "subscription_tier": "free"})
    await refused(watched, config, str(user), "--yes", why="this payment was activated before")


async def test_two_people_at_once_activate_once(watched: Database, config: Path) -> None:
    user, _payment = await missed(watched)
    codes: list[int] = []

    async def one() -> None:
        codes.append((await paidwatch("activate", str(user), "--yes", config=config, expect=None)).returncode)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    assert sorted(codes) == [0, 1, 1, 1]
    assert await watched.fetchval("SELECT count(*) FROM public.subscription_events") == 1
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.activation WHERE state = 'done'") == 1


async def test_what_the_machine_is_about_to_do_is_left_to_it(watched: Database, config: Path) -> None:
    user, payment = await missed(watched)
    await watched.execute(
        "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, version)"
        " VALUES ($1, $2, 'claimed', 'sql', 'auto', '0')",
        payment,
        user,
    )
    done = await paidwatch("activate", str(user), "--yes", config=config, expect=1)
    assert "auto is activating it" in done.stderr
    assert (await read(watched, "users", user))["subscription_tier"] == "free"


# By the application's own endpoint


@USUAL
async def test_by_http_the_application_is_asked_and_its_tables_are_read(
    watched: Database, config: Path, shape: str
) -> None:
    user, _payment = await missed(watched)
    former = await read(watched, "users", user)
    async with admin(watched) as application:
        http: Sections = {
            "activation": {"strategy": "http"},
            "activation.http": {"url": application.url, "retries": 0, "body": application.contract},
            "activation.http.headers": {"Authorization": f"Bearer {TOKEN}"},
        }
        asking = written(config.parent, watched, http)
        shown = await command(asking, "activate", str(user), "--dry-run")
        assert "the application's endpoint, by the strategy http" in shown.stdout
        assert application.asked == []
        done = await command(asking, "activate", str(user), "--yes", "--reason", "ticket 17")
        assert TOKEN not in done.output
        [asked] = application.asked
        assert asked["reason"].startswith("ticket 17 [paidwatch:")
        entry = await watched.fetchrow("SELECT * FROM paidwatch.activation")
        assert entry is not None
        assert (entry["state"], entry["strategy"], entry["calls"]) == ("done", "http", 1)
        # What the application wrote is taken back by paidwatch itself, in the columns that it knows.
        await command(asking, "undo", "1", "--yes")
        assert await read(watched, "users", user) == former
        # A refusal by the application is a failure, and final.
        other, _paid = await missed(watched)
        application.faults.append(Fault.GONE)
        failed = await command(asking, "activate", str(other), "--yes", expect=2)
        assert "404" in failed.stderr
        assert (await read(watched, "users", other))["subscription_tier"] == "free"


# Asking


async def test_a_script_has_to_say_yes(watched: Database, config: Path) -> None:
    user, _payment = await missed(watched)
    await refused(watched, config, str(user), why="no terminal")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
async def test_a_person_is_asked(watched: Database, config: Path, answer: str, code: int) -> None:
    user, _payment = await missed(watched)
    assert await anyio.to_thread.run_sync(answered, config, str(user), answer) == code
    tier = (await read(watched, "users", user))["subscription_tier"]
    assert tier == ("professional" if code == 0 else "free")


def answered(config: Path, user: str, answer: str) -> int:
    """Run the command with a keyboard, type the answer, and return the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paidwatch", "activate", user, "--config", str(config)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    os.close(theirs)
    try:
        os.write(ours, answer.encode())
        shown, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
    assert b"Write this?" in shown
    return process.returncode


# Failures


async def test_a_failure_in_the_middle_leaves_nothing(watched: Database, config: Path) -> None:
    await watched.execute("ALTER TABLE public.subscription_events ADD COLUMN tenant text NOT NULL")
    user, _payment = await missed(watched)
    before = await everything(watched)
    done = await paidwatch("activate", str(user), "--yes", config=config, expect=2)
    assert "tenant" in done.stderr
    after = await everything(watched)
    assert {name for name in after if after[name] != before[name]} <= {"paidwatch.activation_activation_id_seq"}


async def test_the_database_cannot_be_asked(watched: Database, server: Server, tmp_path: Path) -> None:
    config = written(tmp_path, watched, dsn=server.dsn("there_is_none"))
    done = await paidwatch("activate", "1", "--yes", config=config, expect=2)
    assert done.stdout == ""
