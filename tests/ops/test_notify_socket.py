"""The service manager's socket, for real: a unix datagram socket on the other side."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from paidwatch.ops.notify_socket import NotifySocket, Watchdog, watchdog_interval


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.setblocking(False)
        yield receiver


def heard(receiver: socket.socket) -> list[str]:
    """Return every datagram that has arrived; on a unix socket, sent is arrived."""
    messages: list[str] = []
    while True:
        try:
            messages.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return messages


class HandClock:
    """A clock that moves when the test lets a sleeper go."""

    def __init__(self) -> None:
        self.reading = timedelta(days=3)
        self.asleep = anyio.Event()
        self.spans: list[timedelta] = []
        self._go = anyio.Event()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> timedelta:
        return self.reading

    async def sleep(self, span: timedelta) -> None:
        self.spans.append(span)
        self.asleep.set()
        await self._go.wait()

    async def wake(self) -> None:
        """Let the sleeper go, and wait until it sleeps again."""
        go, self._go, self.asleep = self._go, anyio.Event(), anyio.Event()
        go.set()
        with anyio.fail_after(5):
            await self.asleep.wait()


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_arrives_as_the_protocol_writes_it(tmp_path: Path, abstract: bool) -> None:
    address = f"@paidwatch-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with manager(address) as receiver:
        notify = NotifySocket.from_environment({"NOTIFY_SOCKET": address})
        notify.ready("leader")
        notify.status("next due in 4 s")
        notify.extend(timedelta(seconds=30))
        notify.watchdog()
        notify.main_pid(4711)
        notify.stopping("draining")
        assert heard(receiver) == [
            "READY=1\nSTATUS=leader",
            "STATUS=next due in 4 s",
            "EXTEND_TIMEOUT_USEC=30000000",
            "WATCHDOG=1",
            "MAINPID=4711",
            "STOPPING=1\nSTATUS=draining",
        ]
        notify.close()
        notify.close()
        notify.status("after the end")
        assert heard(receiver) == []


async def test_a_reload_carries_the_monotonic_time_in_microseconds(tmp_path: Path) -> None:
    clock = HandClock()
    clock.reading = timedelta(seconds=5, microseconds=7)
    with manager(str(tmp_path / "notify")) as receiver:
        notify = NotifySocket(str(tmp_path / "notify"))
        notify.reloading(clock)
        notify.ready("leader")
        notify.close()
        assert heard(receiver) == ["RELOADING=1\nMONOTONIC_USEC=5000007", "READY=1\nSTATUS=leader"]


def test_a_status_cannot_smuggle_in_another_field(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as receiver:
        notify = NotifySocket(str(tmp_path / "notify"))
        notify.status("server said:\nSTOPPING=1\r\n\tand \ud800 more")
        notify.close()
        assert heard(receiver) == ["STATUS=server said: STOPPING=1 and ? more"]


@pytest.mark.parametrize(
    "address", [None, "", "relative/path", "vsock:2:1234", "/nowhere/at/all", "/" + "x" * 200, "/\0"]
)
def test_without_a_manager_everything_is_silent(address: str | None) -> None:
    notify = NotifySocket(address)
    notify.ready("leader")
    notify.watchdog()
    notify.close()


def test_a_full_and_then_vanished_socket_neither_blocks_nor_raises(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with manager(str(path)) as receiver:
        notify = NotifySocket(str(path))
        sent = 20_000
        for number in range(sent):
            notify.status(f"{number}")
        arrived = heard(receiver)
        assert 0 < len(arrived) < sent, "the queue was never full, so nothing was tested"
        notify.status("room again")
        assert heard(receiver) == ["STATUS=room again"]
    path.unlink()
    notify.status("nobody is left")
    with manager(str(path)) as receiver:
        notify.status("a new manager")
        assert heard(receiver) == ["STATUS=a new manager"], "a manager that re-executes is found again"
    notify.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, timedelta(minutes=1)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "12"}, timedelta(minutes=1)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "13"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_interval_is_ours_only_when_the_manager_means_this_process(
    environment: dict[str, str], expected: timedelta | None
) -> None:
    assert watchdog_interval(environment, pid=12) == expected


async def test_the_watchdog_is_fed_at_half_the_interval_while_the_pipeline_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="paidwatch")
    clock = HandClock()
    reason: str | None = None
    with manager(str(tmp_path / "notify")) as receiver:
        notify = NotifySocket(str(tmp_path / "notify"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Watchdog(clock).feed, notify, timedelta(seconds=10), lambda: reason)
            await clock.asleep.wait()
            assert heard(receiver) == ["WATCHDOG=1"]

            reason = "decide is stuck"
            await clock.wake()
            await clock.wake()
            assert heard(receiver) == []
            assert [record.__dict__["fields"]["reason"] for record in caplog.records] == ["decide is stuck"], (
                "told once"
            )

            reason = "deliver is stuck"
            await clock.wake()
            assert len(caplog.records) == 2, "another reason is told as well"

            reason = None
            await clock.wake()
            assert heard(receiver) == ["WATCHDOG=1"]
            assert [record.__dict__["event"] for record in caplog.records] == [
                "watchdog.withheld",
                "watchdog.withheld",
                "watchdog.fed",
            ]
            tasks.cancel_scope.cancel()
        notify.close()
    assert set(clock.spans) == {timedelta(seconds=5)}


async def test_without_an_interval_there_is_nothing_to_feed(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as receiver:
        notify = NotifySocket(str(tmp_path / "notify"))
        await Watchdog(HandClock()).feed(notify, None, lambda: None)
        notify.close()
        assert heard(receiver) == []
