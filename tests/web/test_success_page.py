"""The script of docs/success-page.md on a page of a small shop, in a real browser, against the real routes."""

import hashlib
import hmac
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from paidwatch.web.app import serve
from tests.support import shop
from tests.support.browser import Page, browser, program
from tests.support.postgres import Database
from tests.support.success import KEY, pages
from tests.support.watched import Start

DOCUMENT = Path(__file__).parents[2] / "docs" / "success-page.md"
PLACE = "#payment-status"
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Thank you</title>
<style>body{font:1.2em/1.5 sans-serif;max-width:34em;margin:3em auto}</style><h1>Thank you for your order</h1>"""

needs_browser = pytest.mark.skipif(program() is None, reason="there is no Chromium here: apt-get install chromium")


def block(language: str) -> str:
    """Return the document's one block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert isinstance(found, str)
    return found


@asynccontextmanager
async def shop_page(paidwatch: list[str]) -> AsyncIterator[str]:
    """Serve the success page, for which `paidwatch` names an address; `?blind` takes the stream of events away."""
    script = block("html")

    async def success(request: web.Request) -> web.Response:
        blind = "<script>delete window.EventSource</script>" if "blind" in request.query else ""
        text = HEAD + blind + script.replace("https://pay.example.org", paidwatch[0])
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/payment/success", success)
    async with anyio.create_task_group() as tasks:
        host, port = await tasks.start(serve, app, "127.0.0.1", 0)
        yield f"http://{host}:{port}"
        tasks.cancel_scope.cancel()


@needs_browser
async def test_a_customer_sees_what_becomes_of_the_payment(watched: Database, tmp_path: Path, start: Start) -> None:
    """From the provider back to the shop, and from pending over paid to active, on a page that is loaded once."""
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    second = await shop.add_payment(watched, user, plan="vip_elite", reference="np-2")
    address: list[str] = []
    async with (
        shop_page(address) as origin,
        pages(watched, tmp_path, {"success_page": {"url": f"{origin}/payment/success", "key": KEY}}) as served,
        start({"grace": {"default": "1h"}}) as daemon,
        browser(tmp_path) as page,
    ):
        address.append(served.url)
        await daemon.ready()
        await page.ask("Page.navigate", url=f"{served.url}/payment/return?NP_id=5745459419")
        assert "waiting for your payment" in await page.shows(PLACE, "pending")
        await page.evaluate("window.loaded = 'once'")

        await shop.complete(watched, payment)
        assert "access is being opened" in await page.shows(PLACE, "paid_activating")
        await keep(page)
        await shop.activate(watched, user, payment=payment)
        assert "access is open" in await page.shows(PLACE, "paid_active")
        assert await page.evaluate("[window.loaded, location.search]") == ["once", "?session_id=5745459419"]

        sig = hmac.new(KEY.encode(), str(second).encode(), hashlib.sha256).hexdigest()
        returning = f"{served.url}/payment/return?payment_id={second}&sig={sig}"
        async with served.client.get(returning, allow_redirects=False) as answer:
            await page.ask("Page.navigate", url=answer.headers["Location"] + "&blind")
        assert "waiting for your payment" in await page.shows(PLACE, "pending")
        assert await page.evaluate("typeof EventSource") == "undefined", "so the page asks by itself"
        await shop.complete(watched, second)
        await page.shows(PLACE, "paid_activating")

        await page.ask("Page.navigate", url=f"{origin}/payment/success?session_id=nobody-knows-it")
        assert "do not know this payment" in await page.shows(PLACE, "unknown")


async def keep(page: Page) -> None:
    """Keep a picture for people, where they ask for it."""
    if folder := os.environ.get("PAIDWATCH_TEST_PICTURES"):
        await anyio.Path(folder, "success-page.png").write_bytes(await page.picture())


def test_the_recipe_in_python_makes_the_signature_that_is_shown() -> None:
    space: dict[str, object] = {}
    exec(block("python"), space)
    address = space["return_address"]
    assert callable(address)
    shown = re.search(r"Id `12` and key `(\w+)` give\n`(\w{64})`", DOCUMENT.read_text(encoding="utf-8"))
    assert shown is not None
    assert shown[1] == KEY
    assert address(12, KEY) == f"https://pay.example.org/payment/return?payment_id=12&sig={shown[2]}"
