"""From bytes to values: strict about form, and what may be stored afterwards."""

import json
from decimal import Decimal

import pytest

from paidwatch.providers import Unreadable, parse, storable
from paidwatch.providers.parsing import Number, amount, at_path, identifier


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"{'a':1}", "it is not JSON"),
        (b'{"a":1}{}', "it is not JSON"),
        (b'{"a":01}', "it is not JSON"),
        (b'{"a":"\n"}', "it is not JSON"),
        (b'\xef\xbb\xbf{"a":1}', "it is not JSON"),
        (b'{"a":"\xff"}', "it is not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "it is not UTF-8"),
        (b'{"a":NaN}', "it contains a number that is none"),
        (b'{"a":-Infinity}', "it contains a number that is none"),
        (b'{"a":1,"a":1}', "a key stands in it twice"),
        (b'{"b":[{"a":1,"\\u0061":2}]}', "a key stands in it twice"),
        (b"[" * 33 + b"]" * 33, "it is nested too deeply"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
        (b'{"a":1e401}', "it contains a number that is too large"),
        (b'{"a":1e99999999999999999999}', "it contains a number that is too large"),
        (b'{"a":' + b"1" * 401 + b"}", "it contains a number that is too large"),
    ],
)
def test_what_is_no_document_is_said(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parse(body)


def test_a_document_is_read_as_it_is_written() -> None:
    text = '{"a":[1,2.50,-0,1e-7,12345678901234567890],"b":{"c":null,"d":true,"e":"\\u00e9[{\\"["}}'
    parsed = parse(text.encode())
    assert parsed == {
        "a": [1, Decimal("2.5"), 0, Decimal("1e-7"), 12345678901234567890],
        "b": {"c": None, "d": True, "e": 'é[{"['},
    }
    numbers = at_path(parsed, "a")
    assert isinstance(numbers, list)
    assert [it.lexeme for it in numbers] == ["1", "2.50", "-0", "1e-7", "12345678901234567890"]
    assert parse(b"[" * 32 + b"]" * 32)
    assert parse(b'["' + b"[" * 1000 + b'"]') == ["[" * 1000], "brackets in text are no nesting"


def test_brackets_and_quotes_of_a_megabyte_are_read_in_one_go() -> None:
    for body in (b'"' + b'\\"' * 500_000, b'"' * 1_000_001, b'{"a":"' + b"\\" * 1_000_000):
        with pytest.raises(Unreadable):
            parse(body)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('{"a": 1.50, "b": [1e-7, -0, null, true]}', '{"a":1.50,"b":[1e-7,-0,null,true]}'),
        ('"nul \\u0000 half \\ud800 pair \\ud83d\\ude00"', '"nul \ufffd half \ufffd pair \U0001f600"'),
        ('{"\\u0000": "é"}', '{"\ufffd":"é"}'),
    ],
)
def test_what_is_stored_is_what_was_said(text: str, stored: str) -> None:
    assert storable(parse(text.encode())) == stored
    stored.encode("utf-8")


def test_anything_can_be_stored() -> None:
    assert json.loads(storable({"a": Decimal("NaN"), "b": Decimal("1E+3"), "c": 1.5, "d": 7})) == {
        "a": None,
        "b": 1000,
        "c": 1.5,
        "d": 7,
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("14.99", Decimal("14.99")),
        (Number("1e-7"), Decimal("0.0000001")),
        (Number("1.499E1"), Decimal("14.99")),
        (14.99, Decimal("14.99")),
        (0, Decimal(0)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1_000", None),
        ("1,000", None),
        ("\u0661", None),
        (" 1", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("NaN"), None),
        (Decimal("sNaN"), None),
        (Decimal("-0.01"), None),
        (Decimal("1e400"), None),
        (Number("1e-400"), None),
        (10**16, None),
        (None, None),
        (["1"], None),
    ],
)
def test_an_amount_is_money_or_nothing(value: object, found: Decimal | None) -> None:
    assert amount(value) == found
    assert found is None or "E+" not in str(amount(value))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (" np-1 ", "np-1"),
        ("x" * 255, "x" * 255),
        (Number("5524759814"), "5524759814"),
        (5524759814, "5524759814"),
        ("", None),
        ("x" * 256, None),
        ("a\0b", None),
        ("a\nb", None),
        ("\ud800", None),
        (Number("-5"), None),
        (Number("5.0"), None),
        (Number("5e3"), None),
        (Number("9007199254740993"), None),
        (2**53, None),
        pytest.param(10**5000, None, id="huge"),
        (5.0, None),
        (True, None),
        ({}, None),
    ],
)
def test_an_id_is_text_or_a_whole_number(value: object, found: str | None) -> None:
    assert identifier(value) == found


def test_a_way_that_leads_nowhere_ends() -> None:
    for path in ("a", "a.b", "a.0", "a.1", "a.-1", "a.\u0661", "a.99999999999999999999", "0", "a.0.0.0"):
        assert at_path({"a": ["x"]}, path) in (None, ["x"], "x")
    assert at_path({"a": ["x"]}, "a.0") == "x"
    assert at_path({"a": {"0": "y"}}, "a.0") == "y"
