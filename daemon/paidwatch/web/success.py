"""What the pages for customers have in common: the owner's choices, who may ask how much, and what no answer says.

A provider's number comes back unsigned, because the provider adds it. So it is told about, but who tries numbers that
nobody knows is stopped after a few: all that could be learnt is that somebody paid here, and it would take years.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from paidwatch.core.session import Asked, Sight, State
from paidwatch.core.webhook import Order
from paidwatch.ops.metrics import PageResult
from paidwatch.store.sessions import Found
from paidwatch.web.rate import Buckets, Network, Rate, client_of, retry_after

RATE: Final = Rate(burst=30, refill=timedelta(seconds=1))
"""A page asks every two seconds at most; several customers may share an address."""
GUESSES: Final = Rate(burst=20, refill=timedelta(seconds=30))
"""Numbers that lead nowhere, for one client. One that leads somewhere costs nothing, nor does asking for it again."""
MOST_TRIED: Final = 20_000
LATER: Final = timedelta(seconds=5)
"""When to ask again where the database did not answer."""
SIGNATURE: Final = "sig"
RESULT: Final = web.RequestKey("result", PageResult)
"""What a handler says of its request, where the status of the answer does not say it."""


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


class Tally(Protocol):
    """Who counts; `ops.metrics` in the daemon."""

    def page(self, page: str, result: PageResult) -> None:
        """Count a request that ended."""
        ...

    def streams(self, count: int) -> None:
        """Take how many streams are open."""
        ...


class Door:
    """Lets a client in or sends it away; one for all pages for customers, so that they share the client's buckets."""

    def __init__(
        self,
        monotonic: Callable[[], timedelta],
        trusted: Sequence[Network],
        *,
        rate: Rate = RATE,
        guesses: Rate = GUESSES,
        tally: Tally | None = None,
    ) -> None:
        """Open the door; `trusted` are the proxies whose word counts."""
        self._tally = tally
        self._trusted = trusted
        self._buckets = Buckets(rate, monotonic)
        self._guesses = Buckets(guesses, monotonic)
        self._tried: OrderedDict[tuple[str, str], bool] = OrderedDict()
        """Who tried which number, and whether it was known."""

    def client(self, request: web.Request) -> str:
        """Return who asks."""
        return client_of(request, self._trusted)

    def refuse(self, request: web.Request) -> web.Response | None:
        """Return the refusal of a client that asks too much, None for the others."""
        wait = self._buckets.take(self.client(request))
        return too_many(wait) if wait else None

    def guess(self, request: web.Request, asked: Asked) -> timedelta:
        """Return how long a client that tries one number after the other has to wait; zero: the id may be looked up."""
        tried = (self.client(request), asked.id)
        if not asked.number or tried in self._tried:
            return timedelta()
        wait = self._guesses.take(tried[0])
        if not wait:
            self._tried[tried] = False
            if len(self._tried) > MOST_TRIED:
                self._tried.popitem(last=False)
        return wait

    def told(self, request: web.Request, asked: Asked, sight: Sight) -> None:
        """Remember that something is known of the id, if so: then it was no guess."""
        if sight.state is State.UNKNOWN:
            return
        request[RESULT] = PageResult.KNOWN
        tried = (self.client(request), asked.id)
        if self._tried.get(tried) is False:
            self._tried[tried] = True
            self._guesses.give_back(tried[0])

    def streams(self, count: int) -> None:
        """Pass on how many streams are open."""
        if self._tally is not None:
            self._tally.streams(count)

    def counted(self, page: str, handler: Handler) -> Handler:
        """Return a page's handler whose requests are counted as they end."""

        async def count(request: web.Request) -> web.StreamResponse:
            answer = await handler(request)
            if self._tally is not None:
                self._tally.page(page, _BY_STATUS.get(answer.status) or request.get(RESULT, PageResult.UNKNOWN))
            return answer

        return count


_BY_STATUS: Final = {429: PageResult.LIMITED, 503: PageResult.AWAY}


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
