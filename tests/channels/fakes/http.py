"""A scripted HTTP service: what it was sent is kept, and what it answers next can be laid out in advance."""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[["Received"], Awaitable[web.Response]]


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """Answers from `script` first, then as the service would."""

    handler: Handler
    script: deque[web.Response] = field(default_factory=deque[web.Response])
    received: list[Received] = field(default_factory=list[Received])
    base: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        got = Received(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        self.received.append(got)
        return self.script.popleft() if self.script else await self.handler(got)

    def then(self, status: int, *, body: Any = None, headers: dict[str, str] | None = None) -> None:
        """Lay out the next answer: a dictionary as JSON, a string as text."""
        if isinstance(body, dict):
            self.script.append(web.json_response(body, status=status, headers=headers))
        else:
            self.script.append(web.Response(text=body or "", status=status, headers=headers))


@asynccontextmanager
async def serving(service: Service, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{anything:.*}", service.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        service.base = f"{'http' if tls is None else 'https'}://{host}:{port}"
        yield service
    finally:
        await runner.cleanup()


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
