"""Double: the application activated what paidwatch had activated before; told once, with what undoes it, never fought.

A late webhook does that (domain.md §4, I6): the application never asks whether somebody was faster. Intake marks the
activations of a user of whom an event comes (`look_at`); here each is looked at once. An alert that stands is looked
at again when the user changes, and is over when paid-until is what the activation gave.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from paidwatch.core.routing import About, Severity
from paidwatch.core.story import DOUBLE
from paidwatch.core.text import span, stamp
from paidwatch.flow import storm
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.store import alerts, double
from paidwatch.store.double import Event, Looked
from paidwatch.store.pool import Database, Session

BATCH: Final = 200
CAUSE: Final = "the application activated the payment as well, after paidwatch had done it"
EXACT: Final = timedelta(minutes=1)
"""How near paid-until must be to what was given for nothing to be doubled: a person may write it without seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one look found."""

    looked: int
    told: bool
    """Deliveries were queued or changed."""


class Double:
    """Looks at the activations that are due; the alarm says when."""

    def __init__(self, *, database: Database, policy: Callable[[], Policy], log: Log) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy
        self._log = log

    async def run(self) -> Swept:
        """Look at one batch of what is due. Raises DatabaseError; then nothing was written."""
        policy = self._policy()
        seen, opened, ended = await self._database.write(lambda session: _sweep(session, policy))
        for one in opened:
            self._log.warning(
                "activation.doubled",
                "the application activated a payment that paidwatch had activated",
                activation=one.activation_id,
                payment=str(one.subject),
                user=one.user_id,
            )
        return Swept(looked=seen, told=bool(opened or ended))


async def _sweep(session: Session, policy: Policy) -> tuple[int, list[Looked], list[int]]:
    """Look at one batch in the caller's transaction; return how many, those told now, and the alerts that ended."""
    seen = await double.look(session, BATCH)
    opened: list[Looked] = []
    ended: list[int] = []
    for one in seen:
        if one.found is not None and not one.doubled:
            if await _tell(session, one, one.found, policy):
                opened.append(one)
        elif one.alert_open and one.alert_id is not None and _is_over(one) and await double.over(session, one.alert_id):
            ended.append(one.alert_id)
    if ended:
        await alerts.tell_again(session, ended, seen[0].now, storm.quiet_until(policy, seen[0].now))
    if opened or ended:
        await session.rows("tell_feed")
    return len(seen), opened, ended


async def _tell(session: Session, one: Looked, event: Event, policy: Policy) -> bool:
    severity = policy.routing.severity(DOUBLE)
    about = About(kind=DOUBLE, severity=severity, method=one.method, amount=storm.worth(one.amount))
    told = await double.tell(
        session,
        one,
        event,
        cause=CAUSE,
        notes=tuple(_notes(one, event)),
        severity=severity,
        channels=policy.routing.channels(about),
        quiet_until=storm.quiet_until(policy, one.now) if severity is Severity.LOW else None,
    )
    return told is not None


def _is_over(one: Looked) -> bool:
    """Say whether the user has, to the minute, what the activation gave."""
    if not one.paid_until_watched:
        return False
    if one.paid_for_until is None or one.paid_until is None:
        return one.paid_for_ever and one.paid_until is None
    return abs(one.paid_until - one.paid_for_until) <= EXACT


def _notes(one: Looked, event: Event) -> Iterator[str]:
    """Yield the facts, `Label: value` each, and what can be done about it."""
    yield f"Activation: {one.activation_id}, done at {stamp(one.done_at)}"
    yield f"Payment: {one.subject}"
    yield f"Activated again: by event {event.event_id} ({event.type}), {stamp(event.at)}"
    gave = "for ever" if one.paid_for_ever else _until(one.paid_for_until)
    yield f"Paid for until: {gave}"
    if one.paid_until_watched:
        yield f"Paid until now: {_until(one.paid_until)}{_difference(one)}"
    undo = f"paidwatch undo {one.activation_id}"
    if one.untouched:
        yield f"To take back: {undo} puts back what was there before both; the row is untouched since"
    else:
        yield f"To put right: set paid-until to {gave}; {undo} refuses, because the row changed since"


def _difference(one: Looked) -> str:
    if one.paid_until is None or one.paid_for_until is None:
        return ""
    if abs(one.paid_until - one.paid_for_until) <= EXACT:
        return ", which is what was paid for"
    if one.paid_until > one.paid_for_until:
        return f", {span(one.paid_until - one.paid_for_until)} more than was paid for"
    return f", {span(one.paid_for_until - one.paid_until)} less than was paid for"


def _until(moment: datetime | None) -> str:
    return "for ever" if moment is None else stamp(moment)
