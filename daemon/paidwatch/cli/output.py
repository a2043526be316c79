"""What commands print: tables with colours for people at a terminal, plain aligned lines in a pipe, JSON for programs.

What comes from the database is untrusted text: it is never read as markup, and its control characters are shown.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, cast

import click

from paidwatch.config.duration import format_duration
from paidwatch.log import visible

if TYPE_CHECKING:
    from rich.console import Console

NOTHING: Final = "-"
"""What stands for an absent value."""


WIDE: Final = 120
"""Columns of a terminal on which nothing has to be left out of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    right: bool = False
    """Numbers stand at the right."""
    cut: bool = False
    """A longer text, of which a narrow terminal shows the beginning; the columns beside it stay whole."""
    wide: bool = False
    """Left out where a terminal has less than `WIDE` columns."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A value that is coloured on a terminal, for example `Styled("open", "red")`."""

    value: object
    style: str


def is_terminal() -> bool:
    """Return whether a person reads the output."""
    return sys.stdout.isatty()


def console() -> "Console":
    """Return a console for standard output that takes no text for markup; NO_COLOR is respected."""
    from rich.console import Console  # noqa: PLC0415 - only needed on a terminal

    return Console(markup=False, highlight=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """Print one line or several, styled on a terminal."""
    shown = "\n".join(visible(line) for line in text.split("\n"))
    if style and is_terminal():
        console().print(shown, style=style, soft_wrap=True)
    else:
        click.echo(shown)


def emit_table(columns: Sequence[Column | str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print a table; each row has one value for each column."""
    heads = [column if isinstance(column, Column) else Column(name=column) for column in columns]
    if is_terminal():
        _rich_table(heads, rows, title)
        return
    if title:
        click.echo(visible(title))
    for line in plain_lines(heads, rows):
        click.echo(line)


def plain_lines(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the head and the rows as lines whose columns stand below one another, two blanks apart."""
    from rich.cells import cell_len  # noqa: PLC0415 - wide letters take two cells

    cells = [[column.name.upper() for column in columns]]
    cells += [[cell(value) for _column, value in zip(columns, row, strict=True)] for row in rows]
    widths = [max(cell_len(row[index]) for row in cells) for index in range(len(columns))]
    lines: list[str] = []
    for row in cells:
        parts: list[str] = []
        for column, width, text in zip(columns, widths, row, strict=True):
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if column.right else text + blanks)
        lines.append("  ".join(parts).rstrip())
    return lines


def cell(value: object) -> str:
    """Return one value as a person reads it."""
    match value:
        case None:
            return NOTHING
        case Styled():
            return cell(value.value)
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case timedelta():
            return format_duration(value)
        case _:
            return visible(str(value)) or NOTHING


def emit_json(value: object) -> None:
    """Print one JSON document: on one line in a pipe, indented on a terminal."""
    indent = 2 if is_terminal() else None
    click.echo(json.dumps(value, default=_jsonable, ensure_ascii=False, allow_nan=False, indent=indent))


def emit_json_line(value: object) -> None:
    """Print one JSON object on one line, wherever it goes: the next one follows."""
    click.echo(json.dumps(value, default=_jsonable, ensure_ascii=False, allow_nan=False))


def _jsonable(value: object) -> object:
    match value:
        case Decimal():
            return str(value)
        case datetime():
            return value.isoformat()
        case timedelta():
            return format_duration(value)
        case set() | frozenset():
            return sorted(cast("Iterable[str]", value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        case _:
            message = f"{type(value).__name__} has no form in JSON"
            raise TypeError(message)


def _rich_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str) -> None:
    from rich import box  # noqa: PLC0415 - only needed on a terminal
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    screen = console()
    shown = [index for index, column in enumerate(columns) if not column.wide or screen.width >= WIDE]
    one_line = any(column.cut for column in columns)
    table = Table(title=Text(visible(title)) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in (columns[index] for index in shown):
        table.add_column(
            Text(column.name), justify="right" if column.right else "left", no_wrap=one_line and not column.cut
        )
    for row in rows:
        table.add_row(
            *(
                Text(
                    cell(value),
                    style=value.style if isinstance(value, Styled) else "",
                    no_wrap=column.cut,
                    overflow="ellipsis" if column.cut else "fold",
                )
                for column, value in ((columns[index], row[index]) for index in shown)
            )
        )
    screen.print(table)
