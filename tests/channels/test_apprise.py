import importlib.util
import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import aiohttp
import anyio
import pytest
from pydantic import SecretStr

from paidwatch.channels.apprise import LONGEST, shorten
from paidwatch.channels.settings import AppriseSettings
from paidwatch.core.model import Line
from paidwatch.errors import ConfigError, DeliveryError, Fault
from tests.channels.conftest import CANARY, HOOK_PATH, SHORT, Bench, bench_for, built
from tests.channels.fakes.apprise import ALIVE, Told
from tests.channels.fakes.http import serving
from tests.channels.fakes.wire import Manner, misbehaving
from tests.channels.stories import message, notice_of
from tests.channels.test_hostile import HOSTILE

NEEDED = pytest.mark.skipif(importlib.util.find_spec("apprise") is None, reason="Apprise is not installed")
MESSAGE = message(notice_of("new_paid_not_active"))


@dataclass
class Service:
    """What a plugin of Apprise says about itself."""

    title_maxlen: int = 250
    body_maxlen: int = 32768

    def notify(self, *, title: str, body: str, notify_type: str, body_format: str, overflow: str) -> bool:
        raise AssertionError


@pytest.fixture
async def bench(session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for("apprise", session) as made:
        yield made


@pytest.fixture
async def two() -> AsyncIterator[tuple[Told, Told]]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(Told(HOOK_PATH)))
        second = await stack.enter_async_context(serving(Told(HOOK_PATH)))
        assert isinstance(first, Told)
        assert isinstance(second, Told)
        yield first, second


def address(base: str) -> SecretStr:
    return SecretStr(base.replace("http", "json") + HOOK_PATH)


def told(bench: Bench) -> list[dict[str, str]]:
    assert isinstance(bench.service, Told)
    return bench.service.told


async def refusal(transport: object) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(MESSAGE)  # type: ignore[attr-defined]
    return caught.value


@NEEDED
async def test_a_message_is_a_title_and_a_text(bench: Bench) -> None:
    receipt = await bench.transport.send(MESSAGE)

    (said,) = told(bench)
    assert said["title"] == "NEW · user 7 paid 14.99 USD (professional), not active"
    assert "Next: paidwatch activate 7 --payment 12 --dry-run" in said["message"]
    assert "Paid: 2026-03-14 09:26:53 UTC" in said["message"]
    assert said["type"] == "failure"
    assert (receipt.code, dict(receipt.reference)) == ("taken", {})


@NEEDED
@pytest.mark.parametrize(("case", "kind"), [("still", "warning"), ("resolved", "success"), ("daily", "info")])
async def test_the_type_follows_the_word(bench: Bench, case: str, kind: str) -> None:
    await bench.transport.send(message(notice_of(case)))

    assert [said["type"] for said in told(bench)] == [kind]


@NEEDED
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_text_is_short_and_means_nothing(bench: Bench, text: str) -> None:
    lines = tuple(Line(label=text, value=text, short=False) for _ in range(30))
    notice = replace(MESSAGE.notice, subject=text, summary=text, command=text, lines=lines, kind=text)

    await bench.transport.send(message(notice))  # the service refuses what is too long or alive

    assert len(told(bench)) == 1


@pytest.mark.parametrize("body", [100, 160, 1024, 4096, 32768])
@pytest.mark.parametrize("title", [0, 20, 250])
def test_a_message_fits_what_the_service_takes(body: int, title: int) -> None:
    notice = replace(MESSAGE.notice, subject="s" * 400, summary="long " * 400)
    made_title, made = shorten(notice, Service(title_maxlen=title, body_maxlen=body))

    assert len(made) <= min(body, LONGEST)
    if title:
        assert len(made_title) <= title
    else:
        assert len(made_title) + len(made) < max(body, 200)
    assert made.endswith("…") or "paidwatch · alert 41" in made
    assert ALIVE.search(made) is None


@NEEDED
@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (401, Fault.CHANNEL),
        (403, Fault.CHANNEL),
        (404, Fault.CHANNEL),
        (302, Fault.CHANNEL),
        (400, Fault.MESSAGE),
        (429, Fault.TRANSIENT),
        (500, Fault.TRANSIENT),
    ],
)
async def test_the_status_is_read_off_what_apprise_says(bench: Bench, status: int, fault: Fault) -> None:
    bench.http.then(status, headers={"Location": f"{bench.http.base}/elsewhere"})

    error = await refusal(bench.transport)

    assert (error.fault, error.code) == (fault, str(status))
    assert [request.path for request in bench.http.received] == [HOOK_PATH]


@NEEDED
async def test_a_status_of_an_earlier_message_is_forgotten(session: aiohttp.ClientSession, bench: Bench) -> None:
    bench.http.then(401)
    await refusal(bench.transport)

    async with misbehaving(Manner.LEAVES, greeting=b"") as port:
        gone = await built(AppriseSettings(urls=(address(f"http://127.0.0.1:{port}"),)), session=session)
        error = await refusal(gone)

    assert (error.fault, error.code) == (Fault.TRANSIENT, "refused")


@NEEDED
async def test_an_address_that_took_it_is_not_told_again(
    session: aiohttp.ClientSession, two: tuple[Told, Told]
) -> None:
    first, second = two
    transport = await built(AppriseSettings(urls=(address(first.base), address(second.base))), session=session)
    second.then(503)

    error = await refusal(transport)
    assert (error.fault, error.code) == (Fault.TRANSIENT, "503")
    assert "1 of 2" in str(error)
    await transport.send(MESSAGE)
    await transport.send(message(MESSAGE.notice, key="a.41.2"))

    assert (len(first.told), len(second.told)) == (2, 2)
    assert len(first.received) == 2


@NEEDED
@pytest.mark.parametrize(
    ("answers", "fault"),
    [((404, 503), Fault.TRANSIENT), ((400, 404), Fault.CHANNEL), ((400, 400), Fault.MESSAGE)],
)
async def test_of_several_refusals_the_one_that_may_pass_decides(
    session: aiohttp.ClientSession, two: tuple[Told, Told], answers: tuple[int, int], fault: Fault
) -> None:
    transport = await built(AppriseSettings(urls=tuple(address(one.base) for one in two)), session=session)
    for one, status in zip(two, answers, strict=True):
        one.then(status)

    assert (await refusal(transport)).fault is fault


@NEEDED
async def test_an_address_that_hangs_holds_up_no_other_and_leaves_one_thread(
    session: aiohttp.ClientSession, two: tuple[Told, Told]
) -> None:
    async with misbehaving(Manner.TRICKLES, greeting=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") as port:
        urls = (address(f"http://127.0.0.1:{port}"), address(two[0].base))
        transport = await built(AppriseSettings(urls=urls), session=session, limits=SHORT)
        for _ in range(3):
            assert (await refusal(transport)).code == "timeout"
        assert sum(thread.name == "apprise" for thread in threading.enumerate()) == 1

    assert len(two[0].told) == 1


@NEEDED
async def test_what_arrived_after_all_is_not_sent_again(session: aiohttp.ClientSession, two: tuple[Told, Told]) -> None:
    slow = two[0]
    may = anyio.Event()
    arrived = anyio.Event()
    usual = slow.handler

    async def hesitate(request: object) -> object:
        await may.wait()
        answer = await usual(request)  # type: ignore[arg-type]
        arrived.set()
        return answer

    slow.handler = hesitate  # type: ignore[assignment]
    transport = await built(AppriseSettings(urls=(address(slow.base),)), session=session, limits=SHORT)
    assert (await refusal(transport)).code == "timeout"
    may.set()
    await arrived.wait()

    await transport.send(MESSAGE)

    assert len(slow.told) == 1


@pytest.mark.parametrize("blocked", ["apprise"])
async def test_without_the_package_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, session: aiohttp.ClientSession, blocked: str
) -> None:
    monkeypatch.setitem(sys.modules, blocked, None)

    with pytest.raises(ConfigError) as caught:
        await built(AppriseSettings(urls=(SecretStr(f"json://example.org/{CANARY}"),)), session=session)

    assert caught.value.remedy == "pip install 'paidwatch[apprise]'"
    assert CANARY not in str(caught.value)


@NEEDED
@pytest.mark.parametrize("url", [f"nosuch://{CANARY}", CANARY, f"tgram://{CANARY}", ""])
async def test_an_address_that_apprise_does_not_know_is_a_wrong_configuration(
    session: aiohttp.ClientSession, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(ConfigError) as caught:
        await built(AppriseSettings(urls=(SecretStr("json://example.org"), SecretStr(url))), session=session)

    assert "address 2 of channel ops" in str(caught.value)
    assert CANARY not in str(caught.value) + caplog.text + "".join(capfd.readouterr())


@NEEDED
async def test_it_is_not_imported_where_no_channel_needs_it() -> None:
    probe = "import sys, paidwatch.channels; sys.exit('apprise' in sys.modules)"

    done = await anyio.run_process([sys.executable, "-c", probe], check=False)

    assert done.returncode == 0


@NEEDED
async def test_a_thread_that_hangs_does_not_keep_the_process(session: aiohttp.ClientSession) -> None:
    async with misbehaving(Manner.TRICKLES, greeting=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") as port:
        probe = f"""
import anyio
from datetime import timedelta
from pydantic import SecretStr
from paidwatch.channels.apprise import Apprise
from paidwatch.channels.http import Limits
from paidwatch.channels.settings import AppriseSettings
from paidwatch.errors import DeliveryError
from tests.channels.stories import message, notice_of

async def main():
    url = SecretStr("json://127.0.0.1:{port}/x")
    limits = Limits(total=timedelta(milliseconds=300))
    try:
        await Apprise("ops", AppriseSettings(urls=(url,)), limits=limits).send(message(notice_of("still")))
    except DeliveryError as error:
        print(error.code)

anyio.run(main)
"""
        with anyio.fail_after(30):
            done = await anyio.run_process([sys.executable, "-c", probe], check=False)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"timeout", b"")
