"""Deliver: one worker per channel leases what is due, sends it outside of any transaction, and marks it afterwards.

Crash points: after the lease, the message goes out when the lease is over, or at once under a new leader; between the
channel's acceptance and our commit, it goes out once more, with the same message id.

Discipline: the starts of two requests are at least the channel's pace apart. A channel that has not taken anything yet,
or failed last, is asked one request at a time. Wishes to wait and breakages are kept in the database, so they hold over
restarts; a channel that is down is asked about one message now and then while everything else waits for its repair.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from secrets import token_hex
from typing import Final, assert_never

import anyio

from paidwatch.core.model import Notice
from paidwatch.core.render import render
from paidwatch.core.story import BUNDLES
from paidwatch.core.timing import retry_delay
from paidwatch.errors import DeliveryError, Fault
from paidwatch.flow.approve import link_for
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.metrics import DeliveryResult, Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Clock, Message, Receipt, Transport
from paidwatch.store import channels, outbox
from paidwatch.store.channels import Gathered, Wait
from paidwatch.store.outbox import Attempt, Due, Told
from paidwatch.store.pool import Database, Session

SEND_LIMIT: Final = timedelta(seconds=20)
"""A transport ends within 15 seconds; this is for one that does not."""
BROKEN_PAUSE: Final = timedelta(minutes=15)
"""A broken channel is tried again this often: it may have been repaired."""
DOWN_AFTER: Final = timedelta(minutes=10)
"""A channel that has taken nothing for so long, though it says that this will pass, is as good as broken."""


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
        self._waits_for_room = False
        self._proven = False
        self._refusals = 0
        self._next_start: timedelta | None = None
        self._stopping = False

    def stop(self) -> None:
        """Finish what is under way, take on nothing more."""
        self._stopping = True
        self.wake.ring()

    async def run(self) -> None:
        """Tell this channel what it is due, until stopped; then finish what is under way. Raises DatabaseError."""
        await self._remember_pace()
        async with anyio.create_task_group() as group:
            while not self._stopping:
                self._status.busy(self._name, SEND_LIMIT * 4)
                refusals = self._refusals
                batch = await self._claim(self._room())
                for due in batch:
                    await self._keep_pace()
                    self._under_way += 1
                    group.start_soon(self._tell_and_ring, due, refusals, name=f"delivery {due.delivery_id}")
                if not batch:
                    await self._wait()

    async def send_batch(self) -> int:
        """Lease and send as much as the channel is asked at once; return how many messages that was."""
        refusals = self._refusals
        batch = await self._claim(self._room())
        async with anyio.create_task_group() as group:
            for due in batch:
                await self._keep_pace()
                group.start_soon(self._tell, due, refusals, name=f"delivery {due.delivery_id}")
        return len(batch)

    def _room(self) -> int:
        """Return how many more may be leased: as many as can start, one pace after the other, before the leases end."""
        pace = max(self.transport.pace, timedelta(milliseconds=1))
        fit = 1 + max(self._policy().lease - SEND_LIMIT, timedelta()) // pace
        return (min(self.transport.parallel, fit) if self._proven else 1) - self._under_way

    async def _claim(self, most: int) -> list[Due]:
        if most <= 0:
            return []
        span, mode, name = self._policy().lease, self._policy().mode, self.transport.name
        return await self._database.write(
            lambda session: outbox.claim(session, name, lease=self._lease, span=span, most=most, mode=mode)
        )

    async def _wait(self) -> None:
        """Until a message may be due: at its time, when one is queued, or when one that was under way is over."""
        if self._room() <= 0:
            self._waits_for_room = True
            self._status.busy(self._name, SEND_LIMIT * 2)
            await self.wake.wait()
            return
        name = self.transport.name
        ahead = await self._database.read(lambda session: channels.ahead(session, name))
        if ahead.unheld:
            await self._database.write(lambda session: channels.hold_waiting(session, name))
        wait = ahead.wait
        if ahead.quiet:
            quiet = self._policy().quiet
            morning = None if quiet is None else quiet.ends(ahead.now)
            if morning is None:
                self._say_gathered(
                    await self._database.write(lambda session: channels.gather(session, name, Wait.QUIET))
                )
                return
            wait = morning - ahead.now if wait is None else min(wait, morning - ahead.now)
        self._status.beat(self._name)
        if wait is None or wait > timedelta():
            await self.wake.wait(wait)

    async def _remember_pace(self) -> None:
        """Keep the pace over a restart too."""
        if self._next_start is None:
            ago = await self._database.read(lambda session: channels.last_request(session, self.transport.name))
            rest = timedelta() if ago is None else max(self.transport.pace - ago, timedelta())
            self._next_start = self._clock.monotonic() + rest

    async def _keep_pace(self) -> None:
        """Wait until a request may start, and count it as started."""
        rest = timedelta() if self._next_start is None else self._next_start - self._clock.monotonic()
        if rest > timedelta():
            self._status.busy(self._name, SEND_LIMIT * 4 + rest)
            await self._clock.sleep(rest)
        self._next_start = self._clock.monotonic() + self.transport.pace

    async def _tell_and_ring(self, due: Due, refusals: int) -> None:
        await self._tell(due, refusals)
        self._under_way -= 1
        if self._waits_for_room:
            self._waits_for_room = False
            self.wake.ring()

    async def _tell(self, due: Due, refusals: int) -> None:
        if refusals != self._refusals:
            # Claimed before the service asked for a pause: it would get one request too many.
            await self._database.write(lambda session: outbox.put_back(session, due))
            return
        if due.story.kind in BUNDLES and not due.members:
            await self._database.write(lambda session: outbox.record_sent(session, due, _NOTHING))
            return
        link = link_for(
            due.story,
            self._policy(),
            channel=self.transport.name,
            installation_id=due.installation_id,
            now=due.now,
        )
        notice = render(replace(due.story, link=link), now=due.now)
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
        await self._taken(due, notice, receipt, self._clock.monotonic() - started)

    async def _taken(self, due: Due, notice: Notice, receipt: Receipt, took: timedelta) -> None:
        name = self.transport.name
        self._proven = True
        if receipt.pause is not None:
            self._refusals += 1
        attempt = Attempt(
            delivery_id=due.delivery_id,
            revision=due.revision,
            word=notice.word.value,
            took=took,
            result="sent",
            code=receipt.code,
            size=receipt.size,
        )

        async def record(session: Session) -> tuple[Told | None, Gathered | None]:
            await outbox.record_attempt(session, attempt)
            told = await outbox.record_sent(session, due, receipt)
            repaired = await channels.restore(session, name) if told is not None and told.down else None
            if receipt.pause is not None:
                await channels.pause(session, name, receipt.pause)
            return told, repaired

        told, repaired = await self._database.write(record)
        if told is not None and told.moved_on:
            self.wake.ring()
        latency = None if told is None else due.now - told.opened_at + took
        self._metrics.attempted(name, DeliveryResult.SENT, latency)
        self._log.info(
            "delivery.sent",
            "a message was taken",
            channel=name,
            alert=due.story.alert_id,
            word=notice.word.value,
            code=receipt.code,
            bytes=receipt.size,
        )
        if repaired is not None:
            self._metrics.channel_down(name, down=False)
            self._log.warning("channel.works", "a broken channel works again", channel=name, waited=repaired.waited)
            self._say_gathered(repaired)

    async def _not_taken(self, due: Due, notice: Notice, error: DeliveryError, took: timedelta) -> None:
        policy, name = self._policy(), self.transport.name
        tried = due.now - due.trying_since
        result = self._consequence(error.fault, tried, policy)
        pause = self._pause(due, error, policy)
        if error.fault is not Fault.MESSAGE:
            self._proven = False
        if error.retry_after is not None or result is DeliveryResult.HELD:
            self._refusals += 1
        attempt = Attempt(
            delivery_id=due.delivery_id,
            revision=due.revision,
            word=notice.word.value,
            took=took,
            result=error.fault.value,
            code=error.code,
            error=error.message,
        )
        others = [[it for it in some if it != name] for some in (policy.routing.usual, policy.channels)]

        async def record(session: Session) -> bool:
            await outbox.record_attempt(session, attempt)
            news = False
            match result:
                case DeliveryResult.DEAD:
                    await outbox.record_dead(session, due, error)
                case DeliveryResult.HELD:
                    await outbox.record_held(session, due, pause, error, counts=error.fault is Fault.TRANSIENT)
                    news = await channels.take_down(session, name, pause, error.message, others=others)
                case DeliveryResult.RETRY | DeliveryResult.SENT:
                    await outbox.record_retry(session, due, pause, error)
                case _ as unreachable:
                    assert_never(unreachable)
            if error.retry_after is not None:
                await channels.pause(session, name, pause)
            return news

        news = await self._database.write(record)
        self.wake.ring()
        self._metrics.attempted(name, result)
        self._log.warning(
            "delivery.failed",
            "a message was not taken",
            channel=name,
            alert=due.story.alert_id,
            fault=error.fault.value,
            code=error.code,
            result=result.value,
            attempt=due.attempts,
            error=error.message,
        )
        if result is DeliveryResult.HELD:
            self._metrics.channel_down(name, down=True)
        if news:
            self._log.error(
                "channel.down",
                "a channel takes no messages; others are told, and what is due waits",
                channel=name,
                error=error.message,
            )

    def _consequence(self, fault: Fault, tried: timedelta, policy: Policy) -> DeliveryResult:
        """Return what becomes of a message that was tried for so long."""
        match fault:
            case Fault.MESSAGE:
                return DeliveryResult.DEAD
            case Fault.CHANNEL:
                return DeliveryResult.HELD
            case Fault.TRANSIENT if tried >= policy.give_up:
                return DeliveryResult.DEAD
            case Fault.TRANSIENT:
                return DeliveryResult.HELD if tried >= DOWN_AFTER and not self._proven else DeliveryResult.RETRY
            case _ as unreachable:
                assert_never(unreachable)

    @staticmethod
    def _pause(due: Due, error: DeliveryError, policy: Policy) -> timedelta:
        """Return how long until the next try; a wish of the service is never undercut, within reason."""
        wait = retry_delay(
            due.attempts,
            roll=random.random(),  # noqa: S311  jitter is no secret
            retry_after=error.retry_after,
            shortest=policy.retry_first,
            longest=policy.retry_most,
        )
        return max(wait, BROKEN_PAUSE) if error.fault is Fault.CHANNEL else wait

    def _say_gathered(self, gathered: Gathered) -> None:
        self._log.info(
            "delivery.gathered",
            "messages that waited are told now",
            channel=self.transport.name,
            count=gathered.waited,
            digest=gathered.alert_id,
        )


_NOTHING: Final = Receipt(reference={}, code="nothing left to tell", size=0)
