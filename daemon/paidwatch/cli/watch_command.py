"""`paidwatch watch`: gaps, closures, channels and the daemon, live."""

import os
import signal
import sys
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import console, emit_json, emit_json_line, is_terminal
from paidwatch.cli.root import Cli, json_option, pass_cli, run_async

if TYPE_CHECKING:
    from anyio import CancelScope

    from paidwatch.cli.watch_feed import Feed
    from paidwatch.cli.watch_lines import Event
    from paidwatch.cli.watch_screen import Screen
    from paidwatch.config import Settings

TICK: Final = 1.0
"""Seconds between two drawings where nothing happens: ages go on."""
_LEAVE: Final = frozenset("qQ\x03\x04")


@click.command()
@click.argument("seconds", type=click.FloatRange(min=0.1), required=False)
@click.option("--once", is_flag=True, help="Show what is now, and leave.")
@json_option
@pass_cli
def watch(cli: Cli, seconds: float | None, *, once: bool, as_json: bool) -> None:
    """Show open gaps, closures, channels and the daemon, live.

    The daemon says when something changes; SECONDS only limits how often the screen is drawn. In a pipe there is a line
    for each change. `q` or Ctrl-C leaves.
    """
    from paidwatch.cli.watch_feed import LEAST, Feed  # noqa: PLC0415 - the commands start fast
    from paidwatch.cli.watch_lines import MOST as MOST_LINES  # noqa: PLC0415
    from paidwatch.clock import SystemClock  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings = cli.settings()
    feed = Feed(
        settings=settings,
        statements=Statements.load(),
        clock=SystemClock(),
        least=timedelta(seconds=seconds) if seconds else LEAST,
        most=MOST_LINES,
    )
    if once:
        _once(feed, settings, as_json=as_json)
    elif is_terminal() and not as_json:
        run_async(lambda: _on_terminal(feed, _screen(settings, whole=True), timedelta(seconds=seconds or TICK)))
    else:
        try:
            run_async(lambda: _in_pipe(feed, as_json=as_json))
        except* BrokenPipeError as group:
            raise BrokenPipeError from group


def _once(feed: "Feed", settings: "Settings", *, as_json: bool) -> None:
    from paidwatch.cli.watch_lines import Lines, document, plain  # noqa: PLC0415 - the commands start fast

    seen = run_async(feed.once)
    if as_json:
        emit_json(document(seen.frame))
    elif is_terminal():
        screen = _screen(settings, whole=False)
        screen.seen(seen)
        console().print(screen)
    else:
        Lines(lambda event: click.echo(plain(event))).seen(seen)


def _screen(settings: "Settings", *, whole: bool) -> "Screen":
    from paidwatch.cli.watch_screen import Screen  # noqa: PLC0415 - the commands start fast
    from paidwatch.clock import SystemClock  # noqa: PLC0415

    return Screen(clock=SystemClock(), database=place(settings.database.dsn.get_secret_value()), whole=whole)


def place(dsn: str) -> str:
    """Return `database@host` of an address, without the host where it is a socket; nothing else of it may be shown."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - only needed here

    parts = urlsplit(dsn)
    host, name = unquote(parts.netloc.rpartition("@")[2]), unquote(parts.path.lstrip("/"))
    return f"{name}@{host}" if host and name else name or host


async def _in_pipe(feed: "Feed", *, as_json: bool) -> None:
    import anyio  # noqa: PLC0415 - the commands start fast

    from paidwatch.cli.watch_lines import Lines, as_object, plain  # noqa: PLC0415

    def write(event: "Event") -> None:
        if as_json:
            emit_json_line(as_object(event))
        else:
            click.echo(plain(event))

    async with anyio.create_task_group() as group:
        group.start_soon(_leave_on_signal, group.cancel_scope, name="signals")
        await feed.run(Lines(write))


async def _on_terminal(feed: "Feed", screen: "Screen", every: timedelta) -> None:
    import anyio  # noqa: PLC0415 - the commands start fast
    from rich.live import Live  # noqa: PLC0415

    with _keys() as readable, Live(screen, console=console(), screen=True, auto_refresh=False) as live:
        async with anyio.create_task_group() as group:
            group.start_soon(_leave_on_signal, group.cancel_scope, name="signals")
            if readable:
                group.start_soon(_leave_on_key, group.cancel_scope, name="keys")
            group.start_soon(feed.run, screen, name="feed")
            while True:
                live.update(screen, refresh=True)
                await screen.changed.wait(every)


async def _leave_on_signal(scope: "CancelScope") -> None:
    import anyio  # noqa: PLC0415 - the commands start fast

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _received in signals:
            scope.cancel()


async def _leave_on_key(scope: "CancelScope") -> None:
    import anyio  # noqa: PLC0415 - the commands start fast

    descriptor = sys.stdin.fileno()
    while True:
        await anyio.wait_readable(descriptor)
        pressed = os.read(descriptor, 64)
        if not pressed or _LEAVE & set(pressed.decode(errors="replace")):
            scope.cancel()


@contextmanager
def _keys() -> "Generator[bool]":
    """Have single keys arrive at once and unseen; yields False where there is no keyboard."""
    if not sys.stdin.isatty():
        yield False
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
