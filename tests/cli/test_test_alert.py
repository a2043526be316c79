"""A test message goes through the real outbox, there and back, and leaves everything else alone."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paidwatch.ops.demo_chat import Chat, Shown
from tests.support.daemon import Sections, configuration, installed, paidwatch, running
from tests.support.postgres import Database, Server
from tests.support.sink import Sink, sink


@pytest.fixture
async def watched(server: Server, shape: str) -> AsyncIterator[Database]:
    fresh = await installed(server, shape)
    yield fresh
    await server.drop(fresh)


@pytest.fixture
async def told() -> AsyncIterator[Sink]:
    async with sink() as receiver:
        yield receiver


def written(folder: Path, database: Database, *extra: Sections) -> Path:
    file = folder / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(database, None, *extra))
    return file


def webhook(url: str) -> dict[str, object]:
    return {"type": "webhook", "url": url, "pace": "1ms"}


async def messages(file: Path, *arguments: str, expect: int = 0) -> list[dict[str, Any]]:
    done = await paidwatch("test-alert", "--json", *arguments, config=file, expect=expect)
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["ok"] is (expect == 0)
    found: list[dict[str, Any]] = said["messages"]
    return found


async def left(database: Database) -> int:
    """Return how many deliveries of tests are waiting, leased, given up or of an open story."""
    count = await database.fetchval(
        "SELECT count(*) FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id) WHERE a.kind = 'test'"
        " AND (d.due_at IS NOT NULL OR d.lease IS NOT NULL OR d.dead_at IS NOT NULL OR a.state <> 'resolved')"
    )
    return int(count)


async def test_every_channel_takes_it_there_and_back(watched: Database, tmp_path: Path) -> None:
    def ignored(_shown: Shown) -> None: ...

    async with Chat(ignored) as chat:
        kinds = {f"channels.{kind}": {"type": kind, "url": chat.address(kind)} for kind in ("slack", "discord")}
        told = await messages(written(tmp_path, watched, kinds))
    steps = [(it["channel"], it["step"], it["taken"], it["edited"]) for it in told]
    assert steps == [
        ("slack", "fire", True, False),
        ("slack", "resolve", True, False),
        ("discord", "fire", True, False),
        ("discord", "resolve", True, True),
    ]
    assert all(it["code"] == "200" and it["took"] and it["size"] > 100 and it["attempts"] == 1 for it in told)
    assert told[3]["reference"]["message_id"] == told[2]["reference"]["message_id"]
    assert {shown.word for shown in chat.messages} == {"TEST"}
    assert [shown.edited for shown in chat.messages if shown.channel == "discord"] == [False, True]
    assert ["It is over" in shown.summary for shown in chat.messages if shown.channel == "slack"] == [False, True]
    assert await left(watched) == 0


async def test_a_real_message_that_is_due_is_not_sent_with_it(watched: Database, told: Sink, tmp_path: Path) -> None:
    await watched.execute(
        "WITH told AS (INSERT INTO paidwatch.alert (kind) VALUES ('paid_not_active') RETURNING alert_id)"
        " INSERT INTO paidwatch.delivery (alert_id, channel, due_at)"
        " SELECT alert_id, 'ops', now() - interval '1 hour' FROM told, generate_series(1, 1)"
    )
    real = "SELECT d::text FROM paidwatch.delivery d JOIN paidwatch.alert a USING (alert_id) WHERE a.kind <> 'test'"
    before = await watched.fetch(real)
    await messages(written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))}))
    assert [it.kind for it in told.told] == ["test", "test"]
    assert await watched.fetch(real) == before


async def test_only_the_named_channel_is_tested(watched: Database, told: Sink, tmp_path: Path) -> None:
    channels = {f"channels.{name}": webhook(told.url(name)) for name in ("ops", "team")}
    await messages(written(tmp_path, watched, channels), "--channel", "team")
    assert [it.channel for it in told.told] == ["team", "team"]


async def test_with_a_running_daemon_it_comes_once(watched: Database, told: Sink, tmp_path: Path) -> None:
    file = written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))})
    async with running(file) as daemon:
        await daemon.ready()
        told_by = {it["by"] for it in await messages(file)}
    assert told_by == {"daemon"}
    assert [(it.word, it.body["data"]["open"]) for it in told.told] == [("TEST", True), ("TEST", False)]
    assert await left(watched) == 0


async def test_a_channel_that_refuses_is_told_of_and_others_go_on(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    channels = {f"channels.{name}": webhook(told.url(name)) for name in ("ops", "c4n4ry")}
    file = written(tmp_path, watched, channels)
    told.refuse_with["c4n4ry"] = 500
    done = await paidwatch("test-alert", config=file, expect=1)
    assert "c4n4ry: fire: the receiver answered 500" in done.stdout
    assert [it.channel for it in told.told] == ["ops", "ops"]
    assert told.refused == 1
    assert await left(watched) == 0
    assert "/c4n4ry" not in done.stdout + done.stderr, "an address is a secret"


async def test_a_broken_channel_is_tried_at_once_when_somebody_repaired_it(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    file = written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))})
    told.refuse_with["ops"] = 404
    refused = await messages(file, expect=1)
    assert [(it["step"], it["code"]) for it in refused] == [("fire", "404")]
    assert await watched.fetchval("SELECT down_since IS NOT NULL AND not_before > now() FROM paidwatch.channel")
    del told.refuse_with["ops"]
    assert len(await messages(file)) == 2
    assert await watched.fetchval("SELECT down_since IS NULL FROM paidwatch.channel")


async def test_a_broken_channel_that_owes_messages_is_asked_about_the_test(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    """One request is all that a broken channel gets: it must not be spent on a message that waits already."""
    await watched.execute(
        "WITH told AS (INSERT INTO paidwatch.alert (kind) SELECT 'paid_not_active' FROM generate_series(1, 3)"
        " RETURNING alert_id) INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for)"
        " SELECT alert_id, 'ops', now() - interval '1 hour', 'held' FROM told"
    )
    await watched.execute(
        "INSERT INTO paidwatch.channel (name, not_before, down_since, down_reason)"
        " VALUES ('ops', now() + interval '10 minutes', now() - interval '1 hour', 'answered 404')"
    )
    file = written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))})
    told.refuse_with["ops"] = 410
    async with running(file) as daemon:
        await daemon.ready()
        (refused,) = await messages(file, expect=1)
        assert (refused["step"], refused["code"], refused["by"], refused["attempts"]) == ("fire", "410", "daemon", 1)
        assert "410" in refused["error"]
        assert "asked to wait" not in refused["error"]
        assert not refused["passed_over"]
        assert told.refused == 1
        del told.refuse_with["ops"]
        assert [it["by"] for it in await messages(file)] == ["daemon", "daemon"]
        await told.until(lambda: any(it.kind == "held" for it in told.told))
    assert [it.kind for it in told.told if it.kind != "test"] == ["held"]


async def test_a_channel_that_another_message_has_just_proven_broken_is_not_said_to_ask_for_patience(
    watched: Database, told: Sink, tmp_path: Path
) -> None:
    await watched.execute(
        "CREATE FUNCTION public.meanwhile() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.not_before := now() + interval '15 minutes'; RETURN NEW; END $$;"
        " INSERT INTO paidwatch.channel (name, down_since, down_reason) VALUES ('ops', now(), 'answered 404');"
        " CREATE TRIGGER meanwhile BEFORE UPDATE ON paidwatch.channel FOR EACH ROW EXECUTE FUNCTION public.meanwhile()"
    )
    (held,) = await messages(written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))}), expect=1)
    assert held["error"] == "it is broken, as another message has just shown: answered 404"
    assert told.told == []


async def test_a_wish_of_the_service_to_wait_is_respected(watched: Database, told: Sink, tmp_path: Path) -> None:
    await watched.execute("INSERT INTO paidwatch.channel (name, not_before) VALUES ('ops', now() + interval '1 hour')")
    file = written(tmp_path, watched, {"channels.ops": webhook(told.url("ops"))})
    (held,) = await messages(file, expect=1)
    assert "asked to wait" in held["error"]
    assert told.told == []
    assert await left(watched) == 0


async def test_a_dry_run_needs_no_database_and_sends_nothing(told: Sink, tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(f'[channels.ops]\ntype = "discord"\nurl = "{told.url("ops")}"\n')
    done = await paidwatch("test-alert", "--dry-run", config=file)
    assert "TEST · test message" in done.stdout
    assert "then edited to" in done.stdout
    assert told.told == []


async def test_an_unknown_channel_is_a_usage_error_that_names_the_known_ones(told: Sink, tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(f'[database]\ndsn = "postgresql://x"\n[channels.ops]\ntype = "slack"\nurl = "{told.url("ops")}"\n')
    done = await paidwatch("test-alert", "--channel", "osp", config=file, expect=64)
    assert "[channels.osp]" in done.stderr
    assert "has ops" in done.stderr


async def test_no_channel_at_all_is_no_success(watched: Database, tmp_path: Path) -> None:
    done = await paidwatch("test-alert", config=written(tmp_path, watched), expect=1)
    assert "[channels.NAME]" in done.stderr


async def test_without_an_installation_it_says_so(database: Database, told: Sink, tmp_path: Path) -> None:
    file = written(tmp_path, database, {"channels.ops": webhook(told.url("ops"))})
    done = await paidwatch("test-alert", config=file, expect=2)
    assert "HOST/DATABASE' install" in done.stderr
