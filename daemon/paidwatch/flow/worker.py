"""Worker: what is due is followed a few at once, each for as long as it takes, beside the alarm and not in it.

What is due stands in the database, so a crash loses nothing: it is due again. Whoever makes something due rings `poke`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from datetime import timedelta
from typing import Final, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from paidwatch.flow.signal import Signal
from paidwatch.ops.status import Status

T = TypeVar("T", bound=Hashable)

AT_ONCE: Final = 4
TICK_LIMIT: Final = timedelta(minutes=3)


class Worker(ABC, Generic[T]):
    """Serves until stopped; what it does, and with what, is in the classes that follow from it."""

    def __init__(self, name: str, status: Status, poke: Signal) -> None:
        """Bind the name under which it is watched, and what wakes it."""
        self._name = name
        self._status = status
        self._under_way: set[T] = set()
        self._stopping = False
        self.poke: Final = poke

    @property
    def longest(self) -> timedelta:
        """Return the longest that one of them may take beyond the usual."""
        return timedelta()

    @abstractmethod
    async def due(self, most: int, busy: Collection[T]) -> Sequence[T]:
        """Return what is due now, without what is under way here. Raises DatabaseError."""

    @abstractmethod
    async def next_due(self, busy: Collection[T]) -> timedelta | None:
        """Return how long nothing is due; None: until poked. Raises DatabaseError."""

    @abstractmethod
    async def follow(self, one: T) -> None:
        """Do one of them. Raises DatabaseError, which ends the worker."""

    def stop(self) -> None:
        """Finish what is under way, begin no more."""
        self._stopping = True
        self.poke.ring()

    async def run(self) -> None:
        """Serve until stopped; then finish what is under way. Raises DatabaseError."""
        async with anyio.create_task_group() as group:
            while not self._stopping:
                self._status.busy(self._name, TICK_LIMIT + self.longest)
                self._begin(group, await self._due())
                # With no room for more it waits until something under way is over, and rings.
                full = len(self._under_way) >= AT_ONCE
                wait = None if full else await self.next_due(frozenset(self._under_way))
                if not self._under_way:
                    self._status.beat(self._name)
                await self.poke.wait(wait)

    async def run_due(self) -> int:
        """Do what is due now, and nothing that becomes due meanwhile; return how many there were."""
        due = await self._due()
        async with anyio.create_task_group() as group:
            self._begin(group, due)
        return len(due)

    async def _due(self) -> Sequence[T]:
        room = AT_ONCE - len(self._under_way)
        return await self.due(room, frozenset(self._under_way)) if room > 0 else ()

    def _begin(self, group: TaskGroup, due: Sequence[T]) -> None:
        for one in due:
            self._under_way.add(one)
            group.start_soon(self._follow, one, name=f"{self._name}: {one}")

    async def _follow(self, one: T) -> None:
        try:
            await self.follow(one)
        finally:
            self._under_way.discard(one)
            self.poke.ring()
