"""Every key there is, read off the models: for suggestions, for the reading of variables, for the documentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from types import UnionType
from typing import Annotated, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from paidwatch.config.section import Section
from paidwatch.config.settings import Settings

ANY_NAME: Final = "*"
"""Stands for the NAME that the owner chooses."""


class Kind(StrEnum):
    """What is written behind the equals sign."""

    TEXT = "text"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    DURATION = "duration"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    LIST = "list"
    TABLE = "table"
    VALUE = "value"
    """Whatever JSON can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key that may be written."""

    path: tuple[str, ...]
    kind: Kind
    choices: tuple[str, ...]
    """The only words allowed, where they are fixed; for a list, in it."""
    items: Kind | None
    """What a list or table contains."""
    variant: str
    """The `type` of channel that has this key."""
    repeated: bool
    """Its table stands in a list: `[[alerts.routes]]`."""
    required: bool
    default: object
    """As the model holds it; None where there is none."""
    computed: bool
    """The default depends on other keys."""
    meaning: str

    def matches(self, path: tuple[str, ...]) -> bool:
        """Return whether `path`, with real names, is this key."""
        return len(path) == len(self.path) and all(
            mine in {ANY_NAME, theirs} for mine, theirs in zip(self.path, path, strict=True)
        )


def all_keys() -> tuple[Key, ...]:
    """Return every key in the order of the models; a channel's keys once for each type that has them."""
    return tuple(_keys_of(Settings, (), ""))


def _keys_of(model: type[Section], base: tuple[str, ...], variant: str, *, repeated: bool = False) -> Iterator[Key]:
    """Yield the keys of a table, a list of tables as a key of its own, and what stands in those after all others."""
    lists: list[tuple[tuple[str, ...], type[Section]]] = []
    for name, info in model.model_fields.items():
        path = (*base, name)
        sections = list(_sections(info.annotation))
        for below, section, kind in sections:
            yield from _keys_of(section, (*path, *below), kind or variant)
        if not sections:
            yield _key(path, info, variant, repeated=repeated)
        lists += [(path, section) for section in _listed(info.annotation)]
    for path, section in lists:
        yield from _keys_of(section, path, variant, repeated=True)


def _key(path: tuple[str, ...], info: FieldInfo, variant: str, *, repeated: bool) -> Key:
    kind, choices, items = _kind(info.annotation)
    return Key(
        path=path,
        kind=kind,
        choices=choices,
        items=items,
        variant=variant,
        repeated=repeated,
        required=info.is_required(),
        default=None if info.is_required() else info.default,
        computed=info.default_factory is not None,
        meaning=" ".join((info.description or "").split()),
    )


def _sections(annotation: object) -> Iterator[tuple[tuple[str, ...], type[Section], str]]:
    """Yield the tables behind an annotation: the way down, the model, and the type of channel."""
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, Section):
        yield (), bare, ""
    elif get_origin(bare) is dict:
        value = _bare(get_args(bare)[1])
        for member in _members(value):
            if isinstance(member, type) and issubclass(member, Section):
                tag = member.model_fields.get("type")
                yield (ANY_NAME,), member, get_args(tag.annotation)[0] if tag and tag.is_required() else ""


def _listed(annotation: object) -> Iterator[type[Section]]:
    """Yield the model of the tables in a list, if it is one of those."""
    bare = _bare(annotation)
    if get_origin(bare) is tuple:
        item = _bare(get_args(bare)[0])
        if isinstance(item, type) and issubclass(item, Section):
            yield item


def _kind(annotation: object) -> tuple[Kind, tuple[str, ...], Kind | None]:
    bare = next(member for member in _members(_bare(annotation)) if member is not type(None))
    plain: dict[object, Kind] = {
        str: Kind.TEXT,
        SecretStr: Kind.SECRET,
        timedelta: Kind.DURATION,
        int: Kind.INTEGER,
        Decimal: Kind.DECIMAL,
        bool: Kind.BOOLEAN,
        object: Kind.VALUE,
    }
    if get_origin(bare) is Literal:
        return Kind.TEXT, get_args(bare), None
    if get_origin(bare) is tuple:
        item, choices, _items = _kind(get_args(bare)[0])
        return Kind.LIST, choices, item
    if get_origin(bare) is dict:
        return Kind.TABLE, (), _kind(get_args(bare)[1])[0]
    if isinstance(bare, type) and issubclass(bare, Section):
        return Kind.TABLE, (), None
    return plain[bare], (), None


def _members(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) in {Union, UnionType}:
        return tuple(_bare(member) for member in get_args(annotation))
    return (annotation,)


def _bare(annotation: object) -> object:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
