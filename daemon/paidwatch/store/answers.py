"""Answers of payment providers: what is to be asked, noted with the alert that wants it, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from paidwatch.core.answer import Answer, Asked, Trouble, Unanswered
from paidwatch.core.webhook import Status
from paidwatch.store.pool import Row, Session

PAUSE: Final = timedelta(seconds=30)
"""Least time between two questions about one reference."""
LONGEST_PAUSE: Final = timedelta(hours=1)
"""Between two questions that nobody but an unfinished answer calls for."""
MOST: Final = 12
"""So often it is asked by itself about one gap; a reminder begins anew."""
HOLD: Final = timedelta(seconds=3)
"""A first message waits no longer for an answer."""

Key = tuple[str, str]
"""Method, in small letters, and reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something that a provider is to be asked."""

    key: Key
    provider: str
    payment_id: str | None = None
    """None: it is no payment's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What followed from keeping what came of a question."""

    payments: Sequence[str] = ()
    """Whose payment it is."""
    woken: bool = False
    """It is judged anew, because this was not known."""
    told: bool = False
    """A message that went out without this is changed where that is possible."""


async def want(session: Session, questions: Sequence[Question]) -> frozenset[Key]:
    """Note what is to be asked, in the caller's transaction; return what is asked at once."""
    if not questions:
        return frozenset()
    rows = await session.rows(
        "want_answers",
        *_columns([it.key for it in questions]),
        [it.provider for it in questions],
        [it.payment_id for it in questions],
        PAUSE,
        Trouble.BUSY.value,
    )
    return frozenset((row["method"], row["reference"]) for row in rows if row["now"])


async def due(
    session: Session, providers: Sequence[str], most: int, *, apart_from: Sequence[Key]
) -> list[tuple[Key, str]]:
    """Return what these providers are to be asked now, each with the provider."""
    rows = await session.rows("due_questions", list(providers), most, *_columns(apart_from))
    return [((row["method"], row["reference"]), row["provider"]) for row in rows]


async def next_due(session: Session, providers: Sequence[str], *, apart_from: Sequence[Key]) -> timedelta | None:
    """Return how long until there is something to ask; None: there is nothing."""
    wait: timedelta | None = await session.value("next_question", list(providers), *_columns(apart_from))
    return wait


async def record(session: Session, key: Key, answer: Answer, *, moving: bool) -> Kept:
    """Keep an answer. `moving`: the money may still come, so it is asked again while the gap is open."""
    await _lock(session, key)
    row = await session.row(
        "record_answer",
        *key,
        answer.status.value,
        answer.said,
        answer.amount,
        answer.currency,
        moving,
        PAUSE,
        LONGEST_PAUSE,
        MOST,
    )
    return Kept() if row is None else await _kept(session, key, row, woken=row["woken"])


async def record_none(session: Session, key: Key, reason: Unanswered, *, pause: timedelta | None) -> Kept:
    """Keep why there is no answer; `pause` is what the provider wants of everything."""
    await _lock(session, key)
    trouble = reason.trouble
    row = await session.row("record_no_answer", *key, trouble.value, trouble.passes, PAUSE, LONGEST_PAUSE, MOST, pause)
    return Kept() if row is None else await _kept(session, key, row, woken=False)


async def stop(session: Session, key: Key) -> None:
    """Nobody can be asked about this any more."""
    await session.rows("stop_asking", *key, Trouble.UNCONFIGURED.value)


async def release(session: Session, payments: Sequence[str] = (), keys: Sequence[Key] = ()) -> bool:
    """Let messages go that waited for an answer, or for what follows on it; return whether there were any."""
    return bool(await session.rows("release_asked", list(payments), *_columns(keys), HOLD))


async def about(session: Session, keys: Sequence[Key]) -> dict[Key, Asked]:
    """Return what is known of asking about these."""
    rows = await session.rows("answers_about", *_columns(keys)) if keys else ()
    found = {(row["method"], row["reference"]): asked_of(row) for row in rows}
    return {key: asked for key, asked in found.items() if asked is not None}


async def about_alert(session: Session, alert_id: int) -> Asked | None:
    """Return what is known of asking about what an alert is about; None: nobody is asked about it."""
    row = await session.row("asked_of_alert", alert_id)
    if row is None or not row["method"] or not row["reference"]:
        return None
    key = row["method"], row["reference"]
    return (await about(session, [key])).get(key)


def asked_of(row: Row) -> Asked | None:
    """Return what is known of asking from a row that may have it; None: nobody is asked."""
    if row["answer_wanted_at"] is None:
        return None
    answer = None
    if row["answer_status"] is not None:
        answer = Answer(
            status=Status(row["answer_status"]),
            said=row["answer_said"],
            amount=row["answer_amount"],
            currency=row["answer_currency"],
            at=row["answered_at"],
        )
    return Asked(answer=answer, problem=row["answer_problem"], tried_at=row["answer_tried_at"])


async def _lock(session: Session, key: Key) -> None:
    """Lock what may be judged anew before the answer and the alert, in the order in which decisions lock them."""
    await session.rows("lock_asked", *key)
    await session.rows("lock_story", *key)


async def _kept(session: Session, key: Key, row: Row, *, woken: bool) -> Kept:
    payments = [] if row["payment_id"] is None else [row["payment_id"]]
    changed = await session.rows("tell_answer", payments, *_columns([key]), HOLD) if row["news"] else ()
    return Kept(payments=payments, woken=woken, told=any(one["edits"] for one in changed))


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [method for method, _ in keys], [reference for _, reference in keys]
