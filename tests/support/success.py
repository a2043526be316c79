"""The pages for customers as the daemon serves them, in the test's own process, and a reader of event streams."""

import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from aiohttp import web

from paidwatch.clock import SystemClock
from paidwatch.config import load
from paidwatch.flow.follow import Follow
from paidwatch.log import Log
from paidwatch.store.connect import Target
from paidwatch.store.statements import Statements
from paidwatch.web.access import answer_for_errors, plain_headers
from paidwatch.web.app import serve
from paidwatch.web.payment_return import add_payment_return
from paidwatch.web.rate import Rate, networks
from paidwatch.web.session import Limits, add_session
from paidwatch.web.success import Door
from paidwatch.wiring import policy_of
from paidwatch.wiring.gateway import success_page_of
from tests.support.daemon import Sections, configuration
from tests.support.postgres import Database
from tests.support.sink import WITHIN

KEY = "0123456789abcdef0123456789abcdef"
SHOP = "https://shop.example.org"
PAGE: Sections = {"success_page": {"url": f"{SHOP}/payment/success?lang=en", "key": KEY}}
ROOMY = Rate(burst=10_000, refill=timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The served pages."""

    url: str
    client: aiohttp.ClientSession
    app: web.Application

    async def state(self, session_id: str, sig: str = "") -> Any:
        """Return what the state's route says."""
        async with self.client.get(f"/v1/session/{session_id}", params={"sig": sig} if sig else None) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def comes_back(self, query: Mapping[str, str] | Sequence[tuple[str, str]]) -> str:
        """Return where a customer is sent; empty is a page of our own."""
        async with self.client.get("/payment/return", params=query, allow_redirects=False) as answer:
            assert answer.status in {200, 303}, await answer.text()
            return answer.headers.get("Location", "")


@asynccontextmanager
async def pages(
    db: Database,
    folder: Path,
    *extra: Sections,
    limits: Limits | None = None,
    rate: Rate = ROOMY,
    narrow: bool = False,
    dsn: str | None = None,
) -> AsyncIterator[Pages]:
    """Serve the pages on a free port, with the configuration that an owner would write.

    `narrow` leaves hardly any room for what a client has not read yet.
    """
    file = folder / "pages.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(db, None, *(extra or (PAGE,)), dsn=dsn))
    settings = await anyio.to_thread.run_sync(lambda: load(file, {}, needs_database=True))
    policy, page, clock = policy_of(settings), success_page_of(settings), SystemClock()
    seconds = timedelta(seconds=20)
    follow = Follow(
        target=Target(dsn=dsn or db.dsn, connect_timeout=seconds, statement_timeout=seconds),
        statements=await anyio.to_thread.run_sync(Statements.load),
        policy=lambda: policy,
        clock=clock,
        log=Log(),
    )
    app = web.Application(middlewares=[answer_for_errors])
    app.on_response_prepare.append(plain_headers)
    if narrow:
        app.on_response_prepare.append(_make_narrow)
    door = Door(clock.monotonic, networks(settings.http.trusted_proxies), rate=rate)
    add_payment_return(app, follow, lambda: page, door)
    add_session(app, follow, lambda: page, door, limits=limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow.run, name="sessions")
        host, port = await tasks.start(serve, app, "127.0.0.1", 0)
        url = f"http://{host}:{port}"
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60)) as client:
            yield Pages(url=url, client=client, app=app)
        tasks.cancel_scope.cancel()


@dataclass(slots=True)
class Stream:
    """An open stream of events."""

    answer: aiohttp.ClientResponse
    comments: int = 0
    ids: list[str] = field(default_factory=list[str])

    async def next(self) -> Any:
        """Return the next event's data; None is the end of the stream."""
        data = None
        with anyio.fail_after(WITHIN):
            async for raw in self.answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("data: "):
                    data = json.loads(line[6:])
                elif line.startswith("id: "):
                    self.ids.append(line[4:])
                elif line.startswith(":"):
                    self.comments += 1
                elif not line and data is not None:
                    return data
        return None

    async def heartbeat(self) -> None:
        """Wait for one more comment."""
        before = self.comments
        with anyio.fail_after(WITHIN):
            async for raw in self.answer.content:
                assert not raw.startswith(b"data:"), raw
                self.comments += raw.startswith(b":")
                if self.comments > before:
                    return
        raise AssertionError("the stream ended")


@asynccontextmanager
async def stream(pages: Pages, session_id: str, *, sig: str = "", heard: str = "") -> AsyncIterator[Stream]:
    """Open a stream of events."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": heard} if heard else {})
    params = {"sig": sig} if sig else None
    async with pages.client.get(f"/v1/session/{session_id}/events", params=params, headers=headers) as answer:
        yield Stream(answer)


async def _make_narrow(request: web.Request, _response: web.StreamResponse) -> None:
    assert request.transport is not None
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    request.transport.set_write_buffer_limits(high=0)
