"""The HTTP application and its server: built once, run in a task group, ended by cancelling."""

import asyncio
import errno
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
from aiohttp import web
from anyio.abc import TaskStatus

from paidwatch.errors import ConfigError, PaidwatchError
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.web.access import answer_for_errors, guard, plain_headers
from paidwatch.web.connections import Connections
from paidwatch.web.health import add_health

PUBLIC = frozenset(
    {
        "/healthz",
        "/webhooks/{provider}",
        "/payment/return",
        "/v1/session/{id}",
        "/v1/session/{id}/events",
    }
)
"""Patterns of the paths that need no token anywhere; a route added later under one of them is public."""

_BODY_LIMIT = 1024 * 1024
"""Bytes of a request's body; providers send a few kilobytes."""
_BACKLOG = 128
"""Connections that the kernel holds, and that are accepted at once, before any of them is counted: few against all."""
_LAST_REQUESTS = timedelta(seconds=2)
"""How long requests under way may still take once the server is cancelled."""
_RELEASE = timedelta(seconds=10)
"""After this long the sockets are left to the end of the process."""


def build_app(status: Status, metrics: Metrics, token: str, *, loopback: bool) -> web.Application:
    """Build the application; further pages are added to what is returned, before it is served.

    `loopback` says that only this machine can reach the address, and then no token is asked for.
    """
    app = web.Application(
        middlewares=[answer_for_errors, guard(token, loopback=loopback, public=PUBLIC)],
        client_max_size=_BODY_LIMIT,
    )
    app.on_response_prepare.append(plain_headers)
    add_health(app, status, metrics)
    return app


async def serve(
    app: web.Application,
    host: str,
    port: int,
    connections: Connections | None = None,
    *,
    task_status: TaskStatus[tuple[str, int]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until cancelled; the task's start reports the bound address and port (port 0: the system chooses).

    `connections` bounds them. Raises PaidwatchError when the address cannot be had. The access log is off: paths carry
    tokens.

    A request that is not HTTP at all is refused by the library before any application sees it, with the library's own
    name in that answer; nothing else names a server.
    """
    runner = web.AppRunner(app, shutdown_timeout=_LAST_REQUESTS.total_seconds())
    open_ones = Connections() if connections is None else connections
    try:
        await runner.setup()
        server = runner.server
        if server is None:
            raise AssertionError
        # Bodies stay as they came: these bytes are signed and passed on. And to one that cannot be unpacked the
        # library's answer is a traceback in the log.
        options: dict[str, Any] = {"access_log": None, "auto_decompress": False}
        make = partial(open_ones.make, server, **options)
        listener = await _listen(make, host, port)
        try:
            address = listener.sockets[0].getsockname()
            task_status.started((address[0], address[1]))
            await anyio.sleep_forever()
        finally:
            listener.close()
    finally:
        with anyio.move_on_after(_RELEASE.total_seconds(), shield=True):
            await runner.cleanup()


async def _listen(make: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(make, host, port, backlog=_BACKLOG)
    except OSError as error:
        raise _unavailable(error, host, port) from error


def _unavailable(error: OSError, host: str, port: int) -> PaidwatchError:
    """Say why the address cannot be listened on, and what to do."""
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return ConfigError(f"[http] listen: {host} is no address of this machine", remedy="write an IP address instead")
    match error.errno:
        case errno.EADDRINUSE:
            return PaidwatchError(
                f"[http] listen: {where} is in use by another program",
                remedy=f"see who has it with: ss -ltnp 'sport = :{port}'; or choose another port in [http] listen",
            )
        case errno.EADDRNOTAVAIL:
            return ConfigError(
                f"[http] listen: {where} is not an address of this machine",
                remedy="choose one that `ip address` shows, or 127.0.0.1",
            )
        case errno.EACCES:
            return ConfigError(
                f"[http] listen: no right to listen on {where}", remedy="choose a port above 1023, such as 8787"
            )
        case _:
            return PaidwatchError(
                f"[http] listen: {where} cannot be used ({errno.errorcode.get(error.errno or 0, 'unknown error')})",
                remedy="choose another address or port in [http] listen",
            )
