"""Forks `python -m paidwatch …` instead of starting an interpreter for each: `python -m tests.support.forked_main FD`.

Starting one takes longer than most commands do, and nearly all of that is imports; here they are done once. FD is a
socket to the owner. Each message on it is an order: JSON with arguments, environment and directory, and with it the
standard input, output and error, and a socket on which the owner is told the number of the process and later its exit
code, four bytes each. What is forked is a process of its own: only its imports were done by another.

There is one thread, because a fork takes only the calling one along. When the other end of FD is closed, however its
owner came to its end, whatever still runs is killed.
"""

import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import paidwatch

LIMIT = 1 << 20
NUMBER = struct.Struct("i")
LATER = ("anyio._backends._asyncio", "encodings.idna", "rich.console", "rich.table")
"""What libraries import when they are used."""


@dataclass(slots=True, kw_only=True)
class Order:
    """What one process is to be; `standard` are its input, output and error."""

    arguments: list[str]
    environ: dict[str, str]
    folder: str
    standard: list[int]


@dataclass(slots=True, kw_only=True)
class Running:
    pid: int
    owner: socket.socket


def main() -> None:
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in pkgutil.walk_packages(paidwatch.__path__, "paidwatch."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in LATER:
        import_module(name)
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as owner:
        order = serve(owner)
    if order is not None:
        signal.signal(signal.SIGINT, interrupt)
        carry_out(order)


def serve(owner: socket.socket) -> Order | None:
    """Fork for every order; return the order in the process that is to carry it out, and nothing when all is over."""
    running: dict[int, Running] = {}
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    while True:
        for ready, _event in poll.poll():
            if ready != owner.fileno():
                poll.unregister(ready)
                os.close(ready)
                bury(running.pop(ready))
                continue
            message, descriptors, _flags, _address = socket.recv_fds(owner, LIMIT, 4)
            if not message:
                for child in running.values():
                    os.kill(child.pid, signal.SIGKILL)
                return None
            *standard, told = descriptors
            child = Running(pid=os.fork(), owner=socket.socket(fileno=told))
            if child.pid == 0:
                leave(child, running)
                return Order(**json.loads(message), standard=standard)
            for descriptor in standard:
                os.close(descriptor)
            tell(child, child.pid)
            handle = os.pidfd_open(child.pid)
            running[handle] = child
            poll.register(handle, select.POLLIN)


def leave(child: Running, others: dict[int, Running]) -> None:
    """Close, in the new process, what is the server's."""
    child.owner.close()
    for handle, other in others.items():
        os.close(handle)
        other.owner.close()


def bury(child: Running) -> None:
    _pid, status = os.waitpid(child.pid, 0)
    tell(child, os.waitstatus_to_exitcode(status))
    child.owner.close()


def tell(child: Running, number: int) -> None:
    with suppress(OSError):  # an owner that does not want to know any more
        child.owner.sendall(NUMBER.pack(number))


def carry_out(order: Order) -> Any:
    """Become what `python -m paidwatch` would be; leaves by SystemExit, as that does."""
    for number, descriptor in enumerate(order.standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environ)
    time.tzset()
    sys.argv[1:] = order.arguments
    return runpy.run_module("paidwatch", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
