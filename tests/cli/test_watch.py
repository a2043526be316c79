"""`paidwatch watch`: what changed as it changes, never more than fits, and never the past as the present."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from rich.cells import cell_len

from paidwatch.cli.watch_command import place
from paidwatch.cli.watch_feed import Seen
from paidwatch.cli.watch_lines import Event, Lines
from paidwatch.cli.watch_screen import STALE, Screen
from paidwatch.errors import Unreachable
from paidwatch.store.live import ChannelState, ClosedGap, Frame, OpenGap, Speed, Tried
from paidwatch.store.report import Watcher
from tests.support.command import config, watched, written
from tests.support.daemon import ENVIRONMENT, paidwatch
from tests.support.postgres import Database, Server, on_shapes
from tests.support.shop import activate, add_payment, add_user, complete
from tests.support.sink import WITHIN, Sink
from tests.support.watched import Start, start, told

__all__ = ["config", "start", "told", "watched"]
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
USUAL = on_shapes("L", thorough="F")


class Follower:
    """A running `paidwatch watch --json`, read line by line."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = anyio.Event()

    async def read(self, stream: TextReceiveStream) -> None:
        rest = ""
        async for text in stream:
            *lines, rest = (rest + text).split("\n")
            self.events += [json.loads(line) for line in lines]
            self._news.set()
            self._news = anyio.Event()

    def of(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return [
            one
            for one in self.events
            if one["event"] == event and all(str(one.get(name)) == str(value) for name, value in fields.items())
        ]

    async def until(self, event: str, **fields: object) -> dict[str, Any]:
        with anyio.move_on_after(WITHIN):
            while not self.of(event, **fields):
                await self._news.wait()
        assert self.of(event, **fields), f"no {event} {fields} in {self.events}"
        return self.of(event, **fields)[0]


@asynccontextmanager
async def following(config: Path, *options: str) -> AsyncIterator[Follower]:
    command = [sys.executable, "-m", "paidwatch", "watch", "--json", *options, "--config", str(config)]
    process = await anyio.open_process(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    follower = Follower()
    assert process.stdout is not None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(follower.read, TextReceiveStream(process.stdout))
            await follower.until("watch.state")
            yield follower
            process.send_signal(signal.SIGINT)
            with anyio.fail_after(WITHIN):
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


# With a daemon


@USUAL
async def test_changes_are_told_as_they_happen(watched: Database, start: Start, told: Sink) -> None:
    async with start() as daemon, following(daemon.config) as view:
        await daemon.ready()
        user = await add_user(watched)
        payment = await add_payment(watched, user)
        await complete(watched, payment)
        opened = await view.until("gap.opened", payment=payment)
        assert (opened["kind"], opened["amount"], opened["user"]) == ("paid_not_active", "14.99 USD", str(user))
        await view.until("delivery.sent", payment=payment, word="NEW")
        await activate(watched, user, payment=payment)
        closed = await view.until("gap.closed", payment=payment)
        assert closed["outcome"] == "activated"
        await view.until("delivery.sent", payment=payment, word="RESOLVED")
    assert [len(view.of(event)) for event in ("gap.opened", "gap.closed", "delivery.sent")] == [1, 1, 2]


async def test_the_daemon_hints_of_gaps_and_says_nothing_of_the_ordinary(
    watched: Database, start: Start, told: Sink
) -> None:
    hints: list[str] = []
    listener = await watched.connect()
    await listener.add_listener("paidwatch_feed", lambda *_: hints.append("hint"))
    async with start() as daemon:
        await daemon.ready()
        user = await add_user(watched)
        ordinary = await add_payment(watched, user)
        await complete(watched, ordinary)
        await activate(watched, user, payment=ordinary)
        await daemon.closed(watched, ordinary, "activated")
        await listener.fetchval("SELECT 1")
        assert hints == []
        missed = await add_payment(watched, await add_user(watched))
        await complete(watched, missed)
        await daemon.log("delivery.sent")
    await listener.fetchval("SELECT 1")
    await listener.close()
    assert len(hints) == 2, "one for the gap, one for its message"


async def test_a_daemon_that_dies_and_comes_back_is_told(watched: Database, start: Start) -> None:
    async with start() as daemon:
        await daemon.ready()
        async with following(daemon.config) as view:
            assert view.of("watch.state")[0]["daemon"] == "running"
            await daemon.kill9()
            await view.until("daemon.gone")
            async with start() as other:
                await other.ready()
                await view.until("daemon.leads")


# Without


async def test_a_lost_database_is_told_once_and_found_again(watched: Database, server: Server, config: Path) -> None:
    async with following(config) as view:
        await server.administer(f'ALTER DATABASE "{watched.name}" ALLOW_CONNECTIONS false')
        await server.administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{watched.name}' AND application_name = 'paidwatch watch'"
        )
        await view.until("database.lost")
        await server.administer(f'ALTER DATABASE "{watched.name}" ALLOW_CONNECTIONS true')
        await view.until("database.back")
    assert len(view.of("database.lost")) == 1


@on_shapes("LX", thorough="FM")
async def test_once(watched: Database, config: Path) -> None:
    done = await paidwatch("watch", "--once", config=config)
    assert "watch.state" in done.stdout
    assert 'daemon="not running"' in done.stdout
    frame = json.loads((await paidwatch("watch", "--once", "--json", config=config)).stdout)
    assert (frame["gaps"], frame["open"], frame["closed"], frame["daemon"]) == (0, [], [], "not running")


async def test_where_there_is_nothing_to_watch(watched: Database, server: Server, tmp_path: Path) -> None:
    config = written(tmp_path, watched, dsn=server.dsn("there_is_none"))
    for options in ((), ("--once",), ("--json",)):
        done = await paidwatch("watch", *options, config=config, expect=2)
        assert done.stdout == ""
        assert "→" in done.stderr


@pytest.mark.parametrize("key", [b"q", b"\x03"])
async def test_a_key_leaves_and_the_terminal_is_as_before(watched: Database, config: Path, key: bytes) -> None:
    code, shown = await anyio.to_thread.run_sync(on_a_terminal, config, key)
    assert code == 0, shown
    assert b"no open gaps" in shown
    assert b"\x1b[?1049h" in shown, "the screen of its own"
    assert b"\x1b[?1049l" in shown, "and back"


def on_a_terminal(config: Path, key: bytes) -> tuple[int, bytes]:
    """Run the live view on a terminal of 80 by 24 until it has drawn, press a key, and return what it did."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paidwatch", "watch", "--config", str(config)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),  # noqa: PLW1509  makes it the terminal
    )
    os.close(theirs)
    shown = b""
    try:
        pressed = False
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
            if not pressed and b"no open gaps" in shown:
                os.write(ours, key)
                pressed = True
        return process.wait(timeout=WITHIN), shown
    finally:
        process.kill()
        os.close(ours)


# The screen


class Still:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.reading = timedelta(hours=1)

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> timedelta:
        return self.reading

    async def sleep(self, span: timedelta) -> None:
        raise AssertionError


def frame(**changes: Any) -> Frame:
    usual = Frame(
        activation="shadow, would have been right 41 of 41",
        now=NOW,
        count=0,
        gaps=(),
        money={},
        closed=(),
        channels=(channel("ops"),),
        attempts=(),
        waiting=0,
        noted=0,
        unread=None,
        overdue=None,
        speed=None,
        watcher=Watcher(pid=7, since=NOW - timedelta(hours=2), standbys=0),
    )
    return replace(usual, **changes)


def channel(name: str, **changes: Any) -> ChannelState:
    usual = ChannelState(
        name=name,
        configured=True,
        down_since=None,
        down_reason=None,
        queued=0,
        retrying=0,
        dead=0,
        told_at=NOW - timedelta(minutes=3),
    )
    return replace(usual, **changes)


def gap(number: int, **changes: Any) -> OpenGap:
    usual = OpenGap(
        payment_id=str(number),
        user_id=str(number),
        kind="paid_not_active",
        plan_id="professional",
        amount=Decimal("14.99"),
        currency="USD",
        method="card",
        paid_at=NOW - timedelta(minutes=number + 2),
        opened_at=NOW - timedelta(minutes=number),
        cause="no webhook was recorded for this payment",
        reminders=0,
    )
    return replace(usual, **changes)


def closed(number: int) -> ClosedGap:
    return ClosedGap(
        alert_id=number,
        payment_id=str(number),
        user_id=str(number),
        kind="paid_not_active",
        outcome="activated",
        opened_at=NOW - timedelta(minutes=9),
        resolved_at=NOW - timedelta(minutes=1),
        plan_id="professional",
        amount=Decimal("14.99"),
        currency="USD",
    )


def drawn(
    found: Frame, *, width: int = 80, height: int | None = 24, later: timedelta = timedelta(0), lost: bool = False
) -> list[str]:
    clock = Still()
    screen = Screen(clock=clock, database="shop@db1", whole=height is not None)
    screen.seen(Seen(frame=found, at=clock.monotonic()))
    clock.reading += later
    if lost:
        screen.lost(Unreachable("cannot connect to the database: Connection refused"))
    return [line.plain for line in screen.lines(width, height)]


HOSTILE = "\x1b[2J[bold]漢字 " * 20
FULL = frame(
    count=300,
    gaps=tuple(gap(number, user_id=HOSTILE, plan_id=HOSTILE, kind=HOSTILE) for number in range(100)),
    money={"USD": Decimal("4497.00"), "EUR": Decimal("12345678.90"), "USDT": Decimal(1)},
    closed=tuple(closed(number) for number in range(100)),
    channels=tuple(channel(f"{HOSTILE}{number}", down_since=NOW, down_reason=HOSTILE, dead=3) for number in range(30)),
    waiting=10_001,
    noted=10_001,
    unread=timedelta(hours=5),
    speed=Speed(
        count=12345,
        p50=timedelta(seconds=0.3),
        p90=timedelta(days=40),
        p99=timedelta(days=50),
        longest=timedelta(days=999),
    ),
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60), (20, 5)])
@pytest.mark.parametrize("found", [frame(), FULL], ids=["empty", "full"])
def test_it_fits(found: Frame, width: int, height: int) -> None:
    for lost in (False, True):
        lines = drawn(found, width=width, height=height, lost=lost)
        assert len(lines) <= height
        assert all(cell_len(line) <= width for line in lines), lines
        assert all(line.isprintable() for line in lines), lines


def test_ages_go_on_without_asking() -> None:
    found = frame(count=1, gaps=(gap(5),))
    assert any(line.startswith("5 min ") for line in drawn(found))
    assert any(line.startswith("5 min 7 s") for line in drawn(found, later=timedelta(seconds=7)))


def test_what_does_not_fit_is_counted() -> None:
    lines = drawn(frame(count=300, gaps=tuple(gap(number) for number in range(100))))
    shown = sum(1 for line in lines if "paid_not_active" in line)
    assert shown >= 8
    assert f"… and {300 - shown} more: paidwatch check" in lines
    assert "300 open gaps" in lines[1]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (lambda: drawn(frame(), lost=True, later=timedelta(seconds=12)), "DATABASE LOST"),
        (lambda: drawn(frame(), later=STALE + timedelta(seconds=1)), "NO ANSWER"),
        (lambda: drawn(frame(watcher=Watcher(pid=None, since=None, standbys=0))), "NO DAEMON"),
    ],
)
def test_the_past_is_never_shown_as_the_present(lines: Callable[[], list[str]], says: str) -> None:
    assert says in lines()[0]


def test_a_lost_database_tells_the_age_of_what_is_shown_and_lets_nothing_go_on() -> None:
    lines = drawn(frame(count=1, gaps=(gap(5),)), lost=True, later=timedelta(seconds=42))
    assert "12:00:00 UTC, 42 s ago" in lines[1]
    assert any(line.startswith("5 min ") and "5 min 4" not in line for line in lines)
    assert "12:00:00" in lines[2]


def test_the_present_says_nothing_of_the_kind() -> None:
    text = "\n".join(drawn(frame()))
    assert "no open gaps" in text
    for alarm in ("LOST", "NO ANSWER", "NO DAEMON"):
        assert alarm not in text


def test_how_automatic_activation_stands() -> None:
    assert any("automatic activation: shadow, would have been right 41 of 41" in line for line in drawn(FULL))


def test_channels_in_trouble_say_so() -> None:
    text = "\n".join(
        drawn(
            frame(
                channels=(
                    channel("ops", down_since=NOW - timedelta(minutes=5), down_reason="it is gone", queued=4),
                    channel("mail", retrying=2, queued=2),
                    channel("old", configured=False, queued=1),
                    channel("chat", dead=3),
                )
            )
        )
    )
    for said in ("broken for 5 min: it is gone", "not taken, trying again", "not configured any more", "3 given up"):
        assert said in text


BUSY = frame(
    closed=(replace(closed(7), resolved_at=NOW - timedelta(minutes=59, seconds=59)),),
    speed=Speed(
        count=1250,
        p50=timedelta(seconds=1.25),
        p90=timedelta(minutes=12, seconds=34),
        p99=timedelta(minutes=45, seconds=56),
        longest=timedelta(hours=12, minutes=34),
    ),
    watcher=Watcher(pid=7, since=NOW - timedelta(hours=23, minutes=59), standbys=1),
)


def test_a_terminal_of_eighty_cuts_nothing() -> None:
    lines = drawn(BUSY)
    assert not [line for line in lines if "…" in line]
    assert lines[0].endswith("daemon leads for 23 h 59 min, +1")
    assert lines[3] == "today 1250 activations: p50 1.25 s, p90 12 min 34 s, max 12 h 34 min"
    head = next(number for number, line in enumerate(lines) if line.startswith("closed ago "))
    assert lines[head + 1].startswith("59 min 59 s  7 ")


def test_a_wide_terminal_says_it_all() -> None:
    lines = drawn(BUSY, width=100)
    assert lines[0].endswith("daemon leads for 23 h 59 min, 1 standby")
    assert "p90 12 min 34 s, p99 45 min 56 s, max 12 h 34 min" in lines[3]


def test_a_daemon_that_is_behind_says_by_how_much() -> None:
    assert "3 min behind" in drawn(frame(noted=9, unread=timedelta(minutes=3)))[0]
    assert "behind" not in drawn(frame(noted=9, unread=timedelta(seconds=1)))[0]


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://paidwatch:canary@db1:5432/shop", "shop@db1:5432"),
        ("postgresql://paidwatch:c%40nary@db1,db2/shop?target_session_attrs=read-write", "shop@db1,db2"),
        ("postgresql://postgres@/shop?host=/var/run/postgresql&password=canary", "shop"),
    ],
)
def test_the_address_is_shown_without_its_secrets(dsn: str, shown: str) -> None:
    assert place(dsn) == shown


# The lines


def told_of(*frames: Frame) -> list[Event]:
    events: list[Event] = []
    lines = Lines(events.append)
    for number, one in enumerate(frames):
        lines.seen(Seen(frame=one, at=timedelta(seconds=number)))
    return events


def test_each_change_is_told_once() -> None:
    tried = Tried(
        attempt_id=1,
        at=NOW,
        took=timedelta(0),
        channel="ops",
        payment_id="1",
        word="NEW",
        result="transient",
        code="500",
        error="the receiver answered 500",
    )
    opened = frame(count=1, gaps=(gap(1),), attempts=(tried,))
    broken = replace(opened, channels=(channel("ops", down_since=NOW, down_reason="gone"),))
    over = frame(closed=(closed(1),), attempts=(tried,))
    names = [event.event for event in told_of(frame(), frame(), opened, opened, broken, broken, over, over)]
    assert names == ["watch.state", "gap.opened", "delivery.failed", "channel.broken", "gap.closed", "channel.works"]


def test_the_first_look_tells_what_is_open_and_nothing_of_the_past() -> None:
    events = told_of(frame(count=1, gaps=(gap(1),), closed=(closed(2), closed(3))))
    assert [event.event for event in events] == ["watch.state", "gap.open"]
