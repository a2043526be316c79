"""Where a drill is held: a database of its own on the configured server, or an embedded server of its own.

A schema beside the real one would not do: paidwatch's own schema, the locks by which one daemon leads, and the channels
of its notifications belong to a database, so a second installation in it would be the first one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream

from paidwatch.errors import Unreachable
from paidwatch.ops.demo_program import environment
from paidwatch.ops.drill_guard import LIMIT, READY
from paidwatch.ops.embedded import EmbeddedServer
from paidwatch.store import throwaway
from paidwatch.store.connect import Target

DSN_VARIABLE: Final = "PAIDWATCH_DATABASE__DSN"
_SLACK: Final = timedelta(seconds=5)
_GUARD_STARTS: Final = timedelta(seconds=15)
_EMBEDDED: Final = {"fsync": "off", "shared_buffers": "32MB"}


@dataclass(slots=True, kw_only=True)
class Place:
    """An empty database and a folder, as long as the drill lasts."""

    name: str
    """What to call it, without any address."""
    target: Target = field(repr=False)
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    """For the programs of the drill; it holds the address."""
    left: str = ""
    """Known at the end: what could not be removed, and why."""


@asynccontextmanager
async def on_the_server(target: Target) -> AsyncGenerator[Place]:
    """Make a database beside the configured one, and remove it at the end. Raises Refused or DatabaseError."""
    now = datetime.now(UTC)
    over = await throwaway.remove_abandoned(target, now)
    name = throwaway.new_name(now)
    folder = Path(await to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="paidwatch-drill-")))
    own = throwaway.within(target, name)
    variables = environment(os.environ, keep_postgres=True) | {DSN_VARIABLE: own.dsn}
    said = f"database {name}" + (f"; {len(over)} of drills long over removed" if over else "")
    place = Place(name=said, target=own, folder=folder, environment=variables)
    guard = await _guard(target, name, folder)
    try:
        await throwaway.make(target, name)
        yield place
    finally:
        place.left = await _dismiss(guard, name)


@asynccontextmanager
async def embedded() -> AsyncGenerator[Place]:
    """Start a PostgreSQL of the drill's own, and remove it at the end. Raises PaidwatchError where there is none."""
    server = await to_thread.run_sync(lambda: EmbeddedServer(settings=_EMBEDDED))
    try:
        await to_thread.run_sync(server.start)
        first = Target(dsn=server.dsn(), connect_timeout=LIMIT, statement_timeout=LIMIT)
        name = throwaway.new_name(datetime.now(UTC))
        await throwaway.make(first, name)
        own = Target(dsn=server.dsn(name), connect_timeout=LIMIT, statement_timeout=LIMIT)
        variables = environment(os.environ) | {DSN_VARIABLE: own.dsn}
        yield Place(name="a PostgreSQL of its own", target=own, folder=Path(server.home), environment=variables)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(server.close)


async def _guard(target: Target, name: str, folder: Path) -> Process:
    """Start the program that removes everything, and wait until it minds us."""
    process = await anyio.open_process(
        [sys.executable, "-m", "paidwatch.ops.drill_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(os.environ, keep_postgres=True),
        start_new_session=True,
    )
    order = json.dumps({"dsn": target.dsn, "database": name, "folder": str(folder)})
    with anyio.move_on_after(_GUARD_STARTS.total_seconds()):
        if process.stdin is not None and process.stdout is not None:
            try:
                await process.stdin.send(f"{order}\n".encode())
                await BufferedByteReceiveStream(process.stdout).receive_exactly(len(READY))
            except (anyio.BrokenResourceError, anyio.IncompleteRead):
                pass
            else:
                return process
    process.kill()
    message = "the program that cleans up after a drill does not start"
    raise Unreachable(message)


async def _dismiss(guard: Process, name: str) -> str:
    """Have everything removed; return what is left."""
    said = ""
    with anyio.CancelScope(shield=True), anyio.move_on_after((LIMIT + _SLACK).total_seconds()):
        if guard.stdin is not None:
            await guard.stdin.aclose()
        if guard.stdout is not None:
            async for text in TextReceiveStream(guard.stdout):
                said += text
        await guard.wait()
    with anyio.CancelScope(shield=True):
        await guard.aclose()
    if guard.returncode == 0:
        return ""
    return f"database {name} is still there ({said or 'its guard was killed'}); DROP DATABASE {name}"
