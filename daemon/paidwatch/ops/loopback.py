"""Servers of the demo's and the drill's own: they listen on loopback only, on a port that was free."""

import socket
from types import TracebackType
from typing import Final, Self

import anyio
from aiohttp import web

HOST: Final = "127.0.0.1"
_PATIENCE_SECONDS: Final = 5.0


class Loopback:
    """Routes that are served as long as the block lasts."""

    def __init__(self, *routes: web.AbstractRouteDef) -> None:
        """Take the routes; nothing is opened yet."""
        self._routes = routes
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where it is, without a slash at the end; known inside the block."""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application()
        app.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._runner is not None:
            with anyio.move_on_after(_PATIENCE_SECONDS, shield=True):
                await self._runner.cleanup()


def free_port() -> int:
    """Return a port that nobody has at this moment, for a program that cannot choose one by itself."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port
