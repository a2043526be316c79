"""Activation over HTTP: asked for once, read back before anything is asked again, and never given twice."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from paidwatch.application.endpoint import Endpoint, build
from paidwatch.clock import SystemClock
from paidwatch.config.activation import ActivationHttp
from paidwatch.core.guards import Actor, Guard, Mode
from paidwatch.core.model import GapKind, Subject
from paidwatch.flow.call import Call, Rest, Speak
from paidwatch.flow.calls import Calls
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.flow.double import Double
from paidwatch.flow.grant import Ended, Result
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.outbound import open_session
from paidwatch.store import ledger, subjects
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.support import shop
from tests.support.admin import GUIDE, OWN, TOKEN, Admin, Fault, admin
from tests.support.postgres import Database
from tests.support.torture import equipment

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = equipment(tmp_path_factory.mktemp("call")).policy
    return replace(policy, mode=Mode.AUTO, strategy="http", require_corroboration=False, channels=(), grace=timedelta())


@dataclass(kw_only=True)
class Here:
    """A shop, its admin endpoint, and the part of the daemon that activates."""

    db: Database
    pool: Pool
    admin: Admin
    policy: Policy
    endpoint: Endpoint
    looks: int = 0

    def __post_init__(self) -> None:
        self.call = Call(database=self.pool, policy=lambda: self.policy, application=lambda: self.endpoint)
        self.calls = self.worker()

    def worker(self) -> Calls:
        status = Status(clock=SystemClock())
        calls = Calls(
            database=self.pool,
            call=self.call,
            status=status,
            metrics=self.metrics(status),
            log=Log(),
            on_told=lambda: None,
        )
        calls.on_look = self._look
        return calls

    def _look(self) -> None:
        self.looks += 1

    @staticmethod
    def metrics(status: Status) -> Metrics:
        return Metrics(status=status, version="0", channels=())

    def decide(self) -> Decide:
        return Decide(
            database=self.pool,
            policy=lambda: self.policy,
            claimant=Claimant(lambda: self.policy),
            metrics=self.metrics(Status(clock=SystemClock())),
            log=Log(),
        )

    async def gap(self, *, plan: str = "professional", **user: Any) -> tuple[Any, Any]:
        """A user paid and was not activated, and the machine has claimed it; return user and payment."""
        who = await shop.add_user(self.db, **user)
        payment = await self.pay(who, plan=plan)
        await self.decide().tick()
        return who, payment

    async def pay(self, who: Any, *, plan: str = "professional") -> Any:
        payment = await shop.add_payment(self.db, who, plan=plan, status="completed")
        await self.db.execute(
            "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)"
            " VALUES ($1, $2, 'waiting', 'trigger', now(), now(), now(), now())",
            payment,
            who,
        )
        return payment

    async def later(self) -> None:
        """The pause is over: whatever waits is due, and may be asked for again."""
        await self.db.execute(
            "UPDATE paidwatch.activation SET due_at = now(), again_at = now() WHERE state = 'calling'"
        )

    async def follow(self) -> Any:
        """Let the worker do what is due, and return the ledger's row."""
        await self.calls.run_due()
        return await self.ledger()

    async def ledger(self) -> Any:
        return await self.db.fetchrow("SELECT * FROM paidwatch.activation ORDER BY activation_id DESC LIMIT 1")

    async def watch(self, payment: Any) -> Any:
        return await self.db.fetchrow("SELECT * FROM paidwatch.watch WHERE payment_id = $1", payment)

    async def notes(self, payment: Any) -> str:
        notes = await self.db.fetchval("SELECT notes FROM paidwatch.alert WHERE payment_id = $1", payment)
        return " ".join(notes)

    async def events(self, who: Any) -> list[Any]:
        return await self.db.fetch("SELECT * FROM subscription_events WHERE user_id = $1", who)


Starter = Callable[..., Any]


@pytest.fixture
def starter(watched: Database, statements: Statements, usual: Policy) -> Starter:
    limit = timedelta(seconds=60)
    target = Target(dsn=watched.dsn, connect_timeout=limit, statement_timeout=limit)

    @asynccontextmanager
    async def begin(contract: dict[str, str] = OWN, *, token: str = TOKEN, **settings: Any) -> AsyncIterator[Here]:
        async with (
            Pool(target, statements, size=6, settings=BY_KEY) as pool,
            admin(watched, contract) as endpoint,
            open_session() as session,
        ):
            http = ActivationHttp.model_validate(
                {
                    "url": endpoint.url,
                    "body": contract,
                    "headers": {"Authorization": SecretStr(f"Bearer {token}")},
                    **settings,
                }
            )
            built = build(http, session)
            assert built is not None
            yield Here(db=watched, pool=pool, admin=endpoint, policy=usual, endpoint=built)

    return begin


@pytest.mark.parametrize("shape", ["F", "L", "M"])
@pytest.mark.parametrize("contract", [OWN, GUIDE], ids=["own", "guide"])
async def test_asked_once_read_back_and_done(starter: Starter, contract: dict[str, str]) -> None:
    async with starter(contract) as here:
        who, payment = await here.gap()
        assert here.admin.asked == []
        row = await here.follow()
        assert (row["state"], row["calls"], row["answer"], row["due_at"]) == ("done", 1, "200", None)
        (asked,) = here.admin.asked
        (event,) = await here.events(who)
        installation = await here.db.fetchval("SELECT installation_id FROM paidwatch.installation")
        mark = f"[paidwatch:{installation.hex[:8]}:{row['activation_id']}]"
        assert asked.pop("reason") == json.loads(event["event_data"])["reason"] == f"paid, and not activated {mark}"
        period = {"subscription_tier": "professional", "duration_days": 30}
        assert asked == {"user_id": who} | (period if contract is OWN else {"plan_id": "professional"})
        assert row["event_id"] == str(event["id"])
        before, after = json.loads(row["before"]), json.loads(row["after"])
        assert (before["subscription_tier"], after["subscription_tier"]) == ("free", "professional")
        user = await shop.read(here.db, "users", who)
        assert datetime.fromisoformat(after["payment_due_date"]) == user["payment_due_date"]
        closed = await here.watch(payment)
        assert (closed["state"], closed["outcome"]) == ("closed", "fixed")
        assert "on paidwatch's request (auto): professional until" in await here.notes(payment)
        (audit,) = await here.db.fetch("SELECT * FROM paidwatch.audit")
        detail = json.loads(audit["detail"])
        assert (audit["act"], detail["strategy"], detail["calls"]) == ("activate", "http", 1)
        assert detail["after"] == row["after"]
        assert await here.calls.run_due() == 0


async def test_a_renewal_keeps_what_is_left_of_the_period(starter: Starter) -> None:
    """Scenario 9: due in a day, so the application, which counts from now, is asked for a day more."""
    async with starter() as here:
        due = await shop.now(here.db) + timedelta(days=1)
        who, payment = await here.gap(status="active", tier="professional", paid_until=due)
        row = await here.follow()
        assert (row["state"], here.admin.asked[0]["duration_days"]) == ("done", 31)
        assert (await here.db.fetchval("SELECT kind FROM paidwatch.alert")) == GapKind.RENEWAL_NOT_APPLIED
        assert "more than was paid for" not in await here.notes(payment)
        user = await shop.read(here.db, "users", who)
        assert abs(user["payment_due_date"] - (due + timedelta(days=30)).replace(tzinfo=None)) < timedelta(minutes=5)


async def test_an_application_that_gives_more_than_was_paid_for_is_told_of(starter: Starter) -> None:
    async with starter({**OWN, "duration_days": "300"}) as here:
        _, payment = await here.gap()
        assert (await here.follow())["state"] == "done"
        assert "more than was paid for" in await here.notes(payment)


@pytest.mark.parametrize("shape", ["F", "L"])
@pytest.mark.parametrize("fault", [Fault.HANGS_AFTER_COMMIT, Fault.TRICKLES])
async def test_a_timeout_after_the_commit_is_not_repeated(starter: Starter, fault: Fault) -> None:
    """Scenario 19, first part."""
    async with starter(timeout="150ms") as here:
        here.admin.faults.append(fault)
        who, payment = await here.gap()
        await here.follow()
        await here.admin.until_activated()
        await here.later()
        row = await here.follow()
        row = await here.ledger()
        assert (row["state"], row["calls"], row["answer"]) == ("done", 1, "timeout")
        assert (len(here.admin.asked), len(await here.events(who))) == (1, 1)
        assert (await here.watch(payment))["outcome"] == "fixed"


async def test_a_commit_after_we_gave_up_waiting_is_found_and_not_repeated(starter: Starter) -> None:
    async with starter(timeout="150ms") as here:
        here.admin.faults.append(Fault.COMMITS_LATE)
        who, _ = await here.gap()
        row = await here.follow()
        assert (row["state"], row["calls"], row["answer"]) == ("calling", 1, "timeout")
        assert row["again_at"] > row["called_at"] + here.endpoint.retry_after
        assert row["due_at"] < row["again_at"]
        # Read again within the pause: nothing yet, and nothing is asked.
        await here.db.execute("UPDATE paidwatch.activation SET due_at = now()")
        assert (await here.follow())["state"] == "calling"
        here.admin.release()
        await here.admin.until_activated()
        await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], len(await here.events(who))) == ("done", 1, 1)


async def test_a_request_that_was_given_up_and_commits_after_another_did_is_told_as_double(starter: Starter) -> None:
    async with starter(timeout="150ms") as here:
        here.admin.faults.append(Fault.COMMITS_LATE)
        who, _ = await here.gap()
        await here.follow()
        await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], len(await here.events(who))) == ("done", 2, 1)
        double = Double(database=here.pool, policy=lambda: here.policy, log=Log())
        assert not (await double.run()).told
        here.admin.release()
        await here.admin.until_activated(2)
        await here.db.execute(
            "UPDATE paidwatch.activation SET done_at = done_at - interval '1 minute', look_at = now()"
        )
        assert (await double.run()).told
        assert (await here.ledger())["doubled_by"] != row["event_id"]


@pytest.mark.parametrize("fault", [Fault.BREAKS_AFTER_COMMIT, Fault.DROPS_AFTER_COMMIT])
async def test_an_error_after_the_commit_is_read_back_at_once(starter: Starter, fault: Fault) -> None:
    async with starter() as here:
        here.admin.faults.append(fault)
        who, _ = await here.gap()
        row = await here.follow()
        assert (row["state"], row["calls"], len(await here.events(who))) == ("done", 1, 1)


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_500_and_500_and_200_are_one(starter: Starter) -> None:
    """Scenario 19, last part; and a connection that is dropped without an answer is the same."""
    async with starter() as here:
        here.admin.faults.extend([Fault.BREAKS, Fault.DROPS])
        who, payment = await here.gap()
        for calls, answer in ((1, "500"), (2, "network")):
            row = await here.follow()
            assert (row["state"], row["calls"], row["answer"]) == ("calling", calls, answer)
            assert row["again_at"] >= row["called_at"] + here.endpoint.timeout + here.endpoint.retry_after * calls
            await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], row["answer"]) == ("done", 3, "200")
        assert here.admin.asked[0] == here.admin.asked[1] == here.admin.asked[2]
        assert len(await here.events(who)) == 1
        assert (await here.watch(payment))["outcome"] == "fixed"


@pytest.mark.parametrize("shape", ["F", "L"])
@pytest.mark.parametrize(
    ("contract", "settings", "fault", "answer"),
    [
        (OWN, {"body": GUIDE}, None, "422"),
        (OWN, {}, Fault.GONE, "404"),
        (OWN, {"token": "wrong"}, None, "401"),
        (OWN, {}, Fault.SENT_AWAY, "302"),
    ],
    ids=["422", "404", "401", "302"],
)
async def test_a_no_is_final(
    starter: Starter, contract: dict[str, str], settings: dict[str, Any], fault: Fault | None, answer: str
) -> None:
    """Scenario 19, second part: not repeated by a retry, nor by a new claim when the gap is looked at again."""
    async with starter(contract, **settings) as here:
        here.admin.faults.extend([fault] if fault else [])
        _, payment = await here.gap()
        row = await here.follow()
        assert (row["state"], row["calls"], row["answer"]) == ("failed", 1, answer)
        assert await here.notes(payment) == (
            f"Activation over HTTP failed: the application answered {answer}, which is final."
        )
        assert (await here.watch(payment))["state"] == "gap"
        assert await here.db.fetchval("SELECT act FROM paidwatch.audit") == "activation_failed"
        await here.db.execute("UPDATE paidwatch.watch SET due_at = now()")
        await here.decide().tick()
        await here.later()
        await here.follow()
        assert (len(here.admin.asked), await here.db.fetchval("SELECT count(*) FROM paidwatch.activation")) == (1, 1)


async def test_a_wish_to_wait_is_respected(starter: Starter) -> None:
    async with starter() as here:
        here.admin.faults.append(Fault.BUSY)
        await here.gap()
        row = await here.follow()
        assert (row["state"], row["answer"]) == ("calling", "429")
        assert row["again_at"] >= row["called_at"] + timedelta(seconds=120)
        await here.later()
        assert (await here.follow())["state"] == "done"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.NO_EFFECT, "the application answered 200, and its tables do not show the activation"),
        (Fault.HALF, "the application recorded the activation, and the user still does not have what was paid for"),
    ],
)
async def test_a_yes_without_an_effect_is_never_done_and_never_repeated(
    starter: Starter, fault: Fault, why: str
) -> None:
    async with starter() as here:
        here.admin.faults.append(fault)
        _, payment = await here.gap()
        reads, step = 0, timedelta()
        while (row := await here.follow())["state"] == "calling":
            reads += 1
            assert row["due_at"] <= row["again_at"]
            step = row["due_at"] - row["called_at"] if reads == 1 else step
            await here.db.execute(
                "UPDATE paidwatch.activation SET due_at = now(), again_at = again_at - $1::interval", step
            )
        assert 4 <= reads <= 8
        assert (row["state"], row["error"], len(here.admin.asked)) == ("failed", why, 1)
        assert why in await here.notes(payment)


async def test_it_gives_up_after_the_retries(starter: Starter) -> None:
    async with starter(retries=1) as here:
        here.admin.faults.extend([Fault.BREAKS, Fault.BREAKS, Fault.BREAKS])
        await here.gap()
        for _ in range(4):
            await here.follow()
            await here.later()
        row = await here.ledger()
        assert (row["state"], row["calls"], len(here.admin.asked)) == ("failed", 2, 2)
        assert row["error"] == "the application was asked 2 times, last with answer 500, and its tables show nothing"


async def test_guards_are_asked_before_every_request(starter: Starter) -> None:
    async with starter() as here:
        refunded, other = await here.gap(), await here.gap()
        await shop.refund(here.db, refunded[1])
        here.admin.faults.append(Fault.BREAKS)
        await here.calls.run_due()
        states = await here.db.fetch("SELECT payment_id, state FROM paidwatch.activation ORDER BY activation_id")
        assert [row["state"] for row in states] == ["refused", "calling"]
        await shop.update(here.db, "users", other[0], {"is_active": False})
        await here.later()
        row = await here.follow()
        assert (row["state"], len(here.admin.asked)) == ("refused", 1)
        assert "the user is disabled" in await here.notes(other[1])
        assert here.looks == 2


async def test_what_the_application_did_itself_meanwhile_is_not_ours(starter: Starter) -> None:
    async with starter() as here:
        here.admin.faults.append(Fault.BREAKS)
        who, payment = await here.gap()
        await here.follow()
        await shop.activate(here.db, who, payment=payment)
        await here.later()
        row = await here.follow()
        assert (row["state"], row["after"], len(here.admin.asked)) == ("refused", None, 1)
        await here.decide().tick()
        assert (await here.watch(payment))["outcome"] == "activated"


async def test_nobody_judges_a_payment_while_the_application_is_asked(starter: Starter) -> None:
    """Else what we asked for would be taken for the application's own work, and told as such."""
    async with starter(timeout="150ms") as here:
        here.admin.faults.append(Fault.COMMITS_LATE)
        _, payment = await here.gap()
        await here.follow()
        here.admin.release()
        await here.admin.until_activated()
        await here.db.execute("UPDATE paidwatch.watch SET due_at = now()")
        ticked = await here.decide().tick()
        watch = await here.watch(payment)
        assert (ticked.claimed, watch["state"]) == (0, "gap")
        assert watch["due_at"] > await shop.now(here.db)
        waits = await here.pool.read(lambda session: session.one("next_alarm"))
        assert waits["activate"] is None


async def test_what_a_crash_left_is_read_back_before_it_is_asked_for(starter: Starter) -> None:
    async with starter() as here:
        who, _ = await here.gap()
        number = (await here.ledger())["activation_id"]
        # Planned and committed, and the daemon dies before the request.
        step = await here.pool.write(lambda session: here.call.decide(session, number))
        assert isinstance(step, Speak)
        assert await here.calls.run_due() == 0
        await here.db.execute("UPDATE paidwatch.activation SET due_at = now()")
        assert (await here.follow())["state"] == "calling"
        assert here.admin.asked == []
        await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], len(here.admin.asked)) == ("done", 2, 1)
        assert len(await here.events(who)) == 1


async def test_what_was_answered_before_a_crash_is_found_in_the_tables(starter: Starter) -> None:
    async with starter() as here:
        who, payment = await here.gap()
        number = (await here.ledger())["activation_id"]
        step = await here.pool.write(lambda session: here.call.decide(session, number))
        assert isinstance(step, Speak)
        await step.application.activate(step.ask)
        await here.db.execute("UPDATE paidwatch.activation SET due_at = now()")
        row = await here.follow()
        assert (row["state"], row["calls"], row["answer"]) == ("done", 1, None)
        assert (len(here.admin.asked), len(await here.events(who))) == (1, 1)
        assert (await here.watch(payment))["outcome"] == "fixed"


async def test_an_answer_that_comes_after_somebody_else_asked_again_changes_nothing(starter: Starter) -> None:
    """A daemon that was paused beyond its lease comes back."""
    async with starter() as here:
        here.admin.faults.append(Fault.BREAKS)
        who, _ = await here.gap()
        number = (await here.ledger())["activation_id"]
        step = await here.pool.write(lambda session: here.call.decide(session, number))
        assert isinstance(step, Speak)
        await here.later()
        assert (await here.follow())["answer"] == "500"
        late = await here.call.speak(step)
        assert isinstance(late, Ended)
        assert late.result is Result.GONE
        assert (await here.ledger())["answer"] == "500"
        await here.later()
        row = await here.follow()
        # The paused daemon asked for nothing any more: two requests of one activation would be two activations.
        assert (row["state"], row["calls"], len(here.admin.asked), len(await here.events(who))) == ("done", 3, 2, 1)


async def test_whoever_was_held_up_before_asking_does_not_ask_any_more(starter: Starter) -> None:
    """A stopped process goes on after minutes: the daemon may be about to ask by then."""
    async with starter() as here:
        who, _ = await here.gap()
        number = (await here.ledger())["activation_id"]
        step = await here.pool.write(lambda session: here.call.decide(session, number))
        assert isinstance(step, Speak)
        await here.db.execute("UPDATE paidwatch.activation SET called_at = called_at - interval '1 minute'")
        assert isinstance(await here.call.speak(step), Rest)
        assert here.admin.asked == []
        await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], len(here.admin.asked), len(await here.events(who))) == ("done", 2, 1, 1)


async def test_many_workers_ask_once(starter: Starter) -> None:
    async with starter() as here:
        who, payment = await here.gap()
        wanted = await here.db.fetchval("SELECT id FROM payment_transactions")

        async def by_hand() -> None:
            with pytest.raises(LookupError):
                await here.call.by_hand(claiming(who, wanted), clock=SystemClock())

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(here.worker().run_due)
                group.start_soon(by_hand)
        assert payment == wanted
        assert (len(here.admin.asked), len(await here.events(who))) == (1, 1)
        assert await here.db.fetchval("SELECT count(*) FROM paidwatch.activation") == 1


def claiming(who: Any, payment: Any, *, forced: frozenset[Guard] = frozenset()) -> Callable[[Session], Any]:
    """Return what a command does first: lock, and claim or be refused."""

    async def claim(session: Session) -> int:
        subject = Subject(payment_id=str(payment))
        await subjects.lock(session, subject)
        number = await ledger.claim(
            session,
            subject=subject,
            user_id=str(who),
            actor="cli:somebody",
            reason="they wrote\nto us",
            guards=(),
            strategy="http",
            forced=forced,
        )
        if number is None:
            raise LookupError(str(payment))
        return number

    return claim


async def test_by_hand_it_is_seen_through_to_the_end(starter: Starter) -> None:
    async with starter() as here:
        who = await shop.add_user(here.db)
        payment = await here.pay(who)
        number, ended = await here.call.by_hand(claiming(who, payment), clock=SystemClock())
        row = await here.ledger()
        assert (ended.result, row["activation_id"], row["state"]) == (Result.DONE, number, "done")
        assert here.admin.asked[0]["reason"].startswith("they wrote to us [paidwatch:")
        assert "(cli:somebody): professional until" in ended.notes[0]
        assert Actor.of(row["actor"]) is Actor.MANUAL


async def test_by_hand_for_who_has_it_already_only_more_of_it_is_an_activation(starter: Starter) -> None:
    async with starter() as here:
        here.admin.faults.append(Fault.BREAKS)
        until = await shop.now(here.db) + timedelta(days=40)
        who = await shop.add_user(here.db, status="active", tier="professional", paid_until=until)
        payment = await here.pay(who)
        await shop.add_event(here.db, who, "activated")
        claim = claiming(who, payment, forced=frozenset({Guard.NOT_DONE}))
        _, ended = await here.call.by_hand(claim, clock=SystemClock(), patience=timedelta())
        assert ended.result is Result.UNDER_WAY
        await here.later()
        row = await here.follow()
        assert (row["state"], row["calls"], here.admin.asked[1]["duration_days"]) == ("done", 2, 70)


async def test_by_hand_what_is_not_known_in_time_is_left_to_the_daemon(starter: Starter) -> None:
    async with starter() as here:
        here.admin.faults.append(Fault.BREAKS)
        who = await shop.add_user(here.db)
        payment = await here.pay(who)
        _, ended = await here.call.by_hand(claiming(who, payment), clock=SystemClock(), patience=SECOND)
        assert (ended.result, (await here.ledger())["state"]) == (Result.UNDER_WAY, "calling")
        await here.later()
        assert (await here.follow())["state"] == "done"


async def test_an_endpoint_that_hangs_holds_nothing_else_up(starter: Starter) -> None:
    async with starter() as here:
        here.admin.faults.extend([Fault.HANGS] * 3)
        for _ in range(5):
            await here.gap()
        async with anyio.create_task_group() as group:
            group.start_soon(here.calls.run)
            await here.admin.until_activated(2)
            ticked = await here.decide().tick()
            assert ticked.claimed == 0
            assert len(here.admin.asked) == 5
            here.admin.release()
            here.calls.stop()
        states = await here.db.fetch("SELECT answer FROM paidwatch.activation")
        assert sorted(row["answer"] for row in states) == ["200", "200", "503", "503", "503"]


async def test_while_the_application_holds_the_user_nothing_is_concluded(starter: Starter) -> None:
    """Its own transaction is still under way: neither is it read past, nor asked again."""
    async with starter() as here:
        here.admin.faults.append(Fault.BREAKS)
        who, _ = await here.gap()
        await here.follow()
        await here.later()
        async with here.db.another() as application, application.transaction():
            await shop.activate(application, who, event=False)
            row = await here.follow()
            assert (row["state"], row["calls"], row["attempts"]) == ("calling", 1, 1)
            assert row["due_at"] > row["called_at"]
        await here.later()
        assert ((await here.follow())["state"], len(here.admin.asked)) == ("done", 1)


async def test_where_nobody_listens_nothing_was_asked(starter: Starter) -> None:
    async with starter(url="http://127.0.0.1:9/activate") as here:
        await here.gap()
        row = await here.follow()
        assert (row["state"], row["answer"]) == ("calling", "connect")
        assert here.admin.asked == []


@pytest.mark.parametrize("fault", [None, Fault.BREAKS, Fault.GONE, Fault.HANGS], ids=str)
async def test_the_token_is_shown_nowhere(
    starter: Starter, caplog: pytest.LogCaptureFixture, fault: Fault | None
) -> None:
    caplog.set_level("DEBUG")
    async with starter(timeout="150ms" if fault is Fault.HANGS else "10s") as here:
        here.admin.faults.extend([fault] if fault else [])
        await here.gap()
        await here.follow()
        assert here.admin.headers[0]["Authorization"] == f"Bearer {TOKEN}"
        for table in ("activation", "audit", "alert", "alert_history", "watch"):
            rows = await here.db.fetch(f"SELECT t::text AS text FROM paidwatch.{table} t")
            assert not [row for row in rows if TOKEN in row["text"]]
        assert TOKEN not in repr(here.endpoint.__dict__) + repr(here.admin.asked)
    said = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "activation" in said
    assert TOKEN not in said
    assert here.admin.base not in said
