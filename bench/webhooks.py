"""How webhooks are taken: a burst of real HTTP requests, a fifth of them repeats and some of them forged.

The daemon is a process of its own with everything switched on: every webhook is kept, checked, written to the
application's log and passed on to a local handler that counts. Requests start on a schedule, whether or not those
before were answered, so a slow answer is not hidden by fewer requests. Afterwards the books are compared: sent, kept,
logged, passed on.
"""

import hashlib
import hmac
import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import anyio
from aiohttp import web

from bench.ground import Connection, Ground, progress, wait_until
from bench.report import Finding, Section, median, quantile

PER_SECOND = 1000
REPEATED = 0.20
FORGED = 0.05
TARGET = 3.0
"""Seconds after which a provider hangs up."""
_SECRET = "the secret of the bench"
_CONNECTIONS = 100
_SETTLED = """
SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received' OR unlogged OR forward_state = 'due')
"""
_BOOKS = """
SELECT (SELECT count(*) FROM paidwatch.webhook) AS kept,
    (SELECT count(*) FROM paidwatch.webhook WHERE state = 'verified') AS believed,
    (SELECT count(*) FROM paidwatch.webhook WHERE state = 'duplicate') AS repeated,
    (SELECT count(*) FROM paidwatch.webhook WHERE state = 'rejected') AS rejected,
    (SELECT count(*) FROM public.webhook_logs WHERE signature_valid AND processing_status = 'completed') AS completed,
    (SELECT count(DISTINCT payment_id) FROM public.webhook_logs WHERE signature_valid) AS payments
"""


@dataclass(slots=True)
class Round:
    """What one round saw."""

    spans: list[float] = field(default_factory=list[float])
    """Seconds from the time a request was to start to its answer."""
    answers: Counter[int] = field(default_factory=Counter[int])
    unique: int = 0
    repeated: int = 0
    forged: int = 0
    drained: float = 0.0
    """Seconds from the last request until the application had everything."""


class Handler:
    """The application: takes everything and counts."""

    def __init__(self) -> None:
        """Start empty."""
        self.taken: Counter[bytes] = Counter()

    async def take(self, request: web.Request) -> web.Response:
        """Note the body."""
        self.taken[await request.read()] += 1
        return web.Response(text="ok")


async def measure(ground: Ground, *, quick: bool) -> Section:
    """Return the table and what counts of it."""
    rounds, seconds = (1, 3) if quick else (3, 10)
    results: list[Round] = []
    await ground.create_shop("webhook_shop", active=False, users=1000)
    await ground.install("webhook_shop")
    for turn in range(rounds):
        await ground.create("webhooks", template="webhook_shop")
        result = await _round(ground, seconds)
        results.append(result)
        progress(
            f"  round {turn + 1}: p50 {quantile(result.spans, 0.5) * 1e3:.0f} ms, "
            f"p99 {quantile(result.spans, 0.99) * 1e3:.0f} ms, all passed on {result.drained:.1f} s after the last"
        )
    await ground.drop("webhooks", "webhook_shop")
    return _section(results, seconds)


async def _round(ground: Ground, seconds: int) -> Round:
    handler, result = Handler(), Round()
    app = web.Application()
    app.router.add_post("/ipn", handler.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here = runner.addresses[0][1]
        port = _free_port()
        config = ground.configuration(
            "webhooks",
            f'[providers.nowpayments]\nsecret = "{_SECRET}"\nforward_to = "http://127.0.0.1:{here}/ipn"\n',
            listen=f"127.0.0.1:{port}",
        )
        await ground.settle()
        async with ground.daemon(config), ground.connected("webhooks") as connection:
            await _burst(port, seconds, result)
            ended = time.monotonic()
            await wait_until(connection, _SETTLED, limit=300, pause=0.1)
            result.drained = time.monotonic() - ended
            await _compare(connection, handler, result)
    finally:
        await runner.cleanup()
    return result


async def _burst(port: int, seconds: int, result: Round) -> None:
    """Send on schedule; which ones are repeats and forged is the same in every round."""
    dice = random.Random(1)
    sent: list[tuple[bytes, dict[str, str]]] = []
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    limit = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, timeout=limit) as client,
        anyio.create_task_group() as group,
    ):
        started = anyio.current_time()
        for number in range(seconds * PER_SECOND):
            roll = dice.random()
            if roll < FORGED:
                body, headers = _webhook(number, "another secret")
                result.forged += 1
            elif roll < FORGED + REPEATED and sent:
                body, headers = dice.choice(sent)
                result.repeated += 1
            else:
                body, headers = _webhook(number, _SECRET)
                sent.append((body, headers))
                result.unique += 1
            due = started + number / PER_SECOND
            await anyio.sleep_until(due)
            group.start_soon(_send, client, body, headers, due, result)


async def _send(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str], due: float, result: Round) -> None:
    async with client.post("/webhooks/nowpayments", data=body, headers=headers) as answer:
        await answer.read()
        result.spans.append(anyio.current_time() - due)
        result.answers[answer.status] += 1


def _webhook(number: int, secret: str) -> tuple[bytes, dict[str, str]]:
    """Return a webhook as NOWPayments sends it: sorted keys, signed over the body."""
    says = {
        "order_id": f"winu_sub_{number % 1000 + 1}_professional_{1_700_000_000 + number}",
        "payment_id": 5_000_000_000 + number,
        "payment_status": "finished",
        "pay_currency": "usdttrc20",
        "price_amount": 14.99,
        "price_currency": "usd",
    }
    body = json.dumps(says, sort_keys=True, separators=(",", ":")).encode()
    code = hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()
    return body, {"x-nowpayments-sig": code, "Content-Type": "application/json"}


async def _compare(connection: Connection, handler: Handler, result: Round) -> None:
    """Raise where the books differ: something was lost, or counted twice."""
    books = await connection.fetchrow(_BOOKS)
    expected = {
        "kept": result.unique + result.repeated + result.forged,
        "believed": result.unique,
        "repeated": result.repeated,
        "rejected": result.forged,
        "completed": result.unique,
        "payments": result.unique,
    }
    answers = {200: result.unique + result.repeated, 401: result.forged}
    if dict(books) != expected or dict(result.answers) != answers:
        raise AssertionError(f"the books differ: {dict(books)} instead of {expected}, answers {result.answers}")
    if len(handler.taken) != result.unique or set(handler.taken.values()) != {1}:
        times = Counter(handler.taken.values())
        raise AssertionError(f"passed on: {len(handler.taken)} of {result.unique}, times {times}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _section(results: list[Round], seconds: int) -> Section:
    middle = {share: median([quantile(result.spans, share) * 1e3 for result in results]) for share in (0.5, 0.9, 0.99)}
    worst = max(max(result.spans) for result in results) * 1e3
    drained = median([result.drained for result in results])
    return Section(
        title="Webhook → answer",
        method=(
            f"{len(results)} rounds of {seconds} s with {PER_SECOND} requests a second over {_CONNECTIONS} "
            f"connections, {REPEATED:.0%} of them repeats and {FORGED:.0%} forged; sender, daemon, database and "
            "the application's handler share this machine. In every round each webhook was kept, each believed one was "
            "logged and passed on exactly once, and every forged one was refused by 401."
        ),
        header=("from the scheduled start of the request", "p50", "p90", "p99", "worst of all rounds"),
        rows=[["answer", *(f"{middle[share]:.1f} ms" for share in (0.5, 0.9, 0.99)), f"{worst:.1f} ms"]],
        findings=[
            Finding(
                what=f"webhook → answer, {PER_SECOND}/s, p99",
                target=f"< {TARGET:.0f} s",
                measured=f"{middle[0.99]:.1f} ms (p50 {middle[0.5]:.1f} ms)",
                met=middle[0.99] < TARGET * 1e3,
            ),
            Finding(
                what="the application has them all, after the last request",
                measured=f"{drained:.1f} s",
            ),
        ],
    )
