"""Providers are asked about gaps: what they say is told and counts as a witness, and nobody waits for them for long."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from pydantic import SecretStr

from paidwatch.clock import SystemClock
from paidwatch.core.answer import Answer, Trouble
from paidwatch.core.guards import Mode, Reason
from paidwatch.core.render import render
from paidwatch.core.routing import Routing
from paidwatch.core.webhook import Status as Money
from paidwatch.flow import storm
from paidwatch.flow.ask import Ask, Questions
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.flow.detect import Detect
from paidwatch.flow.grant import Result, grant
from paidwatch.flow.policy import Policy
from paidwatch.flow.worker import AT_ONCE
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.outbound import Limits, open_session
from paidwatch.ports import ProviderApi, Receipt
from paidwatch.providers.api_nowpayments import NowPaymentsApi
from paidwatch.store import answers, channels, ledger, outbox
from paidwatch.store.channels import Wait
from paidwatch.store.connect import Target, connect
from paidwatch.store.inbox import SESSION, Inbox
from paidwatch.store.outbox import Attempt, Due
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from tests.channels.fakes.discord import Discord
from tests.channels.fakes.http import Received, Service, serving
from tests.support import shop
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.torture import equipment
from tests.support.watched import Start

CHAT, MAIL, HOOK = "chat", "mail", "hook"
TAKEN = {CHAT: {"message_id": "1"}, MAIL: {"message_id": "1", "subject": "s"}, HOOK: {}}
"""What channels give back; only the first can edit."""
KEY = "c4nary-api-key"
REFERENCE = "5524759814"
MINUTE = timedelta(minutes=1)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
SHORT = Limits(total=timedelta(milliseconds=300), connect=timedelta(milliseconds=200))
NOT_CORROBORATED, CONTRADICTED = Reason.NOT_CORROBORATED.value, Reason.CONTRADICTED.value


@pytest.fixture
def shape() -> str:
    return "L"


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = equipment(tmp_path_factory.mktemp("ask")).policy
    routing = Routing(usual=(CHAT,), low=frozenset(), routes=(), escalations=())
    return replace(policy, grace=MINUTE, routing=routing, channels=(CHAT,), storm_threshold=1000, quiet=None)


@dataclass(kw_only=True)
class Desk:
    """A shop whose payments come through a provider that can be asked, and the daemon's parts without the daemon."""

    db: Database
    pool: Pool
    policy: Policy
    inbox: Inbox
    provider: Service
    session: aiohttp.ClientSession
    looks: int = 0
    """How often a payment was to be judged anew."""
    rings: int = 0
    """How often channels were to look for messages."""

    def __post_init__(self) -> None:
        self.apis: dict[str, ProviderApi] = {"crypto": self.api()}
        self.questions = Questions(lambda: self.apis)
        metrics = Metrics(status=Status(clock=SystemClock()), version="0", channels=(CHAT,))
        self.decide = Decide(
            database=self.pool,
            policy=lambda: self.policy,
            claimant=Claimant(lambda: self.policy),
            metrics=metrics,
            log=Log(),
            questions=self.questions,
        )
        self.detect = Detect(
            database=self.pool,
            policy=lambda: self.policy,
            providers=dict,
            metrics=metrics,
            log=Log(),
            questions=self.questions,
        )
        self.ask = Ask(
            database=self.pool,
            apis=lambda: self.apis,
            questions=self.questions,
            status=Status(clock=SystemClock()),
            metrics=metrics,
            log=Log(),
            on_told=self.rung,
            on_look=self.looked,
        )

    def api(self) -> NowPaymentsApi:
        methods = frozenset({"nowpayments"})
        return NowPaymentsApi("crypto", methods, SecretStr(KEY), self.provider.base, self.session, SHORT)

    def looked(self) -> None:
        self.looks += 1

    def rung(self) -> None:
        self.rings += 1

    def says(self, status: str = "finished", *, reference: str = REFERENCE, price: float = 14.99, **more: Any) -> None:
        """Lay out the provider's next answer."""
        body = {"payment_id": int(reference), "payment_status": status, "price_amount": price, "price_currency": "usd"}
        self.provider.then(200, body=body | more)

    async def paid(self, reference: str = REFERENCE, *, owner: Any = None, **more: Any) -> str:
        """A payment whose grace is over and which is not applied."""
        owner = owner or await shop.add_user(self.db)
        payment = await shop.add_payment(self.db, owner, status="completed", reference=reference, **more)
        await self.db.execute("DELETE FROM paidwatch.inbox")
        await self.db.execute(
            "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at)"
            " VALUES ($1, $2, 'waiting', 'trigger', now() - interval '1 hour', now() - interval '1 hour',"
            " now() - interval '1 second', now())",
            payment,
            owner,
        )
        return str(payment)

    async def look_again(self) -> None:
        await self.db.execute("UPDATE paidwatch.watch SET due_at = now() WHERE state = 'gap'")
        await self.decide.tick()

    async def pass_by(self, span: timedelta) -> None:
        """So much time passes."""
        for table, columns in {
            "answer": ("asked_at", "ask_at", "not_before", "answered_at"),
            "delivery": ("due_at",),
            "claim": ("due_at", "opened_at", "grace_until"),
            "reading": ("at", "made_at"),
        }.items():
            changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self.db.execute(f"UPDATE paidwatch.{table} SET {changes}", span)

    async def fix(self) -> list[Result]:
        """Grant every claim, and say what became of each."""
        claimed = await self.pool.read(lambda session: ledger.claimed(session, 100))
        return [(await self.pool.write(partial(grant, claim=claim, policy=self.policy))).result for claim in claimed]

    async def waits(self) -> list[timedelta]:
        """Return for how long each first message waits."""
        rows = await self.db.fetch("SELECT greatest(due_at - now(), interval '0') AS wait FROM paidwatch.delivery")
        return [row["wait"] for row in rows]

    async def told(self) -> list[list[str]]:
        """Take the messages that are due, and return what each says of the provider."""

        async def body(session: Session) -> list[Any]:
            due = await outbox.claim(session, CHAT, lease="l", span=MINUTE, most=100)
            return [render(one.story, now=one.now) for one in due]

        notices = await self.pool.write(body)
        return [_about_provider(notice) for notice in notices]

    async def deliver(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> dict[str, list[list[str]]]:
        """Deliver what is due; return what the channels were told of the provider. `meanwhile` happens under way."""
        sent: dict[str, list[Any]] = {}
        for channel in TAKEN:
            claim = partial(outbox.claim, channel=channel, lease="l", span=MINUTE, most=100)
            sent[channel] = await self.pool.write(claim)
        if meanwhile is not None:
            await meanwhile()
        for channel, due in sent.items():
            for one in due:
                assert await self.pool.write(partial(outbox.record_sent, due=one, receipt=taken(channel))) is not None
        return {
            name: [_about_provider(render(one.story, now=one.now)) for one in due] for name, due in sent.items() if due
        }

    async def notes(self) -> str:
        return " ".join(await self.db.fetchval("SELECT notes FROM paidwatch.alert ORDER BY alert_id LIMIT 1") or ())

    async def row(self, reference: str = REFERENCE) -> Any:
        (row,) = await self.db.fetch("SELECT * FROM paidwatch.answer WHERE reference = $1", reference)
        return row


def taken(channel: str) -> Receipt:
    """Return what a channel says that took a message."""
    return Receipt(reference=TAKEN[channel], code="200", size=1)


def _about_provider(notice: Any) -> list[str]:
    found: list[str] = []
    label = ""
    for line in notice.lines:
        label = line.label or label
        if label == "Provider":
            found.append(str(line.value).partition(" (asked ")[0].partition(" (tried ")[0])
    return found


@pytest.fixture
async def desk(watched: Database, statements: Statements, usual: Policy) -> AsyncIterator[Desk]:
    async def nobody(_: Received) -> web.Response:
        return web.json_response({}, status=404)

    seconds = timedelta(seconds=60)
    target = Target(dsn=watched.dsn, connect_timeout=seconds, statement_timeout=seconds)
    reader = await connect(target, purpose="intake", settings=SESSION)
    async with (
        open_session() as session,
        serving(Service(nobody)) as provider,
        Pool(target, statements, size=4, settings=BY_KEY) as pool,
    ):
        inbox = Inbox(reader, statements)
        yield Desk(db=watched, pool=pool, policy=usual, inbox=inbox, provider=provider, session=session)
    reader.terminate()


# What people are told


async def test_the_first_message_says_what_the_provider_says(desk: Desk) -> None:
    desk.says()
    await desk.paid()
    await desk.decide.tick()
    (wait,) = await desk.waits()
    assert timedelta() < wait <= answers.HOLD
    assert await desk.ask.run_due() == 1
    assert desk.looks == 1
    await desk.decide.tick()
    assert await desk.waits() == [timedelta()]
    assert await desk.told() == [["the provider says: finished (paid), 14.99 USD"]]
    assert [got.path for got in desk.provider.received] == [f"/payment/{REFERENCE}"]


async def test_a_provider_that_hangs_delays_no_message_by_more_than_the_hold(desk: Desk) -> None:
    async def hang(_: Received) -> web.Response:
        await anyio.sleep_forever()
        raise AssertionError

    desk.provider.handler = hang
    await desk.paid()
    await desk.decide.tick()
    assert await desk.told() == []
    await desk.pass_by(answers.HOLD)
    assert await desk.told() == [["the provider was asked and has not answered yet"]]

    await desk.paid(reference="77")
    await desk.decide.tick()
    with anyio.fail_after(15):
        assert await desk.ask.run_due() == 2
    assert await desk.told() == [["the provider could not be asked: it did not answer in time"]]
    row = await desk.row()
    assert row["ask_at"] is not None
    assert row["status"] is None


async def test_an_alert_without_a_provider_that_can_be_asked_waits_for_nothing(desk: Desk) -> None:
    await desk.paid(method="stripe")
    await desk.decide.tick()
    assert await desk.waits() == [timedelta()]
    assert await desk.told() == [[]]
    assert await desk.ask.run_due() == 0


async def test_a_provider_that_left_the_configuration_is_not_asked(desk: Desk) -> None:
    await desk.paid()
    await desk.decide.tick()
    desk.apis = {}
    assert await desk.ask.run_due() == 0
    assert desk.provider.received == []


async def orphan(desk: Desk) -> Any:
    """A signed webhook says that somebody paid, and no payment does; return the user."""
    user = await shop.add_user(desk.db)
    data = {"payment_id": REFERENCE, "payment_status": "finished", "price_amount": 14.99, "price_currency": "usd"}
    await shop.add_webhook(
        desk.db, data=data | {"order_id": f"winu_sub_{user}_professional_1700000000"}, method="nowpayments"
    )
    await desk.inbox.drain(MINUTE, {})
    await desk.detect.run()
    await desk.pass_by(2 * MINUTE)
    await desk.detect.run()
    return user


async def test_an_orphan_is_asked_about_and_its_message_says_the_answer(desk: Desk) -> None:
    """Scenario 12; what is activated then: see test_told.py."""
    await orphan(desk)
    (wait,) = await desk.waits()
    assert timedelta() < wait <= answers.HOLD
    desk.says()
    assert await desk.ask.run_due() == 1
    await desk.detect.run()
    assert await desk.told() == [["the provider says: finished (paid), 14.99 USD"]]


# What people are told later


@pytest.fixture
def everywhere(desk: Desk) -> Desk:
    """A desk whose alerts go to channels that can edit and to some that cannot."""
    routing = replace(desk.policy.routing, usual=tuple(TAKEN))
    desk.policy = replace(desk.policy, routing=routing, channels=tuple(TAKEN))
    return desk


def all_of(words: str) -> dict[str, list[list[str]]]:
    return {channel: [[words]] for channel in TAKEN}


NOT_YET = all_of("the provider was asked and has not answered yet")
PAID = "the provider says: finished (paid), 14.99 USD"
MOVING = "the provider says: confirming (settling), 14.99 USD"


async def late(desk: Desk) -> None:
    """A gap is told, and the provider has not answered yet."""
    await desk.paid()
    await desk.decide.tick()
    await desk.pass_by(answers.HOLD)
    assert await desk.deliver() == NOT_YET


async def forgotten(desk: Desk) -> int:
    """Return how many messages the hourly audit finds untold."""
    lost = await desk.pool.write(
        lambda session: session.rows("requeue_forgotten", 100, datetime.now(UTC) - timedelta(days=1))
    )
    return len(lost)


async def test_a_late_answer_is_shown_where_a_message_can_be_edited_and_repeated_nowhere(everywhere: Desk) -> None:
    desk = everywhere
    await late(desk)
    desk.says()
    await desk.ask.run_due()
    assert (desk.looks, desk.rings) == (1, 1)
    assert await desk.deliver() == {}, "the payment is judged anew first"
    assert (await desk.decide.tick()).told == 1
    assert await desk.deliver() == {CHAT: [[PAID]]}
    assert await forgotten(desk) == 0
    assert await desk.deliver() == {}

    await desk.db.execute("UPDATE paidwatch.alert SET remind_at = now()")
    await desk.decide.tick()
    assert await desk.deliver() == all_of(PAID)


async def test_an_edit_does_not_wait_for_a_judgement_that_does_not_come(everywhere: Desk) -> None:
    desk = everywhere
    await late(desk)
    desk.says()
    await desk.ask.run_due()
    await desk.pass_by(answers.HOLD)
    assert await desk.deliver() == {CHAT: [[PAID]]}


async def test_another_answer_is_shown_and_the_same_one_is_not(everywhere: Desk) -> None:
    desk = everywhere
    await desk.paid()
    desk.says("confirming")
    await desk.decide.tick()
    await desk.ask.run_due()
    await desk.decide.tick()
    assert await desk.deliver() == all_of(MOVING)
    for status, shown in (("confirming", {}), ("finished", {CHAT: [[PAID]]})):
        await desk.pass_by(2 * answers.PAUSE)
        desk.says(status)
        assert await desk.ask.run_due() == 1
        await desk.decide.tick()
        assert await desk.deliver() == shown


async def test_why_there_is_no_answer_is_shown_once_and_then_the_answer(everywhere: Desk) -> None:
    desk = everywhere
    await late(desk)
    unasked = "the provider could not be asked: it answered with an error of its own"
    for shown in ({CHAT: [[unasked]]}, {}):
        desk.provider.then(500)
        assert await desk.ask.run_due() == 1
        assert await desk.deliver() == shown, "nothing is judged anew"
        await desk.pass_by(4 * answers.PAUSE)
    desk.says()
    assert await desk.ask.run_due() == 1
    await desk.decide.tick()
    assert await desk.deliver() == {CHAT: [[PAID]]}
    await desk.pass_by(4 * answers.PAUSE)
    await desk.look_again()
    desk.provider.then(500)
    assert await desk.ask.run_due() == 1
    assert await desk.deliver() == {}, "the answer stands"


async def test_an_answer_that_comes_while_a_message_is_under_way(everywhere: Desk) -> None:
    desk = everywhere
    await desk.paid()
    await desk.decide.tick()
    await desk.pass_by(answers.HOLD)

    async def answered() -> None:
        desk.says()
        await desk.ask.run_due()
        await desk.decide.tick()

    assert await desk.deliver(answered) == NOT_YET
    assert await forgotten(desk) == 0
    assert await desk.deliver() == {CHAT: [[PAID]]}


@pytest.mark.parametrize("change", ["remind_at = now()", "acked"])
async def test_what_is_said_aloud_beside_an_answer_is_said_everywhere(everywhere: Desk, change: str) -> None:
    desk = everywhere
    await desk.paid()
    await desk.decide.tick()
    await desk.pass_by(answers.HOLD)

    async def answered() -> None:
        desk.says()
        await desk.ask.run_due()
        if change == "acked":
            await desk.db.execute(
                "UPDATE paidwatch.alert SET state = 'acked', acked_by = 'ann', acked_until = now() + interval '1 hour',"
                " revision = revision + 1"
            )
        else:
            await desk.db.execute(f"UPDATE paidwatch.alert SET {change}")
        await desk.decide.tick()

    assert await desk.deliver(answered) == NOT_YET
    assert await desk.deliver() == all_of(PAID)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'resolved', resolved_at = now(), outcome = 'left'",
        "silence_id = (SELECT silence_id FROM paidwatch.silence)",
    ],
    ids=["over", "silenced"],
)
async def test_nobody_hears_of_answers_about_what_is_over_or_silenced(everywhere: Desk, change: str) -> None:
    desk = everywhere
    await late(desk)
    await desk.db.execute(
        "INSERT INTO paidwatch.silence (author, expires_at, method)"
        " VALUES ('ann', now() + interval '1 hour', 'nowpayments')"
    )
    await desk.db.execute(f"UPDATE paidwatch.alert SET {change}")
    desk.says()
    await desk.ask.run_due()
    await desk.pass_by(answers.HOLD)
    assert await desk.deliver() == {}
    assert await desk.db.fetchval("SELECT revision FROM paidwatch.alert") == 1


async def test_a_late_answer_about_a_story_of_webhooks_is_shown_as_well(everywhere: Desk) -> None:
    desk = everywhere
    await orphan(desk)
    await desk.pass_by(answers.HOLD)
    assert await desk.deliver() == NOT_YET
    desk.says()
    await desk.ask.run_due()
    await desk.detect.run()
    await desk.pass_by(answers.HOLD)
    assert await desk.deliver() == {CHAT: [[PAID]]}
    assert await forgotten(desk) == 0


async def test_an_answer_that_ends_in_an_activation_is_told_with_that(everywhere: Desk) -> None:
    desk = everywhere
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=True)
    await late(desk)
    desk.says()
    await desk.ask.run_due()
    assert (await desk.decide.tick()).activations == 1
    assert await desk.deliver() == {}
    assert await desk.fix() == [Result.DONE]
    assert await desk.deliver() == all_of(PAID)
    assert await desk.db.fetchval("SELECT outcome FROM paidwatch.alert") == "fixed"


# What it is worth


async def test_a_good_answer_is_the_second_witness_that_activation_lacked(desk: Desk) -> None:
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=True)
    payment = await desk.paid()
    assert (await desk.decide.tick()).activations == 0
    assert NOT_CORROBORATED in await desk.notes()
    desk.says()
    await desk.ask.run_due()
    assert desk.looks == 1
    assert (await desk.decide.tick()).activations == 1
    assert await desk.fix() == [Result.DONE]
    owner = (await shop.read(desk.db, "payments", int(payment)))["user_id"]
    assert (await shop.read(desk.db, "users", owner))["subscription_tier"] == "professional"
    assert len(await desk.told()) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"status": "failed"}, CONTRADICTED),
        ({"status": "confirming"}, CONTRADICTED),
        ({"price": 5}, CONTRADICTED),
        ({"price_currency": "eur"}, NOT_CORROBORATED),
        ({"payment_id": 2}, NOT_CORROBORATED),
        ({"parent_payment_id": 2}, NOT_CORROBORATED),
    ],
    ids=lambda it: " ".join(map(str, it.values())) if isinstance(it, dict) else None,
)
async def test_any_other_answer_is_none_and_a_no_is_final(desk: Desk, said: dict[str, Any], reason: str) -> None:
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=True)
    await desk.paid()
    await desk.decide.tick()
    desk.says(**said)
    await desk.ask.run_due()
    await desk.look_again()
    assert reason in await desk.notes()
    assert await desk.db.fetchval("SELECT count(*) FROM paidwatch.activation") == 0


async def test_a_no_that_comes_after_the_claim_is_seen_in_the_writing_transaction(desk: Desk) -> None:
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=False)
    await desk.paid()
    assert (await desk.decide.tick()).activations == 1
    (wait,) = await desk.waits()
    assert wait > answers.HOLD
    desk.says("failed")
    await desk.ask.run_due()
    assert await desk.fix() == [Result.REFUSED]
    assert CONTRADICTED in await desk.notes()


async def test_a_message_that_waits_for_an_activation_goes_on_waiting(desk: Desk) -> None:
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=False)
    await desk.paid()
    await desk.decide.tick()
    await desk.pass_by(storm.HOLD - answers.HOLD / 2)
    desk.provider.then(500)
    await desk.ask.run_due()
    assert await desk.waits() > [timedelta()]
    assert await desk.fix() == [Result.DONE]


async def test_a_yes_counts_for_an_hour(desk: Desk) -> None:
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=True)
    await desk.paid()
    await desk.decide.tick()
    desk.says()
    await desk.ask.run_due()
    await desk.pass_by(timedelta(minutes=61))
    assert (await desk.decide.tick()).activations == 0
    desk.says()
    assert await desk.ask.run_due() == 1
    assert (await desk.decide.tick()).activations == 1


# How often it is asked


async def test_the_same_reference_is_asked_every_thirty_seconds_at_most(desk: Desk) -> None:
    await desk.paid()
    for _ in range(3):
        await desk.look_again()
        await desk.decide.tick()
        await desk.ask.run_due()
    assert len(desk.provider.received) == 1
    await desk.pass_by(answers.PAUSE)
    await desk.look_again()
    await desk.ask.run_due()
    assert len(desk.provider.received) == 2


async def test_money_that_moves_is_asked_about_again_by_itself_ever_more_rarely(desk: Desk) -> None:
    await desk.paid()
    await desk.decide.tick()
    waits: list[timedelta] = []
    for _ in range(3):
        desk.says("confirming")
        await desk.ask.run_due()
        await desk.decide.tick()
        row = await desk.row()
        waits.append(row["ask_at"] - row["asked_at"])
        await desk.pass_by(waits[-1])
    assert waits == [answers.PAUSE, 2 * answers.PAUSE, 4 * answers.PAUSE]
    await desk.db.execute(
        "UPDATE paidwatch.watch SET state = 'closed', outcome = 'left', closed_at = now(), due_at = NULL, kind = NULL"
    )
    desk.says("confirming")
    await desk.ask.run_due()
    assert (await desk.row())["ask_at"] is None


async def test_a_provider_that_wants_a_pause_is_left_alone_about_every_payment(desk: Desk) -> None:
    await desk.paid()
    await desk.decide.tick()
    desk.provider.then(429, headers={"Retry-After": "120"})
    await desk.ask.run_due()
    assert await desk.told() == [["the provider could not be asked: it asked for a pause"]]

    await desk.paid(reference="77")
    await desk.decide.tick()
    assert timedelta() in await desk.waits()
    assert await desk.told() == [["the provider could not be asked: it asked for a pause"]]
    assert await desk.ask.run_due() == 0
    wait = await desk.pool.read(partial(answers.next_due, providers=["crypto"], apart_from=()))
    assert wait is not None
    assert timedelta(seconds=60) < wait <= timedelta(seconds=120)

    await desk.pass_by(timedelta(seconds=121))
    desk.says()
    desk.says(reference="77")
    assert await desk.ask.run_due() == 2
    assert len(desk.provider.received) == 3


async def test_what_waits_for_its_turn_waits_for_the_pause_too(desk: Desk) -> None:
    for number in range(AT_ONCE + 2):
        await desk.paid(reference=str(100 + number))
    await desk.decide.tick()
    for _ in range(AT_ONCE):
        desk.provider.then(429, headers={"Retry-After": "120"})
    assert await desk.ask.run_due() == AT_ONCE
    assert await desk.ask.run_due() == 0
    problems = await desk.db.fetch("SELECT problem FROM paidwatch.answer")
    assert [row["problem"] for row in problems] == [Trouble.BUSY] * (AT_ONCE + 2)


async def test_a_crash_between_question_and_answer_asks_again(desk: Desk) -> None:
    await desk.paid()
    await desk.decide.tick()
    desk.__post_init__()
    desk.says()
    assert await desk.ask.run_due() == 1
    assert (await desk.row())["status"] == "paid"


async def test_the_worker_sleeps_until_it_is_wanted_and_ends_when_it_is_told(desk: Desk) -> None:
    answered = anyio.Event()

    async def reply(got: Received) -> web.Response:
        answered.set()
        return web.json_response({"payment_id": int(got.path.rpartition("/")[2]), "payment_status": "finished"})

    desk.provider.handler = reply
    with anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            group.start_soon(desk.ask.run)
            await desk.paid()
            await desk.decide.tick()
            await answered.wait()
            desk.ask.stop()
    assert (await desk.row())["said"] == "finished"


async def test_the_key_is_in_no_row_and_no_log(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("paidwatch").setLevel(logging.DEBUG)
    for number, (status, body) in enumerate([(401, KEY), (500, KEY), (200, KEY), (200, json.dumps({"key": KEY}))]):
        await desk.paid(reference=str(100 + number))
        desk.provider.then(status, body=body)
    await desk.decide.tick()
    assert await desk.ask.run_due() == 4
    assert all(got.headers["x-api-key"] == KEY for got in desk.provider.received)
    for table in ("answer", "alert", "delivery", "audit", "watch"):
        assert KEY not in str(await desk.db.fetch(f"SELECT t::text AS row FROM paidwatch.{table} t"))
    said = capfd.readouterr()
    assert KEY not in said.out + said.err


async def test_old_answers_are_removed(desk: Desk) -> None:
    await desk.paid()
    await desk.decide.tick()
    assert await desk.pool.write(lambda session: session.value("purge_answers", timedelta(hours=1), 10)) == 0
    await desk.db.execute("UPDATE paidwatch.answer SET wanted_at = wanted_at - interval '2 hours'")
    assert await desk.pool.write(lambda session: session.value("purge_answers", timedelta(hours=1), 10)) == 1


# The whole daemon


async def test_the_daemon_asks_tells_and_activates(watched: Database, told: Sink, start: Start) -> None:
    async def reply(got: Received) -> web.Response:
        number = int(got.path.rpartition("/")[2])
        status = "finished" if number == int(REFERENCE) else "waiting"
        said = {"payment_id": number, "payment_status": status, "price_amount": 14.99, "price_currency": "usd"}
        return web.json_response(said)

    async with serving(Service(reply)) as provider:
        section = {"type": "nowpayments", "api_key": KEY, "api_url": provider.base, "methods": ["nowpayments"]}
        auto = {"activation": {"mode": "auto", "breaker_share": 0}, "grace": {"default": "100ms"}}
        async with start({"providers.crypto": section}, auto) as daemon:
            await daemon.ready()
            user, other = await shop.add_user(watched), await shop.add_user(watched)
            payment = await shop.add_payment(watched, user, reference=REFERENCE)
            doubtful = await shop.add_payment(watched, other, reference="77")
            await shop.complete(watched, payment)
            await shop.complete(watched, doubtful)
            await daemon.closed(watched, payment, "fixed")
            await daemon.until(lambda: any(it.payment == str(doubtful) for it in told.told))
            await daemon.stop()
            assert KEY not in daemon.tail()
    assert (await shop.read(watched, "users", user))["subscription_tier"] == "professional"
    assert (await shop.read(watched, "users", other))["subscription_tier"] == "free"
    (message,) = [it for it in told.told if it.payment == str(doubtful)]
    said = json.dumps(message.body)
    assert "the provider says: waiting (pending), 14.99 USD" in said
    assert CONTRADICTED in said


async def test_the_daemon_edits_what_it_said_before_the_answer(watched: Database, told: Sink, start: Start) -> None:
    first = anyio.Event()
    chat = Discord("/api/webhooks/1/room")
    take = chat.handler

    async def taken(got: Received) -> web.Response:
        answer = await take(got)
        first.set()
        return answer

    async def reply(_: Received) -> web.Response:
        await first.wait()
        await told.until(lambda: bool(told.told))
        said = {"payment_id": int(REFERENCE), "payment_status": "finished", "price_amount": 14.99}
        return web.json_response(said | {"price_currency": "usd"})

    chat.handler = taken
    async with serving(Service(reply)) as provider, serving(chat):
        section = {"type": "nowpayments", "api_key": KEY, "api_url": provider.base, "methods": ["nowpayments"]}
        room = {"type": "discord", "url": f"{chat.base}{chat.path}"}
        async with start(
            {"providers.crypto": section, "channels.room": room}, {"grace": {"default": "100ms"}}
        ) as daemon:
            await daemon.ready()
            payment = await shop.add_payment(watched, await shop.add_user(watched), reference=REFERENCE)
            await shop.complete(watched, payment)
            await daemon.until(lambda: len(chat.received) > 1)
            await daemon.stop()
    assert [got.method for got in chat.received] == ["POST", "PATCH"]
    (message,) = chat.messages.values()
    assert PAID in json.dumps(message)
    assert [PAID in json.dumps(it.body) for it in told.told] == [False], "said again where nothing can be edited"


async def test_an_answer_that_comes_while_a_message_is_recorded_is_told_and_not_mismatched(everywhere: Desk) -> None:
    """Either transaction waits for the other one, so none of them misses what the other wrote."""
    desk = everywhere
    await desk.paid()
    await desk.decide.tick()
    await desk.pass_by(answers.HOLD)
    sent = {
        channel: await desk.pool.write(partial(outbox.claim, channel=channel, lease="l", span=MINUTE, most=100))
        for channel in TAKEN
    }
    (row,) = await desk.db.fetch("SELECT * FROM paidwatch.answer")
    answer = Answer(status=Money.PAID, said="finished", amount=None, currency=None, at=row["wanted_at"])

    async def slow(session: Session) -> None:
        await answers.record(session, ("nowpayments", REFERENCE), answer, moving=False)
        for channel, due in sent.items():
            for one in due:
                tasks.start_soon(desk.pool.write, partial(recorded, one=one, channel=channel))
        while await desk.db.fetchval(WAITING) < len(sent):
            await anyio.lowlevel.checkpoint()

    async def recorded(session: Session, one: Due, channel: str) -> None:
        attempt = Attempt(
            delivery_id=one.delivery_id, revision=one.revision, word="new", took=SHORT.total, result="sent", code="200"
        )
        await outbox.record_attempt(session, attempt)
        await outbox.record_sent(session, one, taken(channel))

    async with anyio.create_task_group() as tasks:
        await desk.pool.write(slow)
    assert await forgotten(desk) == 0
    assert set(await desk.deliver()) == {CHAT}


async def test_an_answer_that_comes_while_a_digest_is_under_way_is_not_told_story_by_story(everywhere: Desk) -> None:
    desk = everywhere
    references = [REFERENCE, "5524759815", "5524759816"]
    for reference in references:
        await desk.paid(reference)
    await desk.decide.tick()
    await desk.pass_by(answers.HOLD)
    await desk.db.execute("UPDATE paidwatch.delivery SET waits_for = 'held' WHERE channel = $1", MAIL)
    chat = partial(outbox.claim, channel=CHAT, lease="l", span=MINUTE, most=100)
    mail = partial(outbox.claim, channel=MAIL, lease="l", span=MINUTE, most=100)
    for one in await desk.pool.write(chat):
        await desk.pool.write(
            partial(outbox.record_sent, due=one, receipt=Receipt(reference=TAKEN[CHAT], code="200", size=1))
        )
    await desk.pool.write(lambda session: channels.gather(session, MAIL, Wait.HELD))
    (digest,) = await desk.pool.write(mail)
    assert len(digest.members) == len(references)
    for reference in references:
        desk.says(reference=reference)
    await desk.ask.run_due()
    await desk.decide.tick()
    await desk.pool.write(
        partial(outbox.record_sent, due=digest, receipt=Receipt(reference=TAKEN[MAIL], code="200", size=1))
    )
    assert await desk.pool.write(mail) == []
