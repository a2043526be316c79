"""Order ids: user, plan and time of an order, written into the one field that every provider hands back."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from paidwatch.core.webhook import Order

DEFAULT_PATTERN: Final = r"(?i)^winu_sub_(?P<user>\d+)_(?P<plan>.+)_(?P<time>\d{9,})$"
"""The first user's order ids (domain.md §1). The plan may contain the separator, as `vip_elite` does."""
LONGEST: Final = 255
"""Characters of an order id; a longer one is nobody's."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_MILLISECONDS: Final = 10_000_000_000
"""From here on a number counts milliseconds: in seconds it would be the year 2286."""


def parse(order_id: str | None, pattern: str = DEFAULT_PATTERN) -> Order | None:
    """Return what `order_id` says, or None if it does not fit `pattern`.

    `pattern` is a regular expression for the whole id with three groups, named user, plan and time or in this order;
    time is in seconds or milliseconds of the Unix clock.
    """
    if order_id is None or len(order_id) > LONGEST or not order_id.isascii():
        return None
    found = re.fullmatch(pattern, order_id)
    if found is None:
        return None
    named = found.groupdict()
    user, plan, stamp = (named[name] for name in ("user", "plan", "time")) if named else found.groups()
    at = _moment(stamp)
    return None if at is None or not user or not plan else Order(user_id=user, plan_id=plan, at=at)


def _moment(stamp: str | None) -> datetime | None:
    """Return the moment of a Unix time in digits; None for one that no order can have."""
    if stamp is None or not stamp.isdigit() or len(stamp) > len(str(_MILLISECONDS)) + 2:
        return None
    number = int(stamp)
    at = _EPOCH + (timedelta(milliseconds=number) if number >= _MILLISECONDS else timedelta(seconds=number))
    return at if _EARLIEST <= at < _LATEST else None
