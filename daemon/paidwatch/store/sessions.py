"""The payments behind the ids of the success page, and what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from paidwatch.core.model import Evidence, Facts, Payment, Phase, Plan, Rules, Subscriber
from paidwatch.core.session import NOWHERE, Asked, Sight, see
from paidwatch.core.webhook import Status
from paidwatch.store import watches
from paidwatch.store.pool import Row, Session
from paidwatch.store.watches import Graces

CUSTOMERS = "paidwatch_customers"
"""Where it is hinted that what customers wait for may have happened."""

_PHASES = {Status.PAID: Phase.PAID, Status.FAILED: Phase.FAILED, Status.REVERSED: Phase.REVERSED}
"""Everything else that a webhook says is not over yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an id leads to."""

    payment: str
    """The payment's key; empty where there is none, or where the id leads to several."""
    webhook: str
    """What names the money where only signed webhooks speak of it; empty otherwise."""
    sight: Sight

    @property
    def known(self) -> bool:
        """Whether the id leads to one payment, or to one that only webhooks speak of."""
        return bool(self.payment or self.webhook)


NOTHING = Found(payment="", webhook="", sight=NOWHERE)
"""An id that leads nowhere."""


async def look(session: Session, asked: Sequence[Asked], rules: Rules, graces: Graces) -> list[Found]:
    """Return what each id leads to, in their order; one that fits several payments is nobody's.

    Raises DatabaseError.
    """
    if not asked:
        return []
    payments = await _payments(session, asked)
    single = [next(iter(them)) if len(them) == 1 else "" for them in payments]
    wanted = sorted({payment for payment in single if payment})
    seen: dict[str, Found] = {}
    if wanted:
        now, known = await watches.facts_of(session, wanted, graces)
        for one in known:
            payment = one.facts.payment_id
            seen[payment] = Found(payment=payment, webhook="", sight=see(one.facts, rules, now))
    told = await _readings(session, [it for it, them in zip(asked, payments, strict=True) if not them], rules)
    return [
        seen.get(payment, NOTHING) if them else told.get(it, NOTHING)
        for it, them, payment in zip(asked, payments, single, strict=True)
    ]


async def _payments(session: Session, asked: Sequence[Asked]) -> list[set[str]]:
    orders = [it.order for it in asked]
    rows = await session.rows(
        "sessions",
        [it.id for it in asked],
        [it.signed or it.random for it in asked],
        [order and order.user_id for order in orders],
        [order and order.plan_id for order in orders],
        [order and order.at for order in orders],
        [it.signed for it in asked],
    )
    found = [set[str]() for _ in asked]
    for row in rows:
        place: int = row["n"] - 1
        found[place].add(row["payment_id"])
    return found


async def _readings(session: Session, asked: Sequence[Asked], rules: Rules) -> dict[Asked, Found]:
    if not asked:
        return {}
    rows = await session.rows("session_readings", [it.id for it in asked], [it.signed for it in asked])
    return {
        asked[row["n"] - 1]: Found(
            payment="", webhook=f"{row['method']} {row['reference']}", sight=see(_facts(row), rules, row["now"])
        )
        for row in rows
    }


def _facts(row: Row) -> Facts:
    """Build the facts of money that a webhook speaks of and no payment row."""
    at: datetime = row["at"].astimezone(UTC)
    status = Status(row["status"])
    return Facts(
        payment_id="",
        payment=Payment(
            id="",
            user_id=row["user_id"],
            plan_id=row["plan_id"],
            amount=row["amount"],
            currency=row["currency"],
            method=row["method"],
            reference=row["reference"],
            status=row["status"],
            phase=_PHASES.get(status, Phase.PENDING),
            created_at=at,
        ),
        subscriber=_subscriber(row) if row["user_exists"] else None,
        plan=_plan(row) if row["plan_exists"] else None,
        paid_at=at,
        grace_until=at,
        touched_at=None,
        evidence=Evidence(),
    )


def _subscriber(row: Row) -> Subscriber:
    return Subscriber(
        id=row["user_id"],
        label=None,
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


def _plan(row: Row) -> Plan:
    return Plan(id=row["plan_id"], price=row["price"], rank=0 if row["free"] else row["rank"], duration=row["duration"])
