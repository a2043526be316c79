"""How much the daemon takes: a million missed payments, from its start to the last verdict, beside a job queue.

The payments become paid while no daemon runs, so a million rows wait in the inbox. Then the daemon starts: READY=1
comes after all of them have become watches; they are due at once, and the users have what they paid for. Between the
rounds a pgqueuer worker empties a queue on the same server with a handler that does nothing.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from pgqueuer import PgQueuer
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from bench.ground import Ground, progress, wait_until
from bench.report import Finding, Section, median, number

PAYMENTS = 1_000_000
SHOP = "inbox_full"
CATCH_UP = 30.0
TIMES = 5.0
BATCHES = (10, 100, 1000)
_CHUNKS = 100

_PAID = """
INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, transaction_id,
    status, completed_at, created_at, updated_at)
SELECT 1 + n % $2::integer, 'professional', 14.99, 'nowpayments', gen_random_uuid()::text,
    'completed', now(), now(), now()
FROM generate_series($3::integer, $4::integer) AS n
WHERE $1::integer > 0
"""
_LAST_ARE_CLOSED = """
SELECT count(*) = 100 FROM paidwatch.watch
WHERE payment_id > (SELECT max(id) - 100 FROM public.payment_transactions) AND state = 'closed'
"""
_TIMES = """
SELECT count(*) AS payments, count(*) FILTER (WHERE outcome = 'activated') AS activated,
    extract(epoch FROM max(noticed_at) - min(noticed_at))::float AS noticing,
    count(*) FILTER (WHERE noticed_at < (SELECT max(noticed_at) FROM paidwatch.watch)) AS noticed,
    extract(epoch FROM max(closed_at) - min(closed_at))::float AS closing,
    count(*) FILTER (WHERE closed_at < (SELECT max(closed_at) FROM paidwatch.watch)) AS closed
FROM paidwatch.watch
"""


async def fill_inbox(ground: Ground, payments: int) -> None:
    """Make the database `SHOP`: paidwatch is installed, no daemon runs, and `payments` wait in the inbox."""
    users = payments
    await ground.create_shop(SHOP, active=True, users=users)
    await ground.install(SHOP)
    progress(f"  {number(payments)} payments become paid while no daemon runs")
    async with ground.connected(SHOP) as connection:
        size = payments // _CHUNKS
        for chunk in range(_CHUNKS):
            await connection.execute(_PAID, payments, users, chunk * size + 1, (chunk + 1) * size, timeout=120)
        assert await connection.fetchval("SELECT count(*) FROM paidwatch.inbox") == payments
        await connection.execute("VACUUM ANALYZE public.payment_transactions", timeout=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One million payments, from the start of the daemon to the last verdict."""

    ready: float
    """Seconds from the start of the process to READY=1."""
    intake: float
    """Payments per second, by the times of the first and the last batch as the watches tell them."""
    settling: float

    @property
    def both(self) -> float:
        """Payments per second through one after the other."""
        return 1 / (1 / self.intake + 1 / self.settling)


async def catch_up(ground: Ground, payments: int) -> Round:
    """Start a daemon on a copy of `SHOP` and see it to the end of the work."""
    await ground.create("throughput", template=SHOP)
    await ground.settle()
    config = ground.configuration("throughput", '[grace]\ndefault = "0s"\n')
    async with ground.daemon(config) as daemon, ground.connected("throughput") as connection:
        await wait_until(connection, _LAST_ARE_CLOSED, limit=300, pause=0.25)
        await ground.until_asleep(connection)
        found = await connection.fetchrow(_TIMES, timeout=60)
        if not found["payments"] == found["activated"] == payments:
            raise AssertionError(f"{found['activated']} of {found['payments']} were settled as activated")
        return Round(
            ready=daemon.ready_after,
            intake=found["noticed"] / found["noticing"],
            settling=found["closed"] / found["closing"],
        )


async def queue_rate(ground: Ground, jobs: int, batch: int) -> float:
    """Return the jobs per second of one pgqueuer worker."""
    await ground.create("queue")
    async with ground.connected("queue") as connection:
        queue = PgQueuer.from_asyncpg_connection(connection)
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        chunk = 10_000
        for _ in range(jobs // chunk):
            await queries.enqueue(["payment"] * chunk, [b"1"] * chunk, [0] * chunk)
        await connection.execute("VACUUM ANALYZE")
        await ground.settle()

        @queue.entrypoint("payment")
        async def nothing(_job: object) -> None:
            """Do nothing: the queue's own cost is measured."""

        started = time.monotonic()
        await queue.run(dequeue_timeout=timedelta(seconds=1), batch_size=batch, mode=QueueExecutionMode.drain)
        return jobs / (time.monotonic() - started)


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    rounds, payments, jobs = (1, 100_000, 20_000) if quick else (3, PAYMENTS, 50_000)
    await fill_inbox(ground, payments)
    taken: list[Round] = []
    queue: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for turn in range(rounds):
        taken.append(await catch_up(ground, payments))
        progress(
            f"  round {turn + 1}: caught up in {taken[-1].ready:.1f} s; intake {number(taken[-1].intake)}/s,",
            f"settling {number(taken[-1].settling)}/s",
        )
        for batch in BATCHES:
            queue[batch].append(await queue_rate(ground, jobs, batch))
            progress(f"  round {turn + 1}: pgqueuer, batches of {batch}: {number(queue[batch][-1])} jobs/s")
    await ground.drop("throughput", "queue")
    return _section(payments, taken, queue)


def _section(payments: int, taken: list[Round], queue: dict[int, list[float]]) -> Section:
    best = max(queue, key=lambda batch: median(queue[batch]))
    name = f"pgqueuer {version('pgqueuer')}"
    parts = {
        "intake: inbox rows become watches": [one.intake for one in taken],
        "settling: claimed, judged, closed": [one.settling for one in taken],
        "both, one after the other": [one.both for one in taken],
    }
    times = {
        part: median([ours / theirs for ours, theirs in zip(rates, queue[best], strict=True)])
        for part, rates in parts.items()
    }
    catch = median([one.ready for one in taken])
    rows = [[part, f"{number(median(rates))}/s", f"{times[part]:.1f}"] for part, rates in parts.items()] + [
        [f"{name}, batches of {batch}", f"{number(median(rates))}/s", "1" if batch == best else ""]
        for batch, rates in queue.items()
    ]
    return Section(
        title="Intake and settling",
        method=(
            f"{len(taken)} rounds. {number(payments)} payments of as many users became paid while no daemon ran; "
            "then it was started as a process of its own. READY=1 comes when the inbox is empty and "
            "reconciliation has found nothing else. All payments are due at once, and their users have what they "
            "paid for. The rates are by the times that the watches carry. The job queue has one worker on one "
            "connection, in drain mode, and a handler that does nothing; its best batch size is the measure."
        ),
        header=("", "rate", "÷ job queue"),
        rows=rows,
        remarks=[f"Catching up took {catch:.1f} s, the start of the process and the reconciliation included."],
        findings=[
            Finding(
                what=f"catch-up of {number(payments)} inbox rows, start of the process included",
                target=f"≤ {CATCH_UP:.0f} s",
                measured=f"{catch:.1f} s",
                met=catch <= CATCH_UP,
            ),
            *(
                Finding(
                    what=f"{part.partition(':')[0]}, payments/s ÷ {name}'s jobs/s",
                    target=f"≥ {TIMES:.0f}" if ":" in part else "",
                    measured=f"{times[part]:.1f} ({number(median(rates))} ÷ {number(median(queue[best]))})",
                    met=times[part] >= TIMES if ":" in part else None,
                )
                for part, rates in parts.items()
            ),
        ],
    )
