"""What the layouts of all channels share: the title, facts gathered from lines, and room that runs out."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from paidwatch.core.model import Line, Notice
from paidwatch.core.text import clean, fit, stamp, unchanged, units

PRODUCT = "paidwatch"
APPROVE = "Approve"
"""The label of the link by which a person approves what is proposed."""
APPROVE_WORDS = "Look at it and approve"
LONGEST_LINK = 900
"""Below what the narrowest service takes as one value, the words around it included."""
NOTHING = "—"
"""Stands where a service does not take an empty text."""
_NOTE = 24
"""Room for saying how many lines are missing."""
_LINK = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~%/-]*)?")
"""Addresses that end no markup and begin none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One label and everything that is said under it."""

    label: str
    values: tuple[str | datetime, ...]
    short: bool


def title_of(notice: Notice) -> str:
    """Return `NEW · user 7 paid 14.99 USD (professional), not active`."""
    return f"{notice.word} · {clean(notice.subject)}"


def source_of(notice: Notice) -> str:
    """Return who says so and under which number: `paidwatch · alert 12 · paid_not_active`."""
    return clean(f"{PRODUCT} · alert {notice.alert_id} · {notice.kind}")


def link_of(notice: Notice) -> str:
    """Return the link by which a person approves: the one live address in a message, and only in that of an open story.

    Empty where there is none, or where its characters could mean something else to a service.
    """
    fits = notice.open and len(notice.link) <= LONGEST_LINK and _LINK.fullmatch(notice.link)
    return notice.link if fits else ""


def facts_of(lines: Iterable[Line]) -> list[Fact]:
    """Gather lines into facts: a line without a label belongs to the one before it. All text is cleaned."""
    facts: list[Fact] = []
    for line in lines:
        value = line.value if isinstance(line.value, datetime) else clean(line.value)
        if line.label or not facts:
            facts.append(Fact(label=clean(line.label), values=(value,), short=line.short))
        else:
            last = facts.pop()
            facts.append(Fact(label=last.label, values=(*last.values, value), short=False))
    return facts


def digest_of(key: str) -> str:
    """Return a short name for a message key, the same on every attempt, in characters that any protocol takes."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class Room:
    """How many characters a message may still hold, counted as `units` does."""

    def __init__(self, most: int) -> None:
        """Start with `most`."""
        self.left = most

    def fit(self, text: str, most: int, *, escape: Callable[[str], str] = unchanged) -> str:
        """Return `text` escaped and cut to `most`, or to what is left, and take it from the room."""
        return self.spend(fit(text, min(most, self.left), escape=escape))

    def spend(self, made: str) -> str:
        """Take text that cannot be cut from the room, and return it."""
        self.left -= units(made)
        return made

    def paragraph(self, lines: Sequence[str], most: int, *, escape: Callable[[str], str] = unchanged) -> str:
        """Return `lines` one below the other, cut to `most` or to what is left; lines without room are counted."""
        inner = Room(min(most, self.left))
        made: list[str] = []
        for place, line in enumerate(lines):
            rest = len(lines) - place
            if place and inner.left < 2 * _NOTE:
                made.append(f"({rest} more {'line' if rest == 1 else 'lines'})…")
                break
            made.append(inner.fit(line, inner.left - (_NOTE if rest > 1 else 1), escape=escape))
            inner.left -= 1
        return self.spend("\n".join(made))


def shown(value: str | datetime) -> str:
    """Return a value as text, a time in UTC."""
    return stamp(value) if isinstance(value, datetime) else value


def sentences(fact: Fact) -> list[str]:
    """Return a fact as lines, its label before the first."""
    lines = [shown(value) for value in fact.values]
    return [f"{fact.label}: {lines[0]}", *lines[1:]] if fact.label else lines
