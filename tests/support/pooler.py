"""A pooler in transaction mode, in small: after a LISTEN the client goes on with another connection of the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.postgres import Database

READY = b"Z"
QUERIES = b"QP"
EXECUTIONS = b"QE"
GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""How the end of either side shows."""


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
        requests = BufferedByteReceiveStream(self._stream)
        startup = await packet(requests)
        async with await anyio.connect_unix(self._socket) as first, await anyio.connect_unix(self._socket) as second:
            for backend in (first, second):
                await backend.send(startup)
            answers = BufferedByteReceiveStream(second)
            while (await message(answers))[:1] != READY:
                pass  # the greeting of the spare connection is nobody's business
            async with anyio.create_task_group() as group:
                group.start_soon(self._answer, BufferedByteReceiveStream(first), True)
                group.start_soon(self._answer, answers, False)
                with suppress(*GONE):
                    while True:
                        request = await message(requests)
                        self._look_for_listen(request)
                        await (first if self._first_in_use else second).send(request)
                group.cancel_scope.cancel()

    def _look_for_listen(self, request: bytes) -> None:
        """A LISTEN comes as a query, or is parsed first and executed later."""
        self._parsed |= request[:1] in QUERIES and b"LISTEN" in request
        self._listened |= self._parsed and request[:1] in EXECUTIONS

    async def _answer(self, answers: BufferedByteReceiveStream, is_first: bool) -> None:
        """Pass on what the connection in use says; what the other one has to say is lost, notifications too."""
        with suppress(*GONE):
            while True:
                answer = await message(answers)
                if is_first is self._first_in_use:
                    await self._stream.send(answer)
                if is_first and self._listened and answer[:1] == READY:
                    self._first_in_use = False


async def packet(stream: BufferedByteReceiveStream) -> bytes:
    """Return the first thing a client says: its length, and the rest."""
    length = await stream.receive_exactly(4)
    return length + await stream.receive_exactly(int.from_bytes(length) - 4)


async def message(stream: BufferedByteReceiveStream) -> bytes:
    """Return one message: its type, its length, and the rest."""
    return await stream.receive_exactly(1) + await packet(stream)
