"""Tend: a person acknowledges, dismisses or silences. One transaction each: the change, its history, its audit."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch.core.lifecycle import Act, after
from paidwatch.core.model import Outcome
from paidwatch.core.story import TEST, State
from paidwatch.core.text import stamp
from paidwatch.errors import Refused
from paidwatch.store import alert_acts, alerts, claims, timeline, watches
from paidwatch.store.alert_acts import Found, Silenced, Wanted
from paidwatch.store.alerts import Event
from paidwatch.store.pool import Database, Session

_LIST = "See what is open: paidwatch alerts list"
_SILENCES = "See what is silenced: paidwatch alerts silence list"
LONGEST = timedelta(days=90)
"""An acknowledgement or a silence that lasts longer is a way to forget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who acts, and why."""

    name: str
    reason: str = ""

    @property
    def actor(self) -> str:
        """The name for the audit."""
        return f"cli:{self.name}"


class Tend:
    """Acts for people; every act is refused where it makes no sense any more."""

    def __init__(self, *, database: Database) -> None:
        """Bind the database."""
        self._database = database

    async def ack(self, alert_id: int, person: Person, span: timedelta) -> datetime:
        """Look after an alert for `span`; return until when. Raises Refused and DatabaseError, as its siblings do."""
        bounded(span)

        async def body(session: Session) -> datetime:
            found = await _open(session, alert_id, Act.ACK)
            if found.kind == TEST:
                message = f"alert {alert_id} is a test, which ends by itself"
                raise Refused(message, remedy=_LIST)
            until = await alert_acts.ack(session, alert_id, person.name, span)
            if until is None:
                raise _over(found)
            note = f"until {stamp(until)}" + (f": {person.reason}" if person.reason else "")
            await alerts.note(session, [_event(alert_id, Act.ACK, person, note)])
            await alert_acts.audit(
                session, actor=person.actor, act="ack", about=found, detail={"alert": alert_id, "until": until}
            )
            await self._told_quietly(session, alert_id)
            return until

        return await self._database.write(body)

    async def unack(self, alert_id: int, person: Person) -> None:
        """Give an alert back to everybody."""

        async def body(session: Session) -> None:
            found = await _open(session, alert_id, Act.UNACK)
            await alert_acts.unack(session, alert_id)
            await alerts.note(session, [_event(alert_id, Act.UNACK, person, person.reason)])
            await alert_acts.audit(
                session, actor=person.actor, act="unack", about=found, detail={"alert": alert_id, "by": found.acked_by}
            )
            await self._told_quietly(session, alert_id)

        await self._database.write(body)

    async def dismiss(self, alert_id: int, person: Person, *, members: bool) -> int:
        """Say that it is no gap: the watch is closed for good, and who heard hears that. Returns how many alerts ended.

        An incident is dismissed with all its open members, and only where that was asked for.
        """

        async def body(session: Session) -> int:
            payments = await alert_acts.open_members(session, alert_id)
            stories = await claims.of_alert(session, alert_id)
            found = await _open(session, alert_id, Act.DISMISS)
            inside = len(payments) + sum(1 for one in stories.values() if one != alert_id)
            if inside and not members:
                message = f"alert {alert_id} is an incident of {inside} open gaps"
                raise Refused(message, remedy="Dismiss single ones, or all of them with --members.")
            now = await self._now(session)
            if found.payment_id is None and alert_id not in stories.values():
                # The incident before its members, or their end would end it in another way.
                await self._resolve(session, alert_id, now)
                # Who joined until it was locked.
                payments |= await alert_acts.open_members(session, alert_id)
                stories |= await claims.of_alert(session, alert_id)
            elif found.payment_id is not None:
                payments = {found.payment_id: alert_id}
            await watches.close_watches(session, dict.fromkeys(payments, (Outcome.DISMISSED.value, now)))
            await claims.close(session, dict.fromkeys(stories, Outcome.DISMISSED.value))
            # Where the watch was closed already.
            await self._resolve(session, alert_id, now)
            ended = sorted({alert_id, *payments.values(), *stories.values()})
            await alerts.note(session, [_event(one, Act.DISMISS, person, person.reason) for one in ended])
            detail = {"alert": alert_id, "reason": person.reason, "alerts": ended}
            await alert_acts.audit(session, actor=person.actor, act="dismiss", about=found, detail=detail)
            await alert_acts.ring(session)
            return len(ended)

        return await self._database.write(body)

    async def silence(self, wanted: Wanted, person: Person, span: timedelta) -> Silenced:
        """Tell nobody of what fits, for `span`."""
        bounded(span)

        async def body(session: Session) -> Silenced:
            meant = await _meant(session, wanted)
            made = await alert_acts.add_silence(session, meant, author=person.name, reason=person.reason, span=span)
            detail = {"silence": made.silence_id, "until": made.expires_at, "reason": person.reason}
            about = {"user": meant.user_id, "plan": meant.plan_id, "method": meant.method, "kind": meant.kind}
            detail |= {name: value for name, value in about.items() if value is not None}
            await alert_acts.audit(session, actor=person.actor, act="silence", about=None, detail=detail)
            await alert_acts.ring(session)
            return made

        return await self._database.write(body)

    async def end_silence(self, silence_id: int, person: Person) -> Silenced:
        """End a silence before its time; what still stands is told."""

        async def body(session: Session) -> Silenced:
            ended = await alert_acts.end_silence(session, silence_id, person.name)
            if ended is None:
                over = await alert_acts.silence_over(session, silence_id)
                message = (
                    f"there is no silence {silence_id}"
                    if over is None
                    else (f"silence {silence_id} ended at {stamp(over)}")
                )
                raise Refused(message, remedy=_SILENCES)
            await alert_acts.audit(
                session, actor=person.actor, act="end_silence", about=None, detail={"silence": silence_id}
            )
            await alert_acts.ring(session)
            return ended

        return await self._database.write(body)

    @staticmethod
    async def _resolve(session: Session, alert_id: int, now: datetime) -> None:
        if await alert_acts.resolve(session, alert_id, Outcome.DISMISSED.value):
            await alerts.tell_again(session, [alert_id], now, None)

    @staticmethod
    async def _now(session: Session) -> datetime:
        now: datetime = await session.value("transaction_now")
        return now

    async def _told_quietly(self, session: Session, alert_id: int) -> None:
        await alerts.tell_quietly(session, [alert_id], await self._now(session))
        await alert_acts.ring(session)


def bounded(span: timedelta) -> None:
    """Refuse a span that is none, or one that outlasts everybody's memory."""
    if not timedelta() < span <= LONGEST:
        message = "a time between 1s and 90d must be given"
        raise Refused(message, remedy="For example --for 4h.")


async def _open(session: Session, alert_id: int, act: Act) -> Found:
    """Lock the alert that is meant. Raises Refused where there is none, or where `act` cannot happen to it."""
    found = await alert_acts.lock(session, alert_id)
    if found is None:
        message = f"there is no alert {alert_id}"
        raise Refused(message, remedy=_LIST)
    if after(found.state, act) is None:
        raise _over(found)
    return found


def _over(found: Found) -> Refused:
    if found.state is not State.RESOLVED:
        return Refused(f"alert {found.alert_id} is not acknowledged", remedy=_LIST)
    since = stamp(found.resolved_at) if found.resolved_at else "long ago"
    return Refused(f"alert {found.alert_id} is over since {since} ({found.outcome or 'resolved'})", remedy=_LIST)


async def _meant(session: Session, wanted: Wanted) -> Wanted:
    """Return what is meant, with the user's key as the application spells it."""
    if wanted == Wanted():
        message = "a silence must be about something"
        raise Refused(message, remedy="Give --user, --plan, --method or --kind.")
    if wanted.user_id is None:
        return wanted
    user_id = await timeline.find(session, wanted.user_id)
    if user_id is None or await timeline.user(session, user_id) is None:
        message = f"there is no user {wanted.user_id}"
        raise Refused(message, remedy="See who paid and is not active: paidwatch check")
    return Wanted(user_id=user_id, plan_id=wanted.plan_id, method=wanted.method, kind=wanted.kind)


def _event(alert_id: int, what: Act, person: Person, note: str) -> Event:
    return Event(alert_id=alert_id, what=what, actor=person.name, note=note)
