"""Fixtures of the tiers that start the real daemon: an installed database, a receiver of messages, and a starter."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Sections, configuration, installed, running
from tests.support.forked import PAIDWATCH
from tests.support.postgres import Database, Server
from tests.support.sink import Sink, sink

Start = Callable[..., AbstractAsyncContextManager[Daemon]]
CRASHING = "tests.support.crash_main"


@pytest.fixture
async def told() -> AsyncIterator[Sink]:
    async with sink() as receiver:
        yield receiver


@pytest.fixture
async def watched(server: Server, shape: str) -> AsyncIterator[Database]:
    """A fresh database of the shape, with paidwatch installed and nothing in it yet."""
    fresh = await installed(server, shape)
    yield fresh
    await server.drop(fresh)


@pytest.fixture
def start(watched: Database, told: Sink, tmp_path: Path) -> Start:
    """`async with start({"grace": {"default": "2s"}}) as daemon:` runs one on the database.

    With `crash="POINT"` it kills itself there.
    """
    count = 0

    def starter(
        *extra: Sections, dsn: str | None = None, crash: str | None = None, database: Database | None = None
    ) -> AbstractAsyncContextManager[Daemon]:
        nonlocal count
        count += 1
        file = tmp_path / f"paidwatch{count}.toml"
        file.touch(mode=0o600)
        file.write_text(configuration(database or watched, told, *extra, dsn=dsn))
        return running(file, program=PAIDWATCH if crash is None else ("-m", CRASHING, crash))

    return starter
