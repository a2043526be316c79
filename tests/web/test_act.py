"""The page of a link, over real connections and on real PostgreSQL: it shows, acts once, and gives nothing away."""

import base64
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from paidwatch.clock import SystemClock
from paidwatch.core.guards import Actor, Mode
from paidwatch.core.link import Permit, authentic, sign
from paidwatch.errors import Unreachable
from paidwatch.flow.approve import Approve
from paidwatch.flow.deliver import Deliver
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Message, Receipt
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from paidwatch.web.act import BODY_LIMIT, add_act
from paidwatch.web.app import build_app, serve
from tests.support.command import everything
from tests.support.postgres import Database
from tests.support.shop import MONTH, add_payment, add_user, add_webhook, complete, read, refund, update
from tests.support.torture import equipment
from tests.support.watched import watched

__all__ = ["watched"]

KEY = "a key of links that nobody guesses"
PUBLIC = "https://pay.example.org/watch"
YES = {"confirm": "yes"}
WATCHED = """
INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at, kind)
VALUES ($1, $2, 'gap', 'trigger', now() - interval '3 minutes', now() - interval '3 minutes',
    now() - interval '1 minute', NULL, 'paid_not_active')
"""
ALERTED = """
WITH told AS (
    INSERT INTO paidwatch.alert (kind, payment_id, user_id, cause, proposed)
    VALUES ('paid_not_active', $1, $2, 'no webhook was recorded for this payment', true) RETURNING alert_id
)
INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT alert_id, 'ops', now() FROM told RETURNING alert_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One payment that was missed, and the alert about it."""

    user: Any
    payment: Any
    alert: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def has_button(self) -> bool:
        return "<button" in self.text


class Heard:
    """A channel that keeps what it was told."""

    name = "ops"
    kind = "scripted"
    pace = timedelta()
    parallel = 1

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> Receipt:
        self.messages.append(message)
        return Receipt(reference={}, code="200", size=1)

    async def aclose(self) -> None: ...


class Desk:
    """The daemon's side: a pool, the owner's choices, and the pages, served."""

    def __init__(self, db: Database, pool: Pool, policy: Policy, client: aiohttp.ClientSession | None = None) -> None:
        self.db, self.pool, self.policy, self.client = db, pool, policy, client
        self.metrics = Metrics(status=Status(clock=SystemClock()), version="0", channels=("ops",))
        self.down = False

    def database(self) -> Pool:
        if self.down:
            message = "the database does not answer"
            raise Unreachable(message)
        return self.pool

    def application(self, bearer: str) -> web.Application:
        app = build_app(Status(clock=SystemClock()), self.metrics, bearer, loopback=not bearer)
        add_act(
            app, Approve(database=self.database, policy=lambda: self.policy, metrics=self.metrics, log=Log("approve"))
        )
        return app

    async def missed(self, *, signed: bool = True, **paid: Any) -> Gap:
        """Somebody paid and nothing came of it; the grace is over, and the alert is open."""
        user = await add_user(self.db, email=paid.pop("email", None))
        payment = await add_payment(self.db, user, **paid)
        await complete(self.db, payment)
        if signed:
            reference = (await read(self.db, "payments", payment))["transaction_id"]
            await self.witness(reference)
        await self.db.execute("DELETE FROM paidwatch.inbox")
        await self.db.execute(WATCHED, payment, user)
        return Gap(user=user, payment=payment, alert=await self.db.fetchval(ALERTED, payment, user))

    async def witness(self, reference: str) -> None:
        """A validly signed webhook says that the money is there."""
        data = {"payment_id": reference, "payment_status": "finished", "status": "finished"}
        log = await add_webhook(self.db, data=data, payment=reference)
        await self.db.execute(
            "INSERT INTO paidwatch.reading (log_id, method, reference, status, valid, at)"
            " VALUES ($1, 'nowpayments', $2, 'paid', true, now())",
            str(log),
            reference,
        )

    async def token(self, gap: Gap, *, key: str = KEY, installation: str = "", **change: Any) -> str:
        here = await self.db.fetchval("SELECT installation_id::text FROM paidwatch.installation")
        permit = Permit(
            payment_id=str(gap.payment),
            alert_id=gap.alert,
            actor="link:ops",
            expires_at=datetime.now(UTC) + timedelta(hours=1),
            revision=1,
        )
        return sign(replace(permit, **change), key, installation or here)

    async def get(self, token: str, **more: Any) -> Answer:
        return await self._ask("GET", token, **more)

    async def post(self, token: str, data: Any = YES, **more: Any) -> Answer:
        return await self._ask("POST", token, data=data, **more)

    async def _ask(self, method: str, token: str, **more: Any) -> Answer:
        assert self.client is not None
        async with self.client.request(method, f"/act/{token}", **more) as answer:
            return Answer(status=answer.status, text=await answer.text(), headers=dict(answer.headers))

    async def ledger(self) -> Counter[str]:
        rows = await self.db.fetch("SELECT state FROM paidwatch.activation")
        return Counter(row["state"] for row in rows)

    async def tier(self, gap: Gap) -> str:
        return str((await read(self.db, "users", gap.user))["subscription_tier"])

    async def uses(self) -> list[str]:
        return [row["result"] for row in await self.db.fetch("SELECT result FROM paidwatch.link_use ORDER BY used_at")]

    async def tell(self) -> list[Message]:
        """Tell the channel what is due."""
        heard = Heard()
        deliver = Deliver(
            transport=heard,
            database=self.pool,
            policy=lambda: self.policy,
            clock=SystemClock(),
            status=Status(clock=SystemClock()),
            metrics=self.metrics,
            log=Log(),
        )
        await deliver.send_batch()
        return heard.messages


@asynccontextmanager
async def served(desk: Desk, *, bearer: str = "") -> AsyncIterator[Desk]:
    async with anyio.create_task_group() as tasks:
        host, port = await tasks.start(serve, desk.application(bearer), "127.0.0.1", 0)
        limit = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(f"http://{host}:{port}", timeout=limit) as client:
            desk.client = client
            yield desk
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    usual = equipment(tmp_path_factory.mktemp("act")).policy
    return replace(
        usual,
        mode=Mode.SUPERVISED,
        link_key=KEY,
        public_url=PUBLIC,
        grace=timedelta(minutes=2),
        max_per_hour=0,  # the machine's reins are not a person's
        max_per_day=0,
    )


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture
async def desk(watched: Database, policy: Policy, statements: Statements) -> AsyncIterator[Desk]:
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=20))
    async with (
        Pool(target, statements, size=6, settings=BY_KEY) as pool,
        served(Desk(watched, pool, policy)) as served_desk,
    ):
        yield served_desk


def harmless(answer: Answer) -> None:
    """Assert what holds of every page: nothing stored, framed, fetched, found by a search engine, or run."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    if style:  # HEAD has no body
        assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert "://" not in answer.text
    assert "Server" not in answer.headers


# The way of one link


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_a_message_holds_a_link_that_shows_and_then_acts_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gap = await desk.missed(email="someone@example.org")
    [message] = await desk.tell()
    link = message.notice.link
    assert link.startswith(f"{PUBLIC}/act/")
    token = link.removeprefix(f"{PUBLIC}/act/")

    before = await everything(desk.db)
    seen = await desk.get(token)
    for agent in ("Slackbot-LinkExpanding 1.0 (+robots)", "Discordbot/2.0"):
        harmless(seen)
        seen = await desk.get(token, headers={"User-Agent": agent})
        assert (seen.status, seen.has_button) == (200, True)
    assert "s***@e***.org" in seen.text
    assert "someone" not in seen.text
    assert seen.text.count("Holds") == 11
    head = await desk._ask("HEAD", token)
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == seen.headers["Content-Length"]
    assert await everything(desk.db) == before, "looking changes nothing"

    done = await desk.post(token)
    harmless(done)
    assert done.status == 200
    assert "Activated by paidwatch (link:ops): professional until " in done.text
    assert await desk.tier(gap) == "professional"
    [entry] = await desk.db.fetch("SELECT state, actor, strategy FROM paidwatch.activation")
    assert tuple(entry) == ("done", "link:ops", "sql")
    assert [row["act"] for row in await desk.db.fetch("SELECT act FROM paidwatch.audit ORDER BY audit_id")] == [
        "activate",
        "approve",
    ]
    alert = await desk.db.fetchrow("SELECT state, outcome FROM paidwatch.alert WHERE alert_id = $1", gap.alert)
    assert tuple(alert or ()) == ("resolved", "fixed")

    for again in (await desk.post(token), await desk.get(token)):
        harmless(again)
        assert again.status == 410
        assert "was used before" in again.text
        assert not again.has_button
    assert (await desk.ledger(), await desk.uses()) == ({"done": 1}, ["activated"])

    [fixed] = await desk.tell()
    assert (fixed.notice.word, fixed.notice.link) == ("FIXED", "")
    written = str(await everything(desk.db))
    assert token not in caplog.text + written + repr(message) + done.text
    assert token.partition(".")[2] not in caplog.text + written


async def test_a_link_works_after_a_restart_and_not_with_another_key(
    desk: Desk, policy: Policy, statements: Statements
) -> None:
    gap = await desk.missed()
    token = await desk.token(gap)

    desk.policy = replace(policy, link_key=KEY[::-1])
    assert (await desk.get(token)).status == (await desk.post(token)).status == 404
    desk.policy = replace(policy, link_key="")
    assert (await desk.post(token)).status == 404

    target = Target(dsn=desk.db.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=20))
    async with Pool(target, statements, size=2) as pool, served(Desk(desk.db, pool, policy)) as later:
        assert (await later.post(token)).status == 200
    assert await desk.tier(gap) == "professional"


# What acts, and what does not


@pytest.mark.parametrize(
    "form",
    [
        None,
        b"",
        b"confirm=",
        b"confirm=no",
        b"confirm=YES",
        b"confirm=yes&confirm=no",
        b"confirm=no&confirm=yes",
        b'{"confirm": "yes"}',
        b"confirm\xff=yes",
        b"&".join(b"a%d=1" % number for number in range(30)) + b"&confirm=yes",
    ],
    ids=str,
)
async def test_a_post_that_does_not_confirm_does_nothing(desk: Desk, form: bytes | None) -> None:
    token = await desk.token(await desk.missed())
    before = await everything(desk.db)

    answer = await desk.post(token, form, params=YES)

    harmless(answer)
    assert (answer.status, answer.has_button) == (400, True)
    assert "the confirmation is missing" in answer.text
    assert await everything(desk.db) == before


async def test_a_body_that_is_too_large_is_not_read(desk: Desk) -> None:
    token = await desk.token(await desk.missed())
    before = await everything(desk.db)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"confirm=yes&" * 1000

    whole = await desk.post(token, b"confirm=yes&a=" + b"x" * BODY_LIMIT)
    pieces = await desk.post(token, endless())

    for answer in (whole, pieces):
        harmless(answer)
        assert answer.status == 413
    assert await everything(desk.db) == before


async def test_elsewhere_than_on_loopback_the_bearer_token_is_asked_for_as_well(desk: Desk) -> None:
    gap = await desk.missed()
    token = await desk.token(gap)
    async with served(Desk(desk.db, desk.pool, desk.policy), bearer="a token of the owner") as open_desk:
        assert (await open_desk.get(token)).status == (await open_desk.post(token)).status == 401
        assert await desk.tier(gap) == "free"
        assert (await open_desk.post(token, headers={"Authorization": "Bearer a token of the owner"})).status == 200


async def test_other_methods_are_refused(desk: Desk) -> None:
    token = await desk.token(await desk.missed())
    assert [(await desk._ask(method, token, data=YES)).status for method in ("PUT", "PATCH", "DELETE")] == [405] * 3
    assert await desk.ledger() == {}


# What is no link, and what is none any more


async def test_whatever_is_no_link_gets_one_and_the_same_answer(desk: Desk) -> None:
    gap = await desk.missed()
    token = await desk.token(gap)
    payload, _, signature = token.partition(".")
    tokens = [
        await desk.token(gap, key=KEY + "!"),
        await desk.token(gap, installation="6f0c1f57-8f43-4c7e-9a55-3f2a1f0a5d11"),
        # The keys of another installation may be of another type.
        await desk.token(gap, installation="6f0c1f57-8f43-4c7e-9a55-3f2a1f0a5d11", payment_id="ORD-1"),
        f"{payload}.{signature[::-1]}",
        f"{payload}.",
        f".{signature}",
        token[:-1],
        f"{token}/",
        "x",
        "a/b/c",
        "%00",
        "..%2F..%2Fetc",
        "é",
        "x" * 5000,
    ]
    before = await everything(desk.db)

    answers = [await ask(one) for one in tokens for ask in (desk.get, desk.post)]
    answers.append(await desk.post(tokens[0], b"confirm=no"))

    for answer in answers:
        harmless(answer)
    differing = {"Date"}
    told = {
        (one.status, one.text, tuple(sorted((k, v) for k, v in one.headers.items() if k not in differing)))
        for one in answers
    }
    assert len(told) == 1
    assert answers[0].status == 404
    assert await everything(desk.db) == before
    assert (await desk.get(token)).status == 200


async def test_what_is_over_says_so_and_what_to_do_instead(desk: Desk, policy: Policy) -> None:
    gap = await desk.missed()
    command = f"paidwatch activate {gap.user} --payment {gap.payment} --dry-run"
    token = await desk.token(gap)
    elsewhere = await desk.missed()
    cases = {
        "has expired": await desk.token(gap, expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        "alert is over": await desk.token(gap, alert_id=elsewhere.alert),
    }
    before = await everything(desk.db)
    for why, one in cases.items():
        for answer in (await desk.get(one), await desk.post(one)):
            harmless(answer)
            assert (answer.status, answer.has_button) == (410, False)
            assert why in answer.text
            assert command in answer.text
    for mode in (Mode.OFF, Mode.SHADOW, Mode.AUTO):
        desk.policy = replace(policy, mode=mode)
        for answer in (await desk.get(token), await desk.post(token)):
            assert answer.status == 410
            assert "is not supervised" in answer.text
    desk.policy = policy
    assert await everything(desk.db) == before

    await desk.db.execute(
        "UPDATE paidwatch.alert SET state = 'resolved', resolved_at = now() WHERE alert_id = $1", gap.alert
    )
    answer = await desk.post(token)
    assert (answer.status, "alert is over" in answer.text, command in answer.text) == (410, True, True)
    assert (await desk.ledger(), await desk.uses()) == ({}, [])


# The guards


async def test_a_guard_that_refuses_meanwhile_is_shown_and_uses_the_link_up(desk: Desk) -> None:
    gap = await desk.missed()
    [message] = await desk.tell()
    token = message.notice.link.removeprefix(f"{PUBLIC}/act/")
    assert (await desk.get(token)).has_button
    await refund(desk.db, gap.payment)

    seen = await desk.get(token)
    assert (seen.status, seen.has_button) == (200, False)
    assert "the payment was reversed" in seen.text
    assert await desk.uses() == [], "looking uses nothing up"

    refused = await desk.post(token)
    harmless(refused)
    assert refused.status == 409
    assert "the payment was reversed" in refused.text
    assert "the next message about the payment holds another" in refused.text
    assert (await desk.post(token)).status == 410
    assert (await desk.ledger(), await desk.uses(), await desk.tier(gap)) == (
        {"refused": 1},
        ["refused by a guard"],
        "free",
    )

    # What held it up is over, and the next message holds another link.
    await desk.db.execute("DELETE FROM paidwatch.inbox")
    await desk.db.execute("UPDATE paidwatch.watch SET reversed_at = NULL")
    await update(desk.db, "payments", gap.payment, {"status": "completed"})
    await desk.db.execute("UPDATE paidwatch.alert SET revision = revision + 1")
    await desk.db.execute("UPDATE paidwatch.delivery SET due_at = now()")
    [message] = await desk.tell()
    fresh = message.notice.link.removeprefix(f"{PUBLIC}/act/")
    assert [getattr(authentic(one, KEY), "revision", None) for one in (token, fresh)] == [1, 2]
    assert (await desk.post(fresh)).status == 200


async def test_a_link_is_no_second_witness_of_the_money(desk: Desk, policy: Policy) -> None:
    gap = await desk.missed(signed=False)
    refused = await desk.post(await desk.token(gap))
    assert refused.status == 409
    assert "neither a signed webhook nor the payment provider" in refused.text

    desk.policy = replace(policy, require_corroboration=False)
    done = await desk.post(await desk.token(gap, revision=2))
    assert done.status == 200, "the owner does not ask for one"
    assert done.text.count("not asked of a person") == 3, "mode, caps and breaker rein in the machine"

    asked = {name: Actor.of(name) for name in ("auto", "link:ops", "link", "cli:link", "cli:auto", "manual", "")}
    assert asked == {"auto": Actor.AUTO, "link:ops": Actor.LINK, "link": Actor.LINK} | dict.fromkeys(
        ["cli:link", "cli:auto", "manual", ""], Actor.MANUAL
    )


async def test_many_links_at_once_make_one_activation(desk: Desk) -> None:
    gap = await desk.missed()
    one, other = await desk.token(gap), await desk.token(gap, revision=2, actor="link:team")
    statuses: Counter[int] = Counter()

    async def press(token: str) -> None:
        statuses[(await desk.post(token)).status] += 1

    async with anyio.create_task_group() as crowd:
        for token in [one, other] * 8:
            crowd.start_soon(press, token)

    assert statuses == {200: 1, 410: 15}
    assert await desk.ledger() == {"done": 1}
    assert len(await desk.uses()) == 1
    assert await desk.db.fetchval("SELECT count(*) FROM public.subscription_events") == 1
    until = (await read(desk.db, "users", gap.user))["payment_due_date"].replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) + MONTH - until < timedelta(minutes=1)


async def test_over_http_the_daemon_is_left_to_ask_the_application(desk: Desk, policy: Policy) -> None:
    desk.policy = replace(policy, strategy="http")
    gap = await desk.missed()
    answer = await desk.post(await desk.token(gap))
    assert answer.status == 202
    [entry] = await desk.db.fetch(
        "SELECT state, actor, strategy, due_at <= now() AS due FROM paidwatch.activation WHERE payment_id = $1",
        gap.payment,
    )
    assert tuple(entry) == ("claimed", "link:ops", "http", True)
    assert await desk.tier(gap) == "free"

    taken = await desk.post(await desk.token(gap, revision=2))
    assert taken.status == 409
    assert "link:ops is activating it" in taken.text
    assert len(await desk.uses()) == 1, "whoever came second may try again"
    assert not (await desk.get(await desk.token(gap, revision=2))).has_button

    unproven = await desk.missed(signed=False)
    assert (await desk.post(await desk.token(unproven))).status == 409
    assert await desk.ledger() == {"claimed": 1, "refused": 1}


async def test_a_database_that_is_away_is_no_answer(desk: Desk) -> None:
    token = await desk.token(await desk.missed())
    desk.down = True
    for answer in (await desk.get(token), await desk.post(token)):
        harmless(answer)
        assert answer.status == 503
    assert (await desk.get("x")).status == 404, "what is no link needs no database"
    desk.down = False
    assert (await desk.post(token)).status == 200


# What the page is made of


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def test_hostile_labels_stay_text(desk: Desk) -> None:
    plain = Page((await desk.get(await desk.token(await desk.missed()))).text)
    hostile = "</td></table><script>alert(1)</script><img src=x onerror='a'>\"&lt;\u202e"
    gap = await desk.missed(email=f"{hostile}@example.org", reference=hostile, method="<b>\"'&")

    page = Page((await desk.get(await desk.token(gap))).text)

    assert page.tags == plain.tags
    assert page.attributes == plain.attributes
    assert any("<script>alert(1)</script>" in text for text in page.texts)
    assert not any("\u202e" in text for text in page.texts)


async def test_no_link_where_nothing_is_proposed(desk: Desk, policy: Policy) -> None:
    for change in (
        {"mode": Mode.AUTO},
        {"mode": Mode.SHADOW},
        {"link_key": ""},
        {"public_url": ""},
    ):
        desk.policy = replace(policy, **change)
        await desk.missed()
        [message] = await desk.tell()
        assert message.notice.link == "", change
    desk.policy = policy
    gap = await desk.missed()
    await desk.db.execute("UPDATE paidwatch.alert SET proposed = false WHERE alert_id = $1", gap.alert)
    [message] = await desk.tell()
    assert message.notice.link == ""
