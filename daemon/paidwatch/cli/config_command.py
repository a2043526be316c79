"""`paidwatch config check|show|schema`: what the configuration says, without asking a database."""

import json

import click

from paidwatch.cli.output import emit_json, say
from paidwatch.cli.root import Cli, json_option, pass_cli
from paidwatch.config import ConfigProblems, Settings, schema
from paidwatch.config.shown import entries
from paidwatch.errors import ConfigError


@click.group()
def config() -> None:
    """Check and explain the configuration."""


@config.command()
@json_option
@pass_cli
def check(cli: Cli, *, as_json: bool) -> int:
    """Say everything that is wrong, with file and line; exit 78 if anything is."""
    try:
        settings = cli.settings()
    except ConfigError as error:
        if not as_json:
            raise
        emit_json({"ok": False, "problems": _problems(error), "warnings": []})
        return error.exit_code
    if as_json:
        emit_json({"ok": True, "problems": [], "warnings": list(settings.warnings)})
        return 0
    say(f"{settings.origins.file or 'no configuration file'}: nothing is wrong", "green")
    say(_told(settings))
    for warning in settings.warnings:
        say(f"warning: {warning}", "yellow")
    return 0


@config.command()
@json_option
@pass_cli
def show(cli: Cli, *, as_json: bool) -> None:
    """Write the effective configuration as TOML, secrets hidden, with the source of each value."""
    settings = cli.settings(needs_database=False)
    if as_json:
        emit_json([{"key": it.key, "value": it.value, "source": it.source} for it in entries(settings)])
    else:
        say(settings.shown().rstrip("\n"))


@config.command("schema")
def write_schema() -> None:
    """Write the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(schema(), indent=2))


def _problems(error: ConfigError) -> list[dict[str, object]]:
    if not isinstance(error, ConfigProblems):
        return [{"source": "", "line": None, "key": "", "what": error.message, "remedy": error.remedy}]
    return [
        {
            "source": it.origin.name or str(it.origin),
            "line": it.origin.line,
            "key": it.key,
            "what": it.what,
            "remedy": it.remedy,
        }
        for it in error.problems
    ]


def _told(settings: Settings) -> str:
    channels = [f"{name} ({channel.type})" for name, channel in settings.channels.items()]
    return f"channels: {', '.join(channels) or 'none'}; automatic activation: {settings.activation.mode}"
