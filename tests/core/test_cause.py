from collections.abc import Mapping
from typing import Any

import pytest

from paidwatch.core.cause import Cause, explain
from paidwatch.core.model import GapKind
from tests.core.examples import NOW, PAID, case

ARRIVED = {"webhook_at": PAID, "webhook_valid": True, "webhook_status": "completed"}
ACCESS_KINDS = [
    GapKind.PAID_NOT_ACTIVE,
    GapKind.TIER_MISMATCH,
    GapKind.RENEWAL_NOT_APPLIED,
    GapKind.PAID_BUT_REVOKED,
]


@pytest.mark.parametrize("kind", ACCESS_KINDS)
@pytest.mark.parametrize(
    ("evidence", "cause", "detail"),
    [
        ({}, Cause.NEVER_ARRIVED, ""),
        ({"webhooks_watched": False}, Cause.UNWATCHED, ""),
        ({**ARRIVED, "webhook_valid": False, "webhook_error": "bad hmac"}, Cause.BAD_SIGNATURE, "bad hmac"),
        ({**ARRIVED, "webhook_status": "failed", "webhook_error": "KeyError"}, Cause.HANDLER_FAILED, "KeyError"),
        ({**ARRIVED, "webhook_status": "failed"}, Cause.HANDLER_FAILED, ""),
        ({**ARRIVED, "webhook_error": "time-out"}, Cause.HANDLER_FAILED, "time-out"),
        (ARRIVED, Cause.NOT_APPLIED, "completed"),
        ({**ARRIVED, "webhook_valid": None}, Cause.NOT_APPLIED, "completed"),
        ({**ARRIVED, "webhook_moving_at": PAID}, Cause.NOT_FINAL, ""),
        ({**ARRIVED, "webhook_short_at": PAID, "webhook_moving_at": PAID}, Cause.SHORT, ""),
        ({**ARRIVED, "webhook_paid_at": PAID, "webhook_moving_at": PAID}, Cause.NOT_APPLIED, "completed"),
        ({**ARRIVED, "webhook_paid_at": PAID, "webhook_moving_at": NOW}, Cause.OUT_OF_ORDER, ""),
        ({**ARRIVED, "webhook_paid_at": NOW}, Cause.LATE, ""),
        ({**ARRIVED, "webhook_paid_at": PAID, "webhook_valid": False}, Cause.NOT_APPLIED, "completed"),
        ({**ARRIVED, "failed_at": NOW, "failed_reason": "no plan"}, Cause.REPORTED, "no plan"),
        ({**ARRIVED, "acted_at": NOW, "act": "cancelled", "failed_at": NOW}, Cause.ADMIN_ACTED, "cancelled"),
        ({**ARRIVED, "activated_at": NOW}, Cause.OVERWRITTEN, ""),
        ({"settled_at": NOW}, Cause.OVERWRITTEN, ""),
        ({"ledger_at": NOW, "acted_at": PAID, "act": "cancelled"}, Cause.OVERWRITTEN, ""),
        ({"granted_at": NOW}, Cause.NEVER_ARRIVED, ""),
    ],
)
def test_missing_access(kind: GapKind, evidence: Mapping[str, Any], cause: Cause, detail: str) -> None:
    finding = explain(kind, case(evidence=evidence))
    assert (finding.cause, finding.detail) == (cause, detail)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (GapKind.REVERSED_BUT_ACTIVE, Cause.REVERSED),
        (GapKind.AMOUNT_MISMATCH, Cause.UNDERPAID),
        (GapKind.USER_MISSING_OR_DISABLED, Cause.USER_DISABLED),
        (GapKind.ACTIVATION_FAILED, Cause.REPORTED),
    ],
)
def test_kinds_that_name_their_cause(kind: GapKind, cause: Cause) -> None:
    assert explain(kind, case(user={"enabled": False}, evidence={**ARRIVED, "activated_at": NOW})).cause is cause


def test_missing_user_is_told_from_a_disabled_one() -> None:
    assert explain(GapKind.USER_MISSING_OR_DISABLED, case(subscriber=None)).cause is Cause.USER_MISSING


def test_the_applications_words_stay_out_of_the_phrase() -> None:
    finding = explain(GapKind.ACTIVATION_FAILED, case(evidence={"failed_reason": "<!channel>"}))
    assert finding.detail == "<!channel>"
    assert finding.cause in set(Cause)
