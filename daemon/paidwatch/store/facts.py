"""From a row of `paidwatch.facts` to the core's words."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from paidwatch.core.answer import Answer
from paidwatch.core.cause import FAILED
from paidwatch.core.model import Evidence, Facts, Payment, Phase, Plan, Subscriber
from paidwatch.core.webhook import Status
from paidwatch.store.pool import Row

FREE_RANK = 0


def read_facts(row: Row) -> Facts:
    """Build the facts of one payment."""
    return Facts(
        payment_id=row["payment_id"],
        payment=_payment(row) if row["payment_exists"] else None,
        subscriber=subscriber_of(row) if row["user_exists"] else None,
        plan=plan_of(row) if row["plan_exists"] else None,
        paid_at=row["paid_at"],
        grace_until=row["grace_until"],
        touched_at=row["touched_at"],
        evidence=_evidence(row),
    )


def read_told(row: Row) -> Facts:
    """Build the facts of money that only signed webhooks tell of; `row` has the same columns."""
    return replace(read_facts(row), told=(row["told_method"], row["told_reference"]))


def _payment(row: Row) -> Payment:
    return Payment(
        id=row["payment_id"],
        user_id=row["user_id"],
        plan_id=row["plan_id"],
        amount=row["amount"],
        currency=row["currency"],
        method=row["method"],
        reference=row["reference"],
        status=row["status"],
        phase=Phase(row["phase"]),
        created_at=row["created_at"],
    )


def subscriber_of(row: Row) -> Subscriber:
    """Return the user of a row that has the columns of paidwatch.facts."""
    return Subscriber(
        id=row["user_id"],
        label=row["label"],
        enabled=row["enabled"],
        admin=row["admin"],
        status=row["user_status"],
        status_active=row["status_active"],
        tier=row["tier"],
        tier_rank=row["tier_rank"],
        tier_watched=row["tier_watched"],
        paid_until=row["paid_until"],
        paid_until_watched=row["paid_until_watched"],
        revoked_at=row["revoked_at"],
    )


def plan_of(row: Row) -> Plan:
    """Return the plan of such a row."""
    price: Decimal | None = row["price"]
    duration: timedelta = row["duration"]
    return Plan(
        name=row["plan_name"],
        id=row["plan_id"],
        price=price,
        rank=FREE_RANK if row["plan_free"] else row["plan_rank"],
        duration=duration,
    )


def _evidence(row: Row) -> Evidence:
    return Evidence(
        reversed_at=row["reversed_at"],
        settled_at=row["settled_at"],
        activated_at=row["activated_at"],
        granted_at=row["granted_at"],
        failed_at=row["failed_at"],
        failed_reason=row["failed_reason"],
        acted_at=row["acted_at"],
        act=row["act"],
        ledger_at=row["ledger_at"],
        undone_at=row["undone_at"],
        newer_payment_id=row["newer_payment_id"],
        newer_rank=row["newer_rank"],
        newer_plan_id=row["newer_plan_id"],
        other_paid=row["other_paid"],
        webhook_at=row["webhook_at"],
        webhook_status=FAILED if row["webhook_failed"] else row["webhook_status"],
        webhook_error=row["webhook_error"],
        webhook_valid=row["webhook_valid"],
        webhook_paid=row["webhook_signed"],
        webhook_paid_at=row["webhook_paid_at"],
        webhook_moving_at=row["webhook_moving_at"],
        webhook_short_at=row["webhook_short_at"],
        webhook_reversed_at=row["webhook_reversed_at"],
        webhooks_watched=row["webhooks_watched"],
        answer=_answer(row),
    )


def _answer(row: Row) -> Answer | None:
    if row["answer_status"] is None:
        return None
    return Answer(
        status=Status(row["answer_status"]),
        said=row["answer_said"],
        amount=row["answer_amount"],
        currency=row["answer_currency"],
        at=row["answered_at"],
    )
