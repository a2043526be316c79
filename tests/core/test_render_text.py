"""Text for people: cleaned, masked, measured and cut."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.text import (
    clean,
    defang,
    fit,
    is_plain_command,
    mask,
    masked,
    money,
    span,
    stamp,
    unchanged,
    units,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  a \t b\r\n\r\nc\u2028d  ", "a b c d"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("\u202eevil\u202c\u200b\ufeff", "evil"),
        ("\ud83d", "\ufffd"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("ü漢e\u0301", "ü漢e\u0301"),
        ("a" * 20_003, "a" * 20_000 + " (3 more)…"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    clean(text).encode()


def test_units_are_those_of_the_larger_count() -> None:
    assert (units("a"), units("é"), units("漢"), units("😀"), units("\ud800")) == (1, 1, 1, 2, 1)


def doubled(text: str) -> str:
    return "".join(f"\\{character}" for character in text)


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefghijklmnop", 14, "abc (13 more)…"),
        ("a" * 100, 15, "aaaa (96 more)…"),
        ("a" * 100, 11, "(100 more)…"),
        ("abcdefghijklmnop", 10, "(16 more)…"),
        ("abcdefghijklmnop", 5, "…"),
        ("abcdefghijklmnop", 1, "…"),
        ("abc", 0, ""),
        ("abc", -5, ""),
        ("😀" * 20, 16, "😀😀 (18 more)…"),
    ],
)
def test_fit(text: str, most: int, shown: str) -> None:
    assert fit(text, most) == shown


@given(st.text(alphabet="ab😀& ", max_size=300), st.integers(-3, 200), st.sampled_from([unchanged, doubled]))
def test_what_fits_fits_and_what_is_missing_is_counted(text: str, most: int, escape: Callable[[str], str]) -> None:
    shown = fit(text, most, escape=escape)

    assert units(shown) <= max(most, 0)
    if shown == escape(text):
        return
    assert units(escape(text)) > most
    if not shown or shown == "…":
        assert most < units(f"({len(text)} more)…")
        return
    kept, _, note = shown.rpartition("(")
    missing = int(note.removesuffix(" more)…"))
    assert shown.endswith("…")
    assert text[: len(text) - missing].rstrip() == kept.rstrip().replace("\\", "")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("someone@example.org", "s***@e***.org"),
        ("s@e.co.uk", "s***@e***.uk"),
        ("@", "***@***"),
        ("a@localhost", "a***@l***"),
        ("a@b.secretsecretsecret", "a***@b***"),
        ("Somebody", "S***"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_mask(label: str, shown: str) -> None:
    assert mask(label) == shown


def test_masked_finds_addresses_in_free_text() -> None:
    text = 'mail to <someone@example.org>, "other@example.org" and user=third@example.com;failed'

    assert masked(text) == 'mail to <s***@e***.org>, "o***@e***.org" and user=t***@e***.com;failed'


def test_masking_a_megabyte_ends() -> None:
    assert masked("a" * 1_000_000).endswith("(980000 more)…")
    assert "@" not in masked("a@" * 500_000).replace("***@", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.example/x", "see https[:]//a.example/x"),
        ("www.a.example and WWW.b.example", "www[.]a.example and WWW[.]b.example"),
        ("discord.gg/x", "discord[.]gg/x"),
        ("awww. nothing", "awww. nothing"),
    ],
)
def test_defang(text: str, shown: str) -> None:
    assert defang(text) == shown
    assert defang(shown) == shown


@pytest.mark.parametrize("command", ["paidwatch user 7", "paidwatch activate 7 --payment a-b_c.d:1 --dry-run"])
def test_a_plain_command(command: str) -> None:
    assert is_plain_command(command)


@pytest.mark.parametrize("command", ["", "a`b", "a\nb", "a*b", "a<b", "a$b", "-x", "a;b", "ä"])
def test_no_plain_command(command: str) -> None:
    assert not is_plain_command(command)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (Decimal("14.99"), "USD", "14.99 USD"),
        (Decimal("1E+3"), "USD", "1000 USD"),
        (Decimal("0.00000001"), "BTC", "0.00000001 BTC"),
        (Decimal(5), None, "5"),
        (Decimal("NaN"), "USD", "NaN USD"),
        (Decimal("1E+100000"), "USD", "1E+100000 USD"),
        (None, "USD", "an unknown amount"),
    ],
)
def test_money(amount: Decimal | None, currency: str | None, shown: str) -> None:
    assert money(amount, currency) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (431, "7 min 11 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (3601, "1 h"),
        (90_000, "1 d 1 h"),
        (86_400 * 400, "400 d"),
    ],
)
def test_span(seconds: float, shown: str) -> None:
    assert span(timedelta(seconds=seconds)) == shown


def test_stamp_is_in_utc() -> None:
    moment = datetime(2026, 3, 14, 11, 26, 53, tzinfo=timezone(timedelta(hours=2)))

    assert stamp(moment) == stamp(moment.astimezone(UTC)) == "2026-03-14 09:26:53 UTC"
