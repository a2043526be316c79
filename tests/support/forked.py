"""Starts `python -m paidwatch …`, by a fork of a process that has imported it (tests/support/forked_main.py).

A test process has at most one such server. Tiers that prove what users start have a real interpreter started each time.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Self

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from tests.support.forked_main import NUMBER

PAIDWATCH = ("-m", "paidwatch")
POSSIBLE = hasattr(os, "pidfd_open") and "COVERAGE_PROCESS_CONFIG" not in os.environ
"""Whether there can be a server: Linux has what it needs, and coverage begins with an interpreter."""


class Pipe(ByteReceiveStream):
    """The end of a pipe that is read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._descriptor < 0:
            raise anyio.ClosedResourceError
        await anyio.wait_readable(self._descriptor)
        if not (part := os.read(self._descriptor, max_bytes)):
            raise anyio.EndOfStream
        return part

    async def aclose(self) -> None:
        if self._descriptor >= 0:
            anyio.notify_closing(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Forked(Process):
    """One process that the server forked; the server waits for its end and tells of it."""

    def __init__(self, pid: int, server: socket.socket, stdout: Pipe | None, stderr: Pipe) -> None:
        self._pid = pid
        self._server = server
        self._stdout = stdout
        self._stderr = stderr
        self._code: int | None = None
        self._lock = anyio.Lock()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def returncode(self) -> int | None:
        if self._code is None:
            try:
                (self._code,) = NUMBER.unpack(self._server.recv(NUMBER.size, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return None
        return self._code

    async def wait(self) -> int:
        async with self._lock:
            while (code := self.returncode) is None:
                await anyio.wait_readable(self._server)
        return code

    def send_signal(self, signal: signal.Signals) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self._pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def stdin(self) -> ByteSendStream | None:
        return None

    @property
    def stdout(self) -> ByteReceiveStream | None:
        return self._stdout

    @property
    def stderr(self) -> ByteReceiveStream | None:
        return self._stderr

    async def aclose(self) -> None:
        """Wait for its end; if that is not wanted any more, bring it about."""
        if self._stdout is not None:
            await self._stdout.aclose()
        await self._stderr.aclose()
        try:
            await self.wait()
        except BaseException:
            self.kill()
            with anyio.CancelScope(shield=True):
                await self.wait()
            raise
        finally:
            self._server.close()


class ForkServer:
    """The server of this test process. It ends with it, in whatever way that happens: it sees its socket closed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "tests.support.forked_main", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environ,
            )

    def fork(self, *arguments: str, environ: Mapping[str, str], heard: bool) -> Forked:
        """Start one command in this directory; its standard output is a pipe if it is `heard`, and nowhere if not."""
        order = json.dumps({"arguments": arguments, "environ": dict(environ), "folder": str(Path.cwd())})
        ours, told = socket.socketpair()
        said, complained = os.pipe() if heard else None, os.pipe()
        with told, Path(os.devnull).open("r+b", buffering=0) as nowhere:
            stdout = nowhere.fileno() if said is None else said[1]
            standard = [nowhere.fileno(), stdout, complained[1]]
            socket.send_fds(self._socket, [order.encode()], [*standard, told.fileno()])
        for written in (said, complained):
            if written is not None:
                os.close(written[1])
        (pid,) = NUMBER.unpack(ours.recv(NUMBER.size))  # which it cannot send if it did not come up: see its errors
        return Forked(pid, ours, None if said is None else Pipe(said[0]), Pipe(complained[0]))

    def close(self) -> None:
        """End it, and kill what it forked and still runs."""
        self._socket.close()
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Starter:
    """Starts commands: forked as long as `forks` is true, by an interpreter of their own otherwise."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        """What a command sees, unless a test changes something in it."""
        self.forks = POSSIBLE
        self._server: ForkServer | None = None

    async def start(self, *arguments: str, program: Sequence[str] = PAIDWATCH, heard: bool = True) -> Process:
        """Start a program with these arguments; its standard output goes nowhere unless it is `heard`.

        Another program than `python -m paidwatch` is never forked.
        """
        if not self.forks or program != PAIDWATCH:
            return await anyio.open_process(
                (sys.executable, *program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
                env=self.environ,
            )
        if self._server is None:
            self._server = ForkServer(self.environ)
        return self._server.fork(*arguments, environ=self.environ, heard=heard)

    async def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m paidwatch` with these arguments to its end, within a minute."""
        said, complained = BytesIO(), BytesIO()
        with anyio.fail_after(60):
            process = await self.start(*arguments)
            async with process, anyio.create_task_group() as group:
                group.start_soon(_keep, process.stdout, said)
                group.start_soon(_keep, process.stderr, complained)
            code = await process.wait()
        return subprocess.CompletedProcess(arguments, code, said.getvalue().decode(), complained.getvalue().decode())

    @contextmanager
    def real(self) -> Iterator[None]:
        """Start an interpreter for each command meanwhile."""
        forks, self.forks = self.forks, False
        try:
            yield
        finally:
            self.forks = forks

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


async def _keep(stream: ByteReceiveStream | None, where: BytesIO) -> None:
    assert stream is not None
    async for part in stream:
        where.write(part)
