"""The receiver over real HTTP on a real database: what is kept, believed, logged and answered, whatever hangs."""

import hashlib
import hmac
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any

import anyio
import pytest

from paidwatch.core.webhook import Reading
from paidwatch.flow.settle import FAULT
from paidwatch.store import webhook_list
from paidwatch.store.connect import Target
from paidwatch.store.pool import Database as Pool
from paidwatch.web.rate import Rate
from tests.support.postgres import Database
from tests.support.receiver import KEY, STATEMENTS, Desk, payment, serving, signed, sources
from tests.support.shop import add_user

CANARY = "canary-7f3e"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What the provider waits at most; the test fails where it would have hung up."""
    with anyio.fail_after(seconds):
        yield


@pytest.mark.parametrize("shape", ["F", "L", "M"])
async def test_a_webhook_is_kept_as_it_came_believed_and_logged(watched: Database) -> None:
    user = await add_user(watched)
    order = f"winu_sub_{user}_vip_elite_1700000000"
    body, headers = signed(payment(5077125051, order_id=order))
    headers |= {"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "X-Anything": CANARY, "User-Agent": "ipn/1"}
    async with serving(watched) as desk:
        assert await desk.post(body, headers) == 200

        kept = await desk.kept("body", "state", "signature", "reference", "status", "forward_state", "headers")
        ((stored, *facts, stored_headers),) = kept
        assert stored == body
        assert facts == ["verified", "valid", "5077125051", "paid", "none"]
        names = [name for name, _value in json.loads(stored_headers)]
        assert sorted(names) == ["content-type", "user-agent", "x-nowpayments-sig"]
        ((method, data, valid, status, error),) = await desk.logged(
            "payment_method", "webhook_data", "signature_valid", "processing_status", "error_message"
        )
        assert (method, valid, status, error) == ("nowpayments", True, "completed", None)
        assert json.loads(data) == json.loads(body)
        if watched.shape != "M":
            ((reference, owner, plan, heads, signature, about, ended),) = await desk.logged(
                "payment_id", "user_id", "plan_id", "headers", "signature", "webhook_type", "processed_at IS NOT NULL"
            )
            assert (reference, owner, plan, about, ended) == ("5077125051", user, "vip_elite", "finished", True)
            assert signature == headers["x-nowpayments-sig"]
            assert CANARY not in heads


@pytest.mark.parametrize(
    ("provider", "method", "status"),
    [
        ("paypal", "POST", 404),
        ("stripe", "POST", 503),
        ("nowpayments", "GET", 405),
        ("nowpayments", "PUT", 405),
        ("nowpayments", "HEAD", 405),
    ],
)
async def test_what_cannot_be_taken_is_refused_and_not_kept(
    watched: Database, provider: str, method: str, status: int
) -> None:
    body, headers = signed(payment(1))
    async with serving(watched) as desk:
        async with desk.client.request(method, f"/webhooks/{provider}", data=body, headers=headers) as answer:
            assert answer.status == status
            assert (answer.headers.get("Allow") == "POST") is (status == 405)
            assert ("Retry-After" in answer.headers) is (status == 503)
        assert await desk.post(BytesIO(b"x" * (1024 * 1024 + 1)), headers) == 413
        assert await desk.kept("webhook_id") == []
        assert await desk.logged("id") == []


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{not json", 400, "it is not JSON"),
        (b"", 400, "it is not JSON"),
        (b'{"a":1,"a":2}', 400, "a key stands in it twice"),
        (b'{"a":NaN}', 400, None),
        (b"\xff\xfe{}", 400, "it is not UTF-8"),
        (b"[" * 100 + b"]" * 100, 400, "it is nested too deeply"),
        (b'{"a":"\\u0000","payment_id":"\\ud800"}', 401, "the signature is wrong"),
        (b'{"a":1e999}', 400, None),
        (b'"text"', 401, "the signature is wrong"),
    ],
)
async def test_what_is_not_believed_is_kept_logged_and_refused(
    watched: Database, body: bytes, status: int, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    _, headers = signed(payment(1))
    caplog.set_level(logging.DEBUG)
    async with serving(watched) as desk:
        assert await desk.post(body, headers) == status
        assert [stored for (stored,) in await desk.kept("body")] == [body]
        assert await desk.kept("state", "forward_state") == [("rejected", "none")]
        ((told, outcome, valid),) = await desk.logged("error_message", "processing_status", "signature_valid")
        assert (outcome, valid) == ("failed", False)
        assert error in {None, told}
    assert KEY not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("shape", ["F", "M"])
async def test_what_jsonb_refuses_is_mended_in_the_log_and_believed(watched: Database) -> None:
    """A NUL and half a character are legal JSON, and signed; the rest of the document is what it was."""
    body = b'{"note":"a\\u0000b\\ud800c","payment_id":5,"payment_status":"finished","price_amount":14.990}'
    code = hmac.new(KEY.encode(), body, hashlib.sha512).hexdigest()
    async with serving(watched) as desk:
        assert await desk.post(body, {"x-nowpayments-sig": code, "content-type": "application/json"}) == 200
        assert [stored for (stored,) in await desk.kept("body")] == [body]
        ((data, status),) = await desk.logged("webhook_data", "processing_status")
    said = json.loads(data)
    assert said == {"note": "a\ufffdb\ufffdc", "payment_id": 5, "payment_status": "finished", "price_amount": 14.99}
    assert status == "completed"


async def test_a_duplicate_changes_nothing_and_a_rejected_one_can_still_be_believed(watched: Database) -> None:
    """The two states of telling duplicates: only what was believed is never believed again."""
    body, headers = signed(payment(7))
    async with serving(watched, sources(forwards=True)) as desk:
        assert await desk.post(body, headers | {"x-nowpayments-sig": "0" * 128}) == 401
        assert await desk.post(body, headers) == 200
        assert await desk.post(body, headers) == 200
        assert await desk.send(payment(7, "confirming")) == 200

        assert await desk.kept("state", "duplicate_of", "forward_state") == [
            ("rejected", None, "none"),
            ("verified", None, "due"),
            ("duplicate", 2, "none"),
            ("verified", None, "due"),
        ]
        assert await desk.logged("processing_status") == [("failed",), ("received",), ("received",)]


async def test_many_at_once_are_neither_lost_nor_doubled(watched: Database) -> None:
    """Two instances receive the same webhooks at the same time, each of them twice."""
    answers: list[int] = []

    async def send(desk: Desk, number: int) -> None:
        answers.append(await desk.send(payment(number)))

    async with serving(watched, sources(forwards=True)) as one, serving(watched, sources(forwards=True)) as two:
        async with anyio.create_task_group() as senders:
            for number in range(100):
                for desk in (one, two, one, two):
                    senders.start_soon(send, desk, number)
        assert answers == [200] * 400
        await one.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received' OR unlogged)")
        states = [state for (state,) in await one.kept("state")]
        assert (states.count("verified"), states.count("duplicate")) == (100, 300)
        references = sorted(int(reference) for (reference,) in await one.logged("payment_id"))
        assert references == list(range(100))


async def test_a_locked_log_holds_no_answer_up_and_is_told_later(watched: Database) -> None:
    async with serving(watched) as desk:
        locker = await watched.connect()
        await locker.execute("BEGIN; LOCK TABLE public.webhook_logs IN ACCESS EXCLUSIVE MODE")
        with within(3):
            assert await desk.send(payment(1)) == 200
        with within(3):
            assert await desk.send(payment(2), key="wrong") == 401
        assert await desk.kept("state", "unlogged") == [("verified", True), ("rejected", True)]
        await locker.execute("ROLLBACK")
        locker.terminate()
    async with serving(watched) as desk:
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE unlogged)")
        assert await desk.logged("payment_id", "processing_status", "signature_valid") == [
            ("1", "completed", True),
            ("2", "failed", False),
        ]


async def test_a_log_that_cannot_be_written_keeps_webhooks_all_the_same(watched: Database) -> None:
    await watched.execute("ALTER TABLE public.webhook_logs ADD COLUMN shard integer NOT NULL")
    async with serving(watched) as desk:
        assert await desk.send(payment(1)) == 200
        assert await desk.kept("state", "unlogged") == [("verified", True)]
        await watched.execute("ALTER TABLE public.webhook_logs ALTER COLUMN shard SET DEFAULT 1")
    async with serving(watched) as desk:
        await desk.until("SELECT EXISTS (SELECT FROM public.webhook_logs WHERE payment_id = '1')")


async def test_what_hangs_behind_the_first_step_is_answered_in_time_and_settled_later(watched: Database) -> None:
    """Another session holds the row: the webhook is kept, and nothing more can be made of it for now."""
    await watched.execute(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';"
        "CREATE TRIGGER hang BEFORE UPDATE ON paidwatch.webhook FOR EACH ROW EXECUTE FUNCTION hang()"
    )
    async with serving(watched) as desk:
        with within(3):
            assert await desk.send(payment(1)) == 200
        with within(3):
            assert await desk.send(payment(2), key="wrong") == 401
        assert await desk.kept("state") == [("received",), ("received",)]
    await watched.execute("DROP TRIGGER hang ON paidwatch.webhook")
    await watched.execute("UPDATE paidwatch.webhook SET received_at = received_at - interval '1 minute'")
    async with serving(watched) as desk:
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received' OR unlogged)")
        assert await desk.kept("state") == [("verified",), ("rejected",)]
        assert len(await desk.logged("id")) == 2


async def test_a_crash_after_it_was_kept_loses_nothing(watched: Database) -> None:
    """Its provider had no answer and sends it again: whichever of the two is settled first, one counts."""
    body, headers = signed(payment(1))
    kept = json.dumps([["x-nowpayments-sig", headers["x-nowpayments-sig"]]])
    await watched.execute(
        "INSERT INTO paidwatch.webhook (provider, body, headers, received_at)"
        " SELECT 'nowpayments', $1, $2::jsonb, now() - interval '1 hour' FROM generate_series(1, 2)",
        body,
        kept,
    )
    await watched.execute(
        "INSERT INTO paidwatch.webhook (provider, body, received_at) VALUES ('gone', '{}', now() - interval '1 hour')"
    )
    async with serving(watched, sources(forwards=True)) as desk:
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received')")
        assert await desk.post(body, headers) == 200
        assert await desk.kept("state", "forward_state") == [
            ("verified", "due"),
            ("duplicate", "none"),
            ("rejected", "none"),
            ("duplicate", "none"),
        ]
        await desk.until("SELECT count(*) = 2 FROM public.webhook_logs")


async def test_without_a_database_the_provider_is_asked_to_send_again(watched: Database) -> None:
    dsn = watched.dsn.replace(watched.name, "nowhere")
    async with serving(watched, dsn=dsn) as desk:
        body, headers = signed(payment(1))
        with within(3):
            async with desk.client.post("/webhooks/nowpayments", data=body, headers=headers) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "30")


async def test_a_database_that_hangs_is_not_waited_for(watched: Database) -> None:
    async with serving(watched) as desk:
        assert await desk.send(payment(1)) == 200
        locker = await watched.connect()
        await locker.execute("BEGIN; LOCK TABLE paidwatch.webhook IN ACCESS EXCLUSIVE MODE")
        with within(3):
            assert await desk.send(payment(2)) == 503
        await locker.execute("ROLLBACK")
        locker.terminate()
        assert await desk.send(payment(2)) == 200


async def test_a_flood_that_is_not_believed_fills_no_disk_and_keeps_nobody_out(watched: Database) -> None:
    async with serving(watched, rate=Rate(burst=10, refill=timedelta(hours=1))) as desk:
        answers = [await desk.send(payment(number), key="wrong") for number in range(15)]
        assert answers == [401] * 11 + [429] * 4
        assert len(await desk.kept("webhook_id")) == 11
        assert await desk.send(payment(99)) == 200
        shown = desk.metrics.render("")[0].decode()
        assert 'paidwatch_webhooks_total{provider="nowpayments",result="limited"} 4.0' in shown
        assert 'paidwatch_webhooks_total{provider="nowpayments",result="accepted"} 1.0' in shown


async def test_another_secret_is_enough_to_believe_what_was_rejected(watched: Database) -> None:
    """A person corrects the secret and has the rejected ones read anew."""
    async with serving(watched) as desk:
        assert await desk.send(payment(1), key="the new secret") == 401
    await watched.execute("UPDATE paidwatch.webhook SET received_at = received_at - interval '1 minute'")
    target = Target(dsn=watched.dsn, connect_timeout=timedelta(seconds=9), statement_timeout=timedelta(seconds=9))
    async with Pool(target, STATEMENTS, size=1) as pool:
        replayed = await pool.write(lambda session: webhook_list.replay(session, [1], again=False, by="ann"))
    assert replayed == [1]
    async with serving(watched, sources(key="the new secret", forwards=True)) as desk:
        await desk.until("SELECT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'verified' AND NOT unlogged)")
        assert await desk.kept("forward_state", "signature", "problem") == [("due", "valid", None)]
        assert await desk.logged("processing_status", "signature_valid", "error_message") == [("received", True, None)]


async def test_what_a_crash_left_a_moment_ago_is_settled_though_nobody_looks_again(watched: Database) -> None:
    body, headers = signed(payment(5077125051))
    await watched.execute(
        "INSERT INTO paidwatch.webhook (provider, body, headers) VALUES ('nowpayments', $1, $2::jsonb)",
        body,
        json.dumps(list(headers.items())),
    )
    async with serving(watched) as desk:
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received')")


async def test_one_that_the_database_refuses_is_tried_again_though_the_next_one_is_taken(watched: Database) -> None:
    await watched.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON paidwatch.webhook FOR EACH ROW WHEN (NEW.reference = '1111111111')"
        " EXECUTE FUNCTION public.refuse()"
    )
    async with serving(watched) as desk:
        async with anyio.create_task_group() as group:
            for number in (1111111111, 2222222222):
                group.start_soon(desk.send, payment(number))
        await desk.until("SELECT count(*) = 1 FROM paidwatch.webhook WHERE state = 'verified'")
        await watched.execute("DROP FUNCTION public.refuse() CASCADE")
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received')")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
async def test_a_body_that_says_it_is_packed_is_kept_as_it_came_and_leaves_no_traceback(
    watched: Database, caplog: pytest.LogCaptureFixture, encoding: str
) -> None:
    async with serving(watched) as desk:
        assert await desk.post(b"not packed at all", {"Content-Encoding": encoding}) == 400
        assert await desk.kept("body", "state") == [(b"not packed at all", "rejected")]
    assert "Traceback" not in caplog.text


async def keep_and_leave(db: Database, numbers: Iterable[int]) -> None:
    """Webhooks that a crash left after they were kept."""
    for number in numbers:
        body, headers = signed(payment(number))
        await db.execute(
            "INSERT INTO paidwatch.webhook (provider, body, headers, received_at)"
            " VALUES ('nowpayments', $1, $2::jsonb, now() - interval '1 minute')",
            body,
            json.dumps(list(headers.items())),
        )


async def refuse(db: Database, table: str, column: str, values: Iterable[int]) -> None:
    """Have a table take no rows of some payments."""
    them = ", ".join(f"'{value}'" for value in values)
    await db.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;"
        f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NEW.{column} IN ({them}))"
        " EXECUTE FUNCTION public.refuse()"
    )


@pytest.mark.parametrize("refused", [[1], [1, 2, 3, 4, 5], [2, 4, 5, 6, 9], range(1, 10)])
@pytest.mark.parametrize(
    ("table", "column"), [("paidwatch.webhook", "reference"), ("public.webhook_logs", "payment_id")]
)
async def test_leftovers_that_are_refused_hold_up_none_of_the_others(
    watched: Database, monkeypatch: pytest.MonkeyPatch, table: str, column: str, refused: Iterable[int]
) -> None:
    settled = "state = 'verified' AND NOT unlogged"
    monkeypatch.setattr("paidwatch.flow.receive.LOG_PAUSE", timedelta(milliseconds=1))
    await keep_and_leave(watched, range(1, 11))
    await refuse(watched, table, column, refused)
    others = sorted(set(range(1, 11)) - set(refused))
    async with serving(watched) as desk:
        await desk.until(f"SELECT count(*) = {len(others)} FROM paidwatch.webhook WHERE {settled}")
        assert sorted(int(number) for (number,) in await desk.logged("payment_id")) == others
        assert await desk.send(payment(77)) == 200
        await keep_and_leave(watched, [88])
        desk.receive.look()
        await desk.until(f"SELECT count(*) = {len(others) + 2} FROM paidwatch.webhook WHERE {settled}")
        await watched.execute("DROP FUNCTION public.refuse() CASCADE")
        await desk.until(f"SELECT count(*) = 12 FROM paidwatch.webhook WHERE {settled}")
        assert len(await desk.logged("id")) == 12


async def test_one_that_nobody_can_read_stops_nothing(watched: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the program that one body brings to light; it would come to light again at every start."""
    known = sources()
    read = known["nowpayments"].provider.read

    def fail(payload: Any, headers: Mapping[str, str]) -> Reading:
        if payload["payment_id"] == 1:
            raise ZeroDivisionError
        return read(payload, headers)

    monkeypatch.setattr(known["nowpayments"].provider, "read", fail)
    await keep_and_leave(watched, [1, 2])
    async with serving(watched, known) as desk:
        assert await desk.send(payment(1)) == 401
        assert await desk.send(payment(3)) == 200
        await desk.until("SELECT NOT EXISTS (SELECT FROM paidwatch.webhook WHERE state = 'received' OR unlogged)")
        assert sorted(await desk.kept("state", "coalesce(problem, '')")) == [
            ("rejected", FAULT),
            ("rejected", FAULT),
            ("verified", ""),
            ("verified", ""),
        ]


@pytest.mark.parametrize("shape", ["F"])
async def test_a_row_that_is_refused_for_good_makes_no_other_late(
    watched: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tries of the refused one there may be a minute; whoever comes meanwhile is logged at once."""
    monkeypatch.setattr("paidwatch.flow.receive.LOG_PAUSE", timedelta(hours=1))
    monkeypatch.setattr("paidwatch.flow.receive.LONGEST_PAUSE", timedelta(hours=1))
    await keep_and_leave(watched, [1])
    await refuse(watched, "public.webhook_logs", "payment_id", [1])
    async with serving(watched) as desk:
        while [state for (state,) in await desk.kept("state")] != ["verified"]:
            await anyio.lowlevel.checkpoint()
        assert await desk.send(payment(5000)) == 200
        with within(20):
            while not await desk.logged("payment_id"):
                await anyio.lowlevel.checkpoint()
