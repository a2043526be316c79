"""How late an alert is: from the end of the grace period to the moment a local HTTP sink has taken the request.

Customers pay at a steady rate and are never activated. The daemon is a process of its own; the channel is the generic
webhook with a pace that does not slow it down and without incidents, which would tell them together. Both ends are read
from this machine's clock.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from aiohttp import web
from anyio.abc import SocketAttribute, SocketStream

from bench.ground import Connection, Ground, progress
from bench.report import Finding, Section, median, quantile

PER_SECOND = 100
TARGET = 50.0
_GRACE = 2
TAKEN = "request accepted by the sink"
HANGING = 3
BESIDE = f"the same, while {HANGING} other channels accept and never answer"
MOVED = 250.0
"""Milliseconds by which channels that hang may move the 99th percentile."""
_UNTIL = """
SELECT w.payment_id::text, extract(epoch FROM w.grace_until)::float AS until,
    extract(epoch FROM a.opened_at)::float AS opened
FROM paidwatch.watch w JOIN paidwatch.alert a ON a.payment_id = w.payment_id
"""
_PAY = """
INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, transaction_id,
    status, completed_at, created_at, updated_at)
VALUES ($1, 'professional', 14.99, 'nowpayments', gen_random_uuid()::text, 'completed', now(), now(), now())
"""


class Sink:
    """An HTTP server that takes everything and remembers when."""

    def __init__(self) -> None:
        """Start empty."""
        self.taken: dict[int, float] = {}
        self.repeated = 0
        self._more = anyio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Note the time at which the whole request is there."""
        body: dict[str, Any] = await request.json()
        now = time.time()
        payment = int(body["data"]["facts"]["payment_id"])
        self.repeated += payment in self.taken
        self.taken.setdefault(payment, now)
        self._more.set()
        return web.Response(status=204)

    async def until(self, payments: int) -> None:
        """Wait until that many payments have been told."""
        while len(self.taken) < payments:
            self._more = anyio.Event()
            await self._more.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield the address."""
        app = web.Application()
        app.router.add_post("/sink", self.take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}/sink"
        finally:
            await runner.cleanup()


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    rounds, seconds = (1, 5) if quick else (3, 20)
    results = []
    await ground.create_shop("sink_shop", active=False)
    await ground.install("sink_shop")
    for turn in range(rounds):
        await ground.create("sink", template="sink_shop")
        late = await _round(ground, seconds, hanging=0)
        await ground.create("sink", template="sink_shop")
        late[BESIDE] = (await _round(ground, seconds, hanging=HANGING))[TAKEN]
        results.append(late)
        for station, spans in late.items():
            progress(
                f"  round {turn + 1}: {station}: p50 {quantile(spans, 0.5):.1f} ms, p99 {quantile(spans, 0.99):.1f} ms"
            )
    await ground.drop("sink", "sink_shop")
    return _section(results, seconds)


@asynccontextmanager
async def _silence() -> AsyncIterator[str]:
    """Yield an address that accepts connections and never says a word."""

    async def listen(stream: SocketStream) -> None:
        async with stream:
            while await stream.receive():
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, _unless_left(listen))
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/"
        group.cancel_scope.cancel()


def _unless_left(handle: Callable[[SocketStream], Awaitable[None]]) -> Callable[[SocketStream], Awaitable[None]]:
    async def handled(stream: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await handle(stream)

    return handled


async def _round(ground: Ground, seconds: int, *, hanging: int) -> dict[str, list[float]]:
    """Return how late each alert was at each station, in milliseconds."""
    sink = Sink()
    payments = seconds * PER_SECOND
    async with sink.serving() as url, _silence() as nowhere, ground.connected("sink") as connection:
        others = [f'[channels.hanging{n}]\ntype = "webhook"\nurl = "{nowhere}"\n' for n in range(hanging)]
        config = ground.configuration(
            "sink",
            f'[grace]\ndefault = "{_GRACE}s"\n[channels.sink]\ntype = "webhook"\nurl = "{url}"\npace = "1ms"\n'
            f'[alerts]\nstorm_threshold = 1000000\nstorm_window = "1ms"\n{"".join(others)}',
        )
        async with ground.daemon(config):
            await _pay(connection, payments)
            with anyio.fail_after(120):
                await sink.until(payments)
        if sink.repeated:
            raise AssertionError(f"{sink.repeated} payments were told more than once")
        rows = await connection.fetch(_UNTIL)
        return {
            "decided (start of the transaction)": [(row["opened"] - row["until"]) * 1e3 for row in rows],
            TAKEN: [(sink.taken[int(row["payment_id"])] - row["until"]) * 1e3 for row in rows],
        }


async def _pay(connection: Connection, payments: int) -> None:
    """Pay at a steady rate, each customer once."""
    statement = await connection.prepare(_PAY)
    started = anyio.current_time()
    for number in range(payments):
        await anyio.sleep_until(started + number / PER_SECOND)
        await statement.fetch(number + 1)


def _section(results: list[dict[str, list[float]]], seconds: int) -> Section:
    middle = {
        (station, share): median([quantile(late[station], share) for late in results])
        for station in results[0]
        for share in (0.5, 0.9, 0.99)
    }
    return Section(
        title="Grace end → the sink has the request",
        method=(
            f"{len(results)} rounds of {seconds} s with {PER_SECOND} gaps a second, each told by one request to an "
            "HTTP server on the same machine. Every gap was told exactly once."
        ),
        header=("from the end of the grace period", "p50", "p90", "p99", "worst of all rounds"),
        rows=[
            [
                station,
                *(f"{middle[station, share]:.1f} ms" for share in (0.5, 0.9, 0.99)),
                f"{max(max(late[station]) for late in results):.1f} ms",
            ]
            for station in results[0]
        ],
        findings=[
            Finding(
                what=f"grace end → request accepted, {PER_SECOND} gaps/s, p99",
                target=f"≤ {TARGET:.0f} ms",
                measured=f"{middle[TAKEN, 0.99]:.1f} ms (p50 {middle[TAKEN, 0.5]:.1f} ms)",
                met=middle[TAKEN, 0.99] <= TARGET,
            ),
            Finding(
                what=f"p99 of that, later while {HANGING} other channels hang",
                target=f"< {MOVED:.0f} ms",
                measured=f"{middle[BESIDE, 0.99] - middle[TAKEN, 0.99]:+.1f} ms",
                met=middle[BESIDE, 0.99] - middle[TAKEN, 0.99] < MOVED,
            ),
        ],
    )
