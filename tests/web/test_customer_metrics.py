"""What the running daemon counts of the pages for customers."""

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from paidwatch.web.success import GUESSES
from tests.support import shop
from tests.support.postgres import Database
from tests.support.success import PAGE
from tests.support.watched import Start


@pytest.fixture
async def client(watched: Database, start: Start) -> AsyncIterator[aiohttp.ClientSession]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host, port = probe.getsockname()
    async with (
        start({"http": {"listen": f"{host}:{port}"}, "grace": {"default": "1h"}}, PAGE) as daemon,
        aiohttp.ClientSession(f"http://{host}:{port}", timeout=aiohttp.ClientTimeout(total=20)) as client,
    ):
        await daemon.ready()
        yield client


async def counted(client: aiohttp.ClientSession) -> dict[str, float]:
    """Return what is counted and not 0; the metric's name without what all of them have, and the labels' values."""
    async with client.get("/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        " ".join([sample.name.removeprefix("paidwatch_customer_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("paidwatch_customer_") and not sample.name.endswith("_created") and sample.value
    }


async def test_requests_of_customers_are_counted_by_how_they_ended(
    watched: Database, client: aiohttp.ClientSession
) -> None:
    await shop.add_payment(watched, await shop.add_user(watched), reference="5745459419")
    assert await counted(client) == {}
    for path in (
        "/payment/return?NP_id=5745459419",
        "/payment/return?NP_id=12",
        "/v1/session/5745459419",
        "/v1/session/12",
        "/v1/session/12/events",
    ):
        async with client.get(path, allow_redirects=False):
            pass
    expected = {
        "requests_total return known": 1,
        "requests_total return unknown": 1,
        "requests_total state known": 1,
        "requests_total state unknown": 1,
        "requests_total events unknown": 1,
    }
    assert await counted(client) == expected
    async with client.get("/v1/session/5745459419/events") as stream:
        assert (await stream.content.readline()).startswith(b"retry:")
        assert await counted(client) == expected | {"streams": 1}

    for number in range(GUESSES.burst + 1):
        elsewhere = {"X-Forwarded-For": "198.51.100.7"}
        async with client.get(f"/v1/session/{5745450000 + number}", headers=elsewhere) as answer:
            assert answer.status == (200 if number < GUESSES.burst else 429)
    found = await counted(client)
    assert (found["requests_total state unknown"], found["requests_total state limited"]) == (1 + GUESSES.burst, 1)
