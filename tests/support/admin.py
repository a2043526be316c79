"""The application's admin endpoint as the tests play it: a real HTTP server that writes to the real tables.

It is not idempotent, and asks for a token. Both contracts of the application are spoken: its own
(`subscription_tier`, `duration_days`) and the one of its owner's guide (`plan_id`).
"""

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio
from aiohttp import web

from tests.support import shop
from tests.support.postgres import Database

PATH = "/api/admin/subscriptions/activate-manual"
TOKEN = "correct-horse-battery-staple"
TIERS = ("professional", "vip_elite")
OWN = {"user_id": "{user_id}", "subscription_tier": "{plan_id}", "duration_days": "{days}", "reason": "{reason}"}
GUIDE = {"user_id": "{user_id}", "plan_id": "{plan_id}", "reason": "{reason}"}


class Fault(StrEnum):
    """What goes wrong in one request."""

    HANGS_AFTER_COMMIT = "does it, and never answers"
    COMMITS_LATE = "does it when `release` is called, long after the client has gone"
    HANGS = "never does it, never answers"
    BREAKS = "answers 500 and did nothing"
    BREAKS_AFTER_COMMIT = "answers 500 and did it"
    DROPS = "closes the connection without an answer, and did nothing"
    DROPS_AFTER_COMMIT = "closes the connection without an answer, and did it"
    TRICKLES = "does it, and answers a byte at a time for ever"
    NO_EFFECT = "answers 200 and did nothing"
    HALF = "answers 200, writes its event, and leaves the user as it was"
    BUSY = "answers 429 and did nothing"
    GONE = "answers 404 and did nothing"
    SENT_AWAY = "answers 302 and did nothing"


@dataclass
class Admin:
    """The endpoint, what it was asked, and what goes wrong next."""

    db: Database
    contract: dict[str, str] = field(default_factory=lambda: OWN)
    faults: deque[Fault] = field(default_factory=deque[Fault])
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    activations: int = 0
    base: str = ""
    retry_after: str = "120"
    _released: anyio.Event = field(default_factory=anyio.Event)
    _news: anyio.Event = field(default_factory=anyio.Event)

    @property
    def url(self) -> str:
        return self.base + PATH

    def release(self) -> None:
        """What waits goes on."""
        self._released.set()

    async def until_activated(self, times: int = 1) -> None:
        with anyio.fail_after(20):
            while self.activations < times:
                await self._news.wait()

    async def until_asked(self, times: int = 1) -> None:
        with anyio.fail_after(20):
            while len(self.asked) < times:
                await self._news.wait()

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = json.loads(await request.read())
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self._ring()
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "who are you?"}, status=401)
        fault = self.faults.popleft() if self.faults else None
        match fault:
            case Fault.HANGS:
                await self._released.wait()
                return web.Response(status=503)
            case Fault.BREAKS:
                return web.Response(status=500, text=f"Traceback: {TOKEN}")
            case Fault.DROPS:
                _hang_up(request)
                return web.Response()
            case Fault.NO_EFFECT:
                return web.json_response({"success": True})
            case Fault.BUSY:
                return web.Response(status=429, headers={"Retry-After": self.retry_after})
            case Fault.GONE:
                return web.json_response({"detail": "User not found"}, status=404)
            case Fault.SENT_AWAY:
                return web.Response(status=302, headers={"Location": self.base + "/elsewhere"})
            case Fault.COMMITS_LATE:
                await self._released.wait()
            case _:
                pass
        answer = await self._activate(body, half=fault is Fault.HALF)
        match fault:
            case Fault.HANGS_AFTER_COMMIT:
                await self._released.wait()
            case Fault.BREAKS_AFTER_COMMIT:
                return web.Response(status=500)
            case Fault.DROPS_AFTER_COMMIT:
                _hang_up(request)
            case Fault.TRICKLES:
                return await self._trickle(request)
            case _:
                pass
        return answer

    async def _activate(self, body: dict[str, Any], *, half: bool) -> web.Response:
        tier = body.get("plan_id" if self.contract is GUIDE else "subscription_tier")
        if tier is None or not isinstance(body.get("user_id"), int) or not body.get("reason"):
            return web.json_response({"detail": [{"loc": ["body"], "msg": "field required"}]}, status=422)
        if tier not in TIERS:
            return web.json_response({"detail": "bad tier"}, status=400)
        user, days = body["user_id"], int(body.get("duration_days", 30))
        if not await self.db.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1)", user):
            return web.json_response({"detail": "User not found"}, status=404)
        async with self.db.another() as own, own.transaction():
            if not half:
                await shop.activate(own, user, plan=tier, days=days, event=False)
            data = {"subscription_tier": tier, "duration_days": days, "reason": body["reason"], "by": "admin"}
            event = await shop.add_event(own, user, "manual_activation", data)
        self.activations += 1
        self._ring()
        return web.json_response({"success": True, "user_id": user, "event_id": event})

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not self._released.is_set():
            await response.write(b"x")
            with anyio.move_on_after(0.01):
                await self._released.wait()
        return response


def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


@asynccontextmanager
async def admin(db: Database, contract: dict[str, str] | None = None) -> AsyncIterator[Admin]:
    """Serve the endpoint on a port of its own."""
    endpoint = Admin(db=db, contract=contract or OWN)
    app = web.Application()
    app.router.add_post(PATH, endpoint.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        endpoint.base = f"http://{host}:{port}"
        yield endpoint
    finally:
        endpoint.release()
        await runner.cleanup()
