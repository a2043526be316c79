"""Limits per client: a bucket of tokens for each address, in bounded memory; and which address a request comes from."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from typing import Final

from aiohttp import web

Network = IPv4Network | IPv6Network

_HOPS: Final = 20
"""Entries of X-Forwarded-For that are looked at, from its end."""
_SITE: Final = 64
"""Bits of an IPv6 address that belong to one client: whoever has a line has all addresses behind them."""
_NOBODY: Final = "?"
"""Stands for a client whose address is not known; they share one bucket."""
_FORWARDED_FOR: Final = "X-Forwarded-For"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much one client may ask: `burst` requests at once, and one more after each `refill`."""

    burst: int
    refill: timedelta


class Buckets:
    """One bucket for each client; all of them have the same rate.

    A bucket is kept as the moment at which it will be full again, so one that is full need not be kept at all. Memory
    holds at most `most` clients; beyond them the one that asked longest ago is forgotten and starts with a full bucket.
    """

    def __init__(self, rate: Rate, monotonic: Callable[[], timedelta], *, most: int = 20_000) -> None:
        """Start with every bucket full; `monotonic` is a reading that only grows."""
        self._rate = rate
        self._monotonic = monotonic
        self._most = most
        self._full_at: OrderedDict[str, timedelta] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._full_at)

    def take(self, client: str) -> timedelta:
        """Take a token: zero if there was one, otherwise how long until there is one. A refusal costs nothing."""
        now = self._monotonic()
        self._forget(now)
        full_at = max(self._full_at.get(client, now), now)
        wait = full_at + self._rate.refill - self._rate.burst * self._rate.refill - now
        self._full_at[client] = full_at if wait > timedelta() else full_at + self._rate.refill
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return max(wait, timedelta())

    def give_back(self, client: str) -> None:
        """Put a token back that need not have been taken."""
        if client in self._full_at:
            self._full_at[client] -= self._rate.refill

    def _forget(self, now: timedelta) -> None:
        """Drop buckets that are full again, beginning with who asked longest ago."""
        while self._full_at:
            client, full_at = next(iter(self._full_at.items()))
            if full_at > now:
                return
            del self._full_at[client]


def retry_after(wait: timedelta) -> str:
    """Return the value of a Retry-After header: whole seconds, rounded up, at least one."""
    return str(max(ceil(wait / timedelta(seconds=1)), 1))


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that the texts name; a single address is a network of one. Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def client_of(request: web.Request, trusted: Sequence[Network]) -> str:
    """Return who asks, as the key of a bucket: see `client`."""
    return client(request.remote, request.headers.getall(_FORWARDED_FOR, ()), trusted)


def client(peer: str | None, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """Return the client behind `peer`: itself, or whom trusted proxies name in X-Forwarded-For (`forwarded`).

    Each proxy appends whom it was asked by, so the entries count from the end, and the first one that is no trusted
    proxy is the client; what stands before it anybody may have written. An IPv6 client is its network of 64 bits.
    """
    address = _address(peer or "")
    if address is None:
        return _NOBODY
    hops = [hop for line in forwarded for hop in line.split(",")]
    for hop in reversed(hops[-_HOPS:]):
        if not _within(address, trusted):
            break
        before = _address(hop)
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE), strict=False))
    return str(address)


def is_in(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Say whether a peer is one of the trusted proxies."""
    address = _address(peer or "")
    return address is not None and _within(address, trusted)


def _within(address: IPv4Address | IPv6Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; an IPv4 address in IPv6 clothes is one."""
    bare = text.strip().partition("%")[0]
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
