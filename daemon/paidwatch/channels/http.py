"""What a channel needs of HTTP: requests whose failures are DeliveryErrors, and what a status means for a delivery.

The requests themselves are those of `paidwatch.outbound`. A DeliveryError is raised outside of any `except` block, so
that no traceback has an address to show.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import aiohttp
from pydantic import SecretStr
from yarl import URL

from paidwatch import outbound
from paidwatch.errors import DeliveryError, Fault
from paidwatch.outbound import (
    LONGEST_WAIT,
    MOST_ANSWER,
    Answer,
    Limits,
    json_object,
    open_session,
    read_seconds,
    read_url,
    retry_after,
)

__all__ = [
    "LONGEST_WAIT",
    "MOST_ANSWER",
    "Answer",
    "Exchange",
    "Limits",
    "fault_of",
    "json_object",
    "open_session",
    "parse_url",
    "pause_after",
    "refuse",
    "retry_after",
]


def parse_url(secret: SecretStr) -> URL:
    """Return the address in `secret`, unchanged by any quoting.

    Raises DeliveryError (channel) where it is none; a configuration that was checked never gets here.
    """
    url = read_url(secret.get_secret_value())
    if url is None:
        raise DeliveryError(
            "the channel's address is not an http or https address", fault=Fault.CHANNEL, code="address"
        )
    return url


class Exchange:
    """The requests of one delivery, all of them under one time limit that starts with the first."""

    def __init__(self, session: aiohttp.ClientSession, limits: Limits) -> None:
        """Start the clock."""
        self._exchange = outbound.Exchange(session, limits)

    async def request(self, method: str, url: URL, *, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON and return the answer, whatever its status. A redirect is an answer and is not followed.

        Raises DeliveryError (transient) if there is no complete answer within the limits.
        """
        outcome = await self._exchange.request(method, url, body=body, headers=headers)
        if isinstance(outcome, Answer):
            return outcome
        raise DeliveryError(outcome.said, fault=Fault.TRANSIENT, code=outcome.code)


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


def pause_after(answer: Answer) -> timedelta | None:
    """Return how long a service that took this request wants no further one: until its count of requests is new.

    Read are `X-RateLimit-Remaining` and `X-RateLimit-Reset-After`; None where there are requests left.
    """
    if (answer.headers.get("X-RateLimit-Remaining") or "").strip() != "0":
        return None
    return read_seconds(answer.headers.get("X-RateLimit-Reset-After"))
