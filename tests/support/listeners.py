"""The other ends of the daemon's channels, as people see them: strict services that say what they were told.

Each `Listener` stands before one of the strict fakes of tests/channels/fakes and keeps what that one took, read back
into the same words whatever the service: the word of the title, the kind, the payment, the facts, the whole text.
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from aiohttp import web

from tests.channels.fakes.discord import Discord
from tests.channels.fakes.http import Received, Service, serving
from tests.channels.fakes.receiver import Receiver
from tests.channels.fakes.slack import slack
from tests.support.daemon import Sections
from tests.support.sink import WITHIN

KEY = b"a key of the tests only"
PATHS = {"webhook": "/hook", "slack": "/services/T0/B0/x", "discord": "/api/webhooks/1/x"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message that a service took."""

    word: str
    kind: str
    payment: str
    """Empty: it is about no payment."""
    edited: bool
    """An earlier message was changed; nothing new appeared."""
    key: str
    """The same on every attempt of one message, where the service has such a thing."""
    facts: Mapping[str, str]
    """What the message says, by label."""
    text: str
    """Everything that it says."""


class Listener(Service):
    """One channel: its service, what it took, and whoever waits for more."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(handler=self._take)
        self.name = name
        self.kind = kind
        self.heard: list[Heard] = []
        self.refused: list[int] = []
        self.answers = 0
        """A status that everything is answered with instead of being taken; 0: the service works."""
        self.on_taken: Callable[[Heard], None] | None = None
        """Called when a message was taken and the sender does not know it yet."""
        self.hanging = 0
        """Requests that were accepted and never answered."""
        self.hangs = False
        self._service = _service(kind)
        self._news = anyio.Event()

    @property
    def section(self) -> Sections:
        """The channel in the daemon's configuration, without a pace that would only cost the tests time."""
        address = {"type": self.kind, "url": self.base + PATHS[self.kind], "pace": "1ms"}
        if self.kind == "webhook":
            address["secret"] = "whsec_" + b64encode(KEY).decode()
        return {f"channels.{self.name}": address}

    async def _take(self, request: Received) -> web.Response:
        if self.hangs:
            self.hanging += 1
            self._ring()
            await anyio.sleep_forever()
        if self.answers:
            self.refused.append(self.answers)
            self._ring()
            return web.Response(status=self.answers)
        answer = await self._service.handler(request)
        if 200 <= answer.status < 300:
            heard = _READ[self.kind](request)
            self.heard.append(heard)
            if self.on_taken is not None:
                self.on_taken(heard)
        else:
            self.refused.append(answer.status)
        self._ring()
        return answer

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, condition: Callable[[], bool], *, within: float = WITHIN) -> None:
        """Wait until `condition` holds, looking again whenever a request came."""
        with anyio.move_on_after(within):
            while not condition():
                await self._news.wait()
        assert condition(), f"{self.name} after {within} s: {self.counted()}, refused {Counter(self.refused)}"

    async def until_told(self, payments: AbstractSet[str], *, word: str = "NEW", within: float = WITHIN) -> None:
        """Wait until each of these payments was told of by this word."""
        await self.until(lambda: payments <= {one.payment for one in self.heard if one.word == word}, within=within)

    def counted(self, *, edited: bool | None = None) -> Counter[tuple[str, str]]:
        """Return how often each (kind, word) was told; only by edits, or only by new messages, if asked for."""
        return Counter((one.kind, one.word) for one in self.heard if edited is None or one.edited is edited)

    def stories(self) -> dict[str, list[Heard]]:
        """Return what was told of each payment, in order."""
        told: dict[str, list[Heard]] = {}
        for one in self.heard:
            if one.payment:
                told.setdefault(one.payment, []).append(one)
        return told


@asynccontextmanager
async def listening(**kinds: str) -> AsyncIterator[dict[str, Listener]]:
    """Yield one listener per channel: `listening(ops="webhook", chat="discord")`."""
    async with AsyncExitStack() as stack:
        found = {name: Listener(name, kind) for name, kind in kinds.items()}
        for listener in found.values():
            await stack.enter_async_context(serving(listener))
        yield found


def sections(listeners: Mapping[str, Listener]) -> Sections:
    """Return these channels as the daemon's configuration names them."""
    return {name: values for listener in listeners.values() for name, values in listener.section.items()}


def _service(kind: str) -> Service:
    match kind:
        case "webhook":
            return Receiver(PATHS[kind], KEY, datetime.now(UTC))
        case "slack":
            return slack(PATHS[kind])
        case "discord":
            return Discord(PATHS[kind])
        case _:
            raise AssertionError(kind)


def _of_webhook(request: Received) -> Heard:
    data = json.loads(request.body)["data"]
    facts = {line["label"]: line["value"] for line in data["lines"]}
    return Heard(
        word=data["word"],
        kind=data["kind"],
        payment=data["facts"].get("payment_id", ""),
        edited=False,
        key=request.headers["webhook-id"],
        facts=facts,
        text=_together(f"{data['word']} · {data['subject']}", data["summary"], facts),
    )


def _of_discord(request: Received) -> Heard:
    payload = json.loads(request.body)
    (embed,) = payload["embeds"]
    title = _plain(payload["content"]).strip("*")
    facts = {_plain(field["name"]): _plain(field["value"]) for field in embed["fields"]}
    return Heard(
        word=title.partition(" · ")[0],
        kind=embed["footer"]["text"].rpartition(" · ")[2],
        payment=_payment(facts),
        edited=request.method == "PATCH",
        key="",
        facts=facts,
        text=_together(title, _plain(embed["description"]), facts),
    )


def _of_slack(request: Received) -> Heard:
    payload: dict[str, Any] = json.loads(request.body)
    header, *blocks, context = payload["blocks"]
    title = header["text"]["text"].partition(" ")[2]
    facts: dict[str, str] = {}
    for block in blocks:
        texts = [text["text"] for text in block.get("fields", [])]
        facts |= {label.strip("*"): value for label, value in zip(texts[::2], texts[1::2], strict=True)}
        label, colon, value = block.get("text", {}).get("text", "").partition(": ")
        if colon:
            facts[label] = value
    return Heard(
        word=title.partition(" · ")[0],
        kind=context["elements"][0]["text"].rpartition(" · ")[2],
        payment=_payment(facts),
        edited=False,
        key="",
        facts=facts,
        text=_together(title, payload["text"], facts),
    )


_READ: Mapping[str, Callable[[Received], Heard]] = {
    "webhook": _of_webhook,
    "discord": _of_discord,
    "slack": _of_slack,
}


def _plain(text: str) -> str:
    return text.replace("\\", "")


def _payment(facts: Mapping[str, str]) -> str:
    return facts.get("Payment", "").partition(" ")[0]


def _together(title: str, summary: str, facts: Mapping[str, str]) -> str:
    return "\n".join([title, summary, *(f"{label}: {value}" for label, value in facts.items())])
