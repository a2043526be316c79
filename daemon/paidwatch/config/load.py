"""From files, variables, credentials and options to one `Settings`, or to every problem at once."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, cast

from pydantic import ValidationError

from paidwatch.config.keys import all_keys
from paidwatch.config.layers import CONFIG_VARIABLE, Layers
from paidwatch.config.locate import lines_of
from paidwatch.config.origin import DEFAULT, Layer, Origin
from paidwatch.config.problems import ConfigProblems, Problem, dotted, translate
from paidwatch.config.references import missing_link_key, unknown_channels, untimed_events
from paidwatch.config.settings import Settings
from paidwatch.errors import ConfigError

DEFAULT_FILE: Final = Path("/etc/paidwatch/paidwatch.toml")
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
LIBPQ_VARIABLES: Final = ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGPASSWORD", "PGPASSFILE")
LIBPQ_DSN: Final = "postgresql://"
"""An address that says nothing: the client library fills every part of it from the libpq environment."""

_PORTS: Final = re.compile(r"\d{1,5}(?:,\d{1,5})*", re.ASCII)
_READABLE_BY_OTHERS: Final = 0o004
_POSITION: Final = re.compile(r" \(at line (\d+), column \d+\)")


def load(
    path: Path | str | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    default_file: Path = DEFAULT_FILE,
    needs_database: bool = True,
) -> Settings:
    """Return the effective settings.

    1. `path`, or the file named by PAIDWATCH_CONFIG, must exist; `default_file` may be absent.
    2. PAIDWATCH_SECTION__KEY goes over it, the files of the credentials directory over that, `overrides` (dotted keys,
       for example `{"database.dsn": …}`) over everything.
    3. Without an address of the database the libpq environment counts; without that it is an error, unless
       `needs_database` is false.

    Raises ConfigError: ConfigProblems with all problems where the values are at fault.
    """
    variables = os.environ if environ is None else environ
    named = path or variables.get(CONFIG_VARIABLE) or None
    file = Path(named) if named else default_file
    keys = all_keys()
    layers = Layers(keys)
    _lay_file(layers, file, must_exist=named is not None)
    layers.add_environment(variables)
    _lay_credentials(layers, variables.get(CREDENTIALS_VARIABLE, ""))
    layers.add_options(overrides or {})
    problems = list(_lay_address(layers, variables, file, needed=needs_database))
    problems += unknown_channels(layers.tree, layers.origins)
    problems += missing_link_key(layers.tree, layers.origins)
    problems += untimed_events(layers.tree, layers.origins)
    try:
        settings = Settings.made(layers.tree, layers.origins)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise ConfigProblems([*problems, *translate(found, layers.origins, keys)]) from None
    if problems:
        raise ConfigProblems(problems)
    return settings


def _lay_file(layers: Layers, file: Path, *, must_exist: bool) -> None:
    """Lay the file down; an absent default file counts as an empty one."""
    try:
        with file.open("rb") as handle:
            exposed = bool(os.fstat(handle.fileno()).st_mode & _READABLE_BY_OTHERS)
            text = handle.read().decode("utf-8-sig")
    except FileNotFoundError:
        if must_exist:
            message = f"{file}: there is no such file"
            raise ConfigError(message, remedy=f"name another one with --config or {CONFIG_VARIABLE}") from None
        return
    except IsADirectoryError:
        message = f"{file}: is a directory"
        raise ConfigError(message, remedy=f"name the file in it, like {file / DEFAULT_FILE.name}") from None
    except OSError as error:
        message = f"{file}: cannot be read ({error.strerror})"
        raise ConfigError(message, remedy="let the user that runs paidwatch read it") from None
    except UnicodeDecodeError:
        message = f"{file}: is not UTF-8 text"
        raise ConfigError(message, remedy="save it as UTF-8") from None
    try:
        layers.add_file(str(file), text, exposed=exposed)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblems([_syntax(str(file), text, str(error))]) from None


def _syntax(file: str, text: str, said: str) -> Problem:
    """Return the parser's complaint, which never quotes a value, at the line it names in words."""
    found = _POSITION.search(said)
    line = int(found[1]) if found else text.count("\n", 0, len(text.rstrip())) + 1
    if twice := _twice(file, text, line):
        return twice
    what = f"is not valid TOML: {_POSITION.sub('', said).removesuffix(' (at end of document)')}"
    remedy = 'mend that line; text stands in straight quotes, like "2m", and a key or a table is written once'
    return Problem(origin=Origin(layer=Layer.FILE, name=file, line=line), key="", what=what, remedy=remedy)


def _twice(file: str, text: str, line: int) -> Problem | None:
    """Return the problem of a table whose header stands a second time in `line`, the usual way to a name used twice."""
    lines = text.split("\n")
    header = lines[line - 1] if line <= len(lines) else ""
    try:
        first, again = lines_of("\n".join(lines[: line - 1])), list(lines_of(header))
    except (ValueError, IndexError):  # it is wrong in another way
        return None
    if not header.lstrip().startswith("[") or again[-1] not in first:
        return None
    path = again[-1]
    remedy = "a table is written once: give one of the two another name, or put everything into one of them"
    if path[:1] == ("channels",):
        remedy = "each channel has a name of its own: give one of the two another name"
    origin = Origin(layer=Layer.FILE, name=file, line=line)
    what = f"stands here a second time, after line {first[path]}"
    return Problem(origin=origin, key=dotted(path), what=what, remedy=remedy)


def _lay_credentials(layers: Layers, directory: str) -> None:
    try:
        if directory:
            layers.add_credentials(Path(directory))
    except (OSError, UnicodeDecodeError):
        message = f"{directory}: the credentials cannot be read"
        raise ConfigError(
            message, remedy="look at LoadCredential= of the service; each file holds UTF-8 text"
        ) from None


def _lay_address(layers: Layers, variables: Mapping[str, str], file: Path, *, needed: bool) -> Iterator[Problem]:
    """Fall back to the libpq environment; yield a problem if there is no address at all."""
    database = layers.tree.get("database", {})
    if not isinstance(database, dict) or cast("dict[str, object]", database).get("dsn", "") != "":
        return
    named = [variable for variable in LIBPQ_VARIABLES if variables.get(variable)]
    origin = Origin(layer=Layer.ENVIRONMENT, name=", ".join(named)) if named else DEFAULT
    layers.put(("database", "dsn"), LIBPQ_DSN, origin)
    if variables.get("PGPORT") and not _PORTS.fullmatch(variables["PGPORT"]):
        variable = Origin(layer=Layer.ENVIRONMENT, name="PGPORT")
        yield Problem(origin=variable, key="", what="is not the number of a port", remedy="write it like 5432")
    if needed and not named:
        what = "is missing: there is no address of a database"
        remedy = f"write [database] dsn in {file}, set PAIDWATCH_DATABASE__DSN or PGHOST, or give --dsn"
        yield Problem(origin=DEFAULT, key="database.dsn", what=what, remedy=remedy)
