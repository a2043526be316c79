import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from paidwatch.channels.slack_words import WEBHOOK
from paidwatch.errors import DeliveryError, Fault
from tests.channels.conftest import Bench, bench_for
from tests.channels.fakes.slack import texts_of, violations
from tests.channels.stories import message, notice_of

MESSAGE = message(notice_of("new_paid_not_active"))


@pytest.fixture
async def bench(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("slack", session) as made:
        yield made


async def refusal(bench: Bench) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)
    return caught.value


async def test_accepted_is_exactly_ok(bench: Bench) -> None:
    receipt = await bench.transport.send(MESSAGE)

    assert receipt.code == "200"
    assert receipt.size == len(bench.http.received[0].body)
    assert dict(receipt.reference) == {}


@pytest.mark.parametrize("body", ["", "OK", "ok\n", "okay", '{"ok":true}', "<html>please log in</html>"])
async def test_any_other_200_was_not_taken(bench: Bench, body: str) -> None:
    bench.http.then(200, body=body)

    error = await refusal(bench)

    assert error.fault is Fault.TRANSIENT
    assert len(bench.http.received) == 1


@pytest.mark.parametrize("word", sorted(WEBHOOK.ours))
@pytest.mark.parametrize("as_json", [False, True])
async def test_a_message_that_slack_calls_malformed_is_sent_once_more_as_text(
    bench: Bench, word: str, as_json: bool
) -> None:
    bench.http.then(200 if as_json else 400, body={"ok": False, "error": word} if as_json else word)

    receipt = await bench.transport.send(MESSAGE)

    first, second = (json.loads(request.body) for request in bench.http.received)
    assert "blocks" in first
    assert "blocks" not in second
    assert "paidwatch activate 7 --payment 12 --dry-run" in second["text"]
    assert receipt.code == "200 plain"


async def test_it_is_never_sent_a_third_time(bench: Bench) -> None:
    bench.http.then(400, body="invalid_blocks")
    bench.http.then(400, body="no_text")

    error = await refusal(bench)

    assert error.fault is Fault.MESSAGE
    assert error.code == "no_text"
    assert len(bench.http.received) == 2


@pytest.mark.parametrize("status", [200, 400, 403, 404, 410])
@pytest.mark.parametrize("word", sorted(WEBHOOK.broken))
async def test_a_broken_channel_is_asked_once(bench: Bench, word: str, status: int) -> None:
    bench.http.then(status, body=word)

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.CHANNEL, word)
    assert len(bench.http.received) == 1


async def test_a_rate_limit_passes(bench: Bench) -> None:
    bench.http.then(429, body={"retry_after": 1, "ok": False, "error": "rate_limited"}, headers={"Retry-After": "30"})

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.TRANSIENT, "rate_limited")
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 30


async def test_an_update_is_said_anew(bench: Bench) -> None:
    await bench.transport.send(MESSAGE)
    await bench.transport.send(message(notice_of("resolved"), key="a.41.2"))

    texts = [json.loads(request.body)["text"] for request in bench.http.received]
    assert "NEW" in texts[0]
    assert "RESOLVED" in texts[1]


async def test_a_time_is_shown_in_the_readers_zone(bench: Bench) -> None:
    await bench.transport.send(MESSAGE)

    payload = json.loads(bench.http.received[0].body)
    shown = [text["text"] for text in texts_of(payload)]
    assert "<!date^1773480413^{date_short_pretty} {time_secs}|2026-03-14 09:26:53 UTC>" in shown
    assert violations(payload) == []
