"""What the success page asks: the state of one payment, once as JSON, or as a stream that tells each change.

    GET /v1/session/{id}          {"state": "paid_activating", "next_poll_after_ms": 2000}
    GET /v1/session/{id}/events   the same as server-sent events

Ids that can be guessed need `?sig=`, and who tries numbers gets 429 after a few. An answer holds nothing else, whatever
is asked: no name, no amount, no plan. An id that is not told about is answered without a question to the database,
whether such a payment exists or not.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import anyio
from aiohttp import hdrs, web

from paidwatch.core.session import NOWHERE, Asked, Sight, asked
from paidwatch.errors import DatabaseError
from paidwatch.web.success import (
    SIGNATURE,
    Door,
    Following,
    Sessions,
    SuccessPage,
    milliseconds,
    too_many,
    unavailable,
)

_LAST_EVENT_ID: Final = "Last-Event-ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the streams."""

    streams: int = 500
    """At once, over all clients."""
    per_client: int = 10
    first: timedelta = timedelta(seconds=5)
    """The longest wait for what the state is now."""
    heartbeat: timedelta = timedelta(seconds=15)
    """Silence after which a comment is sent, so that no proxy takes the stream for dead."""
    write: timedelta = timedelta(seconds=5)
    """A reader that takes longer is dropped."""
    longest: timedelta = timedelta(minutes=2)
    """After that a stream ends, and the browser opens another: what no trigger tells of is seen then at the latest."""
    again: timedelta = timedelta(seconds=2)
    """How long a browser waits before it does."""


class Followable(Sessions, Protocol):
    """Who knows, and tells of changes."""

    def follow(self, asked: Asked) -> AbstractContextManager[Following]:
        """Follow an id while the block lasts. Raises DatabaseError if nothing can be said."""
        ...


def add_session(
    app: web.Application,
    sessions: Followable,
    page: Callable[[], SuccessPage],
    door: Door,
    *,
    limits: Limits | None = None,
) -> None:
    """Add both routes; the streams end when the application is shut down."""
    streams = Streams(sessions, page, door, limits or Limits())

    async def state(request: web.Request) -> web.StreamResponse:
        """Answer with the state; an id that nobody knows is 200 and unknown."""
        refused = door.refuse(request)
        if refused is not None:
            return refused
        wanted = _asked(request, page())
        if wanted is None:
            return web.json_response(_body(NOWHERE))
        wait = door.guess(request, wanted)
        if wait:
            return too_many(wait)
        try:
            (found,) = await sessions.look([wanted])
        except DatabaseError:
            return unavailable()
        door.told(request, wanted, found.sight)
        return web.json_response(_body(found.sight))

    async def stop(_app: web.Application) -> None:
        streams.end()

    async def share(request: web.Request, response: web.StreamResponse) -> None:
        """Let scripts of the configured origins read the answers of these two routes, errors included."""
        resource = request.match_info.route.resource
        if resource is None or resource.canonical not in {"/v1/session/{id}", "/v1/session/{id}/events"}:
            return
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        response.headers["Referrer-Policy"] = "no-referrer"
        origin = request.headers.get(hdrs.ORIGIN, "")
        if origin in page().origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.RETRY_AFTER

    app.router.add_get("/v1/session/{id}", door.counted("state", state))
    app.router.add_get("/v1/session/{id}/events", door.counted("events", streams.events), allow_head=False)
    app.on_response_prepare.append(share)
    app.on_shutdown.append(stop)


class Streams:
    """The streams that are open, and the end of them."""

    def __init__(self, sessions: Followable, page: Callable[[], SuccessPage], door: Door, limits: Limits) -> None:
        """Start without any."""
        self._sessions = sessions
        self._page = page
        self._door = door
        self._limits = limits
        self._open: set[anyio.CancelScope] = set()
        self._by_client: Counter[str] = Counter()

    def end(self) -> None:
        """End every stream at once."""
        for scope in self._open:
            scope.cancel()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Say the state at once, then each change, until there is nothing more to come.

        A browser opens a stream anew when it ended, naming what it heard last: it is not told the same again, and of a
        state that stays it is told by 204 to stop.
        """
        refused = self._door.refuse(request)
        if refused is not None:
            return refused
        wanted = _asked(request, self._page())
        heard = request.headers.get(_LAST_EVENT_ID, "")
        if wanted is None:
            return await self._only(request, heard)
        client = self._door.client(request)
        wait = self._door.guess(request, wanted)
        if self._by_client[client] >= self._limits.per_client:
            wait = max(wait, self._limits.heartbeat)
        if wait:
            return too_many(wait)
        if len(self._open) >= self._limits.streams:
            return unavailable()
        try:
            return await self._follow(request, wanted, heard, client)
        except DatabaseError:
            return unavailable()

    async def _only(self, request: web.Request, heard: str) -> web.StreamResponse:
        """Answer for an id that is not told about, without asking anybody."""
        if heard == NOWHERE.state.value:
            return web.Response(status=204)
        response = self._response()
        await response.prepare(request)
        await self._write(request, response, self._retry() + _event(NOWHERE))
        return response

    async def _follow(self, request: web.Request, wanted: Asked, heard: str, client: str) -> web.StreamResponse:
        """Follow and tell; a cancelled scope is the shutdown, which ends the stream as streams end."""
        response = web.StreamResponse(status=204)
        with anyio.CancelScope() as scope, self._place(client, scope), self._sessions.follow(wanted) as following:
            sight = await following.news(self._limits.first)
            if sight is None:
                return unavailable()
            self._door.told(request, wanted, sight)
            if sight.next_poll is not None or sight.state.value != heard:
                response = self._response()
                await response.prepare(request)
                await self._tell(request, response, following, wanted, sight, heard)
        return response

    @contextmanager
    def _place(self, client: str, scope: anyio.CancelScope) -> Generator[None]:
        self._open.add(scope)
        self._by_client[client] += 1
        self._door.streams(len(self._open))
        try:
            yield
        finally:
            self._open.discard(scope)
            self._by_client[client] -= 1
            self._by_client += Counter()
            self._door.streams(len(self._open))

    async def _tell(
        self,
        request: web.Request,
        response: web.StreamResponse,
        following: Following,
        wanted: Asked,
        first: Sight,
        heard: str,
    ) -> None:
        sight: Sight | None = first
        told, data = heard, self._retry()
        with anyio.move_on_after(self._limits.longest.total_seconds()), suppress(ConnectionError):
            while True:
                if sight is not None and sight.state.value != told:
                    told = sight.state.value
                    data += _event(sight)
                if not await self._write(request, response, data) or (sight is not None and sight.next_poll is None):
                    return
                sight = await following.news(self._limits.heartbeat)
                if sight is not None:
                    self._door.told(request, wanted, sight)
                data = b": \n\n" if sight is None else b""

    def _retry(self) -> bytes:
        return f"retry: {self._limits.again // timedelta(milliseconds=1)}\n\n".encode()

    @staticmethod
    def _response() -> web.StreamResponse:
        # The last one tells nginx not to collect what is sent.
        return web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"}
        )

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> bool:
        """Send; False, and the connection is cut, if the reader does not take it in time."""
        with anyio.move_on_after(self._limits.write.total_seconds()) as scope:
            await response.write(data)
        if scope.cancelled_caught:
            if request.transport is not None:
                request.transport.abort()
            return False
        return True


def _asked(request: web.Request, page: SuccessPage) -> Asked | None:
    return asked(request.match_info["id"], request.query.get(SIGNATURE, ""), page.key, page.order_of)


def _body(sight: Sight) -> dict[str, object]:
    return {"state": sight.state.value, "next_poll_after_ms": milliseconds(sight)}


def _event(sight: Sight) -> bytes:
    return f"id: {sight.state.value}\ndata: {json.dumps(_body(sight))}\n\n".encode()
