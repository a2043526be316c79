"""The demo: a PostgreSQL of its own, a shop, the real program, a local chat, and a story that has to come true.

Unless it is to end by itself the shop is on the web as well, for whoever watches (`demo_site`).

Everything lives in one temporary directory and in child processes that end with this one, however it ends.
"""

import json
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus

from paidwatch.errors import PaidwatchError
from paidwatch.ops.demo_chat import Chat
from paidwatch.ops.demo_program import Daemon, command, configuration
from paidwatch.ops.demo_shop import DATABASE, Figures, Shop, build
from paidwatch.ops.demo_site import SUCCESS, Site
from paidwatch.ops.demo_story import CHANNELS, Narrator, Story, Tally, Voice
from paidwatch.ops.embedded import EmbeddedServer
from paidwatch.ops.loopback import HOST, free_port
from paidwatch.ops.shop import success_html

GRACE = timedelta(seconds=2)
_START = timedelta(seconds=30)
_PAUSE = 3.0
"""Seconds between two rounds."""
_FAST = {"fsync": "off", "shared_buffers": "32MB"}
"""The server is thrown away in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the demo is played."""

    once: bool = False
    """One round, then the end; otherwise rounds until told to stop."""
    seconds: int | None = None
    """No new round begins after this long."""
    channels: tuple[str, ...] = CHANNELS
    """The channels that are configured; the story expects all of `CHANNELS` to be told."""
    patience: timedelta = timedelta(seconds=15)
    """How long an expected message may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How it went."""

    finished: bool
    """False: it was interrupted before the story's end."""
    tally: Tally
    figures: Figures | None = None
    messages: int = 0
    gaps: int | None = None
    """What `paidwatch check` counted at the end; None: it could not be asked."""

    @property
    def well(self) -> bool:
        """Whether everything came as promised."""
        return self.finished and not self.tally.failures


class Demo:
    """One showing."""

    def __init__(self, plan: Plan, narrator: Narrator) -> None:
        """Keep the plan and who speaks."""
        self._plan = plan
        self._narrator = narrator
        self._over = anyio.Event()
        self._result = Result(finished=False, tally=Tally())

    async def run(self) -> Result:
        """Play, clean up, and say how it went. Raises PaidwatchError when it cannot even begin."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._heed_signals, tasks.cancel_scope, name="signals")
            async with AsyncExitStack() as stack:
                await self._play(stack)
            tasks.cancel_scope.cancel()
        return self._result

    async def _play(self, stack: AsyncExitStack) -> None:
        narrator = self._narrator
        narrator.say(Voice.DEMO, "starting a PostgreSQL of its own")
        server = await to_thread.run_sync(lambda: EmbeddedServer(settings=_FAST))
        stack.push_async_callback(_unhurried, server.close)
        await to_thread.run_sync(server.start)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        chat = await stack.enter_async_context(Chat(narrator.show))
        await build(server.dsn(DATABASE), server=server.dsn())
        shop = await stack.enter_async_context(Shop(server.dsn(DATABASE)))
        narrator.say(Voice.SHOP, "a sample shop opens: users, plans, payments, webhook logs")
        site = None if self._plan.once else await stack.enter_async_context(await self._site(shop, chat))
        config = server.home / "paidwatch.toml"
        grace = f"{GRACE.seconds}s"
        text = configuration(
            server.dsn(DATABASE),
            {name: chat.address(name) for name in self._plan.channels},
            grace=grace,
            listen=site.paidwatch.removeprefix("http://") if site else "",
            success_page=f"{site.url}{SUCCESS}" if site else "",
        )
        await to_thread.run_sync(_write_private, config, text)
        narrator.say(Voice.DEMO, "$ paidwatch install")
        installed = await command(config, "install")
        if installed.code:
            raise PaidwatchError(f"the installation failed: {installed.errors}")
        for line in installed.output.splitlines():
            if line.startswith("installed"):
                narrator.say(Voice.PAIDWATCH, line)
        narrator.say(Voice.DEMO, f"$ paidwatch run     (grace {grace}, automatic activation on)")
        daemon = await stack.enter_async_context(Daemon(config, tasks, self._hear))
        await daemon.ready(_START)
        story = Story(shop, chat, narrator, patience=self._plan.patience)
        await self._tell(story, site)
        narrator.say(Voice.DEMO, "$ paidwatch check")
        checked = await command(config, "check", "--json")
        gaps = _count_of(checked.output)
        narrator.say(Voice.PAIDWATCH, f"{gaps or 'no'} gaps, exit code {checked.code}")
        if checked.code or gaps != 0:
            said = checked.errors or f"{gaps} gaps, exit code {checked.code}"
            story.tally.failures.append(f"`paidwatch check` did not end with no gaps: {said}")
        self._result = Result(
            finished=True,
            tally=story.tally,
            figures=await shop.figures(),
            messages=len(chat.messages),
            gaps=gaps,
        )

    async def _site(self, shop: Shop, chat: Chat) -> Site:
        """Return the shop's web server, which sends customers back through a daemon that is yet to be started."""
        return Site(
            shop,
            chat,
            self._narrator,
            snippet=await to_thread.run_sync(success_html),
            paidwatch=f"http://{HOST}:{free_port()}",
            patience=self._plan.patience,
        )

    async def _tell(self, story: Story, site: Site | None) -> None:
        """Play one round; with a site rounds until it is over, beside what its visitors do."""
        if site is None:
            await story.play_round()
            return
        async with site.sells():
            await self._tell_on(story, site)

    async def _tell_on(self, story: Story, site: Site) -> None:
        """Play rounds until it is over; a round that was begun is played to its end."""
        until = None if self._plan.seconds is None else anyio.current_time() + self._plan.seconds
        while True:
            self._narrator.say(Voice.SHOP, f"open to you as well: {site.url}/")
            await story.play_round()
            if self._over.is_set() or (until is not None and anyio.current_time() >= until):
                return
            with anyio.move_on_after(_PAUSE if until is None else min(_PAUSE, until - anyio.current_time())):
                await self._over.wait()
            if self._over.is_set() or (until is not None and anyio.current_time() >= until):
                return

    async def _heed_signals(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """The first Ctrl-C lets the round that is played end; the second, and any other signal, is heeded at once."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for received in signals:
                if received == signal.SIGINT and not self._plan.once and not self._over.is_set():
                    self._over.set()
                    self._narrator.say(Voice.DEMO, "ending after this round; once more to end at once")
                else:
                    self._over.set()
                    scope.cancel()

    def _hear(self, event: str, said: Mapping[str, Any]) -> None:
        """Pass on what the daemon logs, in a few words."""
        match event:
            case "listen.ready":
                self._narrator.say(Voice.PAIDWATCH, "listening")
            case "gap.opened":
                self._narrator.say(Voice.PAIDWATCH, f"payment {said.get('payment')}: a gap ({said.get('kind')})")
            case "gap.closed":
                self._narrator.say(Voice.PAIDWATCH, f"payment {said.get('payment')}: closed ({said.get('outcome')})")
            case "activation.done":
                self._narrator.say(Voice.PAIDWATCH, f"activates customer {said.get('user')}")
            case _ if said.get("level") == "error":
                self._narrator.say(Voice.BAD, f"the daemon says: {said.get('message')} {said.get('error', '')}")
            case _:
                pass


async def _unhurried(body: Callable[[], None]) -> None:
    """Run something that blocks, to its end whatever is cancelled meanwhile."""
    with anyio.CancelScope(shield=True):
        await to_thread.run_sync(body)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _count_of(output: str) -> int | None:
    """Return the `count` of `check --json`, None if it said no such thing."""
    try:
        said: Any = json.loads(output)
    except ValueError:
        return None
    found = cast("dict[str, object]", said).get("count") if isinstance(said, dict) else None
    return found if isinstance(found, int) else None
