"""What paidwatch may do itself about a gap: mode, limits, breaker, links, and the application's own endpoint."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from paidwatch.config.credentials import NO_SECRET
from paidwatch.config.section import Section
from paidwatch.config.values import MOST, Count, Span, Url
from paidwatch.config.wrong import Wrong, did_you_mean

PLACEHOLDERS: Final = ("user_id", "plan_id", "days", "reason", "payment_id", "reference", "activation_id")
"""What may stand in braces in the address's path, in header values and in texts of the body."""
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
SHORTEST_LINK_KEY: Final = 32

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_DEEPEST: Final = 8
_KNOWN: Final = f"known: {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"


def _unknown(text: str) -> Iterator[str]:
    """Yield the names in braces that stand for nothing."""
    return (name for name in PLACEHOLDER.findall(text) if name not in PLACEHOLDERS)


def _no_such(name: str, below: tuple[str | int, ...] = ()) -> Wrong:
    remedy = did_you_mean(name, PLACEHOLDERS) or _KNOWN
    return Wrong(f"contains {{{name}}}, which stands for nothing", remedy, below=below)


def _texts(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every text of a body with the way to it; raises Wrong at what is not JSON."""
    match value:
        case str():
            yield path, value
        case dict() if len(path) < _DEEPEST:
            for key, item in cast("Mapping[str, object]", value).items():
                yield from _texts(item, (*path, key))
        case list() if len(path) < _DEEPEST:
            for index, item in enumerate(cast("list[object]", value)):
                yield from _texts(item, (*path, index))
        case Decimal() if not value.is_finite():
            what = "is not a number that can be sent"
            raise Wrong(what, below=path)
        case None | bool() | int() | Decimal():
            return
        case _:
            what = "cannot be sent as JSON"
            raise Wrong(what, "write text, a number, true or false, a list or a table", below=path)


class ActivationHttp(Section):
    """The application's own endpoint for a manual activation, which the strategy `http` asks.

    `PLACEHOLDERS` in braces are filled in. A text of the body that is one of them and nothing else becomes a number
    where it is one. The reason must stand in the body: paidwatch recognises by it what it asked for.
    """

    url: Url = ""
    """Address of the endpoint."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """HTTP method."""
    form: Literal["json"] = "json"
    """How the body is written."""
    body: dict[str, object] = Field(default={})
    """Fields of the body: text, numbers, truth values, lists and tables."""
    headers: dict[str, SecretStr] = Field(default={})
    """Request headers, for example Authorization."""
    timeout: Span = timedelta(seconds=10)
    """Longest wait for an answer. After it the tables are read before anything is asked again."""
    retries: Count = Field(default=3, ge=0, le=20)
    """How often it is asked again where neither an answer nor the tables say that it was done."""
    retry_after: Span = timedelta(seconds=30)
    """Wait before the first of them; it doubles from there."""
    ca_file: str = ""
    """File with the certificates to trust instead of the system's."""

    @field_validator("url")
    @classmethod
    def _placeholders_in_the_path(cls, url: str) -> str:
        parts = urlsplit(url)
        if PLACEHOLDER.search(parts.netloc):
            what = "has a placeholder in the name of its host"
            raise Wrong(what, "placeholders may stand in the path and behind it")
        for name in _unknown(url):
            raise _no_such(name)
        return url

    @field_validator("body")
    @classmethod
    def _a_body(cls, body: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        for path, text in _texts(body, ()):
            for name in _unknown(text):
                raise _no_such(name, below=path)
        if info.data.get("url") and not any("{reason}" in text for _path, text in _texts(body, ())):
            what = "has no {reason}"
            remedy = 'give the field of the reason to it, like reason = "{reason}": paidwatch finds its own work by it'
            raise Wrong(what, remedy, other="url")
        return body

    @field_validator("headers")
    @classmethod
    def _usable_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            text = value.get_secret_value()
            if not _HEADER_NAME.fullmatch(name):
                what = "is not the name of a header"
                raise Wrong(what, 'write it like Authorization = "Bearer …"', below=(name,))
            if not (text.isascii() and text.isprintable()):
                what = "contains a character that no header may contain"
                raise Wrong(what, "a line break at its end, perhaps?", below=(name,))
            if any(_unknown(text)):
                what = "contains a placeholder that there is not"
                raise Wrong(what, _KNOWN, below=(name,))
        return headers


class Activation(Section):
    """What paidwatch may do itself about a gap, and how often."""

    mode: Literal["off", "shadow", "supervised", "auto"] = "off"
    """`off` alerts only, `shadow` records what `auto` would write and later compares, `supervised` proposes it in the
    alert, `auto` does it."""
    strategy: Literal["sql", "http"] = "sql"
    """`sql` writes to the application's tables, `http` asks the application's own endpoint. What was claimed before a
    reload is ended by the strategy it was claimed for."""
    require_corroboration: bool = True
    """Act only when a signed webhook or the provider confirms the payment, not on the database row alone."""
    max_per_hour: Count = Field(default=5, ge=0, le=MOST)
    """Most automatic activations within an hour."""
    max_per_day: Count = Field(default=20, ge=0, le=MOST)
    """Most automatic activations within a day."""
    max_per_user_per_day: Count = Field(default=1, ge=0, le=MOST)
    """Most automatic activations of one user within a day."""
    max_amount: Annotated[Decimal, Field(gt=0)] | None = None
    """Largest amount that is activated automatically; left out, there is no such limit."""
    max_age: Span = timedelta(hours=72)
    """Oldest payment that is activated automatically."""
    breaker_failures: Count = Field(default=3, ge=0, le=MOST)
    """So many failed activations in a row open the breaker, which stops automatic activation until a person resumes it;
    0: never."""
    breaker_share: Decimal = Field(default=Decimal("0.5"), ge=0, le=1)
    """Share of the payments within `breaker_window` that became gaps, at which the breaker opens: a broken deploy; 0:
    never."""
    breaker_window: Span = timedelta(hours=1)
    """See `breaker_share`."""
    breaker_least: Count = Field(default=10, ge=1, le=MOST)
    """Payments within `breaker_window` before their share counts."""
    link_key: SecretStr = NO_SECRET
    """Signs the links of mode `supervised`, at least 32 characters; another key ends all links that were sent. Empty:
    no links."""
    link_ttl: Span = timedelta(hours=24)
    """How long a link may be used."""
    http: ActivationHttp = ActivationHttp()
    """See [activation.http]."""

    @field_validator("link_key")
    @classmethod
    def _not_guessable(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < SHORTEST_LINK_KEY:
            what = f"is shorter than {SHORTEST_LINK_KEY} characters"
            raise Wrong(what, "make one with: openssl rand -hex 32")
        return key

    @field_validator("http")
    @classmethod
    def _an_address_to_ask(cls, http: ActivationHttp, info: ValidationInfo) -> ActivationHttp:
        if info.data.get("strategy") == "http" and not http.url:
            what = "has no url, and activation.strategy is http"
            raise Wrong(what, 'write the address of the application\'s endpoint, or strategy = "sql"', other="strategy")
        return http
