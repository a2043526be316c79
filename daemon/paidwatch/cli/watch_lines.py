"""The live view for a pipe: what changed from one look to the next, as plain lines or as JSON lines."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

from paidwatch.cli.watch_feed import Seen
from paidwatch.core.text import money
from paidwatch.errors import DatabaseError
from paidwatch.log import visible
from paidwatch.store.live import ChannelState, ClosedGap, Frame, OpenGap, Tried

MOST = 500
"""How long the lists are in which changes are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that changed; the names are those of the daemon's log."""

    at: datetime
    event: str
    fields: Mapping[str, object]


class Lines:
    """Turns looks into events, and says each once."""

    def __init__(self, write: Callable[[Event], None]) -> None:
        """Take what writes an event."""
        self._write = write
        self._last: Frame | None = None
        self._told: set[int] = set()
        self._closed: set[int] = set()
        self._lost = False

    def seen(self, seen: Seen) -> None:
        """Write what is new in this look; of the first one, what there is."""
        if self._lost:
            self._lost = False
            self._write(Event(at=seen.frame.now, event="database.back", fields={}))
        for event in self._first(seen.frame) if self._last is None else self._news(self._last, seen.frame):
            self._write(event)
        self._last = seen.frame
        self._told = _bounded(self._told, {one.attempt_id for one in seen.frame.attempts})
        self._closed = _bounded(self._closed, {one.alert_id for one in seen.frame.closed})

    def lost(self, error: DatabaseError) -> None:
        """Write that nothing is known from now on; once."""
        if not self._lost:
            self._lost = True
            fields = {"error": error.message, "remedy": error.remedy}
            self._write(Event(at=datetime.now(UTC), event="database.lost", fields=fields))

    @staticmethod
    def _first(frame: Frame) -> Iterator[Event]:
        yield Event(at=frame.now, event="watch.state", fields=state(frame))
        for gap in reversed(frame.gaps):
            yield Event(at=gap.opened_at or frame.now, event="gap.open", fields=of_gap(gap))

    def _news(self, last: Frame, frame: Frame) -> Iterator[Event]:
        if (last.watcher.pid is None) != (frame.watcher.pid is None):
            yield Event(at=frame.now, event="daemon.gone" if frame.watcher.pid is None else "daemon.leads", fields={})
        known = {(gap.payment_id, gap.opened_at) for gap in last.gaps}
        for gap in reversed(frame.gaps):
            if (gap.payment_id, gap.opened_at) not in known:
                yield Event(at=gap.opened_at or frame.now, event="gap.opened", fields=of_gap(gap))
        for closed in reversed(frame.closed):
            if closed.alert_id not in self._closed:
                yield Event(at=closed.resolved_at, event="gap.closed", fields=of_closed(closed))
        for tried in reversed(frame.attempts):
            if tried.attempt_id not in self._told:
                sent = tried.result == "sent"
                yield Event(at=tried.at, event="delivery.sent" if sent else "delivery.failed", fields=of_tried(tried))
        before = {channel.name: channel for channel in last.channels}
        for channel in frame.channels:
            yield from _channel_news(before.get(channel.name), channel, frame.now)


def _channel_news(before: ChannelState | None, channel: ChannelState, now: datetime) -> Iterator[Event]:
    was = before is not None and before.down_since is not None
    if channel.down_since is not None and not was:
        fields = {"channel": channel.name, "reason": channel.down_reason}
        yield Event(at=channel.down_since, event="channel.broken", fields=fields)
    if channel.down_since is None and was:
        yield Event(at=now, event="channel.works", fields={"channel": channel.name})


def _bounded(known: set[int], present: set[int]) -> set[int]:
    """Return the ids that may be seen again; what left the lists long ago will not."""
    return present if len(known) > 20 * MOST else known | present


def state(frame: Frame) -> dict[str, object]:
    """Return the numbers of one look."""
    speed = frame.speed
    return {
        "gaps": frame.count,
        "money_at_risk": dict(frame.money),
        "waiting": frame.waiting,
        "noted": frame.noted,
        "unread_seconds": _seconds(frame.unread),
        "overdue_seconds": _seconds(frame.overdue),
        "daemon": "not running" if frame.watcher.pid is None else "running",
        "daemon_since": frame.watcher.since,
        "standbys": frame.watcher.standbys,
        "activation": frame.activation,
        "activated_today": 0 if speed is None else speed.count,
        "p50_seconds": None if speed is None else _seconds(speed.p50),
        "p90_seconds": None if speed is None else _seconds(speed.p90),
        "p99_seconds": None if speed is None else _seconds(speed.p99),
        "max_seconds": None if speed is None else _seconds(speed.longest),
    }


def document(frame: Frame) -> dict[str, object]:
    """Return one whole look, for `--once --json`."""
    return {
        "at": frame.now,
        "event": "watch.frame",
        **state(frame),
        "open": [of_gap(gap) for gap in frame.gaps],
        "closed": [of_closed(gap) for gap in frame.closed],
        "channels": [asdict(channel) for channel in frame.channels],
    }


def of_gap(gap: OpenGap) -> dict[str, object]:
    """Return an open gap's fields."""
    return {
        "payment": gap.payment_id,
        "user": gap.user_id,
        "kind": gap.kind,
        "plan": gap.plan_id,
        "amount": money(gap.amount, gap.currency),
        "method": gap.method,
        "paid_at": gap.paid_at,
        "cause": gap.cause,
    }


def of_closed(gap: ClosedGap) -> dict[str, object]:
    """Return a closed gap's fields."""
    return {
        "payment": gap.payment_id,
        "user": gap.user_id,
        "kind": gap.kind,
        "outcome": gap.outcome,
        "plan": gap.plan_id,
        "amount": money(gap.amount, gap.currency),
        "open_seconds": _seconds(gap.resolved_at - gap.opened_at),
    }


def of_tried(tried: Tried) -> dict[str, object]:
    """Return a request's fields."""
    return {
        "channel": tried.channel,
        "word": tried.word,
        "payment": tried.payment_id,
        "result": tried.result,
        "code": tried.code,
        "error": tried.error,
    }


def plain(event: Event) -> str:
    """Return an event as one line: moment, name and `field=value`; what is empty is left out."""
    fields = " ".join(f"{name}={_quoted(value)}" for name, value in event.fields.items() if value not in (None, "", {}))
    return f"{event.at.isoformat(timespec='seconds')} {event.event} {fields}".rstrip()


def as_object(event: Event) -> dict[str, object]:
    """Return an event as one JSON object."""
    return {"at": event.at, "event": event.event, **event.fields}


def _quoted(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat(timespec="seconds")
        case Mapping():
            sums = cast("Mapping[str, object]", value)
            return _quoted(", ".join(f"{number} {name}" for name, number in sums.items()))
        case int() | float() | Decimal():
            return str(value)
        case _:
            text = visible(str(value))
            return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=') else text


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else round(length.total_seconds(), 3)
