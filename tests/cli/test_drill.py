"""The drill goes through the whole pipe, says no where it must, and leaves nothing behind however it ends."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from paidwatch.cli.drill_command import step_lines
from paidwatch.config import load
from paidwatch.ops import drill as drilling
from paidwatch.ops import drill_place
from paidwatch.ops.demo_program import Daemon
from paidwatch.ops.demo_shop import Order
from paidwatch.ops.drill import Drill
from paidwatch.ops.drill_sink import Sender
from paidwatch.ops.drill_story import Step
from paidwatch.store.connect import Target
from paidwatch.store.throwaway import make, new_name, remove, remove_abandoned, within
from paidwatch.wiring import target_of
from tests.support.daemon import ENVIRONMENT, configuration, installed, paidwatch
from tests.support.postgres import Database, Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd and the parent-death signal")
LEFT = "SELECT count(*) FROM pg_database WHERE datname LIKE 'paidwatch_drill_%'"
TABLES = ("inbox", "watch", "alert", "delivery", "webhook", "activation", "installation", "migration")


@pytest.fixture
async def real(server: Server) -> AsyncIterator[Database]:
    """The real installation, which nothing may happen to."""
    database = await installed(server, "F")
    yield database
    await server.drop(database)


@pytest.fixture
def config(real: Database, tmp_path: Path) -> Path:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(real, None, {"providers.stripe": {"secret": "c4n4ry-of-the-real-shop"}}))
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


async def contents(database: Database) -> list[object]:
    return [await database.fetch(f"SELECT t::text FROM paidwatch.{table} t") for table in TABLES]


async def test_on_the_configured_server_everything_comes_and_nothing_stays(
    real: Database, config: Path, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(place))
    before = await contents(real)
    done = await paidwatch("drill", "--json", config=config)
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["left_behind"] == ""
    assert {step["variant"] for step in said["steps"]} == {"place", "works", "fails"}
    assert all(step["ok"] for step in said["steps"])
    assert sum(step["took_seconds"] for step in said["steps"]) <= said["took_seconds"] < 60
    whole = "; ".join(step["what"] for step in said["steps"])
    for seen in ("answered 200", "signature valid, completed", "active/professional, by paidwatch", "answered 401"):
        assert seen in whole
    assert "c4n4ry" not in done.stdout + done.stderr
    assert await contents(real) == before
    assert await real.fetchval(LEFT) == 0
    assert list(place.iterdir()) == []


async def test_a_webhook_that_is_not_believed_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(self: Sender, order: Order, *, secret: str | None = None) -> tuple[int, bytes]:
        return await send(self, order, secret=f"not {secret}")

    send = Sender.send
    monkeypatch.setattr(Sender, "send", nonsense)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    seen: list[Step] = []
    result = await Drill(drill_place.embedded, seen.append).run()
    assert not result.ok
    assert (result.steps[-1].name, result.steps[-1].ok) == ("webhook", False)
    assert "answered 401, expected 200" in result.steps[-1].what
    assert seen == result.steps


async def test_a_daemon_that_is_killed_makes_it_fail_and_is_cleaned_up(
    real: Database, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Daemon):
        async def ready(self, limit: timedelta) -> None:
            await super().ready(limit)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(drilling, "Daemon", Killed)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    target = await anyio.to_thread.run_sync(lambda: target_of(load(config, {})))
    result = await Drill(lambda: drill_place.on_the_server(target), lambda _step: None).run()
    assert not result.ok
    assert not result.steps[-1].ok
    assert result.left_behind == ""
    assert await real.fetchval(LEFT) == 0


class Running:
    """A drill as a process of its own."""

    def __init__(self, config: Path, place: Path) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "paidwatch", "drill", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT | {"TMPDIR": str(place), "PYTHONUNBUFFERED": "1"},
        )
        self.said = ""

    def until(self, text: str) -> None:
        assert self._process.stdout is not None
        while text not in self.said:
            line = self._process.stdout.readline()
            assert line, f"it ended without saying {text!r}: {self.said}"
            self.said += line

    def end(self, how: signal.Signals) -> int:
        """End it, and wait for everything that it started."""
        handles = self._descendants()
        self._process.send_signal(how)
        rest, _ = self._process.communicate(timeout=60)
        self.said += rest
        for handle in handles:
            assert select.select([handle], [], [], 30)[0], "a process outlives the drill"
            os.close(handle)
        return self._process.returncode

    def _descendants(self) -> list[int]:
        found, queue = [], [self._process.pid]
        while queue:
            pid = queue.pop()
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
            if pid != self._process.pid:
                found.append(os.pidfd_open(pid))
        return found


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
async def test_however_it_is_ended_nothing_stays(
    real: Database, config: Path, place: Path, how: signal.Signals, code: int
) -> None:
    running = Running(config, place)
    await anyio.to_thread.run_sync(running.until, "daemon")
    assert await real.fetchval(LEFT) == 1
    assert await anyio.to_thread.run_sync(running.end, how) == code
    assert "Traceback" not in running.said
    assert await real.fetchval(LEFT) == 0
    assert list(place.iterdir()) == []


async def test_a_role_that_may_not_make_databases_is_told_what_to_do(
    server: Server, real: Database, config: Path
) -> None:
    role = new_name(datetime.now(UTC))
    await server.administer(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        done = await paidwatch("drill", "--json", "--dsn", real.dsn_of(role, "x"), config=config, expect=1)
    finally:
        await server.administer(f"DROP ROLE {role}")
    assert done.stdout == ""
    assert "CREATEDB" in done.stderr
    assert "--embedded" in done.stderr


async def test_what_a_dead_machine_left_is_removed_and_nothing_else(server: Server, real: Database) -> None:
    now = datetime.now(UTC)
    old, young = new_name(now - timedelta(hours=1)), new_name(now)
    second = timedelta(seconds=20)
    target = Target(dsn=real.dsn, connect_timeout=second, statement_timeout=second)
    try:
        await make(target, old)
        await make(target, young)
        assert await remove_abandoned(target, now) == [old]
        assert await real.fetchval(LEFT) == 1
    finally:
        await remove(target, young)


def test_a_step_is_shown_in_eighty_columns() -> None:
    step = Step(
        variant="works",
        name="activation",
        ok=False,
        what="not within 10 s: " + "customer 1 is active " * 9,
        at=timedelta(seconds=34),
        took=timedelta(seconds=10),
    )
    lines = step_lines(step)
    assert lines[0].startswith(" 34.00 s   10.00 s  FAILED  activation  not within")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://", "postgresql:///x"),
        (
            "postgresql://u:p%40@a:1,b:2/shop?target_session_attrs=any",
            "postgresql://u:p%40@a:1,b:2/x?target_session_attrs=any",
        ),
        ("postgres:///shop?host=/run/pg&dbname=other", "postgres:///x?host=/run/pg"),
    ],
)
def test_the_same_server_and_another_database(dsn: str, expected: str) -> None:
    second = timedelta(seconds=1)
    assert within(Target(dsn=dsn, connect_timeout=second, statement_timeout=second), "x").dsn == expected
