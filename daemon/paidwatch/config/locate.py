"""Where each key of a TOML text stands: `tomllib` gives values without positions, and an error needs a line.

The text is known to be valid, so this reads only as much of the grammar as is needed to tell keys from values.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

Path = tuple[str | int, ...]
"""The way to a value: table and key names, and indices inside arrays."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'  # a closing delimiter may be preceded by two quotes of the text
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]+")


def lines_of(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, of every table header, key and array item of the valid TOML `text`."""
    return _Scanner(text).scan()


class _Scanner:
    """A cursor over the text; every method leaves it behind what it has read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        """Index of the latest `[[table]]` of each array of tables."""

    def scan(self) -> Mapping[Path, int]:
        base: Path = ()
        while self._skip_blank():
            if self._text[self._at] == "[":
                base = self._header()
            else:
                self._pair(base)
        return self._lines

    def _header(self) -> Path:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        names = self._key()
        self._skip_blank()
        self._at += 2 if array else 1
        base: Path = ()
        for position, name in enumerate(names):
            base = (*base, name)
            if array and position == len(names) - 1:
                self._lines.setdefault(base, line)
                self._arrays[base] = self._arrays.get(base, -1) + 1
            if base in self._arrays:
                base = (*base, self._arrays[base])
        self._note(base, line)
        return base

    def _pair(self, base: Path) -> None:
        line = self._line()
        path = (*base, *self._key())
        self._note(path, line)
        self._skip_blank()
        self._at += len("=")
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        names: list[str] = []
        while True:
            self._skip_blank()
            quoted = _STRING.match(self._text, self._at)
            if quoted:
                names.append(tomllib.loads(f"k = {quoted[0]}")["k"])
                self._at = quoted.end()
            else:
                names.append(self._take(_BARE_KEY))
            self._skip_blank()
            if self._text[self._at] != ".":
                return tuple(names)
            self._at += len(".")

    def _value(self, path: Path) -> None:
        self._skip_blank()
        opening = self._text[self._at]
        if opening == "[":
            self._at += 1
            index = 0
            while self._more("]"):
                self._note((*path, index), self._line())
                self._value((*path, index))
                index += 1
        elif opening == "{":
            self._at += 1
            while self._more("}"):
                self._pair(path)
        else:
            self._take(_STRING if opening in "\"'" else _SCALAR)

    def _more(self, closing: str) -> bool:
        """Return whether another item follows; step over the separator or over the closing bracket."""
        self._skip_blank()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()
        if self._text[self._at] == closing:
            self._at += 1
            return False
        return True

    def _skip_blank(self) -> bool:
        """Step over white space and comments; return whether anything follows."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            message = f"line {self._line()} does not read as TOML"
            raise ValueError(message)
        self._at = found.end()
        return found[0]

    def _note(self, path: Path, line: int) -> None:
        """Keep the first line of `path` and of every table above it that dotted keys create on the way."""
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _line(self) -> int:
        return bisect_right(self._starts, self._at)
