"""Ask: payment providers are asked about gaps, beside the alarm and not in it; nobody waits for them for long.

    gap is told ── note (same transaction) ──► answer row ── ask (no transaction) ──► answer row ──► message, guards

1. The decision that opens or repeats an alert notes what is to be asked. A first message waits 3 seconds at most, and
   goes out with whatever is known then.
2. A few questions are under way at once, each for 5 seconds at most; a provider that wants a pause is left alone, over
   restarts too.
3. The answer is stored. Where it says something new the payment is judged anew, with the guards; otherwise the message
   that waited goes out. A message that went out before is edited where its channel can do that, and not repeated
   elsewhere.

A crash between two steps leaves a question that is due, and it is asked again: asking changes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, assert_never

import anyio

from paidwatch.core.answer import Answer, Trouble, Unanswered
from paidwatch.core.webhook import Status as Money
from paidwatch.flow.signal import Signal
from paidwatch.flow.worker import Worker
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import ProviderApi
from paidwatch.store import answers
from paidwatch.store.answers import Kept, Key, Question
from paidwatch.store.pool import Database, Session

WORKER: Final = "provider questions"
ASK_LIMIT: Final = timedelta(seconds=8)
"""A client ends within 5 seconds; this is for one that does not."""
USUAL_PAUSE: Final = timedelta(minutes=1)
"""For a provider that wants a pause and does not say how long."""
LONGEST_WISH: Final = timedelta(hours=1)
"""A pause beyond this is taken for a mistake."""
MOVING: Final = frozenset({Money.PENDING, Money.SETTLING})
"""Answers after which the money may still come."""

Apis = Callable[[], Mapping[str, ProviderApi]]
"""Every provider that can be asked, by its NAME."""
Asking = tuple[Key, str]
"""A question, and the provider that is asked."""


class Questions:
    """What decisions note for the asker; with nobody to ask it notes nothing."""

    def __init__(self, apis: Apis) -> None:
        """Bind who can be asked; that may change with a reload."""
        self._apis = apis
        self.wanted = Signal()

    async def want(
        self, session: Session, asked: Sequence[tuple[str | None, str | None, str | None]]
    ) -> frozenset[Key]:
        """Note (method, reference, payment) in the caller's transaction; return what is asked at once.

        Ring `wanted` after that transaction.
        """
        by_method = {method: api.name for api in self._apis().values() for method in api.methods}
        questions: list[Question] = []
        for method, reference, payment_id in asked:
            name = by_method.get((method or "").lower())
            if name is not None and method and reference:
                key = (method.lower(), reference)
                questions.append(Question(key=key, provider=name, payment_id=payment_id))
        return await answers.want(session, questions)


class Ask(Worker[Asking]):
    """Asks what is due, and stores what comes back."""

    def __init__(
        self,
        *,
        database: Database,
        apis: Apis,
        questions: Questions,
        status: Status,
        metrics: Metrics,
        log: Log,
        on_told: Callable[[], None],
        on_look: Callable[[], None],
    ) -> None:
        """Bind who is asked, and whom to tell: that messages are due, and that payments are to be judged anew."""
        super().__init__(WORKER, status, questions.wanted)
        self._database = database
        self._apis = apis
        self._metrics = metrics
        self._log = log
        self._on_told = on_told
        self._on_look = on_look

    async def due(self, most: int, busy: Collection[Asking]) -> Sequence[Asking]:
        """Return what providers are to be asked now."""
        names, keys = list(self._apis()), [key for key, _provider in busy]
        if not names:
            return ()
        return await self._database.read(lambda session: answers.due(session, names, most, apart_from=keys))

    async def next_due(self, busy: Collection[Asking]) -> timedelta | None:
        """Return how long nothing is to be asked."""
        names, keys = list(self._apis()), [key for key, _provider in busy]
        if not names:
            return None
        return await self._database.read(lambda session: answers.next_due(session, names, apart_from=keys))

    async def follow(self, one: Asking) -> None:
        """Ask, and store what comes back."""
        key, provider = one
        api = self._apis().get(provider)
        if api is None:
            await self._database.write(lambda session: answers.stop(session, key))
            return
        said = await self._said(api, key[1])
        match said:
            case Answer():
                await self._answered(key, provider, said)
            case Unanswered():
                await self._unanswered(key, provider, said)
            case _ as unreachable:
                assert_never(unreachable)

    @staticmethod
    async def _said(api: ProviderApi, reference: str) -> Answer | Unanswered:
        with anyio.move_on_after(ASK_LIMIT.total_seconds()):
            try:
                return await api.ask(reference)
            except Exception:  # noqa: BLE001  what a client raises may hold the key or the address, so it ends here
                return Unanswered(trouble=Trouble.UNREADABLE)
        return Unanswered(trouble=Trouble.TIMEOUT)

    async def _answered(self, key: Key, provider: str, answer: Answer) -> None:
        async def body(session: Session) -> tuple[Kept, bool]:
            kept = await answers.record(session, key, answer, moving=answer.status in MOVING)
            # What is judged anew is told with that: see Decide.
            released = False if kept.woken else await answers.release(session, kept.payments, [key])
            return kept, released

        kept, released = await self._database.write(body)
        self._metrics.asked(provider)
        self._log.info(
            "provider.answered",
            "a payment provider said how a payment stands",
            provider=provider,
            reference=key[1],
            status=answer.status.value,
        )
        if kept.woken:
            self._on_look()
        if kept.told or released:
            self._on_told()

    async def _unanswered(self, key: Key, provider: str, reason: Unanswered) -> None:
        pause = reason.retry_after
        if pause is None and reason.trouble is Trouble.BUSY:
            pause = USUAL_PAUSE
        if pause is not None:
            pause = min(pause, LONGEST_WISH)

        async def body(session: Session) -> bool:
            kept = await answers.record_none(session, key, reason, pause=pause)
            released = await answers.release(session, kept.payments, [key])
            return kept.told or released

        told = await self._database.write(body)
        self._metrics.asked(provider, reason.trouble)
        self._log.warning(
            "provider.unanswered",
            "a payment provider could not be asked about a payment",
            provider=provider,
            reference=key[1],
            reason=reason.trouble.value,
        )
        if told:
            self._on_told()
