"""Discord's webhooks: posting, editing, threads, and the limits of embeds."""

import json
from typing import Any

from aiohttp import web

from tests.channels.fakes.http import Received, Service, utf16


class Discord(Service):
    """Keeps its messages, as people would see them."""

    def __init__(self, path: str) -> None:
        super().__init__(handler=self._handle)
        self.path = path
        self.messages: dict[str, dict[str, Any]] = {}
        self.threads: dict[str, str] = {}
        self._next = 1_100_000_000_000_000_000

    def forget(self) -> None:
        """Somebody deleted everything."""
        self.messages.clear()

    async def _handle(self, request: Received) -> web.Response:
        if not request.path.startswith(self.path):
            return _error(404, 10015, "Unknown Webhook")
        payload = json.loads(request.body)
        if problems := violations(payload):
            return _error(400, 50035, "Invalid Form Body", errors={"_errors": problems})
        rest = request.path.removeprefix(self.path)
        thread = request.query.get("thread_id", "")
        if request.method == "POST" and not rest:
            self._next += 1
            name = str(self._next)
            self.messages[name] = payload
            self.threads[name] = thread
            if request.query.get("wait") != "true":
                return web.Response(status=204)
            return web.json_response({"id": name, "channel_id": thread or "1", **payload})
        known = rest.removeprefix("/messages/")
        if request.method == "PATCH" and known in self.messages and self.threads[known] == thread:
            self.messages[known] = payload
            return web.json_response({"id": known, **payload})
        return _error(404, 10008, "Unknown Message")


def _error(status: int, code: int, message: str, **more: Any) -> web.Response:
    return web.json_response({"message": message, "code": code, **more}, status=status)


def violations(payload: dict[str, Any]) -> list[str]:
    """Everything that Discord would refuse, or that might call somebody."""
    found: list[str] = []
    if payload.get("allowed_mentions") != {"parse": []}:
        found.append("mentions are allowed")
    embeds = payload.get("embeds", [])
    _most(found, "content", payload.get("content", ""), 2000)
    if len(embeds) > 10:
        found.append("more than 10 embeds")
    total = 0
    for embed in embeds:
        parts = [
            ("title", embed.get("title", ""), 256),
            ("description", embed.get("description", ""), 4096),
            ("footer", embed.get("footer", {}).get("text", ""), 2048),
            ("author", embed.get("author", {}).get("name", ""), 256),
        ]
        if len(embed.get("fields", [])) > 25:
            found.append("more than 25 fields")
        for field in embed.get("fields", []):
            if not field["name"] or not field["value"]:
                found.append("an empty field")
            parts += [("field name", field["name"], 256), ("field value", field["value"], 1024)]
        for what, text, most in parts:
            _most(found, what, text, most)
            total += utf16(text)
    if total > 6000:
        found.append(f"{total} characters in all embeds")
    return found


def _most(found: list[str], what: str, text: str, most: int) -> None:
    if utf16(text) > most:
        found.append(f"{what} of {utf16(text)} characters")
