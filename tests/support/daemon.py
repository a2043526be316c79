"""The real thing: `python -m paidwatch run` as a process of its own, its log read line by line, its end by signals."""

import json
import os
import signal
import subprocess
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.support.forked import PAIDWATCH, Starter
from tests.support.postgres import SHAPE_FILES, Database, Server
from tests.support.sink import WITHIN, Sink

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PAIDWATCH_", "PG", "NOTIFY_"))
} | {"PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT}", "PYTHONUNBUFFERED": "1"}

STARTER = Starter(ENVIRONMENT)

Sections = Mapping[str, Mapping[str, object]]
Line = dict[str, Any]


def toml(sections: Sections) -> str:
    """Return sections as TOML; JSON's strings, numbers, lists and booleans are TOML's as well."""
    lines: list[str] = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        for key, value in values.items():
            text = (
                "{ " + ", ".join(f"{inner} = {json.dumps(item)}" for inner, item in value.items()) + " }"
                if isinstance(value, dict)
                else json.dumps(value)
            )
            lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"


def merged(*layers: Sections) -> dict[str, dict[str, object]]:
    """Return the layers one over the other, key by key."""
    result: dict[str, dict[str, object]] = {}
    for layer in layers:
        for name, values in layer.items():
            result.setdefault(name, {}).update(values)
    return result


def application(shape: str) -> Sections:
    """Return how an owner describes this shape to paidwatch: nothing, where it is the usual application."""
    if shape != "X":
        return {}
    with (SHAPE_FILES / "X.toml").open("rb") as file:
        return tomllib.load(file)


def configuration(database: Database, sink: Sink | None = None, *extra: Sections, dsn: str | None = None) -> str:
    """Return a complete configuration: one second of grace, no HTTP, and one channel `ops` to the sink."""
    channels: Sections = (
        {} if sink is None else {"channels.ops": {"type": "webhook", "url": sink.url("ops"), "pace": "1ms"}}
    )
    base: Sections = {
        "database": {"dsn": dsn or database.dsn, "two_phase": "never"},
        "grace": {"default": "1s"},
        "http": {"listen": ""},
        "log": {"format": "json", "level": "debug"},
        "daemon": {"linger": "5ms"},
        # One message per gap and none by the clock, unless a test is about incidents or digests.
        "alerts": {"storm_threshold": 1_000_000, "storm_window": "1ms", "digest_at": ""},
    }
    return toml(merged(base, application(database.shape), channels, *extra))


async def paidwatch(
    *arguments: str, config: Path | None = None, expect: int | None = 0
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    result = await STARTER.run(*arguments, *(() if config is None else ("--config", str(config))))
    if expect is not None:
        assert result.returncode == expect, f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


async def installed(server: Server, shape: str, *extra: Sections) -> Database:
    """Return a fresh database of `shape` with paidwatch in it, copied from one where the real command installed it."""
    name = f"{shape} installed {json.dumps(extra)}"
    if name not in server._templates:
        template = await server.create(shape)
        await install(template, *extra)
        await template.aclose()
        server._templates[name] = template.name
    return await server._new(server._templates[name], shape)


async def install(database: Database, *extra: Sections, dsn: str | None = None, expect: int = 0) -> str:
    """Run the real `paidwatch install` on a database and return what it said."""
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(configuration(database, None, *extra, dsn=dsn))
        file.flush()
        done = await paidwatch("install", config=Path(file.name), expect=expect)
    return done.stdout + done.stderr


class Daemon:
    """One running process. What it logs is kept; `log` waits for lines instead of guessing how long something takes."""

    def __init__(self, process: Process, config: Path) -> None:
        self.process = process
        self.config = config
        self.lines: list[Line] = []
        self.noise: list[str] = []
        """What it wrote that is no line of its log: a traceback, say."""
        self._news = anyio.Event()
        self._ended = anyio.Event()

    async def read(self) -> None:
        """Keep its log until it ends."""
        rest = ""
        stream = self.process.stderr
        assert stream is not None
        with suppress(anyio.ClosedResourceError):
            async for text in TextReceiveStream(stream):
                *complete, rest = (rest + text).split("\n")
                for line in complete:
                    self._keep(line)
        if rest:
            self._keep(rest)
        await self.process.wait()
        self._ended.set()
        self._ring()

    def _keep(self, line: str) -> None:
        try:
            self.lines.append(json.loads(line))
        except ValueError:
            self.noise.append(line)
        self._ring()

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def events(self, event: str, **fields: object) -> list[Line]:
        """Return the lines of one event whose fields are these."""
        return [
            line
            for line in self.lines
            if line.get("event") == event and all(str(line.get(name)) == str(value) for name, value in fields.items())
        ]

    async def log(self, event: str, *, count: int = 1, within: float = WITHIN, **fields: object) -> list[Line]:
        """Wait for the `count`-th line of an event with these fields."""

        def there() -> bool:
            return len(self.events(event, **fields)) >= count

        await self.until(there, within=within)
        assert there(), f"no {event} {fields}; the log: {self.tail()}"
        return self.events(event, **fields)

    async def until(self, condition: Callable[[], bool], *, within: float = WITHIN) -> None:
        """Wait until a condition on the log holds, or the process is gone, or the time is up."""
        with anyio.move_on_after(within):
            while not condition() and not self._ended.is_set():
                await self._news.wait()

    async def ready(self, *, count: int = 1, within: float = WITHIN) -> None:
        """Wait until it listens for the `count`-th time."""
        await self.log("listen.ready", count=count, within=within)

    async def database(self, database: Database, question: str, *values: object, within: float = WITHIN) -> None:
        """Wait until a question to the database is answered with true; asked anew after every line of the log."""
        answer = False
        with anyio.move_on_after(within):
            while not self._ended.is_set():
                news = self._news
                answer = await database.fetchval(question, *values)
                if answer:
                    return
                await news.wait()
        assert answer, f"never true: {question} {values}; the log: {self.tail()}"

    async def database_by_asking(self, database: Database, question: str, *, within: float = WITHIN) -> None:
        """The same where the log says nothing: the server is asked again and again."""
        answer = False
        with anyio.move_on_after(within):
            while not answer and not self._ended.is_set():
                answer = await database.fetchval(question)
        assert answer, f"never true: {question}; the log: {self.tail()}"

    async def closed(self, database: Database, payment: object, outcome: str) -> None:
        """Wait until the watch of a payment is closed with this outcome."""
        await self.database(
            database,
            "SELECT EXISTS (SELECT FROM paidwatch.watch WHERE payment_id::text = $1 AND outcome = $2)",
            str(payment),
            outcome,
        )

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    async def ended(self, *, within: float = WITHIN) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        with anyio.move_on_after(within):
            await self._ended.wait()
        assert self._ended.is_set(), f"still running: {self.tail()}"
        assert self.process.returncode is not None
        return self.process.returncode

    async def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """End it politely; it finishes what is under way and must say so with exit code 0 and without any complaint."""
        self.signal(signal.SIGTERM)
        code = await self.ended()
        assert code == 0, f"{code}: {self.tail()}"
        assert not self.noise, self.noise

    async def reload(self, *extra: Sections, database: Database, sink: Sink | None) -> None:
        """Write another configuration and have it read."""
        self.config.write_text(configuration(database, sink, *extra))
        self.signal(signal.SIGHUP)

    def tail(self) -> str:
        return "\n".join([*(str(line) for line in self.lines[-15:]), *self.noise[-30:]])


@asynccontextmanager
async def running(config: Path, *, program: Sequence[str] = PAIDWATCH) -> AsyncIterator[Daemon]:
    """Yield a daemon with this configuration; one that still runs at the end of the body is stopped politely.

    `program` is what Python runs instead of the package: the crashing one, for example.
    """
    process = await STARTER.start("run", "--config", str(config), program=program, heard=False)
    daemon = Daemon(process, config)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.read)
            yield daemon
            if process.returncode is None:
                await daemon.stop()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            await process.wait()
        await process.aclose()


async def told_and_done(database: Database) -> bool:
    """Say whether the outbox has nothing left to tell and no lease is held."""
    left = await database.fetchval(
        "SELECT count(*) FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL OR dead_at IS NOT NULL"
    )
    return bool(left == 0)
