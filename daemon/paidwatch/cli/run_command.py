"""`paidwatch run`: the daemon."""

import faulthandler
import os
from typing import TYPE_CHECKING

import click

from paidwatch.cli.root import Cli, pass_cli, run_async

if TYPE_CHECKING:
    from paidwatch.config.settings import Settings


@click.command()
@pass_cli
def run(cli: Cli) -> None:
    """Run the daemon until SIGTERM; SIGHUP reads the configuration again."""
    from paidwatch.app import Daemon  # noqa: PLC0415 - the commands start fast
    from paidwatch.log import Log, configure  # noqa: PLC0415

    def configure_log(settings: "Settings") -> None:
        log = settings.log
        secrets, names = settings.secrets(), settings.names()
        configure(wanted=log.format, level=log.level, secrets=secrets, names=names, environ=os.environ)

    faulthandler.enable()
    settings = cli.settings()
    configure_log(settings)
    for warning in settings.warnings:
        Log().warning("config.warning", "the configuration has a weakness", warning=warning)
    run_async(lambda: Daemon(settings, cli.fresh_settings, configure_log, os.environ).run())
