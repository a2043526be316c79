"""The life of an alert after it was opened: which state follows on what, and what is to be done when it is looked at.

    open ──ack──▶ acked        open, acked ──resolve, dismiss──▶ resolved
    open ◀──unack, ack ended, new money── acked        open ──expire──▶ resolved

While a silence or an incident speaks for an alert, or a person looks after it, nobody is reminded and nothing
escalates. Every look says when the next one is due, so that an alert costs nothing in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from paidwatch.core.routing import About, Routing
from paidwatch.core.story import INCIDENT, State
from paidwatch.core.timing import next_reminder, reminders_due


class Act(StrEnum):
    """What can happen to an alert; the value is its name in the history."""

    ACK = "acked"
    UNACK = "unacked"
    ACK_ENDED = "ack_expired"
    NEW_MONEY = "ack_broken"
    SILENCE = "silenced"
    SILENCE_ENDED = "silence_ended"
    ESCALATE = "escalated"
    REMIND = "reminded"
    RESOLVE = "resolved"
    DISMISS = "dismissed"
    EXPIRE = "expired"


_AFTER: Final = MappingProxyType(
    {
        (State.OPEN, Act.ACK): State.ACKED,
        (State.ACKED, Act.ACK): State.ACKED,
        (State.ACKED, Act.UNACK): State.OPEN,
        (State.ACKED, Act.ACK_ENDED): State.OPEN,
        (State.ACKED, Act.NEW_MONEY): State.OPEN,
        (State.OPEN, Act.SILENCE): State.OPEN,
        (State.ACKED, Act.SILENCE): State.ACKED,
        (State.OPEN, Act.SILENCE_ENDED): State.OPEN,
        (State.ACKED, Act.SILENCE_ENDED): State.ACKED,
        (State.OPEN, Act.ESCALATE): State.OPEN,
        (State.OPEN, Act.REMIND): State.OPEN,
        (State.OPEN, Act.RESOLVE): State.RESOLVED,
        (State.ACKED, Act.RESOLVE): State.RESOLVED,
        (State.OPEN, Act.DISMISS): State.RESOLVED,
        (State.ACKED, Act.DISMISS): State.RESOLVED,
        (State.OPEN, Act.EXPIRE): State.RESOLVED,
    }
)


def after(state: State, act: Act) -> State | None:
    """Return the state that follows; None: this cannot happen to an alert in this state. Resolved is final."""
    return _AFTER.get((state, act))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One alert as the database has it at the moment of the look."""

    state: State
    about: About
    opened_at: datetime
    is_gap: bool
    """Its verdict is made anew before it is told again, so that nothing stale is repeated."""
    insists: bool
    """People are reminded of it, and it escalates: a gap, an incident, a broken channel."""
    reminders: int = 0
    remind_at: datetime | None = None
    escalations: int = 0
    acked_until: datetime | None = None
    silenced: bool = False
    """A silence was speaking for it at the last look."""
    silenced_until: datetime | None = None
    """The end of the silence that fits it now; None: there is none."""
    spoken_for: bool = False
    """It is a member of an incident that is not over."""
    over_at: datetime | None = None
    """When an incident without open members is over; None: it has open ones, or is no incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The owner's choices that a look needs."""

    routing: Routing
    reminders: Sequence[timedelta]
    expire: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is to be done now, in this order, and how the alert stands afterwards."""

    acts: tuple[Act, ...]
    state: State
    silenced: bool
    reminders: int
    remind_at: datetime | None
    escalations: int
    """How many steps of the escalation are behind."""
    further: tuple[str, ...]
    """Channels of the steps just taken."""
    escalate_at: datetime | None
    look_at: datetime | None

    @property
    def says_more(self) -> bool:
        """Whether those who heard of it have to hear more."""
        return any(act in _TOLD for act in self.acts)


_TOLD: Final = frozenset({Act.REMIND, Act.SILENCE_ENDED, Act.RESOLVE, Act.EXPIRE})


def look(alert: Standing, choices: Choices, now: datetime) -> Look:
    """Return what is due for one alert at `now`; nothing is due twice, however often it is looked at."""
    if alert.state is State.RESOLVED:
        return _quiet(alert, acts=(), state=State.RESOLVED, silenced=alert.silenced, until=None)
    acts: list[Act] = []
    silenced = alert.silenced_until is not None and alert.silenced_until > now
    if silenced != alert.silenced:
        acts.append(Act.SILENCE if silenced else Act.SILENCE_ENDED)
    if alert.over_at is not None and alert.over_at <= now:
        return _quiet(alert, acts=[*acts, Act.RESOLVE], state=State.RESOLVED, silenced=silenced, until=None)
    ends = [] if alert.over_at is None else [alert.over_at]
    if alert.acked_until is not None and alert.acked_until > now:
        return _quiet(alert, acts=acts, state=State.ACKED, silenced=silenced, until=min([*ends, alert.acked_until]))
    if alert.state is State.ACKED:
        acts.append(Act.ACK_ENDED)
    if not _gathers(alert):
        ends.append(alert.opened_at + choices.expire)
        if ends[-1] <= now:
            return _quiet(alert, acts=[*acts, Act.EXPIRE], state=State.RESOLVED, silenced=silenced, until=None)
    if silenced or alert.spoken_for or not alert.insists:
        until = min([*ends, alert.silenced_until] if silenced and alert.silenced_until else ends, default=None)
        return _quiet(alert, acts=acts, state=State.OPEN, silenced=silenced, until=until)
    return _insist(alert, choices, now, acts, ends)


def _gathers(alert: Standing) -> bool:
    """Whether it is an incident: it ends with its members and never by itself."""
    return alert.about.kind == INCIDENT


def _quiet(alert: Standing, *, acts: Sequence[Act], state: State, silenced: bool, until: datetime | None) -> Look:
    """Nobody is reminded, nothing escalates, and nothing happens before `until`."""
    return Look(
        acts=tuple(acts),
        state=state,
        silenced=silenced,
        reminders=alert.reminders,
        remind_at=None,
        escalations=alert.escalations,
        further=(),
        escalate_at=None,
        look_at=until,
    )


def _insist(alert: Standing, choices: Choices, now: datetime, acts: list[Act], ends: list[datetime]) -> Look:
    """Nobody and nothing speaks for it: remind and escalate as the owner chose."""
    routing, ages = choices.routing, choices.reminders
    steps, further = routing.due_steps(alert.about, alert.opened_at, now, alert.escalations)
    escalate_at = routing.escalate_at(alert.about, alert.opened_at, steps)
    reminders, remind_at = alert.reminders, alert.remind_at
    passed = reminders_due(alert.opened_at, now, ages)
    if Act.ACK_ENDED in acts:
        remind_at = now
    if Act.SILENCE_ENDED in acts or remind_at is None:
        # What was passed in silence is not made up for: those who hear of it now, hear all of it.
        reminders = max(reminders, passed)
        remind_at = next_reminder(alert.opened_at, reminders, ages)
    if remind_at is not None and not alert.is_gap:
        if remind_at <= now:
            acts.append(Act.REMIND)
            reminders = max(reminders + 1, passed)
            remind_at = next_reminder(alert.opened_at, reminders, ages)
        ends = ends if remind_at is None else [*ends, remind_at]
    if further:
        acts.append(Act.ESCALATE)
    return Look(
        acts=tuple(acts),
        state=State.OPEN,
        silenced=False,
        reminders=reminders,
        remind_at=remind_at,
        escalations=steps,
        further=further,
        escalate_at=escalate_at,
        look_at=min([*ends, escalate_at] if escalate_at else ends, default=None),
    )
