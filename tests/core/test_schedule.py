"""Quiet hours and daily moments: over midnight, and on the days on which clocks are changed."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from paidwatch.core.schedule import QuietHours, next_daily

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def quiet(hours: str, zone: ZoneInfo = BERLIN) -> QuietHours:
    start, end = (time.fromisoformat(part) for part in hours.split("-"))
    return QuietHours(start=start, end=end, zone=zone)


NIGHT = "22:00-07:00"


@pytest.mark.parametrize(
    ("hours", "now", "ends"),
    [
        # Berlin is one hour ahead in winter.
        (NIGHT, "2026-01-10 20:59:59", None),
        (NIGHT, "2026-01-10 21:00:00", "2026-01-11 06:00"),
        (NIGHT, "2026-01-10 22:59:59", "2026-01-11 06:00"),
        (NIGHT, "2026-01-10 23:00:00", "2026-01-11 06:00"),
        (NIGHT, "2026-01-11 05:59:59.999999", "2026-01-11 06:00"),
        (NIGHT, "2026-01-11 06:00:00", None),
        ("12:00-13:30", "2026-01-10 10:59", None),
        ("12:00-13:30", "2026-01-10 11:00", "2026-01-10 12:30"),
        ("12:00-13:30", "2026-01-10 12:30", None),
        ("20:00-00:00", "2026-01-10 22:59", "2026-01-10 23:00"),
        ("20:00-00:00", "2026-01-10 23:00", None),
        ("00:00-06:00", "2026-01-10 23:00", "2026-01-11 05:00"),
        # The night in which the clock is put forward, 2:00 to 3:00 on 2026-03-29: eight hours instead of nine.
        (NIGHT, "2026-03-28 21:00", "2026-03-29 05:00"),
        ("23:00-02:30", "2026-03-28 22:00", "2026-03-29 01:00"),
        ("23:00-02:30", "2026-03-29 01:00", None),
        ("02:30-04:00", "2026-03-29 00:59:59", None),
        ("02:30-04:00", "2026-03-29 01:00", "2026-03-29 02:00"),
        ("02:10-02:50", "2026-03-29 00:59:59", None),
        ("02:10-02:50", "2026-03-29 01:00", None),
        # The night in which it is put back, 3:00 to 2:00 on 2026-10-25: ten hours.
        (NIGHT, "2026-10-24 20:00", "2026-10-25 06:00"),
        ("23:00-02:30", "2026-10-24 22:00", "2026-10-25 01:30"),
        ("23:00-02:30", "2026-10-25 00:30", "2026-10-25 01:30"),
        ("23:00-02:30", "2026-10-25 01:29:59", "2026-10-25 01:30"),
        ("23:00-02:30", "2026-10-25 01:30", None),
        ("02:30-04:00", "2026-10-25 00:29:59", None),
        ("02:30-04:00", "2026-10-25 00:30", "2026-10-25 03:00"),
        ("02:30-04:00", "2026-10-25 01:10", "2026-10-25 03:00"),
        # The next night begins before this one is over.
        ("02:50-02:10", "2026-10-24 12:00", "2026-10-26 01:10"),
    ],
)
def test_when_the_quiet_ends(hours: str, now: str, ends: str | None) -> None:
    assert quiet(hours).ends(utc(now)) == (None if ends is None else utc(ends))


def test_a_date_that_comes_back_for_an_hour_does_not_end_the_quiet() -> None:
    """At 00:01 of 2009-11-01 the clock was put back to 23:01 of the day before."""
    hours = quiet("00:00-06:00", ZoneInfo("America/St_Johns"))
    ends = utc("2009-11-01 09:30")
    assert hours.ends(utc("2009-11-01 02:29:59")) is None
    assert hours.ends(utc("2009-11-01 02:30:30")) == ends
    assert hours.ends(utc("2009-11-01 02:40")) == ends, "the clock shows 23:10 for the second time"
    assert hours.ends(ends) is None


def test_any_zone_of_now_means_the_same() -> None:
    now = utc("2026-01-10 23:00")
    assert quiet(NIGHT).ends(now.astimezone(ZoneInfo("Asia/Tokyo"))) == quiet(NIGHT).ends(now)


def test_neither_never_nor_for_ever() -> None:
    with pytest.raises(ValueError, match="same time"):
        quiet("07:00-07:00")


ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in (
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "America/St_Johns",  # until 2011 changed at 00:01, so that a date came back for an hour
            "America/Sao_Paulo",  # until 2019 put forward at midnight
            "Africa/Cairo",
            "Australia/Lord_Howe",  # half an hour
            "Asia/Kathmandu",
            "Pacific/Apia",  # has had no 2011-12-30
            "Pacific/Chatham",
            "Africa/Casablanca",
            "Antarctica/Troll",  # two hours
        )
    ]
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001
HOURS = st.times().map(lambda it: it.replace(second=0, microsecond=0))


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year after which the offset is another one."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    hours = [first + timedelta(hours=count) for count in range(366 * 24)]
    offsets = [hour.astimezone(zone).utcoffset() for hour in hours]
    return [hour for hour, old, new in zip(hours[1:], offsets, offsets[1:], strict=False) if old != new]


def near_changes() -> st.SearchStrategy[tuple[ZoneInfo, datetime]]:
    """A zone, and a moment within two days of a change of its clock."""
    places = [
        (zone, change)
        for name, year in (
            ("Europe/Berlin", 2026),
            ("America/St_Johns", 2009),
            ("America/Sao_Paulo", 2017),
            ("Australia/Lord_Howe", 2026),
            ("Pacific/Apia", 2011),
            ("Antarctica/Troll", 2026),
        )
        for zone in [ZoneInfo(name)]
        for change in changes(zone, year)
    ]
    assert len(places) >= 12
    spans = st.timedeltas(-2 * DAY, 2 * DAY)
    return st.tuples(st.sampled_from(places), spans).map(lambda it: (it[0][0], it[0][1] + it[1]))


ANYWHERE = st.one_of(st.tuples(ZONES, MOMENTS), near_changes())


def says(hours: QuietHours, now: datetime) -> bool:
    """Whether the clock on the wall shows a quiet time."""
    shown = now.astimezone(hours.zone).time().replace(fold=0)
    if hours.start < hours.end:
        return hours.start <= shown < hours.end
    return shown >= hours.start or shown < hours.end


def offset_changes_around(zone: ZoneInfo, now: datetime, span: timedelta) -> bool:
    return len({(now + count * span / 24).astimezone(zone).utcoffset() for count in range(-24, 25)}) > 1


@given(ANYWHERE, HOURS, HOURS)
@example((BERLIN, utc("2026-10-25 01:10")), time(2, 30), time(4, 0))
@example((BERLIN, utc("2026-03-29 01:00")), time(2, 30), time(4, 0))
@example((ZoneInfo("Pacific/Apia"), utc("2011-12-30 12:00")), time(22, 0), time(7, 0))
def test_it_is_quiet_whenever_the_clock_on_the_wall_says_so(
    place: tuple[ZoneInfo, datetime], start: time, end: time
) -> None:
    """And, but for the days of a change, only then."""
    assume(start != end)
    zone, now = place
    hours = QuietHours(start=start, end=end, zone=zone)
    ends = hours.ends(now)
    if says(hours, now):
        assert ends is not None
    elif not offset_changes_around(zone, now, 2 * DAY):
        assert ends is None


@given(ANYWHERE, HOURS, HOURS)
def test_the_end_is_ahead_and_is_one(place: tuple[ZoneInfo, datetime], start: time, end: time) -> None:
    assume(start != end)
    zone, now = place
    hours = QuietHours(start=start, end=end, zone=zone)
    ends = hours.ends(now)
    if ends is None:
        return
    assert now < ends < now + 3 * DAY
    assert ends.utcoffset() == timedelta()
    assert hours.ends(ends) is None, "then nothing is held back any more"
    assert not says(hours, ends)
    between = now + (ends - now) / 2
    assert hours.ends(between) == ends, "no gap on the way there"
    if not offset_changes_around(zone, now, 3 * DAY):
        assert ends.astimezone(zone).time() == end
        assert ends - now <= DAY


@pytest.mark.parametrize(
    ("at", "after", "expected"),
    [
        ("09:00", "2026-01-10 07:59:59", "2026-01-10 08:00"),
        ("09:00", "2026-01-10 08:00", "2026-01-11 08:00"),
        ("00:00", "2026-01-10 22:59", "2026-01-10 23:00"),
        ("00:00", "2026-01-10 23:00", "2026-01-11 23:00"),
        ("23:59", "2026-01-10 23:00", "2026-01-11 22:59"),
        ("09:00", "2026-03-28 09:00", "2026-03-29 07:00"),
        ("02:30", "2026-03-28 02:00", "2026-03-29 01:00"),
        ("02:30", "2026-03-29 01:00", "2026-03-30 00:30"),
        ("02:30", "2026-10-24 01:00", "2026-10-25 00:30"),
        ("02:30", "2026-10-25 00:30", "2026-10-26 01:30"),
        ("02:30", "2026-10-25 01:00", "2026-10-26 01:30"),
    ],
)
def test_the_next_daily_moment(at: str, after: str, expected: str) -> None:
    assert next_daily(time.fromisoformat(at), BERLIN, utc(after)) == utc(expected)


@given(ANYWHERE, HOURS)
def test_a_daily_moment_comes_once_a_day(place: tuple[ZoneInfo, datetime], at: time) -> None:
    zone, after = place
    moments: list[datetime] = []
    now = after
    for _day in range(4):
        now = next_daily(at, zone, now)
        moments.append(now)
    assert after < moments[0] <= after + 2 * DAY
    for one, other in pairwise(moments):
        assert timedelta() < other - one <= DAY + timedelta(hours=2)
    if not offset_changes_around(zone, after, 6 * DAY):
        assert [it.astimezone(zone).time() for it in moments] == [at] * 4
        assert moments[0] <= after + DAY


@given(ANYWHERE, HOURS)
def test_nothing_between_now_and_the_next_daily_moment_is_missed(place: tuple[ZoneInfo, datetime], at: time) -> None:
    zone, after = place
    following = next_daily(at, zone, after)
    between = after + (following - after) / 2
    assert next_daily(at, zone, between) == following


def test_a_date_that_never_was_is_no_trap() -> None:
    apia = ZoneInfo("Pacific/Apia")
    assert datetime(2011, 12, 30, 9, tzinfo=apia).astimezone(UTC).astimezone(apia).date() != date(2011, 12, 30)
    assert next_daily(time(9), apia, utc("2011-12-29 20:00")) == utc("2011-12-30 10:00"), "the jump itself"
    assert next_daily(time(9), apia, utc("2011-12-30 10:00")) == utc("2011-12-30 19:00")
    assert quiet(NIGHT, apia).ends(utc("2011-12-30 11:00")) == utc("2011-12-30 17:00")
