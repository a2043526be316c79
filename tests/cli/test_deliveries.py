"""`paidwatch deliveries`: the outbox is shown as it is, dead letters are tried anew, and every act is on record."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import config, everything, watched, written
from tests.support.daemon import paidwatch, running
from tests.support.postgres import Database, Server
from tests.support.sink import Sink
from tests.support.watched import told

__all__ = ["config", "told", "watched"]

STATES = {
    "due": "due_at = now() + interval '10 minutes', attempts = 2, trying_since = now(), last_error = 'answered 503'",
    "held": "due_at = now(), waits_for = 'held', last_error = 'answered 404'",
    "dead": "dead_at = now(), attempts = 9, last_error = 'answered 500'",
    "sent": 'told_revision = 1, told_at = now(), reference = \'{"message_id": "77"}\'',
}


async def letters(db: Database, *states: str, channel: str = "ops") -> list[int]:
    """One delivery in each of these states."""
    numbers: list[int] = []
    for state in states:
        number = await db.fetchval(
            "WITH told AS (INSERT INTO paidwatch.alert (kind, cause) VALUES ('paid_not_active', 'no webhook')"
            " RETURNING alert_id) INSERT INTO paidwatch.delivery (alert_id, channel) SELECT alert_id, $1 FROM told"
            " RETURNING delivery_id",
            channel,
        )
        await db.execute(f"UPDATE paidwatch.delivery SET {STATES[state]} WHERE delivery_id = $1", number)
        await db.execute(
            "INSERT INTO paidwatch.attempt (delivery_id, took, revision, word, result, code, size, error)"
            " VALUES ($1, '12 ms', 1, 'NEW', $2, '500', 321, $3)",
            number,
            "sent" if state == "sent" else "transient",
            None if state == "sent" else "the receiver answered 500",
        )
        numbers.append(number)
    return numbers


async def asked(file: Path, *arguments: str, expect: int = 0) -> Any:
    return json.loads((await paidwatch("deliveries", *arguments, "--json", config=file, expect=expect)).stdout)


async def test_each_state_is_listed_and_can_be_asked_for(watched: Database, config: Path) -> None:
    numbers = await letters(watched, *STATES)
    found = await asked(config, "list")
    assert found["count"] == 4
    assert [(it["delivery_id"], it["state"]) for it in found["deliveries"]] == list(zip(numbers, STATES, strict=True))[
        ::-1
    ]
    for number, state in zip(numbers, STATES, strict=True):
        assert [it["delivery_id"] for it in (await asked(config, "--state", state))["deliveries"]] == [number]
    text = (await paidwatch("deliveries", config=config)).stdout
    assert [line.split()[4] for line in text.splitlines()[1:]] == [*STATES][::-1]
    assert "answered 500" in text


async def test_one_channel_alone_is_listed(watched: Database, config: Path) -> None:
    await letters(watched, "dead", "sent")
    [number] = await letters(watched, "dead", channel="team")
    assert [it["delivery_id"] for it in (await asked(config, "list", "--channel", "team"))["deliveries"]] == [number]
    assert (await asked(config, "list", "--channel", "nobody"))["count"] == 0


async def test_one_delivery_is_shown_with_every_request(watched: Database, config: Path) -> None:
    [number] = await letters(watched, "dead")
    found = await asked(config, "show", str(number))
    assert (found["state"], found["channel"], found["last_error"]) == ("dead", "ops", "answered 500")
    assert [(it["result"], it["code"], it["size"], it["word"]) for it in found["requests"]] == [
        ("transient", "500", 321, "NEW")
    ]
    text = (await paidwatch("deliveries", "show", str(number), config=config)).stdout
    assert "given up" in text
    assert "the receiver answered 500" in text


async def test_looking_writes_nothing(watched: Database, config: Path) -> None:
    numbers = await letters(watched, *STATES)
    before = await everything(watched)
    await asked(config, "list")
    for number in numbers:
        await asked(config, "show", str(number))
    assert await everything(watched) == before


async def test_a_waiting_message_is_tried_now(watched: Database, config: Path) -> None:
    [number] = await letters(watched, "due")
    await asked(config, "retry", str(number), "--by", "somebody")
    assert await watched.fetchval("SELECT due_at < now() AND not_before IS NULL FROM paidwatch.delivery")
    [entry] = await watched.fetch("SELECT actor, act, detail::text FROM paidwatch.audit")
    assert (entry["actor"], entry["act"], json.loads(entry["detail"])) == (
        "somebody",
        "delivery_retry",
        {"deliveries": [number]},
    )


@pytest.mark.parametrize(("down", "stands"), [(True, False), (False, True)])
async def test_a_retry_asks_a_broken_channel_and_respects_a_wish_to_wait(
    watched: Database, config: Path, down: bool, stands: bool
) -> None:
    [number] = await letters(watched, "held")
    await watched.execute(
        "INSERT INTO paidwatch.channel (name, not_before, down_since)"
        " VALUES ('ops', now() + interval '1 hour', CASE WHEN $1 THEN now() END)",
        down,
    )
    await asked(config, "retry", str(number))
    assert await watched.fetchval("SELECT not_before IS NOT NULL FROM paidwatch.channel") is stands


@pytest.mark.parametrize("state", ["dead", "sent"])
async def test_a_retry_of_what_does_not_wait_is_refused(watched: Database, config: Path, state: str) -> None:
    [number] = await letters(watched, state)
    before = await everything(watched)
    done = await paidwatch("deliveries", "retry", str(number), config=config, expect=1)
    assert f"it is {state}" in done.stderr
    assert ("deliveries replay" in done.stderr) is (state == "dead")
    assert await everything(watched) == before


async def test_dead_letters_are_replayed_by_number(watched: Database, config: Path) -> None:
    first, second, other = await letters(watched, "dead", "dead", "dead")
    assert await asked(config, "replay", str(first), str(second)) == {"replayed": [first, second], "count": 2}
    due = await watched.fetch("SELECT delivery_id FROM paidwatch.delivery WHERE due_at <= now() ORDER BY 1")
    assert [row["delivery_id"] for row in due] == [first, second]
    assert [it["delivery_id"] for it in (await asked(config, "--state", "dead"))["deliveries"]] == [other]


async def test_a_number_that_is_no_dead_letter_changes_nothing(watched: Database, config: Path) -> None:
    dead, sent = await letters(watched, "dead", "sent")
    before = await everything(watched)
    done = await paidwatch("deliveries", "replay", str(dead), str(sent), "4711", config=config, expect=1)
    assert f"no dead letter: {sent}, 4711" in done.stderr
    after = await everything(watched)
    assert {name for name in after if after[name] != before[name]} <= {"paidwatch.audit_audit_id_seq"}


async def test_all_dead_letters_of_a_channel_are_replayed(watched: Database, config: Path) -> None:
    mine = await letters(watched, "dead", "sent", "dead")
    other = await letters(watched, "dead", channel="team")
    assert (await asked(config, "replay", "--all-dead", "--channel", "ops"))["replayed"] == [mine[0], mine[2]]
    assert (await asked(config, "replay", "--all-dead"))["replayed"] == other
    assert (await asked(config, "replay", "--all-dead"))["replayed"] == []


async def test_the_running_daemon_sends_a_replayed_letter_at_once(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    file = written(tmp_path, watched, {"channels.ops": {"type": "webhook", "url": told.url("ops"), "pace": "1ms"}})
    [number] = await letters(watched, "dead")
    async with running(file) as daemon:
        await daemon.ready()
        await paidwatch("deliveries", "replay", str(number), config=file)
        await told.until(lambda: len(told.told) == 1)
    assert (await asked(file, "show", str(number)))["state"] == "sent"


async def test_the_try_that_was_taken_counts_and_the_next_message_begins_anew(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    ops = {"type": "webhook", "url": told.url("ops"), "pace": "1ms"}
    quick = {"channels.ops": ops, "deliveries": {"first_retry": "1ms", "max_retry": "2ms"}}
    file = written(tmp_path, watched, quick)
    [number] = await letters(watched, "dead")
    told.refuse_with["ops"] = 503
    async with running(file) as daemon:
        await daemon.ready()
        await paidwatch("deliveries", "replay", str(number), config=file)
        await told.until(lambda: told.refused >= 2)
        del told.refuse_with["ops"]
        await daemon.log("delivery.sent")
        [first] = (await asked(file, "--state", "sent"))["deliveries"]
        assert first["attempts"] == told.refused + 1
        await watched.execute("UPDATE paidwatch.alert SET revision = revision + 1")
        await watched.execute("UPDATE paidwatch.delivery SET due_at = now() + interval '1 hour'")
        assert (await asked(file, "list"))["deliveries"][0]["attempts"] == 0, "nothing was tried for this one"
        await paidwatch("deliveries", "retry", str(number), config=file)
        await daemon.log("delivery.sent", count=2)
        assert [it["attempts"] for it in (await asked(file, "--state", "sent"))["deliveries"]] == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["replay", "1", "--all-dead"],
        ["show", "x"],
        ["show"],
        ["retry", "0"],
        ["list", "--state", "gone"],
        ["--json", "show", "1"],
        ["list", "--limit", "0"],
    ],
)
async def test_usage_errors(config: Path, arguments: list[str]) -> None:
    await paidwatch("deliveries", *arguments, config=config, expect=64)


@pytest.mark.parametrize("act", ["show", "retry"])
async def test_what_is_not_there_is_refused(config: Path, act: str) -> None:
    done = await paidwatch("deliveries", act, "4711", config=config, expect=1)
    assert "no delivery 4711" in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["show", "1"], ["retry", "1"], ["replay", "--all-dead"]])
async def test_the_database_cannot_be_asked(
    watched: Database, server: Server, tmp_path: Path, arguments: list[str]
) -> None:
    file = written(tmp_path, watched, dsn=server.dsn("there_is_none"))
    done = await paidwatch("deliveries", *arguments, "--json", config=file, expect=2)
    assert done.stdout == ""
