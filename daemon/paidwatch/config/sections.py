"""How the daemon itself behaves: connection, grace, verdicts, deliveries, HTTP, log."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from paidwatch.config.credentials import NO_SECRET
from paidwatch.config.hours import Zone
from paidwatch.config.section import Section
from paidwatch.config.values import Count, Dsn, Duration, Listen, Network, Role, Span, Url, check_no_login
from paidwatch.config.wrong import Wrong

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_PLACE: Final = re.compile(r"[A-Za-z0-9._~%/-]*")


def _check_public(text: str) -> str:
    """Refuse what a message could not carry as a link, so that none is left out silently; see channels/layout.py."""
    if not text:
        return text
    check_no_login(text, "every reader of a message")
    parts = urlsplit(text)
    if "?" in text or "#" in text:
        what = "has something behind its path"
        raise Wrong(what, "end it with the host or a path: paidwatch adds /act/… and /webhooks/… to it")
    if not _HOST.fullmatch(parts.netloc):
        what = "has a host with letters that no link in a message may have"
        raise Wrong(what, f"write it in its ASCII form{_in_ascii(parts.hostname or '')}")
    if not _PLACE.fullmatch(parts.path):
        what = "has a sign in its path that no link in a message may have"
        raise Wrong(what, "percent-encode it: letters, digits and . _ ~ - / may stand as they are")
    if not text.startswith(("https://", "http://")):
        what = "does not begin with https:// in small letters"
        raise Wrong(what, "write it so")
    return text


def _in_ascii(host: str) -> str:
    """Return a host as the domain name system spells it, where there is such a spelling."""
    try:
        return f": {host.encode('idna').decode()}"
    except UnicodeError:
        return ", which begins with xn--"


PublicUrl = Annotated[Url, AfterValidator(_check_public)]
"""An address to which paths are added and which stands in messages, or ""."""


class Database(Section):
    """How to reach the application's database."""

    dsn: Dsn
    """Address, like `postgresql://user@host1,host2/shop?target_session_attrs=read-write`. Left out, the libpq
    environment (`PGHOST`, `PGUSER`, `PGDATABASE`, …) counts, if there is one."""
    time_zone: Zone = "UTC"
    """Zone of timestamps that carry none."""
    runtime_role: Role = ""
    """Role that `paidwatch run` logs in as; `install` grants it what it needs. Empty: the role that installs."""
    two_phase: Literal["auto", "never"] = "auto"
    """Whether payments may be committed by PREPARE TRANSACTION. PostgreSQL refuses that after a NOTIFY, so with `auto`,
    on a server that allows prepared transactions, triggers do not ring and the daemon looks every two seconds. `never`
    declares that the application does not use them."""
    connect_timeout: Span = timedelta(seconds=10)
    """Longest wait for a connection."""
    statement_timeout: Span = timedelta(seconds=30)
    """Longest run of one statement."""


class Grace(Section):
    """How long the application may take to activate a paid subscription."""

    default: Duration = timedelta(minutes=2)
    """For every payment method that `by_method` does not name."""
    by_method: dict[str, Duration] = Field(default={})
    """By payment method, in the words of the payments table; capital letters make no difference."""

    @field_validator("by_method")
    @classmethod
    def _one_per_method(cls, graces: dict[str, timedelta]) -> dict[str, timedelta]:
        seen: dict[str, str] = {}
        for method in graces:
            if method.lower() in seen:
                what = f'and "{seen[method.lower()]}" differ only in capital letters, so they are one method'
                raise Wrong(what, "keep one of them", below=(method,))
            seen[method.lower()] = method
        return graces


class VerdictRules(Section):
    """How exact the application must be."""

    period_slack: Duration = timedelta(hours=24)
    """How far paid-until may fall short of the period that was paid: months, time zones, rounding."""
    amount_tolerance: Decimal = Field(default=Decimal("0.01"), ge=0, lt=1)
    """Share of the price by which an amount may fall short: fees and rounding."""


class Reconcile(Section):
    """The search for paid payments that no notification announced."""

    look_back: Span = timedelta(hours=72)
    """How far back it looks."""
    every: Duration = timedelta(hours=1)
    """How often, besides every connect; `0s` is only then."""


class Retention(Section):
    """How long finished things are kept."""

    closed: Span = timedelta(days=180)
    """Closed watches; `stats` reads them."""
    attempts: Span = timedelta(days=30)
    """Attempts to deliver."""
    webhooks: Span = timedelta(days=30)
    """Webhooks as they came, and what passed them on; that a believed one came is known for 90 days more."""


class Deliveries(Section):
    """How a message that a channel did not take is tried again."""

    first_retry: Span = timedelta(seconds=2)
    """Wait before the first retry; it doubles from there, with jitter."""
    max_retry: Span = timedelta(minutes=15)
    """Longest wait between two tries."""
    give_up: Span = timedelta(hours=24)
    """Age at which a message becomes a dead letter."""
    lease: Span = timedelta(seconds=60)
    """How long one daemon may hold a message before another may take it."""

    @field_validator("max_retry")
    @classmethod
    def _not_shorter(cls, wait: timedelta, info: ValidationInfo) -> timedelta:
        if "first_retry" in info.data and wait < info.data["first_retry"]:
            what = "is shorter than deliveries.first_retry"
            raise Wrong(what, "make it at least as long", other="first_retry")
        return wait


class Http(Section):
    """What paidwatch serves over HTTP."""

    listen: Listen = "127.0.0.1:8787"
    """Address and port; empty: no HTTP."""
    public_url: PublicUrl = ""
    """Address under which people reach it, for links in messages: scheme, host and path, nothing else."""
    token: SecretStr = NO_SECRET
    """Bearer token that is asked for when the address is not loopback."""
    trusted_proxies: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks of proxies whose `X-Forwarded-For` is believed; limits count per client behind them."""


class LogSettings(Section):
    """How the daemon writes its log, on standard error."""

    format: Literal["auto", "journal", "json", "console"] = "auto"
    """`auto` is journal under systemd, console on a terminal, json elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important message that is written."""


class Daemon(Section):
    """Fine tuning of the daemon; there is seldom a reason to change it."""

    linger: Duration = timedelta(milliseconds=50)
    """Pause before the inbox is read again while rows keep coming."""
    drain: Span = timedelta(seconds=20)
    """Time that work under way gets to finish on SIGTERM."""
    bell_slice: Span = timedelta(seconds=3)
    """Longest single wait for the bell, because a waiting statement holds a snapshot."""
    leader_wait: Span = timedelta(seconds=30)
    """Longest single wait for the leadership, for the same reason."""
    workers: Count = Field(default=4, ge=1, le=64)
    """Deliveries under way at once over all channels."""
