"""The SQL files: every statement has a name, a purpose, and one name only."""

import re
from collections import Counter
from pathlib import Path

import pytest

SQL = Path(__file__).parents[2] / "sql"
QUERIES = sorted((SQL / "queries").glob("*.sql"))
NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


def blocks(path: Path) -> dict[str, str]:
    """Return the text of each block of a file by its name."""
    parts = NAME.split(path.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(text: str) -> str:
    """Return SQL without comments and without what stands inside quotes."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", "", text, flags=re.DOTALL).strip()


def test_there_are_statements() -> None:
    assert QUERIES


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.name)
def test_no_statement_stands_before_the_first_name(path: Path) -> None:
    assert code(NAME.split(path.read_text(encoding="utf-8"))[0]) == ""


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.name)
def test_a_name_stands_for_one_statement_with_a_purpose(path: Path) -> None:
    for name, text in blocks(path).items():
        assert re.match(r"\n-- \S", text), f"{name} does not say what it is for"
        statement = code(text)
        assert statement.endswith(";"), f"{name} has no end"
        assert statement.count(";") == 1, f"{name} is more than one statement"


def test_a_name_is_given_once() -> None:
    given = Counter(name for path in QUERIES for name in blocks(path))
    assert [name for name, times in given.items() if times > 1] == []


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.name)
def test_statements_name_their_schema(path: Path) -> None:
    """A table is paidwatch's own, the catalogue's, or made by the statement itself."""
    for name, text in blocks(path).items():
        statement = code(text)
        own = set(
            re.findall(r"(\w+)(?:\s*\([^()]*\))?\s+AS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\(", statement, re.IGNORECASE)
        )
        for table in re.findall(
            r"\b(?:FROM|JOIN|INTO)\s+([a-z_]\w*)\b(?![.(])",
            re.sub(r"\bIS (?:NOT )?DISTINCT FROM\b|\b(?:EXTRACT|extract|TRIM|trim)\s*\([^)]*\)", "", statement),
        ):
            known = table in own or table.startswith("pg_") or table.lower() in {"lateral", "unnest", "only"}
            assert known, f"{name} reads {table} without a schema"


def test_every_advisory_lock_has_a_key_of_its_own() -> None:
    """Two locks with one key wait for each other, where nobody would look: a customer's page for an activation."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(SQL.rglob("*.sql")))
    named = dict(
        re.findall(r"FUNCTION paidwatch\.(\w+)\(\) RETURNS bigint\s+LANGUAGE sql [A-Z ]+ AS 'SELECT (\d{15,})'", text)
    )
    assert {"bell", "leadership", "activations", "customers"} <= set(named)
    literal = set(re.findall(r"pg_advisory_\w+\((\d{15,})\)", text))
    keys = [*named.values(), *literal]
    assert len(set(keys)) == len(keys), named
    assert not re.search(r"paidwatch\.\w+\(\)\s*[+-]\s*\d", text), "a key that is computed may be another's"
