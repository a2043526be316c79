"""What every term is made of; built once by the application, and the same from term to term."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from paidwatch.flow.forward import Destination
from paidwatch.flow.policy import Policy
from paidwatch.flow.receive import Receive
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Application, Clock, ProviderApi, Transport
from paidwatch.providers import Provider
from paidwatch.store.connect import Target
from paidwatch.store.pool import Database
from paidwatch.store.statements import Statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every term is made of; built once by the application."""

    target: Target
    statements: Statements
    mapping: dict[str, object]
    policy: Callable[[], Policy]
    providers: Callable[[], Mapping[str, Provider]]
    apis: Callable[[], Mapping[str, ProviderApi]]
    """The providers that can be asked about a payment, by their NAMEs."""
    transports: Callable[[], Sequence[Transport]]
    application: Callable[[], Application | None]
    """The application's own endpoint, where one is configured."""
    destinations: Callable[[], Sequence[Destination]]
    """The application's handlers to which webhooks are passed on."""
    receive: Receive
    http: aiohttp.ClientSession
    clock: Clock
    status: Status
    metrics: Metrics
    log: Log
    linger: timedelta
    bell_slice: timedelta
    leader_wait: timedelta
    drain: timedelta
    """How long workers may take to finish when we stop."""
    lend: Callable[[Database | None], None]
    """Told which database those who serve people may use; None: none at present."""
    on_ready: Callable[[], None]
    """Listening is proven and caught up, or we are a standby in waiting."""
