"""Answers of payment providers: what is to be asked, noted with the alert that wants it, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from paidwatch.core.answer import Answer, Trouble, Unanswered
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


async def record(session: Session, key: Key, answer: Answer, *, moving: bool) -> tuple[bool, list[str]]:
    """Keep an answer; return whether the payment is judged anew, because this was not known, and whose it is.

    `moving`: the money may still come, so it is asked again while the gap is open.
    """
    await session.rows("lock_asked", *key)
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
    return (False, []) if row is None else (bool(row["woken"]), _payments(row))


async def record_none(session: Session, key: Key, reason: Unanswered, *, pause: timedelta | None) -> list[str]:
    """Keep why there is no answer, and return the payment; `pause` is what the provider wants of everything."""
    trouble = reason.trouble
    row = await session.row("record_no_answer", *key, trouble.value, trouble.passes, PAUSE, LONGEST_PAUSE, MOST, pause)
    return [] if row is None else _payments(row)


async def stop(session: Session, key: Key) -> None:
    """Nobody can be asked about this any more."""
    await session.rows("stop_asking", *key, Trouble.UNCONFIGURED.value)


async def release(session: Session, payments: Sequence[str] = (), keys: Sequence[Key] = ()) -> bool:
    """Let first messages go that waited for an answer; return whether there were any."""
    return bool(await session.rows("release_asked", list(payments), *_columns(keys), HOLD))


def _payments(row: Row) -> list[str]:
    return [] if row["payment_id"] is None else [row["payment_id"]]


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [method for method, _ in keys], [reference for _, reference in keys]
