"""The application's endpoint for a manual activation: the configured templates, filled in and sent.

Path, header values and body are the owner's; what fills them is the stored plan of one activation, so that every
retry sends the same. Neither an answer's words nor the client's leave this module: they may hold what was sent.
"""

import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from string import printable
from typing import Final, cast
from urllib.parse import quote

import aiohttp

from paidwatch.config.activation import PLACEHOLDER, ActivationHttp
from paidwatch.errors import ConfigError
from paidwatch.outbound import Answer, Exchange, Limits, Problem, read_url, retry_after, trust
from paidwatch.ports import Ask, Reply

LONGEST_CONNECT: Final = timedelta(seconds=5)
NUMBERS: Final = frozenset({"user_id", "days", "payment_id", "activation_id"})
"""Placeholders that are sent as numbers where they are."""
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_HEADER: Final = "".join(sorted(set(printable) - set("%\t\n\r\x0b\x0c")))
"""What may stand in a header's value as it is."""

Json = str | int | float | bool | None | Mapping[str, "Json"] | list["Json"]


class Endpoint:
    """Asks the application to activate."""

    def __init__(self, settings: ActivationHttp, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> None:
        """Bind the templates; `build` makes one."""
        self._settings = settings
        self._session = session
        self._tls = tls
        self.timeout = settings.timeout
        self.retry_after = settings.retry_after
        self.most_calls = 1 + settings.retries

    async def activate(self, ask: Ask) -> Reply:
        """Send one request and return what came back; whatever goes wrong is a reply too."""
        values = values_of(ask)
        url = read_url(fill(self._settings.url, {name: quote(text, safe="") for name, text in values.items()}))
        if url is None:
            return Reply(code="address", said="the configured address is not an http or https address", reached=False)
        headers = {
            name: fill(value.get_secret_value(), {key: quote(text, safe=_HEADER) for key, text in values.items()})
            for name, value in self._settings.headers.items()
        }
        limits = Limits(total=self.timeout, connect=min(self.timeout, LONGEST_CONNECT))
        body = json.dumps(fill_body(self._settings.body, values), ensure_ascii=False).encode()
        outcome = await Exchange(self._session, limits, self._tls).request(
            self._settings.method, url, body=body, headers=headers
        )
        return _reply(outcome)


def build(settings: ActivationHttp, session: aiohttp.ClientSession) -> Endpoint | None:
    """Return the endpoint of [activation.http], None where it has no address; reads `ca_file`, so it may block.

    Raises ConfigError where `ca_file` cannot be used.
    """
    if not settings.url:
        return None
    try:
        return Endpoint(settings, session, trust(settings.ca_file))
    except (OSError, ssl.SSLError):
        problem = "activation.http.ca_file cannot be read as certificates"
    raise ConfigError(problem, remedy="Name a readable file in PEM format, or leave it out for the system's.")


def values_of(ask: Ask) -> dict[str, str]:
    """Return what the placeholders stand for."""
    return {
        "user_id": ask.user_id,
        "plan_id": ask.plan_id,
        "days": str(ask.days),
        "reason": ask.reason,
        "payment_id": ask.payment_id,
        "reference": ask.reference,
        "activation_id": str(ask.activation_id),
    }


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in the place of their names, once: a value's own braces stay what they are."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def fill_body(template: object, values: Mapping[str, str]) -> Json:
    """Fill every text of a body; one that is a number's placeholder and nothing else becomes a number if it is one."""
    match template:
        case str():
            alone = PLACEHOLDER.fullmatch(template)
            filled = fill(template, values)
            return int(filled) if alone and alone[1] in NUMBERS and _NUMBER.fullmatch(filled) else filled
        case dict():
            return {key: fill_body(item, values) for key, item in cast("Mapping[str, object]", template).items()}
        case list():
            return [fill_body(item, values) for item in cast("list[object]", template)]
        case Decimal():
            return int(template) if template == template.to_integral_value() else float(template)
        case None | bool() | int() | float():
            return template
        case _:  # refused by the configuration
            return str(template)


def _reply(outcome: Answer | Problem) -> Reply:
    match outcome:
        case Answer(status=status):
            wish = retry_after(outcome, now=datetime.now(UTC))
            return Reply(code=str(status), said=f"answered {status}", retry_after=wish)
        case Problem(code=code, said=said, reached=reached):
            return Reply(code=code, said=said, reached=reached)
