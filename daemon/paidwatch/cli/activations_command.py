"""`paidwatch activations`: what each activation wrote and why, from the ledger and the audit."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import DURATION, Cli, json_option, pass_cli
from paidwatch.cli.tending import NumberOf, looking
from paidwatch.core.text import mask, money, stamp
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.store.activations import Activation, Audited
    from paidwatch.store.pool import Session

_STATES: Final = {
    "claimed": "yellow",
    "calling": "yellow",
    "done": "green",
    "refused": "",
    "failed": "bold red",
    "shadow": "cyan",
    "undone": "magenta",
}

state_option = click.option("--state", type=click.Choice(list(_STATES)), help="Only what stands so.")
since_option = click.option("--since", type=DURATION, metavar="SPAN", help="Only the last of them, for example 24h.")
user_option = click.option("--user", "user_id", metavar="ID", help="Only this user's.")


@click.group(invoke_without_command=True)
@state_option
@since_option
@user_option
@json_option
@click.pass_context
def activations(
    ctx: click.Context, *, state: str | None, since: timedelta | None, user_id: str | None, as_json: bool
) -> object:
    """Show activations: list, show. Without a command: list.

    Exit code 0: done, 1: there is no such activation, 2: the database could not be asked.
    """
    if ctx.invoked_subcommand is None:
        return ctx.invoke(list_activations, state=state, since=since, user_id=user_id, as_json=as_json)
    if state is not None or since is not None or user_id is not None or as_json:
        message = f"options go behind {ctx.invoked_subcommand}"
        raise click.UsageError(message)
    return None


@activations.command("list")
@state_option
@since_option
@user_option
@json_option
@pass_cli
def list_activations(
    cli: Cli, *, state: str | None, since: timedelta | None, user_id: str | None, as_json: bool
) -> None:
    """Show what was granted, refused, computed in the shadow and undone, the newest first."""

    async def ask(session: "Session") -> "list[Activation]":
        from paidwatch.store.activations import listed  # noqa: PLC0415 - the commands start fast

        states = None if state is None else [state]
        return await listed(session, states=states, since=since, user_id=user_id)

    found = looking(cli, ask)
    if as_json:
        emit_json({"activations": [document(one) for one in found], "count": len(found)})
        return
    if not found:
        say("there is no such activation" if state or since or user_id else "there is no activation", "green")
        return
    columns = (
        Column(name="id", right=True),
        "at",
        "state",
        Column(name="user", cut=True),
        Column(name="payment", cut=True),
        Column(name="gave", cut=True),
        Column(name="by", cut=True, wide=True),
        Column(name="note", cut=True, wide=True),
    )
    emit_table(columns, [_row(one) for one in found])


@activations.command()
@click.argument("activation_id", metavar="ID", type=NumberOf("an activation"))
@json_option
@pass_cli
def show(cli: Cli, activation_id: int, *, as_json: bool) -> None:
    """Show one activation: both images side by side, every guard's answer, who, by which version, and what followed."""

    async def ask(session: "Session") -> "tuple[list[Activation], list[Audited]]":
        from paidwatch.store import activations as store  # noqa: PLC0415 - the commands start fast

        return await store.listed(session, one=activation_id), await store.audited(session, activation_id)

    found, audited = looking(cli, ask)
    if not found:
        message = f"there is no activation {activation_id}"
        raise Refused(message, remedy="See what there is: paidwatch activations list")
    one = found[0]
    if as_json:
        emit_json(document(one) | {"audit": [asdict(line) for line in audited]})
        return
    say(f"activation {one.activation_id}: {one.state}", "bold")
    for name, value in _facts(one):
        say(f"  {name:<11} {value}")
    rows = list(_images(one))
    if rows:
        emit_table(("column", "before", "after"), rows, title=_title(one))
    if one.guards:
        emit_table(
            ("guard", "held", "why"),
            [
                (it.guard, Styled("yes", "green") if it.passed else Styled("no", "bold red"), it.reason)
                for it in one.guards
            ],
            title="what the guards answered",
        )
    if audited:
        emit_table(
            ("at", "who", "did", "version", Column(name="why", cut=True)),
            [(stamp(it.at), it.actor, it.act, it.version, it.reason) for it in audited],
            title="what the audit has",
        )


def document(one: "Activation") -> dict[str, object]:
    """Return one activation for programs; the user's name is left out."""
    fields = asdict(one)
    for unused in ("now", "user_label"):
        del fields[unused]
    return fields


def gave(one: "Activation") -> str:
    """Say what it gave, or would have given: `professional until 2026-12-23 12:54 UTC`."""
    if one.tier is None and one.paid_until is None:
        return one.plan_id or ""
    until = f"until {one.paid_until:%Y-%m-%d %H:%M} UTC" if one.paid_until else "for ever"
    return f"{one.tier} {until}" if one.tier else until


def _row(one: "Activation") -> tuple[object, ...]:
    return (
        one.activation_id,
        f"{one.done_at or one.claimed_at:%m-%d %H:%M:%S}",
        Styled(one.state, _STATES.get(one.state, "")),
        one.user_id,
        one.payment_id or one.reference,
        gave(one),
        one.actor,
        "; ".join(_notes(one)),
    )


def _notes(one: "Activation") -> Iterator[str]:
    """Yield what is unusual about it."""
    if one.doubled_at:
        yield "activated twice"
    if one.forced:
        yield f"forced {', '.join(one.forced)}"
    if one.undone_at:
        yield f"undone by {one.undone_by}"
    if one.was_right is not None:
        yield "would have been right" if one.was_right else f"would have been wrong: {one.comparison}"
    if one.state == "refused":
        yield from (f"{it.reason} ({it.guard})" for it in one.guards if not it.passed)
    if one.error:
        yield one.error


def _facts(one: "Activation") -> Iterator[tuple[str, str]]:
    label = f" ({mask(one.user_label)})" if one.user_label else ""
    yield "user", f"{one.user_id}{label}"
    bought = f"{one.plan_id or 'no plan'}, {money(one.amount, one.currency)}"
    reference = f", {one.reference}" if one.reference else ""
    yield "payment", f"{one.payment_id or 'no row'}: {bought} by {one.method or 'an unknown method'}{reference}"
    yield "gave", gave(one) or "nothing"
    yield "by", f"{one.actor}, paidwatch {one.version}"
    if one.reason:
        yield "reason", one.reason
    yield "claimed", stamp(one.claimed_at)
    if one.done_at:
        yield one.state if one.state not in {"undone", "calling"} else "done", stamp(one.done_at)
    if one.due_at:
        yield "next try", stamp(one.due_at)
    tried = f", tried {one.attempts} times" if one.attempts > 1 else ""
    yield "strategy", f"{one.strategy}{tried}"
    if one.calls:
        asked = f", last at {stamp(one.called_at)}" if one.called_at else ""
        yield "calls", f"{one.calls}{asked}; the application answered {one.answer or 'nothing'}"
    if one.event_id:
        yield "event", one.event_id
    if one.forced:
        yield "forced", ", ".join(one.forced)
    if one.error:
        yield "error", one.error
    yield from _afterwards(one)


def _afterwards(one: "Activation") -> Iterator[tuple[str, str]]:
    """Yield what became of it."""
    if one.was_right is not None and one.compared_at:
        found = "it would have been right" if one.was_right else "it would have been wrong"
        yield "compared", f"{found}: {one.comparison or 'as it happened'} ({stamp(one.compared_at)})"
    elif one.state == "shadow":
        yield "compared", "not decided yet"
    if one.doubled_at:
        event = f"by event {one.doubled_by or '?'}, seen at {stamp(one.doubled_at)}"
        yield "twice", f"the application activated the payment as well, {event}"
    if one.undone_at:
        why = f": {one.undone_why}" if one.undone_why else ""
        yield "undone", f"{stamp(one.undone_at)} by {one.undone_by}{why}"
    elif one.state == "done":
        yield "take back", f"paidwatch undo {one.activation_id}"


def _title(one: "Activation") -> str:
    match one.state:
        case "shadow":
            return "what it would have written"
        case "done" | "undone":
            return "what it wrote"
        case _:
            return "the user as it was, and what was to be written"


def _images(one: "Activation") -> Iterator[tuple[object, ...]]:
    """Yield each column, with what it was and what it was given."""
    wrote = one.after or one.planned
    for column in sorted(set(one.before) | set(wrote)):
        before = _shown(one.before[column]) if column in one.before else None
        if column not in wrote:
            yield column, before, None
            continue
        after = _shown(wrote[column])
        yield column, before, Styled(after, "green") if before != after else after


def _shown(value: object) -> str:
    return "NULL" if value is None else str(value)
