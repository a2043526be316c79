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
from paidwatch.config.section import Section
from paidwatch.config.settings import Settings

HIDDEN: Final = "********"

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key with its effective value."""

    path: tuple[str, ...]
    value: object
    """Text, number, truth value, list or table; a secret is already hidden; None is a value that is not set."""
    origins: tuple[Origin, ...]
    """More than one where several sources filled one table."""

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
    section: tuple[str, ...] = ()
    for entry in entries(settings):
        if entry.path[:-1] != section:
            section = entry.path[:-1]
            lines += ["", f"[{'.'.join(_key(name) for name in section)}]"]
        name = _key(entry.path[-1])
        text = f"# {name} is not set" if entry.value is None else f"{name} = {toml(entry.value)}  # {entry.source}"
        lines.append(text)
    return "\n".join(lines[1:]) + "\n"


def _entries_of(section: Section, base: tuple[str, ...], settings: Settings) -> Iterator[Entry]:
    tables: list[tuple[tuple[str, ...], Section]] = []
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        path = (*base, name)
        if isinstance(value, Section):
            tables.append((path, value))
        elif path in {("channels",), ("providers",)}:
            named = cast("dict[str, Section]", value)
            tables += [((*path, key), item) for key, item in named.items()]
        else:
            yield Entry(path=path, value=plain(value), origins=_origins(path, settings))
    for path, table in tables:
        yield from _entries_of(table, path, settings)


def _origins(path: Path, settings: Settings) -> tuple[Origin, ...]:
    own = settings.origins.of(path)
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
