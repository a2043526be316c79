"""Text for people: cleaned, masked, measured and cut, before any channel adds its own markup.

Everything that comes from the application or a payment provider is untrusted: it may hold line breaks, invisible or
direction-changing characters, markup of some chat, an address that should not be clickable, or a megabyte of it.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

ELLIPSIS = "…"

_MOST = 20_000
"""Characters of one value that are looked at at all; what is beyond is only counted."""
_JOINER = "\u200d"
"""Invisible, but many emoji are made with it."""
_ADDRESS = re.compile(r"[^\s@<>\"',;:=()\[\]]{1,256}@[^\s@<>\"',;:=()\[\]]{0,256}")
_TOP_LEVEL = re.compile(r"\.([a-zA-Z]{2,12})\.?$")
_SCHEME = re.compile(r"://")
_HOST = re.compile(r"\b(www|discord|discordapp)\.", re.IGNORECASE)
"""Names that chats make clickable without a scheme."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/=-]*")


def clean(text: str) -> str:
    """Return `text` as one line of visible characters.

    Line breaks and blanks become one space; control, format and private characters vanish; a lone surrogate, which no
    encoding can carry, becomes the replacement character.
    """
    head, rest = text[:_MOST], text[_MOST:]
    kept = head if head.isprintable() else "".join(_visible(character) for character in head)
    line = " ".join(kept.split())
    return f"{line} ({len(rest)} more){ELLIPSIS}" if rest else line


def _visible(character: str) -> str:
    """Return what stands for one character in a line of text."""
    if character.isspace():
        return " "
    match unicodedata.category(character):
        case "Cs":
            return "\ufffd"
        case "Cc" | "Cf" | "Co" | "Cn" if character != _JOINER:
            return ""
        case _:
            return character


def units(text: str) -> int:
    """Return the length in UTF-16 units.

    Chat services say "characters" and count code points in one place and UTF-16 units in another; this is the larger
    number, so what fits by it fits by both.
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def unchanged(text: str) -> str:
    """Escape nothing."""
    return text


def fit(text: str, most: int, *, escape: Callable[[str], str] = unchanged, size: Callable[[str], int] = units) -> str:
    """Return `text` escaped, and cut where its escaped form would be longer than `most`.

    What is cut ends in "…" and says how many characters are missing. `escape` works character by character, so that
    a longer text never has a shorter form. Where not even that note fits, the ellipsis alone remains; with nothing
    to fill, nothing.
    """
    whole = escape(text) if len(text) <= most else ""
    if len(text) <= most and size(whole) <= most:
        return whole
    low, high = -1, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        if size(_cut(text, middle, escape)) <= most:
            low = middle
        else:
            high = middle - 1
    if low >= 0:
        return _cut(text, low, escape)
    return ELLIPSIS if most >= size(ELLIPSIS) else ""


def _cut(text: str, length: int, escape: Callable[[str], str]) -> str:
    """Return the first `length` characters, escaped, and how many are missing."""
    note = f"({len(text) - length} more){ELLIPSIS}"
    kept = text[:length].rstrip()
    return f"{escape(kept)} {note}" if kept else note


def defang(text: str) -> str:
    """Return `text` so that no program turns an address in it into something to click; it stays readable."""
    return _HOST.sub(r"\1[.]", _SCHEME.sub("[:]//", text))


def mask(label: str) -> str:
    """Return a person's e-mail address or name so that only who knows it recognises it: `a***@e***.org`."""
    name = clean(label)
    if not name:
        return ""
    local, at, domain = name.rpartition("@")
    if not at:
        return f"{name[0]}***"
    ending = _TOP_LEVEL.search(domain)
    top = f".{ending[1]}" if ending else ""
    return f"{local[:1]}***@{domain[:1]}***{top}"


def masked(text: str) -> str:
    """Return free text, cleaned, with every e-mail address in it masked."""
    line = clean(text)
    return _ADDRESS.sub(lambda found: mask(found[0]), line) if "@" in line else line


def is_plain_command(command: str) -> bool:
    """Whether `command` may stand in a code span of any chat: it holds no character that ends one or means anything."""
    return _PLAIN.fullmatch(command) is not None


def money(amount: Decimal | None, currency: str | None) -> str:
    """Return `14.99 USD`."""
    if amount is None:
        return "an unknown amount"
    number = f"{amount:f}" if amount.is_finite() and abs(amount.adjusted()) <= 40 else str(amount)  # noqa: PLR2004
    return clean(f"{number} {currency or ''}")


def stamp(moment: datetime) -> str:
    """Return `2026-11-23 12:00:05 UTC`, for where the reader's own zone is not known."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units, rounded down: `7 min 11 s`, `2 d 3 h`, `0 s`."""
    seconds = max(int(length.total_seconds()), 0)
    parts = [
        (seconds // 86_400, "d"),
        (seconds % 86_400 // 3600, "h"),
        (seconds % 3600 // 60, "min"),
        (seconds % 60, "s"),
    ]
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    shown = [f"{number} {unit}" for number, unit in parts[first : first + 2] if number]
    return " ".join(shown) or "0 s"
