"""`POST /webhooks/{provider}`: what a provider sends is taken, or refused by the status that says why.

200 it is kept, also where it is a duplicate · 400 no readable JSON · 401 bad signature · 404 no such provider · 405 no
POST · 408 the body did not come · 413 too large · 429 too much at once · 503 no secret is configured, or no database.
What is answered by 400 or 401 is kept and logged as well. A provider sends again what was not answered by 200.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from math import ceil
from types import MappingProxyType
from typing import Final, Protocol

import anyio
from aiohttp import hdrs, web

UPLOAD_LIMIT: Final = timedelta(seconds=10)
"""How long the body of a request may take to come."""
COME_AGAIN: Final = timedelta(seconds=30)
"""What we ask a provider to wait while the database is away."""


class Taken(StrEnum):
    """What became of one request."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """It came before and was believed then."""
    UNREADABLE = "unreadable"
    """No JSON, or JSON that different readers read differently."""
    BAD_SIGNATURE = "bad_signature"
    LIMITED = "limited"
    """Nothing was kept: this client sent too much that was not believed, or too much waits already."""
    NO_SECRET = "no_secret"  # noqa: S105  a word of a label
    """Nothing can be believed."""
    AWAY = "away"
    """Nothing was kept: the database did not take it in time."""


_SAID: Final[Mapping[Taken, tuple[int, str]]] = MappingProxyType(
    {
        Taken.ACCEPTED: (200, "taken"),
        Taken.DUPLICATE: (200, "taken before"),
        Taken.UNREADABLE: (400, "the body is no JSON that can be read"),
        Taken.BAD_SIGNATURE: (401, "the signature is not accepted"),
        Taken.LIMITED: (429, "too much at once"),
        Taken.NO_SECRET: (503, "no secret is configured for this provider"),
        Taken.AWAY: (503, "it could not be kept; send it again"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What to answer."""

    taken: Taken
    wait: timedelta | None = None
    """How long the provider is to wait before it sends again."""


class Receiver(Protocol):
    """Whoever keeps webhooks."""

    def knows(self, provider: str) -> bool:
        """Say whether webhooks of this provider are expected."""
        ...

    def has_secret(self, provider: str) -> bool:
        """Say whether there is anything to check signatures of this provider with."""
        ...

    async def receive(self, provider: str, headers: Sequence[tuple[str, str]], body: bytes, client: str) -> Receipt:
        """Keep one webhook and say what became of it, within 3 seconds. Names of headers are in small letters."""
        ...


def add_webhooks(app: web.Application, receiver: Receiver, client_of: Callable[[web.Request], str]) -> None:
    """Add the route; `client_of` says who asks, for the limits."""

    async def take(request: web.Request) -> web.Response:
        """Take one webhook."""
        if request.method != hdrs.METH_POST:
            return web.Response(status=405, text="webhooks are sent by POST\n", headers={hdrs.ALLOW: hdrs.METH_POST})
        provider = request.match_info["provider"]
        if not receiver.knows(provider):
            return web.Response(status=404, text="there is no such provider\n")
        if not receiver.has_secret(provider):
            return answer(Receipt(taken=Taken.NO_SECRET))
        try:
            with anyio.fail_after(UPLOAD_LIMIT.total_seconds()):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408, text="the body did not come in time\n")
        except (web.RequestPayloadError, ConnectionError):
            return web.Response(status=400, text="the body did not come whole\n")
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.raw_headers]
        return answer(await receiver.receive(provider, headers, body, client_of(request)))

    # Every method, so that a wrong one is told so wherever the address is reached from.
    app.router.add_route("*", "/webhooks/{provider}", take)


def answer(receipt: Receipt) -> web.Response:
    """Return what the provider is told."""
    status, text = _SAID[receipt.taken]
    wait = receipt.wait
    if wait is None and status == 503:  # noqa: PLR2004
        wait = COME_AGAIN
    headers = {} if wait is None else {hdrs.RETRY_AFTER: str(max(ceil(wait.total_seconds()), 1))}
    return web.Response(status=status, text=f"{text}\n", headers=headers)
