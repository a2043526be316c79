"""Discord's webhooks: posting, editing, threads, and the limits of embeds."""

import json
from collections.abc import Set as AbstractSet
from typing import Any

from aiohttp import web

from tests.channels.fakes.http import Received, Service, utf16


class Discord(Service):
    """Keeps its messages, as people would see them."""

    def __init__(self, path: str, *, forum: bool = False) -> None:
        super().__init__(handler=self._handle)
        self.path = path
        self.forum = forum
        self.messages: dict[str, dict[str, Any]] = {}
        self.threads: dict[str, str] = {}
        """Which thread a message is in, by its id."""
        self.names: dict[str, str] = {}
        """What the threads of a forum are called, by their ids."""
        self.archived: set[str] = set()
        self._next = 1_100_000_000_000_000_000

    def forget(self) -> None:
        """Somebody deleted everything."""
        self.messages.clear()
        self.names.clear()

    async def _handle(self, request: Received) -> web.Response:
        if not request.path.startswith(self.path):
            return _error(404, 10015, "Unknown Webhook")
        if request.headers["content-type"] != "application/json":
            return _error(400, 50035, "Invalid Form Body")
        payload = json.loads(request.body)
        rest = request.path.removeprefix(self.path)
        if problems := violations(payload, {"thread_name"} if request.method == "POST" else set()):
            return _error(400, 50035, "Invalid Form Body", errors={"_errors": problems})
        thread = request.query.get("thread_id", "")
        if request.method == "POST" and not rest:
            return self._save(request, payload, thread)
        known = rest.removeprefix("/messages/")
        if request.method == "PATCH" and known in self.messages and self.threads[known] == thread:
            if thread in self.archived:
                return _error(400, 50083, "Thread is archived")
            self.messages[known] = payload
            return web.json_response({"id": known, "channel_id": thread or "1", **payload})
        return _error(404, 10008, "Unknown Message")

    def _save(self, request: Received, payload: dict[str, Any], thread: str) -> web.Response:
        name = payload.get("thread_name")
        if name is not None and not self.forum:
            return _error(400, 220003, "Webhooks can only create threads in forum channels")
        if name is not None and thread:
            return _error(400, 220002, "Webhooks cannot have both a thread_name and thread_id")
        if self.forum and name is None and not thread:
            return _error(400, 220001, "Webhooks posted to forum channels must have a thread_name or thread_id")
        if self.forum and thread and thread not in self.names:
            return _error(404, 10003, "Unknown Channel")
        self.archived.discard(thread)
        self._next += 1
        message = str(self._next)
        if name is not None:
            self._next += 1
            thread = str(self._next)
            self.names[thread] = name
        self.messages[message] = payload
        self.threads[message] = thread
        if request.query.get("wait") != "true":
            return web.Response(status=204)
        return web.json_response({"id": message, "channel_id": thread or "1", **payload})


def _error(status: int, code: int, message: str, **more: Any) -> web.Response:
    return web.json_response({"message": message, "code": code, **more}, status=status)


def violations(payload: dict[str, Any], also: AbstractSet[str] = frozenset()) -> list[str]:
    """Everything that Discord would refuse, or that might call somebody."""
    found = [f"unknown: {name}" for name in payload.keys() - {"content", "embeds", "allowed_mentions", *also}]
    if "thread_name" in payload and not 1 <= utf16(payload["thread_name"]) <= 100:
        found.append("a thread's name has 1 to 100 characters")
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
