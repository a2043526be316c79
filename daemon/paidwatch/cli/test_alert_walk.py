"""A test story on its way through the outbox: fired, delivered, resolved, delivered again, withdrawn.

The running daemon delivers it. Where none leads, or the one that does leave it lying, this process delivers it by
the daemon's own worker, which claims the test message and nothing else. Deliveries of real alerts are not touched.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import anyio

from paidwatch import __version__
from paidwatch.clock import SystemClock
from paidwatch.core.text import span
from paidwatch.flow.deliver import Deliver
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Message, Receipt, Transport
from paidwatch.store import outbox
from paidwatch.store.pool import Database, Row

FIRST: Final = 1
"""Revision of a story as it is opened."""
SECOND: Final = 2
"""Revision after its end."""
_LOOK: Final = 0.1
_TAKEN_WITHIN: Final = 5.0
"""Seconds in which a daemon takes what it is told of."""
_ENDED_WITHIN: Final = 30.0
"""Seconds in which a request that was begun has ended."""


class Step(StrEnum):
    """The two messages of a test story."""

    FIRE = "fire"
    RESOLVE = "resolve"


class By(StrEnum):
    """Who delivered."""

    DAEMON = "daemon"
    COMMAND = "this command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How one message went on one channel."""

    channel: str
    kind: str
    step: Step
    taken: bool
    by: By
    code: str = ""
    took: timedelta | None = None
    """Of the request that decided it."""
    size: int | None = None
    attempts: int = 0
    reference: Mapping[str, str] | None = None
    """What the channel gave us to edit or answer the message by."""
    edited: bool = False
    """The second message took the place of the first."""
    error: str = ""
    passed_over: bool = False
    """A daemon leads, and it did not take the message."""


class OneAtATime:
    """A channel that is sent one message at a time, however many it could take at once."""

    parallel = 1

    def __init__(self, inner: Transport) -> None:
        """Take the channel."""
        self.name = inner.name
        self.kind = inner.kind
        self.pace = inner.pace
        self._inner = inner

    async def send(self, message: Message) -> Receipt:
        """Deliver the message. Raises DeliveryError."""
        return await self._inner.send(message)

    async def aclose(self) -> None:
        """The channel belongs to the caller."""


class Walk:
    """One test story on some channels."""

    def __init__(self, *, database: Database, policy: Policy, transports: Sequence[Transport]) -> None:
        """Bind the database and the channels to be tested."""
        self._database = database
        self._transports = transports
        clock = SystemClock()
        status = Status(clock=clock)
        metrics = Metrics(status=status, version=__version__, channels=[it.name for it in transports])
        self._deliver = {
            transport.name: Deliver(
                transport=OneAtATime(transport),
                database=database,
                policy=lambda: policy,
                clock=clock,
                status=status,
                metrics=metrics,
                log=Log(),
            )
            for transport in transports
        }
        self._told: list[Told] = []

    async def walk(self, lines: Sequence[str]) -> list[Told]:
        """Fire, resolve, withdraw; return how every message went, by channel. Raises DatabaseError."""
        names = [transport.name for transport in self._transports]
        queued = await self._database.write(lambda session: outbox.queue_test(session, names, lines))
        alert: int = await self._value("test_story", next(iter(queued.values())))
        try:
            taken = await self._step(Step.FIRE, queued, self._transports)
            if taken:
                await self._write("resolve_test", alert)
                await self._step(Step.RESOLVE, queued, taken)
        finally:
            with anyio.CancelScope(shield=True):
                await self._write("withdraw_test", alert)
        order = {name: place for place, name in enumerate(names)}
        return sorted(self._told, key=lambda told: order[told.channel])

    async def _step(
        self, step: Step, queued: Mapping[str, int], transports: Sequence[Transport]
    ) -> Sequence[Transport]:
        """Deliver one message on each channel at once; return the channels that took it."""
        daemon = any(row["granted"] for row in await self._database.read(lambda session: session.rows("daemons")))
        for transport in transports:
            # First, or a broken channel is asked about a message that it owes, and about nothing else for a while.
            await self._write("put_test_first", queued[transport.name])
            await self._write("try_broken", transport.name)
        if daemon:
            await self._write("ring_outbox")
        async with anyio.create_task_group() as group:
            for transport in transports:
                group.start_soon(self._tell, step, transport, queued[transport.name], daemon, name=transport.name)
        took = {told.channel for told in self._told if told.step is step and told.taken}
        return [transport for transport in transports if transport.name in took]

    async def _tell(self, step: Step, transport: Transport, delivery: int, daemon: bool) -> None:  # noqa: FBT001  start_soon takes no names
        revision = FIRST if step is Step.FIRE else SECOND
        before = len(await self._rows("test_attempts", delivery))
        former = next((told for told in self._told if told.channel == transport.name), None)
        passed_over = former is not None and former.passed_over
        by = By.COMMAND
        if daemon and not passed_over and await self._taken_by_daemon(delivery, before):
            by = By.DAEMON
        elif refused := await self._send(step, transport):
            self._told.append(refused)
            return
        attempts = (await self._rows("test_attempts", delivery))[before:]
        state = (await self._rows("test_delivery", delivery))[0]
        last = attempts[-1] if attempts else None
        reference: dict[str, str] = json.loads(state["reference"])
        self._told.append(
            Told(
                channel=transport.name,
                kind=transport.kind,
                step=step,
                taken=state["told_revision"] >= revision,
                by=by,
                code=last["code"] if last else "",
                took=last["took"] if last else None,
                size=last["size"] if last else None,
                attempts=len(attempts),
                reference=reference,
                edited=former is not None and bool(reference.get("message_id")) and former.reference == reference,
                error=(last["error"] or "") if last else "nobody answered in time",
                passed_over=daemon and by is By.COMMAND,
            )
        )

    async def _taken_by_daemon(self, delivery: int, before: int) -> bool:
        """Wait until the daemon has tried the message; False if it does not begin to within a few seconds."""
        with anyio.move_on_after(_TAKEN_WITHIN) as patience:
            while True:
                if len(await self._rows("test_attempts", delivery)) > before:
                    return True
                if (await self._rows("test_delivery", delivery))[0]["under_way"]:
                    patience.deadline = anyio.current_time() + _ENDED_WITHIN
                await anyio.sleep(_LOOK)
        return False

    async def _send(self, step: Step, transport: Transport) -> Told | None:
        """Send the message from here; return why it could not even be tried."""
        if step is Step.RESOLVE:
            await anyio.sleep(transport.pace.total_seconds())
        if await self._deliver[transport.name].send_batch():
            return None
        wait = next(iter(await self._rows("asked_to_wait", transport.name)), None)
        if wait is None:
            why = "the message could not be claimed"
        elif wait["down_reason"] is None:
            why = f"the service asked to wait {span(wait['wait'])} more"
        else:
            # Somebody else tried it since the channel was released for this test.
            why = f"it is broken, as another message has just shown: {wait['down_reason']}"
        return Told(
            channel=transport.name, kind=transport.kind, step=step, taken=False, by=By.COMMAND, code="held", error=why
        )

    async def _write(self, name: str, *arguments: object) -> None:
        await self._database.write(lambda session: session.rows(name, *arguments))

    async def _rows(self, name: str, *arguments: object) -> Sequence[Row]:
        return await self._database.read(lambda session: session.rows(name, *arguments))

    async def _value(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  the caller knows the column
        return await self._database.read(lambda session: session.value(name, *arguments))
