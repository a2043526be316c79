"""Tell the service manager how the daemon is: sd_notify(3) in one datagram each, without a library."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Self

from paidwatch.log import Log
from paidwatch.ports import Clock

_log = Log("watchdog")
_MICROSECOND = timedelta(microseconds=1)


class NotifySocket:
    """The manager's datagram socket; every method is silent where there is no manager, and none blocks or raises.

    A message that does not fit into the manager's queue is dropped: it is a report, and the next one follows.
    """

    def __init__(self, address: str | None) -> None:
        """Keep `address`: a path, or a name in the abstract namespace written with a leading `@`; None is nobody.

        Anything else (sd_notify also knows `vsock:`) counts as nobody.
        """
        self._address: str | None = None
        self._socket: socket.socket | None = None
        if address is None or not address.startswith(("/", "@")):
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        with suppress(OSError):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the address from `NOTIFY_SOCKET`."""
        return cls(environment.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is complete."""
        self._send({"READY": "1", "STATUS": status})

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send({"STATUS": text})

    def reloading(self, clock: Clock) -> None:
        """A reload begins; `ready` ends it. The time stamp is CLOCK_MONOTONIC, as Python's own clock is on Linux."""
        self._send({"RELOADING": "1", "MONOTONIC_USEC": str(clock.monotonic() // _MICROSECOND)})

    def stopping(self, status: str) -> None:
        """The daemon drains and will end."""
        self._send({"STOPPING": "1", "STATUS": status})

    def extend(self, span: timedelta) -> None:
        """Start-up or stop needs `span` more from now; to be repeated while there is progress."""
        self._send({"EXTEND_TIMEOUT_USEC": str(span // _MICROSECOND)})

    def watchdog(self) -> None:
        """The pipeline lives."""
        self._send({"WATCHDOG": "1"})

    def main_pid(self, pid: int) -> None:
        """Name the process to supervise, where it is not the one that was started."""
        self._send({"MAINPID": str(pid)})

    def close(self) -> None:
        """Give the file descriptor back; later calls are silent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, fields: Mapping[str, str]) -> None:
        if self._socket is None or self._address is None:
            return
        lines = [f"{name}={' '.join(value.split())}" for name, value in fields.items()]
        with suppress(OSError, ValueError):
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)


def watchdog_interval(environment: Mapping[str, str], pid: int) -> timedelta | None:
    """Return how long the manager waits for a sign of life, None where it does not watch the process `pid`."""
    owner = environment.get("WATCHDOG_PID", str(pid))
    span = environment.get("WATCHDOG_USEC", "")
    if owner != str(pid) or not (span.isascii() and span.isdecimal()) or int(span) == 0:
        return None
    return int(span) * _MICROSECOND


class Watchdog:
    """The task that gives signs of life while there is life."""

    def __init__(self, clock: Clock) -> None:
        """Sleep by `clock`."""
        self._clock = clock

    async def feed(self, notify: NotifySocket, interval: timedelta | None, alive: Callable[[], str | None]) -> None:
        """Feed at half of `interval` while `alive` returns None, for ever; without an interval, return at once.

        A reason from `alive` is logged when it appears or changes, and nothing is fed: at the end of the interval the
        manager restarts the daemon. A loop that is blocked starves this task, with the same effect.
        """
        if interval is None:
            return
        told: str | None = None
        while True:
            reason = alive()
            if reason is None:
                notify.watchdog()
                if told is not None:
                    _log.info("watchdog.fed", "the pipeline moves again")
            elif reason != told:
                _log.error("watchdog.withheld", "the pipeline is stuck: the watchdog is not fed", reason=reason)
            told = reason
            await self._clock.sleep(interval / 2)
