"""`paidwatch`: finds the command, reads the options that every command has, and turns errors into exit codes.

Exit codes: 0 well; 1, 2 and 3 as each command says; 64 the command line is wrong; 78 the configuration is wrong;
130 interrupted; 141 nobody reads the output any more. A command returns its code as an int, or None for 0. Nothing
heavy is imported here: commands are imported when they are called.
"""

import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from paidwatch import __version__
from paidwatch.errors import PaidwatchError

if TYPE_CHECKING:
    from paidwatch.config import Settings

T = TypeVar("T")

USAGE: Final = 64
FAILED: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

COMMANDS: Final = {
    "run": ("paidwatch.cli.run_command:run", "Run the daemon."),
    "install": ("paidwatch.cli.install_command:install", "Put schema, views and triggers into the database."),
    "uninstall": ("paidwatch.cli.install_command:uninstall", "Take them out again."),
    "check": ("paidwatch.cli.check_command:check", "Show who paid and is not active, now."),
    "watch": ("paidwatch.cli.watch_command:watch", "Show it live."),
    "user": ("paidwatch.cli.user_command:user", "Show everything about one user."),
    "activate": ("paidwatch.cli.activate_command:activate", "Activate one user who paid."),
    "undo": ("paidwatch.cli.undo_command:undo", "Take one activation back."),
    "activations": ("paidwatch.cli.activations_command:activations", "Show activations: what each wrote, and why."),
    "activation": ("paidwatch.cli.activation_command:activation", "Show, pause and resume automatic activation."),
    "alerts": ("paidwatch.cli.alerts_command:alerts", "Show alerts; acknowledge, dismiss and silence them."),
    "deliveries": ("paidwatch.cli.deliveries_command:deliveries", "Show messages; retry and replay them."),
    "webhooks": ("paidwatch.cli.webhooks_command:webhooks", "Show what providers sent; replay it."),
    "stats": ("paidwatch.cli.stats_command:stats", "Show how long activations take."),
    "doctor": ("paidwatch.cli.doctor_command:doctor", "Examine the installation."),
    "test-alert": ("paidwatch.cli.test_alert_command:test_alert", "Send a test message through the channels."),
    "config": ("paidwatch.cli.config_command:config", "Check and explain the configuration."),
    "drill": ("paidwatch.cli.drill_command:drill", "Send a test payment through the whole pipe."),
    "demo": ("paidwatch.cli.demo_command:demo", "See it work on a database of its own."),
}
"""Name, `module:attribute`, and the line in the list of commands."""


@dataclass(slots=True, kw_only=True)
class Cli:
    """What was said on the command line about the configuration, and the configuration once it is needed."""

    config: Path | None = None
    dsn: str | None = None
    debug: bool = False
    _loaded: "Settings | None" = None

    def settings(self, *, needs_database: bool = True) -> "Settings":
        """Return the settings, read at the first call; raises ConfigError.

        A command that can do without a database says so, and a missing address is then no error.
        """
        if self._loaded is None:
            self._loaded = self.fresh_settings(needs_database=needs_database)
        return self._loaded

    def fresh_settings(self, *, needs_database: bool = True) -> "Settings":
        """Read the settings again, for a reload; raises ConfigError and keeps what was read before."""
        from paidwatch.config import load  # noqa: PLC0415 - not needed for --help and --version

        overrides = {} if self.dsn is None else {"database.dsn": self.dsn}
        return load(self.config, overrides, needs_database=needs_database)

    def report(self, error: BaseException) -> None:
        """Tell a person about an error, on standard error: what is wrong and what to do; no secret, no traceback."""
        from paidwatch.log import Redactor, visible  # noqa: PLC0415 - only needed when something is wrong

        secrets = set(self._loaded.secrets()) if self._loaded else set[str]()
        names = self._loaded.names() if self._loaded else ()
        redact = Redactor(secrets | ({self.dsn} if self.dsn else set[str]()), names=names)
        if self.debug:
            click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
        if isinstance(error, PaidwatchError):
            message, remedy = error.message, error.remedy
        else:
            message = f"this should not have happened: {type(error).__name__}: {error}"
            remedy = "run it again with --debug and report what it prints"
        lines = [f"paidwatch: {message}", f"  → {remedy}"] if remedy else [f"paidwatch: {message}"]
        for line in redact("\n".join(lines)).split("\n"):
            click.echo(visible(line), err=True)


pass_cli = click.make_pass_decorator(Cli, ensure=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


class DurationParam(click.ParamType[timedelta]):
    """A span of time such as `72h` or `7d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span; a text that is none is a usage error."""
        from paidwatch.config.duration import EXAMPLES, parse_duration  # noqa: PLC0415 - see above

        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(f"{str(value)!r} {error}; {EXAMPLES}", param, ctx)


DURATION: Final = DurationParam()


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` to its end on a loop of its own.

    Task groups wrap what goes wrong inside them: an error that can be told to a person is unwrapped.
    """
    import anyio  # noqa: PLC0415 - most commands that fail early never need a loop

    try:
        return anyio.run(work)
    except BaseExceptionGroup as group:
        told = first_of(group, PaidwatchError) or first_of(group, KeyboardInterrupt)
        if told is None:
            raise
        raise told from group


def first_of(group: BaseExceptionGroup[BaseException], kind: type[BaseException]) -> BaseException | None:
    """Return the first exception of `kind` anywhere inside a group."""
    for inner in group.exceptions:
        nested = isinstance(inner, BaseExceptionGroup)
        found = first_of(cast("BaseExceptionGroup[BaseException]", inner), kind) if nested else inner
        if isinstance(found, kind):
            return found
    return None


class Root(click.Group):
    """The top of the command line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a new operator meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, and give it the options that every command has."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _colon, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        add_common_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with the nearest known one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_where, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a reader that went away ends it quietly."""
        try:
            result = super().invoke(ctx)
            _flush()
        except BrokenPipeError:
            _drop_output()
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:  # noqa: ANN401 - click's own
        """Run the command line and leave with an exit code; this is the only place that prints errors."""
        inner: Callable[..., Any] = super().main
        if not standalone_mode:
            return inner(*args, standalone_mode=False, **extra)
        cli: Cli = extra.setdefault("obj", Cli())
        try:
            result = inner(*args, standalone_mode=False, **extra)
            code = result if isinstance(result, int) else 0
        except click.UsageError as error:
            error.show()
            code = USAGE
        except click.ClickException as error:
            error.show()
            code = FAILED
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except PaidwatchError as error:
            cli.report(error)
            code = error.exit_code
        except Exception as error:  # noqa: BLE001 - the outermost edge; a traceback could show a secret
            cli.report(_unwritten(error) or error)
            code = FAILED
        sys.exit(code)


def _unwritten(error: Exception) -> PaidwatchError | None:
    """Return what to tell if `error` is that standard output takes nothing.

    What could not be written is mostly still there and fails again; where Python keeps nothing (PYTHONUNBUFFERED), the
    error comes out of the two libraries that write.
    """
    at = [frame.f_globals.get("__name__", "") for frame, _line in traceback.walk_tb(error.__traceback__)]
    failed = error if isinstance(error, OSError) and at[-1:] and at[-1].startswith(("click.", "rich.")) else None
    try:
        _flush()
    except OSError as again:
        failed = again
    if failed is None:
        return None
    _drop_output()
    return PaidwatchError(f"the output could not be written: {failed.strerror}")


def _flush() -> None:
    if sys.stdout is not None:  # it was closed before we began
        sys.stdout.flush()


def _drop_output() -> None:
    """Write to nowhere from now on: what is still buffered would fail again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def add_common_options(command: click.Command) -> None:
    """Let `command`, and the commands below it, take --config, --dsn and --debug as well."""
    own = {param.name for param in command.params}
    command.params += [option for option in common_options() if option.name not in own]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_common_options(below)


def common_options() -> list[click.Option]:
    """Return new options whose values go into the `Cli` of the context."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, readable=False),  # whoever reads it tells what is wrong with it
            callback=_remember,
            expose_value=False,
            help="Configuration file, instead of /etc/paidwatch/paidwatch.toml.",
        ),
        click.Option(["--dsn"], callback=_remember, expose_value=False, help="Address of the database."),
        click.Option(
            ["--debug"],
            is_flag=True,
            default=None,
            callback=_remember,
            expose_value=False,
            help="Show tracebacks, without secrets.",
        ),
    ]


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep a value that was given; one that was not leaves what an earlier place said."""
    if value is not None and param.name:
        setattr(ctx.ensure_object(Cli), param.name, value)


@click.group(cls=Root, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="paidwatch", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> object:
    """Tell, in real time, which customer paid and was never activated.

    Without a command: the live view on a terminal.
    """
    if ctx.invoked_subcommand is not None:
        return None
    if not sys.stdout.isatty():
        click.echo(ctx.get_help())
        return None
    watch = main.get_command(ctx, "watch")
    assert watch is not None  # noqa: S101 - it is in COMMANDS
    with watch.make_context("watch", [], parent=ctx) as below:
        return watch.invoke(below)


add_common_options(main)
