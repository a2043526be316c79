"""`paidwatch check`: who paid and does not have it, now."""

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from paidwatch.cli.output import Column, Styled, emit_json, emit_table, is_terminal, say
from paidwatch.cli.root import DURATION, Cli, json_option, pass_cli, run_async
from paidwatch.config.duration import format_duration
from paidwatch.core import answer
from paidwatch.core.text import money, span, stamp

if TYPE_CHECKING:
    from paidwatch.cli.gaps import Found, Report, Seen

GAPS = 1


@click.command()
@click.option("--since", type=DURATION, default="72h", show_default=True, help="How far back payments are looked at.")
@json_option
@pass_cli
def check(cli: Cli, since: timedelta, *, as_json: bool) -> int:
    """Say which payments are gaps now, from the application's own tables; a daemon is not needed for it.

    Payments paid within the time given are looked at, and all that are watched and not closed. Exit code 0: there are
    no gaps, 1: there are, 2: the database could not be asked, so nothing is known.
    """
    from paidwatch.cli.database import asking  # noqa: PLC0415 - the commands start fast
    from paidwatch.cli.gaps import look  # noqa: PLC0415
    from paidwatch.store.report import SESSION  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def ask() -> "Report":
        async with asking(settings, statements, "check", SESSION) as session:
            return await look(session, settings, since)

    found = run_async(ask)
    if as_json:
        emit_json(as_document(found))
    else:
        _say(found, since)
    return GAPS if found.gaps or found.webhooks else 0


def as_document(found: "Report") -> dict[str, object]:
    """Return what `--json` shows: amounts are strings, times carry their zone, keys are as in the application."""
    return {
        "checked_at": found.now,
        "gaps": [*(_gap(found, one) for one in found.gaps), *(_seen(found, one) for one in found.webhooks)],
        "count": len(found.gaps) + len(found.webhooks),
        "money_at_risk": found.money,
        "not_watched": list(found.not_watched),
    }


def _gap(found: "Report", one: "Found") -> dict[str, object]:
    from paidwatch.cli.gaps import key  # noqa: PLC0415 - the commands start fast

    facts, payment, user = one.facts, one.facts.payment, one.facts.subscriber
    return {
        "kind": one.gap.kind,
        "payment_id": key(facts.payment_id, number=found.keys.payments),
        "user_id": key(payment.user_id if payment else None, number=found.keys.users),
        "plan_id": payment.plan_id if payment else None,
        "method": payment.method if payment else None,
        "reference": payment.reference if payment else None,
        "status": payment.status if payment else None,
        "amount": None if payment is None or payment.amount is None else str(payment.amount),
        "currency": payment.currency if payment else None,
        "paid_at": facts.paid_at,
        "age_seconds": int((found.now - facts.paid_at).total_seconds()),
        "user_status": user.status if user else None,
        "user_tier": user.tier if user else None,
        "activation_event": facts.evidence.activated_at is not None or facts.evidence.granted_at is not None,
        "cause": one.gap.cause,
        "provider_answer": answer.document(one.asked),
    }


def _seen(found: "Report", one: "Seen") -> dict[str, object]:
    from paidwatch.cli.gaps import key  # noqa: PLC0415 - the commands start fast

    return {
        "kind": one.gap.kind,
        "payment_id": None,
        "user_id": key(one.user_id, number=found.keys.users),
        "plan_id": one.plan_id,
        "method": one.method,
        "reference": one.reference or None,
        "status": None,
        "amount": None if one.amount is None else str(one.amount),
        "currency": one.currency,
        "paid_at": one.since,
        "age_seconds": int((found.now - one.since).total_seconds()),
        "user_status": None,
        "user_tier": None,
        "activation_event": False,
        "cause": one.gap.cause,
        "provider_answer": answer.document(one.asked),
    }


def _say(found: "Report", since: timedelta) -> None:
    from paidwatch.cli.gaps import said_money, said_watcher  # noqa: PLC0415 - the commands start fast

    number = len(found.gaps) + len(found.webhooks)
    if number:
        _table(found)
        count = "1 gap" if number == 1 else f"{number} gaps"
        say(f"{count}, {said_money(found.money)} at risk", "bold red")
    else:
        say("no gaps", "bold green")
    waiting = f"; {found.waiting} more within the grace period" if found.waiting else ""
    window = f"{stamp(found.since)} ({format_duration(since)})"
    say(f"looked at {found.looked} payments: paid since {window}, or watched{waiting}")
    say(said_watcher(found.watcher), "" if found.watcher.pid else "yellow")
    if found.not_watched:
        say(f"not watched: {', '.join(found.not_watched)}", "yellow")
    for step in _next(found):
        say(f"next: {step}")


def _table(found: "Report") -> None:
    """Print one row a gap; a person's terminal is narrow, so there each cause and answer stands once, below."""
    columns = ("kind", "user", "payment", "plan", Column(name="amount", right=True), "paid")
    rows = [*(_row(found, one) for one in found.gaps), *(_seen_row(found, one) for one in found.webhooks)]
    if not is_terminal():
        emit_table((*columns, "method", "cause"), rows)
        return
    emit_table(columns, [row[: len(columns)] for row in rows])
    gaps: tuple[Found | Seen, ...] = (*found.gaps, *found.webhooks)
    for words in ((one.gap.cause for one in gaps), (answer.clause(one.asked) for one in gaps)):
        for said, count in Counter(filter(None, words)).most_common():
            say(f"{count}x {said}", "red")


def _row(found: "Report", one: "Found") -> tuple[object, ...]:
    payment = one.facts.payment
    return (
        Styled(one.gap.kind.value, "red"),
        payment.user_id if payment else None,
        one.facts.payment_id,
        payment.plan_id if payment else None,
        money(payment.amount, payment.currency) if payment else None,
        f"{span(found.now - one.facts.paid_at)} ago",
        payment.method if payment else None,
        _why(one),
    )


def _seen_row(found: "Report", one: "Seen") -> tuple[object, ...]:
    return (
        Styled(one.gap.kind.value, "red"),
        one.user_id,
        one.reference or None,
        one.plan_id,
        None if one.amount is None else money(one.amount, one.currency),
        f"{span(found.now - one.since)} ago",
        one.method,
        _why(one),
    )


def _why(one: "Found | Seen") -> str:
    """Return the cause, the application's own words for it, and what the payment provider says."""
    cause = f"{one.gap.cause}: {one.gap.detail}" if one.gap.detail else one.gap.cause
    return "; ".join(filter(None, (cause, answer.clause(one.asked))))


def _next(found: "Report") -> list[str]:
    steps: list[str] = []
    if any(fault.startswith("trigger ") for fault in found.not_watched):
        steps.append("paidwatch install")
    if found.watcher.pid is None:
        steps.append("paidwatch run")
    users = [one.facts.payment.user_id for one in found.gaps if one.facts.payment and one.facts.payment.user_id]
    if users:
        steps += [f"paidwatch user {users[0]}", f"paidwatch activate {users[0]} --dry-run"]
    if found.webhooks:
        named = [one.user_id for one in found.webhooks if one.user_id]
        steps.append(f"paidwatch user {named[0]}" if named and not users else "paidwatch alerts list")
    return steps
