"""From the bytes of a body to values, and from values to fields: strict about form; only `parse` raises."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn, Self, cast

DEEPEST: Final = 32
"""Levels of nesting; providers use five."""
LONGEST_NUMBER: Final = 400
"""Characters of a number, and the largest power of ten either way."""
LONGEST_ID: Final = 255
"""Characters of an id: what the application's columns hold."""
LONGEST_WORD: Final = 64

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_EXACT: Final = 2**53 - 1
"""The largest whole number that survives as a double: signatures are made over numbers as JavaScript prints them."""
_LARGEST: Final = 2**256
_AMOUNT: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,18})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{1,9}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_MILLISECONDS: Final = 10_000_000_000
_DATE_AND_TIME: Final = len("2026-01-01T00:00")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class Unreadable(ValueError):
    """A body is no JSON document that anything can be made of; `str()` says why in constant words."""


class Number(Decimal):
    """A number that remembers how it was written: a signature is made over the writing."""

    __slots__ = ("lexeme",)
    lexeme: str

    def __new__(cls, lexeme: str) -> Self:
        """Keep `lexeme`; raises Unreadable for one that is too long or too large."""
        message = "it contains a number that is too large"
        if len(lexeme) > LONGEST_NUMBER:
            raise Unreadable(message)
        try:
            made = super().__new__(cls, lexeme)
        except InvalidOperation:
            raise Unreadable(message) from None
        if made and abs(made.adjusted()) > LONGEST_NUMBER:
            raise Unreadable(message)
        made.lexeme = lexeme
        return made


def parse(body: bytes) -> object:
    """Return the JSON document `body` as dictionaries, lists, text, Number, bool and None.

    Raises Unreadable for anything else, and where two readers might disagree: a key that stands twice in one object,
    NaN, bytes that are not UTF-8, nesting deeper than `DEEPEST`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        message = "it is not UTF-8"
        raise Unreadable(message) from None
    _check_depth(text)
    try:
        parsed: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=Number,
            parse_int=Number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError:
        message = "it is not JSON"
        raise Unreadable(message) from None
    return parsed


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "[{":
            depth += 1
            if depth > DEEPEST:
                message = "it is nested too deeply"
                raise Unreadable(message)
        elif sign in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        message = "a key stands in it twice"
        raise Unreadable(message)
    return made


def _constant(_word: str) -> NoReturn:
    message = "it contains a number that is none"
    raise Unreadable(message)


def storable(payload: object) -> str:
    """Return `payload` as JSON text that PostgreSQL takes as json and as jsonb.

    Numbers stay as they were written. What jsonb refuses, NUL and halves of characters, becomes a replacement
    character.
    """
    match payload:
        case str():
            return json.dumps(_clean(payload), ensure_ascii=False)
        case Number():
            return payload.lexeme
        case Decimal():
            return str(payload) if payload.is_finite() else "null"
        case dict():
            pairs = cast("dict[str, object]", payload).items()
            return f"{{{','.join(f'{storable(str(key))}:{storable(value)}' for key, value in pairs)}}}"
        case list():
            return f"[{','.join(storable(item) for item in cast('list[object]', payload))}]"
        case _:
            return json.dumps(payload)


def _clean(text: str) -> str:
    return text.replace("\0", _REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def table(value: object) -> Mapping[str, object]:
    """Return `value` if it is an object, else an empty one."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """Return `value` if it is a list, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def at_path(value: object, path: str) -> object:
    """Return what stands at `data.items.0.id` below `value`, or None."""
    for part in path.split("."):
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit():
            listed = cast("list[object]", value)
            value = listed[int(part)] if len(part) <= len(str(LONGEST_ID)) and int(part) < len(listed) else None
        else:
            return None
    return value


def word(value: object) -> str:
    """Return a status word as it was written; "" where there is none.

    One that is too long or cannot be printed is mended for people, and marked, so that it equals no word that is known.
    """
    if not isinstance(value, str):
        return ""
    if len(value) <= LONGEST_WORD and value.isprintable():
        return value
    return "".join(sign for sign in value[:LONGEST_WORD] if sign.isprintable()) + "…"


def identifier(value: object, *, exact: bool = True) -> str | None:
    """Return an id that is text or a whole number; None for everything else.

    With `exact` a number beyond 2**53 is none: two such numbers may have one signature.
    """
    match value:
        case bool():
            return None
        case str():
            text = value.strip()
            return text if text and len(text) <= LONGEST_ID and text.isprintable() and _whole(text) else None
        case Number():
            digits = value.lexeme
        case int():
            digits = str(value) if 0 <= value <= _LARGEST else ""
        case _:
            return None
    if not digits.isdigit() or len(digits) > LONGEST_ID or (exact and int(digits) > _EXACT):
        return None
    return digits


def _whole(text: str) -> bool:
    """Return whether every character is one, and none is half of a pair."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def first_identifier(*values: object) -> str | None:
    """Return the first of `values` that is an id."""
    return next((found for value in values if (found := identifier(value)) is not None), None)


def amount(value: object) -> Decimal | None:
    """Return an amount of money, zero or more, from a number or its digits; None for everything else."""
    match value:
        case bool():
            return None
        case Decimal():
            number = value
        case int():
            number = Decimal(value)
        case float():
            number = Decimal(repr(value))
        case str():
            if not _AMOUNT.fullmatch(value):
                return None
            number = Decimal(value)
        case _:
            return None
    if not number.is_finite() or number.is_signed() or (number and abs(number.adjusted()) > len("999999999999999")):
        return None
    text = format(number, "f")
    return Decimal(text) if _AMOUNT.fullmatch(text) else None


def currency(value: object) -> str | None:
    """Return the code of a currency in capital letters, or None."""
    return value.upper() if isinstance(value, str) and _CURRENCY.fullmatch(value) else None


def moment(value: object) -> datetime | None:
    """Return an aware moment from an ISO 8601 text (without zone: UTC) or a Unix time in seconds or milliseconds."""
    digits = identifier(value, exact=False)
    if digits is not None and digits.isascii() and digits.isdigit():
        at = _from_unix(int(digits)) if len(digits) < len(str(_MILLISECONDS)) + 3 else None
    else:
        at = _from_text(value) if isinstance(value, str) else None
    return at if at is not None and _EARLIEST <= at < _LATEST else None


def _from_unix(number: int) -> datetime:
    return _EPOCH + (timedelta(milliseconds=number) if number >= _MILLISECONDS else timedelta(seconds=number))


def _from_text(text: str) -> datetime | None:
    if not _DATE_AND_TIME <= len(text) <= LONGEST_WORD:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
