"""`paidwatch stats`: how long activations take, what was saved, and what was not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import DURATION, Cli, json_option, pass_cli, run_async
from paidwatch.config.duration import format_duration
from paidwatch.core.text import span, stamp

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.store.pool import Session
    from paidwatch.store.statistics import Ended, Latency

BOUNDS: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 3 * 3600, 12 * 3600, 86400)
)
"""Upper ends of the bars, each about three times the one before, as people count time."""
BAR: Final = 50
"""Cells of the longest bar; with its label and its count a line fits into 80."""
_FINE: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What is known of one span of time."""

    now: datetime
    since: timedelta
    total: "Latency | None"
    groups: "Sequence[Latency]"
    endings: "Sequence[Ended]"
    histogram: Sequence[int]

    def count(self, ending: str) -> int:
        """Return how many payments ended so."""
        return sum(one.count for one in self.endings if one.ending == ending)

    def money(self, ending: str) -> dict[str, Decimal]:
        """Return their sums by currency."""
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for one in self.endings:
            if one.ending == ending and one.currency is not None:
                sums[one.currency] += one.amount
        return dict(sorted(sums.items()))


@click.command()
@click.option("--since", type=DURATION, default="7d", show_default=True, help="Payments paid within this time.")
@click.option("--plot", is_flag=True, help="Draw how the times are distributed.")
@json_option
@pass_cli
def stats(cli: Cli, since: timedelta, *, plot: bool, as_json: bool) -> None:
    """Show payment-to-activation times by method and plan, and what was saved, late and lost."""
    from paidwatch.cli.database import asking  # noqa: PLC0415 - the commands start fast
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def ask() -> Statistics:
        async with asking(settings, statements, "stats", {"jit": "off"}) as session:
            return await count(session, settings, since)

    found = run_async(ask)
    if as_json:
        emit_json(as_document(found))
        return
    _say(found)
    if plot:
        for line in bars(found.histogram):
            say(line)
    if since > settings.retention.closed:
        kept = format_duration(settings.retention.closed)
        say(f"closed watches are kept for {kept} only ([retention] closed)", "yellow")


async def count(session: "Session", settings: "Settings", since: timedelta) -> Statistics:
    """Ask for everything, as of one moment. Raises DatabaseError."""
    from paidwatch.store import installation, report, statistics  # noqa: PLC0415 - the commands start fast

    async with report.snapshot(session):
        await report.keys(session)
        installed = await installation.installed(session, settings.mapping())
        installation.refuse_unfit(installed)
        total, groups = await statistics.latencies(session, since)
        return Statistics(
            now=installed.now,
            since=since,
            total=total,
            groups=groups,
            endings=await statistics.endings(session, since),
            histogram=await statistics.histogram(session, since, BOUNDS),
        )


def as_document(found: Statistics) -> dict[str, object]:
    """Return what `--json` shows: times in seconds, amounts as strings."""
    from paidwatch.store.statistics import Ending  # noqa: PLC0415 - the commands start fast

    return {
        "now": found.now,
        "since": found.now - found.since,
        "latency": None if found.total is None else _seconds(found.total),
        "groups": [{"method": one.method, "plan_id": one.plan_id, **_seconds(one)} for one in found.groups],
        "counts": {ending: found.count(ending) for ending in Ending},
        "money": {ending: found.money(ending) for ending in Ending},
        "histogram": [
            {"up_to_seconds": bound.total_seconds() if bound else None, "count": number}
            for bound, number in zip((*BOUNDS, None), found.histogram, strict=True)
        ],
    }


def _seconds(one: "Latency") -> dict[str, object]:
    return {
        "count": one.count,
        "p50_seconds": one.p50.total_seconds(),
        "p90_seconds": one.p90.total_seconds(),
        "p99_seconds": one.p99.total_seconds(),
        "max_seconds": one.longest.total_seconds(),
    }


def _say(found: Statistics) -> None:
    from paidwatch.cli.gaps import said_money  # noqa: PLC0415 - the commands start fast

    say(f"payments paid since {stamp(found.now - found.since)} ({format_duration(found.since)})", "bold")
    rows = [(one.method, one.plan_id, *_times(one)) for one in found.groups]
    if found.total is None:
        say("no activation was timed")
    else:
        numbers = [Column(name=name, right=True) for name in ("count", "p50", "p90", "p99", "max")]
        emit_table(("method", "plan", *numbers), [*rows, (Styled("all", "bold"), None, *_times(found.total))])
    for ending, words, style in (
        ("in_grace", "activated by the application within the grace period", ""),
        ("saved", "saved: activated by paidwatch, or after somebody had been told", "green"),
        ("late", "late: activated after the grace period, before anybody had been told", "yellow"),
        ("lost", "lost: still a gap", "red"),
        ("unseen", "activated while no daemon listened", ""),
        ("waiting", "not judged yet", ""),
        ("nothing_owed", "nothing owed: superseded, reversed, free, dismissed, or undone by a person", ""),
        ("history", "from before the installation", ""),
    ):
        number = found.count(ending)
        if number or ending in {"in_grace", "saved", "late", "lost"}:
            money = f" ({said_money(found.money(ending))})" if number else ""
            say(f"{number:>8}  {words}{money}", style if number else "")


def _times(one: "Latency") -> tuple[object, ...]:
    return (one.count, fine(one.p50), fine(one.p90), fine(one.p99), fine(one.longest))


def fine(length: timedelta) -> str:
    """Return a length of time as `0.34 s` or `2 min 5 s`: what is short matters more precisely."""
    return f"{length.total_seconds():.2f} s" if length < _FINE else span(length)


def bars(histogram: Sequence[int]) -> Iterable[str]:
    """Yield a line for each bucket between the first and the last that holds anything; 80 cells at most."""
    filled = [place for place, number in enumerate(histogram) if number]
    if not filled:
        return
    highest = max(histogram)
    for place in range(filled[0], filled[-1] + 1):
        number = histogram[place]
        label = f"< {_bound(BOUNDS[place])}" if place < len(BOUNDS) else f"≥ {_bound(BOUNDS[-1])}"
        yield f"{label:>9} {_bar(number, highest):<{BAR}} {number}"


def _bound(bound: timedelta) -> str:
    return f"{bound.total_seconds():g} s" if bound < timedelta(minutes=1) else span(bound)


def _bar(number: int, highest: int) -> str:
    """Return a bar in eighths of a cell; what is there at all is seen."""
    eighths = max(round(number * BAR * 8 / highest), 1) if number else 0
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
