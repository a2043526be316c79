"""`paidwatch alerts`: what stands is shown masked, acts are guarded and audited, a running daemon follows at once."""

import getpass
import json
import os
import pty
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.command import config, everything, watched
from tests.support.daemon import ENVIRONMENT, paidwatch
from tests.support.postgres import Database, on_shapes
from tests.support.shop import activate, add_payment, add_user, complete
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]


async def gap(db: Database, *, user: Any = None, age: str = "10 minutes", **columns: object) -> tuple[int, Any, Any]:
    """Return an alert that `ops` was told of, its user and its payment."""
    user = user or await add_user(db, email="customer@example.org")
    payment = await add_payment(db, user)
    await db.execute(
        "INSERT INTO paidwatch.watch (payment_id, user_id, state, kind, source, paid_at, noticed_at, grace_until)"
        " VALUES ($1, $2, 'gap', 'paid_not_active', 'trigger', now(), now(), now())",
        payment,
        user,
    )
    values = {
        "kind": "paid_not_active",
        "payment_id": payment,
        "user_id": user,
        "plan_id": "professional",
        "method": "nowpayments",
        "amount": Decimal("14.99"),
        "currency": "USD",
        "cause": "no webhook was recorded for this payment",
    } | columns
    return await alert(db, age=age, **values), user, payment


async def alert(db: Database, *, age: str = "10 minutes", **values: object) -> int:
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    number: int = await db.fetchval(
        f"INSERT INTO paidwatch.alert ({', '.join(values)}, opened_at) VALUES ({places}, now() - interval '{age}')"
        " RETURNING alert_id",
        *values.values(),
    )
    await db.execute(
        "INSERT INTO paidwatch.delivery (alert_id, channel, told_revision, told_at, reference)"
        """ VALUES ($1, 'chat', 1, now(), '{"ts": "1"}'),"""
        """ ($1, 'mail', 1, now(), '{"message_id": "m", "subject": "s"}')""",
        number,
    )
    await db.execute("INSERT INTO paidwatch.alert_history (alert_id, what) VALUES ($1, 'opened')", number)
    return number


async def crowd(db: Database, size: int = 3) -> tuple[int, list[int]]:
    incident = await alert(db, kind="incident", kind_of="paid_not_active", method="nowpayments")
    return incident, [(await gap(db, incident_id=incident, user=await add_user(db)))[0] for _ in range(size)]


async def document(config: Path, *arguments: str) -> Any:
    return json.loads((await paidwatch("alerts", *arguments, "--json", config=config)).stdout)


async def state(db: Database, number: int) -> Any:
    return await db.fetchrow("SELECT *, now() AS now FROM paidwatch.alert WHERE alert_id = $1", number)


async def history(db: Database, number: int) -> list[tuple[str, str, str]]:
    rows = await db.fetch(
        "SELECT what, actor, note FROM paidwatch.alert_history WHERE alert_id = $1 ORDER BY history_id", number
    )
    return [tuple(row) for row in rows]


async def audits(db: Database) -> list[tuple[str, str]]:
    return [tuple(row) for row in await db.fetch("SELECT actor, act FROM paidwatch.audit ORDER BY audit_id")]


async def due(db: Database, number: int) -> set[str]:
    rows = await db.fetch("SELECT channel FROM paidwatch.delivery WHERE alert_id = $1 AND due_at IS NOT NULL", number)
    return {row["channel"] for row in rows}


async def refused(db: Database, config: Path, *arguments: str, why: str, expect: int = 1) -> None:
    before = await everything(db)
    done = await paidwatch("alerts", *arguments, config=config, expect=expect)
    assert why in done.stderr, done.stderr
    assert await everything(db) == before


# Showing


async def test_nothing_is_open(watched: Database, config: Path) -> None:
    assert (await paidwatch("alerts", config=config)).stdout == "no alert is open\n"
    assert await document(config) == await document(config, "list") == {"alerts": [], "count": 0}


@on_shapes("FX", thorough="LM")
async def test_the_list_shows_who_what_and_how_long_and_no_address(watched: Database, config: Path, shape: str) -> None:
    number, user, payment = await gap(watched)
    before = await everything(watched)
    done = await paidwatch("alerts", "list", config=config)
    head, line = done.stdout.splitlines()
    assert head.split() == ["ID", "STATE", "KIND", "ABOUT", "MONEY", "AGE", "CAUSE", "NOTE"]
    for part in (str(number), "open", f"user {user} c***@e***.org payment {payment}", "14.99 USD", "10 min"):
        assert part in line, line
    assert "\x1b" not in done.stdout
    found = await document(config)
    assert found["count"] == 1
    [one] = found["alerts"]
    assert (one["alert_id"], one["state"], one["user"], one["amount"]) == (number, "open", "c***@e***.org", "14.99")
    assert one["money"] == {"USD": "14.99"}
    assert 600 <= one["age_seconds"] < 700
    assert datetime.fromisoformat(one["opened_at"]).tzinfo
    for shown in (
        done.stdout,
        json.dumps(found),
        (await paidwatch("alerts", "show", str(number), config=config)).stdout,
    ):
        assert "customer@" not in shown
    assert await everything(watched) == before


async def test_on_a_terminal_it_is_a_table_and_no_color_is_respected(watched: Database, config: Path) -> None:
    await gap(watched)
    coloured = await on_a_terminal("alerts", "--config", str(config))
    assert "\x1b[" in coloured
    plain = await on_a_terminal("alerts", "--config", str(config), NO_COLOR="1")
    assert "─" in plain
    assert "\x1b[1;31m" in coloured
    assert "\x1b[1;31m" not in plain


async def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run a command whose standard output is a terminal of 160 columns; return what it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paidwatch", *arguments],
        stdout=theirs,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "160"} | environment,
    )
    os.close(theirs)

    def read() -> str:
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                part = b""
            if not part:
                return written.decode()
            written += part

    with anyio.fail_after(60):
        shown = await anyio.to_thread.run_sync(read)
        assert await anyio.to_thread.run_sync(process.wait) == 0
    os.close(ours)
    return shown


async def test_hostile_text_stays_text(watched: Database, config: Path) -> None:
    await gap(watched, cause="\x1b[31mred\nline [bold]x[/bold] a@b.example")
    done = await paidwatch("alerts", config=config)
    assert len(done.stdout.splitlines()) == 2
    assert "\x1b" not in done.stdout
    assert "[bold]x[/bold] a***@b***.example" in done.stdout


async def test_an_incident_stands_for_its_members(watched: Database, config: Path) -> None:
    incident, members = await crowd(watched)
    await watched.execute(
        "UPDATE paidwatch.alert SET state = 'resolved', resolved_at = now(), outcome = 'activated' WHERE alert_id = $1",
        members[0],
    )
    found = await document(config)
    assert [one["alert_id"] for one in found["alerts"]] == [incident]
    assert found["alerts"][0]["incident"]["open"] == 2
    assert found["alerts"][0]["incident"]["total"] == 3
    assert found["alerts"][0]["money"] == {"USD": "29.98"}
    line = (await paidwatch("alerts", config=config)).stdout.splitlines()[1]
    assert "2 of 3 open, paid_not_active by nowpayments" in line
    assert "29.98 USD" in line
    with_members = await document(config, "list", "--members")
    assert [one["alert_id"] for one in with_members["alerts"]] == [*reversed(members[1:]), incident]
    assert {one["incident_id"] for one in with_members["alerts"]} == {incident, None}


async def test_what_is_over_is_shown_when_asked_for(watched: Database, config: Path) -> None:
    old, _, _ = await gap(watched, state="resolved", outcome="fixed", resolved_at=datetime(2026, 1, 1).astimezone())
    assert (await document(config))["count"] == 0
    for group in ([], ["list"]):
        assert [one["alert_id"] for one in (await document(config, *group, "--all"))["alerts"]] == [old]
        assert (await document(config, *group, "--since", "1m"))["count"] == 0
        assert "there is no alert" in (await paidwatch("alerts", *group, "--since", "1m", config=config)).stdout
    await watched.execute("UPDATE paidwatch.alert SET resolved_at = now()")
    for group in ([], ["list"]):
        [one] = (await document(config, *group, "--since", "1m"))["alerts"]
        assert (one["state"], one["outcome"]) == ("resolved", "fixed")


async def test_an_option_of_the_list_stands_behind_it(watched: Database, config: Path) -> None:
    for option in (["--all"], ["--since", "1h"], ["--members"], ["--json"]):
        await refused(watched, config, *option, "list", why=f"{option[0]} goes behind list", expect=64)


@pytest.mark.parametrize("end", ["expired", "dismissed", "fixed"])
async def test_an_alert_ends_once(watched: Database, config: Path, end: str) -> None:
    number, _, _ = await gap(watched, state="resolved", outcome=end, resolved_at=datetime.now().astimezone())
    for what in ("resolved", end) if end != "fixed" else ("resolved",):
        await watched.execute("INSERT INTO paidwatch.alert_history (alert_id, what) VALUES ($1, $2)", number, what)
    one = await document(config, "show", str(number))
    assert [it["what"] for it in one["history"]] == ["opened", "resolved" if end == "fixed" else end]


async def test_what_the_provider_says_is_shown_with_the_alert(watched: Database, config: Path) -> None:
    number, _, payment = await gap(watched)
    assert (await document(config, "show", str(number)))["provider_answer"] is None
    await watched.execute("UPDATE payment_transactions SET transaction_id = 'n-1' WHERE id = $1", payment)
    story = await alert(watched, kind="orphan_webhook", method="nowpayments", reference="n-2")
    for reference in ("n-1", "n-2"):
        await watched.execute(
            "INSERT INTO paidwatch.answer (method, reference, provider, status, said, amount, currency, answered_at,"
            " problem, asked_at) VALUES ('nowpayments', $1, 'crypto', 'paid', E'finished\\x1b[31m', 14.99, 'USD',"
            " '2026-11-23 12:03 UTC', 'it did not answer in time', '2026-11-23 12:05 UTC')",
            reference,
        )
    for about in (number, story):
        lines = (await paidwatch("alerts", "show", str(about), config=config)).stdout.splitlines()
        at = next(place for place, line in enumerate(lines) if line.startswith("  provider "))
        said = [line[16:] for line in lines[at : at + 2]]
        assert said == [
            "the provider says: finished[31m (paid), 14.99 USD (asked 2026-11-23 12:03 UTC)",
            "the provider could not be asked: it did not answer in time (tried 2026-11-23 12:05 UTC)",
        ]
        answer = (await document(config, "show", str(about)))["provider_answer"]
        assert (answer["status"], answer["amount"], answer["said"]) == ("paid", "14.99", "finished[31m")
        assert answer["problem"] == "it did not answer in time"


async def test_one_alert_with_its_history_and_deliveries(watched: Database, config: Path) -> None:
    number, _user, payment = await gap(watched, revision=2)
    await watched.execute("UPDATE paidwatch.delivery SET told_revision = 2 WHERE channel = 'chat'")
    await watched.execute(
        "UPDATE paidwatch.delivery SET dead_at = now(), last_error = 'no such mailbox' WHERE channel = 'mail'"
    )
    await paidwatch("alerts", "ack", str(number), "--for", "2h", "--by", "ann", "--reason", "on it", config=config)
    shown = (await paidwatch("alerts", "show", str(number), config=config)).stdout
    for part in (
        "paid_not_active, acked",
        f"payment {payment}",
        "opened",
        "ann",
        "on it",
        "dead since",
        "no such mailbox",
    ):
        assert part in shown, shown
    one = await document(config, "show", str(number))
    assert [it["what"] for it in one["history"]] == ["opened", "acked"]
    assert {it["channel"]: it["up_to_date"] for it in one["deliveries"]} == {"chat": False, "mail": False}


async def test_unknown_numbers_are_refused(watched: Database, config: Path) -> None:
    for arguments in (
        ["show", "12"],
        ["ack", "12", "--for", "1h"],
        ["unack", "12"],
        ["dismiss", "12", "--reason", "x"],
    ):
        await refused(
            watched, config, *arguments, why="there is no alert 12\n  → See what is open: paidwatch alerts list"
        )
    await refused(watched, config, "silence", "end", "3", why="there is no silence 3")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ack", "1"],
        ["ack", "x", "--for", "1h"],
        ["ack", "0", "--for", "1h"],
        ["ack", str(2**63), "--for", "1h"],
        ["ack", "1", "--for", "soon"],
        ["dismiss", "1"],
        ["dismiss", "1", "--reason", " "],
        ["silence", "add", "--method", "card"],
        ["silence", "add", "--for", "1h"],
        ["silence", "add", "--for", "1h", "--kind", "nonsense"],
        ["silence", "add", "--for", "1h", "--method", "card", "--by", ""],
        ["--json", "list"],
        ["lst"],
    ],
)
async def test_usage_errors(watched: Database, config: Path, arguments: list[str]) -> None:
    await refused(watched, config, *arguments, why="Usage: paidwatch alerts", expect=64)


async def test_a_database_that_is_not_there_is_no_empty_list(watched: Database, config: Path) -> None:
    done = await paidwatch("alerts", "--dsn", "postgresql://nobody@127.0.0.1:1/none", config=config, expect=2)
    assert done.stdout == ""


# Acknowledging


async def test_an_ack_is_written_down_and_shown_quietly(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched, remind_at=datetime(2030, 1, 1).astimezone())
    done = await paidwatch("alerts", "ack", str(number), "--for", "2h", config=config)
    me = getpass.getuser()
    assert f"alert {number} is acknowledged by {me} until " in done.stdout
    row = await state(watched, number)
    assert (row["state"], row["acked_by"], row["remind_at"]) == ("acked", me, None)
    assert row["acked_until"] - row["acked_at"] == timedelta(hours=2)
    assert row["look_at"] <= row["now"]
    assert [(what, actor) for what, actor, _ in await history(watched, number)][1:] == [("acked", me)]
    assert await audits(watched) == [(f"cli:{me}", "ack")]
    assert await due(watched, number) == {"chat"}, "an e-mail cannot be changed, and nobody is to be told anew"
    told = await watched.fetchval("SELECT told_revision FROM paidwatch.delivery WHERE channel = 'mail'")
    assert told == row["revision"], "nothing is owed to the mailbox"
    assert "by " + me in (await paidwatch("alerts", config=config)).stdout


async def test_who_acts_is_who_logged_in(watched: Database, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, _, _ = await gap(watched)
    monkeypatch.setitem(ENVIRONMENT, "LOGNAME", "root")
    monkeypatch.setitem(ENVIRONMENT, "SUDO_USER", "ben")
    assert (await document(config, "ack", str(number), "--for", "1h"))["acked_by"] == "ben"
    assert (await document(config, "ack", str(number), "--for", "1h", "--by", "ann"))["acked_by"] == "ann"
    assert (await state(watched, number))["acked_by"] == "ann"
    monkeypatch.delitem(ENVIRONMENT, "SUDO_USER")
    assert (await document(config, "ack", str(number), "--for", "1h"))["acked_by"] == "root"


async def test_an_ack_is_taken_back(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched)
    await refused(watched, config, "unack", str(number), why=f"alert {number} is not acknowledged")
    await paidwatch("alerts", "ack", str(number), "--for", "2h", config=config)
    await paidwatch("alerts", "unack", str(number), "--by", "ann", config=config)
    row = await state(watched, number)
    assert (row["state"], row["acked_until"]) == ("open", None)
    assert [what for what, _, _ in await history(watched, number)] == ["opened", "acked", "unacked"]
    assert [act for _, act in await audits(watched)] == ["ack", "unack"]


async def test_what_is_over_cannot_be_changed(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched, state="resolved", outcome="fixed", resolved_at=datetime(2026, 1, 1).astimezone())
    for arguments in (["ack", "--for", "1h"], ["unack"], ["dismiss", "--reason", "x"]):
        await refused(
            watched, config, arguments[0], str(number), *arguments[1:], why=f"alert {number} is over since 20"
        )


async def test_an_ack_has_an_end_within_reason(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched)
    await refused(watched, config, "ack", str(number), "--for", "91d", why="a time between 1s and 90d must be given")


async def test_a_test_needs_nobody(watched: Database, config: Path) -> None:
    number = await alert(watched, kind="test")
    await refused(watched, config, "ack", str(number), "--for", "1h", why=f"alert {number} is a test")


# Dismissing


async def test_what_is_dismissed_is_closed_for_good_and_its_channels_hear_that(watched: Database, config: Path) -> None:
    number, _user, payment = await gap(watched)
    await paidwatch("alerts", "dismiss", str(number), "--reason", "paid twice", "--by", "ann", config=config)
    row = await state(watched, number)
    assert (row["state"], row["outcome"], row["revision"]) == ("resolved", "dismissed", 2)
    assert await due(watched, number) == {"chat", "mail"}
    assert ("dismissed", "ann", "paid twice") in await history(watched, number)
    assert await audits(watched) == [("cli:ann", "dismiss")]
    watch = await watched.fetchrow("SELECT state, outcome FROM paidwatch.watch WHERE payment_id = $1", payment)
    assert watch is not None
    assert tuple(watch) == ("closed", "dismissed")


async def test_an_acked_alert_can_be_dismissed(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched)
    await paidwatch("alerts", "ack", str(number), "--for", "2h", config=config)
    await paidwatch("alerts", "dismiss", str(number), "--reason", "paid twice", config=config)
    row = await state(watched, number)
    assert (row["state"], row["acked_until"]) == ("resolved", None)


async def test_an_alert_without_a_payment_can_be_dismissed(watched: Database, config: Path) -> None:
    number = await alert(watched, kind="channel_down", channel="chat")
    await paidwatch("alerts", "dismiss", str(number), "--reason", "not used any more", config=config)
    assert (await state(watched, number))["outcome"] == "dismissed"
    assert await due(watched, number) == {"chat", "mail"}


async def test_an_incident_is_dismissed_only_with_its_members(watched: Database, config: Path) -> None:
    incident, members = await crowd(watched)
    why = f"alert {incident} is an incident of 3 open gaps"
    await refused(watched, config, "dismiss", str(incident), "--reason", "a test", why=why)
    done = await document(config, "dismiss", str(incident), "--reason", "a test", "--members")
    assert done["alerts"] == 4
    for number in (incident, *members):
        assert (await state(watched, number))["outcome"] == "dismissed"
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.watch WHERE outcome = 'dismissed'") == 3
    assert await due(watched, incident) == {"chat", "mail"}


# Silences


async def test_a_silence_has_an_author_a_reason_and_an_end(watched: Database, config: Path) -> None:
    number, _, _ = await gap(watched)
    made = await document(
        config,
        "silence",
        "add",
        "--for",
        "4h",
        "--method",
        "NOWPayments",
        "--by",
        "ann",
        "--reason",
        "provider is down",
    )
    assert (made["author"], made["fitting"]) == ("ann", 1)
    assert (await state(watched, number))["look_at"] <= (await state(watched, number))["now"]
    listed = (await paidwatch("alerts", "silence", config=config)).stdout.splitlines()[1]
    for part in ("ann", "method NOWPayments", "provider is down", " UTC"):
        assert part in listed
    [one] = (await document(config, "silence", "list"))["silences"]
    span = datetime.fromisoformat(one["expires_at"]) - datetime.fromisoformat(one["created_at"])
    assert span == timedelta(hours=4)
    await paidwatch("alerts", "silence", "end", str(made["silence_id"]), "--by", "ben", config=config)
    await refused(watched, config, "silence", "end", str(made["silence_id"]), why="ended at")
    assert (await document(config, "silence"))["count"] == 0
    [one] = (await document(config, "silence", "list", "--all"))["silences"]
    assert (one["open"], one["ended_by"]) == (False, "ben")
    assert await audits(watched) == [("cli:ann", "silence"), ("cli:ben", "end_silence")]


@on_shapes("X", thorough="F")
async def test_a_silence_of_one_user(watched: Database, config: Path, shape: str) -> None:
    _number, user, _ = await gap(watched)
    by_mail = await document(config, "silence", "add", "--for", "1h", "--user", "customer@example.org")
    by_key = await document(config, "silence", "add", "--for", "1h", "--user", str(user))
    assert by_mail["fitting"] == by_key["fitting"] == 1
    assert (await document(config, "silence"))["silences"][0]["user_id"] == str(user)
    for nobody in ("999999", "nobody@example.org", "no-key"):
        await refused(
            watched, config, "silence", "add", "--for", "1h", "--user", nobody, why=f"there is no user {nobody}"
        )


async def test_a_silence_cannot_outlast_memory(watched: Database, config: Path) -> None:
    why = "a time between 1s and 90d must be given"
    await refused(watched, config, "silence", "add", "--for", "365d", "--method", "card", why=why)


# With a running daemon


async def opened(watched: Database, told: Sink) -> tuple[Any, Any, str]:
    user = await add_user(watched)
    payment = await add_payment(watched, user)
    await complete(watched, payment)
    await told.until_told([payment])
    number = await watched.fetchval("SELECT alert_id FROM paidwatch.alert WHERE payment_id = $1", payment)
    return user, payment, str(number)


async def test_the_daemon_tells_at_once_what_was_dismissed(watched: Database, start: Start, told: Sink) -> None:
    async with start() as daemon:
        await daemon.ready()
        user, payment, number = await opened(watched, told)
        await paidwatch("alerts", "dismiss", number, "--reason", "paid twice", config=daemon.config)
        await told.until_told([payment], word="RESOLVED")
        await activate(watched, user)
    assert told.announced(words=("NEW", "STILL", "FIXED", "RESOLVED")).total() == 2


async def test_the_end_of_an_ack_is_told_as_still(watched: Database, start: Start, told: Sink) -> None:
    async with start({"alerts": {"reminders": []}}) as daemon:
        await daemon.ready()
        _user, payment, number = await opened(watched, told)
        await paidwatch("alerts", "ack", number, "--for", "1s", "--by", "ann", config=daemon.config)
        await told.until_told([payment], word="STILL")
        await daemon.database(watched, "SELECT state = 'open' FROM paidwatch.alert")
    history = [
        row["what"] for row in await watched.fetch("SELECT what FROM paidwatch.alert_history ORDER BY history_id")
    ]
    assert history.index("acked") < history.index("ack_expired")


async def test_a_silence_ends_with_what_still_stands(watched: Database, start: Start, told: Sink) -> None:
    async with start() as daemon:
        await daemon.ready()
        made = await document(daemon.config, "silence", "add", "--for", "1h", "--method", "nowpayments")
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        await daemon.database(watched, "SELECT EXISTS (SELECT FROM paidwatch.alert WHERE silence_id IS NOT NULL)")
        assert told.told == []
        await paidwatch("alerts", "silence", "end", str(made["silence_id"]), config=daemon.config)
        await told.until_told([payment])
    [first] = told.told
    assert first.word == "NEW"
    assert "silenced by" in json.dumps(first.body)


async def test_an_escalation_reaches_its_channel(watched: Database, start: Start, told: Sink) -> None:
    boss = {"type": "webhook", "url": told.url("boss"), "pace": "1ms"}
    steps = {"[alerts.escalations]": {"after": "1s", "channels": ["boss"]}}
    async with start({"channels.boss": boss}, steps) as daemon:
        await daemon.ready()
        _user, payment, _number = await opened(watched, told)
        await told.until(lambda: any(it.channel == "boss" for it in told.told))
    assert [it.word for it in told.told if it.channel == "boss"] == ["ESCALATED"]
    assert told.payments("NEW", channel="ops") == {str(payment)}
