"""The kinds of value a configuration holds: each reads text, says what is wrong with it, and writes it back."""

import ipaddress
import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema

from paidwatch.config.duration import EXAMPLES, format_duration, parse_duration
from paidwatch.config.wrong import Wrong, did_you_mean

LONGEST_NAME: Final = 63
"""Bytes of a PostgreSQL identifier (NAMEDATALEN - 1)."""

MOST: Final = 1_000_000
"""Counts go no further: what is larger was hardly meant, and PostgreSQL's integers end."""

_UNQUOTED: Final = r"[^\W\d][\w$]*"
_QUOTED: Final = r'"(?:[^"\0]|"")+"'
_PART: Final = re.compile(f"{_UNQUOTED}|{_QUOTED}")
_TABLE: Final = re.compile(rf"(?:{_UNQUOTED}|{_QUOTED})(?:\.(?:{_UNQUOTED}|{_QUOTED}))?")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9]{1,9}")
_INTERNAL: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test")
_DSN: Final = re.compile(
    r"postgres(?:ql)?://(?P<rest>(?P<authority>[^/?#\s]*)(?P<path>[^?#\s]*)(?:\?(?P<query>[^#\s]*))?(?:#\S*)?)"
)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]]*)(?::\d{0,5})?", re.ASCII)
_DSN_WORDS: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
_LISTEN: Final = re.compile(r"[A-Za-z0-9.:%_-]+")
_HIGHEST_PORT: Final = 65535


_Items = TypeVar("_Items", bound=tuple[object, ...])


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        what = "is a number without a unit" if number else "is not a duration"
        raise Wrong(what, EXAMPLES)
    try:
        return parse_duration(value)
    except ValueError as error:
        raise Wrong(str(error), EXAMPLES) from None


def _above_zero(span: timedelta) -> timedelta:
    if not span:
        what = "is zero"
        raise Wrong(what, "it must be longer than nothing")
    return span


def table_parts(text: str) -> tuple[str, str]:
    """Return schema and table of `schema.table`, `table` or `shop."Payments"`, folded as PostgreSQL folds them."""
    names = [
        part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
        for part in (found[0] for found in _PART.finditer(text))
    ]
    return ("public", names[0]) if len(names) == 1 else (names[0], names[1])


def _check_table(text: str) -> str:
    if not text:
        return text
    if not _TABLE.fullmatch(text) or any(not _short(part) for part in table_parts(text)):
        what = "is not the name of a table"
        raise Wrong(what, 'write "table", "schema.table" or, with capital letters, \'shop."Payments"\'')
    return text


def _check_identifier(text: str) -> str:
    if text and (not _short(text) or not text.isprintable() or '"' in text or text != text.strip()):
        what = "is not a name in the database"
        raise Wrong(what, f"write it exactly as stored, without quotes, at most {LONGEST_NAME} bytes")
    return text


def _short(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) <= LONGEST_NAME


def _not_empty(text: str) -> str:
    if not text:
        what = "is empty"
        raise Wrong(what, "it cannot be left out")
    return text


def _check_words(words: Sequence[str]) -> tuple[str, ...]:
    for word in words:
        if not word or word != word.strip():
            what = "contains an empty word or one with blanks around it"
            raise Wrong(what, "write the words exactly as they stand in the table")
    if len(set(words)) < len(words):
        what = "names a word twice"
        raise Wrong(what, "keep one of them")
    return tuple(words)


def check_some(items: _Items) -> _Items:
    """Return `items` if there are any; raises Wrong."""
    if not items:
        what = "must not be empty"
        raise Wrong(what, "name at least one")
    return items


def _check_dsn(dsn: SecretStr) -> SecretStr:
    """Refuse what the client library would misread; it would repeat a part of the password, or try for ever."""
    found = _DSN.fullmatch(dsn.get_secret_value())
    if not found:
        what = "is not the address of a PostgreSQL database"
        raise Wrong(what, 'write it like "postgresql://user@host:5432/database"; percent-encode blanks')
    login, _at, hosts = found["authority"].rpartition("@")
    if "@" in login or "[" in login or "@" in found["path"] or "#" in found["rest"]:
        what = "has a sign in its password, or elsewhere, that has a meaning in addresses"
        raise Wrong(what, "percent-encode it: @ is %40, / is %2F, # is %23, ? is %3F, [ is %5B")
    if any(not _HOST.fullmatch(host) for host in hosts.split(",")):
        what = "has a port that is no number, or a sign in its password that must be encoded"
        raise Wrong(what, 'write it like "postgresql://user:password@host:5432/database"; / is %2F, : is %3A')
    for name, value in parse_qsl(found["query"] or "", keep_blank_values=True):
        if value not in (known := _DSN_WORDS.get(name, (value,))):
            what = f"has a {name} that there is not"
            raise Wrong(what, did_you_mean(value, known) or f"write one of {', '.join(known)}")
    return dsn


def check_url(text: str) -> str:
    """Return `text` if it is an https address, or an http address inside the operator's own network.

    Raises Wrong without any part of the address: it may be a credential.
    """
    form = "write it like https://host/path; plain http only to an address inside your own network"
    if not text.isprintable() or any(blank in text for blank in " \t\\<>\"'"):
        what = "contains a character that no address may contain"
        raise Wrong(what, form)
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        what = "is not an address"
        raise Wrong(what, form) from None
    if parts.scheme not in {"https", "http"} or not host:
        what = "is not an http or https address"
        raise Wrong(what, form)
    if parts.scheme == "http" and not _is_internal(host):
        what = "would send in clear text over the internet"
        raise Wrong(what, "write https instead of http")
    return text


def check_no_login(text: str, seen_by: str) -> None:
    """Raise Wrong if an address has a user name or a password in it, which `seen_by` would read."""
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        what = f"contains a user name or a password, which {seen_by} would see"
        raise Wrong(what, "leave them out")


def _is_internal(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL)
    return address.is_private or address.is_loopback or address.is_link_local


def is_loopback(host: str) -> bool:
    """Return whether `host` names this machine and nothing else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _check_secret_url(url: SecretStr) -> SecretStr:
    check_url(url.get_secret_value())
    return url


def _check_optional_secret_url(url: SecretStr) -> SecretStr:
    return _check_secret_url(url) if url.get_secret_value() else url


def _check_optional_url(text: str) -> str:
    return check_url(text) if text else text


def listen_parts(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:8787` or `[::1]:8787`; raises Wrong."""
    host, _colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    digits = port.isascii() and port.isdigit()
    if not _LISTEN.fullmatch(bare) or (":" in bare) is not bracketed or not digits or int(port) > _HIGHEST_PORT:
        what = "is not an address to listen on"
        raise Wrong(what, 'write it like "127.0.0.1:8787" or "[::1]:8787" ("0.0.0.0:8787" for all), or "" for none')
    return bare, int(port)


def _check_listen(text: str) -> str:
    if text:
        listen_parts(text)
    return text


def _check_mailbox(text: str) -> str:
    local, _at, domain = text.rpartition("@")
    if not local or not domain or not text.isprintable() or any(sign in text for sign in " ,;<>"):
        what = "is not an e-mail address"
        raise Wrong(what, 'write it like "ops@example.org"')
    return text


def _check_host(text: str) -> str:
    port = text.count(":") == 1
    if not text or port or not text.isprintable() or any(sign in text for sign in " /@"):
        what = "is not the name of a host"
        raise Wrong(what, 'write it like "smtp.example.org", without port and scheme')
    return text


def _check_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        what = "is not an IP address or a network"
        raise Wrong(what, 'write it like "192.0.2.7", "10.0.0.0/8" or "2001:db8::/32"') from None


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        what = "is not a usable name"
        raise Wrong(what, "begin with a small letter, go on with small letters, digits, _ and -")
    return text


def _check_currency(text: str) -> str:
    if not _CURRENCY.fullmatch(text.upper()):
        what = "is not the code of a currency"
        raise Wrong(what, "write it like USD or USDT")
    return text.upper()


def _refuse_truth(value: object) -> object:
    if isinstance(value, bool):
        what = "must be a whole number"
        raise Wrong(what, "true and false are none")
    return value


_DURATION_SCHEMA: Final = WithJsonSchema({"type": "string", "format": "duration", "examples": ["90s", "1h30m"]})
_write_duration: Final = PlainSerializer(format_duration, return_type=str)

Duration = Annotated[timedelta, BeforeValidator(_read_duration), _write_duration, _DURATION_SCHEMA]
"""A duration that may be zero."""
Span = Annotated[
    timedelta, BeforeValidator(_read_duration), AfterValidator(_above_zero), _write_duration, _DURATION_SCHEMA
]
"""A duration longer than zero."""
Count = Annotated[int, BeforeValidator(_refuse_truth)]
"""A whole number; `true`, which would be 1, is none."""
Table = Annotated[str, AfterValidator(_check_table), AfterValidator(_not_empty)]
OptionalTable = Annotated[str, AfterValidator(_check_table)]
"""A table, or "" where the application has none."""
Column = Annotated[str, AfterValidator(_check_identifier), AfterValidator(_not_empty)]
OptionalColumn = Annotated[str, AfterValidator(_check_identifier)]
"""A column, or "" where the table has none."""
Role = Annotated[str, AfterValidator(_check_identifier)]
Words = Annotated[tuple[str, ...], AfterValidator(_check_words)]
"""Status words, exactly as they stand in the table."""
SomeWords = Annotated[Words, AfterValidator(check_some)]
"""At least one status word."""
Dsn = Annotated[SecretStr, AfterValidator(_check_dsn)]
Url = Annotated[str, AfterValidator(_check_optional_url)]
"""An address that is no secret, or ""."""
SecretUrl = Annotated[SecretStr, AfterValidator(_check_secret_url)]
"""An address that is a credential."""
OptionalSecretUrl = Annotated[SecretStr, AfterValidator(_check_optional_secret_url)]
"""The same, or ""."""
Address = Annotated[str, AfterValidator(check_url)]
"""An address that is no secret."""
Listen = Annotated[str, AfterValidator(_check_listen)]
Mailbox = Annotated[str, AfterValidator(_check_mailbox)]
Mailboxes = Annotated[tuple[Mailbox, ...], AfterValidator(check_some)]
"""At least one e-mail address."""
Host = Annotated[str, AfterValidator(_check_host)]
Network = Annotated[str, AfterValidator(_check_network)]
"""An IP address or a network of them."""
Name = Annotated[str, AfterValidator(_check_name)]
"""The NAME of a `[channels.NAME]` or `[providers.NAME]`."""
Currency = Annotated[str, AfterValidator(_check_currency)]
