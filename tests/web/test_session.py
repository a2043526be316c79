"""The pages for customers over real HTTP on a real database: where they are sent, what they are told, and what not."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from paidwatch.core.session import sign
from paidwatch.store.pool import BY_KEY
from paidwatch.store.statements import Statements
from paidwatch.web.rate import Rate
from paidwatch.web.session import Limits
from paidwatch.web.success import GUESSES
from tests.support import shop
from tests.support.postgres import Database
from tests.support.success import KEY, PAGE, SHOP, Pages, pages, stream
from tests.support.watched import Start

SECOND = timedelta(seconds=1)
BACK = f"{SHOP}/payment/success?lang=en&session_id="
OURS = (
    "SELECT query_start, state FROM pg_stat_activity"
    " WHERE application_name = 'paidwatch sessions' AND datname = current_database()"
)
NOWHERE = {"state": "unknown", "next_poll_after_ms": 15000}


@pytest.fixture
async def served(watched: Database, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages(watched, tmp_path) as them:
        yield them


async def connections(db: Database) -> int:
    return len(await db.fetch(OURS))


async def add_reading(
    db: Database, reference: str, status: str, user: Any, names: Sequence[str] = (), **changes: Any
) -> None:
    """What is made of a webhook in the log."""
    said = {"valid": True, "order_id": None, **changes}
    await db.execute(
        "WITH row AS (INSERT INTO paidwatch.reading"
        " (log_id, method, reference, order_id, status, valid, user_id, plan_id, at)"
        " SELECT count(*)::text, 'nowpayments', $1, $2, $3, $4, $5, 'vip_elite', now() FROM paidwatch.reading"
        " RETURNING log_id) INSERT INTO paidwatch.reading_name (log_id, name)"
        " SELECT row.log_id, name FROM row, unnest($6::text[]) AS name",
        reference,
        said["order_id"],
        status,
        said["valid"],
        user,
        list(names),
    )


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_the_state_is_that_of_the_payment_and_of_the_users_access(watched: Database, served: Pages) -> None:
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    assert await served.state("5745459419") == {"state": "pending", "next_poll_after_ms": 2000}
    assert await served.state("5745459410") == NOWHERE

    await shop.complete(watched, payment)
    assert await served.state("5745459419") == {"state": "paid_activating", "next_poll_after_ms": 2000}

    await shop.activate(watched, user, payment=payment)
    assert await served.state("5745459419") == {"state": "paid_active", "next_poll_after_ms": None}

    await shop.refund(watched, payment)
    assert await served.state("5745459419") == {"state": "failed", "next_poll_after_ms": None}


@pytest.mark.parametrize("shape", ["F", "X"])
async def test_ids_that_can_be_guessed_are_told_about_only_with_a_signature(watched: Database, served: Pages) -> None:
    """Keys are numbers on F and text on X, where a signed number must not break anything."""
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, plan="vip_elite", reference="np-1")
    row, order = str(payment), f"winu_sub_{user}_vip_elite_{int(datetime.now(UTC).timestamp())}"
    other = f"winu_sub_{user}_professional_1732000000"
    if watched.shape == "X":
        order, other = order.replace("vip_elite", "gold"), other.replace("professional", "basic")
    for guessed in (row, order, "np-1"):
        assert await served.state(guessed) == NOWHERE
        assert await served.state(guessed, sign(guessed, KEY + "x")) == NOWHERE
        assert await served.state(guessed, sign("another", KEY)) == NOWHERE
        if watched.shape == "F" or guessed != order:
            assert (await served.state(guessed, sign(guessed, KEY)))["state"] == "pending"
    for signed in (
        other,
        "99999999999999999999",
        "2147483648",
        "-1",
        "0x1",
        "winu_sub_99999999999999_vip_elite_1732000000",
    ):
        assert await served.state(signed, sign(signed, KEY)) == NOWHERE


async def test_an_id_that_fits_two_payments_is_nobodys(watched: Database, served: Pages) -> None:
    user = await shop.add_user(watched)
    first = await shop.add_payment(watched, user, reference="first-payment")
    await shop.add_payment(watched, user, reference=str(first))
    assert await served.state(str(first), sign(str(first), KEY)) == NOWHERE
    assert await served.comes_back({"payment_id": str(first), "sig": sign(str(first), KEY)}) == ""


async def test_money_that_only_a_webhook_speaks_of(watched: Database, served: Pages) -> None:
    """Most ways of paying never write a payment row."""
    user = await shop.add_user(watched)
    order = f"winu_sub_{user}_vip_elite_1732000000"
    await add_reading(watched, "5745459419", "settling", user, order_id=order)
    await add_reading(watched, "5745459420", "paid", user, valid=False)
    assert (await served.state("5745459419"))["state"] == "pending"
    assert await served.state("5745459420") == NOWHERE, "anybody can send a webhook that is not signed"
    await add_reading(watched, "5745459419", "paid", user, order_id=order)
    assert (await served.state("5745459419"))["state"] == "paid_activating"
    assert (await served.state(order, sign(order, KEY)))["state"] == "paid_activating"
    both = {"order_id": order, "NP_id": "5745459419", "sig": sign(order, KEY)}
    assert (await served.comes_back(both)).startswith(BACK + order), "both name the same money"

    await shop.activate(watched, user, plan="vip_elite")
    assert await served.state("5745459419") == {"state": "paid_active", "next_poll_after_ms": None}


@pytest.mark.parametrize("shape", ["F", "L"])
@pytest.mark.parametrize("kept", ["pi_3MtwBwLkdIwHu7ix", "cs_test_a1b2c3d4e5f6", "in_1MtHbELkdIwHu7ix"])
async def test_a_payment_is_found_by_every_name_that_a_signed_webhook_gives_it(
    watched: Database, served: Pages, kept: str
) -> None:
    """The provider sends back one of its ids, the application keeps another one."""
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference=kept)
    them = {"pi_3MtwBwLkdIwHu7ix", "cs_test_a1b2c3d4e5f6", "in_1MtHbELkdIwHu7ix"}
    order = "summer-sale-7k2m9q4x"
    for other in them - {kept}:
        assert await served.state(other) == NOWHERE
    names = [*(them - {"pi_3MtwBwLkdIwHu7ix"}), order]
    await add_reading(watched, "pi_3MtwBwLkdIwHu7ix", "settling", user, valid=False, names=names, order_id=order)
    assert await served.comes_back({"session_id": next(iter(them - {kept}))}) == "", (
        "anybody can send what is not signed"
    )

    await add_reading(watched, "pi_3MtwBwLkdIwHu7ix", "settling", user, names=names, order_id=order)
    for name in them:
        assert (await served.state(name))["state"] == "pending"
        assert await served.comes_back({"session_id": name}) == f"{BACK}{name}"
    everything = [("session_id", name) for name in sorted(them)]
    assert (await served.comes_back(everything)).startswith(BACK), "all of them are one payment"
    assert await served.comes_back({"order_id": order}) == ""
    assert (await served.comes_back({"order_id": order, "sig": sign(order, KEY)})).startswith(BACK)

    await shop.complete(watched, payment)
    await shop.activate(watched, user, payment=payment)
    for name in them:
        assert await served.state(name) == {"state": "paid_active", "next_poll_after_ms": None}, "the row says more"


@pytest.mark.parametrize("shape", ["F", "L"])
async def test_ids_are_looked_up_by_index_also_in_a_young_database(watched: Database) -> None:
    statements = await anyio.to_thread.run_sync(Statements.load)
    for name, value in BY_KEY.items():
        await watched.execute(f"SET {name} = {value}")
    await watched.execute(f"PREPARE look AS {statements['sessions']}")
    call = "'{x}', '{f}', '{NULL}', '{NULL}', '{NULL}', '{f}'"
    plan = "\n".join(row[0] for row in await watched.fetch(f"EXPLAIN EXECUTE look({call})"))
    assert "Seq Scan" not in plan.replace("Seq Scan on pg_type", ""), plan
    for index in ("reading_reference", "reading_name_name", "reading_name_pkey", "reading_pkey"):
        assert index in plan, plan


async def test_where_customers_are_sent(watched: Database, served: Pages) -> None:
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    other = await shop.add_payment(watched, user, reference="cs_test_a1b2c3&d=/")
    for name in ("session_id", "payment_id", "transaction_id", "order_id", "invoice_id", "NP_id"):
        assert await served.comes_back({name: "5745459419"}) == f"{BACK}5745459419"
        assert await served.comes_back({name: "nobody-knows-it"}) == ""
    assert await served.comes_back({"session_id": "cs_test_a1b2c3&d=/"}) == f"{BACK}cs_test_a1b2c3%26d%3D%2F"
    assert (await served.state(quote("cs_test_a1b2c3&d=/", safe="")))["state"] == "pending"
    row, sig = str(payment), sign(str(payment), KEY)
    assert await served.comes_back({"payment_id": row}) == ""
    assert await served.comes_back({"payment_id": row, "sig": sig[::-1]}) == ""
    assert await served.comes_back({"payment_id": row, "sig": sig}) == f"{BACK}{row}&sig={sig}"

    same = [("payment_id", row), ("sig", sig), ("NP_id", "5745459419"), ("NP_id", "5745459419"), ("order_id", "")]
    assert await served.comes_back(same) == f"{BACK}{row}&sig={sig}"
    assert await served.comes_back([("payment_id", str(other)), *same]) == f"{BACK}{row}&sig={sig}", (
        "not signed: not heard"
    )
    two = {"NP_id": "5745459419", "session_id": "cs_test_a1b2c3&d=/"}
    assert await served.comes_back(two) == "", "of two payments it is not known which is meant"
    assert await served.comes_back({**two, "NP_id": "nobody-knows-it"}) == f"{BACK}cs_test_a1b2c3%26d%3D%2F"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"session_id": ""},
        {"session_id": "x" * 256},
        {"session_id": "https://evil.example/"},
        {"session_id": "//evil.example"},
        {"session_id": "5745459419\r\nLocation: https://evil.example"},
        {"url": "https://evil.example/", "next": "//evil.example", "session_id": "nobody-knows-it"},
        {"session_id": "' OR 1=1 --", "sig": "é\x00"},
        {"session_id[]": "5745459419"},
    ],
)
async def test_no_way_leads_elsewhere(watched: Database, tmp_path: Path, query: dict[str, str]) -> None:
    await shop.add_payment(watched, await shop.add_user(watched), reference="5745459419")
    neutral = {"success_page": {**PAGE["success_page"], "unknown_url": f"{SHOP}/thanks"}}
    async with pages(watched, tmp_path) as plain, pages(watched, tmp_path, neutral) as configured:
        assert await plain.comes_back(query) == ""
        assert await configured.comes_back(query) == f"{SHOP}/thanks"
        async with plain.client.get("/payment/return", params=query) as answer:
            text = await answer.text()
            assert "evil" not in text
            assert "57454" not in text
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert answer.headers["Cache-Control"] == "no-store"


async def test_nothing_personal_is_said_and_nothing_may_be_kept(watched: Database, served: Pages) -> None:
    user = await shop.add_user(watched, email="ada@example.org")
    await shop.add_payment(watched, user, reference="5745459419")
    for path in ("/v1/session/5745459419", "/v1/session/nobody-knows-it", "/v1/session/1", "/v1/session/%20"):
        async with served.client.get(path) as answer:
            assert set(await answer.json()) == {"state", "next_poll_after_ms"}
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "Server" not in answer.headers
    async with stream(served, "5745459419") as events:
        assert set(await events.next()) == {"state", "next_poll_after_ms"}
        assert events.answer.headers["Cache-Control"] == "no-store"


async def test_scripts_of_the_shop_may_read_and_others_may_not(watched: Database, tmp_path: Path) -> None:
    async with pages(watched, tmp_path, PAGE, rate=Rate(burst=4, refill=30 * SECOND)) as served:
        for path in ("/v1/session/5745459419", "/v1/session/1/events"):
            for origin, allowed in ((SHOP, SHOP), ("https://evil.example", None), ("null", None)):
                async with served.client.get(path, headers={"Origin": origin}) as answer:
                    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                    assert answer.headers["Vary"] == "Origin"
            async with served.client.get(path, headers={"Origin": SHOP}) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == SHOP, "also where it is refused"
                assert answer.status == (200 if path.endswith("9") else 429)


async def test_who_asks_too_much_is_told_when_to_come_again(watched: Database, tmp_path: Path) -> None:
    async with pages(watched, tmp_path, PAGE, rate=Rate(burst=3, refill=30 * SECOND)) as served:
        for path, expected in (
            ("/v1/session/5745459419", 200),
            ("/v1/session/1/events", 200),
            ("/payment/return?NP_id=1", 200),
            ("/v1/session/5745459419", 429),
            ("/v1/session/5745459419/events", 429),
            ("/payment/return?NP_id=1", 429),
        ):
            async with served.client.get(path) as answer:
                assert answer.status == expected, path
                assert answer.headers.get("Retry-After") == (None if expected == 200 else "30")
        forwarded = {"X-Forwarded-For": "198.51.100.7"}
        async with served.client.get("/v1/session/5745459419", headers=forwarded) as answer:
            assert answer.status == 200, "behind the proxy somebody else asks"


async def test_who_tries_one_number_after_the_other_is_stopped(watched: Database, served: Pages) -> None:
    """A provider's number comes back without a signature; nobody may find the payments of others by counting."""
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    await shop.add_payment(watched, user, reference="cs_test_a1b2c3d4e5f6")
    for number in range(GUESSES.burst):
        assert await served.state(str(5745450000 + number)) == NOWHERE
    for path in ("5745459418", "5745459419", "5745459419/events", "5745459418/events"):
        async with served.client.get(f"/v1/session/{path}") as answer:
            assert answer.status == 429, "what exists and what does not are the same"
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
    for back in ("5745459418", "5745459419"):
        assert await served.comes_back({"NP_id": back}) == f"{BACK}{back}", "sent on, unseen"
    assert await served.comes_back({"NP_id": "5745459418", "session_id": "nobody-knows-it"}) == ""

    assert await served.state("5745450000") == NOWHERE, "asking again is no guess"
    assert (await served.state("cs_test_a1b2c3d4e5f6"))["state"] == "pending", "nor is an id that cannot be guessed"
    row = str(payment)
    assert (await served.state(row, sign(row, KEY)))["state"] == "pending", "nor what the shop vouches for"
    elsewhere = {"X-Forwarded-For": "198.51.100.7"}
    async with served.client.get("/v1/session/5745459419", headers=elsewhere) as answer:
        assert (await answer.json())["state"] == "pending"


async def test_numbers_that_are_known_are_no_guesses(watched: Database, served: Pages) -> None:
    """Many customers may sit behind one address. Some are there before anything is known of their payments."""
    user = await shop.add_user(watched)
    order = f"winu_sub_{user}_professional_1732000000"
    for number in range(GUESSES.burst - 2):
        assert await served.state(str(5745450000 + number)) == NOWHERE
    for number in range(10):
        payments = [str(5745459400 + 3 * number + one) for one in range(3)]
        for reference in payments:
            await shop.add_payment(watched, user, reference=reference)
        assert await served.comes_back({"order_id": order, "NP_id": payments[0]}) == f"{BACK}{payments[0]}"
        assert (await served.state(payments[1]))["state"] == "pending"
        async with stream(served, payments[2]) as events:
            assert (await events.next())["state"] == "pending"
        for again in payments:
            assert (await served.state(again))["state"] == "pending"
    await shop.add_payment(watched, user, reference="5745450000")
    assert (await served.state("5745450000"))["state"] == "pending", "it came to be known"


async def test_a_stream_tells_each_change_the_moment_it_happens(watched: Database, served: Pages, start: Start) -> None:
    """The daemon is another process, as if these pages were a standby's; its hints come through the database."""
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    async with start({"grace": {"default": "1h"}}) as daemon:
        await daemon.ready()
        async with stream(served, "5745459419") as events:
            assert await events.next() == {"state": "pending", "next_poll_after_ms": 2000}
            await shop.complete(watched, payment)
            assert await events.next() == {"state": "paid_activating", "next_poll_after_ms": 2000}
            await shop.activate(watched, user, payment=payment)
            assert await events.next() == {"state": "paid_active", "next_poll_after_ms": None}
            assert await events.next() is None, "there is nothing more to come"
            assert events.ids == ["pending", "paid_activating", "paid_active"]


async def test_a_browser_that_comes_again_is_not_told_the_same_again(watched: Database, tmp_path: Path) -> None:
    user = await shop.add_user(watched)
    payment = await shop.add_payment(watched, user, reference="5745459419")
    limits = Limits(heartbeat=timedelta(milliseconds=1), longest=timedelta(milliseconds=200))
    async with pages(watched, tmp_path, PAGE, limits=limits) as served:
        async with stream(served, "5745459419") as events:
            assert (await events.next())["state"] == "pending"
            assert await events.next() is None, "it ends after a while"
        async with stream(served, "5745459419", heard="pending") as events:
            assert await events.next() is None
            assert events.comments > 1
        await shop.complete(watched, payment)
        async with stream(served, "5745459419", heard="pending") as events:
            assert (await events.next())["state"] == "paid_activating", "what happened between two streams is told"
        await shop.activate(watched, user, payment=payment)
        async with stream(served, "5745459419", heard="paid_activating") as events:
            assert (await events.next())["state"] == "paid_active"
            assert await events.next() is None
        async with stream(served, "5745459419", heard="paid_active") as events:
            assert events.answer.status == 204, "which stops an EventSource"
        async with stream(served, "1", heard="unknown") as events:
            assert events.answer.status == 204


async def test_streams_are_bounded_over_all_and_for_each_client(watched: Database, tmp_path: Path) -> None:
    limits = Limits(per_client=2, streams=3, heartbeat=timedelta(milliseconds=1))
    async with pages(watched, tmp_path, PAGE, limits=limits) as served, AsyncExitStack() as stack:

        async def open_one(client: str) -> tuple[int, str | None]:
            headers = {"X-Forwarded-For": client}
            request = served.client.get("/v1/session/nobody-knows-it/events", headers=headers)
            answer = await stack.enter_async_context(request)
            return answer.status, answer.headers.get("Retry-After")

        assert [await open_one("192.0.2.1") for _ in range(3)] == [(200, None), (200, None), (429, "1")]
        assert [await open_one("192.0.2.2") for _ in range(2)] == [(200, None), (503, "5")]
        await stack.aclose()
        with anyio.fail_after(20):
            while (await open_one("192.0.2.1"))[0] != 200:
                await anyio.lowlevel.checkpoint()


async def test_one_connection_serves_all_and_nothing_is_polled(watched: Database, tmp_path: Path) -> None:
    user = await shop.add_user(watched)
    payments = [await shop.add_payment(watched, user, reference=f"574545941{number}") for number in range(5)]
    limits = Limits(heartbeat=timedelta(milliseconds=1))
    async with pages(watched, tmp_path, PAGE, limits=limits) as served, AsyncExitStack() as stack:
        assert await connections(watched) == 0, "nobody asks"
        streams = [
            await stack.enter_async_context(stream(served, f"574545941{number}")) for number in range(len(payments))
        ]
        for one in streams:
            assert (await one.next())["state"] == "pending"
        assert await connections(watched) == 1
        before = await watched.fetchrow(OURS)
        for _ in range(10):
            await streams[0].heartbeat()
        await shop.complete(watched, payments[0])
        await streams[0].heartbeat()
        assert await watched.fetchrow(OURS) == before, "without a hint nobody looks"
        await watched.execute("SELECT pg_notify('paidwatch_feed', '')")
        assert (await streams[0].next())["state"] == "paid_activating"


async def test_a_reader_that_does_not_read_is_dropped(
    watched: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.add_payment(watched, await shop.add_user(watched), reference="5745459419")
    limits = Limits(
        heartbeat=timedelta(microseconds=1), write=timedelta(milliseconds=50), longest=timedelta(hours=1), per_client=1
    )
    async with pages(watched, tmp_path, PAGE, limits=limits, narrow=True) as served:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
            lazy.sendall(b"GET /v1/session/5745459419/events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await anyio.to_thread.run_sync(lazy.recv, 12) == b"HTTP/1.1 200"
            with anyio.fail_after(30):
                while True:
                    async with stream(served, "5745459419") as events:
                        if events.answer.status == 200:
                            break
                        assert events.answer.status == 429, "the lazy one has the only place"
    assert [it for it in caplog.records if it.__dict__.get("event") == "http.failed"] == []


async def test_shutdown_ends_streams_at_once(watched: Database, tmp_path: Path) -> None:
    await shop.add_payment(watched, await shop.add_user(watched), reference="5745459419")
    async with pages(watched, tmp_path) as served, stream(served, "5745459419") as events:
        assert (await events.next())["state"] == "pending"
        # What the server says first of all when it is told to end; what still runs after that is given some time.
        await served.app.shutdown()
        assert await events.next() is None


async def test_while_the_database_is_away_nothing_is_said_and_nobody_is_turned_away(
    watched: Database, tmp_path: Path
) -> None:
    """A customer who comes back meanwhile goes to the page whose script asks again."""
    async with pages(watched, tmp_path, dsn=watched.dsn.replace(watched.name, "no_such_database")) as served:
        for path in ("/v1/session/5745459419", "/v1/session/5745459419/events"):
            async with served.client.get(path) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert await answer.json() == {"error": "not available at present"}
        assert await served.comes_back({"NP_id": "5745459419"}) == f"{BACK}5745459419"
        assert await served.comes_back({"NP_id": "12"}) == ""
        assert await served.state("12") == NOWHERE


async def test_a_stream_outlives_the_connection_to_the_database(watched: Database, served: Pages) -> None:
    payment = await shop.add_payment(watched, await shop.add_user(watched), reference="5745459419")
    async with stream(served, "5745459419") as events:
        assert (await events.next())["state"] == "pending"
        await shop.complete(watched, payment)
        await watched.fetch(OURS.replace("query_start, state", "pg_terminate_backend(pid)"))
        assert (await events.next())["state"] == "paid_activating", "the first look on the new connection sees it"


async def test_ordinary_payments_are_hinted_at_only_while_somebody_waits(
    watched: Database, tmp_path: Path, start: Start
) -> None:
    """A NOTIFY takes a lock of the whole cluster; see also the test of the live view's hints."""
    user = await shop.add_user(watched)
    hints: list[str] = []
    async with watched.another() as ear, start({"grace": {"default": "1h"}}) as daemon:
        await (await ear.connection()).add_listener("paidwatch_customers", lambda *_: hints.append("hint"))
        await daemon.ready()
        for number in range(3):
            payment = await shop.add_payment(watched, user, status="completed", reference=f"574545942{number}")
            await daemon.database_by_asking(
                watched, f"SELECT EXISTS (SELECT FROM paidwatch.watch WHERE payment_id = {payment})"
            )
        await ear.fetch("SELECT 1")
        assert hints == []
        async with pages(watched, tmp_path) as served, stream(served, "5745459423") as events:
            assert (await events.next())["state"] == "unknown"
            await shop.add_payment(watched, user, status="completed", reference="5745459423")
            assert (await events.next())["state"] == "paid_activating"
        await ear.fetch("SELECT 1")
        assert hints


async def test_hints_alone_keep_no_connection_open(
    watched: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is open every piece of news costs a NOTIFY, so it ends with the last who asked, however much happens."""
    monkeypatch.setattr("paidwatch.flow.follow.IDLE", SECOND)
    async with pages(watched, tmp_path) as served:
        await served.state("5745459419")
        assert await connections(watched) == 1
        with anyio.fail_after(15):
            while await connections(watched):
                await watched.execute("NOTIFY paidwatch_customers")


@pytest.mark.parametrize("shape", ["F"])
async def test_a_number_that_becomes_known_while_its_customer_waits_was_no_guess(
    watched: Database, served: Pages, start: Start
) -> None:
    """They are back before the first webhook; more of them than may guess, behind one address."""
    async with start({"grace": {"default": "1h"}}) as daemon:
        await daemon.ready()
        for number in range(GUESSES.burst + 1):
            reference = str(5745450000 + number)
            async with served.client.get(f"/v1/session/{reference}/events") as answer:
                assert answer.status == 200, number
                seen = b""
                with anyio.fail_after(20):
                    while b"unknown" not in seen:
                        seen += await answer.content.readany()
                    user = await shop.add_user(watched)
                    payment = await shop.add_payment(watched, user, reference=reference)
                    await shop.complete(watched, payment)
                    while b"paid_activating" not in seen:
                        seen += await answer.content.readany()
                    await shop.activate(watched, user, payment=payment)
                    assert b"paid_active" in await answer.content.read()
