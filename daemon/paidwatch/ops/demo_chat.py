"""A chat for the demo: takes what Slack's and Discord's webhooks take, answers as they do, keeps what people see.

The Slack side says a message anew each time; the Discord side keeps messages by their id and
lets them be edited.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Final

import anyio
from aiohttp import web

from paidwatch.ops.loopback import Loopback

SLACK: Final = "slack"
DISCORD: Final = "discord"

_WORD: Final = re.compile(r"\W*([A-Z]+) · ")
_CUSTOMER: Final = re.compile(r"\buser (\d+) ")
_SLACK_DATE: Final = re.compile(r"<!date\^(\d+)\^[^>]*>")
_DISCORD_DATE: Final = re.compile(r"<t:(\d+):f>, <t:\d+:R>")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One message as a person sees it, without the service's markup."""

    channel: str
    """`slack` or `discord`."""
    edited: bool
    """It replaces an earlier message at its place."""
    title: str
    summary: str
    facts: Sequence[tuple[str, str]]
    command: str
    source: str

    @property
    def word(self) -> str:
        """The first word of the title: NEW, FIXED, RESOLVED."""
        found = _WORD.match(self.title)
        return found[1] if found else ""

    @property
    def customer(self) -> int | None:
        """The user the message is about."""
        found = _CUSTOMER.search(self.title)
        return int(found[1]) if found else None


class Chat(Loopback):
    """The server, and everything that was said in it."""

    def __init__(self, on_message: Callable[[Shown], None]) -> None:
        """Remember whom to show each message."""
        super().__init__(
            web.post("/slack", self._take_slack),
            web.post("/discord", self._take_discord),
            web.patch("/discord/messages/{id}", self._edit_discord),
        )
        self.messages: list[Shown] = []
        self._on_message = on_message
        self._more = anyio.Event()
        self._ids: set[str] = set()

    def address(self, channel: str) -> str:
        """Return the webhook's address of one channel."""
        return f"{self.url}/{channel}"

    def about(self, customer: int, channel: str) -> list[Shown]:
        """Return what one channel was told about a customer, in order."""
        return [shown for shown in self.messages if shown.customer == customer and shown.channel == channel]

    async def wait_for(self, wanted: Callable[[], bool], limit: timedelta) -> bool:
        """Wait until `wanted` holds, looking at every message; False if it does not within `limit`."""
        with anyio.move_on_after(limit.total_seconds()):
            while not wanted():
                more = self._more
                await more.wait()
        return wanted()

    async def _take_slack(self, request: web.Request) -> web.Response:
        self._show(_read_slack(await request.json()))
        return web.Response(text="ok")

    async def _take_discord(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{len(self._ids) + 1:018}"
        self._ids.add(name)
        self._show(_read_discord(body, edited=False))
        return web.json_response({"id": name}) if request.query.get("wait") == "true" else web.Response(status=204)

    async def _edit_discord(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self._ids:
            return web.json_response({"code": 10008, "message": "Unknown Message"}, status=404)
        self._show(_read_discord(await request.json(), edited=True))
        return web.json_response({"id": name})

    def _show(self, shown: Shown) -> None:
        self.messages.append(shown)
        self._on_message(shown)
        former, self._more = self._more, anyio.Event()
        former.set()


def _read_slack(body: Mapping[str, Any]) -> Shown:
    texts = list(_slack_texts(body["blocks"]))
    title, *sections = [text for kind, text in texts if kind in {"header", "section"}]
    command = next((text for text in sections if "```" in text), "")
    plain = [text for text in sections if "```" not in text]
    fields = [text for kind, text in texts if kind == "field"]
    facts = list(zip((label.strip("*") for label in fields[::2]), fields[1::2], strict=True))
    facts += [(label, value) for label, _colon, value in (text.partition(": ") for text in plain[1:])]
    return Shown(
        channel=SLACK,
        edited=False,
        title=title,
        summary=plain[0] if plain else "",
        facts=facts,
        command=command.rpartition("```")[0].rpartition("```")[2],
        source=next((text for kind, text in texts if kind == "context"), ""),
    )


def _slack_texts(blocks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each text of a message with the kind of block it stands in."""
    for block in blocks:
        kind = block["type"]
        if "text" in block:
            yield kind, _slack_text(block["text"])
        for inner in block.get("fields", ()):
            yield "field", _slack_text(inner)
        for inner in block.get("elements", ()):
            yield kind, _slack_text(inner)


def _slack_text(element: Mapping[str, Any]) -> str:
    text = str(element["text"])
    if element["type"] == "mrkdwn":
        text = _SLACK_DATE.sub(lambda found: _clock(found[1]), text)
    return unescape(text)


def _read_discord(body: Mapping[str, Any], *, edited: bool) -> Shown:
    embed = body["embeds"][0]
    fields = [(_bare(field["name"]), _discord_text(field["value"])) for field in embed["fields"]]
    command = next((value for name, value in fields if name == "Next"), "")
    return Shown(
        channel=DISCORD,
        edited=edited,
        title=_bare(body["content"].removeprefix("**").removesuffix("**")),
        summary=_bare(embed["description"]),
        facts=[fact for fact in fields if fact[0] != "Next"],
        command=command.strip("`\n"),
        source=embed["footer"]["text"],
    )


def _discord_text(text: str) -> str:
    return _bare(_DISCORD_DATE.sub(lambda found: _clock(found[1]), text))


def _bare(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _clock(unix: str) -> str:
    """Return a moment as the reader's own clock shows it."""
    return f"{datetime.fromtimestamp(int(unix), UTC).astimezone():%H:%M:%S}"
