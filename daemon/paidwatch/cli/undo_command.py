"""`paidwatch undo ACTIVATION_ID`: what one activation wrote is taken back, where the row is still exactly that."""

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from paidwatch.cli.output import Styled, emit_json, emit_table, say
from paidwatch.cli.root import Cli, json_option, pass_cli, run_async
from paidwatch.cli.tending import NumberOf, by_option
from paidwatch.core.text import stamp
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.flow.tend import Person
    from paidwatch.flow.undo import Takeback, Undo, Undone
    from paidwatch.store.statements import Statements


@click.command()
@click.argument("activation_id", metavar="ACTIVATION_ID", type=NumberOf("an activation"))
@click.option("--reason", default="", help="Why, for the event, the ledger and the audit.")
@click.option("--dry-run", is_flag=True, help="Show what would be put back, and write nothing.")
@click.option("--yes", is_flag=True, help="Ask nothing; for scripts.")
@by_option
@json_option
@pass_cli
def undo(cli: Cli, activation_id: int, *, reason: str, dry_run: bool, yes: bool, by: str, as_json: bool) -> None:
    """Put back what was there before one activation of paidwatch, in one transaction, and tell the channels.

    Refused unless the user's row still has exactly what the activation wrote: whoever changed it since meant something
    by it. An event `activation_reverted` tells the application; paidwatch does not activate the payment again by
    itself. Exit code 0: done, 1: refused, 2: failed; whatever failed or was refused left nothing behind.
    """
    from paidwatch.flow.tend import Person  # noqa: PLC0415 - the commands start fast
    from paidwatch.flow.undo import refused  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()
    person = Person(name=by, reason=reason.strip()[:2000])
    found = run_async(lambda: _look(settings, statements, activation_id))
    if not as_json:
        _say(found, settings)
    if found.refusal:
        raise refused(found)
    if dry_run:
        if as_json:
            emit_json(_document(found) | {"dry_run": True})
        else:
            say("dry run: nothing was written", "bold")
        return
    if not yes:
        _confirm()
    done = run_async(lambda: _carry_out(settings, statements, activation_id, person))
    if as_json:
        emit_json(_document(found) | {"dry_run": False, "event_id": done.event_id, "inexact": _inexact(done)})
    else:
        _say_end(done)


async def _look(settings: "Settings", statements: "Statements", activation_id: int) -> "Takeback":
    async with _undo(settings, statements) as flow:
        return await flow.look(activation_id)


async def _carry_out(settings: "Settings", statements: "Statements", activation_id: int, person: "Person") -> "Undone":
    async with _undo(settings, statements) as flow:
        return await flow.carry_out(activation_id, person)


@asynccontextmanager
async def _undo(settings: "Settings", statements: "Statements") -> "AsyncGenerator[Undo]":
    """Connect, and make sure that the installation is the one the configuration describes."""
    from paidwatch.flow.undo import Undo  # noqa: PLC0415 - the commands start fast
    from paidwatch.store import installation  # noqa: PLC0415
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.wiring import policy_of, target_of  # noqa: PLC0415

    async with Database(target_of(settings), statements, size=1) as database:
        found = await database.read(lambda session: installation.installed(session, settings.mapping()))
        installation.refuse_unfit(found)
        yield Undo(database=database, policy=policy_of(settings))


def _confirm() -> None:
    if not sys.stdin.isatty():
        message = "this is no terminal, so nobody can be asked; nothing was written"
        raise Refused(message, remedy="Add --yes to do it, or --dry-run to only look.")
    if not click.confirm("Put this back?"):
        message = "not confirmed; nothing was written"
        raise Refused(message)


def _say(found: "Takeback", settings: "Settings") -> None:
    """Show the activation and the three images of the user, column by column."""
    written = found.written
    when = f", {stamp(written.done_at)}" if written.done_at else ""
    say(f"activation {written.activation_id}: {written.state}, by {written.actor}{when}", "bold")
    say(f"user {written.user_id}, payment {written.subject}")
    # Where nothing can be taken back the user was not even looked at.
    rows = list(_images(found)) if found.present is not None else []
    if rows:
        columns = ("column", "before it", "it wrote", "now", "put back")
        emit_table(columns, rows, title=f"what it wrote to {settings.users.table}")
    if not found.refusal and settings.events.table:
        say(f"event   activation_reverted in {settings.events.table}")


def _images(found: "Takeback") -> Iterator[tuple[object, ...]]:
    from paidwatch.flow.undo import image  # noqa: PLC0415 - the commands start fast

    before, after, present = image(found.written.before), image(found.written.after), image(found.present)
    changed = {change.column for change in found.changes}
    for column in found.columns:
        if column in changed:
            put_back: object = Styled("no: it changed", "bold red")
        else:
            put_back = Styled(_shown(before.get(column)), "green") if not found.refusal else None
        yield column, _shown(before.get(column)), _shown(after[column]), _shown(present.get(column)), put_back


def _shown(value: object) -> str:
    return "NULL" if value is None else str(value)


def _document(found: "Takeback") -> dict[str, object]:
    from paidwatch.flow.undo import image  # noqa: PLC0415 - the commands start fast

    written, before = found.written, image(found.written.before)
    return {
        "activation_id": written.activation_id,
        "payment_id": written.subject.payment_id,
        "reference": written.named,
        "user_id": written.user_id,
        "restored": {column: before.get(column) for column in found.columns},
        "was": {column: image(found.present).get(column) for column in found.columns},
    }


def _inexact(done: "Undone") -> list[dict[str, object]]:
    return [asdict(change) for change in done.inexact]


def _say_end(done: "Undone") -> None:
    number = done.written.activation_id
    event = f", event {done.event_id}" if done.event_id else ""
    say(f"activation {number} is undone{event}", "bold green")
    for change in done.inexact:
        say(f"a trigger of the application set {change.column} to {_shown(change.present)} meanwhile", "yellow")
    user, of = done.written.user_id, done.written.subject
    say(
        "paidwatch does not activate it again by itself; a person can:"
        f" paidwatch activate {user} --payment {of.payment_id or of.reference} --force P7 --reason …"
    )
