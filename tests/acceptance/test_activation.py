"""Activation by the whole daemon: on a second witness only, by a link over restarts, by a crowd at once, over HTTP."""

import json
import re
import socket
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from paidwatch.errors import Refused
from tests.acceptance.test_scenarios import AUTO, DAY, Scene, activations, announced_since, paid, scene
from tests.channels.fakes.http import Received, Service, serving
from tests.support import shop
from tests.support.admin import GUIDE, OWN, TOKEN, Admin, Fault, admin
from tests.support.daemon import Daemon, Sections, paidwatch
from tests.support.hands import Hands, hands_on
from tests.support.postgres import Database, Server
from tests.support.receiver import payment as said_paid
from tests.support.receiver import signed
from tests.support.sink import Sink, Told
from tests.support.watched import Start

ON_L = pytest.mark.parametrize("shape", ["L"])
QUICK = {"grace": {"default": "300ms"}}
KEY = "a key of links that nobody guesses"
YES = {"confirm": "yes"}
LIMIT = aiohttp.ClientTimeout(total=20)
SECRET = "a secret of webhooks"
WITNESS = {"activation": {"require_corroboration": True}}
UNPROVEN = "neither a signed webhook nor the payment provider confirms the payment"


async def ipn(
    db: Database, reference: str, status: str = "finished", *, valid: bool | None = True, **more: Any
) -> None:
    """The application logs an IPN of NOWPayments."""
    data = {"payment_id": reference, "payment_status": status, "price_amount": 14.99, "price_currency": "usd"} | more
    await shop.add_webhook(db, data=data, valid=valid, payment=reference)


async def read_by_now(daemon: Daemon, db: Database, *references: str) -> None:
    """Wait until paidwatch has read what the log holds about these."""
    names = ", ".join(f"'{reference}'" for reference in references)
    question = (
        f"SELECT count(DISTINCT reference) = {len(references)} FROM paidwatch.reading WHERE reference IN ({names})"
    )
    await daemon.database_by_asking(db, question)


# 3, 12, 16: money is believed on a second witness


@pytest.fixture(scope="module", params=["F", "L"])
async def careful(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A daemon that activates what a second witness confirms."""
    async for found in scene(server, request.param, tmp_path_factory.mktemp("careful"), AUTO, WITNESS):
        yield found


async def test_only_a_signed_and_final_webhook_of_the_payment_itself_is_a_witness(careful: Scene) -> None:
    db = careful.db
    witnesses: dict[str, dict[str, Any]] = {
        "signed": {},
        "forged": {"valid": False},
        "unchecked": {"valid": None},
        "moving": {"status": "confirmed"},
        "partial": {"status": "partially_paid"},
        "repeated": {"parent_payment_id": "np-deposit"},
        "cheap": {"price_amount": 1.49},
    }
    stories = {name: (await shop.add_user(db), f"np-{name}") for name in [*witnesses, "alone"]}
    for name, said in witnesses.items():
        await ipn(db, f"np-{name}", **said)
    await read_by_now(careful.daemon, db, *(f"np-{name}" for name in witnesses))
    payments = {name: await paid(db, user, reference=reference) for name, (user, reference) in stories.items()}
    await careful.told.until_told([payments["signed"]], word="FIXED")
    told = await announced_since(careful, *payments.values())
    words = {name: told[str(payment)] for name, payment in payments.items()}
    assert words.pop("signed") == ["FIXED paid_not_active"]
    assert all(len(said) == 1 and said[0].startswith("NEW ") for said in words.values()), words
    user = await shop.read(db, "users", stories["signed"][0])
    assert (user["subscription_status"], user["subscription_tier"]) == ("active", "professional")
    for name in words:
        assert (await shop.read(db, "users", stories[name][0]))["subscription_tier"] == "free", name
        assert not await activations(careful, payments[name]), name
    notes = await db.fetch("SELECT notes FROM paidwatch.alert WHERE payment_id = ANY ($1)", [*payments.values()])
    assert sum(UNPROVEN in " ".join(row["notes"]) for row in notes) == len(words)


async def test_signed_money_without_a_payment_is_told_and_nobody_is_activated(careful: Scene) -> None:
    user = await shop.add_user(careful.db)
    await ipn(careful.db, "np-orphan", order_id=f"winu_sub_{user}_vip_elite_1700000000", price_amount=29.99)

    def orphans() -> list[Told]:
        return [
            one for one in careful.told.told if one.kind == "orphan_webhook" and "np-orphan" in json.dumps(one.body)
        ]

    await careful.told.until(lambda: bool(orphans()))
    bystander = await shop.add_user(careful.db)
    await ipn(careful.db, "np-bystander")
    await read_by_now(careful.daemon, careful.db, "np-bystander")
    await careful.told.until_told([await paid(careful.db, bystander, reference="np-bystander")], word="FIXED")
    assert [one.word for one in orphans()] == ["NEW"]
    assert (await shop.read(careful.db, "users", user))["subscription_tier"] == "free"
    assert not await careful.db.fetchval("SELECT count(*) FROM paidwatch.activation WHERE user_id = $1", user)


@pytest.fixture(scope="module", params=["F", "L"])
async def asking(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A daemon whose provider can be asked; it confirms what ends in 1, and knows of nothing else."""

    async def says(got: Received) -> web.Response:
        number = int(got.path.rpartition("/")[2])
        status = "finished" if number % 10 == 1 else "waiting"
        money = {"price_amount": 29.99, "price_currency": "usd"}
        return web.json_response({"payment_id": number, "payment_status": status} | money)

    async with serving(Service(says)) as provider:
        keys = {
            "api_key": "c4nary-api-key",
            "api_url": provider.base,
            "secret": SECRET,
            "methods": ["nowpayments"],
        }
        port = free_port()
        more = {"providers.crypto": {"type": "nowpayments"} | keys, "http": {"listen": f"127.0.0.1:{port}"}}
        async for found in scene(server, request.param, tmp_path_factory.mktemp("asking"), AUTO, WITNESS, more):
            yield found


async def test_what_the_receiver_took_is_told_under_the_shops_own_word_for_it(asking: Scene) -> None:
    """The NAME of the provider's section is none of its payment methods."""
    address = tomllib.loads(asking.daemon.config.read_text())["http"]["listen"]
    user = await shop.add_user(asking.db)
    order = f"winu_sub_{user}_vip_elite_{int(time.time())}"
    body, headers = signed(said_paid(7700000011, price_amount=29.99, order_id=order), SECRET)
    async with (
        aiohttp.ClientSession(timeout=LIMIT) as provider,
        provider.post(f"http://{address}/webhooks/crypto", data=body, headers=headers) as answer,
    ):
        assert answer.status == 200
    await asking.told.until(lambda: any("7700000011" in json.dumps(one.body) for one in asking.told.told))
    (told,) = [one for one in asking.told.told if "7700000011" in json.dumps(one.body)]
    assert (told.word, told.kind) == ("FIXED", "orphan_webhook")
    assert (await shop.read(asking.db, "users", user))["subscription_tier"] == "vip_elite"
    logged = await asking.db.fetchval("SELECT payment_method FROM webhook_logs WHERE payment_id = '7700000011'")
    assert logged == "nowpayments"


async def test_signed_money_without_a_payment_is_activated_where_the_provider_confirms_it(asking: Scene) -> None:
    """Scenarios 12, 13 and 15: the incident that has no payment row, told five times over."""
    db = asking.db
    users = {number: await shop.add_user(db) for number in ("7700000001", "7700000002")}
    for number, user in users.items():
        for _ in range(5):
            order = f"winu_sub_{user}_vip_elite_{int(time.time())}"
            await ipn(db, number, order_id=order, price_amount=29.99)
        await ipn(db, number, "confirming", price_amount=29.99)

    def said(number: str) -> list[str]:
        orphans = (one for one in asking.told.told if one.kind == "orphan_webhook")
        return [one.word for one in orphans if number in json.dumps(one.body)]

    await asking.told.until(lambda: all(said(number) for number in users))
    assert {number: said(number) for number in users} == {"7700000001": ["FIXED"], "7700000002": ["NEW"]}
    right, wrong = [await shop.read(db, "users", user) for user in users.values()]
    assert (right["subscription_status"], right["subscription_tier"]) == ("active", "vip_elite")
    assert wrong["subscription_tier"] == "free"
    # The application writes its row, and activates, at last: that is no second payment, and a second activation.
    until = right["payment_due_date"]
    payment = await paid(db, right["id"], "vip_elite", reference="7700000001", amount=29.99)
    await shop.activate(db, right["id"], plan="vip_elite", payment=payment, days=31)
    await asking.told.until(lambda: any(one.kind == "double_activation" for one in asking.told.told))
    assert not await activations(asking, payment)
    entries = await db.fetch("SELECT state, reference FROM paidwatch.activation WHERE user_id = $1", right["id"])
    assert [(entry["state"], entry["reference"]) for entry in entries] == [("done", "7700000001")]
    assert (await shop.read(db, "users", right["id"]))["payment_due_date"] > until


# P7: an event that names the payment counts always, one that names none from shortly before the payment


async def test_an_activation_that_was_noted_before_the_payment_counts_as_its_own(careful: Scene) -> None:
    db = careful.db
    just, named, long_ago = [await shop.add_user(db) for _ in range(3)]
    noted: tuple[tuple[Any, int, dict[str, object]], ...] = (
        (just, 4, {"plan_id": "professional"}),
        (named, 6, {"payment_id": "np-since-6"}),
        (long_ago, 7, {}),
    )
    payments: list[Any] = []
    for user, minutes, data in noted:
        at = await shop.now(db) - timedelta(minutes=minutes)
        await shop.add_event(db, user, "activated", data, at=at)
        await ipn(db, f"np-since-{minutes}")
        await read_by_now(careful.daemon, db, f"np-since-{minutes}")
        payments.append(await paid(db, user, reference=f"np-since-{minutes}"))
    await careful.told.until_told(payments[2:], word="FIXED")
    await careful.told.until_told(payments[:2])
    assert [await activations(careful, payment) for payment in payments[:2]] == [[], []]
    rows = await db.fetch(
        "SELECT notes FROM paidwatch.alert WHERE payment_id = ANY ($1) ORDER BY payment_id", payments[:2]
    )
    notes = [" ".join(row["notes"]) for row in rows]
    assert "an activation of the user was recorded since the payment" in notes[0]
    assert "this payment was activated before" in notes[1]


# 7, 8, 10: upgrades and refunds, with every witness there is


async def test_what_is_applied_superseded_or_refunded_is_not_granted(careful: Scene) -> None:
    db = careful.db
    keen, lucky, early, late = [await shop.add_user(db) for _ in range(4)]
    wanted = {name: f"np-{name}" for name in ("low", "high", "first", "second", "within", "before")}
    for name, reference in wanted.items():
        await ipn(db, reference, price_amount=29.99 if name in {"high", "second"} else 14.99)
    await read_by_now(careful.daemon, db, *wanted.values())

    async def buy(user: Any, name: str, plan: str = "professional") -> Any:
        return await paid(db, user, plan, reference=wanted[name])

    async with db.transaction():  # faster than any grace period
        low, high = await buy(keen, "low"), await buy(keen, "high", "vip_elite")
        first, second = await buy(lucky, "first"), await buy(lucky, "second", "vip_elite")
        await shop.activate(db, lucky, plan="vip_elite", payment=second)
        within = await buy(early, "within")
        await shop.refund(db, within)
        before = await shop.add_payment(db, late, reference=wanted["before"])
        await shop.refund(db, before)
        await shop.complete(db, before)
    await careful.told.until_told([high], word="FIXED")
    for payment, outcome in ((low, "superseded"), (first, "activated"), (within, "reversed"), (before, "reversed")):
        await careful.daemon.closed(db, payment, outcome)
    told = await announced_since(careful, low, high, first, second, within, before)
    assert told == {str(high): ["FIXED paid_not_active"]}
    assert (await shop.read(db, "users", keen))["subscription_tier"] == "vip_elite"
    assert (await shop.read(db, "users", lucky))["subscription_tier"] == "vip_elite"
    rows = await db.fetch(
        "SELECT payment_id FROM paidwatch.activation WHERE user_id = ANY ($1)", [keen, lucky, early, late]
    )
    assert [row["payment_id"] for row in rows] == [high]


# Supervised: a link


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def supervised(port: int, *, key: str = KEY, public: int | None = None) -> Sections:
    return {
        "activation": {"mode": "supervised", "link_key": key},
        "http": {"listen": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{public or port}"},
    }


def link_of(told: Sink, payment: Any) -> str:
    (link,) = {one.body["data"]["link"] for one in told.told if one.payment == str(payment) and one.word == "NEW"}
    return str(link)


async def proposed(db: Database, daemon: Daemon, told: Sink) -> tuple[Any, Any]:
    """Somebody paid, a signed webhook says so too, and the message proposes the activation; return user and payment."""
    user = await shop.add_user(db, status="active", tier="professional", paid_until=await shop.now(db) + DAY)
    await ipn(db, f"np-{user}")
    await read_by_now(daemon, db, f"np-{user}")
    payment = await paid(db, user, reference=f"np-{user}")
    await told.until_told([payment])
    return user, payment


async def test_a_link_of_a_message_acts_once_after_the_daemon_was_killed(
    watched: Database, told: Sink, start: Start
) -> None:
    port = free_port()
    async with start(QUICK, supervised(port)) as doomed:
        await doomed.ready()
        user, payment = await proposed(watched, doomed, told)
        await doomed.log("delivery.sent")
        await doomed.kill9()
    before = await shop.read(watched, "users", user)
    link = link_of(told, payment)
    async with aiohttp.ClientSession(timeout=LIMIT) as browser:

        async def ask(method: str, **more: Any) -> int:
            async with browser.request(method, link, **more) as answer:
                await answer.read()
                return answer.status

        async with start(QUICK, supervised(port, key="another key, which nobody guesses either")) as daemon:
            await daemon.ready()
            assert await ask("POST", data=YES) == 404, "another key ends what the old one signed"
        async with start(QUICK, supervised(port)) as daemon:
            await daemon.ready()
            assert [await ask("GET"), await ask("HEAD"), await ask("POST")] == [200, 200, 400]
            assert await shop.read(watched, "users", user) == before, "looking changes nothing"
            assert await ask("POST", data=YES) == 200
            await told.until_told([payment], word="FIXED")
            assert [await ask("POST", data=YES), await ask("GET")] == [410, 410]
        assert link.rpartition("/")[2] not in json.dumps(daemon.lines) + json.dumps(doomed.lines)
    after = await shop.read(watched, "users", user)
    assert after["payment_due_date"] == before["payment_due_date"] + timedelta(days=30)
    (entry,) = await watched.fetch("SELECT actor, state FROM paidwatch.activation")
    assert tuple(entry) == ("link:ops", "done")
    assert [event["event_type"] for event in await events(watched, user)] == ["activated"]
    audit = await watched.fetch("SELECT act, actor FROM paidwatch.audit WHERE payment_id = $1 ORDER BY act", payment)
    assert [tuple(row) for row in audit] == [("activate", "link:ops"), ("approve", "link:ops")]
    assert [one.word for one in told.told if one.payment == str(payment)] == ["NEW", "FIXED"]


async def events(db: Database, user: Any) -> list[Any]:
    return await db.fetch("SELECT event_type FROM subscription_events WHERE user_id = $1", user)


# A hundred at once


def over_http(application: Admin, **more: object) -> Sections:
    contract = application.contract
    http = {"url": application.url, "body": contract, "headers": {"Authorization": f"Bearer {TOKEN}"}} | more
    return {"activation": {"strategy": "http"}, "activation.http": http}


@pytest.mark.parametrize(("shape", "strategy"), [("F", "sql"), ("L", "http")])
async def test_a_hundred_attempts_by_everybody_who_may_make_one_activation(
    watched: Database, told: Sink, start: Start, strategy: str
) -> None:
    """The links at both daemons, people at commands, and the leader itself once it is told to: in the same moment."""
    ports = free_port(), free_port()
    async with admin(watched, OWN) as application:
        more: Sections = over_http(application, timeout="5s") if strategy == "http" else {}
        one = (QUICK, supervised(ports[0], public=ports[1]), more)
        two = (QUICK, supervised(ports[1]), more)
        async with start(*one) as leader, start(*two) as standby:
            await leader.until(lambda: bool(leader.events("listen.ready") or leader.events("lead.waiting")))
            await standby.until(lambda: bool(standby.events("listen.ready") or standby.events("lead.waiting")))
            chief, idle = (leader, standby) if leader.events("listen.ready") else (standby, leader)
            assert idle.events("lead.waiting")
            user, payment = await proposed(watched, chief, told)
            until = (await shop.read(watched, "users", user))["payment_due_date"]
            token = link_of(told, payment).rpartition("/")[2]
            mine = one if chief is leader else two
            statuses: Counter[int] = Counter()

            async def press(browser: aiohttp.ClientSession, port: int) -> None:
                async with browser.post(f"http://127.0.0.1:{port}/act/{token}", data=YES) as answer:
                    await answer.read()
                    statuses[answer.status] += 1

            async def type_it() -> None:
                await paidwatch(
                    "activate", str(user), "--yes", "--reason", "they wrote", config=idle.config, expect=None
                )

            async with (
                hands_on(chief.config) as hands,
                aiohttp.ClientSession(timeout=LIMIT, connector=aiohttp.TCPConnector(limit=0)) as browser,
                anyio.create_task_group() as crowd,
            ):
                for _ in range(2):
                    crowd.start_soon(type_it)
                for place in range(97):
                    if strategy == "sql" and place % 2:
                        crowd.start_soon(by_hand, hands, user, payment)
                    else:
                        crowd.start_soon(press, browser, ports[place % 4 // 2])
                await chief.reload(*mine, {"activation": {"mode": "auto"}}, database=watched, sink=told)
            await told.until_told([payment], word="FIXED")
            await chief.log("config.reloaded")
        assert application.activations == (strategy == "http")
    assert set(statuses) <= {200, 202, 409, 410}, statuses
    assert statuses[200] + statuses[202] <= 1
    states = Counter(row["state"] for row in await watched.fetch("SELECT state FROM paidwatch.activation"))
    assert states["done"] == 1, states
    assert set(states) <= {"done", "refused"}, "whoever came later was told so"
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.audit WHERE act = 'activate'") == 1
    assert len(await events(watched, user)) == 1
    added = (await shop.read(watched, "users", user))["payment_due_date"] - until
    slack = timedelta() if strategy == "sql" else timedelta(minutes=10)
    assert abs(added - timedelta(days=30)) <= slack, "one period"
    assert [one.word for one in told.told if one.payment == str(payment)].count("FIXED") == 1


async def by_hand(hands: Hands, user: Any, payment: Any) -> None:
    """The command, without a process of its own; who comes too late is told so."""
    with suppress(Refused):
        await hands.activate(user, payment=payment, reason="they wrote")


# The ladder, without a restart


@ON_L
async def test_from_shadow_to_auto_and_off_by_reloads(watched: Database, told: Sink, start: Start) -> None:
    """As docs/activation.md says: at once, and for the gaps that stand as well; off, nothing is written any more."""

    def mode(word: str) -> Sections:
        return {"activation": {"mode": word, "require_corroboration": False}}

    async with start(QUICK, mode("shadow")) as daemon:
        await daemon.ready()
        user, other, third = [await shop.add_user(watched) for _ in range(3)]
        before = await shop.read(watched, "users", user)
        standing = await paid(watched, user)
        await told.until_told([standing])
        assert await shop.read(watched, "users", user) == before
        assert await watched.fetchval("SELECT state FROM paidwatch.activation") == "shadow"
        await daemon.reload(QUICK, mode("auto"), database=watched, sink=told)
        await told.until_told([standing], word="FIXED")
        new = await paid(watched, other)
        await told.until_told([new], word="FIXED")
        await daemon.reload(QUICK, mode("off"), database=watched, sink=told)
        await daemon.log("config.reloaded", count=2)
        last = await paid(watched, third)
        await told.until_told([last])
    assert "would have activated" in json.dumps([one.body for one in told.told if one.payment == str(standing)])
    rows = await watched.fetch("SELECT payment_id, state FROM paidwatch.activation ORDER BY activation_id")
    assert [tuple(row) for row in rows] == [(standing, "shadow"), (standing, "done"), (new, "done")]
    assert (await shop.read(watched, "users", third))["subscription_tier"] == "free"


# 19: the application does it


@ON_L
async def test_over_http_a_lost_answer_is_read_back_errors_are_retried_and_a_no_is_final(
    watched: Database, told: Sink, start: Start
) -> None:
    async with admin(watched, GUIDE) as application:
        http = over_http(application, timeout="500ms", retry_after="100ms")
        async with start(QUICK, AUTO, http) as daemon:
            await daemon.ready()
            results: dict[str, tuple[int, int]] = {}
            for name, faults, word in (
                ("timeout after commit", [Fault.HANGS_AFTER_COMMIT], "FIXED"),
                ("500, 500, 200", [Fault.BREAKS, Fault.BREAKS], "FIXED"),
                ("404", [Fault.GONE], "NEW"),
            ):
                asked, done = len(application.asked), application.activations
                application.faults.extend(faults)
                user = await shop.add_user(watched)
                payment = await paid(watched, user)
                await told.until_told([payment], word=word)
                await daemon.database(
                    watched,
                    "SELECT state IN ('done', 'failed') FROM paidwatch.activation WHERE payment_id = $1",
                    payment,
                )
                results[name] = len(application.asked) - asked, application.activations - done
                assert len(await events(watched, user)) == application.activations - done, name
        log = json.dumps(daemon.lines)
    assert results == {"timeout after commit": (1, 1), "500, 500, 200": (3, 1), "404": (1, 0)}
    states = await watched.fetch("SELECT state, calls, answer FROM paidwatch.activation ORDER BY activation_id")
    assert [tuple(row) for row in states] == [("done", 1, "timeout"), ("done", 3, "200"), ("failed", 1, "404")]
    reasons = [body["reason"] for body in application.asked]
    assert all(re.search(r"\[paidwatch:[0-9a-f]{8}:\d+\]$", reason) for reason in reasons)
    assert len(set(reasons)) == len(states), "a request that is made again says the same"
    assert TOKEN not in log
