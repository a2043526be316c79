"""How the daemon is, in memory: the flow writes, health, metrics and the service manager read.

Two questions with different consequences. `alive`: would a restart help? Only a pipeline that stopped moving says no.
`ready`: is anything wrong? A database that is away is wrong, and no reason for a restart.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from paidwatch.ports import Clock


class Role(StrEnum):
    """What the daemon is doing for a living."""

    STARTING = "starting"
    STANDBY = "standby"
    """Another daemon leads; this one waits for its place."""
    LEADER = "leader"
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A span in which the daemon did not listen; what happened in it was found afterwards."""

    since: datetime
    length: timedelta
    recovered: int
    """Payments the catch-up found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Something that must be over by `until`, on the monotonic clock."""

    until: timedelta
    limit: timedelta


@dataclass(slots=True, kw_only=True)
class Status:
    """The board; one per daemon, written from the event loop only."""

    clock: Clock
    overdue_limit: timedelta = timedelta(minutes=2)
    """How long the alarm clock may miss an appointment before the pipeline counts as stuck."""

    role: Role = Role.STARTING
    listening_since: datetime | None = None
    last_error: str = ""
    """The newest error, in a sentence without secrets; kept after it is over, for `last error` in displays."""
    last_drain: datetime | None = None
    blind: Blind | None = None
    """The newest span of blindness that is over."""
    blind_total: timedelta = timedelta()
    """Sum of the spans that are over; `blind_so_far` has the running one too."""

    _started: timedelta = field(init=False)
    """When the board was made, on the monotonic clock."""
    _lost: tuple[datetime, timedelta] | None = None
    """When the present blindness began, on both clocks."""
    _retry: _Span | None = None
    _due: timedelta | None = None
    _busy: dict[str, _Span] = field(default_factory=dict[str, _Span])
    _beats: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _troubles: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Begin to count for how long the daemon is up."""
        self._started = self.clock.monotonic()

    def busy(self, name: str, limit: timedelta) -> None:
        """Worker `name` begins something that cannot take longer than `limit`; `beat` ends it.

        The limit has to be above every time limit inside, so that only a worker that hangs exceeds it.
        """
        self._busy[name] = _Span(until=self.clock.monotonic() + limit, limit=limit)

    def beat(self, name: str) -> None:
        """Worker `name` is through with what it did, and waits; its trouble, if it had one, is over."""
        self._busy.pop(name, None)
        self._troubles.pop(name, None)
        self._beats[name] = self.clock.now()

    def trouble(self, name: str, sentence: str) -> None:
        """Worker `name` failed, and will try again; not ready until its next `beat`. Never put a secret in it."""
        self._busy.pop(name, None)
        self._troubles[name] = sentence
        self.last_error = sentence

    def drained(self) -> None:
        """The inbox was emptied just now."""
        self.last_drain = self.clock.now()

    def due_in(self, span: timedelta | None) -> None:
        """The alarm clock is set to ring in `span`; None: nothing is due. To be said at every setting."""
        self._due = None if span is None else self.clock.monotonic() + span

    def lost(self, sentence: str, *, retry_within: timedelta) -> None:
        """The connection is gone, or one more attempt to get it back failed; the next one is over in `retry_within`.

        With the connection every worker ends: what they were busy with is over, and its limit with it.
        """
        self.last_error = sentence
        if self.role is Role.STOPPING:
            return
        if self._lost is None:
            self._lost = (self.clock.now(), self.clock.monotonic())
        self._retry = _Span(until=self.clock.monotonic() + retry_within, limit=retry_within)
        self._due = None
        self._busy.clear()
        self.role = Role.RECONNECTING
        self.listening_since = None

    def standby(self) -> None:
        """The installation is sound, and another daemon leads."""
        self._connected(recovered=0)
        self.role = Role.STANDBY
        self.listening_since = None

    def leading(self, recovered: int) -> Blind | None:
        """LISTEN is proven, the first catch-up found `recovered` payments; return the blindness this ends, if any."""
        blind = self._connected(recovered)
        self.role = Role.LEADER
        self.listening_since = self.clock.now()
        return blind

    def stopping(self) -> None:
        """No more is taken on; what is under way is finished."""
        self.role = Role.STOPPING
        self._due = None

    def next_due(self) -> timedelta | None:
        """Return how far away the next appointment is, negative if it was missed; None: nothing is due."""
        return None if self._due is None else self._due - self.clock.monotonic()

    def blind_so_far(self) -> timedelta:
        """Return for how long the daemon was blind since its start, the present blindness included."""
        running = timedelta() if self._lost is None else self.clock.monotonic() - self._lost[1]
        return self.blind_total + running

    def up(self) -> timedelta:
        """Return for how long the daemon has been running."""
        return self.clock.monotonic() - self._started

    def beats(self) -> dict[str, datetime]:
        """Return when each worker last was through with something."""
        return dict(self._beats)

    def alive(self) -> str | None:
        """Return None while the pipeline moves, otherwise what is stuck.

        While reconnecting, the attempts have to go on; one that got as far as catching up has its workers' limits.
        While stopping, the time limit of the stop is what counts.
        """
        if self.role is Role.STOPPING:
            return None
        now = self.clock.monotonic()
        if self._retry is not None and not self._busy and now > self._retry.until:
            return f"reconnecting has not been tried for more than {self._retry.limit.total_seconds():g} s"
        for name, span in self._busy.items():
            if now > span.until:
                return f"{name} is stuck for longer than its limit of {span.limit.total_seconds():g} s"
        if self.role is Role.LEADER and self._due is not None and now > self._due + self.overdue_limit:
            return f"what is due has not been looked at for more than {self.overdue_limit.total_seconds():g} s"
        return None

    def ready(self) -> list[str]:
        """Return what is wrong, a sentence each; empty when the daemon watches, or stands by to."""
        wrong = [f"{name}: {sentence}" for name, sentence in sorted(self._troubles.items())]
        match self.role:
            case Role.LEADER | Role.STANDBY:
                pass
            case Role.STARTING:
                wrong.insert(0, "starting: the first catch-up is not done")
            case Role.RECONNECTING:
                wrong.insert(0, f"not listening: {self.last_error}")
            case Role.STOPPING:
                wrong.insert(0, "stopping")
        stuck = self.alive()
        return wrong if stuck is None else [*wrong, stuck]

    def line(self) -> str:
        """Return the one line for `systemctl status`."""
        due = self.next_due()
        parts = [self.role.value]
        if due is not None:
            parts.append(f"next due in {max(due.total_seconds(), 0):.0f} s")
        parts.extend(self.ready())
        return "; ".join(parts)

    def _connected(self, recovered: int) -> Blind | None:
        """End the reconnecting."""
        self._retry = None
        if self._lost is None:
            return None
        since, reading = self._lost
        self._lost = None
        self.blind = Blind(since=since, length=self.clock.monotonic() - reading, recovered=recovered)
        self.blind_total += self.blind.length
        return self.blind
