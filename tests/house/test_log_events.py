"""Every event that the code can write into the log is explained in the handbook, and no other one is."""

import ast
import re
from pathlib import Path

from paidwatch.core.lifecycle import Act

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "daemon" / "paidwatch"
LEVELS = {"debug", "info", "warning", "error", "exception"}
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
NOT_LOGGED = {Act.ACK, Act.UNACK, Act.DISMISS, Act.NEW_MONEY}
"""What people do by commands, and what a decision does in passing, is in an alert's history and not in the log."""
FAMILIES = {"alert.*": {f"alert.{act.value}" for act in Act if act not in NOT_LOGGED}}
"""Events whose name is put together: every one there can be."""


def events_in(source: str) -> set[str]:
    """Return the events of all calls like `log.info("gap.opened", "a gap was opened", …)`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            first, *rest = (*node.args, None)
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and rest != [None]:
                assert EVENT.fullmatch(first.value), f"line {node.lineno}: {first.value} is no name of an event"
                found.add(first.value)
            elif isinstance(first, ast.JoinedStr) and rest != [None]:
                family = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in first.values)
                assert family in FAMILIES, f"line {node.lineno}: {family} can be anything"
                found |= FAMILIES[family]
            else:
                spoken = ast.unparse(node.func.value)
                assert "log" not in spoken.lower(), f"line {node.lineno}: the event is not spelled out"
    return found


def written() -> set[str]:
    return set[str]().union(*(events_in(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))))


def explained() -> set[str]:
    """Return the events in the first column of the handbook's table."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("### Events in the log")[2].partition("\n#")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return {event for row in rows for event in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_event_is_explained() -> None:
    assert written() - explained() == set()


def test_no_event_is_explained_that_is_never_written() -> None:
    assert explained() - written() == set()


def test_the_search_finds_what_it_looks_for() -> None:
    source = 'self._log.info(\n    "a.b", "said", field=1)\nother.error("c.d", "said")\nclick.info("no event")'
    assert events_in(source) == {"a.b", "c.d"}
    assert {"gap.opened", "listen.ready"} <= written() & explained()
