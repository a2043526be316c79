"""Whatever happens in a shop, in whatever order, the verdict is what an attentive reader of its diary would say.

Hypothesis invents the shop's life: payments, activations with and without an event, refunds before and after, upgrades,
downgrades, acts of administrators, deletions, lapses, and a clock that steps forward by months and back by an hour.
After every happening each payment is judged from the shop's rows, and the diary is asked too.
"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paidwatch.core.grant import Grant, plan_grant
from paidwatch.core.guards import Actor, Limits, Mode, Request, Usage, allowed, evaluate
from paidwatch.core.model import Rules, Subscriber, Waiting
from paidwatch.core.verdict import judge
from tests.core.diary import GRACE, WORTH, Diary, Entry
from tests.core.examples import told
from tests.core.shop import PLANS, EventRow, PaymentRow, Shop, moment

REQUEST = Request(
    actor=Actor.AUTO,
    mode=Mode.AUTO,
    auto_words=frozenset({"finished"}),
    max_age=timedelta(days=20),
    max_amount=None,
    corroborated=True,
)
LIMITS = Limits(
    max_per_hour=1, max_per_day=1, max_per_user_day=1, usage=Usage(last_hour=0, last_day=0, user_last_day=0)
)
FIXABLE = {
    "gap: paid_not_active",
    "gap: tier_mismatch",
    "gap: renewal_not_applied",
    "gap: paid_but_revoked",
    "gap: activation_failed",
}
A_MONTH = 31 * 24 * 60
MOST_USERS = 2
MOST_PAYMENTS = 5
PICK = st.integers(0, MOST_PAYMENTS - 1)
TIERS = st.sampled_from(["free", None, "professional"])
BOUGHT = st.sampled_from(["professional", "vip_elite"])
SELDOM = st.sampled_from([False] * 9 + [True])


class ShopLife(RuleBasedStateMachine):
    """The same happenings, told to the shop's rows and to the diary."""

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop(now=100_000)
        self.diary = Diary()
        self.signed_up = 0

    def note(self, what: str, user: int, payment: int = 0, *, plan: str = "", share: float = 1.0) -> None:
        self.diary.note(Entry(minute=self.shop.now, what=what, user=user, payment=payment, plan=plan, share=share))

    def user(self, pick: int) -> int:
        return sorted(self.shop.users)[pick % len(self.shop.users)]

    def payment(self, pick: int) -> PaymentRow:
        rows = [row for row in self.shop.payments.values() if not row.deleted]
        return rows[pick % len(rows)]

    def has_users(self) -> bool:
        return bool(self.shop.users)

    def has_payments(self) -> bool:
        return any(not row.deleted for row in self.shop.payments.values())

    # --- time

    @rule(minutes=st.sampled_from([1, 4, 6, 10, 60, 60 * 24, 60 * 24 * 6, 60 * 24 * 29, 60 * 24 * 31]))
    def time_passes(self, minutes: int) -> None:
        self.shop.now += minutes

    @rule(minutes=st.sampled_from([1, 5, 60]))
    def the_clock_is_set_back(self, minutes: int) -> None:
        self.shop.now -= minutes

    # --- customers

    @initialize(tier=TIERS, plan=BOUGHT)
    def one_customer_paid(self, tier: str | None, plan: str) -> None:
        self.someone_signs_up(tier=tier)
        self.someone_orders(pick=0, plan=plan, share=1.0, at_once=True)

    @precondition(lambda self: self.signed_up < MOST_USERS)
    @rule(tier=TIERS)
    def someone_signs_up(self, tier: str | None) -> None:
        self.signed_up = number = self.signed_up + 1
        self.shop.users[number] = Subscriber(
            id=str(number),
            label=None,
            enabled=True,
            admin=False,
            status="active" if tier == "professional" else "inactive",
            status_active=tier == "professional",
            tier=tier,
            tier_rank=None if tier is None else WORTH.get(tier, 0),
            tier_watched=True,
            paid_until=None,
            paid_until_watched=True,
            revoked_at=None,
        )
        self.note("signed up for ever" if tier == "professional" else "signed up", number)

    @precondition(lambda self: self.has_users() and len(self.shop.payments) < MOST_PAYMENTS)
    @rule(
        pick=PICK,
        plan=st.sampled_from(["professional", "vip_elite"] * 4 + ["free_trial"]),
        share=st.sampled_from([1.0] * 5 + [0.5, 0.0]),
        at_once=st.booleans(),
    )
    def someone_orders(self, pick: int, plan: str, share: float, *, at_once: bool) -> None:
        user, number = self.user(pick), len(self.shop.payments) + 1
        price = PLANS[plan].price
        assert price is not None
        row = PaymentRow(id=number, user=user, plan=plan, amount=price * Decimal(str(share)), touched=self.shop.now)
        self.shop.payments[number] = row
        self.note("ordered", user, number, plan=plan, share=share)
        if at_once:
            self.money_arrives(pick=number - 1, word="finished")

    @precondition(has_payments)
    @rule(pick=PICK, word=st.sampled_from(["finished", "finished", "confirmed"]))
    def money_arrives(self, pick: int, word: str) -> None:
        row = self.payment(pick)
        self.shop.set_status(row.id, word)
        self.note("paid", row.user, row.id)

    @precondition(has_payments)
    @rule(pick=PICK, word=st.sampled_from(["pending", "failed", "sending"]))
    def a_payment_falls_back(self, pick: int, word: str) -> None:
        row = self.payment(pick)
        self.shop.set_status(row.id, word)
        self.note("fell back", row.user, row.id)

    @precondition(has_payments)
    @rule(pick=PICK)
    def money_is_returned(self, pick: int) -> None:
        row = self.payment(pick)
        self.shop.set_status(row.id, "refunded")
        self.note("returned", row.user, row.id)

    # --- the application

    @precondition(has_payments)
    @rule(pick=PICK, event=st.booleans())
    def the_application_activates(self, pick: int, *, event: bool) -> None:
        row = self.payment(pick)
        if row.user in self.shop.users:
            self.shop.activate(row.id, event=event)
            self.note("activated" if event else "activated without event", row.user, row.id, plan=row.plan)

    @precondition(has_payments)
    @rule(pick=PICK)
    def the_application_reports_failure(self, pick: int) -> None:
        row = self.payment(pick)
        self.shop.events.append(EventRow(self.shop.now, "activation_failed", row.user, row.id))
        self.note("told failed", row.user, row.id)

    @precondition(has_users)
    @rule(pick=PICK, tier=st.sampled_from([None, "free"]))
    def a_bug_overwrites(self, pick: int, tier: str | None) -> None:
        user = self.user(pick)
        rank = None if tier is None else 0
        self.shop.set_user(user, status="inactive", status_active=False, tier=tier, tier_rank=rank)
        self.note("overwritten", user)

    @precondition(has_users)
    @rule(pick=PICK)
    def a_bug_forgets_the_status(self, pick: int) -> None:
        user = self.user(pick)
        self.shop.set_user(user, status="past_due", status_active=False)
        self.note("shown inactive", user)

    @precondition(has_users)
    @rule(pick=PICK)
    def a_bug_cuts_the_period(self, pick: int) -> None:
        user = self.user(pick)
        self.shop.set_user(user, paid_until=moment(self.shop.now))
        self.note("period cut", user)

    @rule()
    def the_nightly_job_revokes_what_ran_out(self) -> None:
        for number, user in self.shop.users.items():
            over = user.paid_until is not None and user.paid_until <= moment(self.shop.now)
            if over and user.revoked_at is None:
                self.shop.set_user(number, revoked_at=moment(self.shop.now))
                self.note("lapsed", number)

    # --- administrators

    @precondition(has_users)
    @rule(pick=PICK, act=st.sampled_from(["cancelled", "admin noted"]))
    def an_administrator_acts(self, pick: int, act: str) -> None:
        user = self.user(pick)
        self.shop.events.append(EventRow(self.shop.now, "cancelled" if act == "cancelled" else "status_update", user))
        if act == "cancelled":
            self.shop.set_user(
                user,
                status="canceled",
                status_active=False,
                tier="free",
                tier_rank=0,
                revoked_at=moment(self.shop.now),
            )
        self.note(act, user)

    @precondition(has_users)
    @rule(pick=PICK, what=st.sampled_from(["unbanned", "demoted"] * 3 + ["banned", "promoted"]))
    def an_administrator_changes_a_role(self, pick: int, what: str) -> None:
        user = self.user(pick)
        field = "enabled" if what in {"banned", "unbanned"} else "admin"
        self.shop.set_user(user, **{field: what in {"unbanned", "promoted"}})
        self.note(what, user)

    @precondition(has_users)
    @rule(pick=PICK, really=SELDOM)
    def a_user_is_deleted(self, pick: int, *, really: bool) -> None:
        if not really:
            return
        user = self.user(pick)
        self.shop.set_user(user)
        del self.shop.users[user]
        self.note("user deleted", user)

    @precondition(has_payments)
    @rule(pick=PICK, really=SELDOM)
    def a_payment_is_deleted(self, pick: int, *, really: bool) -> None:
        if not really:
            return
        row = self.payment(pick)
        row.deleted = True
        self.note("payment deleted", row.user, row.id)

    # --- paidwatch

    @rule()
    def paidwatch_closes_what_is_as_paid(self) -> None:
        for row in self.watched():
            if self.told(row) in {"settled: activated", "settled: fixed"}:
                row.settled = max(self.shop.now, row.settled or self.shop.now)
                self.note("seen as paid", row.user, row.id)

    @rule(patience=st.sampled_from([GRACE, 0]))
    def paidwatch_fixes_what_it_may(self, patience: int) -> None:
        self.shop.now += patience
        for row in self.watched():
            facts, now = self.shop.facts(row.id, self.shop.now), moment(self.shop.now)
            if not allowed(evaluate(facts, REQUEST, LIMITS, now)):
                continue
            self.expect_that_fixing_is_right(row)
            grant = plan_grant(facts, now)
            assert isinstance(grant, Grant)
            self.shop.write(row.id, grant)
            self.note("fixed", row.user, row.id, plan=row.plan)
            assert self.told(row) == "settled: fixed"
            assert not allowed(evaluate(self.shop.facts(row.id, self.shop.now), REQUEST, LIMITS, now))

    def expect_that_fixing_is_right(self, row: PaymentRow) -> None:
        money, access = self.diary.money(row.id), self.diary.access(row.user)
        assert self.diary.says(row.id, self.shop.now) in FIXABLE
        assert money.word == "paid"
        assert not money.returned
        assert not money.given
        assert money.order.share == 1
        assert access.worth <= WORTH[row.plan]
        assert all((other.paid, other.order.payment) < (money.paid, row.id) for other in self.diary.others(row.id))
        acts = {"cancelled", "admin noted"}
        assert not any(e.what in acts and e.user == row.user and e.minute >= money.paid for e in self.diary.entries)

    # --- what must hold

    def watched(self) -> list[PaymentRow]:
        return [row for row in self.shop.payments.values() if row.paid is not None]

    def told(self, row: PaymentRow, later: int = 0) -> str:
        """Judge what is in the rows today as it would look some minutes later."""
        now = self.shop.now + later
        return told(judge(self.shop.facts(row.id, now), Rules(), moment(now)))

    @invariant()
    def verdicts_are_what_the_diary_says(self) -> None:
        for row in self.watched():
            for later in (0, GRACE, A_MONTH):
                assert self.told(row, later) == self.diary.says(row.id, self.shop.now + later)

    @invariant()
    def the_same_payment_is_never_granted_twice(self) -> None:
        fixed = [entry.payment for entry in self.diary.entries if entry.what == "fixed"]
        assert len(fixed) == len(set(fixed))

    @invariant()
    def whatever_waits_gets_its_verdict(self) -> None:
        for row in self.watched():
            facts, now = self.shop.facts(row.id, self.shop.now), moment(self.shop.now)
            verdict = judge(facts, Rules(), now)
            if isinstance(verdict, Waiting):
                assert not isinstance(judge(facts, Rules(), verdict.until), Waiting)
                assert not isinstance(judge(replace(facts, grace_until=now), Rules(), now), Waiting)


TestShopLife = ShopLife.TestCase
TestShopLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
