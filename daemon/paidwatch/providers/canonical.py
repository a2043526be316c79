"""The texts that NOWPayments may have signed for one JSON body, the likeliest first.

The body is signed not as it comes but written anew, with its keys sorted. The provider's samples in JavaScript, PHP and
Python write the same document differently, so there is one text for each (domain.md §2). All of them cover every value
at the top level; what lies deeper is not in all of them, so whoever reads such a body reads the top level only.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, auto
from typing import Final, assert_never, cast

from paidwatch.providers.parsing import Number

_JAVASCRIPT_DIGITS: Final = 21
"""Longest whole number that JavaScript writes without an exponent (ECMAScript, Number::toString)."""
_JAVASCRIPT_ZEROS: Final = 6
_PHP_ZEROS: Final = 3
"""Zeros behind the point before PHP takes an exponent (php_gcvt)."""
_PHP_DIGITS: Final = 17
_PHP_OLD_DIGITS: Final = 14
"""`precision`, which PHP before 7.1 used for JSON as well."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_LARGEST_INDEX: Final = 2**32 - 2
_ESCAPED: Final = re.compile(r'[\x00-\x1f"\\]')
_HALF: Final = re.compile("[\ud800-\udfff]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_NAMED: Final = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class _NoText(Exception):
    """A value that this way of writing cannot express, so it was never signed so."""


class _Order(Enum):
    """In which order the keys of an object are written."""

    BYTES = auto()
    """As texts, at every level."""
    JAVASCRIPT = auto()
    """As texts, but whole numbers first: an object of JavaScript keeps those in front."""
    TOP = auto()
    """As texts at the top level; deeper as they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writing:
    """One way of writing a document."""

    number: Callable[[Number], str]
    text: Callable[[str], str]
    order: _Order
    lists_as_objects: bool = False
    """`{"0": …}` for `[…]`: a sample that sorts the keys of lists as well."""
    empty_object: str = "{}"
    only: frozenset[str] | None = None
    """The keys that are written at any level; None: all."""


def texts(document: dict[str, object]) -> Iterator[bytes]:
    """Yield what may have been signed for `document`, each once."""
    seen: set[bytes] = set()
    for writing in (*_WRITINGS, *(replace(it, only=frozenset(document)) for it in _REPLACED)):
        try:
            text = _write(document, writing, top=True).encode("utf-8")
        except (_NoText, UnicodeEncodeError):
            continue
        if text not in seen:
            seen.add(text)
            yield text


def _write(value: object, writing: _Writing, *, top: bool = False) -> str:
    match value:
        case Number():
            return writing.number(value)
        case str():
            return writing.text(value)
        case dict():
            return _write_object(cast("dict[str, object]", value), writing, top=top)
        case list():
            members = cast("list[object]", value)
            if writing.lists_as_objects:
                return _write_object({str(at): member for at, member in enumerate(members)}, writing, top=False)
            return f"[{','.join(_write(member, writing) for member in members)}]"
        case _:
            return json.dumps(value)


def _write_object(members: dict[str, object], writing: _Writing, *, top: bool) -> str:
    names = [name for name in members if writing.only is None or name in writing.only]
    match writing.order:
        case _Order.JAVASCRIPT:
            names.sort(key=_units)
            if writing.only is None:
                names.sort(key=_index)
        case _Order.BYTES:
            names.sort()
        case _Order.TOP:
            if top:
                names.sort()
        case _ as unreachable:
            assert_never(unreachable)
    if not names:
        return writing.empty_object
    return f"{{{','.join(f'{writing.text(name)}:{_write(members[name], writing)}' for name in names)}}}"


def _units(name: str) -> bytes:
    """Return the key by which JavaScript sorts text: its UTF-16 units."""
    return name.encode("utf-16-be", "surrogatepass")


def _index(name: str) -> int:
    """Return the place of a key that JavaScript takes for an index, and the last place for any other."""
    return min(int(name), _LARGEST_INDEX + 1) if _INDEX.fullmatch(name) else _LARGEST_INDEX + 1


# --- Numbers ---------------------------------------------------------------------------------------------------------


def _as_written(number: Number) -> str:
    return number.lexeme


def javascript_number(number: Number) -> str:
    """Return how JavaScript prints `number`: the fewest digits, an exponent from 1e21 on and below 1e-6."""
    sign, digits, point = _digits(_double(number))
    if point > _JAVASCRIPT_DIGITS or point <= -_JAVASCRIPT_ZEROS:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"
    return "0" if digits == "0" else sign + _positional(digits, point)


def _python_number(number: Number) -> str:
    return str(int(number)) if _is_whole(number) else repr(_double(number))


def _php_number(number: Number) -> str:
    return str(int(number)) if _is_php_integer(number) else _gcvt(_double(number), _PHP_DIGITS, shortest=True)


def _php_number_17(number: Number) -> str:
    return str(int(number)) if _is_php_integer(number) else _gcvt(_double(number), _PHP_DIGITS)


def _php_number_14(number: Number) -> str:
    return str(int(number)) if _is_php_integer(number) else _gcvt(_double(number), _PHP_OLD_DIGITS)


def _gcvt(value: float, precision: int, *, shortest: bool = False) -> str:
    """Return how PHP prints a double with so many digits."""
    sign, digits, point = _digits(value) if shortest else _rounded(value, precision)
    if point > precision or point < -_PHP_ZEROS:
        return f"{sign}{digits[0]}.{digits[1:] or '0'}e{point - 1:+d}"
    return sign + _positional(digits, point)


def _is_whole(number: Number) -> bool:
    return number.lexeme.removeprefix("-").isdigit()


def _is_php_integer(number: Number) -> bool:
    return _is_whole(number) and number.lexeme != "-0" and -(2**63) <= number < 2**63


def _double(number: Number) -> float:
    """Return the nearest double; there is no text for a number that has none, JavaScript would print null."""
    value = float(number.lexeme)
    if not math.isfinite(value):
        raise _NoText
    return value


def _digits(value: float) -> tuple[str, str, int]:
    """Return sign, shortest digits and where the point stands among them, counted from their left."""
    return _split(Decimal(repr(value)))


def _rounded(value: float, precision: int) -> tuple[str, str, int]:
    return _split(Decimal(f"{value:.{precision - 1}e}"))


def _split(number: Decimal) -> tuple[str, str, int]:
    sign, figures, exponent = number.as_tuple()
    digits = "".join(map(str, figures)).lstrip("0")
    point = len(digits) + int(exponent)
    stripped = digits.rstrip("0")
    return "-" if sign else "", stripped or "0", point if stripped else 1


def _positional(digits: str, point: int) -> str:
    """Return the digits with the point in its place, without an exponent."""
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}" if point > 0 else f"0.{'0' * -point}{digits}"


# --- Text ------------------------------------------------------------------------------------------------------------


def _javascript_text(text: str) -> str:
    return f'"{_HALF.sub(_unicode, _ESCAPED.sub(_escape, text))}"'


def _php_text(text: str) -> str:
    return f'"{_NOT_ASCII.sub(_pair, _ESCAPED.sub(_escape, text))}"'


def _php_text_with_slashes(text: str) -> str:
    return _php_text(text).replace("/", "\\/")


def _escape(found: re.Match[str]) -> str:
    return _NAMED.get(found[0]) or _unicode(found)


def _unicode(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _pair(found: re.Match[str]) -> str:
    """Return the escapes of the one or two UTF-16 units of a character."""
    units = _units(found[0]).hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


# --- The ways, the likeliest first -----------------------------------------------------------------------------------

_JAVASCRIPT: Final = _Writing(number=javascript_number, text=_javascript_text, order=_Order.JAVASCRIPT)
_VERBATIM: Final = replace(_JAVASCRIPT, number=_as_written)
_PYTHON: Final = _Writing(number=_python_number, text=json.dumps, order=_Order.BYTES)
_PHP: Final = _Writing(number=_php_number, text=_php_text, order=_Order.BYTES, empty_object="[]")
_WRITINGS: Final = (
    _VERBATIM,
    _JAVASCRIPT,
    replace(_VERBATIM, lists_as_objects=True),
    replace(_JAVASCRIPT, lists_as_objects=True),
    _PYTHON,
    _PHP,
    replace(_PHP, order=_Order.TOP),
    replace(_PHP, number=_php_number_17),
    replace(_PHP, number=_php_number_14),
    replace(_PHP, text=_php_text_with_slashes),
    replace(_PHP, number=_as_written),
    replace(_PYTHON, number=_as_written),
    replace(_PYTHON, number=javascript_number),
)
_REPLACED: Final = (_VERBATIM, _JAVASCRIPT)
"""The old sample gives JSON.stringify the keys of the top level as a replacer: deeper, only keys named so stay."""
