import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from pydantic import SecretStr

from paidwatch.channels import build
from paidwatch.channels.settings import DiscordSettings
from paidwatch.errors import DeliveryError, Fault
from tests.channels.conftest import DISCORD_PATH, Bench, bench_for
from tests.channels.fakes.discord import Discord
from tests.channels.stories import FixedClock, message, notice_of

MESSAGE = message(notice_of("new_paid_not_active"))


@pytest.fixture
async def bench(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("discord", session) as made:
        yield made


def fake_of(bench: Bench) -> Discord:
    assert isinstance(bench.service, Discord)
    return bench.service


async def test_it_waits_for_the_message_and_keeps_its_id(bench: Bench) -> None:
    receipt = await bench.transport.send(MESSAGE)

    assert bench.http.received[0].query == {"wait": "true"}
    assert list(fake_of(bench).messages) == [receipt.reference["message_id"]]


async def test_a_story_is_one_message_that_is_edited(bench: Bench) -> None:
    first = await bench.transport.send(MESSAGE)
    second = await bench.transport.send(message(notice_of("still"), key="a.41.2", earlier=first.reference))
    third = await bench.transport.send(message(notice_of("fixed"), key="a.41.3", earlier=second.reference))

    assert [request.method for request in bench.http.received] == ["POST", "PATCH", "PATCH"]
    assert first.reference == second.reference == third.reference
    (shown,) = fake_of(bench).messages.values()
    assert shown["content"].startswith("**FIXED · ")
    assert [json.loads(request.body)["allowed_mentions"] for request in bench.http.received] == [{"parse": []}] * 3


async def test_a_message_that_was_deleted_is_posted_anew(bench: Bench) -> None:
    first = await bench.transport.send(MESSAGE)
    fake_of(bench).forget()

    second = await bench.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))

    assert [request.method for request in bench.http.received] == ["POST", "PATCH", "POST"]
    assert second.reference["message_id"] != first.reference["message_id"]


async def test_a_webhook_that_is_gone_is_not_asked_again(bench: Bench) -> None:
    first = await bench.transport.send(MESSAGE)
    bench.http.then(404, body={"message": "Unknown Webhook", "code": 10015})

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))

    assert (caught.value.fault, caught.value.code) == (Fault.CHANNEL, "404/10015")
    assert len(bench.http.received) == 2


async def test_a_deleted_message_of_a_deleted_webhook_costs_two_requests(bench: Bench) -> None:
    bench.http.then(404)
    bench.http.then(404)

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(message(notice_of("resolved"), earlier={"message_id": "5"}))

    assert caught.value.fault is Fault.CHANNEL
    assert len(bench.http.received) == 2


@pytest.mark.parametrize("in_address", [False, True])
async def test_a_thread_is_named_on_posting_and_on_editing(
    bench: Bench, session: aiohttp.ClientSession, in_address: bool
) -> None:
    address = bench.http.base + DISCORD_PATH + ("?thread_id=77" if in_address else "")
    settings = DiscordSettings(url=SecretStr(address), thread_id="" if in_address else "77")
    threaded = build("ops", settings, session=session, clock=FixedClock())
    first = await threaded.send(MESSAGE)

    moved = build("ops", replace(settings, thread_id="88"), session=session, clock=FixedClock())
    await moved.send(message(notice_of("resolved"), earlier=first.reference))

    post, patch = bench.http.received
    assert post.query == {"wait": "true", "thread_id": "77"}
    assert patch.query == {"thread_id": "77"}
    assert len(fake_of(bench).messages) == 1


@pytest.mark.parametrize("reference", ["", "../../../users/@me", "12/../13", "1" * 30, "abc"])
async def test_a_reference_that_is_no_id_is_never_asked_for(bench: Bench, reference: str) -> None:
    await bench.transport.send(message(notice_of("resolved"), earlier={"message_id": reference}))

    assert [request.method for request in bench.http.received] == ["POST"]


@pytest.mark.parametrize("body", ["", {"id": 5}, {"id": "x"}, {}, "<html>please log in</html>"])
async def test_a_success_without_a_saved_message_is_none(bench: Bench, body: object) -> None:
    bench.http.then(200, body=body)

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)

    assert caught.value.fault is Fault.TRANSIENT


async def test_a_message_that_discord_does_not_take_is_the_messages_fault(bench: Bench) -> None:
    bench.http.then(400, body={"code": 50035, "message": "Invalid Form Body"})

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)

    assert (caught.value.fault, caught.value.code) == (Fault.MESSAGE, "400/50035")


async def test_a_time_is_shown_in_the_readers_zone(bench: Bench) -> None:
    await bench.transport.send(MESSAGE)

    (shown,) = fake_of(bench).messages.values()
    fields = {field["name"]: field["value"] for field in shown["embeds"][0]["fields"]}
    assert fields["Paid"] == "<t:1773480413:f>, <t:1773480413:R>"
    assert fields["Next"] == "```\npaidwatch activate 7 --payment 12 --dry-run\n```"
