"""Asking a provider's API about one payment: one request with every limit, and nothing of it in what goes wrong.

What differs between providers, the address, the header with the key and the words, is in the modules `api_…`. An answer
is believed only if it names the payment that was asked about.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, assert_never

import aiohttp
from pydantic import SecretStr
from yarl import URL

from paidwatch.core.answer import Answer, Trouble, Unanswered
from paidwatch.core.webhook import Status
from paidwatch.outbound import Answer as Response
from paidwatch.outbound import Exchange, Limits, Problem, read_url, retry_after
from paidwatch.providers.parsing import LONGEST_WORD, Unreadable, parse, table

LIMITS: Final = Limits(total=timedelta(seconds=5), connect=timedelta(seconds=3))
_OK: Final = 200
_TROUBLES: Final[Mapping[int, Trouble]] = {
    401: Trouble.REFUSED,
    403: Trouble.REFUSED,
    404: Trouble.MISSING,
    429: Trouble.BUSY,
}
_SERVER_ERRORS: Final = range(500, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an answer says, before it is known whether it is about the right payment."""

    ids: frozenset[str]
    """Every id of the payment that the answer names."""
    status: Status
    said: str
    amount: Decimal | None
    currency: str | None


class Api(ABC):
    """The API of one provider."""

    usual_url: str
    """Where it is unless the configuration says otherwise, without a slash at the end."""

    def __init__(
        self,
        name: str,
        methods: frozenset[str],
        key: SecretStr,
        url: str,
        session: aiohttp.ClientSession,
        limits: Limits = LIMITS,
    ) -> None:
        """Bind `[providers.NAME]`, the payment methods that mean it (small letters), its key, and its address or ""."""
        self.name: Final = name
        self.methods: Final = methods
        self._key: Final = key
        self._base: Final = (url or self.usual_url).rstrip("/")
        self._session: Final = session
        self._limits: Final = limits

    async def ask(self, reference: str) -> Answer | Unanswered:
        """Ask about one payment; never raises, and ends within 5 seconds."""
        path = self.path(reference)
        url = read_url(f"{self._base}{path}") if path else None
        if url is None:
            return Unanswered(trouble=Trouble.FORM)
        at = datetime.now(UTC)
        match await self._get(url):
            case Problem(code="timeout" | "connect_timeout"):
                return Unanswered(trouble=Trouble.TIMEOUT)
            case Problem():
                return Unanswered(trouble=Trouble.UNREACHABLE)
            case Response() as response:
                return self._understood(response, reference, at)
            case _ as unreachable:
                assert_never(unreachable)

    async def _get(self, url: URL) -> Response | Problem:
        headers = self.headers(self._key.get_secret_value().strip()) | {"Accept": "application/json"}
        return await Exchange(self._session, self._limits).request("GET", url, headers=headers)

    def _understood(self, response: Response, reference: str, at: datetime) -> Answer | Unanswered:
        if response.status != _OK:
            wait = retry_after(response, now=at)
            if response.status in _SERVER_ERRORS:
                return Unanswered(trouble=Trouble.FAILING, retry_after=wait)
            return Unanswered(trouble=_TROUBLES.get(response.status, Trouble.ODD), retry_after=wait)
        try:
            payload = table(parse(response.body))
        except Unreadable:
            return Unanswered(trouble=Trouble.UNREADABLE)
        found = self.read(payload, reference)
        if found is None:
            return Unanswered(trouble=Trouble.UNREADABLE)
        if reference not in found.ids:
            return Unanswered(trouble=Trouble.OTHER)
        return Answer(
            status=found.status,
            said=found.said[: 2 * LONGEST_WORD],
            amount=found.amount,
            currency=found.currency if found.amount is not None else None,
            at=at,
        )

    @abstractmethod
    def path(self, reference: str) -> str | None:
        """Return where a payment is found below the API's address, None where `reference` is none of its ids."""

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""

    @abstractmethod
    def read(self, payload: Mapping[str, object], reference: str) -> Found | None:
        """Return what an answer says; None where it is not of the form that is known."""
