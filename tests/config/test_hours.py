"""Times of day, hours and zones as people write them."""

import zoneinfo
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from paidwatch.config.hours import hours_of, time_of, zone_of
from paidwatch.config.wrong import Wrong


@pytest.mark.parametrize(
    ("text", "at"), [("00:00", time(0, 0)), ("09:05", time(9, 5)), ("19:30", time(19, 30)), ("23:59", time(23, 59))]
)
def test_times_of_day(text: str, at: time) -> None:
    assert time_of(text) == at


@pytest.mark.parametrize(
    "text",
    ["", "9:00", "09:0", "24:00", "23:60", "09:00:00", "09.00", " 09:00", "09:00\n", "\u0660\u0669:00", "9am", "-1:00"],
)
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(Wrong, match="is not a time of day"):
        time_of(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22:00-07:00", (time(22, 0), time(7, 0))),
        ("01:30 - 05:45", (time(1, 30), time(5, 45))),
        ("20:00-00:00", (time(20, 0), time(0, 0))),
    ],
)
def test_hours(text: str, hours: tuple[time, time]) -> None:
    assert hours_of(text) == hours


@pytest.mark.parametrize(
    "text",
    ["", "22:00", "22:00-", "-07:00", "22-7", "22:00-24:00", "22:00\u201307:00", "22:00-07:00-08:00", "22:00 07:00"],
)
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(Wrong, match="does not name two times of day"):
        hours_of(text)


def test_hours_that_are_none_or_all_are_refused() -> None:
    with pytest.raises(Wrong, match="begins and ends at the same time"):
        hours_of("07:00-07:00")


def test_a_zone_and_what_is_none() -> None:
    assert zone_of("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    with pytest.raises(Wrong) as caught:
        zone_of("Europe/Berln")
    assert caught.value.remedy == "did you mean Europe/Berlin?"


@pytest.mark.parametrize("name", ["", "Mars", "../UTC", "/etc/passwd", "Europe", "\0", "x" * 5000])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(Wrong, match="is not a time zone"):
        zone_of(name)


def test_utc_is_known_where_no_time_zone_data_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_data(name: str) -> ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    no_data.from_file = ZoneInfo.from_file  # type: ignore[attr-defined]
    monkeypatch.setattr("paidwatch.config.hours.ZoneInfo", no_data)

    zone = zone_of("UTC")

    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert moment.astimezone(zone).isoformat() == "2026-07-01T12:00:00+00:00"
    assert (zone.key, moment.astimezone(zone).utcoffset(), zone.tzname(moment)) == ("UTC", timedelta(), "UTC")
    with pytest.raises(Wrong):
        zone_of("Europe/Berlin")
