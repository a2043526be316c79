import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

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


@pytest.fixture
async def forum(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("forum", session) as made:
        yield made


async def test_in_a_forum_a_story_is_a_thread_of_its_own(forum: Bench) -> None:
    first = await forum.transport.send(MESSAGE)
    await forum.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))
    await forum.transport.send(message(notice_of("new_tier_mismatch"), key="a.42.1", thread="a.42"))

    opens, edits, other = forum.http.received
    fake = fake_of(forum)
    assert fake.names[first.reference["thread_id"]] == "user 7 paid 14.99 USD (professional), not active"
    assert len(fake.names) == len(fake.messages) == 2
    assert "thread_id" not in opens.query
    assert edits.query == {"thread_id": first.reference["thread_id"]}
    assert "thread_name" not in json.loads(edits.body)
    assert "thread_name" in json.loads(other.body)


async def test_a_thread_of_a_forum_that_was_deleted_is_opened_anew(forum: Bench) -> None:
    first = await forum.transport.send(MESSAGE)
    fake_of(forum).forget()

    second = await forum.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))

    assert list(fake_of(forum).names) == [second.reference["thread_id"]]
    assert [request.method for request in forum.http.received] == ["POST", "PATCH", "POST"]


async def test_a_thread_that_was_archived_is_woken_by_a_new_message(forum: Bench) -> None:
    first = await forum.transport.send(MESSAGE)
    fake_of(forum).archived.add(first.reference["thread_id"])

    second = await forum.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))

    assert second.reference["thread_id"] == first.reference["thread_id"]
    assert second.reference["message_id"] != first.reference["message_id"]
    assert fake_of(forum).archived == set()


async def test_a_thread_named_in_a_forum_is_where_everything_goes(forum: Bench, session: aiohttp.ClientSession) -> None:
    opened = (await forum.transport.send(MESSAGE)).reference["thread_id"]
    settings = DiscordSettings(url=SecretStr(forum.http.base + DISCORD_PATH), thread_id=opened, forum=True)

    receipt = await build("ops", settings, session=session, clock=FixedClock()).send(MESSAGE)

    assert receipt.reference["thread_id"] == opened
    assert len(fake_of(forum).names) == 1


@pytest.mark.parametrize("subject", ["", "x" * 500, "@everyone <#1> https://evil.example", "\u202e\n\n\x00"])
async def test_a_thread_has_a_name_whatever_the_subject(forum: Bench, subject: str) -> None:
    await forum.transport.send(message(replace(MESSAGE.notice, subject=subject)))

    (name,) = fake_of(forum).names.values()
    assert 1 <= len(name) <= 100
    assert "://" not in name


@pytest.mark.parametrize("case", [True, False])
async def test_a_forum_that_is_none_and_the_other_way_round_is_the_channels_fault(
    session: aiohttp.ClientSession, case: bool
) -> None:
    async with bench_for("forum" if case else "discord", session) as made:
        settings = DiscordSettings(url=SecretStr(made.http.base + DISCORD_PATH), forum=not case)
        with pytest.raises(DeliveryError) as caught:
            await build("ops", settings, session=session, clock=FixedClock()).send(MESSAGE)

    assert (caught.value.fault, caught.value.code) == (Fault.CHANNEL, "400/220001" if case else "400/220003")


@pytest.mark.parametrize("number", [160005, 50005, 10008, 10003])
async def test_a_message_that_is_out_of_reach_is_posted_anew(forum: Bench, number: int) -> None:
    first = await forum.transport.send(MESSAGE)
    forum.http.then(404 if number < 20000 else 403, body={"code": number})

    second = await forum.transport.send(message(notice_of("resolved"), earlier=first.reference))

    assert second.reference["thread_id"] != first.reference["thread_id"]


@pytest.mark.parametrize(("status", "number"), [(429, 30046), (400, 160006)])
async def test_too_many_edits_or_threads_pass(bench: Bench, status: int, number: int) -> None:
    bench.http.then(status, body={"code": number, "retry_after": 9.5})

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)

    assert (caught.value.fault, caught.value.code) == (Fault.TRANSIENT, f"{status}/{number}")
    assert caught.value.retry_after == timedelta(seconds=9.5)


async def test_a_limit_of_the_whole_address_is_told_apart(bench: Bench) -> None:
    bench.http.then(
        429,
        body={"message": "You are being rate limited.", "retry_after": 64.57, "global": True},
        headers={"Retry-After": "65", "X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"},
    )

    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)

    assert (caught.value.fault, caught.value.code) == (Fault.TRANSIENT, "429/global")
    assert caught.value.retry_after == timedelta(seconds=65)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.875"}, timedelta(milliseconds=1875)),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1e9"}, timedelta(hours=6)),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset-After": "1.875"}, None),
        ({"X-RateLimit-Remaining": "0"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "soon"}, None),
        ({"X-RateLimit-Reset-After": "1.875"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("edits", [False, True])
async def test_the_last_request_that_is_left_is_followed_by_a_pause(
    bench: Bench, headers: dict[str, str], pause: timedelta | None, edits: bool
) -> None:
    bench.http.then(200, body={"id": "5", "channel_id": "1"}, headers=headers)

    receipt = await bench.transport.send(replace(MESSAGE, earlier={"message_id": "5"} if edits else {}))

    assert receipt.pause == pause
