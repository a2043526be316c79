"""What alerting promises has a test, by name, and a document says which one."""

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from paidwatch.cli.root import main
from paidwatch.core.lifecycle import Act, after
from paidwatch.core.story import State

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "alerting.md"
HEADING = "## What is promised, and the test that proves it"
PROMISED = (
    *("A1", "A2", "A3", "A5", "A6", "A7", "A8", "A9"),
    *("B1", "B2", "B3", "B5", "B6", "B7"),
    *("C1", "C2", "C3", "C4", "C5", "C6", "C8"),
    *("D1", "D2", "D3", "D4", "D5"),
    *("F1", "F2", "F3", "F5"),
)
MISSING: dict[str, str] = {}
"""What no test shows at full strength; as long as there is anything, this file fails."""

ROW = re.compile(r"\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \|")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
EXCUSES = {"skip", "xfail"}
"""Marks of a test that is not run, or may fail."""


def rows() -> list[tuple[str, str, str]]:
    """Return the table's lines: id, sentence, tests."""
    text = DOCUMENT.read_text(encoding="utf-8")
    part = text.partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    return [(found[1], found[2], found[3]) for line in part.splitlines() if (found := ROW.fullmatch(line))]


@cache
def functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the tests that a file collects: functions of the module whose name says so."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def unmet(named: str) -> list[str]:
    """Return what is wrong with the tests that stand in one cell of the table."""
    tests = NAMED.findall(named)
    wrong = [] if tests else ["names no test"]
    rest = NAMED.sub("", named).replace(",", "").strip()
    wrong += [f"cannot be read: {rest}"] if rest else []
    for file, name in tests:
        path = ROOT / file
        known = functions(path) if path.is_file() and path.name.startswith("test_") else {}
        if name not in known:
            wrong.append(f"there is no test {file}::{name}")
        elif EXCUSES & {word for mark in known[name].decorator_list for word in re.findall(r"\w+", ast.unparse(mark))}:
            wrong.append(f"{file}::{name} may be left out")
    return wrong


def test_every_promise_stands_in_the_table_once_and_in_order() -> None:
    assert [promise for promise, _, _ in rows()] == [it for it in PROMISED if it not in MISSING]


def test_no_promise_is_without_a_test() -> None:
    assert MISSING == {}


@pytest.mark.parametrize(("promise", "said", "named"), rows(), ids=[promise for promise, _, _ in rows()])
def test_a_promise_names_tests_that_exist(promise: str, said: str, named: str) -> None:
    assert unmet(named) == [], promise
    assert said.strip().endswith("."), promise


def test_a_name_that_is_none_would_be_found() -> None:
    here = "tests/house/test_promises.py"
    assert unmet(f"`{here}::test_a_name_that_is_none_would_be_found`") == []
    assert unmet("") == ["names no test"]
    assert unmet(f"`{here}::rows`") == [f"there is no test {here}::rows"]
    assert unmet("`tests/house/test_nothing.py::test_x`") == ["there is no test tests/house/test_nothing.py::test_x"]
    assert unmet(f"`{here}::test_no_promise_is_without_a_test` and others") == ["cannot be read: and others"]


def test_the_diagram_is_the_one_in_the_program() -> None:
    diagram = re.findall(r"```mermaid\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[0]
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", diagram, re.MULTILINE))
    possible = {(state.value, end.value) for state in State for act in Act if (end := after(state, act)) is not None}
    assert drawn == possible


def test_every_command_of_the_document_exists() -> None:
    said = re.findall(r"(?:\$ |`)paidwatch ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)", DOCUMENT.read_text(encoding="utf-8"))
    assert len(said) > 10
    for words in said:
        command: click.Command | None = main
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), word)
            assert command is not None, words


def test_every_picture_of_the_document_is_there_and_small() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", DOCUMENT.read_text(encoding="utf-8"))
    assert shown
    for name in shown:
        assert (DOCUMENT.parent / name).stat().st_size < 150_000, name
