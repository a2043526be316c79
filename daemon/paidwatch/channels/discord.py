"""Discord, by webhook: the first message of a story is posted and kept by its id, what follows edits it.

The address is the credential. `wait=true` makes Discord save the message before it answers, and answer with it; a
message that was deleted meanwhile is posted anew. In a forum every story is a thread of its own, which the first
message opens and the answer names. Nothing in a message can mention anybody, whatever it says. Limits and error
numbers: Discord's documentation of webhooks, embeds, rate limits and status codes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from yarl import URL

from paidwatch.channels.http import Answer, Exchange, Limits, parse_url, pause_after, refuse
from paidwatch.channels.layout import (
    APPROVE,
    APPROVE_WORDS,
    NOTHING,
    PRODUCT,
    Fact,
    Room,
    facts_of,
    link_of,
    source_of,
    title_of,
)
from paidwatch.channels.settings import DiscordSettings
from paidwatch.core.model import Notice, Word
from paidwatch.core.text import clean, defang, fit, is_plain_command
from paidwatch.errors import DeliveryError, Fault
from paidwatch.ports import Clock, Message, Receipt

PACE: Final = timedelta(seconds=2)
"""A webhook may write 30 times a minute."""

_TITLE: Final = 300
"""Of 2000."""
_DESCRIPTION: Final = 1500
"""Of 4096: the facts need room too."""
_FIELDS: Final = 25
_NAME: Final = 256
_VALUE: Final = 1024
_FOOTER: Final = 200
"""Of 2048."""
_EMBEDS: Final = 6000
_COMMAND: Final = 200
_RESERVE: Final = 2 * _FOOTER + _COMMAND
"""Kept for the command, the words of the link, the count of missing facts and the footer."""

_THREAD_NAME: Final = 100

_UNKNOWN_WEBHOOK: Final = 10015
_ARCHIVED: Final = 50083
"""A message in an archived thread is not edited; a new one wakes the thread."""
_LOST: Final = frozenset({50005, 160005, _ARCHIVED})
"""Somebody else's message, or a locked or archived thread: to be posted anew."""
_BROKEN: Final = frozenset({40058, 40067, 160005, 220001, 220002, 220003, 220004})
"""The channel is a forum and not configured as one, or the other way round, or asks for tags, or is locked."""
_FULL: Final = frozenset({30046, 160006})
"""Too many edits of old messages, or too many open threads: that passes."""
_ID: Final = re.compile(r"[0-9]{1,20}")
_SPECIAL: Final = re.compile(r"([\\*_~`|<>\[\]#@])")
_LIST: Final = re.compile(r"^(?:([-+])|([0-9]+)\.(?=\s|$))")
_COLOURS: Final = {
    Word.NEW: 0xD93025,
    Word.ESCALATED: 0x9B0000,
    Word.STILL: 0xE8710A,
    Word.FIXED: 0x188038,
    Word.RESOLVED: 0x188038,
}
_OTHER_COLOUR: Final = 0x1A73E8


class Discord:
    """One Discord webhook."""

    kind = "discord"
    parallel = 1

    def __init__(
        self, name: str, settings: DiscordSettings, *, session: aiohttp.ClientSession, clock: Clock, limits: Limits
    ) -> None:
        """Keep what is needed; the session belongs to the caller."""
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._url = settings.url
        self._thread = settings.thread_id
        self._forum = settings.forum
        self._session = session
        self._clock = clock
        self._limits = limits

    async def send(self, message: Message) -> Receipt:
        """Edit the story's message where there is one that still exists, else post one.

        Raises DeliveryError.
        """
        exchange = Exchange(self._session, self._limits)
        known = message.earlier.get("message_id", "")
        thread = ""
        if _ID.fullmatch(known):
            thread = message.earlier.get("thread_id", "")
            answer, size = await self._edit(exchange, known, thread, message.notice)
            if not _is_lost(answer):
                return self._receipt(answer, thread, size)
            thread = thread if _number(answer) == _ARCHIVED else ""
        return await self._post(exchange, thread, message.notice)

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _edit(self, exchange: Exchange, known: str, thread: str, notice: Notice) -> tuple[Answer, int]:
        body = _encode(payload(notice))
        address = _in_thread(parse_url(self._url) / "messages" / known, thread)
        return await exchange.request("PATCH", address, body=body), len(body)

    async def _post(self, exchange: Exchange, thread: str, notice: Notice) -> Receipt:
        """Post into a thread, the channel, or in a forum into a new thread."""
        webhook = parse_url(self._url)
        thread = thread or self._thread or webhook.query.get("thread_id", "")
        opens = self._forum and not thread
        made = payload(notice) | ({"thread_name": thread_name(notice)} if opens else {})
        body = _encode(made)
        answer = await exchange.request("POST", _in_thread(webhook.update_query(wait="true"), thread), body=body)
        return self._receipt(answer, _opened(answer) if opens else thread, len(body))

    def _receipt(self, answer: Answer, thread: str, size: int) -> Receipt:
        """Return the message's id; without one nobody can tell that it was saved: the answer may be a proxy's page."""
        saved = answer.json().get("id")
        if answer.status not in {200, 201} or not isinstance(saved, str) or not _ID.fullmatch(saved):
            raise self._refusal(answer)
        return Receipt(
            reference={"message_id": saved, "thread_id": thread},
            code=str(answer.status),
            size=size,
            pause=pause_after(answer),
        )

    def _refusal(self, answer: Answer) -> DeliveryError:
        number = _number(answer)
        fault: Fault | None = None
        if number in _BROKEN:
            fault = Fault.CHANNEL
        elif number in _FULL:
            fault = Fault.TRANSIENT
        return refuse("Discord", answer, now=self._clock.now(), fault=fault, code=_code(answer))


def _in_thread(address: URL, thread: str) -> URL:
    """Return the address for a thread; without it Discord looks in the webhook's own channel."""
    return address.update_query(thread_id=thread) if _ID.fullmatch(thread) else address


def _is_lost(answer: Answer) -> bool:
    """Whether the message that was to be edited is gone or out of reach, while the webhook is not."""
    number = _number(answer)
    return number in _LOST or (answer.status == 404 and number != _UNKNOWN_WEBHOOK)  # noqa: PLR2004


def _opened(answer: Answer) -> str:
    """Return the thread that was opened: the channel in which the message was saved."""
    thread = answer.json().get("channel_id")
    return thread if isinstance(thread, str) and _ID.fullmatch(thread) else ""


def _number(answer: Answer) -> int:
    """Return Discord's error number, 0 where it gives none."""
    number = answer.json().get("code")
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1_000_000 else 0  # noqa: PLR2004


def _code(answer: Answer) -> str:
    """Return Discord's error number beside the status, or that the limit is that of the whole address."""
    if number := _number(answer):
        return f"{answer.status}/{number}"
    return f"{answer.status}/global" if answer.json().get("global") is True else ""


def _encode(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def payload(notice: Notice) -> dict[str, object]:
    """Return the message inside every limit: the title for notifications, the facts in one embed."""
    room = Room(_EMBEDS - _RESERVE - len(link_of(notice)))
    content = f"**{fit(title_of(notice), _TITLE, escape=escape)}**"
    embed: dict[str, object] = {
        "description": room.fit(clean(notice.summary), _DESCRIPTION, escape=escape),
        "color": _COLOURS.get(notice.word, _OTHER_COLOUR),
        "fields": [*_fields(notice, room), *_next(notice)],
        "footer": {"text": fit(source_of(notice), _FOOTER, escape=defang)},
        "timestamp": notice.at.astimezone(UTC).isoformat(timespec="seconds"),
    }
    return {"content": content, "embeds": [embed], "allowed_mentions": {"parse": []}}


def thread_name(notice: Notice) -> str:
    """Return the name of a story's thread; it is never changed, so it is what stays the same over the story."""
    return fit(clean(notice.subject), _THREAD_NAME, escape=defang) or PRODUCT


def escape(text: str) -> str:
    """Put a backslash before every character that means something to Discord, and leave no address to click."""
    shown = _SPECIAL.sub(r"\\\1", defang(text))
    return _LIST.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\.", shown)


def _fields(notice: Notice, room: Room) -> Iterator[dict[str, object]]:
    """Yield the facts, and how many there was no room for."""
    facts = facts_of(notice.lines)
    for place, fact in enumerate(facts):
        rest = len(facts) - place
        if (place >= _FIELDS - 3 and rest > 1) or room.left < len(fact.label) + _NAME:
            yield {"name": "More", "value": f"({rest} more facts)…", "inline": False}
            return
        name = room.fit(fact.label, _NAME, escape=escape) or NOTHING
        yield {"name": name, "value": _value(fact, room) or NOTHING, "inline": fact.short}


def _value(fact: Fact, room: Room) -> str:
    """Return a fact's value; a time is shown in the reader's own zone, and how long ago that is."""
    if isinstance(fact.values[0], datetime):
        unix = int(fact.values[0].timestamp())
        return room.spend(f"<t:{unix}:f>, <t:{unix}:R>")
    texts = [value for value in fact.values if isinstance(value, str)]
    return room.paragraph(texts, _VALUE, escape=escape)


def _next(notice: Notice) -> Iterator[dict[str, object]]:
    """Yield the next command, in a code block if its characters are harmless, and the link for approving."""
    command = clean(notice.command)
    if command and len(command) <= _COMMAND and is_plain_command(command):
        yield {"name": "Next", "value": f"```\n{command}\n```", "inline": False}
    elif command:
        yield {"name": "Next", "value": fit(command, _COMMAND, escape=escape), "inline": False}
    if link := link_of(notice):
        yield {"name": APPROVE, "value": f"[{APPROVE_WORDS}]({link})", "inline": False}
