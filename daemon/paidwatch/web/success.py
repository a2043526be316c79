"""What the pages for customers have in common: the owner's choices, who may ask how much, and what no answer says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from aiohttp import hdrs, web

from paidwatch.core.session import Asked, Sight
from paidwatch.core.webhook import Order
from paidwatch.store.sessions import Found
from paidwatch.web.rate import Buckets, Network, Rate, client_of, retry_after

RATE: Final = Rate(burst=30, refill=timedelta(seconds=1))
"""A page asks every two seconds at most; several customers may share an address."""
LATER: Final = timedelta(seconds=5)
"""When to ask again where the database did not answer."""
SIGNATURE: Final = "sig"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessPage:
    """The owner's choices."""

    url: str
    """The application's success page; empty: there is none, and every return leads to a neutral page."""
    unknown_url: str
    """Where those go of whom nothing is known; empty: a plain page of our own."""
    key: str = field(repr=False)
    """Signs ids that can be guessed, a secret; empty: such ids are never told about."""
    origins: frozenset[str]
    """Where scripts may come from that read the answers."""
    order_of: Callable[[str], Order | None]
    """Reads order ids."""


class Following(Protocol):
    """One who waits for changes."""

    async def news(self, within: timedelta) -> Sight | None:
        """Wait for the first sight, or one that differs from the one before; None if there was none `within`."""
        ...


class Sessions(Protocol):
    """Who knows; `flow.follow` in the daemon."""

    async def look(self, asked: Sequence[Asked]) -> Sequence[Found]:
        """Return what the ids lead to, in their order. Raises DatabaseError."""
        ...


class Door:
    """Lets a client in or sends it away; one for all pages for customers, so that they share the client's bucket."""

    def __init__(self, monotonic: Callable[[], timedelta], trusted: Sequence[Network], *, rate: Rate = RATE) -> None:
        """Open the door; `trusted` are the proxies whose word counts."""
        self._trusted = trusted
        self._buckets = Buckets(rate, monotonic)

    def client(self, request: web.Request) -> str:
        """Return who asks."""
        return client_of(request, self._trusted)

    def refuse(self, request: web.Request) -> web.Response | None:
        """Return the refusal of a client that asks too much, None for the others."""
        wait = self._buckets.take(self.client(request))
        return too_many(wait) if wait else None


def too_many(wait: timedelta) -> web.Response:
    """Return 429 with the time to wait."""
    headers = {hdrs.RETRY_AFTER: retry_after(wait)}
    return web.json_response({"error": "too many requests"}, status=429, headers=headers)


def unavailable() -> web.Response:
    """Return 503: nothing can be said at present."""
    headers = {hdrs.RETRY_AFTER: retry_after(LATER)}
    return web.json_response({"error": "not available at present"}, status=503, headers=headers)


def milliseconds(sight: Sight) -> int | None:
    """Return when to ask again, None for never."""
    return None if sight.next_poll is None else sight.next_poll // timedelta(milliseconds=1)
