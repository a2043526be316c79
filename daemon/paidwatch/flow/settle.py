"""Settle: what a webhook that was kept is worth, in one transaction with its row in the application's log.

A webhook is believed if its body is JSON and its signature is right. One like an earlier one that was believed changes
nothing. One that was not believed can come again, or be read again once the secret is corrected, and be believed then:
its signature is judged as of the moment at which it came.

The application's log is written behind a savepoint and without waiting for locks: where that fails, the rest stands,
and the log is told later.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from paidwatch.core.webhook import Reading, Signature
from paidwatch.errors import DatabaseError
from paidwatch.providers import Provider
from paidwatch.providers.parsing import Unreadable, parse, storable
from paidwatch.store import webhooks
from paidwatch.store.pool import Session
from paidwatch.store.webhooks import Entry, Forward, Headers, Kept, Raw, Settled, State, Unsettled, Verdict

T = TypeVar("T")

ALWAYS_KEPT: Final = frozenset({"content-type", "user-agent"})
"""Headers that are kept of every provider's webhooks, beside its own."""
MOST_FAILURES: Final = 3
"""After so many rows that a table does not take, the others of the batch wait for the next try: it may be the table."""
FAULT: Final = "paidwatch itself failed to read it"
GONE: Final = "the provider is not in the configuration any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One provider as the receiver needs it."""

    provider: Provider
    has_secret: bool
    forwards: bool
    """What is believed is passed on to the application."""

    @property
    def kept(self) -> frozenset[str]:
        """Return the headers that are kept; no other one is."""
        return self.provider.kept_headers | ALWAYS_KEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one webhook is worth by itself."""

    readable: bool
    signature: Signature | None
    """None: its provider is not configured any more."""
    problem: str
    """Why it is not believed, in constant words; "" where it is."""
    reading: Reading | None = field(repr=False)
    dedupe_key: str | None
    payload: str | None = field(default=None, repr=False)
    """The body as JSON that PostgreSQL takes; None where there is none."""

    @property
    def believed(self) -> bool:
        """Say whether it counts."""
        return not self.problem


def kept_headers(source: Source, headers: Headers) -> Headers:
    """Return the headers that are kept, in their order."""
    kept = source.kept
    return [(name, value) for name, value in headers if name in kept]


def judge(source: Source | None, raw: Raw, received_at: datetime) -> Judged:
    """Check the signature and read the body, as of the moment at which it came."""
    if source is None:
        return _nothing(raw, GONE)
    try:
        return _judge(source, raw, received_at)
    except Exception:  # noqa: BLE001  whatever a body brings to light, the webhooks of others are received all the same
        return _nothing(raw, FAULT)


def _nothing(raw: Raw, problem: str) -> Judged:
    said = _payload(raw.body)
    return Judged(readable=True, signature=None, problem=problem, reading=None, dedupe_key=None, payload=said)


def _judge(source: Source, raw: Raw, received_at: datetime) -> Judged:
    provider, headers = source.provider, _by_name(raw.headers)
    signature = provider.verify(headers, raw.body, received_at)
    try:
        payload = parse(raw.body)
    except Unreadable as error:
        return Judged(readable=False, signature=signature, problem=str(error), reading=None, dedupe_key=None)
    reading = provider.read(payload, headers)
    valid = signature is Signature.VALID
    return Judged(
        readable=True,
        signature=signature,
        problem="" if valid else signature.value,
        reading=reading,
        dedupe_key=provider.dedupe_key(reading, raw.body) if valid else None,
        payload=_text_of(raw.body, payload),
    )


def _payload(body: bytes) -> str | None:
    try:
        return _text_of(body, parse(body))
    except Unreadable:
        return None


def _text_of(body: bytes, payload: object) -> str:
    """Return the body as it was written, unless it escapes characters: jsonb refuses some of those."""
    return storable(payload) if b"\\u" in body else body.decode()


async def settle(
    session: Session,
    arrivals: Sequence[tuple[Kept, Raw, Judged]],
    sources: Mapping[str, Source],
    *,
    log: bool,
) -> tuple[dict[int, Settled], DatabaseError | None]:
    """Write what becomes of webhooks; return that, and why the application's log could not be told.

    With `log` false it is not even tried. What somebody else settled meanwhile is not in the answer.
    """
    settled = await webhooks.settle(
        session, [_verdict(kept, judged, sources.get(raw.provider)) for kept, raw, judged in arrivals]
    )
    entries = {
        kept.webhook_id: entry_of(sources.get(raw.provider), raw, judged, kept.received_at, settled[kept.webhook_id])
        for kept, raw, judged in arrivals
        if kept.webhook_id in settled and settled[kept.webhook_id].state is not State.DUPLICATE
    }
    failed = await _attempt(session, lambda: webhooks.log(session, entries)) if log and entries else None
    if entries and (not log or failed is not None):
        await webhooks.mark_unlogged(session, list(entries))
    if any(it.forward is Forward.DUE for it in settled.values()):
        await session.rows("ring_outbox")
    return settled, failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a batch of leftovers."""

    count: int
    upto: int
    """The last one that was tried, of all and of those that were refused; 0: there was none."""
    failed: DatabaseError | None
    """The first thing that went wrong; what it concerns is left as it was."""


async def finish(session: Session, found: Sequence[Unsettled], sources: Mapping[str, Source]) -> Finished:
    """Settle what a crash or a locked table left; one that is refused holds up none of the others."""
    judged = {
        it.webhook_id: judge(sources.get(it.raw.provider), it.raw, it.received_at)
        for it in found
        if it.state is State.RECEIVED or it.log_id is None
    }
    settled: dict[int, Settled] = {}

    async def settle_some(some: Mapping[int, Unsettled]) -> None:
        arrivals = [
            (Kept(webhook_id=it.webhook_id, received_at=it.received_at), it.raw, judged[it.webhook_id])
            for it in some.values()
        ]
        settled.update((await settle(session, arrivals, sources, log=False))[0])

    steps = [await _each(session, {it.webhook_id: it for it in found if it.state is State.RECEIVED}, settle_some)]
    new: dict[int, Entry] = {}
    known: dict[int, tuple[str, Entry]] = {}
    for it in found:
        source = sources.get(it.raw.provider)
        if it.state is State.RECEIVED and it.webhook_id not in settled:
            continue
        standing = settled.get(it.webhook_id) or Settled(webhook_id=it.webhook_id, state=it.state, forward=it.forward)
        if it.log_id is None and standing.state is not State.DUPLICATE:
            entry = entry_of(source, it.raw, judged[it.webhook_id], it.received_at, standing)
            new[it.webhook_id] = entry if it.state is State.RECEIVED else _as_it_stands(entry, it)
        elif it.log_id is not None and it.webhook_id in settled:
            known[it.webhook_id] = (
                it.log_id,
                entry_of(source, it.raw, judged[it.webhook_id], it.received_at, standing),
            )
        elif it.log_id is not None:
            known[it.webhook_id] = (it.log_id, _as_it_stands(_bare(it), it))
    steps.append(await _each(session, new, lambda some: webhooks.log(session, some)))
    steps.append(await _each(session, known, lambda some: webhooks.relog(session, some)))
    upto = min([stopped for stopped, _failed in steps if stopped] or [it.webhook_id for it in found[-1:]] or [0])
    return Finished(count=len(found), upto=upto, failed=next((failed for _stopped, failed in steps if failed), None))


async def _each(
    session: Session, entries: dict[int, T], write: Callable[[dict[int, T]], Awaitable[None]]
) -> tuple[int, DatabaseError | None]:
    """Write all together, or, where one of them may be to blame, one by one, each behind a savepoint.

    Returns where it was stopped by too many failures (0: it was not), and the first thing that went wrong.
    """
    failed = await _attempt(session, lambda: write(entries)) if entries else None
    if failed is None:
        return 0, None
    failures = 0
    for number, entry in entries.items():
        one = {number: entry}
        failures += len(entries) == 1 or await _attempt(session, partial(write, one)) is not None
        if failures >= MOST_FAILURES:
            return number, failed
    return 0, failed if failures else None


async def _attempt(session: Session, body: Callable[[], Awaitable[None]]) -> DatabaseError | None:
    try:
        await session.attempt(body)
    except DatabaseError as error:
        return error
    return None


def entry_of(source: Source | None, raw: Raw, judged: Judged, received_at: datetime, settled: Settled) -> Entry:
    """Return what the application's log is to say; it knows the provider by the shop's own word for its payments."""
    reading = judged.reading
    waits = judged.believed and settled.forward is Forward.DUE
    return Entry(
        method=raw.provider if source is None else source.provider.method,
        type=reading.said if reading else None,
        status="failed" if judged.problem else "received" if waits else "completed",
        error=judged.problem or None,
        reference=reading.reference if reading else None,
        plan=reading.plan_id if reading else None,
        user=reading.user_id if reading else None,
        signature=_signature(raw.headers),
        valid=None if judged.signature is None else judged.signature is Signature.VALID,
        headers=_by_name(raw.headers),
        received_at=received_at,
        processed_at=None if waits else received_at,
        payload=judged.payload,
    )


def _bare(it: Unsettled) -> Entry:
    """Return an entry for a row that is there: only what may have changed of it is written."""
    return Entry(
        method=it.raw.provider,
        type=None,
        status="",
        error=None,
        reference=None,
        plan=None,
        user=None,
        signature=None,
        valid=None,
        headers={},
        received_at=it.received_at,
        processed_at=None,
        payload=None,
    )


def _as_it_stands(entry: Entry, it: Unsettled) -> Entry:
    """Return what the log is to say of a webhook that was settled before: its signature is not judged a second time."""
    believed = it.state is State.VERIFIED
    dead = it.forward is Forward.DEAD
    error = it.problem if not believed else it.last_error if dead else None
    status = "failed" if dead or not believed else "received" if it.forward is Forward.DUE else "completed"
    return replace(
        entry,
        status=status,
        error=error,
        valid=True if it.signature == Signature.VALID else None if it.signature is None else False,
        processed_at=None if status == "received" else it.forwarded_at or it.received_at,
    )


def _verdict(kept: Kept, judged: Judged, source: Source | None) -> Verdict:
    reading = judged.reading
    return Verdict(
        webhook_id=kept.webhook_id,
        believed=judged.believed,
        signature=judged.signature or Signature.NO_SECRET,
        problem=judged.problem,
        dedupe_key=judged.dedupe_key,
        reference=reading.reference if reading else None,
        status=reading.status if reading else None,
        forwards=source is not None and source.forwards,
    )


def _by_name(headers: Headers) -> dict[str, str]:
    """Return headers by name; the values of one that stands several times are joined, as HTTP has it."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _signature(headers: Headers) -> str | None:
    """Return what the signature header says: the one whose name says so, otherwise the first of the provider's own."""
    own = [(name, value) for name, value in headers if name not in ALWAYS_KEPT]
    named = [value for name, value in own if name.endswith(("signature", "-sig"))]
    return next(iter(named or [value for _name, value in own]), None)
