"""`paidwatch run`: the daemon."""

import os

import click

from paidwatch.cli.root import Cli, pass_cli, run_async


@click.command()
@pass_cli
def run(cli: Cli) -> None:
    """Run the daemon until SIGTERM; SIGHUP reads the configuration again."""
    from paidwatch.app import Daemon  # noqa: PLC0415 - the commands start fast
    from paidwatch.log import Log, configure  # noqa: PLC0415

    settings = cli.settings()
    configure(wanted=settings.log.format, level=settings.log.level, secrets=settings.secrets(), environ=os.environ)
    for warning in settings.warnings:
        Log().warning("config.warning", "the configuration has a weakness", warning=warning)
    run_async(lambda: Daemon(settings, cli.fresh_settings, os.environ).run())
