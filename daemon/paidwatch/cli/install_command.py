"""`paidwatch install` and `paidwatch uninstall`."""

import os
from typing import TYPE_CHECKING

import click

from paidwatch.cli.output import say
from paidwatch.cli.root import Cli, pass_cli, run_async
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.store.install import History


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Write the SQL and connect to nothing.")
@click.option(
    "--create-tables",
    is_flag=True,
    help="Also create webhook_logs where it is missing, or add what its later form has.",
)
@pass_cli
def install(cli: Cli, *, only_print: bool, create_tables: bool) -> None:
    """Put schema, views and triggers into the database, or bring them up to date. May be run again at any time."""
    from paidwatch.store import install as installer  # noqa: PLC0415 - the commands start fast
    from paidwatch.wiring import target_of  # noqa: PLC0415

    settings = cli.settings(needs_database=not only_print)
    if only_print:
        click.echo(installer.script_for_psql(settings.mapping(), create_tables=create_tables))
        return
    missing = run_async(
        lambda: installer.install(
            target_of(settings), settings.mapping(), create_tables=create_tables, tell=lambda text: say(text, "dim")
        )
    )
    say("installed: schema paidwatch, views and triggers", "green")
    for name in missing:
        say(f"not watched, because the database does not have it: {name}", "yellow")
    say("next: paidwatch doctor, then paidwatch run")


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing. Where there is no terminal, nobody is asked anyway.")
@pass_cli
def uninstall(cli: Cli, *, yes: bool) -> None:
    """Take triggers and schema out again; the application's own schema is left as it was before.

    The history of watches, alerts and activations goes too. Refused while a daemon runs on the installation.
    """
    from paidwatch.store import install as installer  # noqa: PLC0415 - the commands start fast
    from paidwatch.wiring import target_of  # noqa: PLC0415

    settings = cli.settings()
    if not yes and os.isatty(0):  # a closed one is none
        _confirm(run_async(lambda: installer.history(target_of(settings))))
    kept = run_async(lambda: installer.uninstall(target_of(settings), tell=lambda text: say(text, "dim")))
    for line in kept:
        say(line, "yellow")
    say("uninstalled", "green")


def _confirm(history: "History | None") -> None:
    from paidwatch.core.said import count  # noqa: PLC0415 - the commands start fast

    if history is None:
        return
    lost = (
        f"{history.watches} {'watch' if history.watches == 1 else 'watches'}, {count(history.alerts, 'alert')} and"
        f" {count(history.activations, 'activation')}"
    )
    if not click.confirm(f"The history of {lost} goes too. Uninstall?"):
        message = "not confirmed; nothing was taken out"
        raise Refused(message)
