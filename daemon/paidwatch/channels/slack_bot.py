"""Slack, by bot token: a story's first message is posted, what follows edits it.

An edit makes no sound. A reminder or an escalation only edits, so that nobody is nagged; the story's end edits and is
said once more in one line below the message, in its thread. A message that can be edited no longer (deleted, too old,
in a channel that is out of reach) is posted anew. The token goes out as a header and nowhere else. Every answer is
200; `"ok": false` comes with a word that says what is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiohttp
from pydantic import SecretStr

from paidwatch.channels.http import Answer, Exchange, Limits, parse_url
from paidwatch.channels.settings import SlackSettings
from paidwatch.channels.slack import encode, payload, plain_payload, reply_payload, text_section
from paidwatch.channels.slack_words import API, ELSEWHERE
from paidwatch.core.model import Notice
from paidwatch.ports import Clock, Message, Receipt

PACE: Final = timedelta(milliseconds=1200)
"""`chat.update` is taken 50 times a minute, `chat.postMessage` once a second."""

_TIME: Final = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
_CHANNEL: Final = re.compile(r"[A-Z][A-Z0-9]{1,31}")
_UPDATED: Final = ("text", "blocks")
"""What `chat.update` knows of a message; the rest of a posted one it keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a message stands."""

    channel: str
    time: str
    """Slack's name for it within the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What came back, and what it came back to."""

    answer: Answer
    size: int
    plain: bool

    @property
    def code(self) -> str:
        return f"{self.answer.status} plain" if self.plain else str(self.answer.status)


class SlackBot:
    """One Slack channel, written to by a bot."""

    kind = "slack"
    parallel = 1

    def __init__(
        self, name: str, settings: SlackSettings, *, session: aiohttp.ClientSession, clock: Clock, limits: Limits
    ) -> None:
        """Keep what is needed; the session belongs to the caller."""
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._token = settings.token
        self._channel = settings.channel
        self._api = SecretStr(settings.api_url)
        self._session = session
        self._clock = clock
        self._limits = limits

    async def send(self, message: Message) -> Receipt:
        """Edit the story's message where there is one that can be edited, else post one.

        Raises DeliveryError.
        """
        exchange = Exchange(self._session, self._limits)
        place = _place_of(message.earlier)
        if place is not None:
            said = await self._edit(exchange, place, message.notice)
            if API.of(said.answer) not in API.lost | ELSEWHERE:
                return await self._close(exchange, message, said)
        said = await self._post(exchange, message.notice)
        return self._receipt(said, closed=not message.notice.open)

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _post(self, exchange: Exchange, notice: Notice) -> _Said:
        where = {"channel": self._channel, "parse": "none", "link_names": False}
        return await self._say(
            exchange, "chat.postMessage", full=where | payload(notice), plain=where | plain_payload(notice)
        )

    async def _edit(self, exchange: Exchange, place: _Place, notice: Notice) -> _Said:
        """Change the message. Its earlier blocks stay unless others replace them, so plain text is a block as well."""
        where = {"channel": place.channel, "ts": place.time, "parse": "none", "link_names": False}
        full, plain = payload(notice), plain_payload(notice)
        plain["blocks"] = [text_section(str(plain["text"]))]
        return await self._say(
            exchange,
            "chat.update",
            full=where | {name: full[name] for name in _UPDATED},
            plain=where | {name: plain[name] for name in _UPDATED},
        )

    async def _close(self, exchange: Exchange, message: Message, edit: _Said) -> Receipt:
        """Return the receipt of an edit, after one line below the message if the story has just ended."""
        ended = not message.notice.open
        receipt = self._receipt(edit, closed=ended)
        if not ended or message.earlier.get("closed"):
            return receipt
        below = {"channel": receipt.reference["channel"], "thread_ts": receipt.reference["ts"], "parse": "none"}
        body = encode(below | reply_payload(message.notice))
        answer = await self._call(exchange, "chat.postMessage", body)
        if _is_taken(answer):
            return receipt
        if API.blames_the_message(answer):
            return Receipt(reference=receipt.reference, code=f"{receipt.code} without reply", size=receipt.size)
        raise API.refusal(answer, now=self._clock.now())

    async def _say(
        self, exchange: Exchange, method: str, *, full: Mapping[str, object], plain: Mapping[str, object]
    ) -> _Said:
        """Say it in blocks; what Slack calls malformed is said once more as plain text, and never again."""
        body = encode(full)
        answer = await self._call(exchange, method, body)
        if not API.blames_the_message(answer):
            return _Said(answer=answer, size=len(body), plain=False)
        body = encode(plain)
        return _Said(answer=await self._call(exchange, method, body), size=len(body), plain=True)

    async def _call(self, exchange: Exchange, method: str, body: bytes) -> Answer:
        headers = {
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "Content-Type": "application/json; charset=utf-8",
        }
        return await exchange.request("POST", parse_url(self._api) / method, body=body, headers=headers)

    def _receipt(self, said: _Said, *, closed: bool) -> Receipt:
        """Return where the message stands; without that nobody can tell that it was taken."""
        place = _place_of(said.answer.json()) if _is_taken(said.answer) else None
        if place is None:
            raise API.refusal(said.answer, now=self._clock.now())
        return Receipt(
            reference={
                "channel": place.channel,
                "ts": place.time,
                "closed": "yes" if closed else "",
            },
            code=said.code,
            size=said.size,
        )


def _is_taken(answer: Answer) -> bool:
    return answer.status == 200 and answer.json().get("ok") is True  # noqa: PLR2004


def _place_of(said: Mapping[str, object]) -> _Place | None:
    """Return where a message stands by an answer or a reference, None where it is not said in Slack's own form."""
    channel, time = said.get("channel"), said.get("ts")
    if isinstance(channel, str) and isinstance(time, str) and _CHANNEL.fullmatch(channel) and _TIME.fullmatch(time):
        return _Place(channel=channel, time=time)
    return None
