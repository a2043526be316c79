"""START READING HERE: how the daemon is put together, and what keeps it going.

    UPDATE payment_transactions … 'paid'          (users, subscription_events, webhook_logs have triggers too)
        │  sql/triggers.sql: in the application's own transaction, one row into paidwatch.inbox,
        │  and a ring of the doorbell only if the daemon is asleep
        ▼
    inbox ──► flow.intake: rows become watches (due_at = became paid + grace), or close them
                │
                ▼
    flow.alarm: sleep to the earliest of (doorbell, next due watch): one alarm, no loop of polls
                │
                ▼
    flow.decide: ONE statement claims what is due and reads the facts on the primary; core judges; the verdict, the
                 alert, the activation claim and one delivery row per channel are written in that same transaction
                │
       ┌────────┼───────────────────┐
       ▼        ▼                   ▼
    closed   flow.activate     flow.deliver ──► Slack · Discord · e-mail · webhook   (HTTP/SMTP outside transactions)
       ▲        │                   │
       └────────┴── decide again ───┘   late activation, refund: the announced message is edited / answered

Three nested task groups: watchers (signals, health, watchdog) ⊃ workers (finish on stop) ⊃ sources (stop first). The
outer one is here, the inner two are a term's (flow.term); a lost connection ends the term, and the next one begins.
"""

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import aiohttp
import anyio
from anyio.abc import TaskStatus

from paidwatch import __version__
from paidwatch.application import endpoint
from paidwatch.channels import build
from paidwatch.channels.configured import settings_of
from paidwatch.channels.http import open_session
from paidwatch.clock import SystemClock
from paidwatch.config.settings import Settings
from paidwatch.core.timing import backoff
from paidwatch.errors import ConfigError, DatabaseError, NotInstalled, PaidwatchError, Rejected
from paidwatch.flow.fence import Fence
from paidwatch.flow.means import Means
from paidwatch.flow.signal import Signal
from paidwatch.flow.term import Term
from paidwatch.front import Choices, Front
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.notify_socket import NotifySocket, Watchdog, watchdog_interval
from paidwatch.ops.status import Status
from paidwatch.ports import Application, ProviderApi, Transport
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of, target_of
from paidwatch.wiring.gateway import apis_of, destinations_of

RECONNECT_WITHIN = timedelta(minutes=2)
"""One try to serve again, its waiting included, takes no longer: the watchdog grants it while the database is away."""
STATUS_EVERY = timedelta(seconds=5)


class Daemon:
    """The whole daemon; `run` returns after SIGTERM or SIGINT."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings],
        adopt: Callable[[Settings], None],
        environ: Mapping[str, str],
    ) -> None:
        """Take the configuration, how to read it again, what else follows a new one, and the environment."""
        self._settings = settings
        self._reload = reload
        self._adopt = adopt
        self._environ = environ
        self._clock = SystemClock()
        self._log = Log()
        self._status = Status(clock=self._clock)
        self._metrics = Metrics(status=self._status, version=__version__, channels=settings.channels)
        self._notify = NotifySocket.from_environment(environ)
        self._policy = policy_of(settings)
        self._fence = Fence()
        self._statements = Statements.load()
        self._front = Front(
            settings,
            policy=lambda: self._policy,
            statements=self._statements,
            fence=self._fence,
            clock=self._clock,
            status=self._status,
            metrics=self._metrics,
            log=self._log,
        )
        self._transports: list[Transport] = []
        self._application: Application | None = None
        self._apis: Mapping[str, ProviderApi] = {}
        self._stopping = anyio.Event()
        self._reloaded = Signal()
        self._ready_once = False

    async def run(self) -> None:
        """Serve until told to stop. Raises PaidwatchError where starting makes no sense."""
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(open_session())
            self._http = http
            self._transports = await self._build_transports(self._settings, http)
            self._application = await self._build_application(self._settings, http)
            self._apis = apis_of(self._settings, http)
            stack.push_async_callback(self._close_transports)
            async with anyio.create_task_group() as watchers:
                await watchers.start(self._heed_signals, watchers.cancel_scope, http, name="signals")
                watchers.start_soon(self._feed_watchdog, name="watchdog")
                watchers.start_soon(self._show_status, name="status")
                await self._front.open(watchers)
                await self._serve_terms()
                watchers.cancel_scope.cancel()
        self._log.info("daemon.stopped", "stopped")

    async def _serve_terms(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._became_ready = False
            try:
                await Term(self._means(), self._fence, self._stopping, self._reloaded).serve()
            except* DatabaseError as group:
                failures = 0 if self._became_ready else failures
                failures += 1
                await self._front.receive.renew()
                await self._wait_to_retry(first_of(group), failures)

    async def _wait_to_retry(self, error: DatabaseError, failures: int) -> None:
        if not self._ready_once and isinstance(error, Rejected | NotInstalled):
            raise error
        wait = backoff(failures, roll=random.random())  # noqa: S311  jitter is no secret
        self._status.lost(error.message, retry_within=RECONNECT_WITHIN)
        self._notify.status(f"reconnecting: {error.message}")
        self._log.error(
            "listen.lost",
            "not listening; trying again",
            error=error.message,
            remedy=error.remedy,
            retry_seconds=round(wait.total_seconds(), 1),
        )
        with anyio.move_on_after(wait.total_seconds()):
            await self._stopping.wait()

    def _means(self) -> Means:
        daemon = self._settings.daemon
        return Means(
            target=target_of(self._settings),
            statements=self._statements,
            mapping=self._settings.mapping(),
            policy=lambda: self._policy,
            providers=lambda: self._front.choices.providers,
            apis=lambda: self._apis,
            transports=lambda: self._transports,
            application=lambda: self._application,
            http=self._http,
            clock=self._clock,
            status=self._status,
            metrics=self._metrics,
            log=self._log,
            linger=daemon.linger,
            bell_slice=daemon.bell_slice,
            leader_wait=daemon.leader_wait,
            drain=daemon.drain,
            destinations=lambda: destinations_of(self._settings),
            receive=self._front.receive,
            lend=self._front.lend,
            on_ready=self._on_ready,
        )

    def _on_ready(self) -> None:
        self._became_ready = self._ready_once = True
        self._notify.ready(self._status.line())

    async def _heed_signals(
        self,
        scope: anyio.CancelScope,
        http: aiohttp.ClientSession,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for received in signals:
                if received == signal.SIGHUP:
                    await self._reload_settings(http)
                elif self._stopping.is_set():
                    self._log.warning("daemon.killed", "second signal: leaving at once")
                    scope.cancel()
                else:
                    self._log.info("daemon.stopping", "finishing what is under way")
                    self._status.stopping()
                    self._notify.stopping("finishing what is under way")
                    self._stopping.set()

    async def _reload_settings(self, http: aiohttp.ClientSession) -> None:
        """Swap the configuration whole, or leave everything as it is."""
        self._notify.reloading(self._clock)
        try:
            fresh = await anyio.to_thread.run_sync(self._reload)
            fixed = fixed_at_start(self._settings, fresh)
            if fixed:
                message = f"{', '.join(fixed)} cannot change while the daemon runs"
                raise ConfigError(message, remedy="restart paidwatch for this change")
            transports = await self._build_transports(fresh, http)
            application = await self._build_application(fresh, http)
            choices = Choices.of(fresh)
        except PaidwatchError as error:
            self._log.error(
                "config.refused",
                "the configuration was not reloaded; the former one stays",
                error=error.message,
                remedy=error.remedy,
            )
        else:
            self._adopt(fresh)
            self._settings, self._policy, self._transports = fresh, policy_of(fresh), transports
            self._application, self._apis = application, apis_of(fresh, http)
            self._front.adopt(fresh, choices)
            self._metrics.configure(fresh.channels)
            self._reloaded.ring()
            self._log.info(
                "config.reloaded",
                "the configuration was reloaded",
                channels=list(fresh.channels),
                mode=fresh.activation.mode,
            )
        self._notify.ready(self._status.line())

    async def _feed_watchdog(self) -> None:
        interval = watchdog_interval(self._environ, os.getpid())
        await Watchdog(self._clock).feed(self._notify, interval, self._status.alive)

    async def _show_status(self) -> None:
        """Keep the line of `systemctl status` true, and a start that takes its time alive; looks at memory only."""
        shown = ""
        while True:
            line = self._status.line()
            if not self._ready_once:
                self._notify.extend(STATUS_EVERY * 6)
            if self._ready_once and line != shown:
                self._notify.status(line)
                shown = line
            await self._clock.sleep(STATUS_EVERY)

    async def _build_transports(self, settings: Settings, http: aiohttp.ClientSession) -> list[Transport]:
        """Build the channels; one whose configuration is the same stays the same, with what it has under way."""
        present = {transport.name: transport for transport in self._transports}
        same = {name for name in present if settings.channels.get(name) == self._settings.channels.get(name)}
        return [
            # In a thread, because a library with many services takes its time to be loaded.
            present[name]
            if name in same
            else await anyio.to_thread.run_sync(partial(build, name, settings_of(channel), session=http))
            for name, channel in settings.channels.items()
        ]

    @staticmethod
    async def _build_application(settings: Settings, http: aiohttp.ClientSession) -> Application | None:
        """Build the application's endpoint, in a thread, because a file with certificates may have to be read."""
        return await anyio.to_thread.run_sync(partial(endpoint.build, settings.activation.http, http))

    async def _close_transports(self) -> None:
        for transport in self._transports:
            await transport.aclose()


def first_of(group: BaseExceptionGroup[DatabaseError]) -> DatabaseError:
    """Return the first error in a tree of errors."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise group


def fixed_at_start(running: Settings, fresh: Settings) -> Sequence[str]:
    """Name the sections whose change needs a restart."""
    changed = [
        name
        for name in ("payments", "users", "plans", "events", "webhooks", "database", "http", "log", "daemon")
        if getattr(running, name) != getattr(fresh, name)
    ]
    return [f"[{name}]" for name in changed]
