"""The demo shop on the web, on a test's database, beside a daemon in the configuration that the demo gives it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio

from paidwatch.ops.demo_chat import SLACK, Chat, Shown
from paidwatch.ops.demo_program import configuration
from paidwatch.ops.demo_shop import Shop
from paidwatch.ops.demo_site import SUCCESS, Site, Step
from paidwatch.ops.demo_story import Voice
from paidwatch.ops.loopback import HOST, free_port
from paidwatch.ops.shop import success_html
from tests.support.daemon import running
from tests.support.postgres import Database
from tests.support.sink import WITHIN

PATIENCE = timedelta(seconds=WITHIN)


class Silent:
    """Hears the narration, and keeps what is bad."""

    def __init__(self) -> None:
        self.bad: list[str] = []

    def say(self, voice: Voice, text: str) -> None:
        if voice is Voice.BAD:
            self.bad.append(text)

    def show(self, shown: Shown) -> None: ...


class Gates:
    """Each step of a purchase waits until it is let."""

    def __init__(self) -> None:
        self._open: dict[Step, anyio.Event] = {}
        self.shut()

    def shut(self) -> None:
        """Let nobody through any more."""
        self._open = {step: anyio.Event() for step in Step}

    async def __call__(self, step: Step) -> None:
        await self._open[step].wait()

    def let(self, *steps: Step) -> None:
        for step in steps:
            self._open[step].set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """The shop on the web, and who works in it."""

    site: Site
    chat: Chat
    gates: Gates
    narrator: Silent


@asynccontextmanager
async def shop_on_the_web(database: Database) -> AsyncIterator[Premises]:
    """Open the site; nobody is there yet to whom it sends its customers."""
    gates, narrator = Gates(), Silent()
    snippet = await anyio.to_thread.run_sync(success_html)
    async with (
        Chat(narrator.show) as chat,
        Shop(database.dsn) as shop,
        Site(
            shop,
            chat,
            narrator,
            snippet=snippet,
            paidwatch=f"http://{HOST}:{free_port()}",
            patience=PATIENCE,
            pace=gates,
        ) as site,
    ):
        yield Premises(site=site, chat=chat, gates=gates, narrator=narrator)


@asynccontextmanager
async def watched_shop_on_the_web(database: Database, folder: Path, *, grace: str) -> AsyncIterator[Premises]:
    """The same, selling, with a daemon."""
    async with shop_on_the_web(database) as premises:
        site, chat = premises.site, premises.chat
        config = folder / "demo.toml"
        config.touch(mode=0o600)
        config.write_text(
            configuration(
                database.dsn,
                {SLACK: chat.address(SLACK)},
                grace=grace,
                listen=site.paidwatch.removeprefix("http://"),
                success_page=f"{site.url}{SUCCESS}",
            )
        )
        async with running(config) as daemon:
            await daemon.ready()
            async with site.sells():
                yield premises
