"""What the documents promise exists."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from paidwatch import __version__

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"```(?:sh|shell|console|bash|text)?\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def spoken(document: str) -> list[str]:
    """Return the code in a document, fenced or inline."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [fenced or inline for fenced, inline in CODE.findall(text)]


def commands() -> set[str]:
    from paidwatch.cli.root import main  # noqa: PLC0415 (the other tests here need no command line)

    assert isinstance(main, click.Group)
    return set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_in_a_document_exists(document: str) -> None:
    named = {word for code in spoken(document) for word in re.findall(r"(?:^|[\s/])paidwatch ([a-z][a-z-]*)", code)}
    assert named <= commands()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_in_a_document_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for code in spoken(document) for word in re.findall(r"(?:^|\s)make ([a-z]+)", code)}
    assert named
    assert named <= targets


def test_readme_and_makefile_promise_the_same_of_the_demo() -> None:
    promise = re.compile(r"\bdemo\b.* on a PostgreSQL of its own, (in .+)$", re.MULTILINE)
    spans = [promise.findall((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "Makefile")]
    assert spans[0] == spans[1] != []


def test_the_first_screen_names_the_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    assert "make demo" in first_screen
    assert "paidwatch install" in first_screen or "paidwatch run" in first_screen


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\](.*)$", text, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    for _, rest in headings[1:]:
        assert re.fullmatch(r" - \d{4}-\d{2}-\d{2}", rest)


def test_the_licence_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
