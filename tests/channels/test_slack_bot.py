import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from paidwatch.channels.settings import SlackSettings
from paidwatch.channels.slack_words import API, ELSEWHERE, NO_REPLY, WEBHOOK
from paidwatch.core.model import Notice
from paidwatch.errors import DeliveryError, Fault
from paidwatch.ports import Receipt
from tests.channels.conftest import CANARY, CHANNEL, Bench, bench_for, built
from tests.channels.fakes.slack import SlackApi
from tests.channels.stories import CASES, FixedClock, message, notice_of

MESSAGE = message(notice_of("new_paid_not_active"))


@pytest.fixture
async def bench(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("slack_bot", session) as made:
        yield made


def fake_of(bench: Bench) -> SlackApi:
    assert isinstance(bench.service, SlackApi)
    return bench.service


def methods(bench: Bench) -> list[str]:
    return [request.path.rpartition("/")[2] for request in bench.http.received]


def bodies(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in bench.http.received]


async def tell(bench: Bench, notice: Notice, earlier: Receipt | None = None) -> Receipt:
    return await bench.transport.send(
        message(notice, earlier={} if earlier is None else earlier.reference, key=f"a.41.{len(bench.http.received)}")
    )


def no(bench: Bench, word: str, **more: Any) -> None:
    bench.http.then(200, body={"ok": False, "error": word, **more})


async def refusal(bench: Bench, **how: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(message(MESSAGE.notice, **how))
    return caught.value


async def test_what_is_kept_says_where_the_message_stands(bench: Bench) -> None:
    receipt = await bench.transport.send(MESSAGE)

    assert (receipt.reference["channel"], receipt.reference["ts"]) == (CHANNEL, *fake_of(bench).messages)
    assert receipt.code == "200"
    assert receipt.size == len(bench.http.received[0].body)


async def test_reminders_and_escalations_edit_and_make_no_sound(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    second = await tell(bench, notice_of("still"), first)
    third = await tell(bench, notice_of("escalated"), second)

    assert methods(bench) == ["chat.postMessage", "chat.update", "chat.update"]
    assert fake_of(bench).replies == {}
    assert first.reference["ts"] == third.reference["ts"]
    (shown,) = fake_of(bench).messages.values()
    assert "ESCALATED" in shown["text"]


async def test_the_end_edits_and_is_said_below_the_message_once(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    second = await tell(bench, notice_of("resolved"), first)
    await tell(bench, notice_of("resolved"), second)

    assert methods(bench) == ["chat.postMessage", "chat.update", "chat.postMessage", "chat.update"]
    ((parent, (reply,)),) = fake_of(bench).replies.items()
    assert parent == first.reference["ts"]
    assert reply["text"].startswith("🟢 RESOLVED")
    assert "blocks" not in reply
    assert "RESOLVED" in fake_of(bench).messages[parent]["text"]


async def test_what_opens_again_is_closed_again(bench: Bench) -> None:
    told = await tell(bench, notice_of("new_paid_not_active"))
    for case in ("resolved", "still", "fixed"):
        told = await tell(bench, notice_of(case), told)

    assert [len(replies) for replies in fake_of(bench).replies.values()] == [2]


async def test_a_story_of_which_only_the_end_is_told_is_one_message(bench: Bench) -> None:
    await tell(bench, notice_of("resolved_unheard"))

    assert methods(bench) == ["chat.postMessage"]


async def test_an_end_whose_reply_did_not_get_through_is_told_again(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    bench.http.then(200, body={"ok": True, "channel": CHANNEL, "ts": first.reference["ts"]})
    bench.http.then(503)
    with pytest.raises(DeliveryError) as caught:
        await tell(bench, notice_of("resolved"), first)
    assert caught.value.fault is Fault.TRANSIENT

    await tell(bench, notice_of("resolved"), first)

    assert [len(replies) for replies in fake_of(bench).replies.values()] == [1]


@pytest.mark.parametrize("word", sorted(NO_REPLY))
async def test_where_nothing_can_be_replied_the_edit_is_enough(bench: Bench, word: str) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    bench.http.then(200, body={"ok": True, "channel": CHANNEL, "ts": first.reference["ts"]})
    no(bench, word)

    receipt = await tell(bench, notice_of("resolved"), first)

    assert receipt.code == "200 without reply"


async def test_a_message_that_is_deleted_between_edit_and_reply_is_posted_anew(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    fake_of(bench).forget()
    bench.http.then(200, body={"ok": True, "channel": CHANNEL, "ts": first.reference["ts"]})
    with pytest.raises(DeliveryError) as caught:
        await tell(bench, notice_of("resolved"), first)
    assert caught.value.fault is Fault.TRANSIENT

    second = await tell(bench, notice_of("resolved"), first)

    assert list(fake_of(bench).messages) == [second.reference["ts"]]


async def test_a_token_that_is_revoked_between_edit_and_reply_is_the_channels_fault(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    bench.http.then(200, body={"ok": True, "channel": CHANNEL, "ts": first.reference["ts"]})
    no(bench, "token_revoked")

    with pytest.raises(DeliveryError) as caught:
        await tell(bench, notice_of("resolved"), first)

    assert caught.value.fault is Fault.CHANNEL


@pytest.mark.parametrize("word", sorted(API.lost | ELSEWHERE))
async def test_a_message_that_can_be_edited_no_longer_is_posted_anew(bench: Bench, word: str) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    fake_of(bench).uneditable = word

    second = await tell(bench, notice_of("resolved"), first)

    assert methods(bench) == ["chat.postMessage", "chat.update", "chat.postMessage"]
    assert second.reference["ts"] != first.reference["ts"]
    assert fake_of(bench).replies == {}


async def test_a_message_that_was_deleted_is_posted_anew(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    fake_of(bench).forget()

    second = await tell(bench, notice_of("still"), first)

    assert list(fake_of(bench).messages) == [second.reference["ts"]]


async def test_a_channel_that_is_gone_costs_two_requests(bench: Bench) -> None:
    no(bench, "is_archived")
    no(bench, "is_archived")

    error = await refusal(bench, earlier={"channel": CHANNEL, "ts": "1700000000.000100"})

    assert (error.fault, error.code) == (Fault.CHANNEL, "is_archived")
    assert len(bench.http.received) == 2


@pytest.mark.parametrize(
    "reference",
    [
        {},
        {"channel": CHANNEL},
        {"ts": "1.1"},
        {"channel": "#ops", "ts": "1.1"},
        {"channel": CHANNEL, "ts": "1.1/../x"},
        {"channel": CHANNEL, "ts": ""},
        {"message_id": "5", "thread_id": ""},
    ],
)
async def test_a_reference_that_is_none_is_never_asked_for(bench: Bench, reference: dict[str, str]) -> None:
    await bench.transport.send(message(notice_of("still"), earlier=reference))

    assert methods(bench) == ["chat.postMessage"]


@pytest.mark.parametrize("word", sorted(API.broken))
async def test_a_broken_channel_is_asked_once(bench: Bench, word: str) -> None:
    no(bench, word)

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.CHANNEL, word)
    assert len(bench.http.received) == 1


@pytest.mark.parametrize("word", sorted(API.passing))
async def test_what_passes_is_tried_later(bench: Bench, word: str) -> None:
    no(bench, word)

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.TRANSIENT, word)
    assert len(bench.http.received) == 1


async def test_a_rate_limit_says_how_long(bench: Bench) -> None:
    bench.http.then(429, body={"ok": False, "error": "ratelimited"}, headers={"Retry-After": "30"})

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.TRANSIENT, "ratelimited")
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 30


@pytest.mark.parametrize("word", ["something_new", f"invalid {CANARY}", ""])
async def test_a_word_that_nobody_knows_is_tried_again_and_never_repeated(bench: Bench, word: str) -> None:
    no(bench, word)

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.TRANSIENT, "without ok")
    assert CANARY not in str(error)


@pytest.mark.parametrize("word", sorted(API.ours))
async def test_a_message_that_slack_calls_malformed_is_sent_once_more_as_text(bench: Bench, word: str) -> None:
    no(bench, word)

    receipt = await bench.transport.send(MESSAGE)

    first, second = bodies(bench)
    assert "blocks" in first
    assert "blocks" not in second
    assert "paidwatch activate 7 --payment 12 --dry-run" in second["text"]
    assert receipt.code == "200 plain"
    assert receipt.reference["ts"]


async def test_a_malformed_edit_replaces_the_earlier_blocks_by_text(bench: Bench) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    no(bench, "invalid_blocks")

    receipt = await tell(bench, notice_of("still"), first)

    assert receipt.code == "200 plain"
    (shown,) = fake_of(bench).messages.values()
    (block,) = shown["blocks"]
    assert block["text"]["type"] == "plain_text"
    assert block["text"]["text"] == shown["text"]


async def test_it_is_never_sent_a_third_time(bench: Bench) -> None:
    no(bench, "invalid_blocks")
    no(bench, "msg_too_long")

    error = await refusal(bench)

    assert (error.fault, error.code) == (Fault.MESSAGE, "msg_too_long")
    assert len(bench.http.received) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"ok": True},
        {"ok": True, "channel": CHANNEL},
        {"ok": True, "channel": CHANNEL, "ts": 5},
        {"ok": True, "channel": "general", "ts": "1.1"},
        {"ok": "true", "channel": CHANNEL, "ts": "1.1"},
        "ok",
    ],
)
async def test_a_success_that_names_no_message_is_none(bench: Bench, body: object) -> None:
    bench.http.then(200, body=body)

    assert (await refusal(bench)).fault is Fault.TRANSIENT


@pytest.mark.parametrize("case", CASES)
async def test_every_kind_of_message_can_be_what_a_message_becomes(bench: Bench, case: str) -> None:
    first = await tell(bench, notice_of("new_paid_not_active"))
    second = await tell(bench, notice_of(case), first)

    assert second.reference["ts"] == first.reference["ts"]
    assert second.code == "200"


async def test_the_token_is_a_header_and_nothing_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    first = await tell(bench, notice_of("new_paid_not_active"))
    await tell(bench, notice_of("resolved"), first)

    for request in bench.http.received:
        assert request.headers.pop("authorization") == f"Bearer {CANARY}"
        assert CANARY not in repr(request)
    assert CANARY not in caplog.text
    assert CANARY not in repr(first)


@pytest.mark.parametrize("token", ["wrong", "two\r\nlines: x"])
async def test_a_wrong_token_is_refused_and_not_shown(bench: Bench, session: aiohttp.ClientSession, token: str) -> None:
    assert isinstance(bench.settings, SlackSettings)
    wrong = await built(replace(bench.settings, token=SecretStr(token)), session=session, clock=FixedClock())

    with pytest.raises(DeliveryError) as caught:
        await wrong.send(MESSAGE)

    assert token not in str(caught.value)
    assert fake_of(bench).messages == {}


def test_no_word_means_two_things() -> None:
    for words in (WEBHOOK, API):
        kinds = (words.ours, words.broken, words.passing, words.lost)
        assert sum(len(kind) for kind in kinds) == len(frozenset[str]().union(*kinds))
