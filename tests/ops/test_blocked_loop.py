"""The real daemon under a manager's watchdog: an event loop that is blocked feeds it no more."""

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.support.daemon import ENVIRONMENT, ROOT, configuration
from tests.support.postgres import Database
from tests.support.watched import watched

__all__ = ["watched"]

INTERVAL = 400_000
"""Microseconds; fed at half of it."""
PROGRAM = "tests.support.blocked_main"


@asynccontextmanager
async def supervised(config: Path, folder: Path) -> AsyncIterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Start the daemon as systemd does, with a socket for what it says; killed at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.setblocking(False)
        environment = ENVIRONMENT | {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(INTERVAL)}
        command = [sys.executable, "-m", PROGRAM, "run", "--config", str(config)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=log, stdout=log)
        try:
            yield process, manager
        finally:
            process.kill()
            process.wait()


async def heard(manager: socket.socket, until: str) -> list[str]:
    """Return what is said up to and including the first message with the line `until`."""
    said: list[str] = []
    with anyio.fail_after(30):
        while not said or until not in said[-1].split("\n"):
            await anyio.wait_readable(manager)
            said.append(manager.recv(4096).decode())
    return said


@pytest.fixture
def config(watched: Database, tmp_path: Path) -> Path:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(watched))
    return file


async def test_a_blocked_loop_does_not_feed_the_watchdog(config: Path, tmp_path: Path) -> None:
    async with supervised(config, tmp_path) as (process, manager):
        await heard(manager, "READY=1")
        await heard(manager, "WATCHDOG=1")
        await heard(manager, "WATCHDOG=1")
        process.send_signal(signal.SIGUSR1)
        await heard(manager, "X_BLOCKED=1")
        blocked = await heard(manager, "X_FREE=1")
        assert not [said for said in blocked if "WATCHDOG=1" in said], "for five intervals, the loop blocked"
        await heard(manager, "WATCHDOG=1")
        assert process.poll() is None, "and it goes on by itself, where the manager lets it"
