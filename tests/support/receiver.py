"""One instance of the receiver of webhooks, served over real HTTP on a real database, and a provider that signs."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any

import aiohttp
import anyio
from pydantic import SecretStr

from paidwatch.clock import SystemClock
from paidwatch.flow.receive import Receive
from paidwatch.flow.settle import Source
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.providers import Kind, ProviderSettings, build
from paidwatch.store.connect import Target
from paidwatch.store.statements import Statements
from paidwatch.web.app import build_app, serve
from paidwatch.web.rate import Buckets, Rate
from paidwatch.web.webhooks import add_webhooks
from tests.ops.still_clock import StillClock
from tests.support.postgres import Database

KEY = "the ipn secret"
STATEMENTS = Statements.load()
PLENTY = Rate(burst=1_000_000, refill=timedelta(milliseconds=1))


def signed(payload: Any, key: str = KEY) -> tuple[bytes, dict[str, str]]:
    """A body as NOWPayments sends it, and its headers."""
    body = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
    code = hmac.new(key.encode(), body, hashlib.sha512).hexdigest()
    return body, {"x-nowpayments-sig": code, "content-type": "application/json"}


def payment(number: int, status: str = "finished", **more: Any) -> dict[str, Any]:
    return {"payment_id": number, "payment_status": status, "price_amount": 14, "price_currency": "usd", **more}


@dataclass
class Desk:
    """One instance of the receiver, served."""

    db: Database
    receive: Receive
    metrics: Metrics
    client: aiohttp.ClientSession

    async def post(self, body: bytes | BytesIO, headers: Mapping[str, str], provider: str = "nowpayments") -> int:
        async with self.client.post(f"/webhooks/{provider}", data=body, headers=headers) as answer:
            return answer.status

    async def send(self, payload: Any, key: str = KEY) -> int:
        return await self.post(*signed(payload, key))

    async def kept(self, *columns: str) -> list[tuple[Any, ...]]:
        rows = await self.db.fetch(f"SELECT {', '.join(columns)} FROM paidwatch.webhook ORDER BY webhook_id")
        return [tuple(row) for row in rows]

    async def logged(self, *columns: str) -> list[tuple[Any, ...]]:
        rows = await self.db.fetch(f"SELECT {', '.join(columns)} FROM public.webhook_logs ORDER BY id")
        return [tuple(row) for row in rows]

    async def until(self, question: str) -> None:
        """Wait until a question to the database is answered with true."""
        with anyio.fail_after(15):
            while not await self.db.fetchval(question):
                await anyio.lowlevel.checkpoint()


def sources(*, key: str = KEY, forwards: bool = False) -> dict[str, Source]:
    made = build("nowpayments", ProviderSettings(kind=Kind.NOWPAYMENTS, secrets=(SecretStr(key),)))
    bare = build("stripe", ProviderSettings(kind=Kind.STRIPE))
    return {
        "nowpayments": Source(provider=made, has_secret=True, forwards=forwards),
        "stripe": Source(provider=bare, has_secret=False, forwards=False),
    }


@asynccontextmanager
async def serving(
    db: Database, known: dict[str, Source] | None = None, *, dsn: str | None = None, rate: Rate = PLENTY
) -> AsyncIterator[Desk]:
    found = sources() if known is None else known
    status = Status(clock=StillClock())
    metrics = Metrics(status=status, version="0", channels=())
    metrics.configure_providers(found)
    clock = SystemClock()
    receive = Receive(
        target=Target(dsn=dsn or db.dsn, connect_timeout=timedelta(seconds=9), statement_timeout=timedelta(seconds=9)),
        statements=STATEMENTS,
        sources=lambda: found,
        budget=Buckets(rate, clock.monotonic),
        clock=clock,
        metrics=metrics,
        log=Log("webhooks"),
    )
    app = build_app(status, metrics, "token", loopback=False)
    add_webhooks(app, receive, lambda request: request.remote or "?")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive.run)
        host, port = await tasks.start(serve, app, "127.0.0.1", 0)
        async with aiohttp.ClientSession(f"http://{host}:{port}", timeout=aiohttp.ClientTimeout(total=20)) as client:
            yield Desk(db=db, receive=receive, metrics=metrics, client=client)
        tasks.cancel_scope.cancel()
