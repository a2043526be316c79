"""`paidwatch demo`: the main job, on a database of its own, with messages as people see them."""

import sys
from collections.abc import Iterator
from datetime import datetime
from textwrap import wrap
from typing import Final

import click

from paidwatch.cli.output import say
from paidwatch.cli.root import INTERRUPTED, run_async
from paidwatch.ops.demo import Demo, Plan, Result
from paidwatch.ops.demo_chat import DISCORD, Shown
from paidwatch.ops.demo_story import Voice

_WIDTH: Final = 80
_MARGIN: Final = " " * 10
_STYLES: Final = {
    Voice.DEMO: "bold",
    Voice.SHOP: "",
    Voice.PAIDWATCH: "cyan",
    Voice.GOOD: "green",
    Voice.BAD: "bold red",
}
_COLOURS: Final = {"NEW": "red", "STILL": "yellow", "FIXED": "green", "RESOLVED": "green"}
_NAMES: Final = {"slack": "Slack", "discord": "Discord"}


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), help="Begin no new round after this long.")
@click.option("--once", is_flag=True, help="Play one round, then end.")
def demo(*, seconds: int | None, once: bool) -> int:
    """See the main job on a PostgreSQL of its own: a shop, payments, alerts, recoveries.

    Runs until Ctrl-C unless told otherwise, with the shop's pages at the address that it says: pay there yourself. With
    --once there are none. Nothing is left behind. Exit code 1 if anything did not come as promised.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if callable(reconfigure):
        reconfigure(errors="replace", line_buffering=True)
    result = run_async(lambda: Demo(Plan(once=once, seconds=seconds), Terminal()).run())
    if not result.finished:
        say("interrupted before the end; everything is cleaned up", "yellow")
        return INTERRUPTED
    for line in summary(result):
        say(line)
    if result.well:
        say("everything came as promised", "bold green")
        return 0
    say("NOT everything came as promised:", "bold red")
    for failure in result.tally.failures:
        say(f"  {failure}", "red")
    return 1


class Terminal:
    """The narration on standard output: 80 columns, a time before each line."""

    def __init__(self) -> None:
        """Begin with empty chats."""
        self._seen: set[int | None] = set()

    def say(self, voice: Voice, text: str) -> None:
        """Say one sentence."""
        for place, line in enumerate(wrap(text, _WIDTH - len(_MARGIN) - 11)):
            head = f"{_now()}  {voice:<9}  " if place == 0 else _MARGIN + " " * 11
            say(head + line, _STYLES[voice])

    def show(self, shown: Shown) -> None:
        """Show a message as it stands in the chat; in short where it goes on with a story."""
        in_full = shown.channel != DISCORD and shown.customer not in self._seen
        if in_full:
            self._seen.add(shown.customer)
        name = _NAMES.get(shown.channel, shown.channel)
        how = " (edits its message)" if shown.edited else ""
        colour = _COLOURS.get(shown.word, "blue")
        say(f"{_now()}  {name}{how}", "bold")
        for place, line in enumerate(message_lines(shown, in_full=in_full)):
            say(f"{_MARGIN}┃ {line}", colour if place == 0 else "")


def message_lines(shown: Shown, *, in_full: bool) -> Iterator[str]:
    """Yield a message in lines: with every fact, or what happened only."""
    room = _WIDTH - len(_MARGIN) - 2
    yield from wrap(shown.title, room)
    yield from wrap(shown.summary, room)
    if not in_full:
        return
    yield from wrap(" · ".join(f"{label} {value}" for label, value in shown.facts), room)
    if shown.command:
        yield f"Next: {shown.command}"


def summary(result: Result) -> Iterator[str]:
    """Yield the figures of a showing."""
    figures = result.figures
    if figures is None:
        return
    median = "-" if figures.median is None else f"{figures.median.total_seconds():.1f} s"
    yield ""
    yield f"  payments             {figures.payments:>4}"
    yield f"  activated by shop    {figures.activated:>4}   median {median} after the payment"
    yield f"  fixed by paidwatch   {figures.fixed:>4}"
    yield f"  refunded in time     {figures.reversed:>4}   nobody was bothered"
    yield f"  messages             {result.messages:>4}   in two chats"
    yield f"  gaps open now        {'?' if result.gaps is None else result.gaps:>4}   says `paidwatch check`"
    yield ""


def _now() -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}"
