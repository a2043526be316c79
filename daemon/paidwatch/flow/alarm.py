"""The one alarm clock: sleeps to the earliest of what is due and a poke, then has it decided, looked at and granted."""

from collections.abc import Callable
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
            wait = await self._database.read(self._next)
            if wait is not None and wait <= timedelta():
                await self.catch_up()
                continue
            self._status.beat(WORKER)
            self._status.due_in(wait)
            await self.poke.wait(wait)
            self._status.due_in(None)

    async def catch_up(self) -> None:
        """Handle everything that is due now."""
        while not self._stopping:
            # Before the verdicts: what the log says may confirm a payment, and be the cause of its gap.
            detected = await self._detect.run()
            ticked = await self._decide.tick()
            doubled = await self._double.run()
            # After the verdicts: what they opened is looked at before anybody is told of it.
            swept = await self._sweep.run()
            if detected.told or ticked.told or doubled.told or swept.told:
                self._on_news()
            if ticked.activations and self.on_claims is not None:
                self.on_claims()
            granted = await self._activate.run_due() if ticked.activations or not ticked.claimed else 0
            if granted:
                self._on_news()
            if not (detected.looked or ticked.claimed or granted or swept.looked or doubled.looked):
                return

    @staticmethod
    async def _next(session: Session) -> timedelta | None:
        row = await session.one("next_alarm")
        waits = [span for span in (row["decide"], row["activate"]) if span is not None]
        return min(waits) if waits else None
