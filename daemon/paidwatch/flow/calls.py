"""Calls: the worker that has activations over HTTP asked for and read back, beside the alarm and not in it.

An endpoint that hangs holds up nothing else: a few requests are under way at once, each for no longer than its limit,
and while they are, deciding, delivering and the reading back of other activations go on.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, assert_never

import anyio
from anyio.abc import TaskGroup

from paidwatch.core.timing import LONGEST, SHORTEST
from paidwatch.errors import DatabaseError
from paidwatch.flow.call import Call, Rest
from paidwatch.flow.grant import Ended, Result
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.metrics import ActivationResult, Metrics
from paidwatch.ops.status import Status
from paidwatch.store import calls
from paidwatch.store.pool import Database, Session
from paidwatch.store.subjects import note_refusal

WORKER: Final = "activation calls"
AT_ONCE: Final = 4
TICK_LIMIT: Final = timedelta(minutes=3)
TRIES: Final = 5
"""So often in a row the tables may be unreadable before a person is told."""


class Calls:
    """Follows every activation over HTTP to its end."""

    def __init__(
        self,
        *,
        database: Database,
        call: Call,
        status: Status,
        metrics: Metrics,
        log: Log,
        on_told: Callable[[], None],
    ) -> None:
        """Bind what is done, and whom to tell that messages are due."""
        self._database = database
        self._call = call
        self._status = status
        self._metrics = metrics
        self._log = log
        self._on_told = on_told
        self.on_look: Callable[[], None] = on_told
        """Called when a payment is to be judged anew; the alarm's poke, once there is one."""
        self._under_way: set[int] = set()
        self._stopping = False
        self.poke = Signal()

    def stop(self) -> None:
        """Finish what is under way, begin no more."""
        self._stopping = True
        self.poke.ring()

    async def run(self) -> None:
        """Serve until stopped; then finish what is under way. Raises DatabaseError."""
        async with anyio.create_task_group() as group:
            while not self._stopping:
                self._status.busy(WORKER, TICK_LIMIT + self._call.longest)
                self._begin(group, await self._due())
                wait = await self._wait()
                if not self._under_way:
                    self._status.beat(WORKER)
                await self.poke.wait(wait)

    async def run_due(self) -> int:
        """Follow what is due now, and nothing that becomes due meanwhile; return how many there were."""
        due = await self._due()
        async with anyio.create_task_group() as group:
            self._begin(group, due)
        return len(due)

    async def _due(self) -> list[int]:
        room = AT_ONCE - len(self._under_way)
        busy = list(self._under_way)
        if room <= 0:
            return []
        return await self._database.read(lambda session: calls.due(session, room, apart_from=busy))

    def _begin(self, group: TaskGroup, due: Sequence[int]) -> None:
        for activation_id in due:
            self._under_way.add(activation_id)
            group.start_soon(self._follow, activation_id, name=f"activation {activation_id}")

    async def _wait(self) -> timedelta | None:
        """Return how long nothing is to be begun; None: until poked, or until something under way is over."""
        if len(self._under_way) >= AT_ONCE:
            return None
        busy = list(self._under_way)
        return await self._database.read(lambda session: calls.next_due(session, apart_from=busy))

    async def _follow(self, activation_id: int) -> None:
        try:
            await self._advance(activation_id)
        finally:
            self._under_way.discard(activation_id)
            self.poke.ring()

    async def _advance(self, activation_id: int) -> None:
        try:
            end = await self._call.advance(activation_id)
        except DatabaseError as error:
            # A user's row that the application keeps locked, say: this activation's trouble alone. Where the database
            # is gone, writing this down fails as well and ends the term.
            await self._postpone(activation_id, error.message)
            return
        match end:
            case Rest(asked=asked):
                self._log.info(
                    "activation.awaited",
                    "the tables do not show an activation yet",
                    activation=activation_id,
                    answer=asked.answer,
                    calls=asked.calls,
                )
            case Ended():
                self._report(activation_id, end)

    async def _postpone(self, activation_id: int, error: str) -> None:
        async def body(session: Session) -> None:
            postponed = await calls.postpone(session, activation_id, first=SHORTEST, most=LONGEST, error=error)
            if postponed is not None and postponed[0] == TRIES:
                note = f"Activation over HTTP waits, because the user's row is locked or cannot be read: {error}"
                await note_refusal(session, postponed[1], [note])

        await self._database.write(body)
        self._on_told()
        self._log.error(
            "activation.unread",
            "the tables of an activation could not be read; trying again",
            activation=activation_id,
            error=error,
        )

    def _report(self, activation_id: int, end: Ended) -> None:
        said = " ".join(end.notes)
        match end.result:
            case Result.DONE:
                self._metrics.activation(ActivationResult.DONE)
                self._log.warning(
                    "activation.done",
                    "a subscription was activated",
                    activation=activation_id,
                    payment=end.about,
                )
                self._on_told()
            case Result.REFUSED:
                self._metrics.activation(ActivationResult.REFUSED)
                self._log.warning(
                    "activation.refused",
                    "an activation was refused",
                    activation=activation_id,
                    payment=end.about,
                    why=said,
                )
                self._on_told()
                self.on_look()
            case Result.FAILED:
                self._metrics.activation(ActivationResult.FAILED)
                self._log.error(
                    "activation.failed",
                    "an activation could not be made",
                    activation=activation_id,
                    payment=end.about,
                    error=said,
                )
                self._on_told()
            case Result.GONE | Result.UNDER_WAY:
                pass
            case _ as unreachable:
                assert_never(unreachable)
