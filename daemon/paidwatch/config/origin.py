"""Where a configured value came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from paidwatch.config.locate import Path


class Layer(StrEnum):
    """The sources of a configuration, each stronger than the one before."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    CREDENTIAL = "credential"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One place where a value was written."""

    layer: Layer
    name: str = ""
    """The file, the variable, the credential or the option."""
    line: int | None = None
    """From 1, in a file."""

    def __str__(self) -> str:
        """Return it as a person would look it up: `/etc/paidwatch/paidwatch.toml:12`, `environment PAIDWATCH_…`."""
        match self.layer:
            case Layer.FILE:
                return self.name if self.line is None else f"{self.name}:{self.line}"
            case _:
                return f"{self.layer} {self.name}".strip()


DEFAULT = Origin(layer=Layer.DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """The origin of every key, table and list item that was written anywhere."""

    by_path: Mapping[Path, Origin] = field(default_factory=dict[Path, Origin])
    file: str = ""
    """The configuration file, if there is one."""
    exposed: bool = False
    """Every user of the machine may read that file."""

    def of(self, path: Path) -> Origin:
        """Return where `path` itself was written; a key that nobody wrote is a default."""
        return self.by_path.get(path, DEFAULT)

    def nearest(self, path: Path) -> Origin:
        """Return where `path` was written, or else the table or list around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.by_path:
                return self.by_path[path[:length]]
        return DEFAULT

    def within(self, path: Path) -> tuple[Origin, ...]:
        """Return the distinct origins of everything below `path`, in the order they were written."""
        found = [origin for at, origin in self.by_path.items() if len(at) > len(path) and at[: len(path)] == path]
        return tuple(dict.fromkeys(found))
