"""The HTTP side over real connections on loopback."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO

import aiohttp
import anyio
import pytest
from aiohttp import web

from paidwatch.errors import ConfigError, PaidwatchError
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.web.app import build_app, serve
from tests.ops.still_clock import StillClock

TOKEN = "correct horse battery staple"
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def status(clock: StillClock) -> Status:
    return Status(clock=clock)


def application(status: Status, *, token: str = TOKEN, loopback: bool = True) -> web.Application:
    metrics = Metrics(status=status, version="1.2.3", channels=["ops"])
    return build_app(status, metrics, token, loopback=loopback)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve on a free port; the session's base address is the server's."""
    async with anyio.create_task_group() as tasks:
        host, port = await tasks.start(serve, app, "127.0.0.1", 0)
        limit = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(f"http://{host}:{port}", timeout=limit) as client:
            yield client
        tasks.cancel_scope.cancel()


async def test_healthz_says_whether_the_pipeline_moves(status: Status, clock: StillClock) -> None:
    async with served(application(status)) as client:
        async with client.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")

        status.busy("decide", 30 * SECOND)
        clock.passed += 31 * SECOND
        async with client.get("/healthz") as answer:
            assert answer.status == 503
            assert await answer.text() == "decide is stuck for longer than its limit of 30 s\n"


async def test_readyz_names_what_is_wrong(status: Status, clock: StillClock) -> None:
    async with served(application(status)) as client:
        async with client.get("/readyz") as answer:
            body = await answer.json()
            assert answer.status == 503
            assert (body["ready"], body["wrong"]) == (False, ["starting: the first catch-up is not done"])

        status.leading(recovered=0)
        status.due_in(90 * SECOND)
        status.drained()
        status.beat("decide")
        async with client.get("/readyz") as answer:
            assert answer.status == 200
            assert await answer.json() == {
                "ready": True,
                "role": "leader",
                "wrong": [],
                "listening_since": "2026-01-01T00:00:00+00:00",
                "last_drain": "2026-01-01T00:00:00+00:00",
                "last_error": "",
                "next_due_seconds": 90.0,
                "blind_seconds": 0.0,
                "workers": {"decide": "2026-01-01T00:00:00+00:00"},
            }

        status.lost("the server does not answer", retry_within=SECOND)
        clock.passed += SECOND
        async with client.get("/readyz") as answer:
            body = await answer.json()
            assert answer.status == 503
            assert body["wrong"] == ["not listening: the server does not answer"]
            assert (body["role"], body["blind_seconds"]) == ("reconnecting", 1.0)
        async with client.get("/healthz") as answer:
            assert answer.status == 200, "a restart would not bring the database back"


async def test_metrics_are_given_in_the_form_of_prometheus(status: Status) -> None:
    async with served(application(status)) as client:
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert 'paidwatch_role{role="starting"} 1.0' in await answer.text()
        async with client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/", "/no/such/page", "/healthz/", "/webhooks", "/v1/session"])
@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        "Bearer \u00e9\u20ac",
    ],
)
async def test_beyond_loopback_everything_but_health_asks_for_the_token(
    status: Status, path: str, credential: str | None
) -> None:
    headers = {} if credential is None else {"Authorization": credential}
    async with served(application(status, loopback=False)) as client:
        async with client.get(path, headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in await answer.text()
        async with client.get("/healthz", headers=headers) as answer:
            assert answer.status == 200


async def test_beyond_loopback_the_token_opens(status: Status) -> None:
    status.leading(recovered=0)
    async with served(application(status, loopback=False)) as client:
        for credential in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
            for path, expected in (("/readyz", 200), ("/metrics", 200), ("/no/such/page", 404)):
                async with client.get(path, headers={"Authorization": credential}) as answer:
                    assert answer.status == expected


async def test_an_empty_token_opens_nothing(status: Status) -> None:
    async with served(application(status, token="", loopback=False)) as client:
        for credential in ("Bearer", "Bearer ", "Bearer x", ""):
            async with client.get("/metrics", headers={"Authorization": credential}) as answer:
                assert answer.status == 401


async def test_pages_added_later_are_public_only_by_their_pattern(status: Status) -> None:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = application(status, loopback=False)
    app.router.add_post("/webhooks/{provider}", hello)
    app.router.add_get("/v1/session/{id}", hello)
    app.router.add_get("/act/{token}", hello)
    async with served(app) as client:
        async with client.post("/webhooks/stripe") as answer:
            assert answer.status == 200
        async with client.get("/v1/session/abc") as answer:
            assert answer.status == 200
        async with client.get("/act/abc") as answer:
            assert answer.status == 401
        async with client.get("/webhooks/../metrics") as answer:
            assert answer.status == 401


async def test_a_fault_of_a_page_gives_nothing_away(status: Status, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def broken(request: web.Request) -> web.Response:
        raise ValueError(request.path + " canary")

    app = application(status)
    app.router.add_get("/act/{token}", broken)
    async with served(app) as client, client.get("/act/sesame?canary=1") as answer:
        assert answer.status == 500
        text = await answer.text()
    assert "canary" not in text
    assert "Traceback" not in text
    assert "canary" not in caplog.text
    assert "sesame" not in caplog.text
    failed = [record.__dict__ for record in caplog.records if record.__dict__.get("event") == "http.failed"]
    assert [entry["fields"] for entry in failed] == [{"route": "/act/{token}", "error": "ValueError"}]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/no/such/page"])
async def test_no_answer_names_a_server_or_may_be_stored(status: Status, path: str) -> None:
    async with served(application(status)) as client, client.get(path) as answer:
        assert "Server" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_body_beyond_the_limit_is_refused(status: Status) -> None:
    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    app = application(status)
    app.router.add_post("/webhooks/{provider}", read)
    async with served(app) as client:
        async with client.post("/webhooks/stripe", data=BytesIO(b"x" * 1_000_000)) as answer:
            assert await answer.text() == "1000000"
        async with client.post("/webhooks/stripe", data=BytesIO(b"x" * 1_100_000)) as answer:
            assert answer.status == 413


async def test_a_port_in_use_is_said_with_a_remedy(status: Status) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PaidwatchError) as caught:
            await serve(application(status), "127.0.0.1", port)
    assert caught.value.message == f"[http] listen: 127.0.0.1:{port} is in use by another program"
    assert f"ss -ltnp 'sport = :{port}'" in caught.value.remedy


async def test_an_address_of_another_machine_is_a_configuration_error(status: Status) -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:8787 is not an address of this machine"):
        await serve(application(status), "192.0.2.1", 8787)


async def test_cancelling_ends_the_server_and_frees_the_port(status: Status) -> None:
    bound: list[tuple[str, int]] = []
    async with anyio.create_task_group() as tasks:
        bound.append(await tasks.start(serve, application(status), "127.0.0.1", 0))
        host, port = bound[0]
        async with aiohttp.ClientSession() as client, client.get(f"http://{host}:{port}/healthz") as answer:
            assert answer.status == 200
        tasks.cancel_scope.cancel()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(bound[0])
    with socket.create_server(bound[0]):
        pass


async def test_a_request_that_never_ends_does_not_hold_the_stop_up(status: Status) -> None:
    entered = anyio.Event()

    async def forever(_request: web.Request) -> web.Response:
        entered.set()
        await anyio.sleep_forever()
        raise AssertionError

    app = application(status)
    app.router.add_get("/v1/session/{id}/events", forever)
    with anyio.fail_after(20), socket.socket() as client:
        async with anyio.create_task_group() as tasks:
            address = await tasks.start(serve, app, "127.0.0.1", 0)
            await anyio.to_thread.run_sync(client.connect, address)
            client.setblocking(False)
            client.send(b"GET /v1/session/1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await entered.wait()
            tasks.cancel_scope.cancel()
        assert client.recv(1) == b"", "the server has hung up, and the client had not"


async def test_what_is_not_http_is_refused_without_harm(status: Status) -> None:
    async with served(application(status)) as client:
        assert client._base_url is not None
        host, port = client._base_url.host, client._base_url.port
        assert host is not None
        assert port is not None
        stream = await anyio.connect_tcp(host, port)
        await stream.send(b"\x16\x03\x01\x00 hello\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.0 400")
        await stream.aclose()
        async with client.get("/healthz") as answer:
            assert answer.status == 200
