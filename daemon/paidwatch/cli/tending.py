"""What the commands that tend alerts share: who acts, one look as of one moment, one act in one transaction."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import click

from paidwatch.cli.activate_command import os_user
from paidwatch.cli.root import Cli, run_async

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.flow.tend import Person, Tend
    from paidwatch.store.pool import Session

T = TypeVar("T")


class NumberOf(click.ParamType[int]):
    """The number by which people call something, as the database can hold it."""

    name = "number"

    def __init__(self, what: str) -> None:
        """Take what it is the number of, with its article."""
        self._what = what

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a text that is none is a usage error."""
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if number not in _NUMBERS:
            self.fail(f"{str(value)!r} is not the number of {self._what}", param, ctx)
        return number


_NUMBERS: Final = range(1, 2**63)


def _author(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    del ctx, param
    return author(value)


by_option = click.option("--by", metavar="NAME", callback=_author, help="Who you are; left out: your login.")


def listing(ctx: click.Context, command: click.Command, **options: object) -> object:
    """Run `command` for a group that was called without one, with the options that the group was given."""
    if ctx.invoked_subcommand is None:
        return ctx.invoke(command, **options)
    for option in ctx.command.params:
        if options.get(option.name or ""):
            message = f"{option.opts[0]} goes behind {ctx.invoked_subcommand}"
            raise click.UsageError(message)
    return None


def author(given: str | None) -> str:
    """Return who acts: as given, or whoever logged in, also where sudo was used. A usage error where that is nobody."""
    name = given if given is not None else os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or os_user()
    if not name.strip():
        message = "say who you are"
        raise click.BadParameter(message, param_hint="--by")
    return name.strip()[:200]


def looking(cli: Cli, ask: "Callable[[Session], Awaitable[T]]") -> T:
    """Ask as of one moment; nothing is written. Raises DatabaseError."""
    from paidwatch.cli.database import asking  # noqa: PLC0415 - the commands start fast
    from paidwatch.store import installation, report  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def work() -> T:
        async with asking(settings, statements, "alerts", report.SESSION) as session, report.snapshot(session):
            installation.refuse_unfit(await installation.installed(session, settings.mapping()))
            return await ask(session)

    return run_async(work)


def acting(cli: Cli, by: str, reason: str, act: "Callable[[Tend, Person], Awaitable[T]]") -> T:
    """Do one thing in one transaction. Raises Refused and DatabaseError: then nothing was written."""
    from paidwatch.flow.tend import Person  # noqa: PLC0415 - the commands start fast

    settings = cli.settings()

    async def work() -> T:
        async with _tend(settings) as tend:
            return await act(tend, Person(name=by, reason=reason.strip()[:2000]))

    return run_async(work)


def writing(cli: Cli, act: "Callable[[Session], Awaitable[T]]") -> T:
    """Do one thing in one transaction. Raises Refused and DatabaseError: then nothing was written."""
    from paidwatch.store import installation  # noqa: PLC0415 - the commands start fast
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415
    from paidwatch.wiring import target_of  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def work() -> T:
        async with Database(target_of(settings), statements, size=1) as database:
            installation.refuse_unfit(
                await database.read(lambda session: installation.installed(session, settings.mapping()))
            )
            return await database.write(act)

    return run_async(work)


@asynccontextmanager
async def _tend(settings: "Settings") -> "AsyncGenerator[Tend]":
    """Connect, and make sure that the installation is the one the configuration describes."""
    from paidwatch.flow.tend import Tend  # noqa: PLC0415 - the commands start fast
    from paidwatch.store import installation  # noqa: PLC0415
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415
    from paidwatch.wiring import target_of  # noqa: PLC0415

    async with Database(target_of(settings), Statements.load(), size=1) as database:
        found = await database.read(lambda session: installation.installed(session, settings.mapping()))
        installation.refuse_unfit(found)
        yield Tend(database=database)
