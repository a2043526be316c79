"""Deliver: one worker per channel leases what is due, sends it outside of any transaction, and marks it afterwards.

Crash points: after the lease, the message goes out when the lease is over, or at once under a new leader; between the
channel's acceptance and our commit, it goes out once more, with the same message id.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from secrets import token_hex
from typing import assert_never

import anyio

from paidwatch.core.model import Notice
from paidwatch.core.render import render
from paidwatch.core.timing import retry_delay
from paidwatch.errors import DeliveryError, Fault
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.metrics import DeliveryResult, Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Clock, Message, Transport
from paidwatch.store import outbox
from paidwatch.store.outbox import Attempt, Due, Told
from paidwatch.store.pool import Database, Session

SEND_LIMIT = timedelta(seconds=20)
"""A transport ends within 15 seconds; this is for one that does not."""
BROKEN_PAUSE = timedelta(minutes=15)
"""A broken channel is tried again this often: it may have been repaired."""


class Deliver:
    """The worker of one channel."""

    def __init__(
        self,
        *,
        transport: Transport,
        database: Database,
        policy: Callable[[], Policy],
        clock: Clock,
        status: Status,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """Bind one channel."""
        self.transport = transport
        self._database = database
        self._policy = policy
        self._clock = clock
        self._status = status
        self._metrics = metrics
        self._log = log
        self._lease = token_hex(8)
        self._name = f"deliver {transport.name}"
        self.wake = Signal()
        self._under_way = 0
        self._stopping = False

    def stop(self) -> None:
        """Finish what is under way, take on nothing more."""
        self._stopping = True
        self.wake.ring()

    async def run(self) -> None:
        """Tell this channel what it is due, until stopped; then finish what is under way. Raises DatabaseError."""
        async with anyio.create_task_group() as group:
            while not self._stopping:
                self._status.busy(self._name, SEND_LIMIT * 4)
                started = self._clock.monotonic()
                batch = await self._claim(self.transport.parallel - self._under_way)
                for due in batch:
                    self._under_way += 1
                    group.start_soon(self._tell_and_ring, due, name=f"delivery {due.delivery_id}")
                if batch:
                    await self._keep_pace(started)
                    continue
                await self._wait()

    async def send_batch(self) -> int:
        """Lease and send as much as the channel takes at once; return how many messages that was."""
        batch = await self._claim(self.transport.parallel)
        async with anyio.create_task_group() as group:
            for due in batch:
                group.start_soon(self._tell, due, name=f"delivery {due.delivery_id}")
        return len(batch)

    async def _claim(self, most: int) -> list[Due]:
        if most <= 0:
            return []
        span = self._policy().lease
        return await self._database.write(
            lambda session: outbox.claim(session, self.transport.name, lease=self._lease, span=span, most=most)
        )

    async def _wait(self) -> None:
        """Until a message may be due: at its time, when one is queued, or when one that was under way is over."""
        if self._under_way >= self.transport.parallel:
            self._status.busy(self._name, SEND_LIMIT * 2)
            await self.wake.wait()
            return
        wait = await self._database.read(lambda session: outbox.next_delivery(session, self.transport.name))
        self._status.beat(self._name)
        if wait is None or wait > timedelta():
            await self.wake.wait(wait)

    async def _tell_and_ring(self, due: Due) -> None:
        await self._tell(due)
        full = self._under_way >= self.transport.parallel
        self._under_way -= 1
        if full:
            self.wake.ring()

    async def _keep_pace(self, started: timedelta) -> None:
        rest = started + self.transport.pace - self._clock.monotonic()
        if rest > timedelta() and not self._stopping:
            self._status.beat(self._name)
            await self._clock.sleep(rest)

    async def _tell(self, due: Due) -> None:
        notice = render(due.story, now=due.now)
        message = Message(
            notice=notice,
            key=f"{due.installation_id}.{due.story.alert_id}.{due.revision}",
            thread=f"{due.installation_id}.{due.story.alert_id}",
            earlier=due.reference,
        )
        started = self._clock.monotonic()
        try:
            with anyio.fail_after(SEND_LIMIT.total_seconds()):
                receipt = await self.transport.send(message)
        except DeliveryError as error:
            await self._not_taken(due, notice, error, self._clock.monotonic() - started)
            return
        except Exception as error:  # noqa: BLE001  a channel that breaks its contract must not stop the others
            slip = DeliveryError(
                f"{type(error).__name__} in the channel", fault=Fault.TRANSIENT, code=type(error).__name__
            )
            await self._not_taken(due, notice, slip, self._clock.monotonic() - started)
            return
        attempt = Attempt(
            delivery_id=due.delivery_id,
            revision=due.revision,
            word=notice.word.value,
            took=self._clock.monotonic() - started,
            result="sent",
            code=receipt.code,
            size=receipt.size,
        )

        async def record(session: Session) -> tuple[Told | None, bool]:
            told = await outbox.record_sent(session, due, receipt)
            await outbox.record_attempt(session, attempt)
            return told, await outbox.channel_works(session, self.transport.name)

        told, repaired = await self._database.write(record)
        if told is not None and told.moved_on:
            self.wake.ring()
        latency = None if told is None else due.now - told.opened_at + attempt.took
        self._metrics.attempted(self.transport.name, DeliveryResult.SENT, latency)
        self._log.info(
            "delivery.sent",
            "a message was taken",
            channel=self.transport.name,
            alert=due.story.alert_id,
            word=notice.word.value,
            code=receipt.code,
            bytes=receipt.size,
        )
        if repaired:
            self._log.warning("channel.works", "a broken channel works again", channel=self.transport.name)

    async def _not_taken(self, due: Due, notice: Notice, error: DeliveryError, took: timedelta) -> None:
        policy = self._policy()
        wait = retry_delay(
            due.attempts,
            roll=random.random(),  # noqa: S311  jitter is no secret
            retry_after=error.retry_after,
            shortest=policy.retry_first,
            longest=policy.retry_most,
        )
        exhausted = due.now - due.trying_since >= policy.give_up
        result = self._consequence(error.fault, exhausted=exhausted)
        attempt = Attempt(
            delivery_id=due.delivery_id,
            revision=due.revision,
            word=notice.word.value,
            took=took,
            result=error.fault.value,
            code=error.code,
            error=error.message,
        )

        async def record(session: Session) -> None:
            await outbox.record_attempt(session, attempt)
            if result is DeliveryResult.DEAD:
                await outbox.record_dead(session, due, error)
            elif result is DeliveryResult.HELD:
                await outbox.record_retry(session, due, BROKEN_PAUSE, error)
                await outbox.hold_channel(session, self.transport.name, BROKEN_PAUSE, error.message)
            else:
                await outbox.record_retry(session, due, wait, error)
                if error.retry_after is not None:
                    await outbox.hold_channel(session, self.transport.name, wait, None)

        await self._database.write(record)
        self.wake.ring()
        self._metrics.attempted(self.transport.name, result)
        self._log.warning(
            "delivery.failed",
            "a message was not taken",
            channel=self.transport.name,
            alert=due.story.alert_id,
            fault=error.fault.value,
            code=error.code,
            result=result.value,
            attempt=due.attempts,
            error=error.message,
        )

    @staticmethod
    def _consequence(fault: Fault, *, exhausted: bool) -> DeliveryResult:
        match fault:
            case Fault.MESSAGE:
                return DeliveryResult.DEAD
            case Fault.CHANNEL:
                return DeliveryResult.DEAD if exhausted else DeliveryResult.HELD
            case Fault.TRANSIENT:
                return DeliveryResult.DEAD if exhausted else DeliveryResult.RETRY
            case _ as unreachable:
                assert_never(unreachable)
