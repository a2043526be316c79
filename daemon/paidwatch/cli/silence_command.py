"""`paidwatch alerts silence`: quiet about something, with an author, a reason and an end."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import DURATION, Cli, json_option, pass_cli
from paidwatch.cli.tending import NumberOf, acting, by_option, listing, looking
from paidwatch.core.model import GapKind
from paidwatch.core.story import AUDIT, BREAKER, CHANNEL_DOWN, DOUBLE, FORWARD, INCIDENT
from paidwatch.core.text import masked, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paidwatch.store.alert_list import Quiet
    from paidwatch.store.pool import Session

KINDS = (*(kind.value for kind in GapKind), INCIDENT, CHANNEL_DOWN, DOUBLE, FORWARD, BREAKER, AUDIT)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def silence(ctx: click.Context, *, as_json: bool) -> object:
    """Be quiet about something for a while: add, list, end. Without a command: list."""
    return listing(ctx, list_silences, as_json=as_json)


@silence.command()
@click.option("--for", "length", type=DURATION, required=True, metavar="SPAN", help="For how long, for example 4h.")
@click.option("--user", "user_id", metavar="ID", help="Only this user: the key or the e-mail address.")
@click.option("--plan", "plan_id", metavar="PLAN", help="Only this plan.")
@click.option("--method", metavar="METHOD", help="Only this payment method.")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind of alert.")
@click.option("--reason", default="", help="Why.")
@by_option
@json_option
@pass_cli
def add(  # noqa: PLR0913  one option each
    cli: Cli,
    *,
    length: timedelta,
    user_id: str | None,
    plan_id: str | None,
    method: str | None,
    kind: str | None,
    reason: str,
    by: str,
    as_json: bool,
) -> None:
    """Tell nobody of what fits, until the time is up; then what still stands is told.

    All options that are given must fit. Recoveries of what was told before are told all the same.
    """
    from paidwatch.store.alert_acts import Wanted  # noqa: PLC0415 - the commands start fast

    wanted = Wanted(user_id=user_id, plan_id=plan_id, method=method, kind=kind)
    if wanted == Wanted():
        message = "say what it is about: --user, --plan, --method or --kind"
        raise click.UsageError(message)
    made = acting(cli, by, reason, lambda tend, person: tend.silence(wanted, person, length))
    if as_json:
        emit_json(asdict(made) | {"author": by})
        return
    until = stamp(made.expires_at) if made.expires_at else ""
    say(f"silence {made.silence_id} by {by} until {until}; {_open_alerts(made.fitting)} silenced by it", "yellow")


@silence.command("list")
@click.option("--all", "over", is_flag=True, help="Also those that ended.")
@json_option
@pass_cli
def list_silences(cli: Cli, *, over: bool, as_json: bool) -> None:
    """Show what is silenced, by whom, why and until when."""

    async def ask(session: "Session") -> "Sequence[Quiet]":
        from paidwatch.store.alert_list import silences  # noqa: PLC0415 - the commands start fast

        return await silences(session, over=over)

    found = looking(cli, ask)
    if as_json:
        emit_json({"silences": [asdict(one) for one in found], "count": len(found)})
        return
    if not found:
        say("there is no silence" if over else "nothing is silenced", "green")
        return
    columns = ("id", "until", "by", "about", Column(name="alerts", right=True), "reason")
    emit_table(columns, [_row(one) for one in found])


@silence.command()
@click.argument("silence_id", metavar="ID", type=NumberOf("a silence"))
@by_option
@json_option
@pass_cli
def end(cli: Cli, silence_id: int, *, by: str, as_json: bool) -> None:
    """End a silence before its time; what still stands is told at once."""
    ended = acting(cli, by, "", lambda tend, person: tend.end_silence(silence_id, person))
    if as_json:
        emit_json({"silence_id": silence_id, "fitting": ended.fitting})
    else:
        say(f"silence {silence_id} is over; {_open_alerts(ended.fitting)} told again", "green")


def _row(one: "Quiet") -> tuple[object, ...]:
    ended = f"ended {stamp(one.ended_at)} by {one.ended_by}" if one.ended_at else stamp(one.expires_at)
    parts = (("user", one.user_id), ("plan", one.plan_id), ("method", one.method), ("kind", one.kind))
    about = masked(", ".join(f"{name} {value}" for name, value in parts if value is not None))
    return one.silence_id, Styled(ended, "yellow" if one.open else "dim"), one.author, about, one.alerts, one.reason


def _open_alerts(count: int) -> str:
    return "1 open alert is" if count == 1 else f"{count} open alerts are"
