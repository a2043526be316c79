"""Where the daemon's messages arrive: a local HTTP receiver that keeps them, and can be made to hesitate or refuse."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from aiohttp import web

WITHIN = 20.0
"""Seconds after which what a test waits for is not going to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message that was accepted."""

    channel: str
    key: str
    """`webhook-id`: the same on every attempt of the same message. Slack's messages have none."""
    word: str
    kind: str
    payment: str
    body: dict[str, Any]


class Sink:
    """Receives on `/NAME` whatever the channel NAME is told; `/slack…` answers as Slack does."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.refuse_with: dict[str, int] = {}
        """By channel: answer with this status instead of taking anything."""
        self.refused = 0
        self.base = ""
        self._news = anyio.Event()

    def url(self, channel: str) -> str:
        return f"{self.base}/{channel}"

    async def answer(self, request: web.Request) -> web.Response:
        channel = request.path.strip("/")
        content = await request.read()
        if status := self.refuse_with.get(channel):
            self.refused += 1
            self._ring()
            return web.Response(status=status)
        body = json.loads(content)
        data = body.get("data", {})
        self.told.append(
            Told(
                channel=channel,
                key=request.headers.get("webhook-id", ""),
                word=data.get("word", ""),
                kind=data.get("kind", ""),
                payment=str(data.get("facts", {}).get("payment_id", "")),
                body=body,
            )
        )
        self._ring()
        return web.Response(text="ok")

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, condition: Callable[[], bool], *, within: float = WITHIN) -> None:
        """Wait until `condition` holds, looking again whenever a request came."""
        with anyio.move_on_after(within):
            while not condition():
                await self._news.wait()
        assert condition(), f"after {within} s only this was told: {self.summary()}"

    async def until_told(self, payments: Collection[object], *, word: str = "NEW", channel: str = "ops") -> None:
        """Wait until each of these payments was told of by this word."""
        wanted = {str(payment) for payment in payments}
        await self.until(lambda: wanted <= self.payments(word, channel=channel))

    def payments(self, word: str = "NEW", *, channel: str = "ops") -> set[str]:
        """Return the payments that were told of by this word."""
        return {told.payment for told in self.told if told.word == word and told.channel == channel}

    def announced(self, *, channel: str = "ops", words: Collection[str] = ("NEW",)) -> Counter[tuple[str, str]]:
        """Return (payment, kind) of every message with one of these words, repetitions of one message included."""
        return Counter(
            (told.payment, told.kind) for told in self.told if told.word in words and told.channel == channel
        )

    def repeated(self, *, channel: str = "ops") -> list[str]:
        """Return the keys of messages that came more than once."""
        return [
            key for key, times in Counter(t.key for t in self.told if t.channel == channel).items() if key and times > 1
        ]

    def summary(self) -> list[tuple[str, str, str, str]]:
        return [(told.channel, told.word, told.kind, told.payment) for told in self.told]


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Yield a receiver that listens on this machine."""
    receiver = Sink()
    app = web.Application(client_max_size=1 << 22)
    app.router.add_route("*", "/{anything:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        receiver.base = f"http://{host}:{port}"
        yield receiver
    finally:
        await runner.cleanup()
