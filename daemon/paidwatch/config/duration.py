"""Durations as people write them: `90s`, `5m`, `1h30m`, `180d`, `50ms`."""

import re
from datetime import timedelta
from typing import Final

UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
LONGEST: Final = timedelta(days=36500)
EXAMPLES: Final = 'write it like "90s", "5m", "1h30m", "180d" or "50ms"'

_FORM: Final = re.compile(
    r"(?:(?P<w>\d+)w)?(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?",
    re.ASCII,
)
_BARE: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_MOST_DIGITS: Final = 12


def parse_duration(text: str) -> timedelta:
    """Return the span that `text` names: whole numbers with units, the largest unit first, each at most once.

    Raises ValueError with the end of a sentence ("is not a duration") that does not repeat `text`; `EXAMPLES` is the
    remedy that goes with it.
    """
    stripped = text.strip()
    if _BARE.fullmatch(stripped):
        message = "is a number without a unit"
        raise ValueError(message)
    if stripped.startswith("-"):
        message = "is negative"
        raise ValueError(message)
    found = _FORM.fullmatch(stripped)
    parts = {unit: digits for unit, digits in found.groupdict().items() if digits} if found else {}
    if not parts:
        message = "is not a duration"
        raise ValueError(message)
    if any(len(digits) > _MOST_DIGITS for digits in parts.values()):
        message = "is longer than a hundred years"
        raise ValueError(message)
    total = sum((int(digits) * UNITS[unit] for unit, digits in parts.items()), timedelta())
    if total > LONGEST:
        message = "is longer than a hundred years"
        raise ValueError(message)
    return total


def format_duration(span: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as `span`, rounded down to a millisecond.

    Weeks are written as days: `retention.closed` of 26 weeks is more readily compared as `182d`. A negative span,
    which no configuration holds but a log may show, gets a leading minus.
    """
    if span < timedelta():
        return "-" + format_duration(-span)
    rest = span
    text = ""
    for unit, size in UNITS.items():
        if unit != "w":
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
    return text or "0s"
