"""The discipline per destination: pace, wishes to wait, back-off, broken channels, dead letters, digests.

Real PostgreSQL, real requests to a local service. Hours pass by moving every time in the database back; the pace is
kept on a clock that only sleeping moves, so the documented rates are enforced as they are.
"""

import json
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from aiohttp import web
from pydantic import SecretStr

from paidwatch.channels import build
from paidwatch.channels.discord import PACE as DISCORD_PACE
from paidwatch.channels.http import open_session
from paidwatch.channels.settings import DiscordSettings, Settings, SlackSettings, WebhookSettings
from paidwatch.channels.slack import PACE as SLACK_PACE
from paidwatch.config import load
from paidwatch.core.schedule import QuietHours
from paidwatch.errors import DeliveryError, Fault
from paidwatch.flow.deliver import BROKEN_PAUSE, Deliver
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Message, Receipt, Transport
from paidwatch.store import outbox
from paidwatch.store.connect import Target
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of
from tests.channels.fakes.http import Received, Service, serving
from tests.ops.still_clock import StillClock
from tests.support.postgres import Database

WITHIN = 20.0
NAMES = ("ops", "team", "spare")


class Desk(Service):
    """A service that takes everything, unless told otherwise; it can be waited for."""

    def __init__(self) -> None:
        super().__init__(handler=self._take)
        self.refuse: Callable[[], web.Response] | None = None
        self.requests: Counter[str] = Counter()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._news = anyio.Event()

    async def _take(self, request: Received) -> web.Response:
        name = request.path.strip("/").split("/")[0]
        self.requests[name] += 1
        answer = self.refuse() if self.refuse is not None and name == "ops" else None
        if answer is None:
            self.told.append((name, json.loads(request.body)["data"]))
        self._news.set()
        self._news = anyio.Event()
        return answer or web.Response(text="ok")

    def of(self, name: str, *, kind: str | None = None) -> list[dict[str, Any]]:
        return [data for told, data in self.told if told == name and kind in {None, data["kind"]}]

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.move_on_after(WITHIN):
            while not condition():
                await self._news.wait()
        assert condition(), f"only this came: {self.requests} {[(n, d['word'], d['kind']) for n, d in self.told]}"


class Scripted:
    """A channel whose answers are laid out; what it was sent is kept."""

    name = "ops"
    kind = "scripted"
    pace = timedelta()

    def __init__(self, *answers: DeliveryError | Receipt, parallel: int = 1) -> None:
        self.answers = deque(answers)
        self.parallel = parallel
        self.messages: list[Message] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    async def send(self, message: Message) -> Receipt:
        self.messages.append(message)
        if self.during is not None:
            await self.during()
        answer = self.answers.popleft() if self.answers else Receipt(reference={}, code="200", size=1)
        if isinstance(answer, DeliveryError):
            raise answer
        return answer

    async def aclose(self) -> None: ...


@dataclass(kw_only=True)
class Bench:
    """One outbox and one service behind every channel."""

    db: Database
    pool: Pool
    policy: Policy
    desk: Desk
    clock: StillClock
    session: Any

    def deliver(self, transport: Transport | str = "ops") -> Deliver:
        """A worker, as a newly started daemon has one."""
        if isinstance(transport, str):
            settings = WebhookSettings(url=SecretStr(f"{self.desk.base}/{transport}"), pace=timedelta())
            transport = build(transport, settings, session=self.session)
        status = Status(clock=self.clock)
        metrics = Metrics(status=status, version="0", channels=NAMES)
        return Deliver(
            transport=transport,
            database=self.pool,
            policy=lambda: self.policy,
            clock=self.clock,
            status=status,
            metrics=metrics,
            log=Log(),
        )

    async def alerts(self, count: int, *channels: str, kind: str = "paid_not_active", state: str = "open") -> list[int]:
        """Open alerts, due now on these channels."""
        rows = await self.db.fetch(
            "WITH told AS (INSERT INTO paidwatch.alert (kind, payment_id, user_id, cause, state, resolved_at, look_at)"
            " SELECT $1, 1000 + coalesce((SELECT max(alert_id) FROM paidwatch.alert), 0) + n, n, 'no webhook', $2,"
            " CASE WHEN $2 = 'resolved' THEN now() END, NULL FROM generate_series(1, $3) n RETURNING alert_id),"
            " queued AS (INSERT INTO paidwatch.delivery (alert_id, channel, due_at)"
            " SELECT alert_id, c, now() FROM told, unnest($4::text[]) c)"
            " SELECT alert_id FROM told ORDER BY alert_id",
            kind,
            state,
            count,
            list(channels or ("ops",)),
        )
        return [row["alert_id"] for row in rows]

    async def close(self, *alerts: int) -> None:
        """End alerts, as the verdict does."""
        await self.db.execute(
            "WITH over AS (UPDATE paidwatch.alert SET state = 'resolved', outcome = 'activated', resolved_at = now(),"
            " revision = revision + 1 WHERE alert_id = ANY ($1::bigint[]) RETURNING alert_id)"
            " UPDATE paidwatch.delivery x SET"
            " due_at = CASE WHEN x.lease_until > now() THEN x.due_at ELSE greatest(now(), x.not_before) END"
            " FROM over o WHERE x.alert_id = o.alert_id AND (x.dead_at IS NULL OR x.told_revision > 0)",
            list(alerts),
        )

    async def passes(self, span: timedelta) -> None:
        """Let time pass: everything in the database happened that much earlier."""
        await self.db.execute(
            "UPDATE paidwatch.delivery SET due_at = due_at - $1::interval, not_before = not_before - $1::interval,"
            " trying_since = trying_since - $1::interval, told_at = told_at - $1::interval,"
            " lease_until = lease_until - $1::interval, dead_at = dead_at - $1::interval",
            span,
        )
        await self.db.execute(
            "UPDATE paidwatch.channel SET not_before = not_before - $1::interval,"
            " down_since = down_since - $1::interval",
            span,
        )

    async def next_try(self, channel: str = "ops") -> timedelta | None:
        """How long until anything may be sent to a channel."""
        rest: timedelta | None = await self.db.fetchval(
            "SELECT greatest((SELECT min(due_at) FROM paidwatch.delivery WHERE channel = $1 AND due_at IS NOT NULL),"
            " (SELECT not_before FROM paidwatch.channel WHERE name = $1)) - clock_timestamp()",
            channel,
        )
        return rest

    async def states(self, channel: str = "ops") -> Counter[str]:
        """How many messages are in which state, as `paidwatch deliveries` says it."""
        rows = await self.pool.read(lambda session: session.rows("list_deliveries", channel, None, 10_000))
        return Counter(row["state"] for row in rows)

    @asynccontextmanager
    async def running(self, *channels: str) -> AsyncIterator[dict[str, Deliver]]:
        """Workers of these channels, rung as the daemon's listener rings them."""
        workers = {name: self.deliver(name) for name in channels}

        def ring(*_heard: Any) -> None:
            for worker in workers.values():
                worker.wake.ring()

        ears = await self.db.connect()
        await ears.add_listener("paidwatch", ring)
        async with anyio.create_task_group() as group:
            for worker in workers.values():
                group.start_soon(worker.run)
            yield workers
            for worker in workers.values():
                worker.stop()
        ears.terminate()


def told_in(digest: dict[str, Any]) -> set[int]:
    """The alerts that a digest tells."""
    return {int(number) for number in re.findall(r'"#(\d+) ', json.dumps(digest["lines"]))}


async def drain(deliver: Deliver) -> int:
    """Send until nothing is due; return how many messages were."""
    sent = 0
    with anyio.fail_after(WITHIN * 3):
        while count := await deliver.send_batch():
            sent += count
    return sent


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file: Path = tmp_path_factory.mktemp("deliver") / "paidwatch.toml"
    file.touch(mode=0o600)
    channels = "".join(
        f'[channels.{name}]\ntype = "webhook"\nurl = "http://127.0.0.1/{name}"\n' for name in ("ops", "team", "spare")
    )
    file.write_text(
        f'[database]\ndsn = "postgresql://nobody@localhost/none"\n{channels}[alerts]\nchannels = ["ops", "team"]\n'
    )
    return policy_of(load(file, {}, needs_database=True))


@pytest.fixture(scope="module")
def statements() -> Statements:
    return Statements.load()


@pytest.fixture
async def bench(watched: Database, policy: Policy, statements: Statements) -> AsyncIterator[Bench]:
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=60))
    async with serving(Desk()) as desk, open_session() as session, Pool(target, statements, size=6) as pool:
        assert isinstance(desk, Desk)
        yield Bench(db=watched, pool=pool, policy=policy, desk=desk, clock=StillClock(), session=session)


def busy(status: int = 429, body: Any = None, **headers: str) -> Callable[[], web.Response]:
    def answer() -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body or {}, status=status, headers=named)

    return answer


def transient(**more: Any) -> DeliveryError:
    return DeliveryError("the service answered 503", fault=Fault.TRANSIENT, code="503", **more)


# A wish to wait: B1


def busy_until_a_date() -> web.Response:
    whole = datetime.now(UTC).replace(microsecond=0)
    return busy(Retry_After=format_datetime(whole + timedelta(seconds=91), usegmt=True))()


WISHES = {
    "int": (busy(Retry_After="90"), 90),
    "float": (busy(Retry_After="90.25"), 90.25),
    "date": (busy_until_a_date, 90),
    "json": (busy(body={"retry_after": 90.5, "global": False}), 90.5),
    "503": (busy(503, Retry_After="90"), 90),
}


@pytest.mark.parametrize("form", list(WISHES))
async def test_b1_a_wish_to_wait_is_never_undercut_and_survives_a_restart(bench: Bench, form: str) -> None:
    bench.desk.refuse, seconds = WISHES[form]
    await bench.alerts(3)
    before = await bench.db.fetchval("SELECT clock_timestamp()")
    assert await drain(bench.deliver()) == 1, "the others wait too"
    until = await bench.db.fetchval("SELECT not_before FROM paidwatch.channel WHERE name = 'ops'")
    assert until - before >= timedelta(seconds=seconds)
    bench.desk.refuse = None
    await bench.passes(timedelta(seconds=seconds - 30))
    assert await drain(bench.deliver()) == 0, "a restarted daemon asks no earlier"
    assert bench.desk.requests["ops"] == 1
    await bench.passes(timedelta(seconds=31))
    assert await drain(bench.deliver()) == 3


async def test_b1_a_wish_to_wait_holds_up_no_other_channel(bench: Bench) -> None:
    bench.desk.refuse = busy(Retry_After="3600")
    await bench.alerts(20, "ops", "team")
    async with bench.running("ops", "team"):
        await bench.desk.until(lambda: len(bench.desk.of("team")) == 20)
    assert bench.desk.requests["ops"] == 1
    assert bench.desk.of("ops") == []


async def test_b1_a_shorter_wish_does_not_shorten_a_longer_one(bench: Bench) -> None:
    """Two requests were under way; the first answer asked for half an hour, the second for a second."""
    await bench.alerts(2)
    first, second = (
        bench.deliver(Scripted(transient(retry_after=span))) for span in (timedelta(minutes=30), timedelta(seconds=1))
    )
    both = [(deliver, (await deliver._claim(1))[0]) for deliver in (first, second)]
    for deliver, due in both:
        await deliver._tell(due, deliver._refusals)
    until = await bench.db.fetchval("SELECT not_before - now() FROM paidwatch.channel WHERE name = 'ops'")
    assert until > timedelta(minutes=29)


async def test_b1_what_was_claimed_before_the_wish_is_not_sent(bench: Bench) -> None:
    transport = Scripted(
        Receipt(reference={}, code="200", size=1), transient(retry_after=timedelta(minutes=5)), parallel=4
    )
    deliver = bench.deliver(transport)
    await bench.alerts(5)
    deliver._proven = True
    transport.pace = timedelta(seconds=1)
    told = [due.story.alert_id for due in await deliver._claim(4)]
    assert len(told) == 4
    await bench.db.execute("UPDATE paidwatch.delivery SET due_at = now(), lease = NULL")
    refusals = deliver._refusals
    batch = await deliver._claim(4)
    for due in batch:
        await deliver._tell(due, refusals)
    assert len(transport.messages) == 2, "one was taken, one was answered with the wish"
    assert await bench.states() == {"sent": 1, "due": 4}
    assert await bench.db.fetchval("SELECT count(*) FROM paidwatch.delivery WHERE lease IS NOT NULL") == 0
    assert await bench.db.fetchval("SELECT count(*) FROM paidwatch.attempt") == 2


async def test_a_pause_that_comes_with_an_acceptance_is_kept(bench: Bench) -> None:
    transport = Scripted(Receipt(reference={}, code="200", size=1, pause=timedelta(seconds=40)))
    await bench.alerts(2)
    assert await drain(bench.deliver(transport)) == 1
    rest = await bench.next_try()
    assert rest is not None
    assert timedelta(seconds=30) < rest <= timedelta(seconds=40)
    await bench.passes(timedelta(seconds=41))
    assert await drain(bench.deliver(transport)) == 1


# The documented rates: B2


class Strict(Service):
    """Takes no more than `most` requests in `span`, by the clock of the test, and answers 429 beyond that."""

    def __init__(self, clock: StillClock, limits: dict[timedelta, int], answer: Callable[[], web.Response]) -> None:
        super().__init__(handler=self._take)
        self.clock = clock
        self.limits = limits
        self.taken: list[timedelta] = []
        self.refused = 0
        self._answer = answer

    async def _take(self, _request: Received) -> web.Response:
        now = self.clock.monotonic()
        for span, most in self.limits.items():
            if sum(1 for at in self.taken if at > now - span) >= most:
                self.refused += 1
                return web.json_response({"retry_after": 1, "ok": False, "error": "rate_limited"}, status=429)
        self.taken.append(now)
        return self._answer()


STRICT: dict[str, tuple[dict[timedelta, int], Callable[[], web.Response]]] = {
    # One message per second.
    "slack": ({timedelta(seconds=1): 1}, lambda: web.Response(text="ok")),
    # Five requests in two seconds, thirty messages in a minute.
    "discord": (
        {timedelta(seconds=2): 5, timedelta(seconds=60): 30},
        lambda: web.json_response({"id": "1", "channel_id": "1"}),
    ),
}


@pytest.mark.parametrize("kind", list(STRICT))
async def test_b2_a_hundred_queued_alerts_provoke_no_429(bench: Bench, kind: str) -> None:
    limits, answer = STRICT[kind]
    await bench.alerts(100)
    async with serving(Strict(bench.clock, limits, answer)) as service:
        assert isinstance(service, Strict)
        deliver = bench.deliver(build("ops", settings_for(kind, service.base), session=bench.session))
        assert await drain(deliver) == 100
        assert service.refused == 0
        assert len(service.taken) == 100
        spacing = SLACK_PACE if kind == "slack" else DISCORD_PACE
        assert bench.clock.passed >= spacing * 99
    assert await bench.states() == {"sent": 100}


def settings_for(kind: str, base: str) -> Settings:
    url = SecretStr(f"{base}/api/webhooks/1/x")
    return SlackSettings(url=url) if kind == "slack" else DiscordSettings(url=url)


async def test_b2_the_fake_does_refuse_who_keeps_no_pace(bench: Bench) -> None:
    limits, answer = STRICT["slack"]
    await bench.alerts(3)
    async with serving(Strict(bench.clock, limits, answer)) as service:
        assert isinstance(service, Strict)
        hasty = SlackSettings(url=SecretStr(f"{service.base}/x"), pace=timedelta())
        await drain(bench.deliver(build("ops", hasty, session=bench.session)))
        assert service.refused == 1, "and the wish to wait ended it"


async def test_the_pace_is_kept_over_a_restart(bench: Bench) -> None:
    await bench.alerts(2)
    first = Scripted()
    await bench.deliver(first).send_batch()
    second = Scripted()
    second.pace = timedelta(minutes=10)
    deliver = bench.deliver(second)
    await deliver._remember_pace()
    await deliver.send_batch()
    assert timedelta(minutes=9) < bench.clock.passed <= timedelta(minutes=10)


# Backing off: B3


async def test_b3_the_back_off_grows_to_its_bound_with_full_jitter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.alerts(1)
    waits: list[float] = []
    for roll in (1.0, 1.0, 1.0, 0.0, 0.5, *[1.0] * 8):
        monkeypatch.setattr("paidwatch.flow.deliver.random.random", lambda roll=roll: roll)
        await bench.deliver(Scripted(transient())).send_batch()
        rest = await bench.next_try()
        assert rest is not None
        waits.append(rest.total_seconds())
        await bench.db.execute("UPDATE paidwatch.delivery SET due_at = now(), not_before = NULL")
    assert [round(wait) for wait in waits[:5]] == [4, 8, 16, 2, 33]
    assert [round(wait) for wait in waits[-3:]] == [900, 900, 900]


async def test_b3_after_a_day_it_is_a_dead_letter(bench: Bench) -> None:
    await bench.alerts(1)
    await bench.deliver(Scripted(transient())).send_batch()
    await bench.passes(timedelta(hours=23, minutes=59))
    await bench.deliver(Scripted(transient())).send_batch()
    assert (await bench.states())["dead"] == 0
    await bench.passes(timedelta(minutes=16))
    await bench.deliver(Scripted(transient())).send_batch()
    assert await bench.states() == {"dead": 1}


@pytest.mark.parametrize("wish", ["1e300", "999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_b3_an_absurd_wish_is_clamped(bench: Bench, wish: str) -> None:
    bench.desk.refuse = busy(Retry_After=wish)
    await bench.alerts(1)
    await drain(bench.deliver())
    rest = await bench.next_try()
    assert rest is not None
    assert timedelta(minutes=59) < rest <= timedelta(hours=1)


# A broken channel: B5


async def test_b5_a_broken_channel_is_told_elsewhere_and_what_waited_comes_as_one(bench: Bench) -> None:
    bench.desk.refuse = busy(404)
    gaps = await bench.alerts(20)
    async with bench.running("ops", "team", "spare"):
        await bench.desk.until(lambda: len(bench.desk.of("team", kind="channel_down")) == 1)
        more = await bench.alerts(5)
        await bench.db.execute("SELECT pg_notify('paidwatch', 'outbox')")
    assert bench.desk.requests["ops"] <= 2
    assert bench.desk.of("spare") == [], "it is not among the usual ones"
    [down] = bench.desk.of("team")
    assert (down["word"], down["open"]) == ("NEW", True)
    assert "ops" in down["subject"]
    assert await bench.db.fetchval("SELECT down_since IS NOT NULL FROM paidwatch.channel WHERE name = 'ops'")
    assert (await bench.states())["held"] >= 20

    asked = bench.desk.requests["ops"]
    await bench.passes(BROKEN_PAUSE + timedelta(seconds=1))
    async with bench.running("ops", "team"):
        await bench.desk.until(lambda: bench.desk.requests["ops"] > asked)
    assert bench.desk.requests["ops"] == asked + 1, "asked again, by one message"
    assert len(bench.desk.of("team")) == 1, "and that is no news"

    await bench.close(*gaps[5:15])
    bench.desk.refuse = None
    await bench.passes(BROKEN_PAUSE + timedelta(seconds=1))
    async with bench.running("ops", "team"):
        await bench.desk.until(lambda: bool(bench.desk.of("ops", kind="held")) and len(bench.desk.of("team")) == 2)
    assert await drain(bench.deliver()) == 0
    assert len(bench.desk.of("ops")) == 2, "the message that found it repaired, and one for all the others"
    [digest] = bench.desk.of("ops", kind="held")
    assert told_in(digest) == {*gaps, *more} - {int(bench.desk.of("ops")[0]["alert_id"])}
    assert json.dumps(digest).count("RESOLVED") == 10, "what closed meanwhile is told as it is now"
    assert [(it["word"], it["open"]) for it in bench.desk.of("team")] == [("NEW", True), ("RESOLVED", False)]
    assert await bench.states() == {"sent": 26}
    assert await bench.db.fetchval(
        "SELECT bool_and(d.told_revision = a.revision) FROM paidwatch.delivery d"
        " JOIN paidwatch.alert a ON a.alert_id = d.alert_id"
    )


async def test_b5_a_recovery_after_the_digest_is_told(bench: Bench) -> None:
    gaps = await bench.alerts(5)
    await bench.deliver(Scripted(DeliveryError("gone", fault=Fault.CHANNEL, code="404"))).send_batch()
    await bench.passes(BROKEN_PAUSE)
    transport = Scripted()
    assert await drain(bench.deliver(transport)) == 2
    await bench.close(*gaps)
    assert await drain(bench.deliver(transport)) == 5
    assert [message.notice.word.value for message in transport.messages[2:]] == ["RESOLVED"] * 5


async def test_b5_few_held_messages_come_singly(bench: Bench) -> None:
    await bench.alerts(3)
    await bench.deliver(Scripted(DeliveryError("gone", fault=Fault.CHANNEL, code="404"))).send_batch()
    await bench.passes(BROKEN_PAUSE)
    transport = Scripted()
    assert await drain(bench.deliver(transport)) == 3
    assert {message.notice.kind for message in transport.messages} == {"paid_not_active"}


async def test_b5_the_digest_says_what_is_true_at_each_attempt(bench: Bench) -> None:
    gaps = await bench.alerts(6)
    await bench.deliver(Scripted(DeliveryError("gone", fault=Fault.CHANNEL, code="404"))).send_batch()
    await bench.passes(BROKEN_PAUSE)
    transport = Scripted(Receipt(reference={}, code="200", size=1), transient())
    deliver = bench.deliver(transport)
    assert await deliver.send_batch() == 1
    assert await deliver.send_batch() == 1
    await bench.close(*gaps[2:])
    await bench.passes(timedelta(minutes=1))
    transport.during = lambda: bench.close(gaps[1])
    await deliver.send_batch()
    transport.during = None
    first, second = (str(message.notice.lines) for message in transport.messages[1:3])
    assert (first.count("NEW"), first.count("RESOLVED")) == (5, 0)
    assert (second.count("NEW"), second.count("RESOLVED")) == (1, 4)
    assert transport.messages[1].key == transport.messages[2].key
    assert await drain(deliver) == 1, "what closed while the digest was under way"
    assert transport.messages[-1].notice.word == "RESOLVED"
    assert transport.messages[-1].notice.alert_id == str(gaps[1])
    assert await drain(deliver) == 0


async def test_b5_a_digest_that_is_never_taken_loses_nothing(bench: Bench) -> None:
    await bench.alerts(5)
    await bench.deliver(Scripted(DeliveryError("gone", fault=Fault.CHANNEL, code="404"))).send_batch()
    await bench.passes(BROKEN_PAUSE)
    refused = DeliveryError("too large", fault=Fault.MESSAGE, code="413")
    transport = Scripted(Receipt(reference={}, code="200", size=1), refused)
    assert await drain(bench.deliver(transport)) == 6
    assert Counter(message.notice.kind for message in transport.messages) == {"paid_not_active": 5, "held": 1}
    assert await bench.states() == {"sent": 5, "dead": 1}


async def test_b5_a_message_alone_never_breaks_a_channel(bench: Bench) -> None:
    await bench.alerts(2)
    transport = Scripted(DeliveryError("bad", fault=Fault.MESSAGE, code="400"))
    assert await drain(bench.deliver(transport)) == 2
    assert await bench.db.fetchval("SELECT count(*) FROM paidwatch.channel") == 0
    assert await bench.states() == {"dead": 1, "sent": 1}


async def test_a_channel_that_fails_for_long_is_told_elsewhere_too(bench: Bench) -> None:
    await bench.alerts(5)
    await bench.deliver(Scripted(transient())).send_batch()
    await bench.passes(timedelta(minutes=11))
    await bench.db.execute("UPDATE paidwatch.delivery SET due_at = 'epoch' WHERE trying_since IS NOT NULL")
    await bench.deliver(Scripted(transient())).send_batch()
    assert await bench.db.fetchval("SELECT down_since IS NOT NULL FROM paidwatch.channel WHERE name = 'ops'")
    assert await bench.states("team") == {"due": 1}
    await bench.passes(timedelta(hours=1))
    transport = Scripted()
    await drain(bench.deliver(transport))
    assert [message.notice.kind for message in transport.messages] == ["paid_not_active", "held"]


# Dead letters: B7


async def test_b7_a_dead_letter_is_listed_and_replayed_with_all_its_time(bench: Bench) -> None:
    await bench.alerts(2)
    await bench.deliver(Scripted(transient())).send_batch()
    await bench.passes(timedelta(hours=25))
    await bench.db.execute("UPDATE paidwatch.delivery SET due_at = 'epoch' WHERE trying_since IS NOT NULL")
    await bench.deliver(Scripted(transient())).send_batch()
    assert (await bench.states())["dead"] == 1
    replayed = await bench.pool.write(lambda session: session.rows("replay_deliveries", None, None, "somebody"))
    assert len(replayed) == 1
    await bench.db.execute("UPDATE paidwatch.delivery SET due_at = 'epoch' WHERE replayed_by IS NOT NULL")
    await bench.deliver(Scripted(transient())).send_batch()
    assert (await bench.states())["dead"] == 0, "its day begins anew"
    await bench.passes(timedelta(hours=1))
    assert await drain(bench.deliver(Scripted())) == 2
    assert await bench.states() == {"sent": 2}


# Recoveries


async def test_a8_a_channel_down_for_six_hours_and_the_gap_closed_meanwhile_is_one_truthful_message(
    bench: Bench,
) -> None:
    [gap] = await bench.alerts(1)
    for minutes in (0, 5, 60, 60, 60, 60, 60, 60):
        await bench.passes(timedelta(minutes=minutes))
        await bench.deliver(Scripted(transient())).send_batch()
    await bench.close(gap)
    await bench.passes(timedelta(minutes=16))
    transport = Scripted()
    assert await drain(bench.deliver(transport)) == 1
    [message] = transport.messages
    assert message.notice.word == "RESOLVED"
    assert message.notice.open is False
    assert "There was a gap" in message.notice.summary


async def test_a9_a_recovery_that_fails_ten_times_still_arrives(bench: Bench) -> None:
    [gap] = await bench.alerts(1)
    transport = Scripted()
    await drain(bench.deliver(transport))
    await bench.close(gap)
    transport.answers.extend(transient() for _ in range(10))
    for _ in range(10):
        assert await bench.deliver(transport).send_batch() == 1
        await bench.passes(timedelta(minutes=16))
    assert await drain(bench.deliver(transport)) == 1
    assert [message.notice.word.value for message in transport.messages] == ["NEW", *["RESOLVED"] * 11]
    assert len({message.key for message in transport.messages[1:]}) == 1
    assert await bench.states() == {"sent": 1}


async def test_a_recovery_is_not_lost_when_the_gap_closes_while_the_alert_is_recorded(bench: Bench) -> None:
    """The verdict holds the row while the acceptance is recorded: whoever comes second sees what the first did."""
    [gap] = await bench.alerts(1)
    deliver = bench.deliver(Scripted())
    [due] = await deliver._claim(1)
    other = await bench.db.connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute(
        "UPDATE paidwatch.alert SET state = 'resolved', outcome = 'activated', resolved_at = now(), revision = 2"
        " WHERE alert_id = $1",
        gap,
    )
    await other.execute("UPDATE paidwatch.delivery SET due_at = due_at WHERE alert_id = $1", gap)
    async with anyio.create_task_group() as group:
        group.start_soon(deliver._tell, due, 0)
        with anyio.fail_after(WITHIN):
            while not await bench.db.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname ="
                " current_database())"
            ):
                await anyio.lowlevel.checkpoint()
        await transaction.commit()
    other.terminate()
    transport = Scripted()
    assert await drain(bench.deliver(transport)) == 1
    assert transport.messages[0].notice.word == "RESOLVED"


# Incidents, quiet hours


async def test_an_incident_is_not_told_again_within_45_seconds_unless_it_is_over(bench: Bench) -> None:
    [incident] = await bench.alerts(1, kind="incident")
    await bench.db.execute("UPDATE paidwatch.alert SET kind_of = 'paid_not_active', payment_id = NULL, user_id = NULL")
    transport = Scripted()
    assert await drain(bench.deliver(transport)) == 1
    await bench.db.execute("UPDATE paidwatch.alert SET revision = 2")
    await bench.db.execute("UPDATE paidwatch.delivery SET due_at = now()")
    assert await drain(bench.deliver(transport)) == 0
    rest = await bench.next_try()
    assert rest is not None
    assert timedelta(seconds=40) < rest <= timedelta(seconds=45)
    await bench.passes(timedelta(seconds=46))
    assert await drain(bench.deliver(transport)) == 1
    await bench.close(incident)
    assert await drain(bench.deliver(transport)) == 1
    assert [message.notice.word.value for message in transport.messages] == ["NEW", "STILL", "RESOLVED"]


async def test_what_waited_for_the_morning_is_one_digest(bench: Bench) -> None:
    gaps = await bench.alerts(4, kind="amount_mismatch")
    await bench.db.execute("UPDATE paidwatch.delivery SET waits_for = 'quiet', due_at = now() + interval '1 hour'")
    now = datetime.now(UTC)
    quiet = QuietHours(start=time((now.hour - 1) % 24), end=time((now.hour + 2) % 24), zone=ZoneInfo("UTC"))
    night, day = replace(bench.policy, quiet=quiet), bench.policy
    bench.policy = night
    urgent = await bench.alerts(1)
    async with bench.running("ops"):
        await bench.desk.until(lambda: len(bench.desk.of("ops")) == 1)
    assert f"{urgent[0]}" == bench.desk.of("ops")[0]["alert_id"]
    await bench.close(gaps[0])
    bench.policy = day
    async with bench.running("ops"):
        await bench.desk.until(lambda: len(bench.desk.of("ops")) == 2)
    [digest] = bench.desk.of("ops", kind="morning")
    assert told_in(digest) == set(gaps)
    assert json.dumps(digest).count("RESOLVED") == 1
    assert await bench.states() == {"sent": 6}
    assert len(bench.desk.of("ops")) == 2


async def test_a_note_about_a_channel_is_open_once(bench: Bench) -> None:
    async def note(channel: str) -> int | None:
        return await bench.pool.write(
            lambda session: outbox.open_note(
                session, kind="channel_down", cause="gone", channels=["team"], channel=channel
            )
        )

    assert await note("ops") is not None
    assert await note("ops") is None
    assert await note("spare") is not None
    assert await bench.states("team") == {"due": 2}
