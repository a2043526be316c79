"""The named statements of `sql/queries`, and the other SQL files of the package."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

_NAME = re.compile(r"^-- name: (?P<name>[a-z_]+)$", re.MULTILINE)


class Statements(Mapping[str, str]):
    """Every statement by its name; a block starts at `-- name: x` and ends at the next one."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Take statements by name."""
        self._texts = dict(texts)

    @classmethod
    def load(cls) -> "Statements":
        """Read all of `sql/queries/*.sql`. Raises ValueError when a name is given twice."""
        found: dict[str, str] = {}
        for source in sorted((sql_folder() / "queries").iterdir(), key=lambda entry: entry.name):
            for name, text in blocks(source.read_text(encoding="utf-8")):
                if name in found:
                    message = f"two statements are named {name}"
                    raise ValueError(message)
                found[name] = text
        return cls(found)

    def __getitem__(self, name: str) -> str:
        """Return the text of one statement."""
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._texts)

    def __len__(self) -> int:
        """Return how many statements there are."""
        return len(self._texts)


def sql_folder() -> Traversable:
    """Return the package's folder of SQL files."""
    return files("paidwatch") / "sql"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, statement) for each `-- name:` block of one file."""
    marks = list(_NAME.finditer(text))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() : following.start() if following else len(text)].strip()
        yield mark["name"], body.removesuffix(";")
