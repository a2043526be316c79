"""Digest: once a day paidwatch tells what it saw, also of a day without payments, so that its silence is noticed.

When: at `[alerts] digest_at` in the owner's zone. Which time: since the digest before. `installation.digest_at` says
until when was told; the transaction that moves it on queues the message, so that of several daemons, and over any
crash, one tells each day once. An appointment that nobody kept is told at the next start, as late; several in a row
are one digest.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from paidwatch.core.compare import in_words
from paidwatch.core.schedule import next_daily
from paidwatch.core.story import DAILY, State
from paidwatch.core.text import money, span, stamp
from paidwatch.errors import DatabaseError
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.status import Status
from paidwatch.store import digest as store
from paidwatch.store import ledger, outbox
from paidwatch.store.digest import Day, Fate, Sum, Times
from paidwatch.store.pool import Database, Session

LATE: Final = timedelta(minutes=5)
"""A digest that comes later than this says so."""
LONGEST: Final = timedelta(days=7)
"""What is longer ago is not counted: the work is bounded, and `paidwatch stats` counts any time."""
RETRY: Final = timedelta(minutes=5)
"""A digest that could not be made is tried again after this; watching goes on meanwhile."""
_TWO_DAYS: Final = timedelta(days=2)
"""Holds at least one appointment, whatever the clocks are put to."""


class Digest:
    """The daily digest of one term; nothing is asked of the server between two appointments."""

    def __init__(
        self,
        *,
        database: Database,
        policy: Callable[[], Policy],
        status: Status,
        log: Log,
        on_news: Callable[[], None],
    ) -> None:
        """Bind the database, what is known of the daemon, and whom to tell that there is something to deliver."""
        self._database = database
        self._policy = policy
        self._status = status
        self._log = log
        self._on_news = on_news
        self.poke = Signal()
        """To be rung when the configuration has changed."""

    async def run(self) -> None:
        """Keep the appointments until cancelled; a database that does not answer is asked again."""
        while True:
            try:
                wait = await self.tell_if_due()
            except DatabaseError as error:
                self._log.error(
                    "digest.failed",
                    "the daily digest could not be made; it is tried again",
                    error=error.message,
                    remedy=error.remedy,
                )
                wait = RETRY
            await self.poke.wait(wait)

    async def tell_if_due(self) -> timedelta | None:
        """Tell the digest if its time has come; return how long until the next, None where there is to be none.

        Raises DatabaseError; then nothing was told.
        """
        policy = self._policy()
        channels = receivers(policy)
        if policy.digest_at is None or not channels:
            return None
        found = await self._database.read(store.appointment)
        last = found.last or await self._begin(policy.digest_at, policy.zone, found.now)
        due = appointment_due(policy.digest_at, policy.zone, last, found.now)
        if due is not None:
            await self._tell(policy, channels, last, due, found.now)
        return next_daily(policy.digest_at, policy.zone, max(last, found.now)) - found.now

    async def _begin(self, at: time, zone: ZoneInfo, now: datetime) -> datetime:
        """Make the first appointment the next one, and let its digest be of the day before it."""
        since = appointment_due(at, zone, now - _TWO_DAYS, now) or now
        await self._database.write(lambda session: store.begin(session, since))
        return since

    async def _tell(
        self, policy: Policy, channels: Sequence[str], last: datetime, due: datetime, now: datetime
    ) -> None:
        since = max(last, now - LONGEST)
        day = await self._database.read(lambda session: store.day(session, since, policy.channels))
        record, stopped = await self._database.read(ledger.track_record)
        machine = in_words(policy.mode, record, stopped)
        lines = list(lines_of(day, due=due, status=self._status, machine=machine))

        async def body(session: Session) -> int | None:
            if not await store.claim(session, last, day.until):
                return None
            return await outbox.open_note(session, kind=DAILY, notes=lines, channels=channels, state=State.RESOLVED)

        alert = await self._database.write(body)
        if alert is None:
            self._log.info("digest.elsewhere", "another daemon has told the daily digest")
            return
        self._log.info(
            "digest.told",
            "the daily digest was queued",
            alert=alert,
            since=day.since,
            late=late if (late := day.until - due) >= LATE else None,
            payments=day.seen,
        )
        self._on_news()


def receivers(policy: Policy) -> tuple[str, ...]:
    """Return who is told: the channels of the first route that names the kind, else the usual ones.

    A route for everything urgent is not meant by what is told every day.
    """
    named = (route.channels for route in policy.routing.routes if route.channels and DAILY in route.kinds)
    return next(named, policy.routing.usual)


def next_digest(policy: Policy, last: datetime) -> datetime | None:
    """Return when the digest after the one at `last` is due, None where there is to be none."""
    if policy.digest_at is None or not receivers(policy):
        return None
    return next_daily(policy.digest_at, policy.zone, last)


def appointment_due(at: time, zone: ZoneInfo, last: datetime, now: datetime) -> datetime | None:
    """Return the latest appointment after `last` that is not in the future, None where there is none."""
    due = None
    upcoming = next_daily(at, zone, max(last, now - _TWO_DAYS))
    while upcoming <= now:
        due, upcoming = upcoming, next_daily(at, zone, upcoming)
    return due


def lines_of(day: Day, *, due: datetime, status: Status, machine: str) -> Iterator[str]:
    """Yield the digest, one `Label: value` a line."""
    late = day.until - due
    if late >= LATE:
        yield f"Late: this digest was due at {stamp(due)} and comes {span(late)} later"
    yield f"Time: since {stamp(day.since)}, that is {span(day.until - day.since)}"
    yield f"Payments: {_payments(day)}"
    if day.times is not None:
        yield f"Activation took: {_times(day.times)}"
    yield f"Rescued: {_told(day.sum(Fate.RESCUED))} activated by paidwatch"
    opened, closed, left = (day.sum(fate) for fate in (Fate.OPENED, Fate.CLOSED, Fate.OPEN))
    yield f"Gaps: {_told(opened)} opened, {_told(closed)} closed, {left.count} still open"
    yield f"Money at risk: {_money(left) or ('none' if not left.count else 'unknown')}"
    yield f"Lost: {_told(day.sum(Fate.EXPIRED))} given up as too old"
    yield f"Dead letters: {day.dead} new, {day.dead_in_all} in all"
    if day.broken:
        yield f"Broken channels: {', '.join(day.broken)}"
    yield f"Listening: {_listening(status)}"
    yield f"Automatic activation: {machine}"


def _payments(day: Day) -> str:
    if not day.seen and not day.activated:
        waiting = f"; {day.waiting} within the grace period" if day.waiting else ""
        return f"no payments{waiting}"
    noun = "payment" if day.seen == 1 else "payments"
    waiting = f", {day.waiting} within the grace period now" if day.waiting else ""
    more = "" if day.complete else "; there were more, and only the newest are counted"
    return f"{day.seen} {noun} seen, {day.activated} activated by the application{waiting}{more}"


def _times(times: Times) -> str:
    return f"p50 {_brief(times.p50)}, p90 {_brief(times.p90)}, p99 {_brief(times.p99)}, longest {_brief(times.longest)}"


def _brief(took: timedelta) -> str:
    """Return a length of time, with a tenth of a second where it is short."""
    return f"{took / timedelta(seconds=1):.1f} s" if took < timedelta(seconds=10) else span(took)


def _told(total: Sum) -> str:
    sums = _money(total)
    return f"{total.count} ({sums})" if sums else f"{total.count}"


def _money(total: Sum) -> str:
    return ", ".join(money(Decimal(amount), currency) for currency, amount in total.money.items())


def _listening(status: Status) -> str:
    """Return for how long this daemon has been up, and blind."""
    blind = status.blind_so_far()
    up = f"this daemon has been up for {span(status.up())}"
    if not blind:
        return f"{up}, and was listening all the time"
    newest = status.blind
    when = f", the last time for {span(newest.length)} from {stamp(newest.since)}" if newest else ""
    found = f", when it missed {newest.recovered} and found them afterwards" if newest and newest.recovered else ""
    return f"{up}, and was not listening for {span(blind)} of it{when}{found}"
