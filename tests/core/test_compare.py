"""Shadow mode is measured honestly: right only if the same was granted, wrong if nothing was owed, else not counted."""

from dataclasses import replace
from typing import Any

import pytest

from paidwatch.core.compare import Course, Record, Shadow, compare, in_words
from paidwatch.core.guards import Actor, Mode
from paidwatch.core.model import Outcome, Rules
from tests.core.examples import DAY, MINUTE, MONTH, NOW

RULES = Rules(period_slack=DAY)
SHADOW = Shadow(at=NOW, tier="professional", paid_until=NOW + MONTH)
SAME = Course(
    outcome=Outcome.ACTIVATED,
    at=NOW + 3 * DAY,
    done_by=None,
    user_exists=True,
    tier="professional",
    tier_watched=True,
    paid_until=NOW + MONTH,
    paid_until_watched=True,
)


@pytest.mark.parametrize(
    ("course", "was_right"),
    [
        ({}, True),
        ({"outcome": Outcome.FIXED, "done_by": Actor.MANUAL}, True),
        ({"outcome": Outcome.FIXED, "done_by": Actor.LINK}, True),
        ({"outcome": Outcome.FIXED, "done_by": Actor.AUTO}, None),
        ({"user_exists": False}, None),
        ({"tier": "vip_elite"}, False),
        ({"tier": None}, False),
        ({"tier": None, "tier_watched": False}, True),
        ({"paid_until": NOW + MONTH + 3 * DAY}, True),
        ({"paid_until": NOW + MONTH + 4 * DAY}, True),
        ({"paid_until": NOW + MONTH + 4 * DAY + MINUTE}, False),
        ({"paid_until": NOW + MONTH - DAY}, True),
        ({"paid_until": NOW + MONTH - DAY - MINUTE}, False),
        ({"paid_until": None}, False),
        ({"paid_until": None, "paid_until_watched": False}, True),
        *(({"outcome": outcome}, False) for outcome in (Outcome.REVERSED, Outcome.LEFT, Outcome.GONE, Outcome.ENDED)),
        *(({"outcome": outcome}, False) for outcome in (Outcome.DISMISSED, Outcome.ADMIN, Outcome.NOTHING_PAID)),
        *(({"outcome": outcome}, None) for outcome in (Outcome.SUPERSEDED, Outcome.EXPIRED, Outcome.FOLLOWED)),
        ({"outcome": Outcome.BASELINE}, None),
    ],
)
def test_what_happened_says_whether_it_would_have_been_right(course: dict[str, Any], *, was_right: bool | None) -> None:
    found = compare(SHADOW, replace(SAME, **course), RULES)
    assert found.was_right is was_right
    assert found.said


def test_for_ever_is_only_for_ever() -> None:
    for_ever = replace(SHADOW, paid_until=None)
    assert compare(for_ever, replace(SAME, paid_until=None), RULES).was_right is True
    assert compare(for_ever, SAME, RULES).was_right is False


@pytest.mark.parametrize(
    ("mode", "record", "stopped", "words"),
    [
        (Mode.OFF, Record(), None, "off"),
        (Mode.OFF, Record(), "a broken deploy", "off"),
        (Mode.SHADOW, Record(), None, "shadow, nothing to compare yet"),
        (Mode.SHADOW, Record(right=41, compared=41), None, "shadow, would have been right 41 of 41"),
        (Mode.AUTO, Record(right=40, compared=41), None, "auto, in shadow mode right 40 of 41"),
        (Mode.SUPERVISED, Record(), "a deploy", "supervised, stopped by the breaker (a deploy)"),
    ],
)
def test_how_it_is_said(mode: Mode, record: Record, stopped: str | None, words: str) -> None:
    assert in_words(mode, record, stopped) == words
