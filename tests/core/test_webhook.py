"""Canonical words in any order, and order ids."""

from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.orders import parse
from paidwatch.core.webhook import Order, Status, later

STATUSES = st.sampled_from(Status)


@given(STATUSES, STATUSES, STATUSES)
def test_the_order_of_arrival_and_repetitions_make_no_difference(a: Status, b: Status, c: Status) -> None:
    assert later(a, b) is later(b, a)
    assert later(later(a, b), c) is later(a, later(b, c))
    assert later(a, a) is a
    assert later(later(a, b), b) is later(a, b)


@pytest.mark.parametrize("other", [status for status in Status if status is not Status.REVERSED])
def test_only_a_reversal_ends_what_is_paid(other: Status) -> None:
    assert later(Status.PAID, other) is Status.PAID
    assert later(other, Status.REVERSED) is Status.REVERSED
    assert later(Status.PAID, Status.REVERSED) is Status.REVERSED


@given(st.lists(STATUSES))
def test_nothing_becomes_paid_that_nobody_called_paid(statuses: list[Status]) -> None:
    result = Status.UNKNOWN
    for status in statuses:
        result = later(result, status)
    assert (result is Status.PAID) == (Status.PAID in statuses and Status.REVERSED not in statuses)


def test_the_way_of_a_slow_payment() -> None:
    way = (Status.PENDING, Status.SETTLING, Status.PAID)
    for order in permutations(way):
        result = order[0]
        for status in order[1:]:
            result = later(result, status)
        assert result is Status.PAID
    assert later(Status.FAILED, Status.PAID) is Status.PAID, "expired, then paid after all"
    assert later(Status.UNDERPAID, Status.FAILED) is Status.UNDERPAID, "some money is there"


AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


@pytest.mark.parametrize(
    ("order_id", "user", "plan"),
    [
        ("winu_sub_7_professional_1773480413", "7", "professional"),
        ("winu_sub_7_vip_elite_1773480413", "7", "vip_elite"),
        ("WINU_SUB_7_vip_elite_1773480413", "7", "vip_elite"),
        ("winu_sub_7_vip_elite_1773480413000", "7", "vip_elite"),
        ("winu_sub_123456_a_123456789_1773480413", "123456", "a_123456789"),
        ("winu_sub_7_x-y.z_1773480413", "7", "x-y.z"),
    ],
)
def test_an_order_id_names_user_and_plan(order_id: str, user: str, plan: str) -> None:
    assert parse(order_id) == Order(user_id=user, plan_id=plan, at=AT)


@pytest.mark.parametrize(
    "order_id",
    [
        None,
        "",
        "winu_sub_7_professional",
        "winu_sub__professional_1773480413",
        "winu_sub_x_professional_1773480413",
        "winu_sub_7__1773480413",
        "winu_sub_7_professional_17734804",
        "winu_sub_7_professional_123456789",
        "winu_sub_7_professional_99999999999999",
        "winu_sub_7_professional_1773480413\n",
        " winu_sub_7_professional_1773480413",
        "xwinu_sub_7_professional_1773480413",
        "winu_sub_\u0667_professional_1773480413",
        "winu_sub_7_" + "x" * 250 + "_1773480413",
    ],
)
def test_what_has_another_form_names_nobody(order_id: str | None) -> None:
    assert parse(order_id) is None


def test_another_shop_has_another_pattern() -> None:
    expected = Order(user_id="ada", plan_id="pro", at=AT)
    assert parse("pro/ada/1773480413", r"(?P<plan>\w+)/(?P<user>\w+)/(?P<time>\d+)") == expected
    assert parse("ada:pro:1773480413", r"(\w+):(\w+):(\d+)") == expected
    assert parse("ada:pro:soon", r"(\w+):(\w+):(\w+)") is None
    assert parse("ada:1773480413", r"(\w+):(?:(\w+):)?(\d+)") is None, "a group that may be absent"


@given(st.text(), st.sampled_from([r"(.*)_(.*)_(.*)", r"(?i)^winu_sub_(\d+)_(.+)_(\d{9,})$"]))
def test_any_text_is_an_order_id_or_none(order_id: str, pattern: str) -> None:
    found = parse(order_id, pattern)
    assert found is None or (found.user_id and found.plan_id and found.at.tzinfo is UTC)
