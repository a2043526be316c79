"""A pooler in transaction mode, in small: after a LISTEN the client goes on with another connection of the server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import quote

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.postgres import Database

READY = b"Z"
QUERIES = b"QP"
EXECUTIONS = b"QE"
GONE = (
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    asyncio.IncompleteReadError,
    ConnectionError,
)
"""How the end of either side shows."""
Read = Callable[[int], Awaitable[bytes]]
"""Reads exactly so many bytes."""


@asynccontextmanager
async def pooler(database: Database) -> AsyncIterator[str]:
    """Yield an address behind which there is a pooler; needs the embedded server."""
    server = database.server.embedded
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def serve(client: SocketStream) -> None:
        async with client:
            await Client(client, f"{server.socket_directory}/.s.PGSQL.{server.port}").serve()

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)
        yield f"postgresql://postgres@127.0.0.1:{port}/{quote(database.name)}?sslmode=disable"
        group.cancel_scope.cancel()


class Client:
    """One client and the two connections that it is served by in turn."""

    def __init__(self, stream: SocketStream, socket: str) -> None:
        self._stream = stream
        self._socket = socket
        self._first_in_use = True
        self._parsed = False
        self._listened = False

    async def serve(self) -> None:
        requests = BufferedByteReceiveStream(self._stream).receive_exactly
        startup = await packet(requests)
        async with AsyncExitStack() as stack:
            first, answers_of_first = await stack.enter_async_context(self._backend())
            second, answers_of_second = await stack.enter_async_context(self._backend())
            for backend in (first, second):
                backend.write(startup)
            while (await message(answers_of_second))[:1] != READY:
                pass  # the greeting of the spare connection is nobody's business
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(self._answer, answers_of_first, True)
            group.start_soon(self._answer, answers_of_second, False)
            with suppress(*GONE):
                while True:
                    request = await message(requests)
                    self._look_for_listen(request)
                    (first if self._first_in_use else second).write(request)
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def _backend(self) -> AsyncIterator[tuple[asyncio.StreamWriter, Read]]:
        """Connect with asyncio: anyio's Unix sockets fail when they are cancelled just as something arrives."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            yield writer, reader.readexactly
        finally:
            writer.transport.abort()

    def _look_for_listen(self, request: bytes) -> None:
        """A LISTEN comes as a query, or is parsed first and executed later."""
        self._parsed |= request[:1] in QUERIES and b"LISTEN" in request
        self._listened |= self._parsed and request[:1] in EXECUTIONS

    async def _answer(self, answers: Read, is_first: bool) -> None:
        """Pass on what the connection in use says; what the other one has to say is lost, notifications too."""
        with suppress(*GONE):
            while True:
                answer = await message(answers)
                if is_first is self._first_in_use:
                    await self._stream.send(answer)
                if is_first and self._listened and answer[:1] == READY:
                    self._first_in_use = False


async def packet(read: Read) -> bytes:
    """Return the first thing a client says: its length, and the rest."""
    length = await read(4)
    return length + await read(int.from_bytes(length) - 4)


async def message(read: Read) -> bytes:
    """Return one message: its type, its length, and the rest."""
    return await read(1) + await packet(read)
