"""What every channel must hold, whatever it talks to."""

import logging
import ssl
import traceback
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import aiohttp
import anyio
import pytest

from paidwatch.channels.http import LONGEST_WAIT
from paidwatch.core.model import Line, Word
from paidwatch.errors import DeliveryError, Fault
from tests.channels.conftest import (
    APPRISE,
    CANARY,
    HTTP_KINDS,
    KEY,
    KINDS,
    SHORT,
    Bench,
    bench_for,
    built,
    fake_of,
    settings_for,
)
from tests.channels.fakes.http import serving
from tests.channels.fakes.wire import Manner, misbehaving
from tests.channels.stories import CASES, NOW, FixedClock, message, notice_of
from tests.channels.test_hostile import HOSTILE

GREETINGS = {"email": b"220-", "http": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"}
EDITED = {"slack_bot", "discord", "forum"}
MESSAGE = message(notice_of("new_paid_not_active"))


async def refused(bench: Bench) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await bench.transport.send(MESSAGE)
    return caught.value


@pytest.mark.parametrize("case", CASES)
async def test_the_service_takes_every_kind_of_message(bench: Bench, case: str) -> None:
    receipt = await bench.transport.send(message(notice_of(case)))

    assert receipt.code.startswith("2") or receipt.code == "taken"
    assert receipt.size > 100


@pytest.mark.parametrize("place", range(len(HOSTILE)))
async def test_the_service_takes_hostile_text_in_every_place_first_and_later(bench: Bench, place: int) -> None:
    text = HOSTILE[place]
    lines = tuple(Line(label=text if row % 3 else "", value=text, short=row % 2 == 0) for row in range(60))
    told = replace(
        MESSAGE.notice,
        kind=text,
        alert_id=text,
        subject=text,
        summary=text,
        lines=lines,
        command=text,
        extra={text: text},
    )

    first = await bench.transport.send(message(told))
    ended = replace(told, word=Word.RESOLVED, open=False)
    second = await bench.transport.send(message(ended, key="a.41.2", earlier=first.reference))

    assert "plain" not in first.code + second.code  # what the service refuses is said as plain text
    if bench.kind in EDITED:
        assert second.reference.get("message_id") == first.reference.get("message_id")
        assert second.reference.get("ts") == first.reference.get("ts")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_can_be_edited_is_told_by_what_is_kept_of_it(kind: str, session: aiohttp.ClientSession) -> None:
    async with bench_for(kind, session) as made:
        receipt = await made.transport.send(MESSAGE)

    named = {"message_id", "ts"} & receipt.reference.keys()
    assert (bool(named) and "subject" not in receipt.reference) is (kind in EDITED)  # as delivery.edits does


REDIRECTED = "a redirect is an answer: the address is not the one that was configured"
REVOKED = "401, 403, 404, 410: the address or the token is wrong, revoked or gone; repeating it gets an address banned"
MALFORMED = "any other 4xx is about this message"
LATER = "408, 425, 429 and 5xx pass"


@pytest.mark.parametrize(
    ("status", "fault", "rule"),
    [
        (301, Fault.CHANNEL, REDIRECTED),
        (302, Fault.CHANNEL, REDIRECTED),
        (308, Fault.CHANNEL, REDIRECTED),
        (401, Fault.CHANNEL, REVOKED),
        (403, Fault.CHANNEL, REVOKED),
        (404, Fault.CHANNEL, REVOKED),
        (410, Fault.CHANNEL, REVOKED),
        (400, Fault.MESSAGE, MALFORMED),
        (413, Fault.MESSAGE, MALFORMED),
        (422, Fault.MESSAGE, MALFORMED),
        (408, Fault.TRANSIENT, LATER),
        (425, Fault.TRANSIENT, LATER),
        (429, Fault.TRANSIENT, LATER),
        (500, Fault.TRANSIENT, LATER),
        (502, Fault.TRANSIENT, LATER),
        (503, Fault.TRANSIENT, LATER),
        (504, Fault.TRANSIENT, LATER),
    ],
)
async def test_a_status_says_whose_fault_it_is(http_bench: Bench, status: int, fault: Fault, rule: str) -> None:
    for _ in range(2):  # Slack is asked twice where it blames the message
        http_bench.http.then(status, headers={"Location": f"{http_bench.http.base}/elsewhere"})

    error = await refused(http_bench)

    assert error.fault is fault, rule
    assert error.code == str(status)
    assert len(http_bench.http.received) <= 2


async def test_a_redirect_is_not_followed(http_bench: Bench) -> None:
    http_bench.http.then(307, headers={"Location": f"{http_bench.http.base}/elsewhere"})

    await refused(http_bench)

    assert [request.path for request in http_bench.http.received if "elsewhere" in request.path] == []
    assert len(http_bench.http.received) == 1


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        # Retry-After in whole seconds, as HTTP says, and as decimals, as Discord sends it: rounded up, never undercut
        ({"Retry-After": "7"}, "", timedelta(seconds=7)),
        ({"Retry-After": "0.3125"}, "", timedelta(milliseconds=313)),
        # Slack's and Discord's JSON
        ({}, {"retry_after": 2, "error": "rate_limited"}, timedelta(seconds=2)),
        ({}, {"retry_after": 64.57, "global": False}, timedelta(milliseconds=64570)),
        # where two say something, the longer one
        ({"Retry-After": "1"}, {"retry_after": 1.5}, timedelta(milliseconds=1500)),
        ({"Retry-After": "3"}, {"retry_after": 1.5}, timedelta(seconds=3)),
        # Discord's header of a rate limit
        ({"X-RateLimit-Reset-After": "4.25"}, "", timedelta(milliseconds=4250)),
        # Retry-After as an HTTP date; one in the past is no wait
        ({"Retry-After": format_datetime(NOW + timedelta(minutes=2), usegmt=True)}, "", timedelta(minutes=2)),
        ({"Retry-After": format_datetime(NOW - DAY, usegmt=True)}, "", timedelta()),
        # what is absurd is clamped
        ({"Retry-After": "99999999999999999999"}, "", LONGEST_WAIT),
        ({"Retry-After": "1e999"}, "", LONGEST_WAIT),
        ({"Retry-After": format_datetime(NOW + 3000 * DAY, usegmt=True)}, "", LONGEST_WAIT),
        ({}, {"retry_after": 10**400}, LONGEST_WAIT),
        ({"Retry-After": "-5"}, "", timedelta()),
        # what says nothing is nothing
        ({"Retry-After": "soon"}, "", None),
        ({"Retry-After": "nan"}, "", None),
        ({}, {"retry_after": True}, None),
        ({}, {"retry_after": None}, None),
        ({}, "[" * 5000, None),
        ({}, "", None),
    ],
)
async def test_how_long_the_service_wants_us_to_wait(
    http_bench: Bench, headers: dict[str, str], body: str | dict[str, object], wait: timedelta | None
) -> None:
    http_bench.http.then(429, body=body, headers={"Date": format_datetime(NOW, usegmt=True)} | headers)

    error = await refused(http_bench)

    assert error.fault is Fault.TRANSIENT
    assert error.retry_after == wait


async def test_a_date_is_measured_by_the_clock_of_who_wrote_it(http_bench: Bench) -> None:
    theirs = NOW + timedelta(hours=1)
    http_bench.http.then(
        503,
        headers={
            "Date": format_datetime(theirs, usegmt=True),
            "Retry-After": format_datetime(theirs + timedelta(seconds=90), usegmt=True),
        },
    )

    assert (await refused(http_bench)).retry_after == timedelta(seconds=90)


@pytest.mark.parametrize("manner", Manner)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_that_misbehaves_costs_no_more_than_the_limit(
    kind: str, manner: Manner, session: aiohttp.ClientSession
) -> None:
    greeting = GREETINGS.get(kind, GREETINGS["http"])
    async with misbehaving(manner, greeting=greeting) as port:
        settings = settings_for(kind, f"http://127.0.0.1:{port}", port)
        transport = await built(settings, session=session, clock=FixedClock(), limits=SHORT)
        with anyio.fail_after(10):
            if kind == "webhook" and manner is Manner.FLOODS:  # its 200 is all that is asked for
                assert (await transport.send(MESSAGE)).code == "200"
                return
            with pytest.raises(DeliveryError) as caught:
                await transport.send(MESSAGE)

    assert caught.value.fault is Fault.TRANSIENT


@pytest.mark.parametrize("kind", HTTP_KINDS)
async def test_of_a_long_answer_only_the_beginning_is_read(kind: str, session: aiohttp.ClientSession) -> None:
    head = b"HTTP/1.1 503 Later\r\nRetry-After: 9\r\nContent-Length: 1000000000000000\r\n\r\n"
    async with misbehaving(Manner.FLOODS, greeting=head) as port:
        settings = settings_for(kind, f"http://127.0.0.1:{port}", port)
        transport = await built(settings, session=session, clock=FixedClock())
        with anyio.fail_after(10), pytest.raises(DeliveryError) as caught:
            await transport.send(MESSAGE)

    assert (caught.value.fault, caught.value.code) == (Fault.TRANSIENT, "503")
    assert caught.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("kind", [*HTTP_KINDS, APPRISE])
async def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    kind: str, session: aiohttp.ClientSession, certified: ssl.SSLContext
) -> None:
    async with serving(fake_of(kind), tls=certified) as service:
        transport = await built(settings_for(kind, service.base, 0), session=session, clock=FixedClock())
        with pytest.raises(DeliveryError) as caught:
            await transport.send(MESSAGE)

    assert caught.value.fault is Fault.TRANSIENT
    assert not said(caught.value)
    assert service.received == []


@pytest.mark.parametrize("kind", [*HTTP_KINDS, APPRISE])
async def test_a_server_without_tls_behind_an_https_address_gets_nothing(
    kind: str, session: aiohttp.ClientSession
) -> None:
    async with serving(fake_of(kind)) as service:
        base = service.base.replace("http://", "https://")
        transport = await built(settings_for(kind, base, 0), session=session, clock=FixedClock())
        with pytest.raises(DeliveryError) as caught:
            await transport.send(MESSAGE)

    assert caught.value.fault is Fault.TRANSIENT
    assert service.received == []


@pytest.mark.parametrize("kind", ["slack", "slack_bot", "discord", "forum"])
async def test_a_friendly_page_in_html_is_no_success(kind: str, session: aiohttp.ClientSession) -> None:
    async with bench_for(kind, session) as bench:
        bench.http.then(200, body="<html>please log in</html>", headers={"Content-Type": "text/html"})

        assert (await refused(bench)).fault is Fault.TRANSIENT


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_listens(kind: str, session: aiohttp.ClientSession) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    settings = settings_for(kind, f"http://127.0.0.1:{port}", port)
    transport = await built(settings, session=session, clock=FixedClock(), limits=SHORT)

    with pytest.raises(DeliveryError) as caught:
        await transport.send(MESSAGE)

    assert caught.value.fault is Fault.TRANSIENT
    assert not said(caught.value)


def said(error: DeliveryError) -> list[str]:
    """Everything of an error that anybody could ever print and that holds a secret."""
    everything = [str(error), repr(error), error.message, error.remedy, error.code]
    everything += [repr(error.__cause__), repr(error.__context__)]
    everything += traceback.format_exception(error)
    return [text for text in everything if CANARY in text or KEY.removeprefix("whsec_") in text or "127.0.0.1" in text]


ECHO = f"no_service {CANARY} https://127.0.0.1/{CANARY}"


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 429, 500])
async def test_no_secret_is_in_a_refusal_that_repeats_it(
    http_bench: Bench, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for body in (ECHO, {"error": ECHO, "message": ECHO, "code": ECHO, "retry_after": ECHO}):
        for _ in range(2):
            http_bench.http.then(status, body=body, headers={"Retry-After": ECHO, "Location": f"/{CANARY}"})
        error = await refused(http_bench)
        assert not said(error)
        assert error.__cause__ is error.__context__ is None
        http_bench.http.script.clear()
    assert CANARY not in caplog.text


@pytest.mark.parametrize("kind", ["slack", "slack_bot", "discord", "forum"])
async def test_no_secret_is_in_a_success_that_is_none(kind: str, session: aiohttp.ClientSession) -> None:
    async with bench_for(kind, session) as bench:
        bench.http.then(200, body=ECHO)

        assert not said(await refused(bench))


@pytest.mark.parametrize("manner", [Manner.HANGS, Manner.LEAVES, Manner.BABBLES])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_is_in_a_broken_connection(
    kind: str, manner: Manner, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with misbehaving(manner, greeting=b"") as port:
        settings = settings_for(kind, f"http://127.0.0.1:{port}", port)
        transport = await built(settings, session=session, clock=FixedClock(), limits=SHORT)
        with pytest.raises(DeliveryError) as caught:
            await transport.send(MESSAGE)

    assert not said(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert CANARY not in caplog.text


async def test_no_secret_is_in_the_log_of_a_success(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    receipt = await bench.transport.send(MESSAGE)

    assert CANARY not in caplog.text
    assert CANARY not in repr(receipt)


async def test_no_secret_is_in_a_repr(bench: Bench) -> None:
    assert CANARY not in repr(bench.settings)
    assert CANARY not in repr(bench.transport)
    assert KEY not in repr(bench.settings)


@pytest.mark.parametrize("kind", HTTP_KINDS)
@pytest.mark.parametrize("address", ["", "hooks.example.org/x", "ftp://example.org/x", "http://[::1", "http://"])
async def test_an_address_that_is_none_is_the_channels_fault(
    kind: str, address: str, session: aiohttp.ClientSession
) -> None:
    settings = settings_for(kind, address, 0)
    if not address:
        settings = settings_for(kind, "nothing", 0)
    transport = await built(settings, session=session, clock=FixedClock(), limits=SHORT)

    with pytest.raises(DeliveryError) as caught:
        await transport.send(MESSAGE)

    assert caught.value.fault is Fault.CHANNEL
    assert not said(caught.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_pace_can_be_set(kind: str, session: aiohttp.ClientSession) -> None:
    async with bench_for(kind, session) as made:
        own = made.transport.pace
        settings = type(made.settings)(
            **{name: getattr(made.settings, name) for name in made.settings.__slots__ if name != "pace"},
            pace=own + timedelta(seconds=9),
        )

        assert own > timedelta()
        assert (await built(settings, session=session)).pace == own + timedelta(seconds=9)
