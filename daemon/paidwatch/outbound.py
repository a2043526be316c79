"""One HTTP request to somebody else's server, with every limit and no secret in what goes wrong.

An HTTP client's exceptions, their causes and contexts contain the address, and the address is often the credential.
So they end here: what leaves is an answer or a problem in constant words. A redirect is an answer and never followed,
certificates are always verified, and of an answer no more is read than `MOST_ANSWER`.
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import Final, cast

import aiohttp
import anyio
from yarl import URL

from paidwatch import __version__

MOST_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read; what comes after is not waited for."""
LONGEST_WAIT: Final = timedelta(hours=6)
"""What a service may ask us to wait at most; more is a mistake or malice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long the requests of one exchange may take; no exchange takes longer than `total`."""

    total: timedelta = timedelta(seconds=15)
    connect: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service said."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Case-insensitive."""
    body: bytes = field(repr=False)
    """At most 64 KiB of it."""

    def json(self) -> dict[str, object]:
        """Return the body's JSON object, empty if it is none."""
        return json_object(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why there is no complete answer, in constant words that a person may read."""

    said: str
    code: str
    reached: bool = True
    """False: nothing of the request can have reached the service, because there was no connection."""


def open_session() -> aiohttp.ClientSession:
    """Return a session for requests to others: no cookies, no proxy or password from the environment."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"paidwatch/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def trust(ca_file: str) -> ssl.SSLContext | None:
    """Return what certificates are verified with: the authorities in `ca_file`, None for those of the system.

    Raises OSError or ssl.SSLError where the file cannot be read or holds no certificate.
    """
    return ssl.create_default_context(cafile=ca_file) if ca_file else None


def read_url(text: str) -> URL | None:
    """Return the http or https address in `text`, unchanged by any quoting; None where it is none."""
    try:
        url = URL(text, encoded=True)
    except ValueError:
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


class Exchange:
    """Requests under one time limit that starts when this is built."""

    def __init__(self, session: aiohttp.ClientSession, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        """Start the clock; `tls` is what `trust` returned."""
        self._session = session
        self._connect = limits.connect.total_seconds()
        self._until = anyio.current_time() + limits.total.total_seconds()
        self._tls = tls

    async def request(
        self, method: str, url: URL, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer | Problem:
        """Send `body`, as JSON unless `headers` say otherwise, and return the answer whatever its status."""
        sent = {"Content-Type": "application/json"} if body else {}
        with anyio.CancelScope(deadline=self._until):
            return await self._attempt(method, url, body, _joined(sent, headers or {}))
        return Problem(said="the service did not answer in time", code="timeout")

    async def _attempt(self, method: str, url: URL, body: bytes, headers: Mapping[str, str]) -> Answer | Problem:
        """Return what came back; an exception of the client stays here."""
        limit = aiohttp.ClientTimeout(total=None, connect=self._connect, ceil_threshold=float("inf"))
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=limit,
                ssl=True if self._tls is None else self._tls,
            ) as response:
                return Answer(status=response.status, headers=response.headers, body=await _beginning(response))
        except TimeoutError:
            return Problem(said="no connection could be made in time", code="connect_timeout", reached=False)
        except (ssl.SSLError, aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch):
            return Problem(said="the service's certificate was not accepted", code="tls", reached=False)
        except aiohttp.ClientConnectorError:
            return Problem(said="no connection could be made", code="connect", reached=False)
        except (aiohttp.ClientError, OSError, ValueError):
            return Problem(said="the connection was lost before there was a complete answer", code="network")


def _joined(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Return headers where `then` replaces those of `first` that have the same name in any case."""
    names = {name.lower() for name in then}
    return {name: value for name, value in first.items() if name.lower() not in names} | dict(then)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Read the answer up to the limit; a longer one costs its connection."""
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) >= MOST_ANSWER:
            response.close()
            break
    return bytes(read[:MOST_ANSWER])


def json_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in `body`, empty if there is none."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def retry_after(answer: Answer, *, now: datetime) -> timedelta | None:
    """Return how long the service wants us to wait: the longest of what it says, at most `LONGEST_WAIT`.

    Read are `Retry-After` as whole seconds, as a decimal number and as an HTTP date, and JSON's `retry_after`; and
    `X-RateLimit-Reset-After` of a rate limit. A date is measured from the service's own `Date` where it gives one.
    """
    said = [
        read_seconds(answer.headers.get("Retry-After")),
        _until(answer.headers.get("Retry-After"), _moment(answer.headers.get("Date")) or now),
        read_seconds(answer.json().get("retry_after")),
    ]
    if answer.status == 429:  # noqa: PLR2004
        said.append(read_seconds(answer.headers.get("X-RateLimit-Reset-After")))
    return max((span for span in said if span is not None), default=None)


def read_seconds(value: object) -> timedelta | None:
    """Read a number of seconds, rounded up to a millisecond so that it is never undercut."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = min(float(value), LONGEST_WAIT.total_seconds())
    except OverflowError:
        number = LONGEST_WAIT.total_seconds()
    except ValueError:
        return None
    if not isfinite(number):
        return None
    return timedelta(milliseconds=ceil(max(number, 0) * 1000))


def _until(value: str | None, now: datetime) -> timedelta | None:
    """Read an HTTP date as a span from `now`."""
    moment = _moment(value)
    return None if moment is None else min(max(moment - now, timedelta()), LONGEST_WAIT)


def _moment(value: str | None) -> datetime | None:
    """Read an HTTP date; one without a zone is in GMT."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
