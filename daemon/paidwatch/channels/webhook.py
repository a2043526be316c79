"""Any receiver of JSON: every message with its facts for machines, signed after the Standard Webhooks convention.

Headers: `webhook-id`, the same on every attempt; `webhook-timestamp`, fresh on each; `webhook-signature`, one `v1,…`
per key: base64 of HMAC-SHA256 over `id.timestamp.body`. Nothing of a message is cut for looks, only what would make
the body longer than receivers have to take.
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from pydantic import SecretStr

from paidwatch.channels.http import Exchange, Limits, parse_url, refuse
from paidwatch.channels.layout import digest_of, link_of
from paidwatch.channels.settings import WebhookSettings
from paidwatch.config.credentials import key_of
from paidwatch.core.text import clean, fit
from paidwatch.errors import ConfigError
from paidwatch.ports import Clock, Message, Receipt

SCHEMA: Final = 1
"""Version of the body: it grows when a field changes its meaning or goes, not when one is added."""
LARGEST: Final = 64 * 1024
"""Bytes of a body."""
PACE: Final = timedelta(milliseconds=50)

_LENGTHS: Final = (4000, 1000, 250, 60)
"""Lengths of one value, tried until the body is small enough."""
_MOST_LINES: Final = 100


class Webhook:
    """One receiver of JSON."""

    kind = "webhook"
    parallel = 4

    def __init__(
        self, name: str, settings: WebhookSettings, *, session: aiohttp.ClientSession, clock: Clock, limits: Limits
    ) -> None:
        """Keep what is needed; the session belongs to the caller. Raises ConfigError for a key that is none."""
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._url = settings.url
        self._keys = tuple(read_key(secret) for secret in settings.secrets)
        self._session = session
        self._clock = clock
        self._limits = limits

    async def send(self, message: Message) -> Receipt:
        """Post the message; any 2xx is a success.

        Raises DeliveryError.
        """
        exchange = Exchange(self._session, self._limits)
        now = self._clock.now()
        body = body_of(message)
        name = f"msg_{digest_of(message.key)}"
        headers = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp()))}
        if self._keys:
            headers["webhook-signature"] = " ".join(sign(key, name, now, body) for key in self._keys)
        answer = await exchange.request("POST", parse_url(self._url), body=body, headers=headers)
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return Receipt(reference={"webhook_id": name}, code=str(answer.status), size=len(body))
        raise refuse("the receiver", answer, now=now)

    async def aclose(self) -> None:
        """Nothing is held."""


def sign(key: bytes, name: str, moment: datetime, body: bytes) -> str:
    """Return one signature of one attempt."""
    signed = f"{name}.{int(moment.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def read_key(secret: SecretStr) -> bytes:
    """Return the key in a secret of the form `whsec_` and base64; the prefix may be missing.

    Raises ConfigError without any part of the secret.
    """
    key = key_of(secret)
    if key:
        return key
    raise ConfigError(
        "the key of a webhook channel is not base64", remedy="make one: `openssl rand -base64 24`, after `whsec_`"
    )


def body_of(message: Message) -> bytes:
    """Return the message as JSON of at most 64 KiB: `{"type", "timestamp", "schema", "data"}`."""
    body = b""
    for most in _LENGTHS:
        body = json.dumps(_content(message, most), ensure_ascii=False).encode()
        if len(body) <= LARGEST:
            break
    return body


def _content(message: Message, most: int) -> dict[str, object]:
    """Return what is sent, no text of it longer than `most`."""
    notice = message.notice
    lines: list[dict[str, str]] = []
    for line in notice.lines[:_MOST_LINES]:
        value = line.value.astimezone(UTC).isoformat() if isinstance(line.value, datetime) else _text(line.value, most)
        lines.append({"label": _text(line.label, most), "value": value})
    if len(notice.lines) > _MOST_LINES:
        lines.append({"label": "", "value": f"({len(notice.lines) - _MOST_LINES} more lines)…"})
    return {
        "type": f"alert.{notice.word.lower()}",
        "timestamp": notice.at.astimezone(UTC).isoformat(),
        "schema": SCHEMA,
        "data": {
            "alert_id": _text(notice.alert_id, most),
            "thread": _text(message.thread, most),
            "word": notice.word,
            "kind": _text(notice.kind, most),
            "open": notice.open,
            "subject": _text(notice.subject, most),
            "summary": _text(notice.summary, most),
            "command": _text(notice.command, most),
            **({"link": link} if (link := link_of(notice)) else {}),
            "lines": lines,
            "facts": {_text(name, most): _text(fact, most) for name, fact in notice.extra.items()},
        },
    }


def _text(text: str, most: int) -> str:
    """Return one line without anything that JSON's readers choke on."""
    return fit(clean(text), most)
