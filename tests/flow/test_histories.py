"""Whatever happens in a shop, and in whatever order: the sum of granted periods never exceeds the sum of paid ones.

Histories are generated and lived through on a real database: people pay, renew, upgrade and are refunded, the
application activates or is late, the machine claims, grants and is interrupted, a person activates, undoes and does
it again, and days go by. The test keeps its own books, from nothing but how long the user's row says that access
lasts before and after each step.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paidwatch.clock import SystemClock
from paidwatch.core.breaker import Rules as BreakerRules
from paidwatch.core.guards import Guard, Mode
from paidwatch.errors import Refused
from paidwatch.flow.activate import Activate
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.store.connect import Target, connect
from paidwatch.store.inbox import SESSION, Inbox
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.command import config
from tests.support.hands import Hands, hands_on
from tests.support.postgres import Database

__all__ = ["config"]

PERIOD = shop.MONTH
CLOCKS = timedelta(minutes=1)
"""What the time between two looks at a clock may add to one period."""
ENOUGH = 20
NEVER = BreakerRules(failures=0, share=Decimal(0))
PLANS = ("professional", "vip_elite")
AGAIN = frozenset({Guard.NOT_DONE})
"""What a person has to override who activates again what was undone."""

MOMENTS = """
SELECT format('UPDATE %I.%I SET %s', n.nspname, c.relname, string_agg(format('%1$I = %1$I - %%1$s', a.attname), ', '))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname IN ('public', 'paidwatch') AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype)
GROUP BY n.nspname, c.relname ORDER BY n.nspname, c.relname
"""
IMAGES = """
UPDATE paidwatch.activation a SET (before, after) = (
    SELECT jsonb_object_agg(k, test_earlier(a.before -> k, {0})), jsonb_object_agg(k, test_earlier(a.after -> k, {0}))
    FROM jsonb_object_keys(a.after) AS k) WHERE a.after IS NOT NULL
"""
EARLIER = """
CREATE FUNCTION test_earlier(value jsonb, span interval) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN value #>> '{}' ~ '^\\d{4}-\\d\\d-\\d\\dT' THEN to_jsonb((value #>> '{}')::timestamp - span)
        ELSE value END
$$
"""


class Step(NamedTuple):
    """One thing that happens."""

    what: str
    which: int = 0
    """Which payment, activation or plan it is about; taken modulo as many as there are."""


ABOUT_A_PAYMENT = ("application", "silent application", "refund", "person", "again", "due again")
STEPS = st.one_of(
    st.builds(Step, st.just("pay"), st.sampled_from([0, 0, 0, 1, 1, 2])),
    st.builds(Step, st.sampled_from(["machine", "machine", "machine", "machine claims", "machine grants"]), st.just(0)),
    st.builds(Step, st.sampled_from(ABOUT_A_PAYMENT), st.integers(0, 3)),
    st.builds(Step, st.just("undo"), st.integers(0, 2)),
    st.builds(Step, st.just("wait"), st.sampled_from([1, 1, 20, 31])),
)
HISTORIES = st.lists(STEPS, min_size=6, max_size=16).map(lambda steps: [Step("pay"), *steps])


@dataclass(slots=True, kw_only=True)
class Bought:
    """One payment, in the test's own books."""

    key: Any
    plan: str
    full: bool
    refunded: bool = False
    by_application: bool = False
    """The application gave a period for it."""


@dataclass(slots=True, kw_only=True)
class Life:
    """One user's history, and the books."""

    db: Database
    hands: Hands
    inbox: Inbox
    shift: str
    user: Any = None
    bought: list[Bought] = field(default_factory=list)
    given: timedelta = timedelta()
    """What was granted and not undone."""
    worth: dict[int, timedelta] = field(default_factory=dict)
    """What each activation of paidwatch gave."""

    async def live(self, steps: list[Step]) -> None:
        self.user = await shop.add_user(self.db)
        for place, step in enumerate(steps):
            await self._steps[step.what](self, step.which)
            paid = sum([PERIOD for one in self.bought if await self._counts(one)], timedelta())
            most = paid + CLOCKS * len(self.bought)
            assert self.given <= most, f"{self.given} was given for {paid} after {steps[: place + 1]}"

    async def _counts(self, one: Bought) -> bool:
        """Say whether this payment may stand for a period: it was paid in full, and used before it was taken back."""
        return one.full and (not one.refunded or await self._granted(one))

    async def _granted(self, one: Bought) -> bool:
        ours = "SELECT EXISTS (SELECT FROM paidwatch.activation WHERE payment_id = $1 AND state = 'done')"
        return one.by_application or bool(await self.db.fetchval(ours, one.key))

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """Add what the body gives the user: the time by which access of one plan lasts longer than it would have."""
        at, before = await shop.now(self.db), await shop.read(self.db, "users", self.user)
        done = await self._done()
        yield
        after = await shop.read(self.db, "users", self.user)
        if _until(after) == _until(before) and after["subscription_tier"] == before["subscription_tier"]:
            return
        same = before["subscription_tier"] == after["subscription_tier"] and before["access_revoked_at"] is None
        start = max(at, _until(before) or at) if same else at
        end = _until(after)
        assert end is not None
        gave = end - start
        self.given += gave
        new = await self._done() - done
        assert len(new) <= 1, "one user, one step: one activation"
        self.worth |= dict.fromkeys(new, gave)

    async def _done(self) -> set[int]:
        rows = await self.db.fetch(
            "SELECT activation_id FROM paidwatch.activation WHERE user_id = $1 AND state = 'done'", self.user
        )
        return {row["activation_id"] for row in rows}

    # What people and the application do

    async def pay(self, which: int) -> None:
        """Buy a plan; the third choice is a payment of half the price."""
        plan, full = PLANS[which % 2], which < len(PLANS)
        amount = shop.PRICES[plan] / (1 if full else 2)
        key = await shop.add_payment(self.db, self.user, plan=plan, amount=amount)
        await shop.complete(self.db, key)
        self.bought.append(Bought(key=key, plan=plan, full=full))

    async def application(self, which: int) -> None:
        await self._activate(which, event=True)

    async def silent_application(self, which: int) -> None:
        await self._activate(which, event=False)

    async def _activate(self, which: int, *, event: bool) -> None:
        """The application activates; what it gives a second time, or for nothing, is its own gift."""
        one = self._one(which)
        gift = one.refunded or not one.full or await self._granted(one)
        before = self.given
        async with self._counted():
            await shop.activate(self.db, self.user, plan=one.plan, payment=one.key, event=event)
        if gift:
            self.given = before
        else:
            one.by_application = True

    async def refund(self, which: int) -> None:
        one = self._one(which)
        await shop.refund(self.db, one.key)
        one.refunded = True

    async def wait(self, days: int) -> None:
        """So many days go by: everything that was happened longer ago."""
        await self.db.execute(self.shift.replace("%1$s", f"interval '{days} days'"))

    # What paidwatch does

    async def machine(self, _which: int) -> None:
        for _ in range(2):
            await self.machine_claims(0)
            await self.machine_grants(0)

    async def machine_claims(self, _which: int) -> None:
        policy = self.hands.policy
        await self.inbox.drain(policy.grace, policy.grace_by_method)
        decide = Decide(
            database=self.hands.pool,
            policy=lambda: policy,
            claimant=Claimant(lambda: policy),
            metrics=_metrics(),
            log=Log(),
        )
        async with self._counted():
            for _ in range(ENOUGH):
                if not (await decide.tick()).claimed:
                    break
            else:
                pytest.fail("it decides for ever")

    async def machine_grants(self, _which: int) -> None:
        activate = Activate(database=self.hands.pool, policy=lambda: self.hands.policy, metrics=_metrics(), log=Log())
        async with self._counted():
            await activate.run_due()

    async def due_again(self, which: int) -> None:
        """A ring that came twice, a retry, a row that was touched: everything is looked at again."""
        one = self._one(which)
        await self.db.execute(
            "UPDATE paidwatch.watch SET due_at = now() WHERE user_id = $1 AND state <> 'closed'", self.user
        )
        await self.db.execute("UPDATE paidwatch.activation SET due_at = now() WHERE state = 'claimed'")
        await self.db.execute("UPDATE payment_transactions SET payment_method = payment_method WHERE id = $1", one.key)

    # What a person does by paidwatch

    async def person(self, which: int) -> None:
        await self._by_hand(self._one(which), frozenset())

    async def again(self, which: int) -> None:
        """A person activates once more what was undone, and overrides what stands against that."""
        rows = await self.db.fetch(
            "SELECT DISTINCT payment_id FROM paidwatch.activation WHERE user_id = $1 AND state = 'undone'", self.user
        )
        undone = [one for one in self.bought if one.key in {row["payment_id"] for row in rows}]
        if undone:
            await self._by_hand(undone[which % len(undone)], AGAIN)

    async def _by_hand(self, one: Bought, forced: frozenset[Guard]) -> None:
        async with self._counted():
            with suppress(Refused):
                await self.hands.activate(self.user, payment=one.key, forced=forced, reason="they paid")

    async def undo(self, which: int) -> None:
        done = sorted(await self._done())
        if not done:
            return
        number = done[which % len(done)]
        try:
            await self.hands.undo(number)
        except Refused:
            return
        self.given -= self.worth.pop(number)

    def _one(self, which: int) -> Bought:
        return self.bought[which % len(self.bought)]

    _steps: "dict[str, Callable[[Life, int], Any]]" = field(
        init=False,
        default_factory=lambda: {
            "pay": Life.pay,
            "application": Life.application,
            "silent application": Life.silent_application,
            "refund": Life.refund,
            "wait": Life.wait,
            "machine": Life.machine,
            "machine claims": Life.machine_claims,
            "machine grants": Life.machine_grants,
            "due again": Life.due_again,
            "person": Life.person,
            "again": Life.again,
            "undo": Life.undo,
        },
    )


def _until(row: dict[str, Any]) -> datetime | None:
    until = row["payment_due_date"]
    return None if until is None else until.replace(tzinfo=UTC)


def _metrics() -> Metrics:
    return Metrics(status=Status(clock=SystemClock()), version="0", channels=())


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture
async def begin(watched: Database, config: Path, statements: Statements) -> AsyncIterator[Callable[[], Life]]:
    await watched.execute(EARLIER)
    moments = [row[0] for row in await watched.fetch(MOMENTS)]
    moments.append(IMAGES.replace("{0}", "%1$s"))
    shift = "; ".join(["BEGIN", "SET LOCAL session_replication_role = replica", *moments, "COMMIT"])
    limit = timedelta(seconds=20)
    target = Target(dsn=watched.dsn, connect_timeout=limit, statement_timeout=limit)
    reader = await connect(target, purpose="intake", settings=SESSION)
    async with hands_on(config) as hands:
        hands.policy = replace(
            hands.policy,
            mode=Mode.AUTO,
            require_corroboration=False,
            grace=timedelta(),
            grace_by_method={},
            max_age=timedelta(days=60),
            max_per_hour=10**6,
            max_per_day=10**6,
            max_per_user_day=10**6,
            breaker=NEVER,
        )
        yield lambda: Life(db=watched, hands=hands, inbox=Inbox(reader, statements), shift=shift)
    reader.terminate()


@pytest.mark.parametrize("shape", ["F", "L"])
@given(HISTORIES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@example([Step("pay"), Step("machine"), Step("undo"), Step("silent application"), Step("again")])
async def test_granted_is_never_more_than_paid(begin: Callable[[], Life], steps: list[Step]) -> None:
    await begin().live(steps)
