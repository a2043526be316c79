"""Receive: a webhook is kept before anything is made of it, then settled, then answered; in 3 seconds, whatever hangs.

    request ──► keep: the raw bodies of all that wait, one INSERT, committed by itself
                  │
                  ▼
                judge: signature and body, in memory ──► settle: duplicates, the application's log, what is passed on
                  │                                         │
                  ▼                                         ▼
                answer: 200, 400, 401; at the latest a second after it was kept, settled or not

Requests that arrive while the database is busy are kept and settled together, so a burst costs few transactions. Every
instance receives, leader or standby; only the leader passes on (flow.forward). The pool is its own: two seconds are the
longest that anything may hang here, and whatever hangs elsewhere does not hang here.

Crash points: before it is kept there was no answer, and the provider sends again; what is kept and not settled is
settled at the next start (a provider that had no answer sends it again: a duplicate).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import anyio

from paidwatch.errors import DatabaseError, Unreachable
from paidwatch.flow import settle as settling
from paidwatch.flow.settle import Finished, Judged, Source, judge, kept_headers
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics, WebhookResult
from paidwatch.ports import Clock
from paidwatch.store import webhooks
from paidwatch.store.connect import Target, milliseconds
from paidwatch.store.on_demand import OnDemand
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.statements import Statements
from paidwatch.store.webhooks import Kept, Raw, State
from paidwatch.web.rate import Rate
from paidwatch.web.webhooks import Receipt, Taken

ANSWER_WITHIN: Final = timedelta(milliseconds=2500)
"""A request is answered after this; the providers' limit is 3 seconds (domain.md §2)."""
SETTLE_WITHIN: Final = timedelta(seconds=1)
"""What is kept waits this long for being settled before it is answered."""
DATABASE_LIMIT: Final = timedelta(seconds=1)
"""One statement, and one connection, takes no longer."""
LOCK_LIMIT: Final = timedelta(milliseconds=400)
"""The application's log is not waited for longer."""
LOG_PAUSE: Final = timedelta(seconds=5)
"""After the application's log could not be written it is left alone this long, and told afterwards."""
OLD: Final = timedelta(seconds=5)
"""What was kept longer ago and is not settled was left by somebody who will not settle it."""
LONGEST_PAUSE: Final = timedelta(minutes=1)
MOST_WAITING: Final = 2000
MOST_BYTES: Final = 64 * 1024 * 1024
"""What waits for being kept; beyond it the answer is 429."""
BATCH: Final = 200
BATCH_BYTES: Final = 8 * 1024 * 1024
LARGE: Final = 64 * 1024
"""Bytes of a body that is read in a thread, so that the loop goes on."""
PORTION: Final = 4096
"""Bytes that one token of the budget for what is not believed stands for."""
MOST_DOUBTED: Final = 20_000
BAD_RATE: Final = Rate(burst=64 * 1024 * 1024 // PORTION, refill=timedelta(milliseconds=60))
"""What one client may send that is not believed, and is kept all the same: 64 MiB, and 64 KiB a second."""


class Budget(Protocol):
    """Tokens per client (web.rate)."""

    def take(self, client: str) -> timedelta:
        """Take a token: zero if there was one, otherwise how long until there is one."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Arrival:
    """One request on its way."""

    raw: Raw
    source: Source
    client: str
    kept: Kept | None = None
    judged: Judged | None = None
    state: State | None = None
    left: bool = False
    """Nobody waits for an answer any more."""
    stored: anyio.Event = field(default_factory=anyio.Event)
    settled: anyio.Event = field(default_factory=anyio.Event)


class Receive:
    """The receiver of one instance; `run` is to be running for as long as requests come."""

    def __init__(
        self,
        *,
        target: Target,
        statements: Statements,
        sources: Callable[[], Mapping[str, Source]],
        budget: Budget,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """Bind the database and the providers; nothing is opened yet. `budget` is for what is not believed."""
        lock_limit = str(milliseconds(LOCK_LIMIT))
        self._pool = OnDemand(target, statements, limit=DATABASE_LIMIT, settings=BY_KEY | {"lock_timeout": lock_limit})
        self._sources = sources
        self._budget = budget
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._waiting: deque[_Arrival] = deque()
        self._bytes = 0
        self._unsettled: deque[_Arrival] = deque()
        self._came = Signal()
        self._stored = Signal()
        self._leftovers = Signal()
        self._leaves = True
        """Something may be kept and not settled, and not old enough yet; at the start by whoever was here before."""
        self._log_again: timedelta | None = None
        self._doubted: OrderedDict[str, timedelta] = OrderedDict()

    def knows(self, provider: str) -> bool:
        """Say whether webhooks of this provider are expected."""
        return provider in self._sources()

    def has_secret(self, provider: str) -> bool:
        """Say whether there is anything to check its signatures with."""
        return self._sources()[provider].has_secret

    def look(self, *, twice: bool = False) -> None:
        """Look for what was left; `twice`: and once more when what somebody left a moment ago is old enough."""
        self._leaves |= twice
        self._leftovers.ring()

    def is_pressed(self) -> bool:
        """Say whether providers wait for answers at this moment."""
        return bool(self._waiting or self._unsettled)

    async def renew(self) -> None:
        """Leave the present connections: they may lead to a server that is not the one to be served any more."""
        await self._pool.renew()

    async def receive(self, provider: str, headers: Sequence[tuple[str, str]], body: bytes, client: str) -> Receipt:
        """Keep one webhook and say what became of it, within 3 seconds."""
        started = self._clock.monotonic()
        receipt = await self._receive(provider, headers, body, client)
        self._metrics.webhook(provider, WebhookResult(receipt.taken.value), self._clock.monotonic() - started)
        return receipt

    async def _receive(self, provider: str, headers: Sequence[tuple[str, str]], body: bytes, client: str) -> Receipt:
        source = self._sources().get(provider)
        if source is None:
            return Receipt(taken=Taken.NO_SECRET)
        raw = Raw(provider=provider, body=body, headers=kept_headers(source, headers))
        if self._is_doubted(client) and not (await _judge(source, raw, self._clock.now())).believed:
            return Receipt(taken=Taken.LIMITED, wait=timedelta(minutes=1))
        if len(self._waiting) >= MOST_WAITING or self._bytes + len(body) > MOST_BYTES:
            return Receipt(taken=Taken.LIMITED, wait=timedelta(seconds=1))
        arrival = _Arrival(raw=raw, source=source, client=client)
        self._waiting.append(arrival)
        self._bytes += len(body)
        self._came.ring()
        with anyio.move_on_after(ANSWER_WITHIN.total_seconds()):
            await arrival.stored.wait()
            with anyio.move_on_after(SETTLE_WITHIN.total_seconds()):
                await arrival.settled.wait()
        arrival.left = True
        return self._receipt(arrival)

    def _receipt(self, arrival: _Arrival) -> Receipt:
        judged = arrival.judged
        if arrival.kept is None or judged is None:
            return Receipt(taken=Taken.AWAY)
        if not judged.readable:
            return Receipt(taken=Taken.UNREADABLE)
        if not judged.believed:
            return Receipt(taken=Taken.BAD_SIGNATURE)
        return Receipt(taken=Taken.DUPLICATE if arrival.state is State.DUPLICATE else Taken.ACCEPTED)

    async def run(self) -> None:
        """Keep, settle and finish until cancelled; what waits then was not answered, and comes again."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep, name="keep webhooks")
                group.start_soon(self._settle, name="settle webhooks")
                group.start_soon(self._finish, name="finish webhooks")
        finally:
            await self._pool.renew()

    async def _keep(self) -> None:
        while True:
            await self._came.wait()
            while batch := self._next_batch():
                await self._keep_batch(batch)

    def _next_batch(self) -> list[_Arrival]:
        batch: list[_Arrival] = []
        size = 0
        while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
            arrival = self._waiting.popleft()
            self._bytes -= len(arrival.raw.body)
            if not arrival.left:
                batch.append(arrival)
                size += len(arrival.raw.body)
        return batch

    async def _keep_batch(self, batch: Sequence[_Arrival]) -> None:
        try:
            found = await self._pool.read(lambda session: webhooks.keep(session, [it.raw for it in batch]))
        except DatabaseError as error:
            self._log.error(
                "webhook.refused",
                "webhooks could not be kept; their providers are asked to send them again",
                count=len(batch),
                error=error.message,
            )
            for arrival in batch:
                arrival.stored.set()
                arrival.settled.set()
            return
        for arrival, kept in zip(batch, found, strict=True):
            arrival.judged = await _judge(arrival.source, arrival.raw, kept.received_at)
            arrival.kept = kept
            if not arrival.judged.believed:
                self._doubt(arrival)
            arrival.stored.set()
        self._unsettled.extend(batch)
        self._stored.ring()

    async def _settle(self) -> None:
        while True:
            await self._stored.wait()
            while self._unsettled:
                batch = [self._unsettled.popleft() for _ in range(min(len(self._unsettled), BATCH))]
                error = await self._settle_batch(batch)
                if error is not None and not isinstance(error, Unreachable):
                    # One of them may be to blame: another instance settled the same webhook at the same time, say.
                    error = next(filter(None, [await self._settle_batch([arrival]) for arrival in batch]), None)
                if error is not None:
                    self._leave(error, len(batch))
                for arrival in batch:
                    arrival.settled.set()

    async def _settle_batch(self, batch: Sequence[_Arrival]) -> DatabaseError | None:
        """Settle what was kept; return why the database did not take it."""
        told = [(it.kept, it.raw, it.judged) for it in batch if it.kept is not None and it.judged is not None]
        sources = {it.raw.provider: it.source for it in batch}
        log = self._log_again is None or self._clock.monotonic() >= self._log_again
        try:
            settled, failed = await self._pool.write(lambda session: settling.settle(session, told, sources, log=log))
        except DatabaseError as error:
            return error
        if failed is not None:
            self._leave_log(failed)
        elif not log:
            self._leftovers.ring()
        for arrival in batch:
            if arrival.kept is not None and (found := settled.get(arrival.kept.webhook_id)):
                arrival.state = found.state
            self._say(arrival)
        return None

    def _leave(self, error: DatabaseError, count: int) -> None:
        """Leave what was kept to `_finish`."""
        self._leaves = True
        self._leftovers.ring()
        said = "webhooks are kept and not settled yet"
        self._log.warning("webhook.unsettled", said, count=count, error=error.message)

    def _leave_log(self, failed: DatabaseError) -> None:
        """Leave the application's log alone for a while."""
        self._log_again = self._clock.monotonic() + LOG_PAUSE
        self._leftovers.ring()
        self._log.warning(
            "webhook.unlogged",
            "the application's log of webhooks cannot be written; it is told later",
            error=failed.message,
            remedy=failed.remedy,
        )

    def _say(self, arrival: _Arrival) -> None:
        judged, kept = arrival.judged, arrival.kept
        if judged is None or kept is None:
            return
        reference = None if judged.reading is None else judged.reading.reference
        fields = {"provider": arrival.raw.provider, "webhook": kept.webhook_id, "reference": reference}
        if judged.believed:
            state = (arrival.state or State.RECEIVED).value
            self._log.debug("webhook.received", "a webhook was taken", **fields, state=state)
        else:
            self._log.warning("webhook.rejected", "a webhook is not believed", **fields, reason=judged.problem)

    async def _finish(self) -> None:
        """Settle what was left: at the start, and whenever there is something; what is refused is passed over."""
        failures = after = 0
        wait: timedelta | None = timedelta()
        while True:
            if wait != timedelta():
                await self._leftovers.wait(wait)
            wait = timedelta()
            try:
                done = await self._pool.write(partial(self._finish_batch, after=after))
            except DatabaseError as error:
                done = Finished(count=0, upto=after, failed=error)
            if done.failed is not None:
                failures, after = failures + 1, done.upto
                if failures == 2:  # noqa: PLR2004  the first time it may have been a lock
                    self._leave(done.failed, done.count)
                pause = min(LOG_PAUSE * (1 << min(failures - 1, 6)), LONGEST_PAUSE)
                if not done.count:  # nothing could even be looked at; a row that is refused holds up no others
                    self._log_again = self._clock.monotonic() + pause
                await self._clock.sleep(pause)  # and no ring: every webhook that comes meanwhile rings
                continue
            self._log_again = None
            if not done.count and not after:
                if failures:
                    self._log.info("webhook.finished", "what was left of webhooks is settled")
                failures, wait, self._leaves = 0, OLD if self._leaves else None, False
            after = after if done.count else 0  # at the end, back to what was refused

    async def _finish_batch(self, session: Session, *, after: int) -> Finished:
        found = await webhooks.unsettled(session, older=OLD, after=after, most=BATCH, size=BATCH_BYTES)
        return await settling.finish(session, found, self._sources())

    def _is_doubted(self, client: str) -> bool:
        until = self._doubted.get(client)
        return until is not None and self._clock.monotonic() < until

    def _doubt(self, arrival: _Arrival) -> None:
        """Count what a client sent that is not believed; beyond its budget nothing of the kind is kept any more."""
        wait = timedelta()
        for _ in range(1 + len(arrival.raw.body) // PORTION):
            wait = self._budget.take(arrival.client)
        if wait > timedelta():
            self._doubted[arrival.client] = self._clock.monotonic() + wait
            self._doubted.move_to_end(arrival.client)
            if len(self._doubted) > MOST_DOUBTED:
                self._doubted.popitem(last=False)


async def _judge(source: Source, raw: Raw, now: datetime) -> Judged:
    if len(raw.body) < LARGE:
        return judge(source, raw, now)
    return await anyio.to_thread.run_sync(judge, source, raw, now)
