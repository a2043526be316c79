"""The live view on a terminal: one look as lines that fit, with ages that go on by themselves.

It never shows the past as the present: a look that grew old, a lost database and an absent daemon each say so in red,
at the top, before anything else is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from paidwatch.cli.gaps import said_money
from paidwatch.cli.stats_command import fine
from paidwatch.cli.watch_feed import ANSWER_WITHIN, LOOK_EVERY, Seen
from paidwatch.core.text import money, span
from paidwatch.errors import DatabaseError
from paidwatch.flow.signal import Signal
from paidwatch.log import visible
from paidwatch.ports import Clock
from paidwatch.store.live import MANY, ChannelState, ClosedGap, Frame, OpenGap

MOST: Final = 100
"""How many gaps and closures are asked for; a terminal shows fewer."""
STALE: Final = LOOK_EVERY + ANSWER_WITHIN
"""A look that is older than this is not the present."""
SLOW: Final = timedelta(seconds=30)
"""What the daemon should have done longer ago than this is told in red."""
_CLOSED_LINES: Final = 5
_CHANNEL_LINES: Final = 6
_WIDE: Final = 110
"""Cells from which on a gap's cause stands beside its kind."""
_ROOMY: Final = 100
"""Cells from which on the lines at the top say everything in words; on fewer they say less, so that none is cut."""
_SHORTEST: Final = 6
"""Lines that open gaps get at least."""


@dataclass(slots=True, kw_only=True)
class Screen:
    """What is known, drawn anew at every tick."""

    clock: Clock
    database: str
    """What to call it; no address, no secret."""
    whole: bool
    """The whole terminal is ours, and keys are heeded."""
    changed: Signal = field(default_factory=Signal)
    """Rung when there is something new to draw."""
    last: Seen | None = None
    error: DatabaseError | None = None

    def seen(self, seen: Seen) -> None:
        """Take a new look."""
        self.last, self.error = seen, None
        self.changed.ring()

    def lost(self, error: DatabaseError) -> None:
        """Learn that the database cannot be asked."""
        self.error = error
        self.changed.ring()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw; into the terminal as large as it is now where the whole of it is ours."""
        yield from self.lines(options.max_width, console.height if self.whole else None)

    def lines(self, width: int, height: int | None) -> Iterator[Text]:
        """Yield lines of at most `width` cells, and at most `height` of them (None: as many as there are)."""
        if self.last is None:
            yield _line(width, ("connecting …", "dim"))
            return
        frame = self.last.frame
        age = self.clock.monotonic() - self.last.at
        past = self.error is not None or age > STALE
        now = frame.now if past else frame.now + age
        head = [*self._warnings(frame, age, width), *self._head(frame, now, width)]
        tail = [*_closures(frame, now, width), *_channels(frame, now, width)]
        if self.whole:
            tail.append(
                _line(width, ("q", "bold"), (" leaves; ", "dim"), ("paidwatch user ID", "bold"), (" tells more", "dim"))
            )
        room = None if height is None else max(height - len(head) - len(tail), _SHORTEST)
        body = list(_gaps(frame, now, width, room))
        drawn = [*head, *body, *([Text()] * max((room or 0) - len(body), 0)), *tail]
        for number, line in enumerate(drawn if height is None else drawn[:height]):
            if past and number:
                line.stylize("dim")
            yield line

    def _warnings(self, frame: Frame, age: timedelta, width: int) -> Iterator[Text]:
        taken = f"{frame.now:%H:%M:%S} UTC, {span(age)} ago"
        if self.error is not None:
            yield _alarm(width, f"DATABASE LOST: {self.error.message}")
            yield _alarm(width, f"what stands below is of {taken}; trying again")
        elif age > STALE:
            yield _alarm(width, f"NO ANSWER from the database; what stands below is of {taken}")
        elif frame.watcher.pid is None:
            yield _alarm(width, "NO DAEMON: nothing is noticed or told. Start paidwatch run; see paidwatch check")

    def _head(self, frame: Frame, now: datetime, width: int) -> Iterator[Text]:
        name = _line(width, ("paidwatch ", "bold"), (self.database, "cyan"), f"  {now:%H:%M:%S} UTC")
        yield _spread(width, name, _daemon(frame, now, width))
        gaps = ("no open gaps", "bold green") if not frame.count else (_count(frame.count, "open gap"), "bold red")
        risk = (f", {said_money(frame.money)} at risk", "red") if frame.count else ""
        yield _spread(width, _line(width, gaps, risk), _line(width, _many(frame.waiting, "in grace")))
        yield _line(width, "automatic activation: ", (frame.activation, "cyan"))
        speed = frame.speed
        if speed is None:
            yield _line(width, ("today no activation was timed", "dim"))
        else:
            p99 = f", p99 {fine(speed.p99)}" if width >= _ROOMY else ""
            times = f"p50 {fine(speed.p50)}, p90 {fine(speed.p90)}{p99}, max {fine(speed.longest)}"
            yield _line(width, f"today {_count(speed.count, 'activation')}: ", (times, "cyan"))
        yield Text()


def _daemon(frame: Frame, now: datetime, width: int) -> Text:
    """Return the daemon's role and how it keeps up."""
    watcher = frame.watcher
    if watcher.pid is None:
        return Text("no daemon", style="bold red")
    late = max((frame.unread or timedelta(), frame.overdue or timedelta()))
    if late > SLOW:
        return Text(f"daemon {span(late)} behind, {_many(frame.noted, 'unread')}", style="bold red")
    parts = [f"leads for {span(now - watcher.since)}" if watcher.since else "leads"]
    if watcher.standbys:
        roomy = width >= _ROOMY
        parts.append(_count(watcher.standbys, "standby", "standbys") if roomy else f"+{watcher.standbys}")
    if frame.noted:
        parts.append(_many(frame.noted, "unread"))
    return Text(f"daemon {', '.join(parts)}", style="green")


def _gaps(frame: Frame, now: datetime, width: int, room: int | None) -> Iterator[Text]:
    """Yield the open gaps, the newest first; where they do not fit, how many are left out."""
    if not frame.gaps:
        return
    yield _row(width, ("open for", "user", "payment", "plan", "amount", "what"), "bold")
    fitting = len(frame.gaps) if room is None else room - 1
    shown = (
        frame.gaps
        if len(frame.gaps) <= fitting and frame.count == len(frame.gaps)
        else frame.gaps[: max(fitting - 1, 0)]
    )
    for gap in shown:
        what = f"{gap.kind}: {gap.cause}" if gap.cause and width >= _WIDE else gap.kind
        yield _row(width, _cells(gap, span(now - (gap.opened_at or gap.paid_at)), what), "red")
    if frame.count > len(shown):
        yield _line(width, (f"… and {frame.count - len(shown)} more: paidwatch check", "red"))


def _closures(frame: Frame, now: datetime, width: int) -> Iterator[Text]:
    if not frame.closed:
        return
    yield Text()
    yield _row(width, ("closed ago", "user", "payment", "plan", "amount", "how"), "bold")
    for gap in frame.closed[:_CLOSED_LINES]:
        how = f"{gap.outcome} after {span(gap.resolved_at - gap.opened_at)}"
        yield _row(width, _cells(gap, span(now - gap.resolved_at), how), "green")


def _cells(gap: OpenGap | ClosedGap, when: str, what: str) -> tuple[str, ...]:
    return (when, gap.user_id or "-", gap.payment_id, gap.plan_id or "-", money(gap.amount, gap.currency), what)


def _channels(frame: Frame, now: datetime, width: int) -> Iterator[Text]:
    yield Text()
    if not frame.channels:
        yield _line(width, ("no channels: nobody is told of gaps", "bold yellow"))
        return
    for channel in frame.channels[:_CHANNEL_LINES]:
        yield _line(width, (f"{_cut(visible(channel.name), 16)} ", "bold"), _health(channel, now))
    if len(frame.channels) > _CHANNEL_LINES:
        yield _line(width, (f"… and {len(frame.channels) - _CHANNEL_LINES} more channels", "dim"))


def _health(channel: ChannelState, now: datetime) -> tuple[str, str]:
    """Return how a channel is, the worst first."""
    told = f"; told {span(now - channel.told_at)} ago" if channel.told_at else ""
    dead = f", {channel.dead} given up" if channel.dead else ""
    queued = f", {channel.queued} waiting" if channel.queued else ""
    if channel.down_since is not None:
        return f"broken for {span(now - channel.down_since)}: {channel.down_reason}{queued}{dead}", "bold red"
    if not channel.configured:
        return f"not configured any more{queued}{dead}", "yellow"
    if channel.retrying:
        return f"not taken, trying again{queued}{dead}{told}", "yellow"
    return f"well{queued}{dead}{told}", "yellow" if channel.dead else "green"


def _row(width: int, cells: Sequence[str], style: str) -> Text:
    """Return cells below one another; the last takes what is left."""
    widths = (12, 7, 9, 13, 11)
    text = " ".join(_cut(visible(cell), size) for cell, size in zip(cells, widths, strict=False))
    return _line(width, (f"{text} {visible(cells[-1])}", style))


def _cut(text: str, size: int) -> str:
    """Return `text` in exactly `size` cells; what is cut ends in an ellipsis."""
    return set_cell_size(text, size) if cell_len(text) <= size else f"{set_cell_size(text, size - 1)}…"


def _line(width: int, *parts: str | tuple[str, str]) -> Text:
    text = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(visible(words), style)
    text.truncate(width, overflow="ellipsis")
    return text


def _alarm(width: int, words: str) -> Text:
    return Text(_cut(f" {visible(words)}", width), style="bold white on red")


def _spread(width: int, left: Text, right: Text) -> Text:
    """Return both at the ends of one line, or below one another's space where they do not fit."""
    gap = max(width - left.cell_len - right.cell_len, 2)
    text = Text.assemble(left, " " * gap, right)
    text.truncate(width, overflow="ellipsis")
    return text


def _many(number: int, word: str) -> str:
    return f"more than {MANY} {word}" if number > MANY else f"{number} {word}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"1 {one}" if number == 1 else f"{number} {many or one + 's'}"
