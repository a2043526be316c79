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
    LATE = "the webhook arrived late, and the user was left unchanged"
    OUT_OF_ORDER = "webhooks arrived out of order: an earlier status came after the one that says paid"
    NOT_FINAL = "webhooks arrived, and none says that the money is final"
    SHORT = "a webhook says that less arrived than was asked for"
    NOT_APPLIED = "a webhook arrived and the user was left unchanged"
    REPORTED = "the application reported that activation failed"
    OVERWRITTEN = "the subscription was activated and then overwritten"
    ADMIN_ACTED = "an administrator acted on the user after the payment"
    UNDERPAID = "less was paid than the plan costs"
    USER_MISSING = "there is no such user"
    USER_DISABLED = "the user is disabled"
    REVERSED = "the payment was reversed and access was not taken back"
    NO_ROW = "a signed webhook says paid, and the application made nothing of it"
    ROW_LEFT = "a signed webhook says paid, and the application left the payment's row as it was"
    REPEATED = "money was sent again for a payment that was made already"
    UNKNOWN_ORDER = "the webhook names no order that can be read, so nobody knows whose money it is"
    UNKNOWN_USER = "the webhook names a user who does not exist"
    SILENT = "no valid webhook has come for far longer than usual"
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
        case GapKind.AMOUNT_MISMATCH | GapKind.UNDERPAID:
            return Finding(cause=Cause.UNDERPAID)
        case GapKind.USER_MISSING_OR_DISABLED:
            return Finding(cause=Cause.USER_MISSING if facts.subscriber is None else Cause.USER_DISABLED)
        case GapKind.ACTIVATION_FAILED:
            return Finding(cause=Cause.REPORTED, detail=facts.evidence.failed_reason or "")
        case GapKind.PAID_NOT_ACTIVE | GapKind.TIER_MISMATCH | GapKind.RENEWAL_NOT_APPLIED | GapKind.PAID_BUT_REVOKED:
            return _of_missing_access(facts)
        case (
            GapKind.ORPHAN_WEBHOOK
            | GapKind.PROVIDER_PAID_DB_PENDING
            | GapKind.WEBHOOK_FAILED
            | GapKind.WEBHOOK_BAD_SIGNATURE
            | GapKind.PROVIDER_SILENT
        ):
            # Webhooks have a verdict of their own, which names its causes itself: see core.evidence.
            return _of_webhook(facts)
        case _ as unreachable:
            assert_never(unreachable)


def _of_missing_access(facts: Facts) -> Finding:
    """Explain why a usable user who paid enough does not have the access."""
    seen = facts.evidence
    if seen.activated_at is not None or seen.ledger_at is not None or seen.settled_at is not None:
        return Finding(cause=Cause.OVERWRITTEN)
    if seen.acted_at is not None:
        return Finding(cause=Cause.ADMIN_ACTED, detail=seen.act or "")
    if seen.failed_at is not None:
        return Finding(cause=Cause.REPORTED, detail=seen.failed_reason or "")
    return _of_webhook(facts)


def _of_webhook(facts: Facts) -> Finding:
    """Explain from the webhooks of this payment, if they are logged at all; the times are told beside it."""
    seen = facts.evidence
    if seen.webhook_at is None:
        return Finding(cause=Cause.NEVER_ARRIVED if seen.webhooks_watched else Cause.UNWATCHED)
    if seen.webhook_valid is False and seen.webhook_paid_at is None:
        return Finding(cause=Cause.BAD_SIGNATURE, detail=seen.webhook_error or "")
    if seen.webhook_valid is not False and (seen.webhook_status == FAILED or seen.webhook_error):
        return Finding(cause=Cause.HANDLER_FAILED, detail=seen.webhook_error or "")
    return _of_handled(facts, seen)


def _of_handled(facts: Facts, seen: Evidence) -> Finding:
    """Explain from webhooks with which nothing was wrong but their time, their order, or what they say."""
    paid_at, moving_at = seen.webhook_paid_at, seen.webhook_moving_at
    if paid_at is None:
        return _of_unpaid(seen)
    if moving_at is not None and moving_at > paid_at:
        return Finding(cause=Cause.OUT_OF_ORDER)
    if paid_at >= facts.grace_until:
        return Finding(cause=Cause.LATE)
    return Finding(cause=Cause.NOT_APPLIED, detail=seen.webhook_status or "")


def _of_unpaid(seen: Evidence) -> Finding:
    """Explain from webhooks none of which, signed, says that the money is final."""
    if seen.webhook_short_at is not None:
        return Finding(cause=Cause.SHORT)
    if seen.webhook_moving_at is not None:
        return Finding(cause=Cause.NOT_FINAL)
    return Finding(cause=Cause.NOT_APPLIED, detail=seen.webhook_status or "")
