"""Webhooks as they came: kept before anything is made of them, settled, told in the application's log."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final, cast

from paidwatch.store.pool import Row, Session

Headers = Sequence[tuple[str, str]]
"""Names in small letters and values as they came, one character a byte, in their order."""

_LONGEST: Final = 500
"""Characters of a reference and of a key that are kept: an index holds them."""


class State(StrEnum):
    """What was made of a webhook."""

    RECEIVED = "received"
    """Nothing yet."""
    VERIFIED = "verified"
    REJECTED = "rejected"
    """Not believed; the same one may come again and be believed then."""
    DUPLICATE = "duplicate"
    """The same as an earlier one that was believed: it changes nothing."""


class Forward(StrEnum):
    """Where passing on stands."""

    NONE = "none"
    """It is not passed on."""
    DUE = "due"
    DONE = "done"
    DEAD = "dead"
    """Given up: somebody must replay it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One webhook as it came."""

    provider: str
    body: bytes = field(repr=False)
    headers: Headers = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a webhook is kept."""

    webhook_id: int
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the application's log is to say about one webhook."""

    method: str
    type: str | None
    status: str
    """received, completed or failed (the first failed word of [webhooks])."""
    error: str | None
    reference: str | None
    plan: str | None
    user: str | None
    signature: str | None
    valid: bool | None
    headers: Mapping[str, str]
    received_at: datetime
    processed_at: datetime | None
    payload: str | None = field(repr=False)
    """JSON; None: it is none."""

    def text(self) -> str:
        """Return everything but the payload as JSON that PostgreSQL can hold."""
        values = {
            "method": self.method,
            "type": self.type,
            "status": self.status,
            "error": self.error,
            "reference": self.reference,
            "plan": self.plan,
            "user": self.user,
            "signature": self.signature,
            "valid": self.valid,
            "headers": dict(self.headers),
            "received_at": self.received_at.isoformat(),
            "processed_at": None if self.processed_at is None else self.processed_at.isoformat(),
        }
        return json.dumps({name: _clean(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to become of one webhook."""

    webhook_id: int
    believed: bool
    signature: str
    problem: str
    dedupe_key: str | None
    reference: str | None
    status: str | None
    forwards: bool
    """It is to be passed on, if it is no duplicate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one webhook."""

    webhook_id: int
    state: State
    forward: Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """One webhook that is still to be settled, or of which the application's log is still to be told."""

    webhook_id: int
    received_at: datetime
    raw: Raw
    state: State
    signature: str | None
    problem: str | None
    log_id: str | None
    forward: Forward
    last_error: str | None
    forwarded_at: datetime | None


async def keep(session: Session, raws: Sequence[Raw]) -> list[Kept]:
    """Keep webhooks as they came; one statement, committed by itself."""
    rows = await session.rows(
        "store_webhooks",
        [raw.provider for raw in raws],
        [raw.body for raw in raws],
        [json.dumps([[clean(name), clean(value)] for name, value in raw.headers]) for raw in raws],
    )
    return [Kept(webhook_id=row["webhook_id"], received_at=row["received_at"]) for row in rows]


async def settle(session: Session, verdicts: Sequence[Verdict]) -> dict[int, Settled]:
    """Write what becomes of webhooks; those that somebody else settled meanwhile are not in the answer."""
    rows = await session.rows(
        "settle_webhooks",
        [it.webhook_id for it in verdicts],
        [it.believed for it in verdicts],
        [it.signature for it in verdicts],
        [it.problem for it in verdicts],
        [_key(it.dedupe_key) for it in verdicts],
        [_reference(it.reference) for it in verdicts],
        [it.status for it in verdicts],
        [it.forwards for it in verdicts],
    )
    return {
        row["webhook_id"]: Settled(
            webhook_id=row["webhook_id"], state=State(row["state"]), forward=Forward(row["forward_state"])
        )
        for row in rows
    }


async def log(session: Session, entries: Mapping[int, Entry]) -> None:
    """Write rows into the application's log, one for each webhook."""
    told = list(entries.values())
    await session.rows("log_webhooks", list(entries), [it.text() for it in told], [it.payload for it in told])


async def relog(session: Session, entries: Mapping[int, tuple[str, Entry]]) -> None:
    """Say in the application's log what became of webhooks that it knows: by webhook, the log's row and the entry."""
    rows = [row for row, _entry in entries.values()]
    await session.rows("relog_webhooks", list(entries), rows, [entry.text() for _row, entry in entries.values()])


async def mark_unlogged(session: Session, webhooks: Sequence[int]) -> None:
    """Remember that the application's log is still to be told."""
    if webhooks:
        await session.rows("mark_unlogged", list(webhooks))


async def unsettled(session: Session, *, older: timedelta, after: int, most: int, size: int) -> list[Unsettled]:
    """Lock and return webhooks that something is still to be made of, from the one `after` on, in their order.

    As many as have bodies of `size` bytes together, and one at least.
    """
    rows = await session.rows("unsettled_webhooks", older, most, after, size)
    return [
        Unsettled(
            webhook_id=row["webhook_id"],
            received_at=row["received_at"],
            raw=Raw(provider=row["provider"], body=row["body"], headers=headers_of(row)),
            state=State(row["state"]),
            signature=row["signature"],
            problem=row["problem"],
            log_id=row["log_id"],
            forward=Forward(row["forward_state"]),
            last_error=row["last_error"],
            forwarded_at=row["forwarded_at"],
        )
        for row in rows
    ]


def headers_of(row: Row) -> Headers:
    """Return the headers that were kept."""
    return [(name, value) for name, value in json.loads(row["headers"])]


def clean(text: str) -> str:
    """Return a text that PostgreSQL can hold: without zero characters and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _clean(value: object) -> object:
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(name)): _clean(it) for name, it in cast("dict[object, object]", value).items()}
        case _:
            return value


def _reference(text: str | None) -> str | None:
    return None if text is None else clean(text)[:_LONGEST]


def _key(text: str | None) -> str | None:
    """Return a key that an index can hold; a longer one by its digest, so that no two become the same."""
    if text is None or len(text) <= _LONGEST:
        return None if text is None else clean(text)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
