"""Servers that speak no protocol to the end: they hang, trickle, flood, or leave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

import anyio
from anyio.abc import SocketAttribute, SocketStream

DRIP = 0.02


class Manner(StrEnum):
    """How a server misbehaves."""

    HANGS = "hangs"
    """Takes the connection and says nothing."""
    TRICKLES = "trickles"
    """Answers one byte at a time, for ever."""
    FLOODS = "floods"
    """Answers without end."""
    LEAVES = "leaves"
    """Takes the connection and closes it."""
    LEAVES_AFTERWARDS = "leaves_afterwards"
    """Reads the request and closes without an answer."""
    BABBLES = "babbles"
    """Answers in no known protocol."""


@asynccontextmanager
async def misbehaving(manner: Manner, *, greeting: bytes) -> AsyncIterator[int]:
    """Yield the port of a server that starts every answer with `greeting`."""

    async def serve(stream: SocketStream) -> None:
        try:
            async with stream:
                await _misbehave(stream, manner, greeting)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def _misbehave(stream: SocketStream, manner: Manner, greeting: bytes) -> None:
    match manner:
        case Manner.HANGS:
            await anyio.sleep_forever()
        case Manner.TRICKLES:
            for byte in greeting:
                await stream.send(bytes([byte]))
            while True:
                await stream.send(b"x")
                await anyio.sleep(DRIP)
        case Manner.FLOODS:
            await stream.send(greeting)
            while True:
                await stream.send(b"x" * 65536)
        case Manner.LEAVES:
            return
        case Manner.LEAVES_AFTERWARDS:
            await stream.receive()
        case Manner.BABBLES:
            await stream.send(b"\x00\xff nothing that anybody speaks\r\n\r\n")
            await anyio.sleep_forever()
