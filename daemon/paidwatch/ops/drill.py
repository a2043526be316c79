"""The drill: a synthetic payment through the whole pipe, in a place of its own, with the real program.

Nothing of the real installation is touched: neither its tables, nor its schema, its secrets, its channels, nor its
daemon. Whatever happens to the drill, its place is removed: `drill_guard`.
"""

import secrets
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus

from paidwatch.ops.demo_program import Daemon, command
from paidwatch.ops.demo_shop import Shop, build
from paidwatch.ops.drill_place import Place
from paidwatch.ops.drill_sink import PROVIDER, Sender, Sink
from paidwatch.ops.drill_story import Cast, Failed, Step, Steps, Story
from paidwatch.ops.loopback import HOST, free_port

LONGEST: Final = timedelta(seconds=35)
"""The drill itself; with the end of the daemon and the removal of the database it stays within a minute."""
_GRACE: Final = "1s"
_PATIENCE: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How it went."""

    ok: bool
    interrupted: bool
    place: str
    steps: list[Step]
    left_behind: str
    """What could not be removed, and why; empty: nothing."""
    took: timedelta


class Drill:
    """One drill."""

    def __init__(
        self, open_place: Callable[[], AbstractAsyncContextManager[Place]], show: Callable[[Step], None]
    ) -> None:
        """Take where it is held, and whom to show each step."""
        self._open_place = open_place
        self._show = show
        self._interrupted = False
        self._place: Place | None = None

    async def run(self) -> Result:
        """Play, clean up, and say how it went. Raises PaidwatchError when it cannot even begin."""
        began = anyio.current_time()
        steps = Steps(self._show)
        ok, limit = False, anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._heed_signals, tasks.cancel_scope, name="signals")
            limit.deadline = anyio.current_time() + LONGEST.total_seconds()
            with limit:
                ok = await self._play(steps)
            tasks.cancel_scope.cancel()
        if limit.cancelled_caught and not self._interrupted:
            steps.overrun(LONGEST)
        left = self._place.left if self._place else ""
        return Result(
            ok=ok and not left and not self._interrupted,
            interrupted=self._interrupted,
            place=self._place.name if self._place else "",
            steps=steps.done,
            left_behind=left,
            took=timedelta(seconds=anyio.current_time() - began),
        )

    async def _play(self, steps: Steps) -> bool:
        async with AsyncExitStack() as stack:
            place = self._place = await stack.enter_async_context(self._open_place())
            return await self._play_in(place, steps)

    async def _play_in(self, place: Place, steps: Steps) -> bool:
        secret = secrets.token_hex(16)
        base = f"http://{HOST}:{free_port()}"
        config = place.folder / "paidwatch.toml"
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            sink = await stack.enter_async_context(Sink())
            await to_thread.run_sync(config.touch, 0o600)
            text = configuration(base, sink, secret)
            await to_thread.run_sync(partial(config.write_text, text, encoding="utf-8"))
            await build(place.target.dsn)
            shop = await stack.enter_async_context(Shop(place.target.dsn))
            daemon = Daemon(config, tasks, lambda _event, _said: None, variables=place.environment)
            sender = Sender(base, secret)

            async def install() -> str:
                installed = await command(config, "install", variables=place.environment)
                if installed.code:
                    message = f"the installation failed: {installed.errors}"
                    raise Failed(message)
                return place.name

            async def start() -> str:
                await stack.enter_async_context(daemon)
                await daemon.ready(_PATIENCE)
                await sender.wait_until_served(_PATIENCE, alive=lambda: not daemon.gone)
                return f"paidwatch run, grace {_GRACE}, automatic activation, a secret of the drill"

            story = Story(
                Cast(
                    shop=shop,
                    sink=sink,
                    sender=sender,
                    check=lambda: command(config, "check", "--json", variables=place.environment),
                    daemon_lives=lambda: not daemon.gone,
                    patience=_PATIENCE,
                    wrong_secret=secrets.token_hex(16),
                ),
                steps,
            )
            # Caught inside of the task group, which would wrap it.
            try:
                await steps.run("place", "install", install)
                await steps.run("place", "daemon", start)
                await story.play()
            except Failed:
                return False
            return True

    async def _heed_signals(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _received in signals:
                self._interrupted = True
                scope.cancel()


def configuration(base: str, sink: Sink, secret: str) -> str:
    """Return the configuration of the drill; the database's address stands in the environment, not in the file."""
    return "\n".join(
        (
            "[database]",
            'two_phase = "never"',
            "[grace]",
            f'default = "{_GRACE}"',
            "[activation]",
            'mode = "auto"',
            "require_corroboration = true",
            "[alerts]",
            'digest_at = ""',
            "[http]",
            f'listen = "{base.removeprefix("http://")}"',
            "[log]",
            'format = "json"',
            "[channels.drill]",
            'type = "webhook"',
            f'url = "{sink.alerts}"',
            'pace = "1ms"',
            f"[providers.{PROVIDER}]",
            f'secret = "{secret}"',
            f'forward_to = "{sink.handler}"',
            "",
        )
    )
