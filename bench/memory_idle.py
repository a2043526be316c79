"""What the daemon costs when nothing happens: its memory with a million open watches, and what it asks of the server.

Every statement of a session is written to the server's log here; the daemon's sessions call themselves `paidwatch …`.
"""

from pathlib import Path

import anyio

from bench.ground import Ground, progress, wait_until
from bench.one_payment import PENDING
from bench.report import Finding, Section, number
from bench.throughput import PAYMENTS, SHOP, fill_inbox

MEMORY = 100 * 1024
"""kB."""
_DATABASE = "idle"


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    seconds, payments = (5, 100_000) if quick else (60, PAYMENTS)
    if not await exists(ground, SHOP):
        await fill_inbox(ground, payments)
    await ground.create(_DATABASE, template=SHOP)
    async with ground.connected() as connection:
        await connection.execute(f"ALTER DATABASE {_DATABASE} SET log_statement = 'all'")
    config = ground.configuration(_DATABASE, '[grace]\ndefault = "30d"\n')
    async with (
        ground.daemon(config) as daemon,
        ground.connected(_DATABASE, log_statement="none") as connection,
    ):
        await ground.until_asleep(connection)
        watches = await connection.fetchval(
            "SELECT count(*) FROM paidwatch.watch WHERE state = 'waiting' AND due_at > now()"
        )
        if watches != payments:
            raise AssertionError(f"{watches} of {payments} watches are open")
        resident, peak = daemon.status("VmRSS"), daemon.status("VmHWM")
        progress(f"  {number(watches)} open watches, {resident // 1024} MiB; idle for {seconds} s")
        before = statements(ground.server.log_path)
        await anyio.sleep(seconds)
        idle = statements(ground.server.log_path) - before
        # The count must be one that can be wrong: a payment has to show in it.
        await connection.execute(PENDING, 1)
        await connection.execute("UPDATE public.payment_transactions SET status = 'completed' WHERE status = 'pending'")
        await wait_until(connection, f"SELECT count(*) > {payments} FROM paidwatch.watch", limit=20)
        await ground.until_asleep(connection)
        one = statements(ground.server.log_path) - before - idle
        if one < 1:
            raise AssertionError("the daemon's statements do not show in the server's log")
    await ground.drop(_DATABASE)
    return _section(watches, resident, peak, seconds, idle, one)


async def exists(ground: Ground, database: str) -> bool:
    """Say whether another measurement has left its database for us."""
    async with ground.connected() as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database))


def statements(log: Path) -> int:
    """Count what the daemon's sessions have sent."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        mark = f" {_DATABASE} paidwatch "
        return sum(mark in line and (" statement: " in line or " execute " in line) for line in lines)


def _section(watches: int, resident: int, peak: int, seconds: int, idle: int, one: int) -> Section:
    return Section(
        title="Memory and idleness",
        method=(
            f"A daemon that has taken in {number(watches)} payments whose grace period lasts on. Resident memory "
            "is the kernel's VmRSS of the process; statements are counted in the server's log (`log_statement = "
            "all`) by the daemon's application name."
        ),
        header=("", ""),
        rows=[
            ["open watches", number(watches)],
            ["resident memory, after the intake", f"{resident / 1024:.0f} MiB"],
            ["highest resident memory, during the intake", f"{peak / 1024:.0f} MiB"],
            [f"statements sent in {seconds} idle seconds", str(idle)],
            ["statements sent for one payment, until asleep again", str(one)],
        ],
        findings=[
            Finding(
                what=f"resident memory with {number(watches)} open watches",
                target=f"≤ {MEMORY // 1024} MiB",
                measured=f"{resident / 1024:.0f} MiB",
                met=resident <= MEMORY,
            ),
            Finding(
                what=f"statements sent in {seconds} idle seconds with open watches not due",
                target="0",
                measured=str(idle),
                met=idle == 0,
            ),
        ],
    )
