"""Fixtures for every tier: the server, a fresh database of a given shape, and servers that a test may break."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext

import anyio
import pytest
from blockbuster import blockbuster_ctx

from paidwatch.ops.embedded import EmbeddedServer
from tests.support.daemon import STARTER
from tests.support.postgres import TEST_DSN, Database, Server, embedded

MAY_BLOCK = ["paidwatch.ops.embedded", "paidwatch.ops.embedded_programs", "paidwatch.ops.shop"]
"""Modules that say they block: the flow calls them from a thread; a test has nothing else to do and just calls them."""

REAL = {"acceptance", "chaos"}
"""The tiers that start what users start: an interpreter for each command and each daemon. The others fork them."""

OwnServer = Callable[..., EmbeddedServer]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def never_block_the_loop() -> Iterator[None]:
    """A file read, a time.sleep, a blocking socket inside the event loop raises, where paidwatch's own code does it."""
    with blockbuster_ctx("paidwatch", excluded_modules=MAY_BLOCK) as watched:
        for function in watched.functions.values():
            # asyncpg looks for ~/.pgpass and certificates while it connects.
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
        yield


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """The server that the first command of this test process starts ends with the last test."""
    yield
    STARTER.close()


@pytest.fixture(autouse=True)
def started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say how this test starts commands."""
    with STARTER.real() if REAL.intersection(request.path.parts) else nullcontext():
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this test process; under xdist every worker has its own."""
    if running := os.environ.get(TEST_DSN):
        shared = Server(running)
        yield shared
        anyio.run(shared.drop_templates)
        return
    with embedded() as own:
        yield Server(own)


@pytest.fixture
def shape() -> str:
    """The application's schema; `@pytest.mark.parametrize("shape", ["L", "M", "X"])` asks for others, "" for none."""
    return "F"


@pytest.fixture
async def database(server: Server, shape: str) -> AsyncIterator[Database]:
    """A fresh database with the application's tables, gone after the test."""
    fresh = await server.create(shape)
    yield fresh
    await server.drop(fresh)


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """Start servers that the test may stop, kill and copy: `own_server(settings=…, copy_of=…)`."""
    with ExitStack() as stack:

        def start(
            settings: Mapping[str, str] | None = None, *, copy_of: EmbeddedServer | None = None
        ) -> EmbeddedServer:
            return stack.enter_context(embedded(settings, copy_of=copy_of))

        yield start
