from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.config.duration import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("180d", timedelta(days=180)),
        ("2w", timedelta(days=14)),
        ("50ms", timedelta(milliseconds=50)),
        ("1m50ms", timedelta(minutes=1, milliseconds=50)),
        ("0s", timedelta()),
        (" 5m ", timedelta(minutes=5)),
    ],
)
def test_reads_what_people_write(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("90", "is a number without a unit"),
        ("1.5", "is a number without a unit"),
        ("-5", "is a number without a unit"),
        ("-5m", "is negative"),
        ("", "is not a duration"),
        ("m", "is not a duration"),
        ("5 m", "is not a duration"),
        ("1.5h", "is not a duration"),
        ("30m1h", "is not a duration"),
        ("5m5m", "is not a duration"),
        ("5min", "is not a duration"),
        ("\N{ARABIC-INDIC DIGIT FIVE}m", "is not a duration"),
        ("36501d", "is longer than a hundred years"),
        ("9" * 400 + "d", "is longer than a hundred years"),
    ],
)
def test_says_why_it_cannot_read(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=LONGEST // timedelta(milliseconds=1)))
def test_reads_back_what_it_writes(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(weeks=26), "182d"),
        (timedelta(microseconds=999), "0s"),
        (timedelta(seconds=-90), "-1m30s"),
    ],
)
def test_writes_the_short_form(span: timedelta, text: str) -> None:
    assert format_duration(span) == text
