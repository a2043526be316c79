"""Hours of the day in the owner's zone: when the quiet ends, when the next digest is due.

A clock that is put forward never shows some times, one that is put back shows some twice. Throughout: a time that is
never shown stands for the moment of the jump; quiet hours begin when their first time is shown first and end when
their last time is shown last, so that nobody is woken while the clock on the wall shows a quiet time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_FINEST = timedelta(seconds=1)
"""Clocks are put forward at whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """A span of every day, over midnight where `end` is before `start`; raises ValueError if both are the same."""

    start: time
    """The first quiet time."""
    end: time
    """The first time that is not quiet any more."""
    zone: ZoneInfo

    def __post_init__(self) -> None:
        """Refuse what is either never or for ever."""
        if self.start == self.end:
            raise ValueError("quiet hours begin and end at the same time")

    def ends(self, now: datetime) -> datetime | None:
        """Return when it is not quiet any more, aware in UTC; None: it is not quiet at `now`, which is aware."""
        found: datetime | None = None
        while (later := self._end_around(found or now)) is not None:
            found = later  # on the day of a change one night may begin before the one before it is over
        return found

    def _end_around(self, moment: datetime) -> datetime | None:
        """Return the latest end of the spans that contain `moment`."""
        ends = [end for start, end in self._spans_near(moment) if start <= moment < end]
        return max(ends, default=None)

    def _spans_near(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the spans that begin the day before `moment`, on its day, and the day after."""
        today = moment.astimezone(self.zone).date()
        over_midnight = self.end < self.start
        for day in (today - _DAY, today, today + _DAY):
            last_day = day + _DAY if over_midnight else day
            yield _shown(day, self.start, self.zone), _shown(last_day, self.end, self.zone, last=True)


def next_daily(at: time, zone: ZoneInfo, after: datetime) -> datetime:
    """Return the first moment later than `after`, aware in UTC, at which the clock in `zone` shows `at`: once a day."""
    day = after.astimezone(zone).date()
    while (moment := _shown(day, at, zone)) <= after:
        day += _DAY
    return moment


def _shown(day: date, at: time, zone: ZoneInfo, *, last: bool = False) -> datetime:
    """Return the moment in UTC at which the clock in `zone` shows `at` of `day`, first or last where it does so twice.

    Where the clock jumps over that time, the moment of the jump.
    """
    local = datetime.combine(day, at, tzinfo=zone)
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if second < first:  # PEP 495: never shown; the jump lies between the readings by the offsets after and before it
        return _jump(second, first, zone)
    return second if last else first


def _jump(earliest: datetime, latest: datetime, zone: ZoneInfo) -> datetime:
    """Return the one moment after `earliest`, up to `latest`, at which the offset of `zone` is another one."""
    before = earliest.astimezone(zone).utcoffset()
    low, high = earliest, latest
    while high - low > _FINEST:
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
