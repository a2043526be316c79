"""Forward: what is believed is passed on to the application's own handler, byte for byte, until it is taken.

One worker per provider, on the leader. Of one payment (provider and reference) only the oldest is on its way, so the
handler sees them in the order in which they came; a payment whose webhook is refused holds up no other one, and a
provider whose handler is away holds up no other provider. A handler that has taken nothing lately is asked with one
webhook at a time, at growing intervals; once it takes one, everything that waited follows at once.

Crash points: after the lease, it is passed on when the lease is over, or at once by a new leader; between the
application's answer and our commit, it is passed on once more: towards the application delivery is at least once, and
the header `Paidwatch-Webhook` is the same both times.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_hex
from typing import Final

import aiohttp
import anyio
from anyio.abc import TaskGroup
from yarl import URL

from paidwatch.core.routing import About, Severity
from paidwatch.core.story import FORWARD
from paidwatch.core.timing import retry_delay
from paidwatch.flow import storm
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.metrics import ForwardResult, Metrics
from paidwatch.ops.status import Status
from paidwatch.outbound import Answer, Exchange, Limits, Problem, retry_after
from paidwatch.ports import Clock
from paidwatch.store import forwards
from paidwatch.store.forwards import Attempt, Passage, Passed
from paidwatch.store.pool import Database, Session

LIMITS: Final = Limits(total=timedelta(seconds=15), connect=timedelta(seconds=5))
BUSY: Final = timedelta(seconds=60)
PARALLEL: Final = 8
"""Webhooks of one provider that are on their way at once."""
DOWN_FROM: Final = 3
"""After so many failures in a row the handler counts as away."""
DOWN_AFTER: Final = timedelta(minutes=10)
"""When people are told that it is."""
BREATH: Final = timedelta(milliseconds=100)
"""Pause where something is due and cannot be leased, because somebody else looks at it, and before each step while
providers wait for answers."""
TRANSIENT: Final = frozenset({408, 425, 429})
"""Statuses below 500 that pass; every other one is final."""
NUMBER: Final = "Paidwatch-Webhook"
ATTEMPT: Final = "Paidwatch-Attempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The application's handler behind one provider."""

    provider: str
    url: URL = field(repr=False)
    """`forward_to`; it may hold a credential."""
    give_up: timedelta


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the application did not take a webhook, in constant words."""

    said: str
    code: str
    final: bool
    wish: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every worker needs."""

    database: Database
    session: aiohttp.ClientSession
    policy: Callable[[], Policy]
    clock: Clock
    status: Status
    metrics: Metrics
    log: Log
    on_told: Callable[[], None]
    """Called when the application's log is to be told of something."""
    gives_way: Callable[[], bool]
    """Whether providers wait for answers at this moment; they have 3 seconds, and the application has days."""


class Forward:
    """The worker of one provider."""

    def __init__(self, destination: Destination, tools: Tools) -> None:
        """Bind one handler."""
        self.destination = destination
        self._database = tools.database
        self._session = tools.session
        self._policy = tools.policy
        self._clock = tools.clock
        self._status = tools.status
        self._metrics = tools.metrics
        self._log = tools.log
        self._on_told = tools.on_told
        self._gives_way = tools.gives_way
        self._lease = token_hex(8)
        self._provider = destination.provider
        self._name = f"forward {destination.provider}"
        self.wake = Signal()
        self._under_way = 0
        self._down = False
        self._stopping = False

    def stop(self) -> None:
        """Finish what is under way, take on nothing more."""
        self._stopping = True
        self.wake.ring()

    async def run(self) -> None:
        """Pass on what is due, until stopped; then finish what is under way. Raises DatabaseError."""
        async with anyio.create_task_group() as group:
            while not self._stopping:
                self._status.busy(self._name, BUSY)
                if self._gives_way():
                    await self._clock.sleep(BREATH)
                batch = await self._claim()
                for passage in batch:
                    self._under_way += 1
                    group.start_soon(self._pass_and_ring, passage, name=f"webhook {passage.webhook_id}")
                if not batch:
                    await self._wait()

    async def send_batch(self) -> int:
        """Pass on as much as is passed on at once; return how much that was."""
        batch = await self._claim()
        async with anyio.create_task_group() as group:
            for passage in batch:
                group.start_soon(self._pass, passage, name=f"webhook {passage.webhook_id}")
        return len(batch)

    def _room(self) -> int:
        return (1 if self._down else PARALLEL) - self._under_way

    def _is_full(self) -> bool:
        """Say whether nothing is to be leased now; several at once cost as much as one."""
        return self._room() < (1 if self._down else PARALLEL // 2)

    async def _claim(self) -> list[Passage]:
        if self._is_full():
            return []
        room = self._room()
        span = max(self._policy().lease, LIMITS.total * 2)
        found = await self._database.write(
            lambda session: forwards.claim(session, self._provider, lease=self._lease, span=span, most=room)
        )
        self._down = any(passage.failures >= DOWN_FROM for passage in found) if found else self._down
        return found

    async def _wait(self) -> None:
        """Until something may be passed on: at its time, when it came, or when what was under way is over."""
        if self._is_full():
            await self.wake.wait()
            return
        wait = await self._database.read(lambda session: forwards.wait(session, self._provider))
        if not self._under_way:
            self._status.beat(self._name)
        await self.wake.wait(None if wait is None else max(wait, BREATH))

    async def _pass_and_ring(self, passage: Passage) -> None:
        try:
            await self._pass(passage)
        finally:
            self._under_way -= 1
            self.wake.ring()

    async def _pass(self, passage: Passage) -> None:
        started = self._clock.monotonic()
        answer = await Exchange(self._session, LIMITS).request(
            "POST", self.destination.url, body=passage.body, headers=headers_of(passage)
        )
        took = self._clock.monotonic() - started
        failure = _failure(answer, self._clock)
        if failure is None and isinstance(answer, Answer):
            await self._taken(passage, str(answer.status), took)
        elif failure is not None and (failure.final or passage.now - passage.since >= self.destination.give_up):
            await self._given_up(passage, failure, took)
        elif failure is not None:
            await self._again(passage, failure, took)

    async def _taken(self, passage: Passage, code: str, took: timedelta) -> None:
        attempt = Attempt(webhook_id=passage.webhook_id, took=took, result="passed", code=code)

        async def record(session: Session) -> tuple[Passed | None, int | None]:
            passed = await forwards.record_passed(session, passage, code)
            await forwards.record_attempt(session, attempt)
            # A story ends by the handler working again, or by the last dead letter being taken.
            ends = passed is not None and (passed.works or passed.replayed)
            return passed, await forwards.over(session, self._provider) if ends else None

        passed, _alert = await self._database.write(record)
        self._on_told()
        if passed is not None and passed.works:
            self._down = False
            self._log.warning("forward.works", "the application takes webhooks again", provider=self._provider)
        self._metrics.forwarded(self._provider, ForwardResult.PASSED, passage.now - passage.received_at + took)
        self._log.info(
            "forward.passed",
            "the application took a webhook",
            provider=self._provider,
            webhook=passage.webhook_id,
            reference=passage.reference,
            attempt=passage.attempts,
            code=code,
        )

    async def _again(self, passage: Passage, failure: _Failure, took: timedelta) -> None:
        policy = self._policy()
        pause = retry_delay(
            max(passage.attempts, passage.failures + 1),
            roll=random.random(),  # noqa: S311  jitter is no secret
            retry_after=failure.wish,
            shortest=policy.retry_first,
            longest=policy.retry_most,
        )
        wish = None if failure.wish is None else pause
        attempt = self._attempt(passage, failure, took, "transient")

        async def record(session: Session) -> timedelta | None:
            down_for = await forwards.record_retry(
                session, passage, pause, code=failure.code, error=failure.said, wish=wish, down_from=DOWN_FROM
            )
            await forwards.record_attempt(session, attempt)
            if down_for is not None and down_for >= DOWN_AFTER:
                await self._tell(session, f"the application takes no webhooks of {self._provider}", failure, passage)
            return down_for

        self._down = await self._database.write(record) is not None
        self._metrics.forwarded(self._provider, ForwardResult.RETRY)
        self._say(passage, failure, ForwardResult.RETRY)

    async def _given_up(self, passage: Passage, failure: _Failure, took: timedelta) -> None:
        attempt = self._attempt(passage, failure, took, "refused" if failure.final else "transient")

        async def record(session: Session) -> None:
            dead = await forwards.record_dead(session, passage, code=failure.code, error=failure.said)
            await forwards.record_attempt(session, attempt)
            if dead:
                tried = "refused" if failure.final else "did not take in time"
                await self._tell(session, f"the application {tried} a webhook of {self._provider}", failure, passage)

        await self._database.write(record)
        self._on_told()
        self._metrics.forwarded(self._provider, ForwardResult.DEAD)
        self._say(passage, failure, ForwardResult.DEAD)

    async def _tell(self, session: Session, cause: str, failure: _Failure, passage: Passage) -> None:
        """Open the one alert about this handler, if it is not open; how much waits is said as of each message."""
        policy, routing = self._policy(), self._policy().routing
        severity = routing.severity(FORWARD)
        await forwards.tell(
            session,
            self._provider,
            cause=cause,
            notes=[failure.said],
            channels=routing.channels(About(kind=FORWARD, severity=severity, method=self._provider, amount=None)),
            severity=severity,
            quiet_until=storm.quiet_until(policy, passage.now) if severity is Severity.LOW else None,
        )

    @staticmethod
    def _attempt(passage: Passage, failure: _Failure, took: timedelta, result: str) -> Attempt:
        return Attempt(webhook_id=passage.webhook_id, took=took, result=result, code=failure.code, error=failure.said)

    def _say(self, passage: Passage, failure: _Failure, result: ForwardResult) -> None:
        self._log.warning(
            "forward.failed",
            "the application did not take a webhook",
            provider=self._provider,
            webhook=passage.webhook_id,
            reference=passage.reference,
            result=result.value,
            attempt=passage.attempts,
            code=failure.code,
            error=failure.said,
        )


class Forwarders:
    """The workers of all providers that have a handler; a reload changes which ones there are."""

    def __init__(self, tools: Tools, destinations: Callable[[], Sequence[Destination]]) -> None:
        """Take what a worker needs, and which ones are wanted."""
        self._tools = tools
        self._destinations = destinations
        self._workers: dict[str, Forward] = {}

    def hire(self, group: TaskGroup) -> None:
        """Start a worker for each handler that has none; those of others finish and leave."""
        wanted = {destination.provider: destination for destination in self._destinations()}
        for name, former in list(self._workers.items()):
            if former.destination != wanted.get(name):
                former.stop()
                del self._workers[name]
        for name, destination in wanted.items():
            if name not in self._workers:
                worker = self._workers[name] = Forward(destination, self._tools)
                group.start_soon(worker.run, name=f"forward {name}")

    def ring(self) -> None:
        """There is something to pass on, perhaps."""
        for worker in self._workers.values():
            worker.wake.ring()

    def stop(self) -> None:
        """Finish what is under way, take on nothing more."""
        for worker in self._workers.values():
            worker.stop()


def headers_of(passage: Passage) -> dict[str, str]:
    """Return the headers as they came, and by which number and attempt the application knows this webhook."""
    headers: dict[str, str] = {}
    for name, value in passage.headers:
        text = _as_sent(value)
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers | {NUMBER: str(passage.webhook_id), ATTEMPT: str(passage.attempts)}


def _as_sent(value: str) -> str:
    """Return a value that has one character a byte as one whose UTF-8 is these bytes, where there is such a one."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _failure(answer: Answer | Problem, clock: Clock) -> _Failure | None:
    """Return why this is no success; None: it is one."""
    match answer:
        case Problem(said=said, code=code):
            return _Failure(said, code, final=False)
        case Answer(status=status) if 200 <= status < 300:  # noqa: PLR2004
            return None
        case Answer(status=status):
            final = status < 500 and status not in TRANSIENT  # noqa: PLR2004
            wish = None if final else retry_after(answer, now=clock.now())
            return _Failure(f"the handler answered {status}", str(status), final, wish)
