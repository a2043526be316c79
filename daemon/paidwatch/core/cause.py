"""Why a gap exists, as far as the evidence goes: a named cause in constant words, and the application's own words.

The phrase never contains data, so that gaps can be counted by cause; what the application wrote goes into the detail,
which is untrusted text.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from paidwatch.core.model import Evidence, Facts, GapKind

FAILED = "failed"
"""The application's word for a webhook whose handler gave up (domain.md, `processing_status`)."""


class Cause(StrEnum):
    """The causes that can be told apart; the value is what people read."""

    NEVER_ARRIVED = "no webhook was recorded for this payment"
    BAD_SIGNATURE = "a webhook arrived with a bad signature"
    HANDLER_FAILED = "a webhook arrived and its handler failed"
    NOT_APPLIED = "a webhook arrived and the user was left unchanged"
    REPORTED = "the application reported that activation failed"
    OVERWRITTEN = "the subscription was activated and then overwritten"
    ADMIN_ACTED = "an administrator acted on the user after the payment"
    UNDERPAID = "less was paid than the plan costs"
    USER_MISSING = "there is no such user"
    USER_DISABLED = "the user is disabled"
    REVERSED = "the payment was reversed and access was not taken back"
    UNWATCHED = "unknown, because webhooks are not watched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause, and the application's own words for it where there are any."""

    cause: Cause
    detail: str = ""


def explain(kind: GapKind, facts: Facts) -> Finding:
    """Return the most telling cause of a gap of this kind.

    What people did outweighs what machines did, and what the application says outweighs what can be inferred.
    """
    match kind:
        case GapKind.REVERSED_BUT_ACTIVE:
            return Finding(cause=Cause.REVERSED)
        case GapKind.AMOUNT_MISMATCH:
            return Finding(cause=Cause.UNDERPAID)
        case GapKind.USER_MISSING_OR_DISABLED:
            return Finding(cause=Cause.USER_MISSING if facts.subscriber is None else Cause.USER_DISABLED)
        case GapKind.ACTIVATION_FAILED:
            return Finding(cause=Cause.REPORTED, detail=facts.evidence.failed_reason or "")
        case GapKind.PAID_NOT_ACTIVE | GapKind.TIER_MISMATCH | GapKind.RENEWAL_NOT_APPLIED | GapKind.PAID_BUT_REVOKED:
            return _of_missing_access(facts.evidence)
        case _ as unreachable:
            assert_never(unreachable)


def _of_missing_access(seen: Evidence) -> Finding:
    """Explain why a usable user who paid enough does not have the access."""
    if seen.activated_at is not None or seen.ledger_at is not None or seen.settled_at is not None:
        return Finding(cause=Cause.OVERWRITTEN)
    if seen.acted_at is not None:
        return Finding(cause=Cause.ADMIN_ACTED, detail=seen.act or "")
    if seen.failed_at is not None:
        return Finding(cause=Cause.REPORTED, detail=seen.failed_reason or "")
    return _of_webhook(seen)


def _of_webhook(seen: Evidence) -> Finding:
    """Explain from the webhook row of this payment, if rows are kept at all."""
    if seen.webhook_at is None:
        return Finding(cause=Cause.NEVER_ARRIVED if seen.webhooks_watched else Cause.UNWATCHED)
    if seen.webhook_valid is False:
        return Finding(cause=Cause.BAD_SIGNATURE, detail=seen.webhook_error or "")
    if seen.webhook_status == FAILED or seen.webhook_error:
        return Finding(cause=Cause.HANDLER_FAILED, detail=seen.webhook_error or "")
    return Finding(cause=Cause.NOT_APPLIED, detail=seen.webhook_status or "")
