"""Storm: fresh alerts are told singly or, where many are alike, by one incident; in the transaction that opens them.

Two daemons that meet here open one incident: the second waits for the first's transaction and joins. What a crash
leaves is what was committed, alert and deliveries together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import assert_never

from paidwatch.core.routing import About, Severity
from paidwatch.core.storm import EDIT_EVERY, Likeness, Singly, Together, course
from paidwatch.flow.policy import Policy
from paidwatch.store import answers, incidents
from paidwatch.store.incidents import Outgoing
from paidwatch.store.pool import Session

HOLD = timedelta(seconds=10)
"""A message about a gap waits this long for the activation that was claimed with it; then it goes out as it is."""
QUIET = "quiet"
"""What a message of low severity waits for at night, as the outbox names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """An alert that nobody was told of, which no silence speaks for."""

    alert_id: int
    about: About
    error_class: str
    claimed: bool = False
    """An activation was claimed: its message waits a moment for the end of that."""
    asked: bool = False
    """The payment provider is being asked: its message waits a shorter moment for the answer."""

    @property
    def likeness(self) -> Likeness:
        """Return what it has in common with others."""
        return Likeness(kind=self.about.kind, method=self.about.method or "", error_class=self.error_class)


async def announce(session: Session, fresh: Sequence[Fresh], policy: Policy, now: datetime) -> None:
    """Queue the first messages of these alerts, or have them join the incident of what they are like.

    For whatever is told from now on: gaps that just opened, and gaps whose silence just ended (of which there may be
    hundreds). Call it in the transaction that opened or freed them.
    """
    alike: dict[Likeness, list[Fresh]] = {}
    for alert in fresh:
        alike.setdefault(alert.likeness, []).append(alert)
    if not alike:
        return
    known = await incidents.alike(
        session,
        list(alike),
        apart_from=[alert.alert_id for alert in fresh],
        window=policy.storm_window,
        most=policy.storm_threshold,
    )
    outgoing: list[Outgoing] = []
    for likeness, alerts in alike.items():
        taken = course(
            known[likeness], len(alerts), now=now, threshold=policy.storm_threshold, window=policy.storm_window
        )
        match taken:
            case Together():
                await _gather(session, likeness, alerts, policy, now)
            case Singly():
                outgoing.extend(_singly(alerts, taken, policy, now))
            case _ as unreachable:
                assert_never(unreachable)
    await incidents.queue(session, outgoing)


def worth(amount: Decimal | None) -> Decimal | None:
    """Return an amount that can be compared; None: there is none."""
    return amount if amount is not None and amount.is_finite() else None


def quiet_until(policy: Policy, now: datetime) -> datetime | None:
    """Return when what is of low severity may be said again; None: now."""
    return policy.quiet.ends(now) if policy.quiet is not None else None


def _singly(alerts: Sequence[Fresh], taken: Singly, policy: Policy, now: datetime) -> Iterator[Outgoing]:
    for place, alert in enumerate(alerts):
        held_until = None if place < taken.at_once else taken.rest_at
        awaited = HOLD if alert.claimed else answers.HOLD if alert.asked else timedelta()
        due_at = max(now + awaited, held_until or now)
        quiet = quiet_until(policy, due_at) if alert.about.severity is Severity.LOW else None
        for channel in policy.routing.channels(alert.about):
            yield Outgoing(
                alert_id=alert.alert_id,
                channel=channel,
                due_at=quiet or due_at,
                waits_for=QUIET if quiet else None,
                held_until=held_until,
            )


async def _gather(session: Session, likeness: Likeness, alerts: Sequence[Fresh], policy: Policy, now: datetime) -> None:
    """Open the incident if it is not open, have the alerts join it, and say so where it was told already."""
    severity = alerts[0].about.severity
    channels = dict.fromkeys(channel for alert in alerts for channel in policy.routing.channels(alert.about))
    due_at = now + HOLD if all(alert.claimed for alert in alerts) else now
    quiet = quiet_until(policy, due_at) if severity is Severity.LOW else None
    incident = await incidents.open_incident(session, likeness, severity=severity, window=policy.storm_window)
    await incidents.join(
        session,
        incident,
        [alert.alert_id for alert in alerts],
        channels=list(channels),
        due_at=quiet or due_at,
        waits_for=QUIET if quiet else None,
        window=policy.storm_window,
    )
    if not incident.fresh:
        await incidents.tell_change(session, [incident.alert_id], every=EDIT_EVERY)
