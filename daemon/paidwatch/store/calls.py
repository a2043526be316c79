"""Activations over HTTP in the ledger: planned, asked for, answered, read back, ended; all by guarded updates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from paidwatch.core.grant import Grant
from paidwatch.core.guards import Guard, GuardResult
from paidwatch.core.model import Subject
from paidwatch.core.readback import Asked, Before, Trace
from paidwatch.ports import Ask
from paidwatch.store import subjects
from paidwatch.store.ledger import Claim, as_json, guards_as_json
from paidwatch.store.pool import Row, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was computed when it was first asked for; every retry asks for the same."""

    ask: Ask
    granted: str
    """In words: `professional until 2026-12-23 12:54 UTC`."""
    start: Before
    before: str | None
    """The user as it was, as JSON by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An activation, locked for this transaction."""

    claim: Claim
    installation_id: str
    asked: Asked | None
    """None: not yet."""
    plan: Plan | None


async def due(session: Session, most: int, *, apart_from: Sequence[int]) -> list[int]:
    """Return the activations for which there is something to do, without those under way here."""
    return [row["activation_id"] for row in await session.rows("due_calls", most, list(apart_from))]


async def next_due(session: Session, *, apart_from: Sequence[int]) -> timedelta | None:
    """Return how long until there is something to do; None: there is nothing."""
    wait: timedelta | None = await session.value("next_call", list(apart_from))
    return wait


async def take(session: Session, activation_id: int) -> Taken | None:
    """Lock subject and activation; None if it has ended, or is none over HTTP."""
    owner = await session.row("activation_subject", activation_id)
    if owner is None:
        return None
    await subjects.lock(session, subjects.of(owner))
    row = await session.row("take_call", activation_id)
    return None if row is None else _taken(row)


async def plan(
    session: Session,
    activation_id: int,
    planned: Plan,
    grant: Grant,
    *,
    guards: Sequence[GuardResult],
    answered: timedelta,
    again: timedelta,
) -> int | None:
    """Keep what will be asked for; return the call's number, None if the claim has ended.

    It is answered at the latest `answered` from now, and not asked again before `again`.
    """
    stored = {
        "payment_id": grant.subject.payment_id,
        "user_id": grant.user_id,
        "user": dict(grant.user),
        "ask": asdict(planned.ask),
        "granted": planned.granted,
        "covered": planned.start.covered,
        "activated_at": planned.start.activated_at,
    }
    number: int | None = await session.value(
        "plan_call", activation_id, as_json(stored), planned.before, guards_as_json(guards), answered, again
    )
    return number


async def again(
    session: Session,
    activation_id: int,
    call: int,
    *,
    guards: Sequence[GuardResult],
    answered: timedelta,
    again: timedelta,
) -> int | None:
    """Note that it is asked once more; return the call's number, None if somebody else did."""
    number: int | None = await session.value("call_again", activation_id, call, guards_as_json(guards), answered, again)
    return number


async def fresh(session: Session, activation_id: int, call: int, within: timedelta) -> bool:
    """Say whether a call was noted less than `within` ago, and nobody has made another one since."""
    found: bool = await session.value("call_is_fresh", activation_id, call, within)
    return found


async def note_answer(session: Session, activation_id: int, call: int, code: str, wish: timedelta) -> Asked | None:
    """Keep the answer to one call and return where it stands; None if the ledger has moved on since."""
    row = await session.row("note_answer", activation_id, call, code, wish)
    return None if row is None else _asked(row)


async def read_later(session: Session, activation_id: int, call: int, at: datetime) -> None:
    """Read the tables again at that moment."""
    await session.rows("read_later", activation_id, call, at)


async def postpone(
    session: Session, activation_id: int, *, first: timedelta, most: timedelta, error: str
) -> tuple[int, Subject] | None:
    """Try it again after the database failed, ever later; return how often that was so in a row, and what it is for."""
    row = await session.row("postpone_call", activation_id, first, most, error)
    return None if row is None else (row["attempts"], subjects.of(row))


async def end(
    session: Session,
    activation_id: int,
    call: int,
    *,
    state: str,
    guards: Sequence[GuardResult] | None = None,
    after: str | None = None,
    event_id: str | None = None,
    error: str | None = None,
) -> bool:
    """End a call as done, refused or failed; False if somebody else did."""
    answered = None if guards is None else guards_as_json(guards)
    return await session.value("end_call", activation_id, call, state, answered, after, event_id, error) is not None


async def ending(session: Session, activation_id: int) -> tuple[str, str | None] | None:
    """Return the state in which an activation is, and why."""
    row = await session.row("call_ending", activation_id)
    return None if row is None else (row["state"], row["error"])


async def traces(session: Session, user_id: str, marked: str) -> tuple[Trace, ...]:
    """Return the user's events that carry the mark, the newest first."""
    rows = await session.rows("traces", user_id, marked)
    return tuple(Trace(event_id=row["event_id"], failed=row["failed"]) for row in rows)


def _taken(row: Row) -> Taken:
    called = row["state"] == "calling"
    return Taken(
        claim=Claim(
            activation_id=row["activation_id"],
            subject=subjects.of(row),
            user_id=row["user_id"],
            actor=row["actor"],
            reason=row["reason"],
            attempts=row["attempts"],
            strategy="http",
            forced=frozenset(Guard(name) for name in row["forced"]),
        ),
        installation_id=row["installation_id"],
        asked=_asked(row) if called else None,
        plan=_plan(json.loads(row["planned"]), row["before"]) if called else None,
    )


def _asked(row: Row) -> Asked:
    return Asked(calls=row["calls"], answer=row["answer"], again_at=row["again_at"])


def _plan(stored: Mapping[str, Any], before: str | None) -> Plan:
    start = Before(
        covered=stored["covered"],
        activated_at=_moment(stored["activated_at"]),
        paid_until=_moment(stored["user"]["paid_until"]),
    )
    return Plan(ask=Ask(**stored["ask"]), granted=stored["granted"], start=start, before=before)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
