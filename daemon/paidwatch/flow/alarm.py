"""The one alarm clock: sleeps to the earliest of what is due and a poke, then has it decided, looked at and granted."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import timedelta

from paidwatch.flow.activate import Activate
from paidwatch.flow.decide import Decide
from paidwatch.flow.detect import Detect
from paidwatch.flow.double import Double
from paidwatch.flow.signal import Signal
from paidwatch.flow.sweep import Sweep
from paidwatch.ops.status import Status
from paidwatch.store.pool import Database, Session

WORKER = "decide"
TICK_LIMIT = timedelta(minutes=3)


class Alarm:
    """Decides, looks after open alerts, and activates when it is time."""

    def __init__(
        self,
        *,
        database: Database,
        detect: Detect,
        decide: Decide,
        sweep: Sweep,
        activate: Activate,
        double: Double,
        status: Status,
        on_news: Callable[[], None],
    ) -> None:
        """Bind what is to be done, and whom to tell that there is something to deliver."""
        self._database = database
        self._detect = detect
        self._decide = decide
        self._activate = activate
        self._double = double
        self._sweep = sweep
        self._status = status
        self._on_news = on_news
        self.poke = Signal()
        self.on_claims: Callable[[], None] | None = None
        """Told that activations were claimed that this clock does not grant itself."""
        self._stopping = False

    def stop(self) -> None:
        """Finish the tick under way, begin no more."""
        self._stopping = True
        self.poke.ring()

    async def run(self) -> None:
        """Serve until stopped. Raises DatabaseError."""
        while not self._stopping:
            self._status.busy(WORKER, TICK_LIMIT)
            await self._sweep.follow()
            waits = await self._database.read(_next)
            due = {name for name, wait in waits.items() if wait <= timedelta()}
            if due:
                await self._handle(due)
                continue
            wait = min(waits.values(), default=None)
            self._status.beat(WORKER)
            self._status.due_in(wait)
            await self.poke.wait(wait)
            self._status.due_in(None)

    async def _handle(self, due: AbstractSet[str]) -> None:
        """Handle one batch of each that is due."""
        told, claimed = False, 0
        if "detect" in due:
            # Before the verdicts: what the log says may confirm a payment, and be the cause of its gap.
            detected = await self._detect.run()
            told, claimed = detected.told, detected.activations
        if "decide" in due:
            ticked = await self._decide.tick()
            told, claimed = told or ticked.told > 0, claimed + ticked.activations
        if "double" in due:
            told |= (await self._double.run()).told
        if told or "sweep" in due:
            # After the verdicts: what they opened is looked at before anybody is told of it.
            told |= (await self._sweep.run()).told
        if told:
            self._on_news()
        if claimed and self.on_claims is not None:
            self.on_claims()
        if (claimed or "activate" in due) and await self._activate.run_due():
            self._on_news()


async def _next(session: Session) -> dict[str, timedelta]:
    """Return who has something to do next, and how long until then."""
    row = await session.one("next_alarm")
    return {name: span for name, span in row.items() if span is not None}
