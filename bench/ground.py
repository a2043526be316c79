"""The ground that every measurement stands on: one PostgreSQL with a disk behind it, and real daemon processes.

Nothing is switched off to look faster: fsync, synchronous_commit, full_page_writes and autovacuum are as PostgreSQL
ships them. Checkpoints are far apart, and one is made before each measurement, so that none falls into one by chance.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from paidwatch.ops.embedded import EmbeddedServer
from paidwatch.ops.shop import shop_sql

Connection = Any
"""An asyncpg connection."""

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "max_connections": "100",
}
USERS = 300_000
_READY = 180.0
_ASLEEP = 120.0

_USERS = """
INSERT INTO public.users (email, username, hashed_password, is_active, is_admin, subscription_status,
    subscription_tier, plan_id, payment_due_date, subscription_renewal_date, current_period_end, trial_used,
    created_at, updated_at)
SELECT 'user' || n || '@example.org', 'user' || n, 'no hash', true, false,
    CASE WHEN $2 THEN 'active' ELSE 'inactive' END, CASE WHEN $2 THEN 'professional' ELSE 'free' END,
    CASE WHEN $2 THEN 'professional' END, t.until, t.until, t.until, false, now(), now()
FROM generate_series(1, $1::integer) AS n
CROSS JOIN (SELECT CASE WHEN $2 THEN now() + interval '40 days' END AS until) t
"""


@dataclass(slots=True, kw_only=True)
class Daemon:
    """A running `paidwatch run`."""

    process: subprocess.Popen[bytes]
    ready_after: float
    """Seconds from the start of the process to READY=1: LISTEN is proven and everything missed is caught up."""

    def status(self, field: str) -> int:
        """Return a field of the kernel's own account of the process, in kB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise LookupError(field)


class Ground:
    """The server of one run, and what is built on it."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        """Take a started server and a directory for configurations and logs."""
        self.server = server
        self.folder = folder
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def connected(self, database: str = "postgres", **settings: str) -> AsyncIterator[Connection]:
        """Yield a connection of our own."""
        connection = await asyncpg.connect(self.server.dsn(database), timeout=20, server_settings=settings)
        try:
            yield connection
        finally:
            connection.terminate()

    async def create(self, database: str, *, template: str = "template0") -> None:
        """Make a database, instead of an earlier one of that name."""
        async with self.connected() as connection:
            await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY file_copy')

    async def drop(self, *databases: str) -> None:
        """Remove databases and what is left in them."""
        async with self.connected() as connection:
            for database in databases:
                await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    async def create_shop(self, database: str, *, active: bool, users: int = USERS) -> None:
        """Make the sample shop with users who have what they will pay for (`active`), or have not."""
        await self.create(database)
        async with self.connected(database) as connection:
            await connection.execute(await anyio.to_thread.run_sync(shop_sql))
            await connection.execute(_USERS, users, active)
            await connection.execute("VACUUM ANALYZE")

    async def settle(self) -> None:
        """Write out what earlier measurements left to be written."""
        async with self.connected() as connection:
            await connection.execute("CHECKPOINT")

    # The daemon

    def configuration(self, database: str, extra: str = "", *, listen: str = "") -> Path:
        """Write a configuration for a database; `extra` is TOML. HTTP is off unless asked for, the log is a file."""
        path = self.folder / f"{next(self._numbers)}.toml"
        path.write_text(
            f'[database]\ndsn = "{self.server.dsn(database)}"\n[http]\nlisten = "{listen}"\n'
            f'[log]\nformat = "json"\nlevel = "warning"\n{extra}\n',
            encoding="utf-8",
        )
        return path

    def paidwatch(self, *words: str) -> None:
        """Run a command of paidwatch to its end."""
        command = (sys.executable, "-m", "paidwatch", *words)
        subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=300)

    async def install(self, database: str, extra: str = "") -> Path:
        """Install paidwatch, let a first daemon take its baseline, and return the configuration."""
        config = self.configuration(database, extra)
        await anyio.to_thread.run_sync(self.paidwatch, "install", "--config", str(config))
        async with self.daemon(config):
            pass
        return config

    @asynccontextmanager
    async def daemon(self, config: Path) -> AsyncIterator[Daemon]:
        """Run the daemon as a process of its own, from READY=1 to its clean end."""
        address = self.folder / f"{next(self._numbers)}.notify"
        log = config.with_suffix(".log")
        async with await anyio.create_unix_datagram_socket(local_path=address) as manager:
            with log.open("ab") as sink:
                started = anyio.current_time()
                process = subprocess.Popen(
                    (sys.executable, "-m", "paidwatch", "run", "--config", str(config)),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=environment() | {"NOTIFY_SOCKET": str(address)},
                )
            try:
                await _await_ready(manager, process, log)
                yield Daemon(process=process, ready_after=anyio.current_time() - started)
                process.send_signal(signal.SIGTERM)
                code = await anyio.to_thread.run_sync(process.wait, 60)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if code:
            raise RuntimeError(f"the daemon ended with {code}: {log.read_text(encoding='utf-8')[-2000:]}")

    async def until_asleep(self, connection: Connection) -> None:
        """Wait until the daemon of the connection's database has read the inbox empty and holds the bell."""
        await wait_until(connection, _BELL_HELD, limit=_ASLEEP)


_BELL_HELD = """
SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = paidwatch.bell()
) AND NOT EXISTS (SELECT FROM paidwatch.inbox)
"""


async def wait_until(connection: Connection, sql: str, *, limit: float, pause: float = 0.01) -> None:
    """Ask again and again until the answer is true: the server has nothing to wait for that would not disturb."""
    with anyio.fail_after(limit):
        while not await connection.fetchval(sql):  # noqa: ASYNC110  it asks a server
            await anyio.sleep(pause)


async def _await_ready(manager: Any, process: "subprocess.Popen[bytes]", log: Path) -> None:
    with anyio.move_on_after(_READY):
        while process.poll() is None:
            with anyio.move_on_after(1):
                said, _ = await manager.receive()
                if b"READY=1" in said.split(b"\n"):
                    return
    raise RuntimeError(f"the daemon did not get ready: {log.read_text(encoding='utf-8')[-2000:]}")


def environment() -> dict[str, str]:
    """Return our environment without anything that configures paidwatch or PostgreSQL's clients."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PAIDWATCH_", "PG"))}


@contextmanager
def ground(base: Path | None = None, settings: dict[str, str] | None = None) -> Iterator[Ground]:
    """Start a server in a temporary directory (of `base`, else of the system's) and end it afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="paidwatch-bench-") as folder,
        EmbeddedServer(settings=SETTINGS | (settings or {}), base=base) as server,
    ):
        yield Ground(server, Path(folder))


def progress(*words: object) -> None:
    """Tell whoever waits how far it is."""
    print(*words, file=sys.stderr, flush=True)
