"""Calls: the worker that has activations over HTTP asked for and read back, beside the alarm and not in it.

An endpoint that hangs holds up nothing else: a few requests are under way at once, each for no longer than its limit,
and while they are, deciding, delivering and the reading back of other activations go on.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final, assert_never

from paidwatch.core.timing import LONGEST, SHORTEST
from paidwatch.errors import DatabaseError
from paidwatch.flow.call import Call, Rest
from paidwatch.flow.grant import Ended, Result
from paidwatch.flow.signal import Signal
from paidwatch.flow.worker import Worker
from paidwatch.log import Log
from paidwatch.ops.metrics import ActivationResult, Metrics
from paidwatch.ops.status import Status
from paidwatch.store import calls
from paidwatch.store.pool import Database, Session
from paidwatch.store.subjects import note_refusal

WORKER: Final = "activation calls"
TRIES: Final = 5
"""So often in a row the tables may be unreadable before a person is told."""


class Calls(Worker[int]):
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
        super().__init__(WORKER, status, Signal())
        self._database = database
        self._call = call
        self._metrics = metrics
        self._log = log
        self._on_told = on_told
        self.on_look: Callable[[], None] = on_told
        """Called when a payment is to be judged anew; the alarm's poke, once there is one."""

    @property
    def longest(self) -> timedelta:
        """Return the longest that one request may take."""
        return self._call.longest

    async def due(self, most: int, busy: Collection[int]) -> Sequence[int]:
        """Return activations that are to be asked for, or whose tables are to be read."""
        return await self._database.read(lambda session: calls.due(session, most, apart_from=list(busy)))

    async def next_due(self, busy: Collection[int]) -> timedelta | None:
        """Return how long until there is one."""
        return await self._database.read(lambda session: calls.next_due(session, apart_from=list(busy)))

    async def follow(self, one: int) -> None:
        """Take one activation as far as it goes without waiting."""
        try:
            end = await self._call.advance(one)
        except DatabaseError as error:
            # A user's row that the application keeps locked, say: this activation's trouble alone. Where the database
            # is gone, writing this down fails as well and ends the term.
            await self._postpone(one, error.message)
            return
        match end:
            case Rest(asked=asked):
                self._log.info(
                    "activation.awaited",
                    "the tables do not show an activation yet",
                    activation=one,
                    answer=asked.answer,
                    calls=asked.calls,
                )
            case Ended():
                self._report(one, end)

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
