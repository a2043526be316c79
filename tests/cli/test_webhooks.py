"""`paidwatch webhooks`: what providers sent is shown as it is, and what failed is tried anew, on record."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.support.command import config, everything, watched
from tests.support.daemon import paidwatch
from tests.support.postgres import Database
from tests.support.shop import add_webhook
from tests.support.watched import told

__all__ = ["config", "told", "watched"]

BODY = b'{"customer": "mary@example.org"}'
STATES = {
    "received": "state = 'received'",
    "rejected": "state = 'rejected', signature = 'the signature is wrong', problem = 'the signature is wrong'",
    "duplicate": "state = 'duplicate', signature = 'valid', duplicate_of = 1",
    "due": "state = 'verified', forward_state = 'due', forward_at = now() + interval '5 minutes', forward_attempts = 2,"
    " last_error = 'the handler answered 503', last_code = '503'",
    "done": "state = 'verified', forward_state = 'done', forwarded_at = now(), forward_attempts = 1, last_code = '200'",
    "dead": "state = 'verified', forward_state = 'dead', forward_attempts = 7, last_code = '422',"
    " last_error = 'the handler answered 422'",
}


async def received(db: Database, *states: str) -> list[int]:
    """One webhook in each of these states."""
    numbers: list[int] = []
    for state in states:
        number = await db.fetchval(
            "INSERT INTO paidwatch.webhook (provider, body, headers, reference, status) VALUES ('nowpayments', $1,"
            " '[[\"x-nowpayments-sig\", \"abc\"]]', 'P' || $2, 'paid') RETURNING webhook_id",
            BODY,
            state,
        )
        await db.execute(f"UPDATE paidwatch.webhook SET {STATES[state]} WHERE webhook_id = $1", number)
        numbers.append(number)
    return numbers


async def asked(file: Path, *arguments: str, expect: int = 0) -> Any:
    return json.loads((await paidwatch("webhooks", *arguments, "--json", config=file, expect=expect)).stdout)


async def test_they_are_listed_filtered_and_shown_without_being_changed(watched: Database, config: Path) -> None:
    numbers = await received(watched, *STATES)
    await watched.execute(
        "INSERT INTO paidwatch.forward_attempt (webhook_id, took, result, code, error)"
        " VALUES ($1, '12 ms', 'refused', '422', 'the handler answered 422')",
        numbers[-1],
    )
    before = await everything(watched)
    found = await asked(config)
    assert [it["webhook_id"] for it in found["webhooks"]] == numbers[::-1]
    assert found["count"] == len(STATES)
    for options, expected in (
        (("--state", "verified", "--forward", "dead"), [numbers[5]]),
        (("--provider", "nowpayments", "--reference", "Pdue"), [numbers[3]]),
    ):
        assert [it["webhook_id"] for it in (await asked(config, "list", *options))["webhooks"]] == expected
    text = (await paidwatch("webhooks", config=config)).stdout
    assert "the handler answered 422" in text
    assert "the signature is wrong" in text

    shown = await asked(config, "show", str(numbers[5]))
    assert (shown["forward_state"], shown["requests"][0]["code"]) == ("dead", "422")
    assert shown["body_sha256"] == hashlib.sha256(BODY).hexdigest()
    assert "body_base64" not in shown, "it may hold personal data"
    assert shown["headers"] == [["x-nowpayments-sig", "abc"]]
    text = (await paidwatch("webhooks", "show", str(numbers[5]), "--body", config=config)).stdout
    assert "mary" in text
    assert "refused" in text
    assert await everything(watched) == before


async def test_dead_and_rejected_ones_are_replayed_all_or_none_and_on_record(watched: Database, config: Path) -> None:
    numbers = await received(watched, *STATES)
    _received, rejected, duplicate, _due, done, dead = numbers
    for number, why in (
        (duplicate, "a duplicate"),
        (done, "taken by the application"),
    ):
        refused = await paidwatch("webhooks", "replay", str(dead), str(number), config=config, expect=1)
        assert why in refused.stderr
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.webhook WHERE replayed_by IS NOT NULL") == 0

    told = await asked(config, "replay", str(dead), str(rejected), "--by", "ann")
    assert told == {"replayed": [rejected, dead], "count": 2}
    rows = await watched.fetch(
        "SELECT state, forward_state, forward_attempts, replayed_by FROM paidwatch.webhook"
        " WHERE replayed_by IS NOT NULL ORDER BY webhook_id"
    )
    assert [tuple(row) for row in rows] == [("received", "none", 0, "ann"), ("verified", "due", 0, "ann")]
    audit = await watched.fetch("SELECT actor, act FROM paidwatch.audit")
    assert [tuple(row) for row in audit] == [("ann", "webhook_replay")]

    assert (await asked(config, "replay", str(done), "--again"))["replayed"] == [done]


async def test_none_that_came_through_paidwatch_is_told_from_none_at_all(watched: Database, config: Path) -> None:
    assert (await paidwatch("webhooks", "list", config=config)).stdout == "there is no webhook\n"
    await add_webhook(watched, payment="np-1")
    came = "no webhook came through paidwatch; what the application logged itself: paidwatch user ID"
    assert came in " ".join((await paidwatch("webhooks", config=config)).stdout.split())
    assert await asked(config) == {"webhooks": [], "count": 0}
    await received(watched, "done")
    assert "no such webhook" in (await paidwatch("webhooks", "list", "--state", "rejected", config=config)).stdout
    assert "came through paidwatch" not in (await paidwatch("webhooks", config=config)).stdout


async def test_a_wrong_command_line_says_so(watched: Database, config: Path) -> None:
    await paidwatch("webhooks", "replay", "1", "--dead", config=config, expect=64)
    refused = await paidwatch("webhooks", "show", "7", config=config, expect=1)
    assert "there is no webhook 7" in refused.stderr
