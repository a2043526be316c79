"""Who may be connected, and for how long without asking for anything: slow clients keep nobody else out.

A connection waits for its client while a request, or the rest of one, is to come. One that has not sent the head of a
request in time is closed, with 408 where something of it had come, and so is one that stays idle. The number of
connections is bounded, over all and for each client; where a bound is reached, the oldest of those that wait makes room
for the new one, and only where all of them are being served is the new one turned away. Streams and slow answers
are not touched: there it is the client that waits for us.

Bodies have limits of their own where they are read, and aiohttp gives what is never read ten seconds.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from aiohttp import web

from paidwatch.web.rate import Network, client, is_in

_TOO_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long connections may take, and how many there may be."""

    head: timedelta = timedelta(seconds=10)
    """From connecting, and later from the first byte of a request, to the end of its headers."""
    idle: timedelta = timedelta(seconds=75)
    """From an answer to the next request; longer than nginx keeps a connection (60 s), so that nginx is to end it."""
    untaken: timedelta = timedelta(seconds=30)
    """For so long a client may leave what is sent to it; after that the kernel ends the connection."""
    total: int = 800
    """More would not leave enough of the 1024 files that a process may open."""
    per_client: int = 100
    """From one address that is no trusted proxy."""


class Connections:
    """The connections that are open, in the order in which they came."""

    def __init__(self, bounds: Bounds | None = None, trusted: Sequence[Network] = ()) -> None:
        """Start without any; `trusted` are proxies, through which any number of clients come."""
        self.bounds = bounds or Bounds()
        self._trusted = trusted
        self._open: dict[Connection, str] = {}
        self._by_client: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def make(self, server: web.Server, **options: Any) -> "Connection":  # noqa: ANN401  aiohttp's own options
        """Return what speaks HTTP on one new connection."""
        return Connection(self, server, **options)

    def admit(self, connection: "Connection", transport: asyncio.Transport) -> bool:
        """Count a new connection; False: there is no room for it."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else None
        behind = "" if is_in(address, self._trusted) else client(address, (), ())
        theirs = self._by_client.get(behind, {}) if behind else {}
        for crowd, most in ((theirs, self.bounds.per_client), (self._open, self.bounds.total)):
            if len(crowd) >= most and not self._make_room(crowd):
                return False
        self._open[connection] = behind
        if behind:
            self._by_client.setdefault(behind, {})[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        """Count a connection no longer."""
        behind = self._open.pop(connection, "")
        if behind and (theirs := self._by_client[behind]):
            del theirs[connection]
            if not theirs:
                del self._by_client[behind]

    def _make_room(self, crowd: Iterable["Connection"]) -> bool:
        oldest = next((one for one in crowd if one.waits()), None)
        if oldest is None:
            return False
        oldest.give_up()
        return True


class Connection(web.RequestHandler):
    """One connection; what it adds to aiohttp's is the patience with its client."""

    __slots__ = ("_begun", "_connections", "_deadline")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:  # noqa: ANN401
        """Speak for `server` as one of the `connections`."""
        loop = asyncio.get_running_loop()
        idle = connections.bounds.idle.total_seconds()
        super().__init__(server, loop=loop, keepalive_timeout=idle, **options)
        self._connections = connections
        self._begun = False
        """Something of the next request has come."""
        self._deadline: asyncio.TimerHandle | None = None

    def waits(self) -> bool:
        """Say whether the client is to do something: to send a request, or the rest of its body."""
        request = self._current_request
        return self._waits_for_head() or (request is not None and not request.content.is_eof())

    def give_up(self) -> None:
        """End the connection, and say so to a client that has begun a request."""
        self._connections.leave(self)
        transport = self.transport
        if transport is not None and self._begun and not transport.is_closing():
            transport.write(_TOO_LATE)
        self.force_close()
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()  # a client that takes nothing would keep it open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        real = cast(asyncio.Transport, transport)
        if not self._connections.admit(self, real):
            real.write(_TOO_MANY)
            real.close()
            return
        untaken = round(self._connections.bounds.untaken / timedelta(milliseconds=1))
        real.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, untaken)
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; the head of a request is to be whole in time, however often something of it comes."""
        super().data_received(data)
        if not self._waits_for_head():
            self._begun = False
            self._forget_deadline()
        elif data:
            self._begun = True
            if self._deadline is None:
                self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._forget_deadline()
        self._connections.leave(self)
        super().connection_lost(exc)

    def _waits_for_head(self) -> bool:
        # aiohttp's own mark of a connection on which nothing is under way; its limit for idle ones goes by it, too.
        return self._waiter is not None and not self._waiter.done()

    def _expect_head(self) -> None:
        self._deadline = self._loop.call_later(self._connections.bounds.head.total_seconds(), self._too_late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._waits_for_head():
            self.give_up()
