"""`paidwatch deliveries`: what each channel was told, what waits and why, and dead letters tried anew."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import Cli, json_option, pass_cli
from paidwatch.cli.tending import NumberOf, by_option, looking, writing
from paidwatch.core.said import count
from paidwatch.core.text import masked, stamp
from paidwatch.errors import Refused

if TYPE_CHECKING:
    from paidwatch.store.deliveries import Listed, Shown
    from paidwatch.store.pool import Session

_STATES: Final = {"due": "yellow", "held": "yellow", "dead": "bold red", "sent": "green", "none": ""}
_SEE: Final = "See what there is: paidwatch deliveries list"

channel_option = click.option("--channel", metavar="NAME", help="Only this [channels.NAME].")
state_option = click.option("--state", type=click.Choice(["due", "dead", "held", "sent"]), help="Only what stands so.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many."
)


@click.group(invoke_without_command=True)
@channel_option
@state_option
@limit_option
@json_option
@click.pass_context
def deliveries(ctx: click.Context, *, channel: str | None, state: str | None, limit: int, as_json: bool) -> object:
    """Show and tend messages: list, show, retry, replay. Without a command: list.

    Exit code 0: done, 1: refused, 2: the database could not be asked.
    """
    if ctx.invoked_subcommand is None:
        return ctx.invoke(list_deliveries, channel=channel, state=state, limit=limit, as_json=as_json)
    if channel is not None or state is not None or as_json:
        message = f"options go behind {ctx.invoked_subcommand}"
        raise click.UsageError(message)
    return None


@deliveries.command("list")
@channel_option
@state_option
@limit_option
@json_option
@pass_cli
def list_deliveries(cli: Cli, *, channel: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """Show what each channel knows of each alert, the newest first."""

    async def ask(session: "Session") -> "list[Listed]":
        from paidwatch.store.deliveries import Standing, listed  # noqa: PLC0415 - the commands start fast

        return await listed(session, channel=channel, state=None if state is None else Standing(state), most=limit)

    found = looking(cli, ask)
    if as_json:
        emit_json({"deliveries": [asdict(one) for one in found], "count": len(found)})
        return
    if not found:
        say("there is no such delivery" if channel or state else "there is no delivery", "green")
        return
    columns = (
        Column(name="id", right=True),
        Column(name="alert", right=True),
        "kind",
        "channel",
        "state",
        Column(name="told", cut=True, wide=True),
        Column(name="next", cut=True, wide=True),
        Column(name="tries", right=True),
        Column(name="error", cut=True),
    )
    emit_table(columns, map(_row, found))


@deliveries.command()
@click.argument("delivery_id", metavar="ID", type=NumberOf("a delivery"))
@json_option
@pass_cli
def show(cli: Cli, delivery_id: int, *, as_json: bool) -> None:
    """Show one delivery and every request that was made for it."""

    async def ask(session: "Session") -> "Shown | None":
        from paidwatch.store.deliveries import shown  # noqa: PLC0415 - the commands start fast

        return await shown(session, delivery_id)

    found = looking(cli, ask)
    if found is None:
        raise _none(delivery_id)
    if as_json:
        emit_json(asdict(found.listed) | {name: value for name, value in asdict(found).items() if name != "listed"})
        return
    one = found.listed
    say(f"delivery {one.delivery_id}: alert {one.alert_id} ({one.kind}) on {one.channel}, {one.state.value}", "bold")
    for name, value in _facts(found):
        say(f"  {name:<11} {value}")
    if found.requests:
        columns: list[Column | str] = ["at", "said", "result", "code", Column(name="ms", right=True)]
        emit_table(
            [*columns, Column(name="bytes", right=True), "error"],
            [
                (
                    stamp(it.at),
                    f"{it.word} {it.revision}",
                    Styled(it.result, "green" if it.result == "sent" else "red"),
                    it.code,
                    round(it.took.total_seconds() * 1000),
                    it.size,
                    it.error,
                )
                for it in found.requests
            ],
            title="every request, in order",
        )


@deliveries.command()
@click.argument("delivery_id", metavar="ID", type=NumberOf("a delivery"))
@by_option
@json_option
@pass_cli
def retry(cli: Cli, delivery_id: int, *, by: str, as_json: bool) -> None:
    """Try a waiting message now, before its time; also where its channel is held to be broken.

    A wish of the service to wait is respected all the same.
    """

    async def act(session: "Session") -> None:
        from paidwatch.store import deliveries as store  # noqa: PLC0415 - the commands start fast

        if await store.retry(session, delivery_id, by=by):
            return
        found = await store.shown(session, delivery_id)
        if found is None:
            raise _none(delivery_id)
        state = found.listed.state
        why = "under way" if found.listed.under_way else f"not waiting by itself: it is {state.value}"
        remedy = f"Try it anew: paidwatch deliveries replay {delivery_id}" if state is store.Standing.DEAD else _SEE
        raise Refused(f"delivery {delivery_id} is {why}", remedy=remedy)

    writing(cli, act)
    if as_json:
        emit_json({"delivery_id": delivery_id, "state": "due"})
    else:
        say(f"delivery {delivery_id} is due now", "green")


@deliveries.command()
@click.argument("ids", metavar="ID…", nargs=-1, type=NumberOf("a delivery"))
@click.option("--all-dead", is_flag=True, help="Every dead letter there is.")
@channel_option
@by_option
@json_option
@pass_cli
def replay(cli: Cli, ids: tuple[int, ...], *, all_dead: bool, channel: str | None, by: str, as_json: bool) -> None:
    """Try dead letters anew, with all their time; what they say is what is true then.

    If one of those named is no dead letter, none is tried.
    """
    if all_dead == bool(ids):
        message = "say which dead letters, or --all-dead" if not ids else "either numbers or --all-dead"
        raise click.UsageError(message)

    async def act(session: "Session") -> list[int]:
        from paidwatch.store import deliveries as store  # noqa: PLC0415 - the commands start fast

        found = await store.replay(session, None if all_dead else ids, channel=channel, by=by)
        if missing := sorted(set(ids) - set(found)):
            raise Refused(
                f"no dead letter: {', '.join(map(str, missing))}; nothing was changed",
                remedy="See the dead letters: paidwatch deliveries list --state dead",
            )
        return found

    replayed = writing(cli, act)
    if as_json:
        emit_json({"replayed": replayed, "count": len(replayed)})
    elif replayed:
        say(f"due now: {', '.join(map(str, replayed))}", "green")
    else:
        say("there is no dead letter", "green")


def _none(delivery_id: int) -> Refused:
    return Refused(f"there is no delivery {delivery_id}", remedy=_SEE)


def _row(one: "Listed") -> list[object]:
    state = "under way" if one.under_way else one.state.value
    told = stamp(one.told_at) if one.told_at else None
    due = stamp(one.due_at) if one.due_at and not one.under_way and one.state != "sent" else None
    styled = Styled(state, _STATES[one.state.value])
    error = None if one.last_error is None else masked(one.last_error)
    return [one.delivery_id, one.alert_id, one.kind, one.channel, styled, told, due, one.attempts, error]


def _facts(found: "Shown") -> Iterator[tuple[str, str]]:
    """Yield what is known; what is not is left out."""
    one = found.listed
    told = one.told_revision or "nothing"
    waits = "the end of the quiet hours" if found.waits_for == "quiet" else "the repair of its channel"
    of = f" of user {one.user_id}" if one.user_id else ""
    facts = {
        "alert": f"{one.alert_state}, revision {one.revision}; told here: {told}",
        "payment": one.payment_id and f"{one.payment_id}{of}",
        "told": one.told_at and stamp(one.told_at),
        "next": one.due_at and stamp(one.due_at),
        "trying": one.trying_since and f"since {stamp(one.trying_since)}, {count(one.attempts, 'attempt')}",
        "given up": one.dead_at and stamp(one.dead_at),
        "error": one.last_error and masked(one.last_error),
        "waits for": found.waits_for and waits,
        "digest": one.bundle_id and f"delivery {one.bundle_id}",
        "channel": found.down_since
        and f"takes nothing since {stamp(found.down_since)}: {masked(found.down_reason or '')}",
        "not before": found.not_before and stamp(found.not_before),
        "because": found.escalated and "of an escalation",
        "replayed by": one.replayed_by,
        "reference": ", ".join(f"{name}={value}" for name, value in sorted(found.reference.items())),
    }
    yield from ((name, str(fact)) for name, fact in facts.items() if fact)
