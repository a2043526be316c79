"""The breaker opens on failures in a row and on a share of recent payments, and on nothing less."""

from dataclasses import replace
from decimal import Decimal

import pytest

from paidwatch.core.breaker import FAILING, GAPPING, Recent, Rules, trip

RULES = Rules(failures=3, share=Decimal("0.5"), least=10)
QUIET = Recent(failures_in_row=0, payments=0, gaps=0)


@pytest.mark.parametrize(
    ("recent", "why"),
    [
        (QUIET, None),
        (replace(QUIET, failures_in_row=2), None),
        (replace(QUIET, failures_in_row=3), FAILING),
        (replace(QUIET, payments=9, gaps=9), None),
        (replace(QUIET, payments=10, gaps=4), None),
        (replace(QUIET, payments=10, gaps=5), GAPPING),
        (replace(QUIET, payments=11, gaps=5), None),
        (replace(QUIET, failures_in_row=3, payments=10, gaps=10), FAILING),
    ],
)
def test_when_it_opens(recent: Recent, why: str | None) -> None:
    assert trip(recent, RULES) == why


def test_nought_is_never() -> None:
    never = Rules(failures=0, share=Decimal(0), least=1)
    assert trip(Recent(failures_in_row=99, payments=99, gaps=99), never) is None
