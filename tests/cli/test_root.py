"""The command line itself: options anywhere, exit codes, errors in two lines, and what reaches the terminal."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import anyio
import anyio.lowlevel
import click
import pytest
from click.testing import CliRunner, Result

from paidwatch import __version__
from paidwatch.cli import root
from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import COMMANDS, DURATION, Cli, main, pass_cli, run_async
from paidwatch.errors import ConfigError, PaidwatchError, Refused, Unreachable

DSN = "postgresql://paidwatch:c4n4ry@localhost/shop"
CLEAN = {"PAIDWATCH_DATABASE__DSN": None, "PAIDWATCH_CONFIG": None, "PGHOST": None}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "paidwatch.toml"
    path.write_text(f'[database]\ndsn = "{DSN}"\n[grace]\ndefault = "7m"\n')
    path.chmod(0o600)
    return path


def paidwatch(*args: str | Path) -> Result:
    return CliRunner(env=CLEAN).invoke(main, [str(arg) for arg in args])


Register = Callable[[click.Command], None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put a command of the test's own into the list, under its name."""
    module = ModuleType("paidwatch_commands_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(command: click.Command) -> None:
        assert command.name
        setattr(module, command.name, command)
        monkeypatch.setitem(root.COMMANDS, command.name, (f"{module.__name__}:{command.name}", "A test's own."))

    return add


def failing(error: BaseException) -> click.Command:
    @click.command("fail")
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "order",
    [
        ["--config", "FILE", "config", "show"],
        ["config", "--config", "FILE", "show"],
        ["config", "show", "--config", "FILE"],
        ["config", "show", "--config=FILE"],
        ["--config", "absent.toml", "config", "show", "--config", "FILE"],
    ],
)
def test_config_may_stand_anywhere_and_the_last_one_counts(config: Path, order: list[str]) -> None:
    result = paidwatch(*(word.replace("FILE", str(config)) for word in order))
    assert result.exit_code == 0, result.output
    assert 'default = "7m"' in result.stdout


@pytest.mark.parametrize("position", range(3))
def test_dsn_may_stand_anywhere_and_is_stronger_than_the_file(config: Path, position: int) -> None:
    words = ["config", "show", "--config", str(config)]
    words[position:position] = ["--dsn", "postgresql://other@localhost/shop"]
    result = paidwatch(*words)
    assert 'dsn = "********"  # command line --dsn' in result.stdout


def test_version() -> None:
    result = paidwatch("--version")
    assert (result.exit_code, result.stdout) == (0, f"paidwatch {__version__}\n")


def test_nothing_heavy_is_imported_for_the_version() -> None:
    code = (
        "import sys, paidwatch.cli.root as root\n"
        "try: root.main(['--version'])\n"
        "finally: print(sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    imported = done.stderr
    assert "'click'" in imported
    assert not [
        name
        for name in ("pydantic", "rich", "anyio", "asyncpg", "aiohttp", "paidwatch.config")
        if f"'{name}'" in imported
    ]


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paidwatch", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"paidwatch {__version__}\n"


def test_help_lists_every_command_without_importing_one() -> None:
    result = paidwatch("--help")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line.strip()] == list(
        COMMANDS
    )


def test_without_a_command_a_pipe_gets_help() -> None:
    result = paidwatch()
    assert result.exit_code == 0
    assert result.stdout == paidwatch("--help").stdout


def test_without_a_command_a_terminal_gets_the_live_view(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("watch")
    @pass_cli
    def watch(cli: Cli) -> int:
        click.echo(f"watching {cli.dsn}")
        return 1

    register(watch)
    runner = CliRunner()
    with runner.isolation() as (stdout, _stderr, _both):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        with pytest.raises(SystemExit) as caught:
            main(["--dsn", "x"])
        assert caught.value.code == 1
        assert stdout.getvalue() == b"watching x\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chek"], "Did you mean 'check'?"),
        (["--nonsense"], "No such option"),
        (["config", "show", "--nonsense"], "No such option"),
        (["config", "show", "too", "much"], "unexpected extra arguments"),
        (["--config"], "requires an argument"),
    ],
)
def test_a_wrong_command_line_is_64(args: list[str], said: str) -> None:
    result = paidwatch(*args)
    assert result.exit_code == 64
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no good", remedy="mend it"), 78),
        (Unreachable("no good", remedy="mend it"), 2),
        (Refused("no good", remedy="mend it"), 1),
        (PaidwatchError("no good", remedy="mend it"), 2),
    ],
)
def test_an_error_is_two_lines_and_an_exit_code(register: Register, error: PaidwatchError, code: int) -> None:
    register(failing(error))
    result = paidwatch("fail")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "paidwatch: no good\n  → mend it\n"


def test_an_error_without_remedy_is_one_line(register: Register) -> None:
    register(failing(Unreachable("no \x1b[31mgood")))
    assert paidwatch("fail").stderr == "paidwatch: no \\x1b[31mgood\n"


def test_an_unexpected_error_is_told_without_traceback_and_is_no_gap(register: Register) -> None:
    register(failing(KeyError("x")))
    result = paidwatch("fail")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "paidwatch: this should not have happened: KeyError: 'x'"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("args", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_the_traceback(register: Register, args: list[str]) -> None:
    register(failing(Unreachable("no good")))
    result = paidwatch(*args)
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("paidwatch: no good\n")


def test_no_error_and_no_traceback_shows_a_secret(register: Register, config: Path) -> None:
    @click.command("fail")
    @pass_cli
    def fail(cli: Cli) -> None:
        secret = cli.settings().database.dsn.get_secret_value()
        raise ValueError(f"c4n4ry is wrong, see {secret}")

    register(fail)
    result = paidwatch("--debug", "fail", "--config", config)
    assert "is wrong, see" in result.stderr
    assert "c4n4ry" not in result.output
    result = paidwatch("--debug", "fail", "--dsn", DSN, "--config", config.parent / "absent.toml")
    assert result.exit_code == 78
    assert "c4n4ry" not in result.output


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(register: Register, error: BaseException) -> None:
    register(failing(error))
    result = paidwatch("fail")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_what_a_command_returns_is_the_exit_code(register: Register) -> None:
    @click.command("code")
    @click.argument("value", type=int)
    def code(value: int) -> int:
        return value

    register(code)
    assert [paidwatch("code", str(value)).exit_code for value in (0, 1, 3)] == [0, 1, 3]


def speaking(*, buffered: bool) -> str:
    """Return a program whose command `speak` writes a line, at once or when it is over."""
    return (
        "import sys, types, click\n"
        "from paidwatch.cli.root import COMMANDS, main\n"
        "module = sys.modules['speaks'] = types.ModuleType('speaks')\n"
        f"module.speak = click.Command('speak', callback=lambda: {'print' if buffered else 'click.echo'}('x' * 100))\n"
        "COMMANDS['speak'] = ('speaks:speak', '')\n"
        "main(sys.argv[1:])\n"
    )


@pytest.mark.parametrize("buffered", [False, True])
def test_a_reader_that_goes_away_ends_it_quietly(*, buffered: bool) -> None:
    code = speaking(buffered=buffered)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=pipe, stderr=subprocess.PIPE, env=environ, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("word", "buffered", "unbuffered"),
    [("speak", False, ""), ("speak", True, ""), ("speak", False, "1"), ("--version", False, "")],
)
def test_an_output_that_takes_nothing_is_told(word: str, *, buffered: bool, unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", speaking(buffered=buffered), word],
            stdout=full,
            stderr=subprocess.PIPE,
            env=dict(os.environ) | {"PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
            timeout=60,
        )
    said = "paidwatch: the output could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_an_output_that_was_closed_before_is_no_error() -> None:
    command = [sys.executable, "-c", speaking(buffered=False), "speak"]
    done = subprocess.run(
        command,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: os.close(1),
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_of_the_system_that_is_none_of_the_output(register: Register) -> None:
    register(failing(OSError(28, "No space left on device")))
    assert "this should not have happened: OSError" in paidwatch("fail").stderr


@pytest.mark.parametrize("variable", [False, True])
def test_a_file_that_cannot_be_read_is_told_by_whoever_reads_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "open", lambda *_args, **_named: _raise(refused))
    monkeypatch.setattr(os, "access", lambda *_args, **_named: False)  # root may read everything
    environ = CLEAN | ({"PAIDWATCH_CONFIG": str(config)} if variable else {})
    options = [] if variable else ["--config", str(config)]
    result = CliRunner(env=environ).invoke(main, ["config", "check", *options])
    assert result.exit_code == 78
    said = f"paidwatch: {config}: cannot be read (Permission denied)\n  → let the user that runs paidwatch read it\n"
    assert result.stderr == said


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_task_group_wraps_is_unwrapped(*, wrapped: bool) -> None:
    async def fail() -> None:
        raise Unreachable("no good")

    async def work() -> None:
        if not wrapped:
            await fail()
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            outer.start_soon(anyio.sleep_forever)
            inner.start_soon(fail)

    with pytest.raises(Unreachable, match="no good"):
        run_async(work)


def test_other_groups_stay_what_they_are() -> None:
    async def work() -> None:
        raise ExceptionGroup("several", [ValueError("x")])

    with pytest.raises(ExceptionGroup, match="several"):
        run_async(work)


def test_run_async_returns_the_result() -> None:
    async def work() -> int:
        await anyio.lowlevel.checkpoint()
        return 3

    assert run_async(work) == 3


def test_every_registered_command_names_a_module_of_the_commands() -> None:
    for where, line in COMMANDS.values():
        module, colon, attribute = where.partition(":")
        assert module.startswith("paidwatch.cli.")
        assert colon
        assert attribute.isidentifier()
        assert line.endswith(".")


def test_durations_on_the_command_line(register: Register) -> None:
    @click.command("since")
    @click.option("--since", type=DURATION, default="7d")
    def since(since: timedelta) -> None:
        click.echo(repr(since))

    register(since)
    assert paidwatch("since").stdout == "datetime.timedelta(days=7)\n"
    assert paidwatch("since", "--since", "1h30m").stdout == "datetime.timedelta(seconds=5400)\n"
    wrong = paidwatch("since", "--since", "90")
    assert wrong.exit_code == 64
    assert "'90' is a number without a unit; write it like" in wrong.stderr
    assert "'1x' is not a duration; write it like" in paidwatch("since", "--since", "1x").stderr


@pytest.mark.parametrize("number", ["xx", "0", "-1", "1.5", "9223372036854775808"])
@pytest.mark.parametrize(
    ("words", "of"),
    [
        (["alerts", "ack", "--for", "1h"], "an alert"),
        (["alerts", "silence", "end"], "a silence"),
        (["deliveries", "show"], "a delivery"),
        (["webhooks", "show"], "a webhook"),
        (["activations", "show"], "an activation"),
        (["undo"], "an activation"),
    ],
)
def test_what_is_no_number_of_anything(config: Path, words: list[str], of: str, number: str) -> None:
    result = paidwatch(*words, "--config", config, "--", number)
    assert result.exit_code == 64
    assert f"{number!r} is not the number of {of}\n" in result.stderr


def test_config_check_says_what_is_in_force(config: Path) -> None:
    result = paidwatch("config", "check", "--config", config)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{config}: nothing is wrong",
        "channels: none; automatic activation: off",
        "warning: nobody will be told: there is no [channels.NAME]",
    ]


def test_config_check_finds_everything_and_leaves_with_78(config: Path) -> None:
    config.write_text(f'[database]\ndsn = "{DSN}"\ntime_zone = "x"\n[grace]\ndefault = 5\n')
    result = paidwatch("config", "check", "--config", config)
    assert (result.exit_code, result.stdout) == (78, "")
    assert f"{config}:3: database.time_zone" in result.stderr
    assert f"{config}:5: grace.default" in result.stderr
    assert "c4n4ry" not in result.output
    found = paidwatch("config", "check", "--json", "--config", config)
    assert found.exit_code == 78
    report = json.loads(found.stdout)
    assert report["ok"] is False
    assert [(it["line"], it["key"]) for it in report["problems"]] == [(3, "database.time_zone"), (5, "grace.default")]
    absent = json.loads(paidwatch("config", "check", "--json", "--config", "absent.toml").stdout)
    assert absent["problems"][0]["what"] == "absent.toml: there is no such file"


def test_config_check_as_json_when_all_is_well(config: Path) -> None:
    report = json.loads(paidwatch("config", "check", "--json", "--config", config).stdout)
    assert (report["ok"], report["problems"]) == (True, [])


def test_config_show_as_json(config: Path) -> None:
    shown = {it["key"]: it for it in json.loads(paidwatch("config", "show", "--json", "--config", config).stdout)}
    assert shown["grace.default"] == {"key": "grace.default", "value": "7m", "source": f"{config}:4"}
    assert shown["database.dsn"]["value"] == "********"


def test_config_schema_is_json_schema() -> None:
    result = paidwatch("config", "schema")
    assert result.exit_code == 0
    assert "grace" in json.loads(result.stdout)["properties"]


def printed(capsys: pytest.CaptureFixture[str], show: Callable[[], None]) -> str:
    show()
    return capsys.readouterr().out


def test_a_pipe_gets_aligned_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ["u12@example.org", Decimal("14.99"), Styled("open", "red"), timedelta(minutes=5)],
        ["名前", 7, None, datetime(2026, 1, 2, tzinfo=UTC)],
        ["a\nb\x1b[2J", True, "", "[red]x"],
    ]
    columns: list[Column | str] = ["user", Column(name="amount", right=True), "state", "age"]
    assert printed(capsys, lambda: emit_table(columns, rows, title="Gaps")).splitlines() == [
        "Gaps",
        "USER             AMOUNT  STATE  AGE",
        "u12@example.org   14.99  open   5m",
        "名前                  7  -      2026-01-02 00:00:00+00:00",
        "a\\nb\\x1b[2J         yes  -      [red]x",
    ]


def test_json_is_exact_and_on_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "amount": Decimal("14.90"),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "after": timedelta(minutes=2),
        "ids": {2, 1},
    }
    text = printed(capsys, lambda: emit_json(value))
    assert text == '{"amount": "14.90", "at": "2026-01-02T00:00:00+00:00", "after": "2m", "ids": [1, 2]}\n'
    assert printed(capsys, lambda: emit_json(Column(name="é"))) == (
        '{"name": "é", "right": false, "cut": false, "wide": false}\n'
    )
    for unsuited in (object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            emit_json(unsuited)


def test_said_lines_are_plain_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, lambda: say("one\ntwo \x1b[2J", "red")) == "one\ntwo \\x1b[2J\n"


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_a_table_with_colours_unless_it_asks_for_none(*, no_color: bool) -> None:
    code = (
        "from paidwatch.cli.output import *\n"
        "emit_table(['user', Column(name='n', right=True)], [['[bold]x\\x1b[2J', Styled(7, 'red')]], title='T')\n"
        "say('[bold]done', 'green')\n"
        "emit_json({'a': 1})\n"
    )
    outer, inner = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    environ |= {"TERM": "xterm"} | ({"NO_COLOR": "1"} if no_color else {})
    with os.fdopen(outer, "rb", buffering=0) as reader:
        subprocess.run([sys.executable, "-c", code], stdout=inner, env=environ, check=True, timeout=60)
        os.close(inner)
        text = reader.read(4000).decode()
    assert "[bold]x\\x1b[2J" in text
    assert '{\r\n  "a": 1\r\n}' in text
    assert ("\x1b[31m" in text, "\x1b[32m[bold]done" in text) == (not no_color, not no_color)
