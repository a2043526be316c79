"""The outbox: leased, sent outside of any transaction, and marked only after the channel took the message."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from paidwatch.core.compare import Record, in_words
from paidwatch.core.guards import Mode
from paidwatch.core.model import Outcome
from paidwatch.core.render import line_of
from paidwatch.core.routing import Severity
from paidwatch.core.story import BUNDLES, INCIDENT, Incident, State, Story, Webhooks
from paidwatch.errors import DeliveryError
from paidwatch.ports import Receipt
from paidwatch.store import answers, incidents
from paidwatch.store.pool import Row, Session

INCIDENT_PAUSE: Final = timedelta(seconds=45)
"""Least time between two messages to one channel about an incident that is not over (alerting.md, C1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One story that a digest tells, and the revision of it that is told."""

    delivery_id: int
    revision: int
    state: str
    reminders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One story to be told to one channel, under lease."""

    delivery_id: int
    lease: str
    installation_id: str
    revision: int
    told_revision: int
    reference: Mapping[str, str]
    attempts: int
    trying_since: datetime
    story: Story
    now: datetime
    members: tuple[Member, ...] = ()
    """Of a digest; what it tells is told when it was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to a channel, for the delivery log."""

    delivery_id: int
    revision: int
    word: str
    took: timedelta
    result: str
    code: str
    size: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a story once a message about it was taken."""

    opened_at: datetime
    moved_on: bool
    """There is more to tell: it changed while the message was under way."""
    down: bool
    """The channel was held to be down until now."""


async def claim(
    session: Session, channel: str, *, lease: str, span: timedelta, most: int, mode: Mode | None = None
) -> list[Due]:
    """Lease what is due on one channel, with the story as it is at this moment, and how `mode` stands."""
    rows = await session.rows("claim_deliveries", channel, span, lease, most, INCIDENT_PAUSE)
    grouped = await incidents.of(session, [row["alert_id"] for row in rows if row["kind"] == INCIDENT])
    members: defaultdict[int, list[tuple[Member, Story]]] = defaultdict(list)
    for row in rows:
        if row["member_of"] is not None:
            member = Member(
                delivery_id=row["delivery_id"],
                revision=row["revision"],
                state=row["state"],
                reminders=row["reminders"],
            )
            members[row["member_of"]].append((member, _story(row, grouped, mode)))
    return [
        _due(row, lease, _story(row, grouped, mode), members[row["delivery_id"]])
        for row in rows
        if row["member_of"] is None
    ]


async def record_attempt(session: Session, attempt: Attempt) -> None:
    """Write the delivery log; the first thing in a transaction that records what became of a message."""
    await session.rows(
        "record_attempt",
        attempt.delivery_id,
        attempt.took,
        attempt.revision,
        attempt.word,
        attempt.result,
        attempt.code[:200],
        attempt.size,
        attempt.error,
    )


async def record_sent(session: Session, due: Due, receipt: Receipt) -> Told | None:
    """Mark as told, with everything that a digest told; None if the lease was lost meanwhile."""
    reference = json.dumps(dict(receipt.reference))
    row = await session.row(
        "record_sent",
        due.delivery_id,
        due.lease,
        due.revision,
        reference,
        INCIDENT_PAUSE,
        due.story.state.value,
        due.story.reminders,
    )
    if row is None:
        return None
    moved_on: bool = row["moved_on"]
    if due.members:
        await session.rows("lock_bundled", due.delivery_id)
        told = await session.rows(
            "record_bundled",
            due.delivery_id,
            [member.delivery_id for member in due.members],
            [member.revision for member in due.members],
            [member.state for member in due.members],
            [member.reminders for member in due.members],
        )
        moved_on = moved_on or any(member["moved_on"] for member in told)
    return Told(opened_at=row["opened_at"], moved_on=moved_on, down=row["down"])


async def record_retry(session: Session, due: Due, wait: timedelta, error: DeliveryError) -> None:
    """Try again after `wait`, also after a restart."""
    await session.rows("record_retry", due.delivery_id, due.lease, wait, error.message)


async def record_held(session: Session, due: Due, wait: timedelta, error: DeliveryError, *, counts: bool) -> None:
    """Keep for the repair of the channel, which is asked again after `wait`; `counts`: the time for trying runs on."""
    await session.rows("record_held", due.delivery_id, due.lease, wait, error.message, counts)


async def record_dead(session: Session, due: Due, error: DeliveryError) -> None:
    """Keep as a dead letter; what a digest would have told is told story by story."""
    dead = await session.rows("record_dead", due.delivery_id, due.lease, error.message)
    if dead and due.story.kind in BUNDLES:
        await session.rows("unbundle", due.delivery_id)


async def put_back(session: Session, due: Due) -> None:
    """Give a lease back: nothing was sent."""
    await session.rows("put_back", due.delivery_id, due.lease)


async def open_note(
    session: Session,
    *,
    kind: str,
    cause: str = "",
    notes: Sequence[str] = (),
    channels: Sequence[str],
    state: State = State.OPEN,
    channel: str | None = None,
    severity: Severity = Severity.HIGH,
) -> int | None:
    """Tell these channels something that is about no payment; return the alert, None where the same is open already.

    RESOLVED is for what is over as soon as it is told. `channel` is the one that a story about a channel is about.
    The caller rings the outbox after its transaction, or by the statement `ring_outbox` in it.
    """
    row = await session.row("open_note", kind, cause, list(notes), list(channels), state.value, channel, severity.value)
    return None if row is None else int(row["alert_id"])


async def queue_test(session: Session, channels: Sequence[str], lines: Sequence[str]) -> dict[str, int]:
    """Queue a marked test story; return channel → delivery. The alert is the same for all."""
    rows = await session.rows("queue_test", list(channels), list(lines))
    return {row["channel"]: row["delivery_id"] for row in rows}


def _due(row: Row, lease: str, story: Story, told: Sequence[tuple[Member, Story]]) -> Due:
    now: datetime = row["now"]
    if story.kind in BUNDLES:
        stories = sorted((member for _, member in told), key=_urgency)
        lines = tuple(line_of(member, now=now) for member in stories)
        story = replace(story, members=lines, members_total=len(lines))
    return Due(
        delivery_id=row["delivery_id"],
        lease=lease,
        installation_id=row["installation_id"],
        revision=row["revision"],
        told_revision=row["told_revision"],
        reference=json.loads(row["reference"]),
        attempts=row["attempts"],
        trying_since=row["trying_since"],
        story=story,
        now=now,
        members=tuple(member for member, _ in told),
    )


def _urgency(story: Story) -> tuple[bool, datetime]:
    """Order the stories of a digest: what is not over comes first, the oldest first."""
    return story.state is State.RESOLVED, story.opened_at


def _story(row: Row, grouped: Mapping[int, Incident], mode: Mode | None) -> Story:
    record = Record(right=row["right_ones"], compared=row["compared"])
    about_money = row["payment_id"] is not None or row["provider_reference"] is not None
    return Story(
        alert_id=str(row["alert_id"]),
        kind=row["kind"],
        state=State(row["state"]),
        revision=row["revision"],
        reminders=row["reminders"],
        announced=row["told_revision"] > 0,
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        ended_by=row["ended_by"],
        ended_why=row["ended_why"] or "",
        severity=Severity(row["severity"]),
        acked_by=row["acked_by"],
        acked_until=row["acked_until"],
        escalated=row["escalated"],
        escalations=row["escalations"],
        escalated_from=row["escalated_from"],
        payment_id=row["payment_id"],
        user_id=row["user_id"],
        user_label=row["user_label"],
        plan_id=row["plan_id"],
        amount=row["amount"],
        currency=row["currency"],
        method=row["method"],
        reference=row["provider_reference"],
        status=row["status"],
        paid_at=row["paid_at"],
        noticed_at=row["noticed_at"],
        due_at=row["grace_until"],
        cause=row["cause"],
        webhooks=_webhooks(row),
        asked=answers.asked_of(row),
        sharing=row["sharing"],
        detail=row["detail"],
        mode="" if mode is None else in_words(mode, record, row["stopped"]),
        activation=tuple(row["notes"]) if about_money else (),
        proposed=row["proposed"],
        activation_id=row["activation_id"],
        delay=row["delay"],
        digest=() if about_money else tuple(row["notes"]),
        incident=grouped.get(row["alert_id"]),
        about_channel=row["about_channel"],
        waiting=row["waiting"],
        dead=row["dead"],
        away_since=row["away_since"],
    )


def _webhooks(row: Row) -> Webhooks | None:
    if not row["webhooks"]:
        return None
    return Webhooks(
        count=row["webhooks"],
        first_at=row["webhook_first_at"],
        last_at=row["webhook_last_at"],
        paid_at=row["webhook_paid_at"],
        moving_at=row["webhook_moving_at"],
        bad_at=row["webhook_bad_at"],
        failed_at=row["webhook_failed_at"],
    )
