"""`paidwatch webhooks`: what providers sent, what was made of it, who was passed what, and what failed tried anew."""

import base64
import hashlib
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
    from paidwatch.store.pool import Session
    from paidwatch.store.webhook_list import Listed, Shown

_STATES: Final = {"received": "yellow", "verified": "green", "rejected": "red", "duplicate": ""}
_FORWARD: Final = {"none": "", "due": "yellow", "done": "green", "dead": "bold red"}
_ELSEWHERE: Final = "no webhook came through paidwatch; what the application logged itself: paidwatch user ID"
_SEE: Final = "See what there is: paidwatch webhooks list"

provider_option = click.option("--provider", metavar="NAME", help="Only of this [providers.NAME].")
state_option = click.option(
    "--state", type=click.Choice(["received", "verified", "rejected", "duplicate"]), help="Only what was made this of."
)
forward_option = click.option(
    "--forward", type=click.Choice(["due", "done", "dead", "none"]), help="Only where passing it on stands so."
)
reference_option = click.option("--reference", metavar="ID", help="Only of this payment, by the provider's id.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many."
)


@click.group(invoke_without_command=True)
@provider_option
@state_option
@forward_option
@reference_option
@limit_option
@json_option
@click.pass_context
def webhooks(ctx: click.Context, /, *, as_json: bool, limit: int, **only: str | None) -> object:
    """Show and tend webhooks: list, show, replay. Without a command: list.

    Exit code 0: done, 1: refused, 2: the database could not be asked.
    """
    if ctx.invoked_subcommand is None:
        return ctx.invoke(list_webhooks, limit=limit, as_json=as_json, **only)
    if as_json or any(only.values()):
        message = f"options go behind {ctx.invoked_subcommand}"
        raise click.UsageError(message)
    return None


@webhooks.command("list")
@provider_option
@state_option
@forward_option
@reference_option
@limit_option
@json_option
@pass_cli
def list_webhooks(cli: Cli, /, *, as_json: bool, limit: int, **only: str | None) -> None:
    """Show what providers sent, the newest first."""

    async def ask(session: "Session") -> "tuple[list[Listed], bool]":
        from paidwatch.store.webhook_list import listed, logged  # noqa: PLC0415 - the commands start fast

        rows = await listed(
            session,
            provider=only["provider"],
            state=only["state"],
            forward=only["forward"],
            reference=only["reference"],
            most=limit,
        )
        return rows, not rows and not any(only.values()) and await logged(session)

    found, elsewhere = looking(cli, ask)
    if as_json:
        emit_json({"webhooks": [asdict(one) for one in found], "count": len(found)})
        return
    if not found:
        none = "there is no such webhook" if any(only.values()) else "there is no webhook"
        say(_ELSEWHERE if elsewhere else none, "green")
        return
    columns = (
        Column(name="id", right=True),
        Column(name="received", cut=True, wide=True),
        "provider",
        Column(name="reference", cut=True),
        "status",
        "state",
        "forward",
        Column(name="tries", right=True),
        Column(name="why", cut=True),
    )
    emit_table(columns, map(_row, found))


@webhooks.command()
@click.argument("webhook_id", metavar="ID", type=NumberOf("a webhook"))
@click.option("--body", "with_body", is_flag=True, help="The body as well, as it came; it may hold personal data.")
@json_option
@pass_cli
def show(cli: Cli, webhook_id: int, *, with_body: bool, as_json: bool) -> None:
    """Show one webhook and every request by which it was passed on."""

    async def ask(session: "Session") -> "Shown | None":
        from paidwatch.store.webhook_list import shown  # noqa: PLC0415 - the commands start fast

        return await shown(session, webhook_id)

    found = looking(cli, ask)
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", remedy=_SEE)
    if as_json:
        emit_json(_whole(found, with_body=with_body))
        return
    one = found.listed
    say(f"webhook {one.webhook_id}: {one.provider}, {one.state.value}", "bold")
    for name, value in _facts(found):
        say(f"  {name:<11} {value}")
    for name, value in found.headers:
        say(f"  {name}: {value}")
    if with_body:
        say(found.body.decode("utf-8", "backslashreplace"))
    if found.requests:
        emit_table(
            ["at", "result", "code", Column(name="ms", right=True), "error"],
            [
                (
                    stamp(it.at),
                    Styled(it.result, "green" if it.result == "passed" else "red"),
                    it.code,
                    round(it.took.total_seconds() * 1000),
                    it.error,
                )
                for it in found.requests
            ],
            title="every request, in order",
        )


@webhooks.command()
@click.argument("ids", metavar="ID…", nargs=-1, type=NumberOf("a webhook"))
@click.option("--dead", "all_dead", is_flag=True, help="Every dead letter there is.")
@click.option("--again", is_flag=True, help="Also what the application took already, or what was not to be passed on.")
@by_option
@json_option
@pass_cli
def replay(cli: Cli, ids: tuple[int, ...], *, all_dead: bool, again: bool, by: str, as_json: bool) -> None:
    """Pass dead letters on anew, with all their time; read rejected ones anew, with the secrets of now.

    If one of those named cannot be replayed, none is.
    """
    if all_dead == bool(ids):
        message = "say which webhooks, or --dead" if not ids else "either numbers or --dead"
        raise click.UsageError(message)

    async def act(session: "Session") -> list[int]:
        from paidwatch.store import webhook_list  # noqa: PLC0415 - the commands start fast

        found = await webhook_list.replay(session, None if all_dead else ids, again=again, by=by)
        if missing := sorted(set(ids) - set(found)):
            raise await _refusal(session, missing)
        return found

    replayed = writing(cli, act)
    if as_json:
        emit_json({"replayed": replayed, "count": len(replayed)})
    elif replayed:
        say(f"due now: {', '.join(map(str, replayed))}", "green")
    else:
        say("there is no dead letter", "green")


async def _refusal(session: "Session", missing: list[int]) -> Refused:
    """Return why these are not replayed, by the first of them."""
    from paidwatch.store import webhook_list  # noqa: PLC0415 - the commands start fast

    found = await webhook_list.shown(session, missing[0])
    if found is None:
        return Refused(f"there is no webhook {missing[0]}; nothing was changed", remedy=_SEE)
    one = found.listed
    if one.state == "duplicate":
        why, remedy = "a duplicate", f"Replay the first one: paidwatch webhooks replay {one.duplicate_of}"
    elif one.state == "received" or one.forward_state == "due":
        why, remedy = "under way by itself", f"See it: paidwatch webhooks show {one.webhook_id}"
    elif one.state == "verified" and not one.size:
        why = "older than [retention] webhooks, and its body was removed"
        remedy = f"See what is left of it: paidwatch webhooks show {one.webhook_id}"
    else:
        taken = "taken by the application" if one.forward_state == "done" else "not to be passed on"
        why, remedy = taken, "Pass it on (again) with --again, where [providers.NAME] forward_to is set."
    numbers = ", ".join(map(str, missing))
    return Refused(f"not replayed: {numbers}; webhook {one.webhook_id} is {why}; nothing was changed", remedy=remedy)


def _row(one: "Listed") -> list[object]:
    forward = "under way" if one.under_way else one.forward_state.value
    why = one.problem or (one.last_error if one.forward_state != "done" else None)
    return [
        one.webhook_id,
        stamp(one.received_at),
        one.provider,
        one.reference,
        one.status,
        Styled(one.state.value, _STATES[one.state.value]),
        Styled(forward, _FORWARD[one.forward_state.value]),
        one.forward_attempts,
        None if why is None else masked(why),
    ]


def _whole(found: "Shown", *, with_body: bool) -> dict[str, object]:
    whole: dict[str, object] = asdict(found.listed)
    whole["headers"] = [list(pair) for pair in found.headers]
    whole["body_sha256"] = hashlib.sha256(found.body).hexdigest()
    if with_body:
        whole["body_base64"] = base64.b64encode(found.body).decode()
    whole["requests"] = [asdict(it) for it in found.requests]
    whole["down_since"], whole["down_reason"] = found.down_since, found.down_reason
    whole["not_before"] = found.not_before
    return whole


def _facts(found: "Shown") -> Iterator[tuple[str, str]]:
    """Yield what is known; what is not is left out."""
    one = found.listed
    tried = f", {count(one.forward_attempts, 'attempt')}" if one.forward_attempts else ""
    facts = {
        "received": f"{stamp(one.received_at)}, {count(one.size, 'byte')}",
        "signature": one.signature,
        "problem": one.problem,
        "says": one.status and f"{one.status}, payment {one.reference or 'unknown'}",
        "the same as": one.duplicate_of and f"webhook {one.duplicate_of}",
        "log row": one.log_id,
        "forward": f"{one.forward_state.value}{tried}",
        "next": one.forward_at and not one.under_way and stamp(one.forward_at),
        "taken": one.forwarded_at and stamp(one.forwarded_at),
        "error": one.last_error and masked(one.last_error),
        "handler": found.down_since
        and f"takes nothing since {stamp(found.down_since)}: {masked(found.down_reason or '')}",
        "not before": found.not_before and stamp(found.not_before),
        "replayed by": one.replayed_by,
    }
    yield from ((name, str(fact)) for name, fact in facts.items() if fact)
