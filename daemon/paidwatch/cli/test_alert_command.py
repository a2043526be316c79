"""`paidwatch test-alert`: a marked test through the real outbox and the real channels, there and back."""

import os
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import Cli, json_option, pass_cli, run_async
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.cli.test_alert_walk import Told
    from paidwatch.config import Settings
    from paidwatch.core.model import Notice
    from paidwatch.store.statements import Statements

_FAILED: Final = 1


@click.command("test-alert")
@click.option("--channel", "wanted", metavar="NAME", help="Only this [channels.NAME].")
@click.option("--dry-run", is_flag=True, help="Show what would be said; send nothing and connect to nothing.")
@json_option
@pass_cli
def test_alert(cli: Cli, *, wanted: str | None, dry_run: bool, as_json: bool) -> int:
    """Send a message marked TEST through the outbox, then its end, and say how every channel took both.

    The running daemon delivers; without one this command does. Exit code 0 if every channel took both, 1 if not.
    """
    settings = cli.settings(needs_database=not dry_run)
    names = chosen(settings, wanted)
    if dry_run:
        _show_notices(settings, names, as_json=as_json)
        return 0
    from paidwatch.store.statements import Statements  # noqa: PLC0415 - the commands start fast

    statements = Statements.load()
    told = run_async(lambda: send(settings, statements, names))
    if as_json:
        emit_json({"ok": all(it.taken for it in told), "messages": told})
    else:
        _show(told)
    return 0 if all(it.taken for it in told) else _FAILED


def chosen(settings: "Settings", wanted: str | None) -> list[str]:
    """Return the channels to be tested. Raises Refused if there is none, a usage error for an unknown one."""
    names = list(settings.channels)
    if not names:
        raise Refused("there is no channel to test", remedy="add a [channels.NAME] to the configuration")
    if wanted is None:
        return names
    if wanted not in names:
        raise click.BadParameter(
            f"there is no [channels.{wanted}]; the configuration has {', '.join(names)}", param_hint="--channel"
        )
    return [wanted]


async def send(settings: "Settings", statements: "Statements", names: Sequence[str]) -> "list[Told]":
    """Walk one test story over these channels. Raises DatabaseError."""
    from paidwatch.channels import build  # noqa: PLC0415 - the commands start fast
    from paidwatch.channels.configured import settings_of  # noqa: PLC0415
    from paidwatch.channels.http import open_session  # noqa: PLC0415
    from paidwatch.cli.test_alert_walk import Walk  # noqa: PLC0415
    from paidwatch.log import configure  # noqa: PLC0415
    from paidwatch.store import installation  # noqa: PLC0415
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.wiring import policy_of, target_of  # noqa: PLC0415

    secrets, shown = settings.secrets(), settings.names()
    configure(wanted="console", level="error", secrets=secrets, names=shown, environ=os.environ)
    async with open_session() as http, Database(target_of(settings), statements) as database:
        installation.refuse_unfit(
            await database.read(lambda session: installation.installed(session, settings.mapping()))
        )
        transports = [
            await anyio.to_thread.run_sync(partial(build, name, settings_of(settings.channels[name]), session=http))
            for name in names
        ]
        try:
            return await Walk(database=database, policy=policy_of(settings), transports=transports).walk(_lines())
        finally:
            for transport in transports:
                await transport.aclose()


def notices() -> "tuple[Notice, Notice]":
    """Return the two messages as they would be said now."""
    from paidwatch.core.render import render  # noqa: PLC0415 - only for --dry-run
    from paidwatch.core.story import TEST, State, Story  # noqa: PLC0415

    now = datetime.now(UTC)
    first, second = (
        render(
            Story(
                alert_id="-",
                kind=TEST,
                state=state,
                revision=revision,
                reminders=0,
                announced=revision > 1,
                opened_at=now,
                resolved_at=None if state is State.OPEN else now,
                digest=tuple(_lines()),
            ),
            now=now,
        )
        for revision, state in enumerate((State.OPEN, State.RESOLVED), 1)
    )
    return first, second


def _lines() -> list[str]:
    return [
        f"Sent by paidwatch test-alert on {socket.gethostname()}.",
        "A second message follows and says that it is over.",
    ]


def _show_notices(settings: "Settings", names: Sequence[str], *, as_json: bool) -> None:
    both = notices()
    if as_json:
        kinds = {name: settings.channels[name].type for name in names}
        emit_json({"dry_run": True, "channels": kinds, "messages": [_plain(notice) for notice in both]})
        return
    for name in names:
        kind = settings.channels[name].type
        say(f"{name} ({kind})", "bold")
        for notice, how in zip(both, ("said", _second(kind)), strict=True):
            say(f"  {how}:")
            for line in _text_of(notice):
                say(f"    {line}")
    say("nothing was sent", "yellow")


def _second(kind: str) -> str:
    return {"discord": "then edited to", "email": "then answered in the same thread"}.get(kind, "then said anew")


def _text_of(notice: "Notice") -> Iterator[str]:
    yield f"{notice.word} · {notice.subject}"
    yield notice.summary
    for line in notice.lines:
        value = line.value if isinstance(line.value, str) else f"{line.value:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{line.label}: {value}" if line.label else f"  {value}"


def _plain(notice: "Notice") -> dict[str, object]:
    return {"word": notice.word, "subject": notice.subject, "text": list(_text_of(notice)), "open": notice.open}


def _show(told: "Sequence[Told]") -> None:
    columns: list[Column | str] = [
        "channel",
        "kind",
        "step",
        "result",
        Column(name="code"),
        Column(name="ms", right=True),
    ]
    columns += [Column(name="bytes", right=True), "reference", "by"]
    emit_table(columns, [_row(it) for it in told])
    for it in told:
        if not it.taken:
            say(f"{it.channel}: {it.step}: {it.error}", "red")
    if any(it.passed_over for it in told):
        say(
            "the running daemon did not take all of it: is its configuration this one? systemctl reload paidwatch",
            "yellow",
        )
    elif any(it.taken and it.by == "this command" for it in told):
        say("no daemon leads: delivered by this command")


def _row(it: "Told") -> list[object]:
    result = ("edited" if it.edited else "taken") if it.taken else "not taken"
    reference = ", ".join(f"{name}={value}" for name, value in (it.reference or {}).items() if value)
    milliseconds = None if it.took is None else round(it.took.total_seconds() * 1000)
    style = "green" if it.taken else "bold red"
    return [it.channel, it.kind, it.step, Styled(result, style), it.code, milliseconds, it.size, reference, it.by]
