"""What is wrong with a configuration, said so that the owner can mend it without reading code."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from pydantic_core import ErrorDetails

from paidwatch.config.keys import ANY_NAME, Key, Kind
from paidwatch.config.layers import PREFIX, SEPARATOR
from paidwatch.config.locate import Path
from paidwatch.config.origin import Layer, Origin, Origins
from paidwatch.config.wrong import Wrong
from paidwatch.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend."""

    origin: Origin
    """Where it is written; the default origin where it is not written at all."""
    key: str
    """Dotted, empty where the file as a whole is meant."""
    what: str
    """Completes the key to a sentence; holds no secret."""
    remedy: str

    def __str__(self) -> str:
        """Return `place: key what`."""
        place = "" if self.origin.layer is Layer.DEFAULT else f"{self.origin}: "
        return f"{place}{self.key} {self.what}" if self.key else f"{place}{self.what}"


class ConfigProblems(ConfigError):
    """Everything that is wrong, at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems in the order of their places; one is told like any error, more as a list."""
        self.problems: tuple[Problem, ...] = tuple(
            sorted(problems, key=lambda it: (list(Layer).index(it.origin.layer), it.origin.name, it.origin.line or 0))
        )
        if len(self.problems) == 1:
            super().__init__(str(self.problems[0]), remedy=self.problems[0].remedy)
            return
        lines = [f"the configuration has {len(self.problems)} problems"]
        for problem in self.problems:
            lines.append(f"  {problem}")
            if problem.remedy:
                lines.append(f"    → {problem.remedy}")
        super().__init__("\n".join(lines), remedy="mend them; `paidwatch config check` shows what is left")


_SENTENCES: Final = {
    "missing": ("is missing", ""),
    "string_type": ("must be text", "put it in quotes"),
    "bool_type": ("must be true or false", ""),
    "bool_parsing": ("must be true or false", ""),
    "int_type": ("must be a whole number", ""),
    "int_parsing": ("must be a whole number", ""),
    "int_parsing_size": ("must be a whole number", "this one is too large"),
    "int_from_float": ("must be a whole number", ""),
    "decimal_type": ("must be a number", ""),
    "decimal_parsing": ("must be a number", ""),
    "finite_number": ("must be a number", ""),
    "tuple_type": ("must be a list", 'write it like ["one", "two"]'),
    "dict_type": ("must be a table", ""),
    "model_type": ("must be a table", ""),
    "model_attributes_type": ("must be a table", ""),
    "string_pattern_mismatch": ("has the wrong form", ""),
}
_LIMITS: Final = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be more than"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be less than"),
}
_MARKER: Final = "[key]"
"""What pydantic appends to the way to a value when the value's name is meant."""


def translate(errors: Iterable[ErrorDetails], origins: Origins, keys: Sequence[Key]) -> Iterator[Problem]:
    """Yield one problem per error of the models; an error that only follows from another one is left out."""
    for error in errors:
        kind = error["type"]
        context = error.get("ctx", {})
        path = _written(error["loc"])
        match kind:
            case "default_factory_not_called":
                continue
            case "value_error" if isinstance(context.get("error"), Wrong):
                yield _from_wrong(path, context["error"], origins)
            case "extra_forbidden":
                yield from _unknown(path, origins, keys)
            case "literal_error":
                known = _choices(path, keys)
                yield _problem(path, f"must be one of {', '.join(known)}", "", origins)
            case "union_tag_invalid" | "union_tag_not_found":
                what = "must be one of" if kind == "union_tag_invalid" else "is missing; it is one of"
                yield _problem((*path, "type"), f"{what} {', '.join(_types(keys))}", "", origins)
            case _ if kind in _LIMITS:
                limit, sentence = _LIMITS[kind]
                yield _problem(path, f"{sentence} {context[limit]}", "", origins)
            case "tuple_type" if _is_repeated(path, keys):
                yield _problem(path, "must be a list", f"write [[{dotted(path)}]], once for each", origins)
            case _:
                what, remedy = _SENTENCES.get(kind, ("cannot be used", "see docs/configuration.md"))
                meaning = next((key.meaning for key in keys if key.matches(_names(path))), "")
                yield _problem(path, what, meaning if kind == "missing" else remedy, origins)


def _from_wrong(path: Path, wrong: Wrong, origins: Origins) -> Problem:
    path = (*path, *wrong.below)
    blamed = origins.of(path)
    if blamed.layer is Layer.DEFAULT and wrong.other:
        blamed = origins.nearest((*path[:-1], wrong.other))
    if blamed.layer is Layer.DEFAULT:
        blamed = origins.nearest(path)
    return Problem(origin=blamed, key=dotted(path), what=wrong.what, remedy=wrong.remedy)


def _problem(path: Path, what: str, remedy: str, origins: Origins) -> Problem:
    return Problem(origin=origins.nearest(path), key=dotted(path), what=what, remedy=remedy)


def _unknown(path: Path, origins: Origins, keys: Sequence[Key]) -> Iterator[Problem]:
    """Yield the problem of a key that no model has; a section that only variables name, once for each variable."""
    names = _names(path)
    known = sorted({_real(key.path, names)[len(names) - 1] for key in keys if _is_below(key, names[:-1])})
    siblings = [name for name in known if name != ANY_NAME]
    name = names[-1]
    inside_list = len(names) < len(path)
    near = next(iter(get_close_matches(name, siblings, n=1)), "")
    elsewhere = [key.path for key in keys if key.path[-1] == name and ANY_NAME not in key.path]
    for origin in dict.fromkeys((origins.nearest(path), *origins.within(path))):
        words = _words(path, origin)
        if near:
            nearest = (*words[: len(names) - 1], near, *words[len(names) :])
            remedy = f"did you mean {near if inside_list else _spelled(nearest, origin)}?"
        elif elsewhere:
            remedy = f"did you mean {_spelled(elsewhere[0], origin)}?"
        else:
            remedy = f"known here: {', '.join(siblings)}" if siblings else "see docs/configuration.md"
        if origin.layer is Layer.ENVIRONMENT and not inside_list:
            yield Problem(origin=origin, key="", what="is not a known variable", remedy=remedy)
        elif origin.layer is not Layer.FILE or origin == origins.nearest(path):
            yield Problem(origin=origin, key=dotted(path), what="is not a known key", remedy=remedy)


def _words(path: Path, origin: Origin) -> tuple[str, ...]:
    """Return all the words of the variable that wrote something below `path`, or those of `path` itself."""
    if origin.layer is Layer.ENVIRONMENT:
        return tuple(origin.name.removeprefix(PREFIX).lower().split(SEPARATOR))
    return _names(path)


def _is_below(key: Key, base: tuple[str, ...]) -> bool:
    return len(key.path) > len(base) and _real(key.path, base)[: len(base)] == base


def _real(pattern: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return `pattern` with the owner's names in place of the stars that `names` covers."""
    return tuple(
        names[index] if part == ANY_NAME and index < len(names) else part for index, part in enumerate(pattern)
    )


def _spelled(names: tuple[str, ...], origin: Origin) -> str:
    if origin.layer is Layer.ENVIRONMENT:
        return PREFIX + SEPARATOR.join(name.upper().replace("-", "_") for name in names)
    return ".".join(names)


def _choices(path: Path, keys: Sequence[Key]) -> tuple[str, ...]:
    return next((key.choices for key in keys if key.choices and key.matches(_names(path))), ())


def _is_repeated(path: Path, keys: Sequence[Key]) -> bool:
    return any(key.items is Kind.TABLE and key.matches(_names(path)) for key in keys)


def _types(keys: Sequence[Key]) -> list[str]:
    return list(dict.fromkeys(key.variant for key in keys if key.variant))


def _written(loc: Path) -> Path:
    """Return the way as the owner wrote it: without the channel's type that the models insert, and without markers."""
    path = tuple(part for part in loc if part != _MARKER)
    return path[:2] + path[3:] if path[:1] == ("channels",) and len(path) > len(("channels", "NAME")) else path


def _names(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def dotted(path: Path) -> str:
    """Return `payments.paid[2]` for ("payments", "paid", 2)."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text
