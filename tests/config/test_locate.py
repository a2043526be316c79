import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.config.locate import Path, lines_of


def paths_in(value: object, base: Path = ()) -> Iterator[Path]:
    """Every way to a value, as tomllib understands the text."""
    if base:
        yield base
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths_in(item, (*base, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths_in(item, (*base, index))


DOCUMENTS: dict[str, tuple[str, dict[Path, int]]] = {
    "comments and strings": ('# x = 1\na = "b # c = 2" # d = 3\n"e.f" = \'[g]\'\n', {("a",): 2, ("e.f",): 3}),
    "tables": ('[a]\nb = 1\n\n[ c . "d e" ]  # x\nf = 2\n', {("a", "b"): 2, ("c", "d e"): 4, ("c", "d e", "f"): 5}),
    "dotted keys": ("a.b.c = 1\na . d = 2\n", {("a",): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
    "arrays": (
        'a = [\n  "x", # first\n\n  "y",\n]\nb = [[1, 2], []]\n',
        {("a",): 1, ("a", 0): 2, ("a", 1): 4, ("b", 0, 1): 6, ("b", 1): 6},
    ),
    "inline tables": ('a = { b = "}", c.d = [ { e = 1 } ] }\nf = {}\n', {("a", "c", "d", 0, "e"): 1, ("f",): 2}),
    "long strings": (
        'a = """\nb = 1\n\\""" c\n"""""\nd = \'\'\'\ne = 2\n\'\'\'\'\'\nf = 3\n',
        {("a",): 1, ("d",): 5, ("f",): 8},
    ),
    "array of tables": (
        "[[a]]\nb = 1\n[a.c]\nd = 2\n[[a]]\nb = 3\n[[a.e]]\n",
        {("a", 0, "b"): 2, ("a", 0, "c", "d"): 4, ("a", 1): 5, ("a", 1, "b"): 6, ("a", 1, "e", 0): 7},
    ),
    "other values": ("a = 1979-05-27 07:32:00Z\nb = +1e5\nc = true\nd = -inf # x", {("a",): 1, ("d",): 4}),
    "carriage returns": ("a = 1\r\n\r\nb = 2\r\n", {("b",): 3}),
    "escapes in keys": ('"\\u0061" = 1\n', {("a",): 1}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_finds_the_lines(name: str) -> None:
    text, expected = DOCUMENTS[name]
    found = lines_of(text)
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize("name", DOCUMENTS)
def test_sees_the_same_keys_as_the_parser(name: str) -> None:
    text, _expected = DOCUMENTS[name]
    assert set(lines_of(text)) == set(paths_in(tomllib.loads(text)))


KEYS = st.sampled_from(["a", "b-c", "D_1", '"x.y"', "'z = 1'", '"#\\""'])
STRINGS = st.sampled_from(['"p"', "'q # r'", '"\\" = \\\\"', '"""s\n[t]\nu = 1"""', "'''v\n''w'''", '"""\\""" x"""""'])
SCALARS = st.one_of(STRINGS, st.sampled_from(["1", "-2.5e3", "true", "2020-01-01", "07:32:00"]))
BLANKS = st.sampled_from([" ", "\n", " # ] } , = \n", "\n\n  "])


def array(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(BLANKS, items, BLANKS), max_size=3).map(
        lambda parts: "[" + ",".join(f"{before}{item}{after}" for before, item, after in parts) + "]"
    )


def inline(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.dictionaries(KEYS, items, max_size=3).map(
        lambda pairs: "{" + ", ".join(f"{key} = {item}" for key, item in pairs.items()) + "}"
    )


VALUES = st.recursive(SCALARS, lambda items: st.one_of(array(items), inline(items)), max_leaves=6)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(st.dictionaries(KEYS, TABLES, max_size=4), st.sampled_from(["", "# [comment]\n", "\n"]))
def test_agrees_with_the_parser_on_any_document(tables: dict[str, dict[str, str]], filler: str) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, str], int] = {}
    for table, pairs in tables.items():
        lines += f"{filler}[{table}]".split("\n")
        for key, value in pairs.items():
            expected[table, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    found = lines_of(text)
    assert set(found) == set(paths_in(tomllib.loads(text)))
    plain = {
        spelled: next(iter(tomllib.loads(f"{spelled} = 1"))) for table in tables for spelled in [table, *tables[table]]
    }
    assert {(plain[table], plain[key]): line for (table, key), line in expected.items()} == {
        path: line for path, line in found.items() if len(path) == 2
    }
