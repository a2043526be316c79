"""Times of day and time zones as people write them: `09:00`, `22:00-07:00`, `Europe/Berlin`."""

import io
import re
from datetime import time
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator

from paidwatch.config.wrong import Wrong, did_you_mean

_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_UTC: Final = b"TZif" + bytes(16) + bytes((*(0,) * 19, 1, 0, 0, 0, 4)) + bytes(6) + b"UTC\0"
"""RFC 8536, version 1: no transitions, one type of local time with the offset 0."""


def time_of(text: str) -> time:
    """Return the time of day that `text` names, from 00:00 to 23:59; raises Wrong."""
    found = _TIME.fullmatch(text)
    if not found:
        what = "is not a time of day"
        raise Wrong(what, 'write it with two digits each, from "00:00" to "23:59", or "" for none')
    return time(int(found[1]), int(found[2]))


def hours_of(text: str) -> tuple[time, time]:
    """Return the first time that belongs to the hours `22:00-07:00`, and the first that does not; raises Wrong."""
    form = 'write them like "22:00-07:00", or "" for none'
    first, _dash, second = text.partition("-")
    try:
        start, end = time_of(first.strip()), time_of(second.strip())
    except Wrong:
        what = "does not name two times of day"
        raise Wrong(what, form) from None
    if start == end:
        what = "begins and ends at the same time"
        raise Wrong(what, form)
    return start, end


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone `name`; UTC is known even where no time zone data is installed. Raises Wrong."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        if name == "UTC":
            return ZoneInfo.from_file(io.BytesIO(_UTC), key=name)
        remedy = did_you_mean(name, available_timezones()) or 'write it like "UTC" or "Europe/Berlin"'
        what = "is not a time zone"
        raise Wrong(what, remedy) from None


def _check_time(text: str) -> str:
    if text:
        time_of(text)
    return text


def _check_hours(text: str) -> str:
    if text:
        hours_of(text)
    return text


def _check_zone(name: str) -> str:
    zone_of(name)
    return name


TimeOfDay = Annotated[str, AfterValidator(_check_time)]
"""A time of day, or ""."""
Hours = Annotated[str, AfterValidator(_check_hours)]
"""Two times of day with a hyphen, or ""."""
Zone = Annotated[str, AfterValidator(_check_zone)]
