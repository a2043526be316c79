"""`paidwatch user ID`: everything about one user, as one timeline."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, assert_never

import click

from paidwatch.cli.output import NOTHING, Column, Styled, emit_json, emit_table, say
from paidwatch.cli.root import Cli, json_option, pass_cli, run_async
from paidwatch.core.model import Gap, Outcome, Settled, Verdict, Waiting
from paidwatch.core.text import money, stamp

if TYPE_CHECKING:
    from paidwatch.cli.gaps import Seen
    from paidwatch.config import Settings
    from paidwatch.store.pool import Session
    from paidwatch.store.report import Keys
    from paidwatch.store.timeline import Bought, Moment, Undone, User

GAP = 1
NOBODY = 3
MOST_PAYMENTS = 100
MOST_MOMENTS = 500

_STYLES = {
    "alert": "red",
    "activation": "green",
    "delivery": "cyan",
    "payment": "bold",
    "event": "",
    "webhook": "magenta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One payment with its verdict; None for one that never was paid."""

    bought: "Bought"
    verdict: Verdict | None
    followed: bool
    """It is recent, or watched still; what is neither is history, as it is to `check` and the daemon."""

    @property
    def is_gap(self) -> bool:
        """Say whether somebody must act; not after it was dismissed, and not about history."""
        return self.followed and isinstance(self.verdict, Gap) and self.bought.outcome is not Outcome.DISMISSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything about one user, of one moment."""

    now: datetime
    user_id: str
    user: "User | None"
    payments: tuple[Judged, ...]
    webhooks: tuple["Seen", ...]
    """What only webhooks tell of him, and is a gap."""
    timeline: tuple["Moment", ...]
    undone: "Undone | None"
    """The newest activation, if a person undid it."""
    keys: "Keys"

    @property
    def gaps(self) -> tuple[Judged, ...]:
        """Return the payments somebody must act on."""
        return tuple(one for one in self.payments if one.is_gap)

    @property
    def taken_back(self) -> "Undone | None":
        """Return the undone activation by which nothing is owed; None where money came after it."""
        undone = self.undone
        later = undone and any(one.bought.watched and one.bought.candidate.paid_at > undone.at for one in self.payments)
        return None if later else undone


@click.command()
@click.argument("user_id", metavar="ID")
@json_option
@pass_cli
def user(cli: Cli, user_id: str, *, as_json: bool) -> int:
    """Show everything about one user: state, payments with their verdicts, and what happened, in order.

    ID is the user's key, or the e-mail address. Exit code 0: nothing is owed, 1: there is a gap, 2: the database could
    not be asked, 3: there is no such user.
    """
    from paidwatch.cli.database import asking  # noqa: PLC0415 - the commands start fast
    from paidwatch.store.report import SESSION  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415

    settings, statements = cli.settings(), Statements.load()

    async def ask() -> Known | None:
        async with asking(settings, statements, "user", SESSION) as session:
            return await learn(session, settings, user_id)

    known = run_async(ask)
    if known is None:
        click.echo(f"paidwatch: there is no user {user_id}", err=True)
        click.echo("  → paidwatch check lists the users with gaps", err=True)
        return NOBODY
    if as_json:
        emit_json(as_document(known))
    else:
        _say(known)
    return GAP if known.gaps or known.webhooks else 0


async def learn(session: "Session", settings: "Settings", wanted: str) -> Known | None:
    """Ask for everything, as of one moment; None: nobody can be meant. Raises DatabaseError."""
    from paidwatch.cli.gaps import seen  # noqa: PLC0415 - the commands start fast
    from paidwatch.core.verdict import judge  # noqa: PLC0415
    from paidwatch.store import installation, report, timeline  # noqa: PLC0415
    from paidwatch.wiring import policy_of  # noqa: PLC0415

    policy = policy_of(settings)
    async with report.snapshot(session):
        keys = await report.keys(session)
        installed = await installation.installed(session, settings.mapping())
        installation.refuse_unfit(installed)
        user_id = await timeline.find(session, wanted)
        if user_id is None:
            return None
        found = await timeline.user(session, user_id)
        bought = await timeline.payments(session, user_id, MOST_PAYMENTS, policy.graces())
        moments = await timeline.moments(session, user_id, bought, MOST_MOMENTS)
        undone = await timeline.undone(session, user_id)
        if found is None and not bought and not moments:
            return None
        webhooks = await seen(session, policy, user_id)
        facts = {
            one.payment_id: one
            for one in await report.facts(session, [each.candidate for each in bought if each.watched], policy.graces())
        }
    return Known(
        now=installed.now,
        user_id=user_id,
        user=found,
        payments=tuple(
            Judged(
                bought=one,
                verdict=judge(facts[one.payment_id], policy.rules, installed.now) if one.payment_id in facts else None,
                followed=one.open or one.candidate.paid_at >= installed.now - policy.look_back,
            )
            for one in bought
        ),
        webhooks=tuple(webhooks),
        timeline=tuple(moments),
        undone=undone,
        keys=keys,
    )


def as_document(known: Known) -> dict[str, object]:
    """Return what `--json` shows: amounts are strings, times carry their zone, keys are as in the application."""
    return {
        "checked_at": known.now,
        "user_id": _key(known, known.user_id),
        "user": None if known.user is None else asdict(known.user) | {"user_id": _key(known, known.user_id)},
        "payments": [_payment(known, one) for one in known.payments],
        "gaps": len(known.gaps) + len(known.webhooks),
        "webhooks": [
            {
                "kind": one.gap.kind,
                "payment_id": None,
                "reference": one.reference or None,
                "method": one.method,
                "plan_id": one.plan_id,
                "amount": None if one.amount is None else str(one.amount),
                "currency": one.currency,
                "since": one.since,
                "cause": one.gap.cause,
                "detail": one.gap.detail,
            }
            for one in known.webhooks
        ],
        "timeline": [asdict(moment) for moment in known.timeline],
    }


def _key(known: Known, text: str) -> int | str:
    return int(text) if known.keys.users else text


def _payment(known: Known, one: Judged) -> Mapping[str, object]:
    bought = one.bought
    return {
        "payment_id": int(bought.payment_id) if known.keys.payments else bought.payment_id,
        "plan_id": bought.plan_id,
        "amount": None if bought.amount is None else str(bought.amount),
        "currency": bought.currency,
        "method": bought.method,
        "reference": bought.reference,
        "status": bought.status,
        "created_at": bought.created_at,
        "paid_at": bought.candidate.paid_at if bought.watched else None,
        "dismissed": bought.outcome is Outcome.DISMISSED,
        "followed": one.followed,
        **_verdict(one.verdict),
    }


def _verdict(verdict: Verdict | None) -> dict[str, object]:
    match verdict:
        case None:
            return {"verdict": "not_paid"}
        case Waiting(until=until):
            return {"verdict": "waiting", "until": until}
        case Settled(outcome=outcome, at=at):
            return {"verdict": "settled", "outcome": outcome, "at": at}
        case Gap(kind=kind, cause=cause, detail=detail):
            return {"verdict": "gap", "kind": kind, "cause": cause, "detail": detail}
        case _ as unreachable:
            assert_never(unreachable)


def _say(known: Known) -> None:
    say(f"user {known.user_id}", "bold")
    if known.user is None:
        say("there is no such user any more", "red")
    else:
        for name, value in _state(known.user):
            say(f"  {name:<13} {value}")
    columns = ("payment", "plan", Column(name="amount", right=True), "status", "paid", "verdict")
    if known.payments:
        emit_table(columns, [_row(one) for one in known.payments], title="payments, the newest first")
    rows = [
        (
            stamp(one.at) if one.at else None,
            Styled(one.what, _STYLES.get(one.what, "")),
            one.payment_id,
            one.word,
            one.said,
        )
        for one in known.timeline
    ]
    if rows:
        emit_table(("at", "what", "payment", "word", "said"), rows, title="what happened")
    if len(rows) == MOST_MOMENTS:
        say(f"only the newest {MOST_MOMENTS} are shown", "yellow")
    if known.webhooks:
        title = "what only webhooks tell of"
        emit_table(
            ("payment", "plan", Column(name="amount", right=True), "since", "verdict"), _seen(known), title=title
        )
    count = len(known.gaps) + len(known.webhooks)
    if count:
        say("1 gap" if count == 1 else f"{count} gaps", "bold red")
    else:
        back = known.taken_back
        why = f": activation {back.activation_id} was undone by {back.by}" if back else ""
        say(f"nothing is owed{why}", "bold green")
    if known.gaps:
        say(f"next: paidwatch activate {known.user_id} --dry-run")


def _seen(known: Known) -> list[tuple[object, ...]]:
    return [
        (
            one.reference or None,
            one.plan_id,
            money(one.amount, one.currency),
            stamp(one.since),
            Styled(f"{one.gap.kind.value}: {one.gap.cause}{f': {one.gap.detail}' if one.gap.detail else ''}", "red"),
        )
        for one in known.webhooks
    ]


def _state(user: "User") -> list[tuple[str, str]]:
    now = {
        "name": " ".join(part for part in (user.label, user.name) if part) or NOTHING,
        "status": user.status or NOTHING,
        "tier": user.tier or NOTHING,
        "plan": user.plan_id or NOTHING,
        "paid until": stamp(user.paid_until) if user.paid_until else NOTHING,
        "revoked at": stamp(user.revoked_at) if user.revoked_at else NOTHING,
        "last paid at": stamp(user.last_paid_at) if user.last_paid_at else NOTHING,
    }
    marks = [word for word, holds in (("disabled", not user.enabled), ("administrator", user.admin)) if holds]
    return [*now.items(), *([("note", ", ".join(marks))] if marks else [])]


def _row(one: Judged) -> tuple[object, ...]:
    bought = one.bought
    return (
        bought.payment_id,
        bought.plan_id,
        money(bought.amount, bought.currency),
        bought.status or "deleted",
        stamp(bought.candidate.paid_at) if bought.watched else None,
        _said(one),
    )


def _said(one: Judged) -> object:
    match one.verdict:
        case None:
            return "not paid"
        case Waiting(until=until):
            return Styled(f"in grace until {stamp(until)}", "yellow")
        case Settled(outcome=outcome):
            return Styled(outcome.value, "green")
        case Gap(kind=kind, cause=cause, detail=detail):
            if not one.is_gap:
                why = "dismissed" if one.bought.outcome is Outcome.DISMISSED else "history, not followed"
                return Styled(f"{kind.value} ({why})", "dim")
            return Styled(f"{kind.value}: {cause}{f': {detail}' if detail else ''}", "red")
        case _ as unreachable:
            assert_never(unreachable)
