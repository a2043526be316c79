"""Sweep: alerts whose time has come are looked at, all in one transaction.

An acknowledgement or a silence ends, an escalation is due, an incident is over, something was open for too long: the
core says which (`core/lifecycle.py`), and what is written here is written once, whoever else looks at the same time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from paidwatch.core.lifecycle import Act, Choices, Look, look
from paidwatch.core.model import Outcome
from paidwatch.core.routing import About, Severity
from paidwatch.core.storm import EDIT_EVERY
from paidwatch.core.story import State
from paidwatch.flow import storm
from paidwatch.flow.policy import Policy
from paidwatch.flow.storm import Fresh
from paidwatch.log import Log
from paidwatch.store import alerts, claims, watches
from paidwatch.store.alerts import Event, Further, Seen, Stand
from paidwatch.store.pool import Database, Session

BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did."""

    looked: int
    """Alerts that were looked at; 0: nothing was due."""
    told: bool
    """Deliveries were queued or changed."""
    events: Sequence[Event]


class Sweep:
    """One look after the other; the alarm says when."""

    def __init__(self, *, database: Database, policy: Callable[[], Policy], log: Log) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy
        self._log = log
        self._known: Policy | None = None
        """The choices that the next looks were planned by; none at the start, when they may be those of another run."""

    async def follow(self) -> None:
        """Plan the next looks anew where the owner's choices changed. Raises DatabaseError."""
        policy, known = self._policy(), self._known
        if policy is known:
            return

        async def body(session: Session) -> None:
            await alerts.look_again(session, policy.channels)
            if known is not None and policy.machine() != known.machine():
                await session.rows("wake_gaps")
                await session.rows("wake_claims")

        await self._database.write(body)
        self._known = policy

    async def run(self) -> Swept:
        """Look at one batch of what is due. Raises DatabaseError; then nothing was written."""
        policy = self._policy()

        async def body(session: Session) -> Swept:
            # The transaction's own now, of which every row that it writes is.
            now = await alerts.due(session)
            return Swept(looked=0, told=False, events=()) if now is None else await sweep(session, now, policy)

        swept = await self._database.write(body)
        for event in swept.events:
            self._log.info(
                f"alert.{event.what.value}",
                "an alert moved on",
                alert=event.alert_id,
                actor=event.actor,
                note=event.note,
            )
        return swept


async def sweep(session: Session, now: datetime, policy: Policy) -> Swept:
    """Look at one batch of alerts in the caller's transaction."""
    expired = await _expire_gaps(session, now, policy)
    if len(expired) >= BATCH:
        # There may be more, and a look would end their alerts without closing their watches.
        await alerts.note(session, expired)
        await session.rows("tell_feed")
        return Swept(looked=len(expired), told=True, events=expired)
    seen = await alerts.look_at(session, now, BATCH)
    choices = Choices(routing=policy.routing, reminders=policy.reminders, expire=policy.expire)
    looks = [(it, look(it.standing, choices, now)) for it in seen]
    over = [it.alert_id for it, found in looks if Act.RESOLVE in found.acts]
    quiet = storm.quiet_until(policy, now)
    await alerts.write_looks(session, [_stand(it, found) for it, found in looks if it.alert_id not in over], now)
    closed = await alerts.close_incidents(session, over, EDIT_EVERY, quiet)
    await alerts.withdraw(session, [it.alert_id for it, found in looks if Act.SILENCE in found.acts])
    again = await alerts.tell_again(session, [it.alert_id for it, found in looks if _says_more(it, found)], now, quiet)
    further = [one for it, found in looks for one in _further(it, found, policy, now, quiet)]
    added = await alerts.tell_further(session, further)
    # As if they were fresh: many that are alike become one incident when a silence ends, too.
    heard = [_fresh(it) for it, found in looks if _is_heard_of(it, found)]
    await storm.announce(session, heard, policy, now)
    events = [*expired, *(event for it, found in looks for event in _events(it, found))]
    await alerts.note(session, events)
    if events or closed:
        await session.rows("tell_feed")
    told = bool(expired or closed or again or added or heard)
    ended = [Event(alert_id=number, what=Act.RESOLVE) for number in closed]
    return Swept(looked=len(seen) + len(expired), told=told, events=[*events, *ended])


async def _expire_gaps(session: Session, now: datetime, policy: Policy) -> list[Event]:
    """Close the watches, and the stories of webhooks, that are open for too long: they are followed no further."""
    quiet = storm.quiet_until(policy, now)
    payments = await alerts.gaps_to_expire(session, now, policy.expire, BATCH)
    closed = await watches.close_watches(
        session, dict.fromkeys(payments, (Outcome.EXPIRED.value, now)), quiet_until=quiet
    )
    stories = await claims.to_expire(session, now, policy.expire, BATCH - len(payments))
    over = await claims.close(session, dict.fromkeys(stories, Outcome.EXPIRED.value), quiet_until=quiet)
    ended = [*(it.alert_id for it in closed), *(it.alert_id for it in over)]
    return [Event(alert_id=number, what=Act.EXPIRE) for number in ended if number is not None]


def _stand(seen: Seen, found: Look) -> Stand:
    delay = None
    if Act.SILENCE_ENDED in found.acts and seen.former:
        delay = f"it was silenced by {seen.former}"
    return Stand(seen=seen, look=found, delay=delay, outcome=Outcome.EXPIRED if Act.EXPIRE in found.acts else None)


def _says_more(seen: Seen, found: Look) -> bool:
    """Whether those who heard of it have to hear more, and from this alert itself."""
    return found.says_more and (found.state is State.RESOLVED or not seen.standing.spoken_for)


def _is_heard_of(seen: Seen, found: Look) -> bool:
    """Whether a silence ended over a gap that still stands and nothing else speaks for."""
    return (
        Act.SILENCE_ENDED in found.acts
        and found.state is not State.RESOLVED
        and seen.standing.is_gap
        and not seen.standing.spoken_for
    )


def _fresh(seen: Seen) -> Fresh:
    return Fresh(alert_id=seen.alert_id, about=seen.standing.about, error_class=seen.error_class)


def _further(seen: Seen, found: Look, policy: Policy, now: datetime, quiet: datetime | None) -> Iterator[Further]:
    """Yield the channels that are to hear of it from now on."""
    about = seen.standing.about
    if found.state is State.RESOLVED:
        return
    waits = quiet is not None and about.severity is Severity.LOW
    due_at, waits_for = quiet if waits and quiet else now, storm.QUIET if waits else None
    standing = seen.standing
    unspoken = Act.SILENCE_ENDED in found.acts and not standing.is_gap
    # Whoever was told has left the configuration.
    unheard = standing.insists and seen.heard and not (seen.heard & {*policy.channels})
    if unspoken or (unheard and not (standing.spoken_for or found.silenced)):
        for channel in policy.routing.channels(about):
            if channel != seen.channel:
                yield Further(alert_id=seen.alert_id, channel=channel, due_at=due_at, waits_for=waits_for)
    for channel in found.further:
        if channel != seen.channel:
            yield Further(
                alert_id=seen.alert_id,
                channel=channel,
                due_at=due_at,
                waits_for=waits_for,
                escalated=True,
                escalated_from=least_amount(policy, about, seen.standing.escalations, found.escalations, channel),
            )


def least_amount(policy: Policy, about: About, behind: int, reached: int, channel: str) -> Decimal | None:
    """Return the amount that the step asks for which brought an alert to a channel; None: its age alone did."""
    steps = policy.routing.escalations[behind:reached]
    return next((step.min_amount for step in steps if channel in step.channels and step.fits(about)), None)


def _events(seen: Seen, found: Look) -> Iterator[Event]:
    for act in found.acts:
        if act is Act.RESOLVE:
            continue  # the statement that ends an incident says so itself
        yield Event(alert_id=seen.alert_id, what=act, actor=_actor(seen, act), note=_note(seen, found, act))


def _actor(seen: Seen, act: Act) -> str:
    return seen.silence.author if act is Act.SILENCE and seen.silence else alerts.PAIDWATCH


def _note(seen: Seen, found: Look, act: Act) -> str:
    match act:
        case Act.ACK_ENDED:
            return f"the acknowledgement by {seen.acked_by} ended"
        case Act.SILENCE if seen.silence:
            return f"silence {seen.silence.silence_id}: {seen.silence.reason}".removesuffix(": ")
        case Act.SILENCE_ENDED if seen.former:
            return f"it was silenced by {seen.former}"
        case Act.ESCALATE:
            return f"step {found.escalations}, to {', '.join(found.further)}"
        case _:
            return ""
