"""The log: a constant phrase, `event=` and fields, one line per decision, and no secret in any of it.

`Log` is what the rest of the program writes with. `configure` decides once how the lines look; whatever reaches the
standard library's loggers, from other libraries too, passes the same `Redactor` piece by piece, tracebacks included.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TextIO, cast
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from paidwatch.config.duration import format_duration

Format = Literal["auto", "journal", "json", "console"]

HIDDEN: Final = "********"

_SHORT: Final = 6
"""A secret shorter than this is hidden only where it stands alone, or it would cut holes into ordinary words."""
_TELLING: Final = 8
"""A part of a secret address at least this long is hidden on its own as well."""
_SECRET_FIELDS: Final = frozenset({"api_key", "authorization", "cookie", "dsn", "password", "secret", "token"})
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"""([a-z][a-z0-9+.-]*://[^\s"'<>@/?#:]*):[^\s"'<>/?#]*@""", rf"\1:{HIDDEN}@"),
        (r"""\b((?:password|passwd|secret|token|api_?key)=)("[^"]*"|'[^']*'|[^\s&,;"'()]+)""", rf"\1{HIDDEN}"),
        (
            r"""(["'](?:password|passwd|secret|token|api_?key|authorization)["']\s*:\s*)("[^"]*"|'[^']*')""",
            rf'\1"{HIDDEN}"',
        ),
        (r"""\b(bearer|basic)\s+[\w.~+/=-]{8,}""", rf"\1 {HIDDEN}"),
        (r"""(hooks\.slack\.com/\w+/)[^\s"'<>]+""", rf"\1{HIDDEN}"),
        (r"""(discord(?:app)?\.com/api/(?:v\d+/)?webhooks/)[^\s"'<>]+""", rf"\1{HIDDEN}"),
        (r"""\bwhsec_[\w+/=-]{8,}""", HIDDEN),
        (r"""(/act/)[\w.~%-]+""", rf"\1{HIDDEN}"),
    )
)
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_COLOURS: Final = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31"}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "fields"}


class Log:
    """Writes decisions: `log.info("gap.opened", "a gap was opened", payment=…)`."""

    def __init__(self, name: str = "") -> None:
        """Write as `paidwatch.NAME`."""
        self._logger = logging.getLogger(f"paidwatch.{name}" if name else "paidwatch")

    def debug(self, event: str, phrase: str, **fields: object) -> None:
        """Say what matters only to somebody who looks for a fault."""
        self._write(logging.DEBUG, event, phrase, fields)

    def info(self, event: str, phrase: str, **fields: object) -> None:
        """Say what was decided or done."""
        self._write(logging.INFO, event, phrase, fields)

    def warning(self, event: str, phrase: str, **fields: object) -> None:
        """Say what somebody should look at."""
        self._write(logging.WARNING, event, phrase, fields)

    def error(self, event: str, phrase: str, **fields: object) -> None:
        """Say what went wrong and needs somebody."""
        self._write(logging.ERROR, event, phrase, fields)

    def exception(self, event: str, phrase: str, **fields: object) -> None:
        """Say what went wrong unexpectedly, with the traceback of the exception being handled."""
        self._write(logging.ERROR, event, phrase, fields, traced=True)

    def _write(
        self, level: int, event: str, phrase: str, fields: Mapping[str, object], *, traced: bool = False
    ) -> None:
        self._logger.log(level, phrase, extra={"event": event, "fields": fields}, exc_info=traced, stacklevel=3)


class Redactor:
    """Hides every known secret, in each form it may take in a text, and whatever looks like a credential."""

    def __init__(self, secrets: Iterable[str] = (), *, names: Iterable[str] = ()) -> None:
        """Learn the secrets; longer ones are looked for first.

        `names` are the owner's own words, for channels say: where one is a part of a secret address it is shown all the
        same, or every line about that channel would be about nobody.
        """
        whole = set(secrets)
        shown = {name.lower() for name in names} - {secret.lower() for secret in whole}
        forms = {form for secret in whole for form in _forms(secret) if form.strip() and form.lower() not in shown}
        self._known = re.compile(
            "|".join(
                re.escape(form) if len(form) >= _SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
                for form in sorted(forms, key=len, reverse=True)
            )
            or r"(?!)"
        )

    def __call__(self, text: str) -> str:
        """Return `text` with `********` in place of secrets."""
        text = self._known.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _forms(secret: str) -> Iterator[str]:
    """Yield the secret as written, as encoded, and those parts of it that are credentials themselves."""
    pieces = {secret, secret.strip(), secret.removeprefix("whsec_"), *secret.splitlines()}
    pieces |= {word for word in secret.split() if len(word) >= _TELLING}
    if "://" in secret:
        pieces |= set(_url_pieces(secret))
    for piece in pieces:
        yield from (piece, unquote(piece), repr(piece)[1:-1], ascii(piece)[1:-1])
        yield from (json.dumps(piece)[1:-1], json.dumps(piece, ensure_ascii=False)[1:-1])
        raw = piece.encode(errors="surrogateescape")
        yield from (repr(raw)[2:-1], quote(raw), quote(raw, safe=""), quote_plus(raw))


def _url_pieces(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        queries = parse_qsl(parts.query)
    except ValueError:
        return
    _user, _colon, password = parts.netloc.rpartition("@")[0].partition(":")
    yield password
    if parts.scheme.startswith("postgres"):  # its path is the database's name
        yield from (value for name, value in queries if "password" in name)
        return
    pieces = [parts.path, f"{parts.path}?{parts.query}", *parts.path.split("/"), *(value for _name, value in queries)]
    yield from (piece for piece in pieces if len(piece) >= _TELLING)


def configure(
    *,
    wanted: Format,
    level: str,
    secrets: Iterable[str],
    names: Iterable[str] = (),
    environ: Mapping[str, str],
    stream: TextIO | None = None,
) -> None:
    """Write the log of this process to `stream`, standard error by default; calling it again replaces the earlier way.

    Other libraries are heard from `warning` on.
    """
    target = sys.stderr if stream is None else stream
    redact = Redactor(secrets, names=names)
    formatter: logging.Formatter
    match chosen(wanted, target, environ):
        case "journal":
            formatter = JournalFormatter(redact)
        case "json":
            formatter = JsonFormatter(redact)
        case _:
            formatter = ConsoleFormatter(redact, colour=target.isatty() and not environ.get("NO_COLOR"))
    handler = _Handler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for earlier in [it for it in root.handlers if isinstance(it, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("paidwatch").setLevel(level.upper())
    logging.captureWarnings(capture=True)


def chosen(wanted: Format, stream: TextIO, environ: Mapping[str, str]) -> Format:
    """Return the format that `auto` means for this stream."""
    if wanted != "auto":
        return wanted
    if _is_journal(stream, environ.get("JOURNAL_STREAM", "")):
        return "journal"
    return "console" if stream.isatty() else "json"


def _is_journal(stream: TextIO, device_and_inode: str) -> bool:
    """Return whether JOURNAL_STREAM speaks of this very stream: the variable outlives a redirection."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return device_and_inode == f"{status.st_dev}:{status.st_ino}"


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's signature
        """Go on: a log that cannot be written is no reason to stop, and the usual report would show raw arguments."""


class _Formatter(logging.Formatter):
    """What the three formats share: the parts of a record, redacted before they are put together."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def _phrase(self, record: logging.LogRecord) -> str:
        return self._redact(record.getMessage())

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Return `event` and then the fields; numbers and truth values stay what they are."""
        raw = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        raw |= getattr(record, "fields", {})
        fields: dict[str, object] = {"event": raw.pop("event", record.name)}
        for name, value in raw.items():
            if value is not None:
                fields[name] = HIDDEN if name.lower() in _SECRET_FIELDS else self._value(value)
        return fields

    def _value(self, value: object) -> object:
        return value if isinstance(value, bool | int) else self._redact(_text(value))

    def _trace(self, record: logging.LogRecord) -> str:
        text = ""
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info))
        return self._redact(text + (record.stack_info or "")).rstrip()

    def _line(self, record: logging.LogRecord) -> str:
        pairs = (f"{name}={_quoted(_text(value))}" for name, value in self._fields(record).items())
        return f"{visible(self._phrase(record))} {' '.join(pairs)}"


class JournalFormatter(_Formatter):
    """Plain lines, each with the priority that the journal understands; the journal knows the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and one for each line of a traceback."""
        lines = [self._line(record), *(visible(line) for line in self._trace(record).splitlines())]
        return "\n".join(f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" for line in lines)


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a field that would hide `time` or `level` gets an underscore."""
        whole: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._phrase(record),
        }
        for name, value in self._fields(record).items():
            whole[f"{name}_" if name in whole else name] = value
        if trace := self._trace(record):
            whole["traceback"] = trace
        return json.dumps(whole, ensure_ascii=False)


class ConsoleFormatter(_Formatter):
    """For people: the time of day where they are, the level, the phrase, the fields."""

    def __init__(self, redact: Redactor, *, colour: bool) -> None:
        """Colour the level if `colour`."""
        super().__init__(redact)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and an indented one for each line of a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname.lower():7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '31')}m{level}\x1b[0m"
        lines = [f"{time} {level} {self._line(record)}"]
        lines += (f"  {visible(line)}" for line in self._trace(record).splitlines())
        return "\n".join(lines)


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case timedelta():
            return format_duration(value)
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case list() | tuple() | set() | frozenset():
            return ",".join(_text(item) for item in cast("Iterable[object]", value))
        case _:
            return str(value)


def _quoted(text: str) -> str:
    """Return `text` as one word; a field's value comes from outside and must not look like another field."""
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible(escaped)}"'


def visible(text: str) -> str:
    """Return `text` without line breaks and control characters: they are shown as their escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)
