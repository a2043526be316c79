"""One HTTP request to a service that people use, with every limit and no secret in what goes wrong.

An HTTP client's exceptions, their causes and contexts contain the address, and the address is often the credential.
So they end here: what leaves is a DeliveryError in constant words, raised outside of any `except` block, so that no
traceback has anything to show.
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
from pydantic import SecretStr
from yarl import URL

from paidwatch import __version__
from paidwatch.errors import DeliveryError, Fault

MOST_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read; what comes after is not waited for."""
LONGEST_WAIT: Final = timedelta(hours=6)
"""What a service may ask us to wait at most; more is a mistake or malice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a delivery may take; no delivery takes longer than `total`."""

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


def open_session() -> aiohttp.ClientSession:
    """Return the session that all HTTP channels share: no cookies, no proxy or password from the environment."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"paidwatch/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def parse_url(secret: SecretStr) -> URL:
    """Return the address in `secret`, unchanged by any quoting.

    Raises DeliveryError (channel) where it is none; a configuration that was checked never gets here.
    """
    try:
        url = URL(secret.get_secret_value(), encoded=True)
        usable = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        url, usable = URL(), False
    if not usable:
        raise DeliveryError(
            "the channel's address is not an http or https address", fault=Fault.CHANNEL, code="address"
        )
    return url


class Exchange:
    """The requests of one delivery, all of them under one time limit that starts with the first."""

    def __init__(self, session: aiohttp.ClientSession, limits: Limits) -> None:
        """Start the clock."""
        self._session = session
        self._connect = limits.connect.total_seconds()
        self._until = anyio.current_time() + limits.total.total_seconds()

    async def request(self, method: str, url: URL, *, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON and return the answer, whatever its status. A redirect is an answer and is not followed.

        Raises DeliveryError (transient) if there is no complete answer within the limits.
        """
        with anyio.CancelScope(deadline=self._until):
            outcome = await self._attempt(method, url, body, {"Content-Type": "application/json", **(headers or {})})
            if isinstance(outcome, Answer):
                return outcome
            raise DeliveryError(outcome.said, fault=Fault.TRANSIENT, code=outcome.code)
        raise DeliveryError("the service did not answer in time", fault=Fault.TRANSIENT, code="timeout")

    async def _attempt(self, method: str, url: URL, body: bytes, headers: Mapping[str, str]) -> "Answer | _Problem":
        """Return what came back; an exception of the client stays here."""
        limit = aiohttp.ClientTimeout(total=None, connect=self._connect, ceil_threshold=float("inf"))
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=limit
            ) as response:
                return Answer(status=response.status, headers=response.headers, body=await _beginning(response))
        except TimeoutError:
            return _Problem("no connection could be made in time", "connect_timeout")
        except (ssl.SSLError, aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch):
            return _Problem("the service's certificate was not accepted", "tls")
        except aiohttp.ClientConnectorError:
            return _Problem("no connection could be made", "connect")
        except (aiohttp.ClientError, OSError, ValueError):
            return _Problem("the connection was lost before there was a complete answer", "network")


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why there is no answer, in constant words."""

    said: str
    code: str


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


def refuse(service: str, answer: Answer, *, now: datetime, fault: Fault | None = None, code: str = "") -> DeliveryError:
    """Return the error for an answer that is not a success, with how long the service wants us to wait.

    `fault` and `code` are for where the service says more than the status does. None of its own words are repeated:
    they may hold what was sent to it.
    """
    said = f"{service} answered {answer.status}" + (f" {code.removeprefix(f'{answer.status}/')}" if code else "")
    return DeliveryError(
        said,
        fault=fault or fault_of(answer.status),
        code=code or str(answer.status),
        retry_after=retry_after(answer, now=now),
    )


def fault_of(status: int) -> Fault:
    """Return whose fault a status is.

    408, 425, 429 and 5xx pass; 401, 403, 404 and 410 say that the address is wrong, revoked or gone, and so does a
    redirect, which is never followed; any other 4xx is about this message.
    """
    match status:
        case 408 | 425 | 429:
            return Fault.TRANSIENT
        case 401 | 403 | 404 | 410:
            return Fault.CHANNEL
        case _ if 300 <= status < 400:  # noqa: PLR2004
            return Fault.CHANNEL
        case _ if 400 <= status < 500:  # noqa: PLR2004
            return Fault.MESSAGE
        case _:
            return Fault.TRANSIENT


def retry_after(answer: Answer, *, now: datetime) -> timedelta | None:
    """Return how long the service wants us to wait: the longest of what it says, at most `LONGEST_WAIT`.

    Read are `Retry-After` as whole seconds, as a decimal number and as an HTTP date, and JSON's `retry_after`; and
    `X-RateLimit-Reset-After` of a rate limit. A date is measured from the service's own `Date` where it gives one.
    """
    said = [
        _seconds(answer.headers.get("Retry-After")),
        _until(answer.headers.get("Retry-After"), _moment(answer.headers.get("Date")) or now),
        _seconds(answer.json().get("retry_after")),
    ]
    if answer.status == 429:  # noqa: PLR2004
        said.append(_seconds(answer.headers.get("X-RateLimit-Reset-After")))
    return max((span for span in said if span is not None), default=None)


def pause_after(answer: Answer) -> timedelta | None:
    """Return how long a service that took this request wants no further one: until its count of requests is new.

    Read are `X-RateLimit-Remaining` and `X-RateLimit-Reset-After`; None where there are requests left.
    """
    if (answer.headers.get("X-RateLimit-Remaining") or "").strip() != "0":
        return None
    return _seconds(answer.headers.get("X-RateLimit-Reset-After"))


def _seconds(value: object) -> timedelta | None:
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
