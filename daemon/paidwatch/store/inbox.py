"""The inbox's reader: it remembers which snapshot read it empty, and asks only for what that one could not see."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from paidwatch.store.connect import Connection, translated
from paidwatch.store.pool import undisturbed
from paidwatch.store.statements import Statements

SESSION = {
    # Losing a drain in a crash only means draining again: the rows come back with it.
    "synchronous_commit": "off",
    # The inbox is empty or full by turns; statistics about it are always wrong.
    "enable_seqscan": "off",
    # A batch out of a long backlog reads its rows, not a bitmap of the whole backlog.
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
_BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one drain did."""

    taken: int
    watched: int
    woken: int
    complete: bool
    """False: there may be more."""
    oldest: datetime | None
    now: datetime


class Inbox:
    """Drains on one connection, opened with the settings of `SESSION`."""

    def __init__(self, connection: Connection, statements: Statements, *, batch: int = _BATCH) -> None:
        """Start without a memory: the first drain reads everything."""
        self._connection = connection
        self._statement = statements["drain_inbox"]
        self._batch = batch
        self._xip: list[str] = []
        self._xmax = "0"

    async def drain(self, grace: timedelta, by_method: Mapping[str, timedelta]) -> Drained:
        """Take at most one batch of rows. Raises DatabaseError; then nothing was taken."""
        methods = [method.lower() for method in by_method]
        given = (self._xip, self._xmax, self._batch, methods, list(by_method.values()), grace)
        with translated():
            row = await undisturbed(lambda: self._connection.fetchrow(self._statement, *given))
        if row is None:
            message = "the drain returned nothing"
            raise LookupError(message)
        complete = row["taken"] < self._batch
        if complete:
            self._xip, self._xmax = row["xip"], row["xmax"]
        return Drained(
            taken=row["taken"],
            watched=row["watched"],
            woken=row["woken"],
            complete=complete,
            oldest=row["oldest"],
            now=row["now"],
        )
