"""Slow clients over real sockets: they are closed in time, and keep nobody else out."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest
from aiohttp import web
from anyio.abc import SocketStream

from paidwatch.web.app import serve
from paidwatch.web.connections import Bounds, Connections
from paidwatch.web.rate import networks

WITHIN = 20
LOOPBACK = networks(["127.0.0.0/8"])
FOR_EVER = timedelta(hours=1)
SHORT = timedelta(milliseconds=50)
MOMENT = 0.002
HEAD = b"GET /hello HTTP/1.1\r\nHost: x\r\n"
GET = HEAD + b"\r\n"
LATE = b"HTTP/1.1 408 "


@dataclass
class House:
    """A served application, the number of its connections, and a handler that waits until it is let go."""

    address: tuple[str, int]
    connections: Connections
    entered: anyio.Event = field(default_factory=anyio.Event)
    let_go: anyio.Event = field(default_factory=anyio.Event)
    given_up: anyio.Event = field(default_factory=anyio.Event)

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp(*self.address)

    async def get(self) -> bytes:
        async with await self.connect() as stream:
            await stream.send(GET)
            return await answer(stream)

    async def a_silent_one_is_closed(self) -> None:
        """Return when somebody who connected after everybody else has been closed for sending nothing."""
        async with await self.connect() as silent:
            assert await end(silent) == b""


async def answer(stream: SocketStream) -> bytes:
    with anyio.fail_after(WITHIN):
        return await stream.receive()


async def end(stream: SocketStream) -> bytes:
    """Return everything that comes until the server hangs up."""
    said = b""
    with anyio.fail_after(WITHIN):
        try:
            async for piece in stream:
                said += piece
        except anyio.BrokenResourceError:  # it hung up on something that was still under way
            pass
    return said


@asynccontextmanager
async def house(trusted: bool = True, **bounds: timedelta | int) -> AsyncIterator[House]:
    connections = Connections(Bounds(**bounds), LOOPBACK if trusted else ())  # type: ignore[arg-type]

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def wait(_request: web.Request) -> web.Response:
        served.entered.set()
        await served.let_go.wait()
        return web.Response(text="at last")

    async def take(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        served.entered.set()
        await served.let_go.wait()
        await response.write(b"at last")
        return response

    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            served.given_up.set()
            raise

    app = web.Application()
    app.router.add_get("/hello", hello)
    app.router.add_get("/wait", wait)
    app.router.add_get("/stream", stream)
    app.router.add_get("/pour", pour)
    app.router.add_post("/take", take)
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(serve, app, "127.0.0.1", 0, connections)
        served = House(address=address, connections=connections)
        yield served
        tasks.cancel_scope.cancel()


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    async with house(head=timedelta(milliseconds=200), idle=FOR_EVER) as served, await served.connect() as slow:
        await slow.send(HEAD)
        said = b""
        with anyio.fail_after(WITHIN):
            while not said:
                await slow.send(b"X")
                with anyio.move_on_after(MOMENT):
                    said = await slow.receive()
        assert said.startswith(LATE)
        assert await end(slow) == b""
        assert (await served.get()).startswith(b"HTTP/1.1 200")


async def test_who_sends_nothing_is_closed_without_a_word() -> None:
    async with house(head=SHORT, idle=FOR_EVER) as served:
        await served.a_silent_one_is_closed()
        assert len(served.connections) == 0


async def test_each_further_request_is_to_come_in_time_as_well() -> None:
    async with house(head=SHORT, idle=FOR_EVER) as served, await served.connect() as stream:
        for _ in range(3):
            await stream.send(GET)
            assert (await answer(stream)).startswith(b"HTTP/1.1 200")
            await served.a_silent_one_is_closed()  # being idle for longer than that is no fault
        await stream.send(b"G")
        assert (await end(stream)).startswith(LATE)


async def test_who_asks_for_nothing_more_is_closed() -> None:
    async with house(head=FOR_EVER, idle=SHORT) as served, await served.connect() as stream:
        await stream.send(GET)
        said = await end(stream)
        assert said.count(b"HTTP/1.1") == 1
        assert said.endswith(b"hello")


@pytest.mark.parametrize("path", [b"/wait", b"/stream"])
async def test_whoever_waits_for_us_is_not_cut(path: bytes) -> None:
    async with house(head=SHORT, idle=SHORT, total=2, per_client=2) as served, await served.connect() as patient:
        await patient.send(GET.replace(b"/hello", path))
        await served.entered.wait()
        for _ in range(3):
            await served.a_silent_one_is_closed()
            assert (await served.get()).startswith(b"HTTP/1.1 200")
        served.let_go.set()
        assert b"at last" in await end(patient)


async def test_a_slow_body_is_taken() -> None:
    async with house(head=SHORT, idle=FOR_EVER) as served, await served.connect() as slow:
        await slow.send(b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d", b"e"):
            await served.a_silent_one_is_closed()
            await slow.send(byte)
        said = await answer(slow)
        assert said.startswith(b"HTTP/1.1 200")
        assert said.endswith(b"5")


@pytest.mark.parametrize("began", [b"", HEAD, b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", GET])
@pytest.mark.parametrize("trusted", [True, False])
async def test_those_who_only_hold_connections_make_room(began: bytes, *, trusted: bool) -> None:
    """Behind a trusted proxy all clients have one address, and only the bound over all counts."""
    bounds = {"total": 8, "per_client": 1} if trusted else {"per_client": 8}
    async with house(trusted, head=FOR_EVER, idle=FOR_EVER, **bounds) as served, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(await served.connect()) for _ in range(8)]
        for one in idle:
            await one.send(began)
        if began == GET:
            for one in idle:
                assert (await answer(one)).startswith(b"HTTP/1.1 200")
        for _ in range(20):
            await one_more(served, stack)
        assert (await end(idle[0])).startswith(LATE) is (began == HEAD), "the oldest is the first to go"
        assert len(served.connections) == 8


async def one_more(served: House, stack: AsyncExitStack) -> None:
    """Somebody comes, is answered, and stays."""
    stream = await stack.enter_async_context(await served.connect())
    await stream.send(GET)
    assert (await answer(stream)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("trusted", [True, False])
async def test_where_everybody_is_being_served_the_next_one_is_told_to_come_again(*, trusted: bool) -> None:
    bounds = {"total": 2, "per_client": 1} if trusted else {"per_client": 2}
    async with house(trusted, **bounds) as served, AsyncExitStack() as stack:
        patient, other = [await stack.enter_async_context(await served.connect()) for _ in range(2)]
        for one in (patient, other):
            served.entered = anyio.Event()
            await one.send(GET.replace(b"/hello", b"/wait"))
            await served.entered.wait()
        async with await served.connect() as late:
            said = await end(late)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in said
        served.let_go.set()
        assert b"at last" in await answer(patient)
        await patient.send(GET)
        assert (await answer(patient)).startswith(b"HTTP/1.1 200")
        assert (await served.get()).startswith(b"HTTP/1.1 200")


async def test_one_address_cannot_take_all_places() -> None:
    """127.0.0.2 is another client than 127.0.0.1, and no proxy here."""
    async with house(trusted=False, head=FOR_EVER, total=100, per_client=4) as served, AsyncExitStack() as stack:
        other = await stack.enter_async_context(await anyio.connect_tcp(*served.address, local_host="127.0.0.2"))
        for _ in range(20):
            await stack.enter_async_context(await served.connect())
        await other.send(GET)
        assert (await answer(other)).startswith(b"HTTP/1.1 200")
        await one_more(served, stack)
        assert len(served.connections) == 5


async def test_who_does_not_take_the_answer_is_dropped_by_the_kernel() -> None:
    async with house(untaken=SHORT) as served:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await anyio.to_thread.run_sync(lazy.connect, served.address)
            lazy.send(GET.replace(b"/hello", b"/pour"))
            with anyio.fail_after(WITHIN):
                await served.given_up.wait()


async def test_a_stop_closes_everybody() -> None:
    async with AsyncExitStack() as stack:
        async with house(head=FOR_EVER, idle=FOR_EVER) as served:
            silent = await stack.enter_async_context(await served.connect())
            begun = await stack.enter_async_context(await served.connect())
            await begun.send(HEAD)
            await one_more(served, stack)
        assert await end(silent) == b""
        assert await end(begun) == b""
        assert len(served.connections) == 0
