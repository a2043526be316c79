"""Discord, by webhook: the first message of a story is posted and kept by its id, what follows edits it.

The address is the credential. `wait=true` makes Discord save the message before it answers, and answer with it; a
message that was deleted meanwhile is posted anew. Nothing in a message can mention anybody, whatever it says. Limits:
Discord's documentation of webhooks and embeds.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from yarl import URL

from paidwatch.channels.http import Answer, Exchange, Limits, parse_url, refuse
from paidwatch.channels.layout import NOTHING, Fact, Room, facts_of, source_of, title_of
from paidwatch.channels.settings import DiscordSettings
from paidwatch.core.model import Notice, Word
from paidwatch.core.text import clean, defang, fit, is_plain_command
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
"""Kept for the command, the count of missing facts and the footer."""

_UNKNOWN_WEBHOOK: Final = 10015
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
        self._session = session
        self._clock = clock
        self._limits = limits

    async def send(self, message: Message) -> Receipt:
        """Edit the story's message where there is one that still exists, else post one.

        Raises DeliveryError.
        """
        exchange = Exchange(self._session, self._limits)
        webhook = parse_url(self._url)
        body = _encode(payload(message.notice))
        known = message.earlier.get("message_id", "")
        if _ID.fullmatch(known):
            thread = message.earlier.get("thread_id", "")
            address = _in_thread(webhook / "messages" / known, thread)
            answer = await exchange.request("PATCH", address, body=body)
            if not _is_gone(answer):
                return self._receipt(answer, thread, len(body))
        thread = self._thread or webhook.query.get("thread_id", "")
        answer = await exchange.request("POST", _in_thread(webhook.update_query(wait="true"), thread), body=body)
        return self._receipt(answer, thread, len(body))

    async def aclose(self) -> None:
        """Nothing is held."""

    def _receipt(self, answer: Answer, thread: str, size: int) -> Receipt:
        """Return the message's id; without one nobody can tell that it was saved: the answer may be a proxy's page."""
        saved = answer.json().get("id")
        if answer.status not in {200, 201} or not isinstance(saved, str) or not _ID.fullmatch(saved):
            raise refuse("Discord", answer, now=self._clock.now(), code=_code(answer))
        reference = {"message_id": saved, "thread_id": thread}
        return Receipt(reference=reference, code=str(answer.status), size=size)


def _in_thread(address: URL, thread: str) -> URL:
    """Return the address for a thread; without it Discord looks in the webhook's own channel."""
    return address.update_query(thread_id=thread) if _ID.fullmatch(thread) else address


def _is_gone(answer: Answer) -> bool:
    """Whether the message that was to be edited does not exist any more, while the webhook does."""
    return answer.status == 404 and answer.json().get("code") != _UNKNOWN_WEBHOOK  # noqa: PLR2004


def _code(answer: Answer) -> str:
    """Return Discord's error number beside the status, where it gives one."""
    code = answer.json().get("code")
    known = isinstance(code, int) and not isinstance(code, bool) and 0 < code < 1_000_000  # noqa: PLR2004
    return f"{answer.status}/{code}" if known else ""


def _encode(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def payload(notice: Notice) -> dict[str, object]:
    """Return the message inside every limit: the title for notifications, the facts in one embed."""
    room = Room(_EMBEDS - _RESERVE)
    content = f"**{fit(title_of(notice), _TITLE, escape=escape)}**"
    embed: dict[str, object] = {
        "description": room.fit(clean(notice.summary), _DESCRIPTION, escape=escape),
        "color": _COLOURS.get(notice.word, _OTHER_COLOUR),
        "fields": [*_fields(notice, room), *_next(notice)],
        "footer": {"text": fit(source_of(notice), _FOOTER, escape=defang)},
        "timestamp": notice.at.astimezone(UTC).isoformat(timespec="seconds"),
    }
    return {"content": content, "embeds": [embed], "allowed_mentions": {"parse": []}}


def escape(text: str) -> str:
    """Put a backslash before every character that means something to Discord, and leave no address to click."""
    shown = _SPECIAL.sub(r"\\\1", defang(text))
    return _LIST.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\.", shown)


def _fields(notice: Notice, room: Room) -> Iterator[dict[str, object]]:
    """Yield the facts, and how many there was no room for."""
    facts = facts_of(notice.lines)
    for place, fact in enumerate(facts):
        rest = len(facts) - place
        if (place >= _FIELDS - 2 and rest > 1) or room.left < len(fact.label) + _NAME:
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
    """Yield the next command; only harmless characters stand in a code block."""
    command = clean(notice.command)
    if command and len(command) <= _COMMAND and is_plain_command(command):
        yield {"name": "Next", "value": f"```\n{command}\n```", "inline": False}
    elif command:
        yield {"name": "Next", "value": fit(command, _COMMAND, escape=escape), "inline": False}
