"""Slack, by incoming webhook.

The address is the credential. A message is accepted if and only if the answer is 200 with the body `ok`; there is no
message id, so nothing can be edited and every update is said anew. What the database says stands in `plain_text`
objects only, where Slack looks for no markup; `mrkdwn` holds constant words, times, shell commands of harmless
characters and paidwatch's own link. Limits and error words: Slack's documentation of incoming webhooks and Block Kit.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import aiohttp

from paidwatch.channels.http import Answer, Exchange, Limits, parse_url
from paidwatch.channels.layout import (
    APPROVE,
    APPROVE_WORDS,
    NOTHING,
    Fact,
    Room,
    facts_of,
    link_of,
    sentences,
    source_of,
    title_of,
)
from paidwatch.channels.settings import SlackSettings
from paidwatch.channels.slack_words import WEBHOOK
from paidwatch.core.model import Notice, Word
from paidwatch.core.text import clean, defang, fit, is_plain_command, stamp
from paidwatch.ports import Clock, Message, Receipt

PACE: Final = timedelta(seconds=1)

_HEADER: Final = 150
_SECTION: Final = 3000
_FIELD: Final = 2000
_FIELDS: Final = 10
_BLOCKS: Final = 50
_ALL: Final = 12_000
"""Below the 13 000 or so that the service takes, its own markup included."""
_FALLBACK: Final = 1500
_REPLY: Final = 400
_RESERVE: Final = 400
"""Kept for the command and the closing line."""

_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z' ]*")
_SIGNS: Final = {Word.NEW: "🔴", Word.STILL: "🟠", Word.ESCALATED: "🚨", Word.FIXED: "🟢", Word.RESOLVED: "🟢"}
_OTHER_SIGN: Final = "🔵"

Block = dict[str, object]


class Slack:
    """One Slack incoming webhook."""

    kind = "slack"
    parallel = 1

    def __init__(
        self, name: str, settings: SlackSettings, *, session: aiohttp.ClientSession, clock: Clock, limits: Limits
    ) -> None:
        """Keep what is needed; the session belongs to the caller."""
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._url = settings.url
        self._session = session
        self._clock = clock
        self._limits = limits

    async def send(self, message: Message) -> Receipt:
        """Post the message; one that Slack calls malformed is sent once more as plain text, and never again.

        Raises DeliveryError.
        """
        exchange = Exchange(self._session, self._limits)
        full = encode(payload(message.notice))
        answer = await self._post(exchange, full)
        if _is_taken(answer):
            return Receipt(reference={}, code="200", size=len(full))
        if not WEBHOOK.blames_the_message(answer):
            raise WEBHOOK.refusal(answer, now=self._clock.now())
        plain = encode(plain_payload(message.notice))
        answer = await self._post(exchange, plain)
        if _is_taken(answer):
            return Receipt(reference={}, code="200 plain", size=len(plain))
        raise WEBHOOK.refusal(answer, now=self._clock.now())

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _post(self, exchange: Exchange, body: bytes) -> Answer:
        return await exchange.request("POST", parse_url(self._url), body=body)


def _is_taken(answer: Answer) -> bool:
    """Accepted is 200 and exactly `ok`; a proxy's friendly page is neither."""
    return answer.status == 200 and answer.body == b"ok"  # noqa: PLR2004


def encode(body: Mapping[str, object]) -> bytes:
    """Return JSON as Slack takes it."""
    return json.dumps(body, ensure_ascii=False).encode()


def payload(notice: Notice) -> dict[str, object]:
    """Return the message in blocks, inside every limit, with the text that notifications show."""
    room = Room(_ALL - _RESERVE - len(link_of(notice)))
    text = room.fit(_fallback(notice), _FALLBACK, escape=escape)
    blocks = list(_head(notice, room))
    tail = list(_tail(notice))
    for block in _body(notice, room):
        if len(blocks) + len(tail) >= _BLOCKS:
            break
        blocks.append(block)
    return {"text": text, "mrkdwn": False, "blocks": blocks + tail, "unfurl_links": False, "unfurl_media": False}


def plain_payload(notice: Notice) -> dict[str, object]:
    """Return the same as one text without any markup, for when Slack does not take the blocks.

    The link stands as it is: without markup Slack still makes an address one to click.
    """
    lines = [_fallback(notice)]
    for fact in facts_of(notice.lines):
        lines += sentences(fact)
    if notice.command:
        lines.insert(1, f"Next: {clean(notice.command)}")
    approve = f"\n{APPROVE}: {link}" if (link := link_of(notice)) else ""
    room = _SECTION - len(approve)
    text = Room(room).paragraph(lines, room, escape=escape) + approve
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def reply_payload(notice: Notice) -> dict[str, object]:
    """Return one line without markup, for below a message that says the rest."""
    text = fit(_fallback(notice), _REPLY, escape=escape)
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def text_section(text: str) -> Block:
    """Return a block of text in which Slack looks for no markup."""
    return {"type": "section", "text": _plain(text)}


def escape(text: str) -> str:
    """Escape the three characters that Slack decodes, and leave no address to click."""
    return defang(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fallback(notice: Notice) -> str:
    return f"{_sign(notice)} {title_of(notice)} · {clean(notice.summary)}"


def _sign(notice: Notice) -> str:
    return _SIGNS.get(notice.word, _OTHER_SIGN)


def _head(notice: Notice, room: Room) -> Iterator[Block]:
    """Yield the title and what happened."""
    yield {"type": "header", "text": _plain(room.fit(f"{_sign(notice)} {title_of(notice)}", _HEADER, escape=escape))}
    summary = room.fit(clean(notice.summary), _SECTION, escape=escape)
    if summary:
        yield text_section(summary)


def _body(notice: Notice, room: Room) -> Iterator[Block]:
    """Yield the facts: short ones as rows of label and value, five to a section, long ones across the whole width."""
    facts = facts_of(notice.lines)
    rows: list[Block] = []
    for place, fact in enumerate(facts):
        if room.left < len(fact.label) + _RESERVE:
            yield from _rows(rows)
            yield {"type": "section", "text": _plain(f"({len(facts) - place} more facts)…")}
            return
        if fact.short:
            rows += [_label(fact.label, room), _value(fact, room)]
            if len(rows) == _FIELDS:
                yield from _rows(rows)
                rows = []
        else:
            yield from _rows(rows)
            rows = []
            yield {
                "type": "section",
                "text": _plain(room.paragraph(sentences(fact), _SECTION, escape=escape) or NOTHING),
            }
    yield from _rows(rows)


def _rows(rows: list[Block]) -> Iterator[Block]:
    if rows:
        yield {"type": "section", "fields": rows}


def _label(label: str, room: Room) -> Block:
    """Return a label, bold if it consists of letters."""
    if len(label) <= _FIELD // 10 and _LABEL.fullmatch(label):
        return _markup(room.spend(f"*{label}*"))
    return _plain(room.fit(label, _FIELD // 10, escape=escape) or NOTHING)


def _value(fact: Fact, room: Room) -> Block:
    """Return a value; a time is shown in the reader's own zone."""
    value = fact.values[0]
    if isinstance(value, datetime):
        return _markup(
            room.spend(f"<!date^{int(value.timestamp())}^{{date_short_pretty}} {{time_secs}}|{stamp(value)}>")
        )
    return _plain(room.fit(value, _FIELD, escape=escape) or NOTHING)


def _tail(notice: Notice) -> Iterator[Block]:
    """Yield the next command, the link for approving, and who says all this."""
    command = clean(notice.command)
    if command and len(command) <= _RESERVE // 2 and is_plain_command(command):
        yield {"type": "section", "text": _markup(f"*Next*\n```{command}```")}
    elif command:
        yield {"type": "section", "text": _plain(fit(f"Next: {command}", _RESERVE // 2, escape=escape))}
    if link := link_of(notice):
        yield {"type": "section", "text": _markup(f"*{APPROVE}*\n<{link}|{APPROVE_WORDS}>")}
    yield {"type": "context", "elements": [_plain(fit(source_of(notice), _HEADER, escape=escape))]}


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def _markup(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
