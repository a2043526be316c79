"""What draining costs while another session keeps an old snapshot, as a backup does for an hour.

Time is compressed: between two looks, writers add tens of thousands of rows and the drain takes them, so that after
seconds there are as many dead rows as after an hour of trade. Nothing can be vacuumed, because the snapshot might
still want to see it. Beside paidwatch's own table and statement stands the layout that comes to mind first: a plain
heap, read by deleting everything in it.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bench.ground import Connection, Ground, progress
from bench.report import Finding, Section, median, number
from paidwatch.store.inbox import SESSION, Inbox
from paidwatch.store.statements import Statements

FLAT = 2.0
"""Flat is: the last looks cost at most this many times the first ones, or half a millisecond more."""
SLACK = 0.5
_LOOKS = 11
_ROWS = 100
_BULK = 25_000

_WRITE = """
INSERT INTO {table} (txid, at, kind, payment_id, user_id, ref)
SELECT pg_current_xact_id(), clock_timestamp(), 'U', NULL, n, NULL FROM generate_series(1, $1::integer) AS n
"""
_PLAIN = """
CREATE TABLE public.plain (txid xid8, at timestamptz, kind "char", payment_id integer, user_id integer, ref text)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)
"""


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    rounds, marks = (1, (0, 100_000, 200_000)) if quick else (3, (0, 250_000, 1_000_000, 2_000_000))
    costs: dict[str, list[list[float]]] = {"ours": [], "plain": []}
    await ground.create_shop("snapshot_shop", active=True, users=_BULK)
    await ground.install("snapshot_shop")
    for turn in range(rounds):
        for layout, found in costs.items():
            await ground.create("snapshot", template="snapshot_shop")
            found.append(await _hour(ground, layout, marks))
            told = ", ".join(f"{cost:.2f}" for cost in found[-1])
            progress(
                f"  round {turn + 1}, {layout}: {told} ms at {', '.join(number(mark) for mark in marks)} dead rows"
            )
    await ground.drop("snapshot", "snapshot_shop")
    return _section(costs, marks, rounds)


async def _hour(ground: Ground, layout: str, marks: tuple[int, ...]) -> list[float]:
    """Return the cost of draining a hundred rows, in milliseconds, at each number of dead rows."""
    found = []
    async with (
        ground.connected("snapshot", default_transaction_isolation="repeatable read") as backup,
        ground.connected("snapshot") as writer,
        ground.connected("snapshot", **(SESSION if layout == "ours" else {"synchronous_commit": "off"})) as reader,
    ):
        await writer.execute(_PLAIN)
        write = await writer.prepare(_WRITE.format(table="paidwatch.inbox" if layout == "ours" else "public.plain"))
        drain = _own_drain(reader) if layout == "ours" else _plain_drain(reader)
        await drain()
        await backup.execute("BEGIN")
        await backup.fetchval("SELECT count(*) FROM paidwatch.inbox")
        dead = 0
        for mark in marks:
            while dead < mark:
                await write.fetch(_BULK, timeout=60)
                await drain()
                dead += _BULK
            looks = []
            for _ in range(_LOOKS):
                await write.fetch(_ROWS)
                started = time.perf_counter()
                taken = await drain()
                looks.append((time.perf_counter() - started) * 1e3)
                if taken != _ROWS:
                    raise AssertionError(f"{taken} rows were drained instead of {_ROWS}")
            found.append(median(looks))
        await backup.execute("COMMIT")
    return found


def _own_drain(reader: Connection) -> Callable[[], Awaitable[int]]:
    inbox = Inbox(reader, Statements.load())

    async def drain() -> int:
        taken = 0
        while True:
            drained = await inbox.drain(timedelta(minutes=2), {})
            taken += drained.taken
            if drained.complete:
                return taken

    return drain


def _plain_drain(reader: Connection) -> Callable[[], Awaitable[int]]:
    async def drain() -> int:
        return len(await reader.fetch("DELETE FROM public.plain RETURNING kind, at, payment_id, user_id", timeout=60))

    return drain


def _section(costs: dict[str, list[list[float]]], marks: tuple[int, ...], rounds: int) -> Section:
    names = {
        "ours": "paidwatch: index on txid, what the last snapshot could not see",
        "plain": "plain heap, DELETE … RETURNING",
    }
    middle = {layout: [median(column) for column in zip(*values, strict=True)] for layout, values in costs.items()}
    first, last, plain = middle["ours"][0], middle["ours"][-1], middle["plain"]
    return Section(
        title="Draining while an old snapshot is open",
        method=(
            f"{rounds} rounds. Another session holds a REPEATABLE READ snapshot, writers go on, and everything "
            f"they write is drained. At each number of dead rows, the median time of {_LOOKS} drains of {_ROWS} "
            "rows each. The plain heap only deletes and returns its rows; paidwatch's statement also looks for "
            "the watches that they concern."
        ),
        header=("dead rows that VACUUM may not remove", *(number(mark) for mark in marks)),
        rows=[[names[layout], *(f"{cost:.2f} ms" for cost in middle[layout])] for layout in costs],
        findings=[
            Finding(
                what=f"draining {_ROWS} rows with an old snapshot open, after {number(marks[-1])} dead rows",
                target="flat",
                measured=f"{first:.2f} → {last:.2f} ms (plain heap {plain[0]:.2f} → {plain[-1]:.2f} ms)",
                met=last <= max(first * FLAT, first + SLACK),
            )
        ],
    )
