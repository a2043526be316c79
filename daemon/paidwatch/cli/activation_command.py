"""`paidwatch activation`: how automatic activation stands, and its emergency stop."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from paidwatch.cli.output import emit_json, say
from paidwatch.cli.root import Cli, json_option, pass_cli, run_async
from paidwatch.cli.tending import by_option, listing, looking
from paidwatch.core.text import stamp

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.core.compare import Record
    from paidwatch.flow.rein import Rein
    from paidwatch.flow.tend import Person
    from paidwatch.store.activations import Usage
    from paidwatch.store.breaker import Standing
    from paidwatch.store.pool import Session
    from paidwatch.store.statements import Statements

T = TypeVar("T")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def activation(ctx: click.Context, *, as_json: bool) -> object:
    """Show, pause and resume automatic activation. Without a command: status.

    Exit code 0: done, 1: refused, 2: the database could not be asked.
    """
    return listing(ctx, status, as_json=as_json)


@activation.command()
@json_option
@pass_cli
def status(cli: Cli, *, as_json: bool) -> None:
    """Show mode, strategy and breaker, how much of the caps is used, and the track record of the shadow."""

    async def ask(session: "Session") -> "tuple[Standing, Usage, Record]":
        from paidwatch.store import activations, breaker, ledger  # noqa: PLC0415 - the commands start fast

        record, _open = await ledger.track_record(session)
        used = await activations.used(session, shadows=chosen.mode == "shadow")
        return await breaker.standing(session), used, record

    settings = cli.settings()
    chosen = settings.activation
    standing, used, record = looking(cli, ask)
    if as_json:
        emit_json(
            {
                "mode": chosen.mode,
                "strategy": chosen.strategy,
                "breaker": {"open": standing.opened_at is not None} | asdict(standing),
                "used": {name: value for name, value in asdict(used).items() if name != "now"},
                "caps": {
                    "hour": chosen.max_per_hour,
                    "day": chosen.max_per_day,
                    "user_day": chosen.max_per_user_per_day,
                },
                "track_record": {"right": record.right, "compared": record.compared},
            }
        )
        return
    stopped = standing.opened_at is not None
    for name, value in _facts(settings, standing, used, record):
        say(f"{name:<10} {value}", "bold red" if stopped and name == "breaker" else "")


@activation.command()
@click.option("--reason", required=True, help="Why, for the message and the audit.")
@by_option
@json_option
@pass_cli
def pause(cli: Cli, *, reason: str, by: str, as_json: bool) -> None:
    """Stop automatic activation at once, until somebody resumes it; the channels are told once.

    People can go on: `paidwatch activate` is not held up by it.
    """
    _acting(cli, by, reason, lambda rein, person: rein.pause(person))
    if as_json:
        emit_json({"open": True, "by": by, "reason": reason.strip()})
    else:
        say(f"automatic activation is stopped by {by} until somebody resumes it", "yellow")


@activation.command()
@by_option
@json_option
@pass_cli
def resume(cli: Cli, *, by: str, as_json: bool) -> None:
    """Let automatic activation go on; what failed before is not counted any more, and open gaps are judged anew."""
    before = _acting(cli, by, "", lambda rein, person: rein.resume(person))
    if as_json:
        emit_json({"open": False, "by": by, "was": asdict(before)})
    else:
        since = f" since {stamp(before.opened_at)}" if before.opened_at else ""
        say(f"automatic activation goes on; it was stopped{since} by {before.opened_by}: {before.reason}", "green")


def _acting(cli: Cli, by: str, reason: str, act: "Callable[[Rein, Person], Awaitable[T]]") -> T:
    from paidwatch.flow.tend import Person  # noqa: PLC0415 - the commands start fast
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def work() -> T:
        async with _rein(settings, statements) as rein:
            return await act(rein, Person(name=by, reason=reason.strip()[:2000]))

    return run_async(work)


@asynccontextmanager
async def _rein(settings: "Settings", statements: "Statements") -> "AsyncGenerator[Rein]":
    """Connect, and make sure that the installation is the one the configuration describes."""
    from paidwatch.flow.rein import Rein  # noqa: PLC0415 - the commands start fast
    from paidwatch.store import installation  # noqa: PLC0415
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.wiring import policy_of, target_of  # noqa: PLC0415

    async with Database(target_of(settings), statements, size=1) as database:
        found = await database.read(lambda session: installation.installed(session, settings.mapping()))
        installation.refuse_unfit(found)
        yield Rein(database=database, policy=policy_of(settings))


def _facts(settings: "Settings", standing: "Standing", used: "Usage", record: "Record") -> Iterator[tuple[str, str]]:
    chosen = settings.activation
    yield "mode", f"{chosen.mode}, by the strategy {chosen.strategy}"
    if standing.opened_at is not None:
        yield "breaker", f"open since {stamp(standing.opened_at)}, by {standing.opened_by}: {standing.reason}"
        yield "", "go on with: paidwatch activation resume"
    else:
        yield "breaker", f"armed since {stamp(standing.armed_at)}, by {standing.armed_by}"
    yield "used", f"{used.hour} of {chosen.max_per_hour} this hour, {used.day} of {chosen.max_per_day} this day"
    yield "under way", str(used.under_way)
    yield "last day", f"{used.failed} failed, {used.undone} undone"
    if record.compared:
        yield "shadow", f"would have been right {record.right} of {record.compared}"
    else:
        yield "shadow", "nothing to compare yet"
