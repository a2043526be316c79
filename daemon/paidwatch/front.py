"""The front: what serves requests over HTTP, alive from start to end, whoever leads and wherever the database is.

Pages about one activation work on the database of the present term. Webhooks and customers' questions have connections
of their own, which are opened when they are needed, so that neither waits for the other nor for the watch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from aiohttp import web
from anyio.abc import TaskGroup

from paidwatch.config.settings import Settings
from paidwatch.config.values import is_loopback, listen_parts
from paidwatch.errors import ConfigError, PaidwatchError, Unreachable
from paidwatch.flow.approve import Approve
from paidwatch.flow.fence import Fence
from paidwatch.flow.follow import Follow
from paidwatch.flow.policy import Policy
from paidwatch.flow.receive import BAD_RATE, Receive
from paidwatch.flow.settle import Source
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Clock
from paidwatch.providers import Provider
from paidwatch.store.pool import Database
from paidwatch.store.statements import Statements
from paidwatch.web.act import add_act
from paidwatch.web.app import build_app, serve
from paidwatch.web.connections import Connections
from paidwatch.web.payment_return import add_payment_return
from paidwatch.web.rate import Buckets, client_of, networks
from paidwatch.web.session import add_session
from paidwatch.web.success import Door, SuccessPage
from paidwatch.web.webhooks import add_webhooks
from paidwatch.wiring import target_of
from paidwatch.wiring.gateway import providers_of, sources_of, success_page_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the front goes by; a reload swaps it whole. Raises ConfigError for what only shows when it is built."""

    providers: Mapping[str, Provider]
    sources: Mapping[str, Source]
    success: SuccessPage

    @classmethod
    def of(cls, settings: Settings) -> "Choices":
        """Read them from the configuration."""
        providers = providers_of(settings)
        return cls(providers=providers, sources=sources_of(settings, providers), success=success_page_of(settings))


class Front:
    """Builds the pages and what stands behind them."""

    def __init__(
        self,
        settings: Settings,
        *,
        policy: Callable[[], Policy],
        statements: Statements,
        fence: Fence,
        clock: Clock,
        status: Status,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """Bind what there is; nothing is opened yet. Raises ConfigError."""
        self._http = settings.http
        self.choices = Choices.of(settings)
        self._policy = policy
        self._clock = clock
        self._status = status
        self._metrics = metrics
        self._log = log
        self._database: Database | None = None
        metrics.configure_providers(settings.providers)
        target = replace(target_of(settings), greet=fence.greet(statements))
        self.receive = Receive(
            target=target,
            statements=statements,
            sources=lambda: self.choices.sources,
            budget=Buckets(BAD_RATE, clock.monotonic),
            clock=clock,
            metrics=metrics,
            log=log,
        )
        self._follow = Follow(target=target, statements=statements, policy=policy, clock=clock, log=log)

    def adopt(self, settings: Settings, choices: Choices) -> None:
        """Go by a new configuration from now on."""
        self.choices = choices
        self._metrics.configure_providers(settings.providers)
        self.receive.look()

    def lend(self, database: Database | None) -> None:
        """Take the database of the present term; None: there is none."""
        self._database = database

    async def open(self, group: TaskGroup) -> None:
        """Serve in `group` until it is cancelled. Raises ConfigError for an address that cannot be right."""
        group.start_soon(self.receive.run, name="receive webhooks")
        if not self._http.listen:
            return
        group.start_soon(self._follow.run, name="follow payments")
        host, port = listen_parts(self._http.listen)
        try:
            trusted = networks(self._http.trusted_proxies)
            await group.start(serve, self._app(host), host, port, Connections(trusted=trusted), name="http")
        except ConfigError:
            raise
        except PaidwatchError as error:
            # Watching matters more than being looked at: a second daemon on this machine has the port, say.
            self._log.error(
                "http.unavailable", "no HTTP: the address is taken", error=error.message, remedy=error.remedy
            )
            self._status.trouble("http", error.message)

    def _app(self, host: str) -> web.Application:
        token = self._http.token.get_secret_value()
        app = build_app(self._status, self._metrics, token, loopback=is_loopback(host))
        trusted = networks(self._http.trusted_proxies)
        door = Door(self._clock.monotonic, trusted, tally=self._metrics)
        add_act(app, Approve(database=self._lent, policy=self._policy, metrics=self._metrics, log=self._log))
        add_webhooks(app, self.receive, lambda request: client_of(request, trusted))
        add_payment_return(app, self._follow, lambda: self.choices.success, door)
        add_session(app, self._follow, lambda: self.choices.success, door)
        return app

    def _lent(self) -> Database:
        if self._database is None:
            message = "the database is not connected"
            raise Unreachable(message, remedy="It is tried again by itself.")
        return self._database
