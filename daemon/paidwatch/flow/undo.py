"""Undo: a person takes back what one activation wrote, where the row is still exactly that; all in one transaction.

1. watch, ledger and the user's row are locked, in the order in which an activation locks them;
2. only what is done can be undone, and only where every column that was written still has the value written, byte for
   byte: whoever changed one of them since meant something by it (domain.md §4, A2); other columns may have changed;
3. the before image goes back, an event `activation_reverted` says so, and ledger, audit and story follow.

The machine does not activate the payment again: an undo is a deliberate act (core.verdict, `ended`).
"""

import json
from dataclasses import dataclass
from typing import Final, cast

from paidwatch.core.model import Outcome
from paidwatch.errors import Refused
from paidwatch.flow import storm, subject
from paidwatch.flow.policy import Policy
from paidwatch.flow.tend import Person
from paidwatch.store import alert_acts, alerts, ledger, manual, subjects, undo
from paidwatch.store.ledger import as_json
from paidwatch.store.pool import Database, Session
from paidwatch.store.undo import Change, Written

REVERTED: Final = "activation_reverted"
"""The type of the event that tells the application."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeback:
    """What undoing would put back, and what stands in the way."""

    written: Written
    present: str | None
    """What an activation may write of the user, as it is now, as JSON by column; None: the user is gone."""
    changes: tuple[Change, ...]
    """Columns in which the row is not what the activation wrote."""
    refusal: str
    """Why it cannot be undone; empty: it can."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are put back."""
        return tuple(sorted(image(self.written.after)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What undoing did."""

    written: Written
    image: str
    """The columns as they are now, as JSON."""
    inexact: tuple[Change, ...]
    """Columns that a trigger of the application set to something of its own in the same moment."""
    event_id: str | None


class Undo:
    """Looks first, then acts."""

    def __init__(self, *, database: Database, policy: Policy) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy

    async def look(self, activation_id: int) -> Takeback:
        """Say what would be put back; nothing is written. Raises Refused where there is no such activation."""

        async def body(session: Session) -> Takeback:
            async with manual.rolled_back(session):
                return await _consider(session, activation_id)

        return await self._database.read(body)

    async def carry_out(self, activation_id: int, person: Person) -> Undone:
        """Undo one activation. Raises Refused, and DatabaseError: then nothing was written."""
        return await self._database.write(lambda session: self._undo(session, activation_id, person))

    async def _undo(self, session: Session, activation_id: int, person: Person) -> Undone:
        found = await _consider(session, activation_id)
        if found.refusal:
            raise refused(found)
        written = found.written
        before, after = written.before or "{}", written.after or "{}"
        restored = await undo.restore(session, written.user_id, after=after, before=before)
        if restored is None:
            message = f"activation {activation_id} cannot be undone: the user's row changed in this moment"
            raise Refused(message, remedy=f"Look again: paidwatch undo {activation_id} --dry-run")
        former = {column: image(before)[column] for column in found.columns}
        inexact = await undo.differences(session, written.user_id, as_json(former))
        event_id = await undo.write_event(
            session,
            written.user_id,
            event_type=REVERTED,
            data=as_json(_event(written, person)),
            external_id=f"paidwatch:undo:{activation_id}",
        )
        await undo.finish(session, activation_id, by=person.actor, why=person.reason)
        await ledger.audit(
            session,
            actor=person.actor,
            act="undo",
            subject=written.subject,
            user_id=written.user_id,
            detail={
                "activation_id": activation_id,
                "reason": person.reason,
                "before": found.present,
                "after": restored,
                "event_id": event_id,
            },
        )
        await self._end_story(session, written, person)
        return Undone(written=written, image=restored, inexact=inexact, event_id=event_id)

    async def _end_story(self, session: Session, written: Written, person: Person) -> None:
        """Close what stands about the payment, and tell those who were told that it was fixed."""
        now = await session.value("transaction_now")
        quiet = storm.quiet_until(self._policy, now)
        await subject.close(session, written.subject, Outcome.ENDED, now, quiet_until=quiet)
        said = f"Activation {written.activation_id} was undone by {person.name}" + (
            f": {person.reason}" if person.reason else "."
        )
        told = await undo.take_back_story(session, written, said=said, by=person.name, why=person.reason)
        await alerts.tell_again(session, told, now, quiet)
        await alert_acts.ring(session)


async def _consider(session: Session, activation_id: int) -> Takeback:
    """Lock everything that undoing touches, and compare."""
    owner = await undo.subject_of(session, activation_id)
    if owner is None:
        raise _unknown(activation_id)
    await subjects.lock(session, owner)
    written = await undo.lock(session, activation_id)
    if written is None:
        raise _unknown(activation_id)
    refusal = _not_done(written)
    present: str | None = None
    changes: tuple[Change, ...] = ()
    if not refusal:
        present = await ledger.lock_subscriber(session, written.user_id)
        if present is None:
            refusal = f"user {written.user_id} is gone"
        else:
            changes = await undo.differences(session, written.user_id, written.after or "{}")
            refusal = "; ".join(change.said for change in changes)
    return Takeback(written=written, present=present, changes=changes, refusal=refusal)


_NOTHING_DONE: Final = {
    "shadow": "it was a shadow and wrote nothing",
    "refused": "it was refused and wrote nothing",
    "failed": "it failed and wrote nothing",
    "claimed": "it is not done yet",
    "calling": "it is not done yet",
}
_UNSEEN: Final = "it failed: the application was asked, and its tables did not show that it did anything"


def _not_done(written: Written) -> str:
    """Say why what is not done cannot be undone; empty: it is done, and its images are known."""
    if written.state == "undone":
        when = f" at {written.undone_at:%Y-%m-%d %H:%M:%S} UTC" if written.undone_at else ""
        return f"it was undone before, by {written.undone_by or 'somebody'}{when}"
    if written.state == "failed" and written.strategy == "http":
        return _UNSEEN
    if written.state != "done":
        return _NOTHING_DONE.get(written.state, f"it is {written.state}")
    lacking = set(image(written.after)) - set(image(written.before))
    known = image(written.after) and not lacking
    return "" if known else "the ledger does not know what was there before it"


def refused(found: Takeback) -> Refused:
    """Return the refusal with what to do instead."""
    number, user = found.written.activation_id, found.written.user_id
    remedy = (
        f"Somebody meant that. Both images: paidwatch activations show {number}; put right by hand what is wrong."
        if found.changes
        else f"See what happened: paidwatch user {user}"
    )
    return Refused(f"activation {number} cannot be undone: {found.refusal}", remedy=remedy)


def image(text: str | None) -> dict[str, object]:
    """Return an image by column; empty where there is none."""
    value: object = json.loads(text) if text else None
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _event(written: Written, person: Person) -> dict[str, object]:
    row = {} if written.subject.payment_id is None else {"payment_id": written.subject.payment_id}
    return {
        "activation_id": written.activation_id,
        "payment_reference": written.named or str(written.subject),
        **row,
        "reason": person.reason,
        "source": "paidwatch",
    }


def _unknown(activation_id: int) -> Refused:
    return Refused(f"there is no activation {activation_id}", remedy="See what there is: paidwatch activations list")
