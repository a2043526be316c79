"""Every rule of safe activation has a test, by name, and docs/activation.md says which one; what it names exists."""

import re
from pathlib import Path

import click
import pytest

from paidwatch.cli.root import main
from paidwatch.core.guards import NEVER_FORCED, Guard, Mode
from tests.house.test_promises import ROW, unmet

DOCUMENT = Path(__file__).parents[2] / "docs" / "activation.md"
HEADING = "## The rules, and the tests that prove them"
RULES = (
    *("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9"),
    *("I1", "I2", "I3", "I4", "I5", "I6"),
    *("L1", "L2", "L3"),
    *("A1", "A2", "A3"),
)
AGAIN = "test_what_changed_after_the_claim_is_seen_in_the_writing_transaction"


def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def rows() -> list[tuple[str, str, str]]:
    """Return the table's lines: rule, sentence, tests."""
    part = text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    return [(found[1], found[2], found[3]) for line in part.splitlines() if (found := ROW.fullmatch(line))]


def test_every_rule_stands_in_the_table_once_and_in_order() -> None:
    assert [rule for rule, _, _ in rows()] == list(RULES)


@pytest.mark.parametrize(("rule", "said", "named"), rows(), ids=[rule for rule, _, _ in rows()])
def test_a_rule_names_tests_that_exist(rule: str, said: str, named: str) -> None:
    assert unmet(named) == [], rule
    assert said.strip().endswith("."), rule
    if rule.startswith("P"):
        assert AGAIN in named, "each guard is asked again in the writing transaction"


def test_the_document_names_every_guard_and_every_mode() -> None:
    guards = set(re.findall(r"`(P\d\w*)`", text().partition("## The guards")[2].partition("\n## ")[0]))
    assert {guard.value for guard in Guard} <= guards
    ladder = text().partition("## The ladder")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", ladder, re.MULTILINE) == [mode.value for mode in Mode]
    assert NEVER_FORCED, "the column about --force says what cannot be"


def test_every_command_and_link_of_the_document_exists() -> None:
    commands = re.findall(r"`paidwatch ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)", text())
    assert len(commands) > 10
    for words in commands:
        command: click.Command | None = main
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), word)
            assert command is not None, words
    headings = {anchor(line) for line in re.findall(r"^#+ (.+)$", text(), re.MULTILINE)}
    for file, place in re.findall(r"\]\(([\w.-]*)(?:#([\w-]+))?\)", text()):
        other = DOCUMENT.parent / file if file else DOCUMENT
        known = (
            {anchor(line) for line in re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)}
            if file
            else headings
        )
        assert not place or place in known, f"{file}#{place}"


def anchor(heading: str) -> str:
    """Return the address of a heading, as the usual viewers make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
