"""Intake: what the triggers noted becomes watches; awake under load, asleep behind the bell when idle.

The doorbell's proof. Asleep means: the bell is held exclusively and the inbox was read empty after it was granted. A
writer that takes part either shares the bell, then it was granted only after that writer's end, so the last drain saw
its row; or it cannot share it, then it rings. Rows of writers that end later are rung for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio

from paidwatch.flow.listen import Locks
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store.inbox import Drained, Inbox

WORKER = "intake"
DOORBELL = "doorbell"
"""What is in trouble while the writers cannot ring."""
PATROL = timedelta(seconds=2)
"""How often to look by oneself while the server's queue of notifications is so full that writers do not ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How intake breathes."""

    linger: timedelta
    """Pause between two drains while rows keep coming."""
    drain_limit: timedelta
    """A drain that takes longer is a stuck pipeline."""
    look: timedelta | None
    """Look by oneself that often: only where writers may not ring (prepared transactions); None is never."""


class Intake:
    """The one reader of the inbox."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        locks: Locks,
        signal: Signal,
        policy: Callable[[], Policy],
        rhythm: Rhythm,
        status: Status,
        metrics: Metrics,
        on_rows: Callable[[Drained], None],
    ) -> None:
        """Bind the inbox, the bell, and whom to tell that watches changed."""
        self._inbox = inbox
        self._locks = locks
        self._signal = signal
        self._policy = policy
        self._rhythm = rhythm
        self._status = status
        self._metrics = metrics
        self._on_rows = on_rows
        self._muffled = True
        """Until looked at: it may have been so, and told, when the connection before this one was lost."""

    async def run(self) -> None:
        """Serve the inbox until cancelled. Raises DatabaseError when the connection is lost."""
        while True:
            await self.drain_while_rows_come()
            if await self._fall_asleep():
                await self._signal.wait(await self._longest_sleep())
                await self._wake_up()

    async def drain_while_rows_come(self) -> None:
        """Drain until a drain comes back empty, with a short pause in between so that writers can share the bell."""
        while await self.drain():  # noqa: ASYNC110  the pause is the point
            await anyio.sleep(self._rhythm.linger.total_seconds())

    async def drain(self) -> int:
        """Read everything there is now; return how many rows that was."""
        total = 0
        policy = self._policy()
        complete = False
        while not complete:
            self._status.busy(WORKER, self._rhythm.drain_limit)
            drained = await self._inbox.drain(policy.grace, policy.grace_by_method)
            self._status.beat(WORKER)
            complete = drained.complete
            total += drained.taken
            if drained.taken:
                self._metrics.drained(drained.taken)
                self._metrics.watching(drained.watched)
                self._on_rows(drained)
        self._status.drained()
        return total

    async def _fall_asleep(self) -> bool:
        """Ask for the bell, serving those who ring meanwhile; True when asleep."""
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await self._locks.hold_bell())
            self._signal.ring()

        async with anyio.create_task_group() as group:
            group.start_soon(ask, name="ask for the bell")
            while not answers:
                await self._signal.wait()
                if not answers:
                    await self.drain()
        rows = await self.drain()
        if not answers[0]:
            return False
        if rows:
            await self._locks.release_bell()
            return False
        return True

    async def _longest_sleep(self) -> timedelta | None:
        """Return how long to sleep if nobody rings; None is for ever.

        The queue is looked at while falling asleep, not in one's sleep: where it fills up later, the first row waits
        for the next reconciliation's look, and the following ones are seen from here.
        """
        if await self._locks.muffled():
            self._muffled = True
            self._status.trouble(
                DOORBELL, "the server's queue of notifications is half full: nobody rings, so the inbox is looked at"
            )
            return self._rhythm.look or PATROL
        if self._muffled:
            self._muffled = False
            self._status.beat(DOORBELL)
        return self._rhythm.look

    async def _wake_up(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._locks.release_bell, name="release the bell")
            await self.drain()
