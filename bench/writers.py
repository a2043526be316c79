"""How much slower payments get: pgbench with paidwatch's triggers and a running daemon, beside other ways to be told.

One payment is what an application does: insert it as pending, and later set it to completed. The variants take turns,
so that whatever else the machine does meets them all.
"""

import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import anyio
from pgqueuer.queries import Queries
from procrastinate.schema import SchemaManager

from bench.ground import USERS, Ground, progress
from bench.report import Finding, Section, median, number, wrapped

TARGET = 0.80
KNOWN = 0.65
"""What is reached of it where two processors have to serve writers and daemon at once, less the noise between runs."""
MISSED = """\
The target is missed at 32 clients on a machine whose processors are all busy, because there every microsecond of the
trigger, of the daemon and of its sessions is taken from the writers. Measured alone, in one session without commits, a
payment takes 33 µs without triggers and 46 µs with them: 3.5 µs for the index of recent paid payments (which spares
`check` and the search after an outage the whole table), 3.5 µs because the condition of the insert trigger is parsed by
every statement, 1 µs for the subtransaction that keeps an error from the payment, and 5 µs for the inbox row, its index
entry and the bell. The daemon and its sessions take about 15 µs of processor time per payment: with the triggers in
place and no daemon at all the ratio was 0.82 (four rounds, 0.73 to 0.89), beside 0.73 with it. Without the index on the
inbox, without the subtransaction, without the bell and with other indexes on the payments there was no gain beyond the
noise between rounds. What is left is what the promises cost."""

_INSERT = """\\set user random(1, {users})
INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, transaction_id, status,
    created_at, updated_at)
VALUES (:user, 'professional', 14.99, 'nowpayments', gen_random_uuid()::text, 'pending', now(), now())
RETURNING id \\gset
"""
_UPDATE = "UPDATE public.payment_transactions SET status = 'completed', completed_at = now() WHERE id = :id;\n"
TWO = "two transactions"
ONE = "one transaction"
SCRIPTS = {TWO: _INSERT + _UPDATE, ONE: "BEGIN;\n" + _INSERT + _UPDATE + "COMMIT;\n"}
CASES = ((TWO, 1), (TWO, 8), (TWO, 32), (ONE, 32))
"""What applications do is two transactions; in one, there is one commit to pay for instead of two."""
COUNTED = ((TWO, 32), (ONE, 32))
Case = tuple[str, int]

_TRIGGER = """
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $tell$ BEGIN {body} RETURN NULL; END $tell$;
CREATE TRIGGER tell AFTER UPDATE ON public.payment_transactions FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status = 'completed') EXECUTE FUNCTION public.tell();
"""
_PGQUEUER = """
CREATE FUNCTION public.enqueue(integer[], text[], bytea[], interval[], text[], jsonb[]) RETURNS void
LANGUAGE plpgsql AS $enqueue$
DECLARE _ord bigint; _id bigint;
BEGIN {query} INTO _ord, _id; END $enqueue$;
"""
_PGQUEUER_CALL = """PERFORM public.enqueue(ARRAY[0], ARRAY['payment'], ARRAY[convert_to(NEW.id::text, 'UTF8')],
    ARRAY[interval '0'], ARRAY[NULL::text], ARRAY[NULL::jsonb]);"""
_PROCRASTINATE_CALL = """PERFORM public.procrastinate_defer_jobs_v1(ARRAY[ROW('default', 'payment', 0, NULL, NULL,
    jsonb_build_object('payment_id', NEW.id), NULL)::public.procrastinate_job_to_defer_v1]);"""


async def _nothing(_ground: Ground, _database: str) -> None:
    """Take the shop as it is."""


async def notify(ground: Ground, database: str) -> None:
    async with ground.connected(database) as connection:
        await connection.execute(_TRIGGER.format(body="PERFORM pg_notify('payments', NEW.id::text);"))


async def _pgqueuer(ground: Ground, database: str) -> None:
    async with ground.connected(database) as connection:
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        await connection.execute(_PGQUEUER.format(query=queries.qbq.build_enqueue_query()))
        await connection.execute(_TRIGGER.format(body=_PGQUEUER_CALL))


async def _procrastinate(ground: Ground, database: str) -> None:
    async with ground.connected(database) as connection:
        await connection.execute(SchemaManager.get_schema())
        await connection.execute(_TRIGGER.format(body=_PROCRASTINATE_CALL))


@asynccontextmanager
async def _paidwatch(ground: Ground, database: str, extra: str) -> AsyncIterator[None]:
    config = await ground.install(database, extra)
    async with ground.daemon(config):
        yield


@asynccontextmanager
async def _listener(ground: Ground, database: str) -> AsyncIterator[None]:
    def heard(*_: object) -> None:
        """Do nothing with it: the cheapest listener there is."""

    async with ground.connected(database) as connection:
        await connection.add_listener("payments", heard)
        yield


NONE = "no trigger"
OURS = "paidwatch"
SETTLING = "paidwatch, settling meanwhile"
NOTIFY = "NOTIFY per payment"
PGQUEUER = f"job into pgqueuer {version('pgqueuer')}"
PROCRASTINATE = f"job into procrastinate {version('procrastinate')}"
VARIANTS: dict[str, Callable[[Ground, str], Awaitable[None]]] = {
    NONE: _nothing,
    OURS: _nothing,
    SETTLING: _nothing,
    NOTIFY: notify,
    PGQUEUER: _pgqueuer,
    PROCRASTINATE: _procrastinate,
}


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    seconds, rounds = (1, 1) if quick else (5, 3)
    names = [f"writers_{number}" for number in range(len(VARIANTS))]
    await ground.create_shop("writers_shop", active=True)
    async with AsyncExitStack() as stack:
        for database, (variant, prepare) in zip(names, VARIANTS.items(), strict=True):
            await ground.create(database, template="writers_shop")
            await prepare(ground, database)
            if variant in {OURS, SETTLING}:
                grace = "1h" if variant == OURS else "0s"
                await stack.enter_async_context(_paidwatch(ground, database, f'[grace]\ndefault = "{grace}"\n'))
            if variant == NOTIFY:
                await stack.enter_async_context(_listener(ground, database))
        rates = await _take_turns(ground, dict(zip(VARIANTS, names, strict=True)), seconds, rounds)
    await ground.drop(*names, "writers_shop")
    return _section(rates, seconds, rounds)


async def _take_turns(
    ground: Ground, databases: dict[str, str], seconds: int, rounds: int
) -> dict[tuple[str, Case], list[float]]:
    rates: dict[tuple[str, Case], list[float]] = {}
    path = ground.folder / "payments.pgbench"
    for script, clients in CASES:
        path.write_text(SCRIPTS[script].format(users=USERS), encoding="utf-8")
        await ground.settle()
        for turn in range(rounds):
            for variant, database in databases.items():
                rate = await anyio.to_thread.run_sync(pgbench, ground, database, path, clients, seconds)
                rates.setdefault((variant, (script, clients)), []).append(rate)
                progress(f"  {clients:2} clients, {script}, round {turn + 1}: {variant}: {number(rate)}/s")
                if variant in {OURS, SETTLING}:
                    async with ground.connected(database) as connection:
                        await ground.until_asleep(connection)  # so that it does nothing in the turns of the others
    return rates


def pgbench(ground: Ground, database: str, script: Path, clients: int, seconds: int) -> float:
    """Return payments per second."""
    command = (
        str(ground.server.bin("pgbench")),
        *("--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(clients, 2)}"),
        *(f"--time={seconds}", f"--file={script}", ground.server.dsn(database)),
    )
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if found is None or "number of failed transactions: 0" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return float(found[1])


def _section(rates: dict[tuple[str, Case], list[float]], seconds: int, rounds: int) -> Section:
    def ratio(variant: str, case: Case) -> float:
        pairs = zip(rates[variant, case], rates[NONE, case], strict=True)
        return median([theirs / bare for theirs, bare in pairs])

    def cell(variant: str, case: Case) -> str:
        share = "" if variant == NONE else f" ({ratio(variant, case):.2f})"
        return number(median(rates[variant, case])) + share

    def beside(case: Case) -> str:
        return ", ".join(f"{variant} {ratio(variant, case):.2f}" for variant in (NOTIFY, PGQUEUER, PROCRASTINATE))

    return Section(
        title="Writers",
        method=(
            f"{rounds} rounds of {seconds} s for each number of clients, the variants in turns. A payment is "
            "inserted as pending and set to completed, with prepared statements. paidwatch's "
            "daemon runs and takes everything in; *settling meanwhile* means a grace of nothing, so that it also "
            "judges and closes every payment in the same seconds. The NOTIFY has one idle listener; the job "
            "queues have no worker, which favours them. The ratio is to the round without triggers just before."
        ),
        header=("payments per second (ratio)", *(f"{clients} clients, {script}" for script, clients in CASES)),
        rows=[[variant, *(cell(variant, case) for case in CASES)] for variant in VARIANTS],
        findings=[
            Finding(
                what=f"writers with triggers and a running daemon ÷ without, {clients} clients, {script}",
                target=f"≥ {TARGET:.2f}",
                measured=f"{ratio(OURS, (script, clients)):.2f} ({beside((script, clients))})",
                met=ratio(OURS, (script, clients)) >= TARGET,
                known=KNOWN <= ratio(OURS, (script, clients)) < TARGET,
            )
            for script, clients in COUNTED
        ],
        remarks=[] if all(ratio(OURS, case) >= TARGET for case in COUNTED) else [wrapped(MISSED)],
    )
