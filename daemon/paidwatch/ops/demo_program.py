"""The real program as the demo runs it: commands to their end, and the daemon with its log read line by line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from paidwatch.errors import PaidwatchError, Unreachable

_COMMAND_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_LONGEST_LINE: Final = 1 << 20
_POSTGRES: Final = "PG"
_LEFT_OUT: Final = ("PAIDWATCH_", _POSTGRES, "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM")
"""What the operator's environment may say about another installation, another database or a service manager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    errors: str


def environment(inherited: Mapping[str, str], *, keep_postgres: bool = False) -> dict[str, str]:
    """Return the environment of the demo's programs: the inherited one, without what is meant for another paidwatch.

    `keep_postgres` leaves what the client library reads: a password, say.
    """
    left_out = tuple(name for name in _LEFT_OUT if not (keep_postgres and name == _POSTGRES))
    return {name: value for name, value in inherited.items() if not name.startswith(left_out)}


async def command(config: Path, *words: str, variables: Mapping[str, str] | None = None) -> Ended:
    """Run `paidwatch WORDS --config CONFIG` to its end. Raises Unreachable if it does not end within a minute."""
    line = [sys.executable, "-m", "paidwatch", *words, "--config", str(config)]
    with anyio.move_on_after(_COMMAND_SECONDS):
        done = await anyio.run_process(
            line, check=False, stdin=subprocess.DEVNULL, env=variables or environment(os.environ)
        )
        return Ended(code=done.returncode, output=done.stdout.decode().strip(), errors=done.stderr.decode().strip())
    message = f"`paidwatch {' '.join(words)}` did not end within a minute"
    raise Unreachable(message)


class Daemon:
    """`paidwatch run`, from its start until it has left."""

    def __init__(
        self,
        config: Path,
        tasks: TaskGroup,
        on_event: Callable[[str, Mapping[str, Any]], None],
        *,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Take the configuration, where to read the log, whom to tell of each event in it, and the environment."""
        self._config = config
        self._variables = variables
        self._tasks = tasks
        self._on_event = on_event
        self._process: Process | None = None
        self._ready = anyio.Event()
        self._gone = anyio.Event()
        self._last_words: list[str] = []

    async def __aenter__(self) -> Self:
        """Start it. It is tied to this process: should the demo be killed, the daemon ends as well."""
        run = [sys.executable, "-m", "paidwatch", "run", "--config", str(self._config)]
        self._process = await anyio.open_process(
            [sys.executable, "-m", "paidwatch.ops.leash", str(os.getpid()), *run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._variables or environment(os.environ),
            start_new_session=True,
        )
        self._tasks.start_soon(self._read_log, self._process, name="read the daemon's log")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to finish what is under way; one that does not within ten seconds is killed."""
        process = self._process
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                process.terminate()
            with anyio.move_on_after(_STOP_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            if process.stderr is not None:
                await process.stderr.aclose()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid if self._process is not None else 0

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._gone.is_set()

    async def ready(self, limit: timedelta) -> None:
        """Wait until it listens. Raises Unreachable with its last words if that does not come within `limit`."""
        with anyio.move_on_after(limit.total_seconds()):
            await self._ready.wait()
        if not self._ready.is_set() or self._gone.is_set():
            message = f"the daemon does not listen: {' / '.join(self._last_words[-3:]) or 'it said nothing'}"
            raise Unreachable(message)

    async def _read_log(self, process: Process) -> None:
        if process.stderr is None:
            message = "the daemon's log cannot be read"
            raise PaidwatchError(message)
        lines = BufferedByteReceiveStream(process.stderr)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError, anyio.DelimiterNotFound):
            while True:
                self._heed((await lines.receive_until(b"\n", _LONGEST_LINE)).decode(errors="replace"))
        self._gone.set()
        self._ready.set()

    def _heed(self, line: str) -> None:
        self._last_words = [*self._last_words[-9:], line.strip()]
        try:
            said: Any = json.loads(line)
        except ValueError:
            return
        fields = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        if event := str(fields.get("event", "")):
            if event == "listen.ready":
                self._ready.set()
            self._on_event(event, fields)


def configuration(
    dsn: str, channels: Mapping[str, str], *, grace: str, listen: str = "", success_page: str = ""
) -> str:
    """Return the configuration of the demo; `channels` are addresses by kind, `listen` is host and port of its HTTP."""

    def section(kind: str, url: str) -> Sequence[str]:
        return (f"[channels.{kind}]", f'type = "{kind}"', f'url = "{url}"', 'pace = "100ms"', "")

    lines = [
        "[database]",
        f'dsn = "{dsn}"',
        'two_phase = "never"',
        "",
        "[grace]",
        f'default = "{grace}"',
        "",
        "[activation]",
        'mode = "auto"',
        "require_corroboration = true",
        "max_per_hour = 1000",
        "max_per_day = 1000",
        "breaker_share = 0",
        "",
        # Every gap is told by itself and at once, however many rounds and visitors there are.
        "[alerts]",
        "storm_threshold = 1000",
        'storm_window = "1ms"',
        "",
        "[http]",
        f'listen = "{listen}"',
        "",
        "[success_page]",
        f'url = "{success_page}"',
        "",
        "[log]",
        'format = "json"',
        "",
        *(line for kind, url in channels.items() for line in section(kind, url)),
    ]
    return "\n".join(lines)
