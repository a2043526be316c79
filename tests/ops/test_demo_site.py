"""The demo shop's pages: its buttons do what they say, and nobody learns anything who did not order."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import anyio
import pytest

from paidwatch.ops import demo_site
from paidwatch.ops.demo_chat import SLACK
from paidwatch.ops.demo_pages import COURSES, Course, success
from paidwatch.ops.demo_site import SUCCESS, Step
from paidwatch.ops.shop import success_html
from tests.support.postgres import Database
from tests.support.sink import WITHIN
from tests.support.site import PATIENCE, shop_on_the_web, watched_shop_on_the_web
from tests.support.watched import watched

__all__ = ["watched"]
DOCUMENT = Path(__file__).parents[2] / "docs" / "success-page.md"


@asynccontextmanager
async def visitor() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN)) as client:
        yield client


async def orders(database: Database) -> int:
    count = await database.fetchval("SELECT count(*) FROM public.payment_transactions")
    assert isinstance(count, int)
    return count


async def test_the_page_holds_what_the_document_prints_and_allows_nothing_else(database: Database) -> None:
    (printed,) = re.findall(r"```html\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert success_html() == printed
    async with shop_on_the_web(database) as here, visitor() as client:
        async with client.get(f"{here.site.url}{SUCCESS}") as answer:
            text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert printed.replace("https://pay.example.org", here.site.paidwatch) in text
        assert "pay.example.org" not in text
        (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        hashes = [b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
        assert sorted(policy.split("; ")) == sorted(
            [
                "default-src 'none'",
                f"script-src 'sha256-{hashes[0]}'",
                f"style-src 'sha256-{hashes[1]}'",
                f"connect-src {here.site.paidwatch}",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )


async def test_an_id_that_nobody_knows_gets_the_page_that_everybody_gets(database: Database) -> None:
    async with shop_on_the_web(database) as here, visitor() as client:
        async with client.get(f"{here.site.url}{SUCCESS}") as answer:
            nothing = await answer.text()
        for asked in ("5745459001", "' OR 1=1 --", "<script>alert(1)</script>", "\x00", "a" * 4000):
            async with client.get(f"{here.site.url}{SUCCESS}", params={"session_id": asked}) as answer:
                assert answer.status == 200
                assert await answer.text() == nothing, asked


def test_nothing_that_is_shown_is_taken_for_html() -> None:
    page = success("", "http://127.0.0.1:1", Course.WORKS, '/payment/return?NP_id="><img src=x>')
    assert "<img" not in page.text


async def test_what_is_no_button_orders_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_on_the_web(database) as here, visitor() as client:

        async def says(method: str, path: str, **headers: str) -> int:
            async with client.request(
                method, f"{here.site.url}{path}", headers=headers, allow_redirects=False
            ) as answer:
                return answer.status

        assert await says("POST", "/pay/works") == 503, "it does not sell yet"
        async with here.site.sells():
            assert await says("GET", "/pay/works") == 405
            assert await says("POST", "/pay/for-free") == 404
            assert await says("POST", "/pay/works", **{"Sec-Fetch-Site": "cross-site"}) == 403
            assert await orders(database) == 0
            monkeypatch.setattr(demo_site, "_MOST_AT_ONCE", 1)
            assert await says("POST", "/pay/works", **{"Sec-Fetch-Site": "same-origin"}) == 303
            assert await says("POST", "/pay/works") == 503, "there are too many"
            assert await orders(database) == 1
            await database.execute("ALTER TABLE public.users RENAME TO gone")
            monkeypatch.setattr(demo_site, "_MOST_AT_ONCE", 2)
            assert await says("POST", "/pay/works") == 503, "the database does not answer"
            await database.execute("ALTER TABLE public.gone RENAME TO users")
            here.gates.let(*Step)
        assert await says("POST", "/pay/works") == 503, "it does not sell any more"
    assert len(here.narrator.bad) == 2, "the order, and the end of the other one: paidwatch is not installed"


async def test_every_button_leads_back_to_the_page_and_does_what_it_says(watched: Database, tmp_path: Path) -> None:
    async with watched_shop_on_the_web(watched, tmp_path, grace="1s") as here, visitor() as client:
        async with client.get(f"{here.site.url}/") as answer:
            buttons = re.findall(r'<button formaction="([^"]+)"', await answer.text())
            policy = answer.headers["Content-Security-Policy"]
        assert buttons == [f"/pay/{course}" for course in COURSES]
        assert f"form-action 'self' {here.site.paidwatch}" in policy

        ids: dict[Course, str] = {}
        for course in COURSES:
            async with client.post(f"{here.site.url}/pay/{course}") as answer:
                assert [step.status for step in answer.history] == [303, 303]
                back = answer.history[1].url
                assert str(back.origin()) == here.site.paidwatch
                assert back.path == "/payment/return"
                assert list(back.query) == ["NP_id" if course is Course.RENAMED else "session_id"]
                place, text = urlsplit(str(answer.url)), await answer.text()
            assert f"{place.scheme}://{place.netloc}{place.path}" == f"{here.site.url}{SUCCESS}"
            (ids[course],) = parse_qs(place.query)["session_id"]
            assert f"<code>{back.path_qs}</code>" in text, "it says by which address the customer came"
        assert len(set(ids.values())) == len(COURSES)
        assert await orders(watched) == len(COURSES)

        here.gates.let(*Step)
        with anyio.fail_after(WITHIN):
            for course, session in ids.items():
                states = [state async for state in told(client, here.site.paidwatch, session)]
                assert states[-1] == "paid_active", course

        def said(course: Course) -> list[str]:
            return [one.word for one in here.chat.about([*COURSES].index(course) + 1, SLACK)]

        await here.chat.wait_for(lambda: bool(said(Course.BROKEN) and said(Course.SILENT)[1:]), PATIENCE)
        assert said(Course.BROKEN) == ["FIXED"]
        assert said(Course.SILENT) == ["NEW", "RESOLVED"]
    assert here.narrator.bad == []


async def told(client: aiohttp.ClientSession, paidwatch: str, session: str) -> AsyncIterator[str]:
    """Yield the states of one stream of events until there is nothing more to come."""
    while True:
        async with client.get(f"{paidwatch}/v1/session/{session}/events") as answer:
            assert answer.status == 200
            async for line in answer.content:
                if line.startswith(b"data: "):
                    said = json.loads(line[6:])
                    yield said["state"]
                    if said["next_poll_after_ms"] is None:
                        return
