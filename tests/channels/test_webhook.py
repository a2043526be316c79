import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from paidwatch.channels import build
from paidwatch.channels.http import MOST_ANSWER, Exchange, Limits
from paidwatch.channels.settings import WebhookSettings
from paidwatch.channels.webhook import read_key, sign
from paidwatch.errors import ConfigError, DeliveryError, Fault
from tests.channels.conftest import KEY, Bench, bench_for
from tests.channels.fakes.receiver import Receiver
from tests.channels.stories import NOW, FixedClock, message, notice_of

MESSAGE = message(notice_of("new_paid_not_active"))


@pytest.fixture
async def bench(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("webhook", session) as made:
        yield made


def receiver_of(bench: Bench) -> Receiver:
    assert isinstance(bench.service, Receiver)
    return bench.service


def settings_of(bench: Bench) -> WebhookSettings:
    assert isinstance(bench.settings, WebhookSettings)
    return bench.settings


def test_the_published_example_of_a_signature() -> None:
    key = read_key(SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    moment = NOW.fromtimestamp(1614265330, NOW.tzinfo)

    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", moment, b'{"test": 2432232314}')

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", [KEY, KEY.removeprefix("whsec_"), KEY.rstrip("="), f" {KEY}\n"])
def test_a_key_is_read_with_and_without_its_prefix(text: str) -> None:
    assert read_key(SecretStr(text)) == b"c4naryS3cretT0ken"


@pytest.mark.parametrize("text", ["", "whsec_", "not a key!", "päß"])
def test_a_key_that_is_none_is_a_wrong_configuration(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_key(SecretStr(text))

    assert not text or text not in str(caught.value)


async def test_an_attempt_keeps_its_id_and_gets_a_fresh_time(bench: Bench, session: aiohttp.ClientSession) -> None:
    clock = FixedClock()
    transport = build("ops", bench.settings, session=session, clock=clock)
    await transport.send(MESSAGE)
    clock.moment += timedelta(minutes=4)
    await transport.send(MESSAGE)
    await transport.send(message(notice_of("resolved"), key="a.41.2"))

    ids = [request.headers["webhook-id"] for request in bench.http.received]
    times = [int(request.headers["webhook-timestamp"]) for request in bench.http.received]
    assert ids[0] == ids[1] != ids[2]
    assert times[1] - times[0] == 240
    assert len(receiver_of(bench).taken) == 2


async def test_while_keys_are_changed_both_sign(bench: Bench, session: aiohttp.ClientSession) -> None:
    new = SecretStr("whsec_bmV3bmV3bmV3bmV3bmV3bmV3")
    settings = replace(settings_of(bench), secrets=(new, *settings_of(bench).secrets))
    transport = build("ops", settings, session=session, clock=FixedClock())

    assert (await transport.send(MESSAGE)).code == "204"
    assert len(bench.http.received[0].headers["webhook-signature"].split(" ")) == 2


async def test_a_wrong_key_is_refused(bench: Bench, session: aiohttp.ClientSession) -> None:
    settings = replace(settings_of(bench), secrets=(SecretStr("whsec_d3Jvbmd3cm9uZ3dyb25n"),))
    transport = build("ops", settings, session=session, clock=FixedClock())

    with pytest.raises(DeliveryError) as caught:
        await transport.send(MESSAGE)

    assert caught.value.fault is Fault.CHANNEL


async def test_without_a_key_nothing_is_signed(bench: Bench, session: aiohttp.ClientSession) -> None:
    bench.http.then(200)
    transport = build("ops", replace(settings_of(bench), secrets=()), session=session, clock=FixedClock())
    await transport.send(MESSAGE)

    assert "webhook-signature" not in bench.http.received[0].headers


async def test_a_wrong_key_in_the_settings_is_found_when_the_channel_is_built(session: aiohttp.ClientSession) -> None:
    settings = WebhookSettings(url=SecretStr("http://127.0.0.1:1/"), secrets=(SecretStr("!"),))

    with pytest.raises(ConfigError):
        build("ops", settings, session=session)


async def test_the_body_holds_the_facts_for_machines(bench: Bench) -> None:
    await bench.transport.send(MESSAGE)

    (body,) = receiver_of(bench).taken.values()
    assert (body["type"], body["schema"]) == ("alert.new", 1)
    assert body["data"]["facts"]["amount"] == "14.99"
    assert body["data"]["facts"]["payment_id"] == "12"
    assert "someone@example.org" not in json.dumps(body)


NEW_KEY = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3"


@pytest.mark.parametrize("knows", [b"c4naryS3cretT0ken", b"newnewnewnewnewnew"])
async def test_during_a_rotation_a_receiver_with_either_key_takes_it(
    bench: Bench, session: aiohttp.ClientSession, knows: bytes
) -> None:
    receiver_of(bench).key = knows
    both = replace(settings_of(bench), secrets=(SecretStr(NEW_KEY), *settings_of(bench).secrets))

    receipt = await build("ops", both, session=session, clock=FixedClock()).send(MESSAGE)

    assert receipt.code == "204"


async def test_after_a_rotation_the_old_key_signs_nothing(bench: Bench, session: aiohttp.ClientSession) -> None:
    new = replace(settings_of(bench), secrets=(SecretStr(NEW_KEY),))

    with pytest.raises(DeliveryError):
        await build("ops", new, session=session, clock=FixedClock()).send(MESSAGE)


async def test_a_message_is_an_event_and_not_an_edit(bench: Bench) -> None:
    first = await bench.transport.send(MESSAGE)
    await bench.transport.send(message(notice_of("resolved"), key="a.41.2", earlier=first.reference))

    assert len(receiver_of(bench).taken) == 2


@pytest.mark.parametrize("size", [1, MOST_ANSWER, MOST_ANSWER + 1, 40 * MOST_ANSWER])
async def test_of_an_answer_64_kib_are_read(bench: Bench, session: aiohttp.ClientSession, size: int) -> None:
    bench.http.then(200, body="x" * size)

    answer = await Exchange(session, Limits()).request("POST", URL(bench.http.base), body=b"{}")

    assert len(answer.body) == min(size, MOST_ANSWER)
