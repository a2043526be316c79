"""Slack's incoming webhooks, two methods of its Web API, and the parts of Block Kit that messages may use."""

import json
import re
from typing import Any

from aiohttp import web

from tests.channels.fakes.http import Received, Service, utf16

LIVE = re.compile(r"<(?!!date\^-?\d+\^[^|<>]*\|[^|<>]*>)[^>]*>?")
"""Everything in angle brackets is a mention or a link, except a date."""
OWN = re.compile(
    r"<https://pay\.example\.org/act/[\w.-]+\|[A-Za-z ]+>|(?<=\nApprove: )https://pay\.example\.org/act/[\w.-]+$"
)
"""The one link that may be alive: paidwatch's own, with constant words, or at the very end of a text."""
MOST_IN_ALL = 13_000


def slack(path: str) -> Service:
    async def handle(request: Received) -> web.Response:
        if request.path != path:
            return web.Response(status=404, text="no_service")
        try:
            payload = json.loads(request.body)
        except ValueError:
            return web.Response(status=400, text="invalid_payload")
        if not payload.get("text"):
            return web.Response(status=400, text="no_text")
        if violations(payload):
            return web.Response(status=400, text="invalid_blocks")
        return web.Response(text="ok")

    return Service(handler=handle)


POSTED = {"channel", "text", "blocks", "mrkdwn", "parse", "link_names", "unfurl_links", "unfurl_media", "thread_ts"}
UPDATED = {"channel", "ts", "text", "blocks", "parse", "link_names"}


class SlackApi(Service):
    """`chat.postMessage` and `chat.update` for one bot in one channel; every answer is 200."""

    def __init__(self, path: str, token: str, channel: str, known: str) -> None:
        super().__init__(handler=self._handle)
        self.path = path
        self.token = token
        self.channels = {channel, known}
        """Name and id; every answer holds the id."""
        self.known = known
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, list[dict[str, Any]]] = {}
        self.uneditable = ""
        self._next = 1_700_000_000

    def forget(self) -> None:
        """Somebody deleted everything."""
        self.messages.clear()

    async def _handle(self, request: Received) -> web.Response:
        given = request.headers.get("authorization", "")
        if self.token in request.path + str(request.query) + request.body.decode():
            return _no("invalid_arguments")
        if not given:
            return _no("not_authed")
        if given != f"Bearer {self.token}":
            return _no("invalid_auth")
        if request.headers["content-type"] != "application/json; charset=utf-8":
            return _no("invalid_post_type")
        payload = json.loads(request.body)
        if payload.get("channel") not in self.channels:
            return _no("channel_not_found")
        if payload.get("parse") != "none":
            return _no("invalid_arguments")
        match request.path.removeprefix(self.path):
            case "/chat.postMessage":
                return self._post(payload)
            case "/chat.update":
                return self._update(payload)
            case _:
                return _no("unknown_method")

    def _post(self, payload: dict[str, Any]) -> web.Response:
        if payload.keys() - POSTED or payload.get("mrkdwn") is not False:
            return _no("invalid_arguments")
        if violations(payload):
            return _no("invalid_blocks")
        parent = payload.get("thread_ts")
        if parent is not None and parent not in self.messages:
            return _no("message_not_found")
        self._next += 1
        time = f"{self._next}.000100"
        if parent is None:
            self.messages[time] = payload
        else:
            self.replies.setdefault(parent, []).append(payload)
        return web.json_response({"ok": True, "channel": self.known, "ts": time, "message": payload})

    def _update(self, payload: dict[str, Any]) -> web.Response:
        if payload.keys() - UPDATED:
            return _no("invalid_arguments")
        if payload.get("ts") not in self.messages:
            return _no("message_not_found")
        if self.uneditable:
            return _no(self.uneditable)
        if utf16(payload["text"]) > 4000:
            return _no("msg_too_long")
        if violations(payload | {"unfurl_links": False, "unfurl_media": False}):
            return _no("invalid_blocks")
        self.messages[payload["ts"]] |= payload
        return web.json_response({"ok": True, "channel": self.known, "ts": payload["ts"], "text": payload["text"]})


def _no(word: str) -> web.Response:
    return web.json_response({"ok": False, "error": word})


def violations(payload: dict[str, Any]) -> list[str]:
    """Everything that Slack would refuse or bring to life in a payload."""
    found: list[str] = []
    blocks = payload.get("blocks", [])
    if len(blocks) > 50:
        found.append("more than 50 blocks")
    if not payload.get("text"):
        found.append("no text")
    if payload.get("unfurl_links") is not False or payload.get("unfurl_media") is not False:
        found.append("may unfurl")
    for block in blocks:
        found += _block(block)
    texts = [payload.get("text", ""), *(text["text"] for text in texts_of(payload))]
    if sum(utf16(text) for text in texts) > MOST_IN_ALL:
        found.append("longer than Slack takes")
    texts = [OWN.sub("", text) for text in texts]
    found += [f"live: {text!r}" for text in texts if LIVE.search(text)]
    found += [f"a link: {text!r}" for text in texts if "://" in text]
    return found


def texts_of(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """Every text object."""
    texts: list[dict[str, Any]] = []
    for block in payload.get("blocks", []):
        texts += [block["text"]] if "text" in block else []
        texts += block.get("fields", []) + block.get("elements", [])
    return texts


def _block(block: dict[str, Any]) -> list[str]:
    match block:
        case {"type": "header", "text": {"type": "plain_text"} as text}:
            return _text(text, 150)
        case {"type": "section", "text": text, **rest} if set(rest) <= {"type"}:
            return _text(text, 3000)
        case {"type": "section", "fields": [_, *_] as fields} if len(fields) <= 10:
            return [problem for text in fields for problem in _text(text, 2000)]
        case {"type": "context", "elements": [_, *_] as elements} if len(elements) <= 10:
            return [problem for text in elements for problem in _text(text, 2000)]
        case _:
            return [f"not a block: {block!r}"]


def _text(text: dict[str, Any], most: int) -> list[str]:
    if text.get("type") not in {"plain_text", "mrkdwn"}:
        return [f"not a text: {text!r}"]
    if "emoji" in text and text["type"] != "plain_text":
        return ["emoji is for plain_text"]
    if "verbatim" in text and text["type"] != "mrkdwn":
        return ["verbatim is for mrkdwn"]
    if not 1 <= utf16(text["text"]) <= most:
        return [f"{utf16(text['text'])} characters where 1 to {most} may be"]
    return []
