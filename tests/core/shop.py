"""A shop as a database would hold it: rows and events that change in place, and the facts read from them.

It knows no rule. What the daemon reads with one statement is derived here from the same rows; times are minutes after
START, so that they can be compared with the diary of `diary.py`, which is kept apart.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from paidwatch.core.grant import Grant
from paidwatch.core.model import Evidence, Facts, Payment, Phase, Plan, Subscriber

START = datetime(2031, 1, 1, tzinfo=UTC)
GRACE = 10
EARLY = 5

PLANS = {
    plan.id: plan
    for plan in (
        Plan(id="free_trial", price=Decimal(0), rank=0, duration=timedelta(days=7)),
        Plan(id="professional", price=Decimal("14.99"), rank=1, duration=timedelta(days=30)),
        Plan(id="vip_elite", price=Decimal("29.99"), rank=2, duration=timedelta(days=30)),
    )
}
RANKS = {"free": 0, "free_trial": 0, "professional": 1, "vip_elite": 2}
PHASES = {
    "pending": Phase.PENDING,
    "finished": Phase.PAID,
    "confirmed": Phase.PAID,
    "failed": Phase.FAILED,
    "refunded": Phase.REVERSED,
    "sending": Phase.UNKNOWN,
}


def moment(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def maybe(minutes: list[int]) -> datetime | None:
    return moment(max(minutes)) if minutes else None


@dataclass
class PaymentRow:
    id: int
    user: int
    plan: str
    amount: Decimal
    status: str = "pending"
    deleted: bool = False
    paid: int | None = None
    grace: int = 0
    reversed: int | None = None
    settled: int | None = None
    ledger: int | None = None
    touched: int = 0


@dataclass
class EventRow:
    at: int
    type: str
    user: int
    payment: int | None = None


@dataclass
class Shop:
    now: int = 0
    users: dict[int, Subscriber] = field(default_factory=dict[int, Subscriber])
    payments: dict[int, PaymentRow] = field(default_factory=dict[int, PaymentRow])
    events: list[EventRow] = field(default_factory=list[EventRow])
    touched: dict[int, int] = field(default_factory=dict[int, int])

    def set_user(self, user: int, **values: object) -> None:
        """Change a user row, as an UPDATE that matches no row where the user was deleted."""
        if user in self.users:
            self.users[user] = replace(self.users[user], **values)  # type: ignore[arg-type]
            self.touched[user] = max(self.now, self.touched.get(user, self.now))

    def set_status(self, payment: int, status: str) -> None:
        """Change a payment's status, and note what a trigger notes."""
        row = self.payments[payment]
        before, row.status = PHASES[row.status], status
        row.touched = max(row.touched, self.now)
        match PHASES[status]:
            case Phase.PAID if before is not Phase.PAID and row.reversed is None:
                row.paid, row.grace = self.now, self.now + GRACE
            case Phase.REVERSED:
                row.reversed = self.now
                row.paid = self.now if row.paid is None else row.paid
                row.grace = self.now + GRACE
            case _:
                pass

    def activate(self, payment: int, *, event: bool) -> None:
        """Do what the application does when its webhook runs; it never looks at what was there before."""
        row = self.payments[payment]
        self.set_user(
            row.user,
            status="active",
            status_active=True,
            tier=row.plan,
            tier_rank=RANKS[row.plan],
            paid_until=moment(self.now) + timedelta(days=30),
            revoked_at=None,
        )
        if event and row.user in self.users:
            self.events.append(EventRow(self.now, "activated", row.user, payment))

    def write(self, payment: int, grant: Grant) -> None:
        """Write a grant as the store does: the after image, the event, the ledger."""
        row = self.payments[payment]
        image = grant.user
        self.set_user(
            row.user,
            status=image["status"],
            status_active=True,
            tier=image["tier"],
            tier_rank=RANKS[str(image["tier"])],
            paid_until=image["paid_until"],
            revoked_at=image["revoked_at"],
        )
        self.events.append(EventRow(self.now, grant.event_type, row.user, payment))
        row.ledger = self.now

    def facts(self, payment: int, now: int) -> Facts:
        """Read, at minute `now`, everything about one payment that was ever paid or reversed."""
        row = self.payments[payment]
        assert row.paid is not None
        return Facts(
            payment_id=str(payment),
            payment=None if row.deleted else self._canonical(row),
            subscriber=self.users.get(row.user),
            plan=PLANS[row.plan],
            paid_at=moment(row.paid),
            grace_until=moment(row.grace),
            touched_at=moment(max(row.touched, self.touched.get(row.user, row.touched))),
            evidence=self._evidence(row, row.paid, now),
        )

    def _canonical(self, row: PaymentRow) -> Payment:
        return Payment(
            id=str(row.id),
            user_id=str(row.user),
            plan_id=row.plan,
            amount=row.amount,
            currency="USD",
            method="nowpayments",
            reference=f"np-{row.id}",
            status=row.status,
            phase=PHASES[row.status],
            created_at=None,
        )

    def _evidence(self, row: PaymentRow, paid: int, now: int) -> Evidence:
        mine = [event for event in self.events if event.user == row.user]
        others = [
            other
            for other in self.payments.values()
            if other.user == row.user
            and other.id != row.id
            and not other.deleted
            and PHASES[other.status] is Phase.PAID
            and other.reversed is None
            and other.paid is not None
        ]
        newer = max(
            (other for other in others if ((other.paid or 0), other.id) > (paid, row.id)),
            key=lambda other: (RANKS[other.plan], other.paid, other.id),
            default=None,
        )
        return Evidence(
            reversed_at=None if row.reversed is None else moment(row.reversed),
            settled_at=None if row.settled is None else moment(row.settled),
            activated_at=maybe([e.at for e in mine if e.type == "activated" and e.payment == row.id]),
            granted_at=maybe([e.at for e in mine if e.type == "activated" and e.at >= paid - EARLY]),
            failed_at=maybe([e.at for e in mine if e.type == "activation_failed" and e.payment == row.id]),
            acted_at=maybe([e.at for e in mine if e.type in {"cancelled", "status_update"} and e.at >= paid]),
            ledger_at=None if row.ledger is None else moment(row.ledger),
            newer_payment_id=None if newer is None else str(newer.id),
            newer_rank=None if newer is None else RANKS[newer.plan],
            newer_plan_id=None if newer is None else newer.plan,
            other_paid=any(
                RANKS[other.plan] >= RANKS[row.plan]
                and moment(other.paid or 0) + PLANS[other.plan].duration > moment(now)
                for other in others
            ),
        )
