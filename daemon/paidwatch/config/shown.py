"""The effective configuration written back as TOML, for `paidwatch config show`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final, cast

from pydantic import SecretStr

from paidwatch.config.duration import format_duration
from paidwatch.config.locate import Path
from paidwatch.config.origin import DEFAULT, Origin
from paidwatch.config.problems import dotted
from paidwatch.config.section import Section
from paidwatch.config.settings import Settings

HIDDEN: Final = "********"

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key with its effective value."""

    path: Path
    value: object
    """Text, number, truth value, list or table; a secret is already hidden; None is a value that is not set."""
    origins: tuple[Origin, ...]
    """More than one where several sources filled one table."""

    @property
    def key(self) -> str:
        """Return the dotted key."""
        return dotted(self.path)

    @property
    def source(self) -> str:
        """Where the value came from, for people."""
        return ", ".join(str(origin) for origin in self.origins)


def entries(settings: Settings) -> Iterator[Entry]:
    """Yield every key of every section, in the order of the models."""
    yield from _entries_of(settings, (), settings)


def render(settings: Settings) -> str:
    """Return the TOML text."""
    lines: list[str] = []
    section: Path = ()
    for entry in entries(settings):
        if entry.path[:-1] != section:
            section = entry.path[:-1]
            lines += ["", _header(section)]
        name = _key(str(entry.path[-1]))
        text = f"# {name} is not set" if entry.value is None else f"{name} = {toml(entry.value)}  # {entry.source}"
        lines.append(text)
    return "\n".join(lines[1:]) + "\n"


def _header(path: Path) -> str:
    """Return `[a.b]`, or `[[a.b]]` for one of the tables in a list."""
    name = ".".join(_key(part) for part in path if isinstance(part, str))
    return f"[[{name}]]" if isinstance(path[-1], int) else f"[{name}]"


def _entries_of(section: Section, base: Path, settings: Settings) -> Iterator[Entry]:
    tables: list[tuple[Path, Section]] = []
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        path = (*base, name)
        if isinstance(value, Section):
            tables.append((path, value))
        elif path in {("channels",), ("providers",)}:
            named = cast("dict[str, Section]", value)
            tables += [((*path, key), item) for key, item in named.items()]
        elif listed := _listed(value):
            tables += [((*path, index), item) for index, item in enumerate(listed)]
        else:
            yield Entry(path=path, value=plain(value), origins=_origins(path, settings))
    for path, table in tables:
        yield from _entries_of(table, path, settings)


def _listed(value: object) -> tuple[Section, ...]:
    """Return the tables of a list of tables; none for any other value."""
    items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    return tuple(item for item in items if isinstance(item, Section))


def _origins(path: Path, settings: Settings) -> tuple[Origin, ...]:
    own = settings.origins.of(path)
    if any(isinstance(part, int) and settings.origins.of(path[: at + 1]) == DEFAULT for at, part in enumerate(path)):
        own = settings.origins.nearest(path)  # the whole list came as one text
    below = [origin for origin in settings.origins.within(path) if origin.layer is not own.layer]
    return tuple(dict.fromkeys((own, *below))) if own != DEFAULT or below else (DEFAULT,)


def plain(value: object) -> object:
    """Return `value` as TOML and JSON know it: durations and amounts as text, secrets hidden."""
    match value:
        case SecretStr():
            return HIDDEN if value.get_secret_value() else ""
        case timedelta():
            return format_duration(value)
        case Decimal():
            return str(value)
        case tuple():
            return [plain(item) for item in cast("tuple[object, ...]", value)]
        case dict():
            return {key: plain(item) for key, item in cast("dict[str, object]", value).items()}
        case _:
            return value


def toml(value: object) -> str:
    """Return what stands behind the equals sign for a value that `plain` returned."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(toml(item) for item in cast('list[object]', value))}]"
        case dict():
            pairs = cast("dict[str, object]", value).items()
            items = ", ".join(f"{_key(key)} = {toml(item)}" for key, item in pairs)
            return f"{{ {items} }}" if items else "{}"
        case int():
            return str(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml(name)
