"""How late the daemon hears of a payment when it was asleep: its own intake, beside a bare LISTEN callback.

A second process pays: it reads the system-wide monotonic clock and commits. Here, in one event loop, run the daemon's
ears, locks and intake on real connections to one database, and a plain LISTEN callback of a trigger that NOTIFYs on
another. The two take turns, payment by payment.
"""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.streams.text

from bench.ground import Ground, environment
from bench.one_payment import PENDING
from bench.report import Finding, Section, median, quantile
from bench.writers import notify
from paidwatch.clock import SystemClock
from paidwatch.config import load
from paidwatch.flow.intake import Intake, Rhythm
from paidwatch.flow.listen import Ears, Locks
from paidwatch.flow.signal import Signal
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store.connect import connect
from paidwatch.store.inbox import SESSION, Drained, Inbox
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of, target_of

TARGET = 1.0
_HEARD_WITHIN = 20.0
_WARM_UP = 20


class Arrival:
    """When the next payment arrived, on the monotonic clock in nanoseconds."""

    def __init__(self) -> None:
        """Wait for the first."""
        self.at = 0
        self._event = anyio.Event()

    def note(self, *_: object) -> None:
        """Take the time of the first arrival."""
        if not self.at:
            self.at = time.monotonic_ns()
            self._event.set()

    async def wait(self) -> int:
        """Return the time of the arrival and be ready for the next."""
        with anyio.fail_after(_HEARD_WITHIN):
            await self._event.wait()
        at, self.at, self._event = self.at, 0, anyio.Event()
        return at


@asynccontextmanager
async def intake(config: Path, arrival: Arrival) -> AsyncIterator[None]:
    """Run the daemon's own intake in this process."""
    settings = load(config, environ={})
    target, statements, clock = target_of(settings), Statements.load(), SystemClock()
    signal, status = Signal(), Status(clock=clock)

    def on_rows(drained: Drained) -> None:
        arrival.note(drained)

    ears, locks = Ears(target, statements, signal), Locks(target, statements)
    await ears.open()
    await locks.open(timedelta(seconds=3))
    reader = await connect(target, purpose="intake", settings=SESSION)
    policy = policy_of(settings)
    async with anyio.create_task_group() as group:
        group.start_soon(
            Intake(
                inbox=Inbox(reader, statements),
                locks=locks,
                signal=signal,
                policy=lambda: policy,
                rhythm=Rhythm(linger=settings.daemon.linger, drain_limit=timedelta(minutes=1), look=None),
                status=status,
                metrics=Metrics(status=status, version="", channels=()),
                on_rows=on_rows,
            ).run,
            name="intake",
        )
        yield
        group.cancel_scope.cancel()
    for part in (ears, locks):
        part.close()
    reader.terminate()


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    rounds, payments = (1, 30) if quick else (3, 200)
    total = _WARM_UP + rounds * payments
    await ground.create_shop("doorbell_shop", active=True, users=50_000)
    for database in ("doorbell_bare", "doorbell_ours"):
        await ground.create(database, template="doorbell_shop")
    await notify(ground, "doorbell_bare")
    config = await ground.install("doorbell_ours", '[grace]\ndefault = "1h"\n')
    bare, ours = Arrival(), Arrival()
    async with AsyncExitStack() as stack:
        watch = []
        for database in ("doorbell_bare", "doorbell_ours"):
            watch.append(await stack.enter_async_context(ground.connected(database)))
            await watch[-1].execute(PENDING, total)
        await watch[0].add_listener("payments", bare.note)
        await stack.enter_async_context(intake(config, ours))
        payer = await stack.enter_async_context(
            await anyio.open_process(
                (
                    sys.executable,
                    "-m",
                    "bench.one_payment",
                    *(ground.server.dsn(d) for d in ("doorbell_bare", "doorbell_ours")),
                ),
                env=environment(),
                stderr=None,
            )
        )
        samples = await _pay(ground, payer, (bare, ours), watch[1], total)
        assert payer.stdin is not None
        await payer.stdin.aclose()
    await ground.drop("doorbell_bare", "doorbell_ours", "doorbell_shop")
    return _section([side[_WARM_UP:] for side in samples], rounds, payments)


async def _pay(
    ground: Ground, payer: Any, arrivals: tuple[Arrival, Arrival], connection: Any, total: int
) -> list[list[float]]:
    """Return the latencies of both, in milliseconds."""
    samples: list[list[float]] = [[], []]
    answers = anyio.streams.text.TextReceiveStream(payer.stdout)
    rest = ""
    for _ in range(total):
        for number, arrival in enumerate(arrivals):
            await ground.until_asleep(connection)
            await payer.stdin.send(f"{number}\n".encode())
            while "\n" not in rest:
                rest += await answers.receive()
            line, _, rest = rest.partition("\n")
            samples[number].append((await arrival.wait() - int(line)) / 1e6)
    return samples


def _section(samples: list[list[float]], rounds: int, payments: int) -> Section:
    def of(side: list[float], share: float) -> list[float]:
        return [quantile(side[n * payments : (n + 1) * payments], share) for n in range(rounds)]

    bare, ours = samples
    later = {
        share: median([b - a for a, b in zip(of(bare, share), of(ours, share), strict=True)]) for share in (0.5, 0.99)
    }
    rows = [
        [name, *(f"{median(of(side, share)):.2f} ms" for share in (0.5, 0.99)), f"{max(side):.2f} ms"]
        for name, side in (("bare LISTEN callback", bare), ("paidwatch, asleep before: the drain has returned", ours))
    ]
    rows.append(["later than the bare callback", *(f"{later[share]:.2f} ms" for share in (0.5, 0.99)), ""])
    return Section(
        title="Commit → the daemon has the row",
        method=(
            f"{rounds} rounds of {payments} payments, one at a time, each after the daemon had fallen asleep "
            "again. Time zero is the monotonic clock of the paying process right before it sends COMMIT. The bare "
            "callback of a NOTIFY in a trigger counts when it is called; paidwatch's intake (its own code and "
            "connections) when the drain that holds the row has returned: one round trip more, and the row is "
            "committed as a watch."
        ),
        header=("", "p50", "p99", "worst"),
        rows=rows,
        findings=[
            Finding(
                what="commit → the daemon has the row, asleep before: p99 behind a bare LISTEN callback",
                target=f"≤ {TARGET:.0f} ms",
                measured=f"{later[0.99]:.2f} ms (p50 {later[0.5]:.2f} ms)",
                met=later[0.99] <= TARGET,
            )
        ],
    )
