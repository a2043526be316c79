"""`paidwatch activations` and `paidwatch activation`: what was done can be explained, and stopped, by a person."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from paidwatch.core.guards import Guard
from tests.support.command import config, everything, watched
from tests.support.daemon import install
from tests.support.hands import Hands, command, hands_on, missed
from tests.support.postgres import Database
from tests.support.shop import add_event, add_payment, add_user, complete, read
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]


@pytest.fixture
async def hands(config: Path) -> AsyncIterator[Hands]:
    async with hands_on(config) as able:
        yield able


async def document(config: Path, *arguments: str, expect: int = 0) -> Any:
    return json.loads((await command(config, *arguments, "--json", expect=expect)).stdout)


async def test_an_activation_is_explained_whole(watched: Database, hands: Hands, config: Path) -> None:
    user, payment, number = await hands.granted(watched, email="customer@example.org")
    await hands.undo(number)
    again, _ended = await hands.activate(user, forced=frozenset({Guard.NOT_DONE}), reason="the customer was right")
    shadowed, paid = await missed(watched)
    await watched.execute(
        "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, version, after, was_right,"
        " comparison, compared_at) VALUES ($1, $2, 'shadow', 'sql', 'auto', '0',"
        """ '{"tier": "professional", "paid_until": "2026-12-24T10:00:00+00:00"}', true, 'as it happened', now())""",
        paid,
        shadowed,
    )
    # A narrow terminal and a pipe alike: one line each.
    listed = (await command(config, "activations")).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["3", "2", "1"]
    assert "professional until 2026-12-24 10:00 UTC" in listed[1]
    assert "would have been right" in listed[1]
    assert "forced P7_not_activated_yet" in listed[2]
    assert "undone by cli:ann" in listed[3]
    assert (await document(config, "activations", "list", "--state", "undone"))["count"] == 1
    assert (await document(config, "activations", "list", "--user", str(user)))["count"] == 2
    assert (await document(config, "activations", "list", "--since", "1h"))["count"] == 3

    shown = (await command(config, "activations", "show", str(again))).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert any(line.startswith("subscription_tier free professional") for line in lines)
    assert "P7_not_activated_yet yes overridden by a person" in lines
    assert len([line for line in lines if line.startswith("P")]) == len(Guard)
    assert "customer@" not in shown
    assert f"paidwatch undo {again}" in shown
    one = await document(config, "activations", "show", str(number))
    assert (one["state"], one["actor"], one["strategy"], one["undone_why"]) == ("undone", "cli:ann", "sql", "ticket 18")
    assert one["before"]["subscription_tier"] == "free"
    assert one["after"]["subscription_tier"] == "professional"
    assert [line["act"] for line in one["audit"]] == ["activate", "undo"]
    assert datetime.fromisoformat(one["paid_until"]).tzinfo is not None
    assert str(payment) == one["payment_id"]
    missing = await command(config, "activations", "show", "99", expect=1)
    assert "there is no activation 99" in missing.stderr


async def test_a_person_overrides_only_what_is_named_and_says_why(watched: Database, config: Path) -> None:
    user, _payment = await missed(watched, active=False)
    await add_event(watched, user, "access_revoked")
    before = await everything(watched)
    for arguments, code, why in (
        (("--force", "P6"), 64, "--force needs --reason"),
        (("--force", "P10", "--reason", "r"), 64, "P10 is no guard that a person can override"),
        (("--force", "P9_mode", "--reason", "r"), 64, "P9_mode is no guard"),
        (("--force", "P7,P3", "--reason", "r"), 1, "P6_user_may_be_granted"),
    ):
        done = await command(config, "activate", str(user), "--yes", *arguments, expect=code)
        assert why in done.stderr, (arguments, done.stderr)
    assert await everything(watched) == before
    done = await command(config, "activate", str(user), "--yes", expect=1)
    assert "--force P6 --reason" in done.stderr
    done = await command(config, "activate", str(user), "--yes", "--force", "p6", "--reason", "known")
    assert "overridden by a person" in done.stdout
    assert (await read(watched, "users", user))["subscription_tier"] == "professional"
    kept = await watched.fetchrow(
        "SELECT a.forced, a.reason, d.detail::jsonb ->> 'forced' AS audited, d.detail::jsonb ->> 'reason' AS why"
        " FROM paidwatch.activation a JOIN paidwatch.audit d USING (payment_id)"
        " WHERE a.state = 'done' AND d.act = 'activate'"
    )
    assert kept is not None
    assert tuple(kept) == (["P6_user_may_be_granted"], "known", '["P6_user_may_be_granted"]', "known")


# The emergency stop


async def test_the_machine_is_paused_and_resumed_by_a_person(watched: Database, start: Start, told: Sink) -> None:
    quick = {
        "grace": {"default": "200ms"},
        "activation": {"mode": "auto", "require_corroboration": False},
    }
    async with start(quick) as daemon:
        await daemon.ready()
        await command(daemon.config, "activation", "pause", "--reason", "a deploy", "--by", "ann")
        await told.until(lambda: any(it.kind == "breaker" and it.word == "NEW" for it in told.told))
        again = await command(daemon.config, "activation", "pause", "--reason", "x", expect=1)
        assert "stopped already" in again.stderr
        assert "cli:ann: a deploy" in again.stderr
        payment = await add_payment(watched, await add_user(watched))
        await complete(watched, payment)
        await told.until_told([payment])
        assert await watched.fetchval("SELECT count(*) FROM paidwatch.activation WHERE state = 'done'") == 0
        status = await document(daemon.config, "activation")
        assert (status["mode"], status["breaker"]["open"], status["breaker"]["opened_by"]) == ("auto", True, "cli:ann")
        await command(daemon.config, "activation", "resume", "--by", "ben")
        await told.until_told([payment], word="FIXED")
        await told.until(lambda: any(it.kind == "breaker" and it.word == "RESOLVED" for it in told.told))
        shown = (await command(daemon.config, "activation", "status")).stdout
        assert "by cli:ben" in shown
        assert "1 of 5 this hour" in shown
        refused = await command(daemon.config, "activation", "resume", expect=1)
        assert "is not stopped" in refused.stderr


# What stays written


async def test_nobody_rewrites_what_was_done(watched: Database, hands: Hands, config: Path) -> None:
    """The audit and the history only grow for the role that runs the daemon; of the ledger it may not erase a row, nor
    change what was written and why. The two triggers hold for the owner too."""
    _user, _payment, number = await hands.granted(watched)
    await watched.execute("INSERT INTO paidwatch.alert (kind) VALUES ('test')")
    await watched.execute("INSERT INTO paidwatch.alert_history (alert_id, what) VALUES (1, 'opened')")
    role = "paidwatch_keeps"
    await watched.execute(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'its own password'")
    await install(watched, {"database": {"runtime_role": role}})
    own = await watched.connect(watched.dsn_of(role, "its own password"))
    tables = ("audit", "alert_history")
    forbidden = [
        f"{verb}paidwatch.{table}{rest}"
        for table in tables
        for verb, rest in (
            ("UPDATE ", " SET actor = 'nobody'"),
            ("DELETE FROM ", ""),
            ("TRUNCATE ", ""),
        )
    ]
    forbidden += [
        "DELETE FROM paidwatch.activation",
        "TRUNCATE paidwatch.activation CASCADE",
        *(
            f"UPDATE paidwatch.activation SET {change}"
            for change in (
                "before = '{}'",
                'after = after || \'{"subscription_tier": "vip_elite"}\'',
                "guards = '[]'",
                "actor = 'auto'",
                "forced = '{P1}'",
                "event_id = '7'",
                "state = 'failed'",
                "state = 'claimed'",
            )
        ),
    ]
    allowed: list[str] = []
    owner = await watched.connect()
    for statement in forbidden:
        for connection in (own, owner):
            if connection is owner and (
                "history" in statement
                or "FROM paidwatch.activation" in statement
                or "TRUNCATE paidwatch.activation" in statement
            ):
                continue
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                continue
            allowed.append(statement)
    await own.close()
    await owner.close()
    assert allowed == []
    # It can still be undone, once.
    await hands.undo(number)
    await watched.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
