"""Who is told: every condition alone and with every other one, the first route, each escalation once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.routing import About, Escalation, Route, Routing, Severity

ABOUT = About(kind="paid_not_active", severity=Severity.HIGH, method="NOWPayments", amount=Decimal("14.99"))
OPENED = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def route(*channels: str, **conditions: Any) -> Route:
    return replace(Route(channels=channels or ("ops",)), **conditions)


def test_a_route_without_conditions_fits_everything() -> None:
    nothing = About(kind="daily", severity=Severity.LOW, method=None, amount=None)
    assert route().fits(ABOUT)
    assert route().fits(nothing)


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ({"kinds": frozenset({"paid_not_active"})}, True),
        ({"kinds": frozenset({"incident", "paid_not_active"})}, True),
        ({"kinds": frozenset({"incident"})}, False),
        ({"severity": Severity.HIGH}, True),
        ({"severity": Severity.LOW}, False),
        ({"methods": frozenset({"nowpayments"})}, True),
        ({"methods": frozenset({"stripe", "nowpayments"})}, True),
        ({"methods": frozenset({"stripe"})}, False),
        ({"min_amount": Decimal("14.99")}, True),
        ({"min_amount": Decimal("14.990001")}, False),
        ({"min_amount": Decimal(0)}, True),
    ],
)
def test_each_condition_alone(conditions: dict[str, Any], *, fits: bool) -> None:
    assert route(**conditions).fits(ABOUT) is fits


YES: dict[str, Any] = {
    "kinds": frozenset({"paid_not_active"}),
    "severity": Severity.HIGH,
    "methods": frozenset({"nowpayments"}),
    "min_amount": Decimal(10),
}
NO: dict[str, Any] = {
    "kinds": frozenset({"tier_mismatch"}),
    "severity": Severity.LOW,
    "methods": frozenset({"stripe"}),
    "min_amount": Decimal(100),
}


@pytest.mark.parametrize("choice", list(product((None, True, False), repeat=4)), ids=str)
def test_every_combination_of_conditions(choice: tuple[bool | None, ...]) -> None:
    """Left out, met or not met: a route fits if and only if no condition is not met."""
    conditions = {name: (YES if met else NO)[name] for name, met in zip(YES, choice, strict=True) if met is not None}
    assert route(**conditions).fits(ABOUT) is (False not in choice)


def test_what_is_unknown_meets_no_condition_about_it() -> None:
    unknown = replace(ABOUT, method=None, amount=None)
    assert not route(methods=frozenset({"nowpayments"})).fits(unknown)
    assert not route(min_amount=Decimal(0)).fits(unknown)
    assert not route(min_amount=Decimal("0.01")).fits(unknown)
    assert not Escalation(after=MINUTE, channels=("ops",), min_amount=Decimal(1)).fits(unknown)
    assert route(kinds=frozenset({"paid_not_active"}), severity=Severity.HIGH).fits(unknown)


def routing(*routes: Route, steps: tuple[Escalation, ...] = ()) -> Routing:
    return Routing(usual=("ops", "mail"), low=frozenset({"amount_mismatch"}), routes=routes, escalations=steps)


def test_the_severity_of_a_kind() -> None:
    assert routing().severity("amount_mismatch") is Severity.LOW
    assert routing().severity("paid_not_active") is Severity.HIGH
    assert routing().severity("audit") is Severity.HIGH


def test_the_first_fitting_route_decides_alone() -> None:
    low = route("low", severity=Severity.LOW)
    large = route("large", "ops", min_amount=Decimal(10))
    mine = route("mine", methods=frozenset({"nowpayments"}))

    assert routing(low, large, mine).channels(ABOUT) == ("large", "ops")
    assert routing(low, mine, large).channels(ABOUT) == ("mine",)
    assert routing(low, large, mine).channels(replace(ABOUT, amount=Decimal(9))) == ("mine",)
    assert routing(low, large, mine).channels(replace(ABOUT, severity=Severity.LOW)) == ("low",)


def test_where_no_route_fits_the_usual_channels_are_told() -> None:
    assert routing().channels(ABOUT) == ("ops", "mail")
    assert routing(route("low", severity=Severity.LOW)).channels(ABOUT) == ("ops", "mail")


def test_a_route_to_nowhere_does_not_swallow_anything() -> None:
    nowhere = Route(channels=())
    assert routing(nowhere).channels(ABOUT) == ("ops", "mail")
    assert routing(nowhere, route("next")).channels(ABOUT) == ("next",)


def step(minutes: int, *channels: str, **conditions: Any) -> Escalation:
    return replace(Escalation(after=minutes * MINUTE, channels=channels), **conditions)


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ({}, True),
        ({"severity": Severity.HIGH}, True),
        ({"severity": Severity.LOW}, False),
        ({"min_amount": Decimal("14.99")}, True),
        ({"min_amount": Decimal(15)}, False),
        ({"severity": Severity.HIGH, "min_amount": Decimal(15)}, False),
        ({"severity": Severity.LOW, "min_amount": Decimal(1)}, False),
        ({"severity": Severity.HIGH, "min_amount": Decimal(1)}, True),
    ],
)
def test_the_conditions_of_an_escalation(conditions: dict[str, Any], *, fits: bool) -> None:
    assert step(1, "boss", **conditions).fits(ABOUT) is fits


STEPS = (
    step(10, "lead"),
    step(20, "bank", min_amount=Decimal(1000)),
    step(30, "boss", "lead"),
    step(30, "board", severity=Severity.HIGH),
)


@pytest.mark.parametrize(("done", "minutes"), [(0, 10), (1, 30), (2, 30), (3, 30), (4, None), (9, None)])
def test_the_next_step_is_the_next_that_fits(done: int, minutes: int | None) -> None:
    expected = None if minutes is None else OPENED + minutes * MINUTE
    assert routing(steps=STEPS).escalate_at(ABOUT, OPENED, done) == expected


@pytest.mark.parametrize(
    ("minutes", "done", "now_done", "channels"),
    [
        (9, 0, 0, ()),
        (10, 0, 1, ("lead",)),
        (10, 1, 1, ()),
        (25, 1, 2, ()),
        (30, 2, 4, ("boss", "lead", "board")),
        (30, 0, 4, ("lead", "boss", "board")),
        (9999, 3, 4, ("board",)),
        (9999, 4, 4, ()),
        (9999, 9, 9, ()),
    ],
    ids=[
        "before the first",
        "on the minute",
        "taken already",
        "passed without fitting",
        "two of one age together",
        "all overdue together, a channel named once",
        "the last",
        "none left",
        "the owner has taken steps away",
    ],
)
def test_the_steps_that_are_due(minutes: int, done: int, now_done: int, channels: tuple[str, ...]) -> None:
    assert routing(steps=STEPS).due_steps(ABOUT, OPENED, OPENED + minutes * MINUTE, done) == (now_done, channels)


def test_a_step_that_was_passed_does_not_come_back_when_the_amount_grows() -> None:
    plan = routing(steps=STEPS)
    done, channels = plan.due_steps(ABOUT, OPENED, OPENED + 20 * MINUTE, 1)
    assert (done, channels) == (2, ())
    assert plan.escalate_at(replace(ABOUT, amount=Decimal(5000)), OPENED, done) == OPENED + 30 * MINUTE


CONDITIONS = st.fixed_dictionaries(
    {"severity": st.sampled_from([None, *Severity]), "min_amount": st.sampled_from([None, Decimal(10), Decimal(20)])}
)
AGES = st.lists(st.integers(1, 20), max_size=6).map(sorted)


@given(AGES, st.lists(CONDITIONS, min_size=6, max_size=6), st.lists(st.integers(0, 25), max_size=8).map(sorted))
def test_however_often_it_is_looked_each_fitting_step_comes_once_and_in_order(
    ages: list[int], conditions: list[dict[str, Any]], looks: list[int]
) -> None:
    steps = tuple(step(age, f"c{index}", **conditions[index]) for index, age in enumerate(ages))
    plan = routing(steps=steps)
    told: list[str] = []
    done = 0
    for minute in [*looks, 25]:
        now = OPENED + minute * MINUTE
        due_at = plan.escalate_at(ABOUT, OPENED, done)
        done, channels = plan.due_steps(ABOUT, OPENED, now, done)
        assert bool(channels) is (due_at is not None and due_at <= now), "it is called when it is due, and only then"
        told += channels
    assert told == [f"c{index}" for index, it in enumerate(steps) if it.fits(ABOUT)]
    assert done == len(steps)
