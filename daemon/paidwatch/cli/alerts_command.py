"""`paidwatch alerts`: what stands, what happened to it, and the three things a person can do about it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import NOTHING, Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import DURATION, Cli, json_option, pass_cli
from paidwatch.cli.silence_command import silence
from paidwatch.cli.tending import NumberOf, acting, by_option, listing, looking
from paidwatch.core import answer
from paidwatch.core.evidence import reference_of
from paidwatch.core.text import mask, masked, money, span, stamp
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.core.answer import Asked
    from paidwatch.store.alert_list import Happened, Knows, Listed
    from paidwatch.store.pool import Session

_STATES: Final = {"open": "bold red", "acked": "yellow", "resolved": "green"}


def _which(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options of the list, which stand behind `alerts` as well as behind `alerts list`."""
    for option in (
        click.option("--members", is_flag=True, help="Also the gaps that an incident speaks for."),
        click.option("--since", type=DURATION, metavar="SPAN", help="Also what ended within this time, such as 24h."),
        click.option("--all", "over", is_flag=True, help="Also what is over."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_which
@json_option
@click.pass_context
def alerts(ctx: click.Context, /, **which: object) -> object:
    """Show and tend alerts: list, show, ack, unack, dismiss, silence. Without a command: list.

    Exit code 0: done, 1: refused, 2: the database could not be asked.
    """
    return listing(ctx, list_alerts, **which)


alerts.add_command(silence)


@alerts.command("list")
@_which
@json_option
@pass_cli
def list_alerts(cli: Cli, *, over: bool, since: timedelta | None, members: bool, as_json: bool) -> None:
    """Show what is open and what somebody looks after, the newest first."""

    async def ask(session: "Session") -> "list[Listed]":
        from paidwatch.store.alert_list import listed  # noqa: PLC0415 - the commands start fast

        return await listed(session, over=over, since=since, members=members)

    found = looking(cli, ask)
    if as_json:
        emit_json({"alerts": [document(one) for one in found], "count": len(found)})
        return
    if not found:
        say("no alert is open" if not over and since is None else "there is no alert", "green")
        return
    columns = (
        "id",
        "state",
        "kind",
        Column(name="about", cut=True),
        Column(name="money", right=True),
        Column(name="age", right=True),
        Column(name="cause", cut=True, wide=True),
        Column(name="note", cut=True, wide=True),
    )
    emit_table(columns, [_row(one) for one in found])


@alerts.command()
@click.argument("alert_id", metavar="ID", type=NumberOf("an alert"))
@json_option
@pass_cli
def show(cli: Cli, alert_id: int, *, as_json: bool) -> None:
    """Show one alert: its story, what happened to it, and what each channel knows of it."""

    async def ask(session: "Session") -> "tuple[list[Listed], list[Happened], list[Knows], Asked | None]":
        from paidwatch.store import alert_list, answers  # noqa: PLC0415 - the commands start fast

        found = await alert_list.listed(session, one=alert_id)
        return (
            found,
            await alert_list.history(session, alert_id),
            await alert_list.deliveries(session, alert_id),
            await answers.about_alert(session, alert_id),
        )

    found, history, knows, asked = looking(cli, ask)
    if not found:
        message = f"there is no alert {alert_id}"
        raise Refused(message, remedy="See what is open: paidwatch alerts list")
    one = found[0]
    if as_json:
        emit_json(
            document(one)
            | {
                "provider_answer": answer.document(asked),
                "history": [asdict(it) for it in history],
                "deliveries": [asdict(it) | _told(one, it) for it in knows],
            }
        )
        return
    say(f"alert {one.alert_id}: {one.kind}, {one.state.value}", "bold")
    for name, value in _story(one, asked):
        say(f"  {name:<13} {value}")
    if history:
        emit_table(
            ("at", "what", "who", "note"),
            [(stamp(it.at), it.what, it.actor, masked(it.note)) for it in history],
            title="what happened, in order",
        )
    if knows:
        emit_table(
            ("channel", "knows", "told", "next", "attempts", "error"),
            [_known(one, it) for it in knows],
            title="what the channels know",
        )


@alerts.command()
@click.argument("alert_id", metavar="ID", type=NumberOf("an alert"))
@click.option("--for", "length", type=DURATION, required=True, metavar="SPAN", help="For how long, for example 2h.")
@click.option("--reason", default="", help="What you are doing, for the history.")
@by_option
@json_option
@pass_cli
def ack(cli: Cli, alert_id: int, *, length: timedelta, reason: str, by: str, as_json: bool) -> None:
    """Look after an alert: until then nobody is reminded and nothing escalates, unless new money comes in."""
    until = acting(cli, by, reason, lambda tend, person: tend.ack(alert_id, person, length))
    if as_json:
        emit_json({"alert_id": alert_id, "state": "acked", "acked_by": by, "acked_until": until})
    else:
        say(f"alert {alert_id} is acknowledged by {by} until {stamp(until)}", "green")


@alerts.command()
@click.argument("alert_id", metavar="ID", type=NumberOf("an alert"))
@click.option("--reason", default="", help="Why, for the history.")
@by_option
@json_option
@pass_cli
def unack(cli: Cli, alert_id: int, *, reason: str, by: str, as_json: bool) -> None:
    """Give an alert back: reminders and escalations go on."""
    acting(cli, by, reason, lambda tend, person: tend.unack(alert_id, person))
    if as_json:
        emit_json({"alert_id": alert_id, "state": "open"})
    else:
        say(f"alert {alert_id} is open again", "yellow")


@alerts.command()
@click.argument("alert_id", metavar="ID", type=NumberOf("an alert"))
@click.option("--reason", required=True, help="Why it is no gap; for the history and the audit.")
@click.option("--members", is_flag=True, help="Of an incident: dismiss all of its open gaps.")
@by_option
@json_option
@pass_cli
def dismiss(cli: Cli, alert_id: int, *, reason: str, members: bool, by: str, as_json: bool) -> None:
    """Say that it is no gap: it is closed for good, and the channels that heard of it hear that."""
    if not reason.strip():
        message = "say why it is no gap"
        raise click.BadParameter(message, param_hint="--reason")
    count = acting(cli, by, reason, lambda tend, person: tend.dismiss(alert_id, person, members=members))
    if as_json:
        emit_json({"alert_id": alert_id, "state": "resolved", "outcome": "dismissed", "alerts": count})
    else:
        with_members = f" with {count - 1} of its gaps" if count > 1 else ""
        say(f"alert {alert_id} is dismissed{with_members}", "green")


def document(one: "Listed") -> dict[str, object]:
    """Return what `--json` shows of one alert: amounts are strings, times carry their zone, the user is masked."""
    shown: dict[str, object] = asdict(one)
    for hidden in ("now", "user_label", "incident"):
        del shown[hidden]
    incident = one.incident
    shown |= {
        "user": mask(one.user_label or "") or None,
        "reference": reference_of(one.reference) or None,
        "detail": masked(one.detail),
        "notes": [masked(note) for note in one.notes],
        "amount": None if one.amount is None else str(one.amount),
        "money": {currency: str(amount) for currency, amount in one.money.items()},
        "age_seconds": int(((one.resolved_at or one.now) - one.opened_at).total_seconds()),
        "incident": None
        if incident is None
        else {
            "kind_of": incident.kind_of,
            "method": incident.method,
            "total": incident.total,
            "open": incident.open,
            "rescued": incident.rescued,
            "otherwise": incident.otherwise,
            "oldest_paid_at": incident.oldest_paid_at,
            "causes": [{"cause": masked(cause), "count": count} for cause, count in incident.causes],
        },
    }
    return shown


def sums(amounts: Mapping[str, Decimal]) -> str:
    """Return `14.99 USD + 3 EUR`."""
    return " + ".join(money(amount, currency) for currency, amount in amounts.items())


def _row(one: "Listed") -> tuple[object, ...]:
    age = span((one.resolved_at or one.now) - one.opened_at)
    return (
        one.alert_id,
        Styled(one.state.value, _STATES[one.state.value]),
        one.kind,
        _about(one),
        sums(one.money),
        age,
        masked(one.cause),
        _note(one),
    )


def _about(one: "Listed") -> str:
    if one.incident is not None:
        method = f" by {one.incident.method}" if one.incident.method else ""
        return masked(f"{one.incident.open} of {one.incident.total} open, {one.incident.kind_of}{method}")
    if one.channel is not None:
        return f"channel {one.channel}"
    parts = [f"user {one.user_id}" if one.user_id else "", mask(one.user_label or "")]
    payment = one.payment_id or reference_of(one.reference)
    parts += [f"payment {payment}" if payment else "", one.plan_id or ""]
    if one.reference is not None and not payment:
        parts.append(f"{one.method} webhooks")
    return masked(" ".join(part for part in parts if part)) or NOTHING


def _note(one: "Listed") -> str:
    if one.outcome is not None:
        return one.outcome
    parts: list[str] = []
    if one.acked_until is not None:
        parts.append(f"by {one.acked_by} until {stamp(one.acked_until)}")
    if one.silenced_until is not None:
        parts.append(f"silenced by {one.silenced_by} until {stamp(one.silenced_until)}")
    if one.incident_id is not None:
        parts.append(f"member of {one.incident_id}")
    return masked("; ".join(parts))


def _story(one: "Listed", asked: "Asked | None") -> list[tuple[str, str]]:
    story = {
        "about": _about(one),
        "method": one.method or "",
        "money": sums(one.money),
        "cause": one.cause,
        "reported": one.detail,
        "delay": one.delay,
        "paid": stamp(one.paid_at) if one.paid_at else "",
        "opened": stamp(one.opened_at),
        "closed": " ".join((stamp(one.resolved_at), f"({one.outcome})" if one.outcome else "")).strip()
        if one.resolved_at
        else "",
        "severity": one.severity,
        "note": "" if one.outcome else _note(one),
        "reminders": f"{one.reminders}" + (f", next {stamp(one.remind_at)}" if one.remind_at else ""),
        "escalations": f"next {stamp(one.escalate_at)}" if one.escalate_at else "",
    }
    lines = [(name, masked(value)) for name, value in story.items() if value]
    said = () if asked is None else answer.in_words(asked)
    lines += [("" if place else "provider", masked(line)) for place, line in enumerate(said)]
    lines += [("" if place else "notes", masked(note)) for place, note in enumerate(one.notes[:40])]
    if one.incident is not None:
        causes = [f"{count} times: {cause}" for cause, count in one.incident.causes]
        lines += [("" if place else "causes", masked(cause)) for place, cause in enumerate(causes)]
    return lines


def _told(one: "Listed", knows: "Knows") -> dict[str, object]:
    return {"up_to_date": knows.told_revision >= one.revision}


def _known(one: "Listed", knows: "Knows") -> tuple[object, ...]:
    if knows.told_revision >= one.revision:
        state = Styled("all of it", "green")
    else:
        state = Styled("an earlier state", "yellow") if knows.told_revision else Styled("nothing yet", "yellow")
    upcoming = "under way" if knows.under_way else stamp(knows.due_at) if knows.due_at else None
    if knows.waits_for is not None:
        upcoming = f"{upcoming or ''} (waits: {knows.waits_for})".strip()
    if knows.dead_at is not None:
        upcoming = f"dead since {stamp(knows.dead_at)}"
    channel = f"{knows.channel} (escalation)" if knows.escalated else knows.channel
    return channel, state, stamp(knows.told_at) if knows.told_at else None, upcoming, knows.attempts, knows.last_error
