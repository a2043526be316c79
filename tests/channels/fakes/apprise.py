"""What Apprise's own `json://` service is told: as much as any service behind Apprise ever gets."""

import json
import re

from aiohttp import web

from tests.channels.fakes.http import Received, Service

ALIVE = re.compile(r"<|>|://|@\w|\]\(|www\.")
"""A mention, a link or a tag in one service or another."""
OWN = re.compile(r"^Approve: https://pay\.example\.org/act/[\w.-]+$", re.MULTILINE)
"""The one link that is meant to be one."""


class Told(Service):
    """Keeps titles and texts."""

    def __init__(self, path: str) -> None:
        super().__init__(handler=self._handle)
        self.path = path
        self.told: list[dict[str, str]] = []

    async def _handle(self, request: Received) -> web.Response:
        if request.path != self.path:
            return web.Response(status=404)
        said = json.loads(request.body)
        untrusted = said["title"] + OWN.sub("", said["message"])
        if len(said["message"]) > 3000 or len(said["title"]) > 150 or ALIVE.search(untrusted):
            return web.Response(status=400)
        self.told.append(said)
        return web.Response(status=200)
