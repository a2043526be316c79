"""Read the log: rows that the application, or the receiver, wrote about webhooks become readings in canonical words.

A row is read in the transaction that keeps what it says, so a crash reads it again. What it says wakes the stories and
the gaps that it concerns; they are judged where everything else that is due is judged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from paidwatch.core.evidence import METHODWIDE
from paidwatch.core.storm import EDIT_EVERY
from paidwatch.core.webhook import Reading, Status
from paidwatch.flow.policy import Policy
from paidwatch.providers import Provider, Reader, Unreadable, parse, reader
from paidwatch.providers.base import TWO_USERS
from paidwatch.store import readings
from paidwatch.store.pool import Database, Session
from paidwatch.store.readings import Logged, Read

BATCH: Final = 1_000
HANDLED: Final = "completed"
"""The application's word for a webhook that it has handled (domain.md, `processing_status`)."""
_MONEY: Final = frozenset({Status.PAID, Status.UNDERPAID})


class ReadLog:
    """The one reader of the application's log."""

    def __init__(
        self, *, database: Database, policy: Callable[[], Policy], providers: Callable[[], Mapping[str, Provider]]
    ) -> None:
        """Bind the database and whose webhooks are how to be read."""
        self._database = database
        self._policy = policy
        self._providers = providers

    async def run(self) -> int:
        """Read everything that was noted; return how many rows that was. Raises DatabaseError."""
        total, taken = 0, BATCH
        while taken == BATCH:
            taken = await self._database.write(lambda session: self.read(session, history=False))
            total += taken
        return total

    async def read(self, session: Session, *, history: bool) -> int:
        """Read one batch in the caller's transaction; return how many rows that was.

        `history` are rows from before the first look: nothing that they open is due.
        """
        rows = await readings.take(session, BATCH, history=history)
        if rows:
            read = understood(rows, self._providers())
            stirred = await readings.write(session, read, self._policy().graces(), history=history)
            if not history:
                await readings.grow(session, stirred.growing, EDIT_EVERY)
                await session.rows("tell_customers")
        return len(rows)


def understood(rows: Sequence[Logged], configured: Mapping[str, Provider]) -> list[Read]:
    """Return what rows say; one that cannot be read says nothing, and is kept as such."""
    readers: dict[str, Reader] = {}
    found: list[Read] = []
    for row in rows:
        if row.method not in readers:
            readers[row.method] = reader(row.method, configured)
        found.append(_understood(row, _read(row, readers[row.method])))
    return found


def _understood(row: Logged, reading: Reading) -> Read:
    counts = row.valid is True and reading.status in _MONEY
    reference = reading.reference or row.reference or reading.order_id
    if not reference or reference in METHODWIDE:
        # Money of which nobody says whose it is must not be lost among other money.
        reference = f"#{row.log_id}" if counts else None
    # What the application wrote beside the data is one of them.
    others = (row.reference, reading.order_id, *reading.also) if row.valid is not False else ()
    return Read(
        row=row,
        reading=reading,
        reference=reference,
        names=tuple(dict.fromkeys(it for it in others if it and it not in {reference, *METHODWIDE})),
        user_id=_user(row, reading),
        handled=row.status.lower() == HANDLED,
    )


def _user(row: Logged, reading: Reading) -> str | None:
    """Return whose money it is; None: nobody says so, or two are named."""
    named = {user for user in (row.user_id, reading.user_id) if user}
    return named.pop() if len(named) == 1 and reading.problem != TWO_USERS else None


def _read(row: Logged, read: Reader) -> Reading:
    """Return what the data says, also where it is JSON that was encoded twice."""
    try:
        payload = parse((row.data or "null").encode("utf-8", "replace"))
        if isinstance(payload, str):
            payload = parse(payload.encode("utf-8", "replace"))
    except Unreadable as error:
        return _nothing(str(error))
    return read(payload)


def _nothing(problem: str) -> Reading:
    return Reading(
        status=Status.UNKNOWN,
        said="",
        reference=None,
        event_id=None,
        order_id=None,
        user_id=None,
        plan_id=None,
        amount=None,
        currency=None,
        problem=problem,
    )
