"""A receiver of signed webhooks that checks what Standard Webhooks asks to be checked."""

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from tests.channels.fakes.http import Received, Service

TOLERANCE = timedelta(minutes=5)
LARGEST = 64 * 1024


class Receiver(Service):
    """Takes what is signed with its key and fresh, and each id once."""

    def __init__(self, path: str, key: bytes, now: datetime) -> None:
        super().__init__(handler=self._handle)
        self.path = path
        self.key = key
        self.now = now
        self.taken: dict[str, dict[str, Any]] = {}

    async def _handle(self, request: Received) -> web.Response:
        if request.path != self.path:
            return web.Response(status=404)
        if len(request.body) > LARGEST:
            return web.Response(status=413)
        name, moment = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        if abs(self.now.timestamp() - int(moment)) > TOLERANCE.total_seconds():
            return web.Response(status=400, text="not fresh")
        digest = hmac.new(self.key, f"{name}.{moment}.".encode() + request.body, hashlib.sha256).digest()
        wanted = "v1," + base64.b64encode(digest).decode()
        if wanted not in request.headers["webhook-signature"].split(" "):
            return web.Response(status=401)
        self.taken.setdefault(name, json.loads(request.body))
        return web.Response(status=204)
