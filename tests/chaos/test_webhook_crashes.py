"""kill -9 between commit, answer and forward, then a normal start: no webhook is lost, and none counts twice."""

import signal
import socket
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from tests.channels.fakes.http import Received, Service, serving
from tests.support.crash_main import WEBHOOKS
from tests.support.daemon import Sections
from tests.support.postgres import Database
from tests.support.receiver import KEY, payment, signed
from tests.support.watched import Start

TAKEN = {"forward answered", "forward recorded, not committed"}
"""The application had it before the kill: it gets it once more, under the same number."""


async def take(_request: Received) -> web.Response:
    return web.Response(text="ok")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def send(port: int) -> int | None:
    """Send the webhook as its provider does; None: there was no answer."""
    body, headers = signed(payment(5077125051))
    try:
        limit = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=limit) as client,
            client.post(f"http://127.0.0.1:{port}/webhooks/nowpayments", data=body, headers=headers) as answer,
        ):
            return answer.status
    except aiohttp.ClientError:
        return None


@pytest.mark.parametrize("point", WEBHOOKS)
async def test_a_kill_loses_no_webhook_and_counts_none_twice(watched: Database, start: Start, point: str) -> None:
    port, shop = free_port(), Service(handler=take)
    async with serving(shop):
        here: Sections = {
            "http": {"listen": f"127.0.0.1:{port}"},
            "providers.nowpayments": {"secret": KEY, "forward_to": f"{shop.base}/ipn"},
        }
        async with start(here, crash=point) as doomed:
            await doomed.ready()
            answered = await send(port)
            assert await doomed.ended() == -signal.SIGKILL
        # A provider that had no answer sends again; what was left is no fresh work of somebody else's any more.
        await watched.execute("UPDATE paidwatch.webhook SET received_at = received_at - interval '1 minute'")
        async with start(here) as daemon:
            await daemon.ready()
            if answered is None:
                assert await send(port) == 200
            await daemon.log("forward.passed")
            await daemon.database_by_asking(
                watched,
                "SELECT NOT EXISTS (SELECT FROM paidwatch.webhook"
                " WHERE state = 'received' OR unlogged OR forward_state = 'due')",
            )
    body, _headers = signed(payment(5077125051))
    numbers = Counter(request.headers["paidwatch-webhook"] for request in shop.received)
    assert {request.body for request in shop.received} == {body}
    assert list(numbers.values()) == [2 if point in TAKEN else 1]
    rows = await watched.fetch("SELECT state, forward_state FROM paidwatch.webhook ORDER BY webhook_id")
    states = Counter(tuple(row) for row in rows)
    assert states[("verified", "done")] == 1
    assert states[("duplicate", "none")] == len(rows) - 1
    logged = await watched.fetch("SELECT payment_id, processing_status FROM public.webhook_logs")
    assert [tuple(row) for row in logged] == [("5077125051", "completed")]
