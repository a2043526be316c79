"""Passing webhooks on to the application's handler: byte for byte, in order, once, for days, and what is said of it.

Real PostgreSQL and a real HTTP server for the application. Hours pass by moving every time in the database back.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from paidwatch.clock import SystemClock
from paidwatch.core.model import Notice
from paidwatch.core.render import render
from paidwatch.core.routing import Route, Routing, Severity
from paidwatch.core.story import FORWARD
from paidwatch.flow.forward import DOWN_FROM, PARALLEL, Destination, Forward, Forwarders, Tools
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.outbound import open_session, read_url
from paidwatch.store import forwards, outbox, webhook_list
from paidwatch.store.connect import Target
from paidwatch.store.pool import BY_KEY, Session
from paidwatch.store.pool import Database as Pool
from tests.channels.fakes.http import Received, Service
from tests.channels.fakes.http import serving as listening
from tests.support.postgres import Database
from tests.support.receiver import STATEMENTS, payment, serving, signed, sources
from tests.support.torture import equipment

DAYS = timedelta(days=3)
HOUR = timedelta(hours=1)


class Shop(Service):
    """The application's handler: takes everything, unless told otherwise."""

    def __init__(self) -> None:
        super().__init__(handler=self._take)
        self.refuse: Callable[[Received], web.Response | None] = lambda _request: None
        self.taken: list[bytes] = []
        self.hangs = False

    async def _take(self, request: Received) -> web.Response:
        if self.hangs:
            await anyio.sleep_forever()
        refusal = self.refuse(request)
        if refusal is None:
            self.taken.append(request.body)
        return refusal or web.Response(text="ok")


@dataclass(kw_only=True)
class Bench:
    """An outbox of webhooks, and the application behind it."""

    db: Database
    pool: Pool
    policy: Policy
    shop: Shop
    session: aiohttp.ClientSession
    told: int = 0

    def tools(self) -> Tools:
        clock = SystemClock()
        status = Status(clock=clock)

        def on_told() -> None:
            self.told += 1

        return Tools(
            database=self.pool,
            session=self.session,
            policy=lambda: self.policy,
            clock=clock,
            status=status,
            metrics=Metrics(status=status, version="0", channels=()),
            log=Log("forward"),
            on_told=on_told,
            gives_way=lambda: False,
        )

    def to(self, provider: str = "nowpayments", path: str = "/ipn") -> Destination:
        url = read_url(f"{self.shop.base}{path}")
        assert url is not None
        return Destination(provider=provider, url=url, give_up=DAYS)

    def worker(self, provider: str = "nowpayments") -> Forward:
        """A worker, as a newly started daemon has one."""
        return Forward(self.to(provider), self.tools())

    async def due(self, references: Iterable[str | None], provider: str = "nowpayments") -> list[int]:
        """Webhooks that were believed, in this order; the body of each is its place in it."""
        return [
            await self.db.fetchval(
                "INSERT INTO paidwatch.webhook (provider, body, headers, state, dedupe_key, reference, forward_state,"
                " forward_at, forward_since) VALUES ($1, $2, $3::jsonb, 'verified', gen_random_uuid()::text, $4, 'due',"
                " now(), now()) RETURNING webhook_id",
                provider,
                f"{reference}:{place}".encode(),
                '[["content-type", "application/json"], ["x-nowpayments-sig", "abc"]]',
                reference,
            )
            for place, reference in enumerate(references)
        ]

    async def passes(self, span: timedelta) -> None:
        """Let time pass: everything in the database happened that much earlier."""
        await self.db.execute(
            "UPDATE paidwatch.webhook SET received_at = received_at - $1::interval,"
            " forward_at = forward_at - $1::interval, forward_since = forward_since - $1::interval,"
            " lease_until = lease_until - $1::interval",
            span,
        )
        await self.db.execute(
            "UPDATE paidwatch.forward_target SET not_before = not_before - $1::interval,"
            " down_since = down_since - $1::interval",
            span,
        )

    async def states(self) -> Counter[str]:
        return Counter(row["s"] for row in await self.db.fetch("SELECT forward_state AS s FROM paidwatch.webhook"))

    async def alerts(self) -> list[tuple[str, str, str]]:
        rows = await self.db.fetch("SELECT kind, method, state FROM paidwatch.alert ORDER BY alert_id")
        return [(row["kind"], row["method"], row["state"]) for row in rows]

    async def replay(self, *webhooks: int, again: bool = False) -> list[int]:
        wanted = list(webhooks) or None
        return await self.pool.write(lambda session: webhook_list.replay(session, wanted, again=again, by="ann"))

    async def wait(self) -> timedelta | None:
        return await self.pool.read(lambda session: forwards.wait(session, "nowpayments"))


async def drain(worker: Forward) -> int:
    """Pass on until nothing is due; return how many requests that were."""
    sent = 0
    with anyio.fail_after(30):
        while count := await worker.send_batch():
            sent += count
    return sent


def in_order(taken: Iterable[bytes]) -> bool:
    """Say whether each payment's webhooks came in the order in which they were received."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for body in taken:
        reference, _, place = body.partition(b":")
        places[reference].append(int(place))
    return all(it == sorted(it) for it in places.values())


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    usual = equipment(tmp_path_factory.mktemp("forward")).policy
    return replace(usual, channels=("ops",), routing=replace(usual.routing, usual=("ops",)))


@asynccontextmanager
async def pool_on(db: Database) -> AsyncIterator[Pool]:
    target = Target(dsn=db.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=20))
    async with Pool(target, STATEMENTS, size=6, settings=BY_KEY) as pool:
        yield pool


@pytest.fixture
async def bench(watched: Database, policy: Policy) -> AsyncIterator[Bench]:
    shop = Shop()
    async with listening(shop), open_session() as session, pool_on(watched) as pool:
        yield Bench(db=watched, pool=pool, policy=policy, shop=shop, session=session)


async def test_it_is_passed_on_byte_for_byte_with_its_headers_and_its_number(bench: Bench) -> None:
    body = b'{ "a":1.50,\n "b": "\xc3\xa9" }'
    (webhook,) = await bench.due(["1"])
    await bench.db.execute("UPDATE paidwatch.webhook SET body = $1, log_id = '5'", body)
    assert await drain(bench.worker()) == 1
    (request,) = bench.shop.received
    assert (request.method, request.path, request.body) == ("POST", "/ipn", body)
    assert request.headers["x-nowpayments-sig"] == "abc"
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["paidwatch-webhook"], request.headers["paidwatch-attempt"]) == (str(webhook), "1")
    row = await bench.db.fetchrow("SELECT forward_state, last_code, lease, unlogged FROM paidwatch.webhook")
    assert row is not None
    assert tuple(row) == ("done", "200", None, True)
    assert bench.told == 1, "the application's log is to be told"
    assert await drain(bench.worker()) == 0, "never twice after success"


async def test_one_payment_goes_in_order_and_holds_up_no_other(bench: Bench) -> None:
    await bench.due(["A", "B", "A", None, None, "B"])
    bench.shop.refuse = lambda request: web.Response(status=500) if request.body == b"A:0" else None
    await drain(bench.worker())
    assert set(bench.shop.taken) == {b"B:1", b"None:3", b"None:4", b"B:5"}
    bench.shop.refuse = lambda _request: None
    await bench.passes(HOUR)
    await drain(bench.worker())
    assert bench.shop.taken[4:] == [b"A:0", b"A:2"]
    assert in_order(bench.shop.taken)


async def test_a_handler_that_is_away_for_long_gets_everything_once_and_in_order(bench: Bench) -> None:
    await bench.due([str(n % 20) for n in range(100)])
    bench.shop.refuse = lambda _request: web.Response(status=503)
    for _ in range(30):
        # A restart each time: what is known of the handler is in the database.
        await drain(bench.worker())
        await bench.passes(timedelta(minutes=15))
    assert len(bench.shop.received) <= PARALLEL + DOWN_FROM + 30, "a handler that is away is asked with one at a time"
    assert await bench.alerts() == [("forward_failed", "nowpayments", "open")]
    assert await bench.states() == Counter(due=100)

    bench.shop.refuse = lambda _request: None
    await bench.passes(HOUR)
    await drain(bench.worker())
    assert len(bench.shop.taken) == len(set(bench.shop.taken)) == 100
    assert in_order(bench.shop.taken)
    assert await bench.states() == Counter(done=100)
    assert await bench.alerts() == [("forward_failed", "nowpayments", "resolved")]


async def test_a_wish_to_wait_holds_over_a_restart_and_for_everything_else(bench: Bench) -> None:
    await bench.due(["A"])
    bench.shop.then(429, headers={"Retry-After": "600"})
    await drain(bench.worker())
    await bench.due(["B"])
    assert await drain(bench.worker()) == 0
    wait = await bench.wait()
    assert wait is not None
    assert timedelta(minutes=9) < wait <= timedelta(minutes=10)
    await bench.passes(timedelta(minutes=10))
    await drain(bench.worker())
    assert sorted(bench.shop.taken) == [b"A:0", b"B:0"]


@pytest.mark.parametrize("status", [400, 401, 404, 422, 302])
async def test_a_refusal_is_final_and_is_told_once_until_a_replay_is_taken(bench: Bench, status: int) -> None:
    first, second, _third = await bench.due(["A", "A", "B"])
    bench.shop.refuse = lambda request: web.Response(status=status) if request.body.startswith(b"A") else None
    await drain(bench.worker())
    assert len(bench.shop.received) == 3, "no second request"
    assert await bench.states() == Counter(dead=2, done=1)
    assert await bench.alerts() == [("forward_failed", "nowpayments", "open")]
    assert await bench.db.fetchval("SELECT count(*) FROM paidwatch.delivery WHERE due_at IS NOT NULL") == 1

    bench.shop.refuse = lambda _request: None
    assert await bench.replay(first) == [first]
    assert await drain(bench.worker()) == 1
    assert await bench.alerts() == [("forward_failed", "nowpayments", "open")], "one is dead still"
    assert await bench.replay() == [second]
    assert await drain(bench.worker()) == 1
    assert await bench.alerts() == [("forward_failed", "nowpayments", "resolved")]
    assert await bench.replay(first) == [], "what was taken is not passed on again unless a person insists"
    assert await bench.replay(first, again=True) == [first]
    assert await drain(bench.worker()) == 1


async def test_it_is_given_up_after_days(bench: Bench) -> None:
    await bench.due(["A"])
    bench.shop.refuse = lambda _request: web.Response(status=500)
    await drain(bench.worker())
    await bench.passes(DAYS - HOUR)
    await drain(bench.worker())
    assert await bench.states() == Counter(due=1)
    await bench.passes(HOUR)
    await drain(bench.worker())
    assert await bench.states() == Counter(dead=1)
    results = await bench.db.fetch("SELECT result, code FROM paidwatch.forward_attempt ORDER BY attempt_id")
    assert [tuple(row) for row in results] == [("transient", "500")] * 3


async def test_a_lost_answer_means_once_more_under_the_same_number(bench: Bench) -> None:
    """The crash point between the application's answer and our commit, seen from the application."""
    (webhook,) = await bench.due(["A"])

    worker = bench.worker()
    worker._database = Cut(bench.pool)  # type: ignore[assignment]
    with pytest.raises(BaseExceptionGroup):
        await worker.send_batch()
    assert bench.shop.taken == [b"A:0"]
    assert await drain(bench.worker()) == 0, "its lease is not over"
    await bench.pool.write(forwards.release)
    assert await drain(bench.worker()) == 1
    numbers = [request.headers["paidwatch-webhook"] for request in bench.shop.received]
    attempts = [request.headers["paidwatch-attempt"] for request in bench.shop.received]
    assert (numbers, attempts) == ([str(webhook)] * 2, ["1", "2"])
    assert await bench.states() == Counter(done=1)


class Cut:
    """A database that takes the lease and then nothing more, as if the daemon had been killed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._writes = 0

    async def write(self, body: Any) -> Any:
        self._writes += 1
        if self._writes > 1:
            message = "killed"
            raise ConnectionAbortedError(message)
        return await self._pool.write(body)


async def test_a_worker_that_lost_its_lease_changes_nothing(bench: Bench) -> None:
    await bench.due(["A"])
    former = bench.worker()
    (passage,) = await former._claim()
    await bench.pool.write(forwards.release)
    assert await drain(bench.worker()) == 1
    await former._pass(passage)
    row = await bench.db.fetchrow("SELECT forward_state, forward_attempts FROM paidwatch.webhook")
    assert row is not None
    assert tuple(row) == ("done", 2)


async def test_a_handler_that_hangs_holds_up_neither_answers_nor_another_provider(bench: Bench) -> None:
    """Everything runs as in the daemon: received over HTTP, passed on, told in the application's log."""
    hanging = Shop()
    hanging.hangs = True
    known = sources(forwards=True)
    known["other"] = replace(known["nowpayments"])
    async with listening(hanging), serving(bench.db, known) as desk:
        slow = read_url(f"{hanging.base}/ipn")
        assert slow is not None
        wanted = (bench.to("other"), Destination(provider="nowpayments", url=slow, give_up=DAYS))
        workers = Forwarders(replace(bench.tools(), on_told=desk.receive.look), lambda: wanted)
        ears = await bench.db.connect()
        await ears.add_listener("paidwatch", lambda *_heard: workers.ring())
        async with anyio.create_task_group() as group:
            workers.hire(group)
            with anyio.fail_after(3):
                assert await desk.send(payment(1)) == 200
            with anyio.fail_after(3):
                assert await desk.post(*signed(payment(2)), provider="other") == 200
            await desk.until("SELECT EXISTS (SELECT FROM public.webhook_logs WHERE processing_status = 'completed')")
            assert bench.shop.taken == [signed(payment(2))[0]]
            assert await desk.logged("payment_id", "processing_status") == [("1", "received"), ("2", "completed")]
            group.cancel_scope.cancel()
        ears.terminate()


async def test_a_reload_changes_the_handlers(bench: Bench) -> None:
    wanted = [bench.to("nowpayments")]
    workers = Forwarders(bench.tools(), lambda: wanted)
    async with anyio.create_task_group() as group:
        workers.hire(group)
        former = workers._workers["nowpayments"]
        wanted[:] = [bench.to("nowpayments", "/other"), bench.to("stripe")]
        workers.hire(group)
        assert set(workers._workers) == {"nowpayments", "stripe"}
        assert workers._workers["nowpayments"] is not former
        workers.stop()


async def test_once_it_takes_one_again_nothing_waits_for_its_back_off(bench: Bench) -> None:
    first, second = await bench.due(["A", "B"])
    bench.shop.refuse = lambda _request: web.Response(status=503)
    await drain(bench.worker())
    bench.shop.refuse = lambda _request: None
    await bench.passes(HOUR)
    await bench.db.execute(
        "UPDATE paidwatch.webhook SET forward_at = now() + interval '10 minutes' WHERE webhook_id = $1", second
    )
    assert await drain(bench.worker()) == 2
    assert [request.headers["paidwatch-webhook"] for request in bench.shop.received[2:]] == [str(first), str(second)]


async def test_the_alert_goes_where_its_kind_goes_and_a_silence_keeps_it_quiet(bench: Bench) -> None:
    routing = Routing(
        usual=("ops",),
        low=frozenset({FORWARD}),
        routes=(Route(channels=("mail",), kinds=frozenset({FORWARD}), severity=Severity.LOW),),
        escalations=(),
    )
    bench.policy = replace(bench.policy, routing=routing, quiet=None)
    bench.shop.refuse = lambda _request: web.Response(status=422)
    await bench.db.execute(
        "INSERT INTO paidwatch.silence (kind, method, author, reason, expires_at)"
        " VALUES ('forward_failed', 'stripe', 'ann', 'known', now() + interval '1 hour')"
    )
    told = "SELECT a.severity, d.channel FROM paidwatch.alert a LEFT JOIN paidwatch.delivery d USING (alert_id)"
    await bench.due(["A"], "stripe")
    await drain(bench.worker("stripe"))
    assert [tuple(row) for row in await bench.db.fetch(told)] == [("low", None)]
    await bench.due(["A"])
    await drain(bench.worker())
    assert [tuple(row) for row in await bench.db.fetch(f"{told} WHERE a.method = 'nowpayments'")] == [("low", "mail")]


async def test_the_alert_says_how_much_waits_as_of_now(bench: Bench) -> None:
    await bench.due(["A", "B"])
    bench.shop.refuse = lambda request: web.Response(status=422 if request.body.startswith(b"A") else 503)
    await drain(bench.worker())
    await bench.due(["C", "D"])

    async def body(session: Session) -> Notice:
        (due,) = await outbox.claim(session, "ops", lease="l", span=HOUR, most=9)
        return render(due.story, now=due.now)

    notice = await bench.pool.write(body)
    facts = {line.label: line.value for line in notice.lines}
    assert notice.subject == "the application does not take webhooks of nowpayments"
    assert (facts["Waiting"], facts["Dead letters"]) == ("3 webhooks", "1")
    assert facts["Reported"] == "the handler answered 422"
    assert notice.command == "paidwatch webhooks list --forward dead"
