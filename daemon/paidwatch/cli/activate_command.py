"""`paidwatch activate USER_ID`: one user who paid is activated by hand, under the same guards as the machine."""

import json
import os
import pwd
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

import click

from paidwatch.cli.output import NOTHING, Styled, emit_table, say
from paidwatch.cli.root import Cli, pass_cli, run_async
from paidwatch.config.hours import zone_of
from paidwatch.core.grant import Grant
from paidwatch.core.guards import FORCEABLE, Guard, Reason, override
from paidwatch.core.model import Facts, Gap, Settled, Verdict, Waiting
from paidwatch.core.text import money, span, stamp
from paidwatch.errors import PaidwatchError, Refused

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.flow.grant import Ended, Prospect
    from paidwatch.flow.manual import Manual, Wish
    from paidwatch.store.statements import Statements

_MOMENTS = frozenset({"paid_until", "revoked_at", "last_paid_at", "touched_at"})
_NAMES = {
    name.lower(): guard
    for guard in Guard
    if guard in FORCEABLE
    for name in (guard.value, guard.value.partition("_")[0])
}
"""What a person may call a guard: `P7_not_activated_yet`, `P7`."""


def _forced(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> frozenset[Guard]:
    """Return the guards that are named, apart or with commas between them; an unknown name is a usage error."""
    del ctx, param
    named = [name.strip() for part in value for name in part.split(",") if name.strip()]
    unknown = [name for name in named if name.lower() not in _NAMES]
    if unknown:
        known = ", ".join(sorted(guard.value for guard in FORCEABLE))
        message = f"{unknown[0]} is no guard that a person can override; these are: {known}"
        raise click.BadParameter(message)
    return frozenset(_NAMES[name.lower()] for name in named)


@click.command()
@click.argument("user_id")
@click.option("--plan", "plan_id", help="The plan that the payment bought; another one is refused.")
@click.option("--payment", "payment_id", metavar="ID", help="The payment; left out: the user's newest paid one.")
@click.option("--reason", default="", help="Why, for the ledger and the audit.")
@click.option(
    "--force",
    "forced",
    multiple=True,
    metavar="GUARD[,GUARD]",
    callback=_forced,
    help="Override these guards and no other, for example P7; needs --reason.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--yes", is_flag=True, help="Ask nothing; for scripts.")
@pass_cli
def activate(
    cli: Cli,
    user_id: str,
    *,
    plan_id: str | None,
    payment_id: str | None,
    reason: str,
    forced: frozenset[Guard],
    dry_run: bool,
    yes: bool,
) -> None:
    """Give one user what one payment bought, by the configured strategy, and tell the channels.

    Every guard that the machine obeys holds here too, except for its mode, its caps and the second witness: you are
    that witness. What else refuses can be overridden by its name, where there is something to write at all. Exit code
    0: done, 1: refused, 2: failed; whatever was refused left nothing behind.
    """
    from paidwatch.flow.manual import Wish  # noqa: PLC0415 - the commands start fast
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    if forced and not reason.strip():
        message = "--force needs --reason: the ledger keeps why a guard was overridden"
        raise click.UsageError(message)
    settings, statements = cli.settings(), Statements.load()
    wish = Wish(
        user_id=user_id,
        payment_id=payment_id,
        plan_id=plan_id,
        actor=f"cli:{os_user()}",
        reason=reason.strip()[:2000],
        forced=forced,
    )

    found = run_async(lambda: _look(settings, statements, wish))
    _say(found, settings)
    if not found.allowed:
        why = " ".join(found.refusals)
        raise Refused(why, remedy=_what_else(found, user_id))
    if dry_run:
        say("dry run: nothing was written", "bold")
        return
    if not yes:
        _confirm()
    number, ended = run_async(lambda: _carry_out(settings, statements, wish))
    _say_end(number, ended)


def os_user() -> str:
    """Return the name of whoever runs this, as the system knows it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


async def _look(settings: "Settings", statements: "Statements", wish: "Wish") -> "Prospect":
    async with _manual(settings, statements) as manual:
        return await manual.look(wish)


async def _carry_out(settings: "Settings", statements: "Statements", wish: "Wish") -> "tuple[int, Ended]":
    async with _manual(settings, statements) as manual:
        return await manual.carry_out(wish)


@asynccontextmanager
async def _manual(settings: "Settings", statements: "Statements") -> "AsyncGenerator[Manual]":
    """Connect, and make sure that the installation is the one the configuration describes."""
    from paidwatch.clock import SystemClock  # noqa: PLC0415 - the commands start fast
    from paidwatch.flow.manual import Manual  # noqa: PLC0415
    from paidwatch.store import installation  # noqa: PLC0415
    from paidwatch.store.pool import Database  # noqa: PLC0415
    from paidwatch.wiring import policy_of, target_of  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(target_of(settings), statements, size=1))
        found = await database.read(lambda session: installation.installed(session, settings.mapping()))
        installation.refuse_unfit(found)
        policy = policy_of(settings)
        application = None
        if policy.strategy == "http":
            from paidwatch.application.endpoint import build  # noqa: PLC0415 - most need no HTTP
            from paidwatch.outbound import open_session  # noqa: PLC0415

            http = await stack.enter_async_context(open_session())
            application = build(settings.activation.http, http)
        yield Manual(database=database, policy=policy, application=application, clock=SystemClock())


def _what_else(found: "Prospect", user_id: str) -> str:
    """Say what a refused person can do: look, or override what can be overridden."""
    refusing = [result for result in found.guards if not result.passed]
    look = f"See everything about the user: paidwatch user {user_id}"
    if not refusing or isinstance(found.grant, Reason):
        return look
    overridden = override(found.guards, frozenset(result.guard for result in refusing))
    if not all(result.passed for result in overridden):
        return look
    names = ",".join(result.guard.value.partition("_")[0] for result in refusing)
    return f"{look}. If you know better: --force {names} --reason …"


def _confirm() -> None:
    if not sys.stdin.isatty():
        message = "this is no terminal, so nobody can be asked; nothing was written"
        raise Refused(message, remedy="Add --yes to do it, or --dry-run to only look.")
    if not click.confirm("Write this?"):
        message = "not confirmed; nothing was written"
        raise Refused(message)


def _say(found: "Prospect", settings: "Settings") -> None:
    facts = found.facts
    for name, value in _known(facts, found.verdict, found.now):
        say(f"{name:<9} {value}")
    emit_table(
        ("guard", "holds", "why"),
        [
            (
                result.guard.value,
                Styled("yes", "green") if result.passed else Styled("no", "bold red"),
                result.reason.value,
            )
            for result in found.guards
        ],
    )
    if isinstance(found.grant, Grant) and found.allowed:
        _say_grant(found.grant, found.before, settings)


def _known(facts: Facts, verdict: Verdict, now: datetime) -> Iterator[tuple[str, str]]:
    user, payment = facts.subscriber, facts.payment
    if user is not None:
        until = f", paid until {stamp(user.paid_until)}" if user.paid_until else ""
        revoked = f", revoked {stamp(user.revoked_at)}" if user.revoked_at else ""
        yield "user", f"{user.id} {user.label or ''}: {user.status or NOTHING}, {user.tier or NOTHING}{until}{revoked}"
    if payment is not None:
        paid = f"paid {span(now - facts.paid_at)} ago ({stamp(facts.paid_at)})"
        bought = f"{payment.plan_id or 'no plan'}, {money(payment.amount, payment.currency)}"
        yield (
            "payment",
            f"{facts.subject}: {bought} by {payment.method or NOTHING}, {payment.status or NOTHING}, {paid}",
        )
    match verdict:
        case Gap(kind=kind, cause=cause):
            yield "verdict", f"{kind.value}: {cause}"
        case Settled(outcome=outcome):
            yield "verdict", f"nothing is owed: {outcome.value}"
        case Waiting(until=moment):
            yield "verdict", f"within the grace period until {stamp(moment)}"
        case _ as unreachable:
            assert_never(unreachable)


def _say_grant(grant: Grant, before: str | None, settings: "Settings") -> None:
    """Show what is written, column by column, and what else."""
    image: dict[str, object] = json.loads(before or "{}")
    rows = [
        (column, _shown(field, image[column], settings), Styled(_shown(field, grant.user[field], settings), "green"))
        for field, column in writable(settings)
        if column in image
    ]
    if settings.activation.strategy == "http":
        emit_table(("column", "before", "after"), rows, title=f"what {settings.users.table} must show afterwards")
        say("asked   the application's endpoint, by the strategy http; what the tables show then is what counts")
    else:
        emit_table(("column", "before", "after"), rows, title=f"what is written to {settings.users.table}")
    if settings.events.table and settings.activation.strategy == "sql":
        data = json.dumps(dict(grant.event_data), ensure_ascii=False)
        say(f"event   {settings.events.write} in {settings.events.table}: {data}")
    say("ledger  one activation and its audit; the watch is closed as fixed, and who was told of the gap is told so")


def writable(settings: "Settings") -> Iterator[tuple[str, str]]:
    """Yield what an activation writes: canonical field, the application's column."""
    users = settings.users
    yield from (
        ("status", users.status),
        ("tier", users.tier),
        ("plan_id", users.plan),
        ("paid_until", users.paid_until),
    )
    yield from (("paid_until", column) for column in users.also_paid_until)
    yield from (
        ("revoked_at", users.revoked_at),
        ("last_paid_at", users.last_paid_at),
        ("touched_at", users.touched_at),
    )


def _shown(field: str, value: object, settings: "Settings") -> str:
    """Return a value as a person reads it; a moment without zone is one of the configured zone."""
    if value is None:
        return "NULL"
    moment = value
    if field in _MOMENTS and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:  # 'infinity'
            return value
    if not isinstance(moment, datetime):
        return str(value)
    zone = zone_of(settings.database.time_zone)
    return stamp((moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC))


def _say_end(number: int, ended: "Ended") -> None:
    from paidwatch.flow.grant import Result  # noqa: PLC0415 - the commands start fast

    match ended.result:
        case Result.DONE:
            for note in ended.notes:
                say(note, "bold green")
            event = f", event {ended.event_id}" if ended.event_id else ""
            say(f"activation {number}{event}")
        case Result.REFUSED:
            message = " ".join(ended.notes)
            raise Refused(message, remedy="Something changed meanwhile: look again with --dry-run.")
        case Result.GONE:
            message = "somebody else ended this activation"
            raise Refused(message)
        case Result.FAILED | Result.UNDER_WAY:
            message = " ".join(ended.notes) or f"activation {number} failed"
            raise PaidwatchError(message, remedy=f"See what happened: paidwatch activations show {number}")
        case _ as unreachable:
            assert_never(unreachable)
