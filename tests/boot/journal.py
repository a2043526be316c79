"""The machine's journal, entry by entry as it is written: what a test waits for."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.streams.text import TextReceiveStream

from tests.boot.machine import Machine

WITHIN = 40.0
"""Seconds after which what a test waits for is not going to come."""

Entry = dict[str, Any]


class Journal:
    """What one unit, and the service manager about it, wrote since the test began."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.entries: list[Entry] = []
        self._news = anyio.Event()

    async def read(self, stream: TextReceiveStream) -> None:
        """Keep the entries until the stream ends."""
        rest = ""
        with suppress(anyio.ClosedResourceError):
            async for text in stream:
                *complete, rest = (rest + text).split("\n")
                self.entries.extend(json.loads(line) for line in complete)
                self._news.set()
                self._news = anyio.Event()

    def said(self, event: str) -> list[Entry]:
        """Return what the daemon wrote about an event."""
        return [entry for entry in self._of_daemon() if f" event={event} " in f"{entry['MESSAGE']} "]

    def managed(self, phrase: str) -> list[Entry]:
        """Return what the service manager wrote about the unit, where a phrase is in it."""
        return [entry for entry in self.entries if entry.get("UNIT") == self.unit and phrase in entry["MESSAGE"]]

    def _of_daemon(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.get("_SYSTEMD_UNIT") == self.unit]

    async def until_said(self, event: str, *, count: int = 1) -> Entry:
        """Wait for the `count`-th entry about an event."""
        await self._until(lambda: len(self.said(event)) >= count, event)
        return self.said(event)[count - 1]

    async def until_managed(self, phrase: str, *, count: int = 1) -> Entry:
        """Wait until the service manager has written a phrase for the `count`-th time."""
        await self._until(lambda: len(self.managed(phrase)) >= count, phrase)
        return self.managed(phrase)[count - 1]

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        with anyio.move_on_after(WITHIN):
            while not condition():
                await self._news.wait()
        assert condition(), f"no {what}; the journal: {self.tail()}"

    def tail(self) -> str:
        return "\n".join(str(entry["MESSAGE"]) for entry in self.entries[-25:])


@asynccontextmanager
async def following(machine: Machine, *units: str) -> AsyncIterator[list[Journal]]:
    """Yield one journal for each unit."""
    async with anyio.create_task_group() as group:
        processes: list[anyio.abc.Process] = []
        journals: list[Journal] = []
        try:
            for unit in units:
                command = machine.command("journalctl", "--follow", "--output=json", "--lines=0", f"--unit={unit}")
                process = await anyio.open_process(
                    command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
                processes.append(process)
                assert process.stdout is not None
                journals.append(Journal(unit))
                group.start_soon(journals[-1].read, TextReceiveStream(process.stdout))
            yield journals
        finally:
            for process in processes:
                # nsenter has a child inside; both are to end.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    await process.wait()
                await process.aclose()
