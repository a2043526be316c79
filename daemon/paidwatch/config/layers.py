"""File, environment, credentials and command line laid over one another, remembering who wrote what."""

import json
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any, Final

from paidwatch.config.keys import Key, Kind
from paidwatch.config.locate import Path, lines_of
from paidwatch.config.origin import Layer, Origin, Origins
from paidwatch.config.wrong import did_you_mean

PREFIX: Final = "PAIDWATCH_"
CONFIG_VARIABLE: Final = "PAIDWATCH_CONFIG"
TEST_PREFIX: Final = "PAIDWATCH_TEST_"
SEPARATOR: Final = "__"
CREDENTIAL_PREFIX: Final = "paidwatch_"


class Layers:
    """The tree of values as it grows, and the origin of each."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        """Begin with nothing; `keys` tells which variables hold lists or tables."""
        self.tree: dict[str, Any] = {}
        self._origins: dict[Path, Origin] = {}
        self._file = ""
        self._exposed = False
        self._keys = keys

    @property
    def origins(self) -> Origins:
        """Where everything in the tree came from."""
        return Origins(by_path=dict(self._origins), file=self._file, exposed=self._exposed)

    def add_file(self, name: str, text: str, *, exposed: bool = False) -> None:
        """Lay down the file, `exposed` if every user may read it; raises tomllib.TOMLDecodeError."""
        self.tree = tomllib.loads(text, parse_float=Decimal)
        self._file, self._exposed = name, exposed
        for path, line in lines_of(text).items():
            self._origins[path] = Origin(layer=Layer.FILE, name=name, line=line)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Lay every PAIDWATCH_SECTION__KEY over it, except the two that are no settings."""
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or variable.startswith(TEST_PREFIX):
                continue
            names = tuple(variable.removeprefix(PREFIX).lower().split(SEPARATOR))
            self.put(names, environ[variable], Origin(layer=Layer.ENVIRONMENT, name=variable))

    def add_credentials(self, directory: FilePath) -> None:
        """Lay every file named like a key, `database.dsn`, over it; raises OSError.

        `LoadCredential=paidwatch:DIRECTORY` hands the files of a directory over as `paidwatch_database.dsn`. Other
        programs' credentials may lie beside them: a file whose first word is not even close to a section is left alone.
        """
        sections = {key.path[0] for key in self._keys}
        for file in sorted(directory.iterdir()):
            names = tuple(file.name.removeprefix(CREDENTIAL_PREFIX).split("."))
            close = names[0] in sections or did_you_mean(names[0], sections)
            if len(names) > 1 and close and file.is_file():
                text = file.read_text(encoding="utf-8").removesuffix("\n")
                self.put(names, text, Origin(layer=Layer.CREDENTIAL, name=file.name))

    def add_options(self, overrides: Mapping[str, str]) -> None:
        """Lay the command line over everything: dotted keys with their values."""
        for dotted, value in overrides.items():
            names = tuple(dotted.split("."))
            self.put(names, value, Origin(layer=Layer.COMMAND_LINE, name=f"--{names[-1]}"))

    def put(self, names: tuple[str, ...], text: str, origin: Origin) -> None:
        """Write one value, in place of what weaker layers wrote there."""
        node = self.tree
        path: tuple[str, ...] = ()
        for name in names[:-1]:
            actual = _existing(node, name)
            path = (*path, actual)
            if not isinstance(node.get(actual), dict):
                self._forget(path)
                node[actual] = {}
            self._origins.setdefault(path, origin)
            node = node[actual]
        actual = _existing(node, names[-1])
        path = (*path, actual)
        self._forget(path)
        self._origins[path] = origin
        node[actual] = self._read(path, text)

    def _read(self, path: tuple[str, ...], text: str) -> object:
        """Return what `text` means for the key: a list may be JSON or separated by commas, a table is JSON."""
        kind = next((key.kind for key in self._keys if key.matches(path)), Kind.TEXT)
        if kind not in {Kind.LIST, Kind.TABLE}:
            return text
        opening = "[" if kind is Kind.LIST else "{"
        if text.lstrip().startswith(opening):
            try:
                return json.loads(text, parse_float=Decimal)
            except ValueError:
                return text
        return [item.strip() for item in text.split(",") if item.strip()] if kind is Kind.LIST else text

    def _forget(self, path: Path) -> None:
        for known in [known for known in self._origins if known[: len(path)] == path]:
            del self._origins[known]


def _existing(node: Mapping[str, object], name: str) -> str:
    """Return the key of `node` that a variable means: variables know neither small letters nor hyphens."""
    if name in node:
        return name
    return next((key for key in node if _folded(key) == _folded(name)), name)


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
