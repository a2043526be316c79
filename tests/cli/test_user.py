"""`paidwatch user ID`: one person's whole story, in order, with a verdict for each payment."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.command import age, config, watched, write_watch, written
from tests.support.daemon import paidwatch
from tests.support.hands import hands_on
from tests.support.postgres import Database, Server, on_shapes
from tests.support.shop import activate, add_event, add_payment, add_user, add_webhook, complete
from tests.support.sink import Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]


async def learn(config: Path, user: Any, *, expect: int) -> dict[str, Any]:
    done = await paidwatch("user", str(user), "--json", config=config, expect=expect)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@on_shapes("X", thorough="FL")
async def test_the_whole_story_in_order(watched: Database, start: Start, told: Sink, shape: str) -> None:
    async with start() as daemon:
        await daemon.ready()
        user = await add_user(watched, email="canary.customer@example.org")
        payment = await add_payment(watched, user, reference="np-777")
        if shape != "X":
            await add_webhook(watched, payment="np-777", status="failed", error="KeyError: plan")
        await complete(watched, payment)
        await told.until_told([payment])
        answer = await learn(daemon.config, user, expect=1)
        [bought] = answer["payments"]
        assert (bought["verdict"], bought["kind"], bought["followed"]) == ("gap", "paid_not_active", True)
        assert (bought["payment_id"], bought["amount"], answer["gaps"]) == (payment, "14.99", 1)
        await activate(watched, user, payment=payment)
        await told.until_told([payment], word="RESOLVED")
        await daemon.closed(watched, payment, "activated")
        await daemon.log("delivery.sent", count=2)
        answer = await learn(daemon.config, user, expect=0)
        plain = await paidwatch("user", str(user), config=daemon.config)
    assert answer["user"]["label"] == "canary.customer@example.org"
    assert [one["verdict"] for one in answer["payments"]] == ["settled"]
    moments = [(one["what"], one["word"]) for one in answer["timeline"]]
    expected = [
        ("payment", "created"),
        ("payment", "paid"),
        ("watch", "noticed"),
        ("alert", "opened"),
        ("delivery", "sent"),
        ("alert", "resolved"),
        ("delivery", "sent"),
    ]
    assert in_this_order(expected, moments), moments
    times = [datetime.fromisoformat(one["at"]) for one in answer["timeline"]]
    assert times == sorted(times)
    if shape != "X":
        assert ("webhook", "failed") in moments
        assert ("event", "activated") in moments
        assert any("KeyError: plan" in one["said"] for one in answer["timeline"])
    assert "nothing is owed" in plain.stdout
    assert "not-a-hash" not in plain.stdout + json.dumps(answer)


def in_this_order(wanted: list[tuple[str, str]], found: list[tuple[str, str]]) -> bool:
    rest = iter(found)
    return all(any(one == other for other in rest) for one in wanted)


@on_shapes("F", thorough="X")
async def test_the_story_of_an_undo_in_the_order_of_its_causes(watched: Database, config: Path, shape: str) -> None:
    async with hands_on(config) as hands:
        person, payment, number = await hands.granted(watched)
        await write_watch(
            watched, outcome="'fixed'", noticed_at="now() - interval '1 minute'", closed_at="now()", settled_at="now()"
        )
        await watched.execute(
            "INSERT INTO paidwatch.alert (kind, payment_id, user_id, cause, delay, notes, state, outcome, opened_at,"
            " resolved_at) SELECT 'paid_not_active', w.payment_id, w.user_id, 'no trace', 'it was silenced by nu',"
            " '{Activated by paidwatch (cli:ann).}', 'resolved', 'fixed', w.noticed_at, w.closed_at"
            " FROM paidwatch.watch w"
        )
        # As if one transaction had claimed, granted, closed and resolved.
        await watched.execute("UPDATE paidwatch.activation SET claimed_at = done_at")
        await watched.execute(
            "UPDATE paidwatch.watch SET settled_at = a.done_at, closed_at = a.done_at FROM paidwatch.activation a"
        )
        await watched.execute("UPDATE paidwatch.alert SET resolved_at = a.done_at FROM paidwatch.activation a")
        story = [line for line in (await learn(config, person, expect=0))["timeline"] if line["what"] != "payment"]
        events = [("event", "activated")] if shape != "X" else []
        assert [(line["what"], line["word"]) for line in story] == [
            ("watch", "noticed"),
            ("alert", "opened"),
            ("activation", "claimed"),
            *events,
            ("activation", "done"),
            ("watch", "activated"),
            ("watch", "closed"),
            ("alert", "resolved"),
        ]
        before = {(line["what"], line["word"]): line["said"] for line in story}
        assert before["alert", "opened"] == "paid_not_active: no trace"
        assert before["alert", "resolved"] == "fixed Activated by paidwatch (cli:ann)."
        assert (await paidwatch("user", str(person), config=config)).stdout.endswith("nothing is owed\n")
        await hands.undo(number)
    row = await watched.fetchrow("SELECT outcome, notes FROM paidwatch.alert")
    assert row is not None
    assert (row["outcome"], row["notes"][1]) == ("ended", f"Activation {number} was undone by ann: ticket 18")
    story = (await learn(config, person, expect=0))["timeline"]
    assert [line["said"] for line in story if line["what"] == "alert"] == [
        before["alert", "opened"],
        before["alert", "resolved"],
    ]
    assert (story[-1]["what"], story[-1]["word"], story[-1]["said"]) == (
        "activation",
        "undone",
        "by cli:ann: ticket 18",
    )
    said = (await paidwatch("user", str(person), config=config)).stdout
    assert said.endswith(f"nothing is owed: activation {number} was undone by ann\n")
    # Money that came later is not what was taken back.
    await complete(watched, await add_payment(watched, person))
    await watched.execute("UPDATE paidwatch.inbox SET at = at + interval '1 second'")
    patient = written(config.parent, watched, {"grace": {"default": "10m"}})
    said = (await paidwatch("user", str(person), config=patient)).stdout
    assert said.endswith("nothing is owed\n")
    assert str(payment) in said


@on_shapes("FM", thorough="LX")
async def test_what_was_noted_and_not_read_counts(watched: Database, config: Path) -> None:
    user = await add_user(watched)
    payment = await add_payment(watched, user)
    assert [one["verdict"] for one in (await learn(config, user, expect=0))["payments"]] == ["not_paid"]
    await complete(watched, payment)
    patient = written(config.parent, watched, {"grace": {"default": "10m"}})
    assert [one["verdict"] for one in (await learn(patient, user, expect=0))["payments"]] == ["waiting"]
    await age(watched)
    assert [one["verdict"] for one in (await learn(patient, user, expect=1))["payments"]] == ["gap"]


async def test_history_and_what_was_dismissed_is_no_gap(watched: Database, config: Path) -> None:
    user = await add_user(watched)
    old = datetime.now(UTC) - timedelta(days=400)
    await add_payment(watched, user, plan="vip_elite", status="completed", created_at=old, completed_at=old)
    await watched.execute("DELETE FROM paidwatch.inbox")
    answer = await learn(config, user, expect=0)
    assert [(one["verdict"], one["followed"]) for one in answer["payments"]] == [("gap", False)]
    await complete(watched, await add_payment(watched, user))
    await age(watched)
    assert (await learn(config, user, expect=1))["gaps"] == 1
    await watched.execute("DELETE FROM paidwatch.inbox")
    await write_watch(watched, of="settled_at > now() - interval '2 days'", outcome="'dismissed'", closed_at="now()")
    assert (await learn(config, user, expect=0))["gaps"] == 0
    done = await paidwatch("user", str(user), config=config)
    assert "(dismissed)" in done.stdout
    assert "(history, not followed)" in done.stdout


@on_shapes("X", thorough="F")
async def test_the_address_is_a_name_for_the_user(watched: Database, config: Path) -> None:
    user = await add_user(watched, email="somebody@example.org")
    await add_user(watched, email="somebody.else@example.org")
    done = await paidwatch("user", "somebody@example.org", config=config)
    assert done.stdout.startswith(f"user {user}\n")


@on_shapes("X", thorough="F")
async def test_nobody(watched: Database, config: Path) -> None:
    await add_user(watched)
    for nobody in (
        "999999",
        "zz",
        "99999999999999999999",
        "nobody@example.org",
        "5d8f7a0e-0000-4000-8000-000000000000",
    ):
        done = await paidwatch("user", nobody, config=config, expect=3)
        assert done.stdout == ""
        assert nobody in done.stderr


async def test_hostile_text_is_shown_and_not_obeyed(watched: Database, config: Path) -> None:
    user = await add_user(watched, email="a\x1b[2J@example.org")
    await add_event(watched, user, "activated", {"reason": "\x1b]0;owned\x07 [red]x[/red]"})
    done = await paidwatch("user", str(user), config=config)
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert "[red]x[/red]" in done.stdout


async def test_the_database_cannot_be_asked(watched: Database, server: Server, tmp_path: Path) -> None:
    config = written(tmp_path, watched, dsn=server.dsn("there_is_none"))
    done = await paidwatch("user", "1", config=config, expect=2)
    assert done.stdout == ""
    assert "→" in done.stderr
