"""The script of docs/success-page.md on the pages of the demo's shop, in a real browser, against the real daemon."""

import os
import re
from pathlib import Path

import anyio
import pytest

from paidwatch.ops.demo_site import Step
from tests.support.browser import Page, browser, program
from tests.support.postgres import Database
from tests.support.site import Premises, watched_shop_on_the_web
from tests.support.success import KEY

DOCUMENT = Path(__file__).parents[2] / "docs" / "success-page.md"
PLACE = "#payment-status"
LOOKING = """
    window.forbidden = [];
    document.addEventListener("securitypolicyviolation", (event) => window.forbidden.push(event.violatedDirective));
"""
"""Keeps what the page's own policy did not let it do."""
BLIND = "delete window.EventSource"

needs_browser = pytest.mark.skipif(program() is None, reason="there is no Chromium here: apt-get install chromium")


async def press(page: Page, here: Premises, course: str) -> None:
    """Order as a person does, on the shop's front page."""
    await page.ask("Page.navigate", url=f"{here.site.url}/")
    await page.click(f'[formaction="/pay/{course}"]')


@needs_browser
async def test_a_customer_sees_what_becomes_of_the_payment(watched: Database, tmp_path: Path) -> None:
    """From the button to the provider and back, and from pending over paid to active, on a page that is loaded once."""
    async with watched_shop_on_the_web(watched, tmp_path, grace="1h") as here, browser(tmp_path) as page:
        await page.ask("Page.addScriptToEvaluateOnNewDocument", source=LOOKING)
        await press(page, here, "renamed")
        assert "waiting for your payment" in await page.shows(PLACE, "pending")
        await page.evaluate("window.loaded = 'once'")

        here.gates.let(Step.PAY)
        assert "access is being opened" in await page.shows(PLACE, "paid_activating")
        await keep(page, "success-page")
        here.gates.let(Step.ACTIVATE)
        assert "access is open" in await page.shows(PLACE, "paid_active")
        assert await page.evaluate("[window.loaded, location.pathname]") == ["once", "/payment/success"]
        assert await page.evaluate("window.forbidden") == []

        here.gates.shut()
        await page.ask("Page.addScriptToEvaluateOnNewDocument", source=BLIND)
        await press(page, here, "works")
        assert "waiting for your payment" in await page.shows(PLACE, "pending")
        assert await page.evaluate("typeof EventSource") == "undefined", "so the page asks by itself"
        here.gates.let(Step.PAY)
        await page.shows(PLACE, "paid_activating")
        here.gates.let(Step.ACTIVATE)
        assert await page.evaluate("window.forbidden") == []

        await page.ask("Page.navigate", url=f"{here.site.url}/payment/success?session_id=nobody-knows-it")
        assert "do not know this payment" in await page.shows(PLACE, "unknown")
        await page.ask("Page.navigate", url=f"{here.site.url}/")
        await keep(page, "demo-shop")


async def keep(page: Page, name: str) -> None:
    """Keep pictures for people, where they ask for it."""
    if folder := os.environ.get("PAIDWATCH_TEST_PICTURES"):
        for kind, width, height in (("-telephone", 390, 844), ("", 720, 490)):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": kind == "-telephone"}
            await page.ask("Emulation.setDeviceMetricsOverride", **size)
            await anyio.Path(folder, f"{name}{kind}.png").write_bytes(await page.picture())


def test_the_recipe_in_python_makes_the_signature_that_is_shown() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space: dict[str, object] = {}
    exec(recipe, space)
    address = space["return_address"]
    assert callable(address)
    shown = re.search(r"Id `12` and key `(\w+)` give\n`(\w{64})`", text)
    assert shown is not None
    assert shown[1] == KEY
    assert address(12, KEY) == f"https://pay.example.org/payment/return?payment_id=12&sig={shown[2]}"
