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


_WHOLE: Final = "write digits only, like 5"
_NUMBER: Final = "write it like 14.99 or 0.5: a point, and neither currency nor percent sign"
_SENTENCES: Final = {
    "string_type": ("must be text", "put it in quotes"),
    "bool_type": ("must be true or false", "write it without quotes"),
    "bool_parsing": ("must be true or false", "write it without quotes"),
    "int_type": ("must be a whole number", _WHOLE),
    "int_parsing": ("must be a whole number", _WHOLE),
    "int_parsing_size": ("must be a whole number", "this one is too large"),
    "int_from_float": ("must be a whole number", _WHOLE),
    "decimal_type": ("must be a number", _NUMBER),
    "decimal_parsing": ("must be a number", _NUMBER),
    "finite_number": ("must be a number", _NUMBER),
    "tuple_type": ("must be a list", ""),
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
        path, variant = _written(error["loc"]), _variant(error["loc"])
        match kind:
            case "default_factory_not_called":
                continue
            case "value_error" if isinstance(context.get("error"), Wrong):
                yield _from_wrong(path, context["error"], origins)
            case "extra_forbidden":
                yield from _unknown(path, variant, origins, keys)
            case "literal_error":
                known = _choices(path, keys)
                yield _problem(path, f"must be one of {', '.join(known)}", "write one of them, in quotes", origins)
            case "union_tag_invalid" | "union_tag_not_found":
                what = "must be one of" if kind == "union_tag_invalid" else "is missing; it is one of"
                remedy = 'write one of them, in quotes, like type = "slack"; apprise reaches whatever is not there'
                yield _problem((*path, "type"), f"{what} {', '.join(_types(keys))}", remedy, origins)
            case _ if kind in _LIMITS:
                limit, sentence = _LIMITS[kind]
                yield _problem(path, f"{sentence} {context[limit]}", _meaning(path, keys), origins)
            case "missing":
                yield _problem(path, "is missing", _meaning(path, keys, variant), origins)
            case _:
                what, remedy = _SENTENCES.get(kind, ("cannot be used", "see docs/configuration.md"))
                yield _problem(path, what, remedy or _as_table(path, origins.nearest(path), keys), origins)


def _from_wrong(path: Path, wrong: Wrong, origins: Origins) -> Problem:
    path = (*path, *wrong.below)
    blamed = origins.of(path)
    if blamed.layer is Layer.DEFAULT and wrong.other:
        elsewhere = "." in wrong.other
        blamed = origins.nearest(tuple(wrong.other.split(".")) if elsewhere else (*path[:-1], wrong.other))
    if blamed.layer is Layer.DEFAULT:
        blamed = origins.nearest(path)
    return Problem(origin=blamed, key=dotted(path), what=wrong.what, remedy=wrong.remedy)


def _problem(path: Path, what: str, remedy: str, origins: Origins) -> Problem:
    return Problem(origin=origins.nearest(path), key=dotted(path), what=what, remedy=remedy)


def _unknown(path: Path, variant: str, origins: Origins, keys: Sequence[Key]) -> Iterator[Problem]:
    """Yield the problem of a key that no model has; a section that only variables name, once for each variable."""
    names = _names(path)
    inside_list = len(names) < len(path)
    own = [key for key in keys if not variant or key.variant in {"", variant}]
    known = sorted({_real(key.path, names)[len(names) - 1] for key in own if _is_below(key, names[:-1])} - {ANY_NAME})
    near = _near(names[-1], known)
    for origin in dict.fromkeys((origins.nearest(path), *origins.within(path))):
        written = _words(path, origin)
        if origin.layer is Layer.ENVIRONMENT and not inside_list and (meant := _single(written, keys)):
            remedy = f"did you mean {_spelled(meant, origin)}? Two underscores stand for each step down"
        elif near:
            nearest = (*written[: len(names) - 1], near, *written[len(names) :])
            remedy = f"did you mean {near if inside_list else _spelled(nearest, origin)}?"
        else:
            remedy = _elsewhere(names, variant, origin, keys) or _known_here(path, known, origin)
        if origin.layer is Layer.ENVIRONMENT and not inside_list:
            yield Problem(origin=origin, key="", what="is not a known variable", remedy=remedy)
        elif origin.layer is not Layer.FILE or origin == origins.nearest(path):
            yield Problem(origin=origin, key=dotted(path), what="is not a known key", remedy=remedy)


def _known_here(path: Path, known: Sequence[str], origin: Origin) -> str:
    """Return which names there are beside that of `path`, for whoever meant none of them that could be guessed."""
    if len(path) == 1 and origin.layer is Layer.ENVIRONMENT:
        return f"write {PREFIX}SECTION{SEPARATOR}KEY; sections: {', '.join(known)}"
    return f"known here: {', '.join(known)}" if known else "see docs/configuration.md"


def _near(name: str, known: Sequence[str]) -> str:
    """Return the known name that is one of the words of `name`, `secret` for `webhook_secret`, or else the nearest."""
    words = set(name.replace("-", "_").split("_"))
    return next((it for it in known if it in words), next(iter(get_close_matches(name, known, n=1)), ""))


def _elsewhere(names: tuple[str, ...], variant: str, origin: Origin, keys: Sequence[Key]) -> str:
    """Return where a key of this name belongs; empty where there is none."""
    name = names[-1]
    if others := [key.variant for key in keys if variant and key.matches(names)]:
        return f"it is for {', '.join(others)}; this channel's type is {variant}"
    if found := [key.path for key in keys if key.path[-1] == name and ANY_NAME not in key.path]:
        return f"did you mean {_spelled(found[0], origin)}?"
    if origin.layer is Layer.FILE and len(names) > 1 and any(key.path[0] == name for key in keys):
        return f"is the section meant? Write [{name}] on a line of its own"
    return ""


def _words(path: Path, origin: Origin) -> tuple[str, ...]:
    """Return all the words of the variable that wrote something below `path`, or those of `path` itself."""
    if origin.layer is Layer.ENVIRONMENT:
        return tuple(origin.name.removeprefix(PREFIX).lower().split(SEPARATOR))
    return _names(path)


def _single(written: tuple[str, ...], keys: Sequence[Key]) -> tuple[str, ...]:
    """Return the way to the key that a variable names with single underscores, if there is just one."""
    flat = "_".join(written)
    meant = {key.path for key in keys if ANY_NAME not in key.path and len(key.path) > 1 and "_".join(key.path) == flat}
    return meant.pop() if len(meant) == 1 else ()


def _meaning(path: Path, keys: Sequence[Key], variant: str = "") -> str:
    """Return what a key is for; one that several types of channel have means what it means for `variant`."""
    return next((key.meaning for key in keys if key.matches(_names(path)) and variant in {"", key.variant}), "")


def _as_table(path: Path, origin: Origin, keys: Sequence[Key]) -> str:
    """Return how the table, the tables or the list are written that stand at `path`."""
    names = _names(path)
    if found := next((key for key in keys if key.kind is Kind.LIST and key.matches(names)), None):
        return (
            f"write [[{dotted(path)}]], once for each" if found.items is Kind.TABLE else 'write it like ["one", "two"]'
        )
    below = next((key for key in keys if _is_below(key, names)), None)
    if origin.layer is Layer.ENVIRONMENT:
        name = "NAME" if below is None else _real(below.path, (*names, "name"))[len(names)]
        return f"name the key as well, like {_spelled((*names, name), origin)}"
    if any(key.kind is Kind.TABLE and key.matches(names) for key in keys):
        return f'write it like {path[-1]} = {{ name = "value" }}'
    if below is not None and below.path[len(names)] == ANY_NAME:
        return f"write [{dotted(path)}.NAME] on a line of its own, once for each, and its keys below"
    return f"write [{dotted(path)}] on a line of its own, and its keys below"


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


def _types(keys: Sequence[Key]) -> list[str]:
    return list(dict.fromkeys(key.variant for key in keys if key.variant))


def _variant(loc: Path) -> str:
    """Return the channel's type that the models insert, or "" where there is none."""
    return str(loc[2]) if loc[:1] == ("channels",) and len(loc) > len(("channels", "NAME")) else ""


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
