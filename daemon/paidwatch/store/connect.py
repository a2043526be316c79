"""Connections: made so that each side notices the other's death, and failing with a sentence and a remedy."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from paidwatch.errors import DatabaseError
from paidwatch.store.explain import GRANT, explain

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator

    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


_IDLE = 10
_INTERVAL = 5
_COUNT = 3
_USER_TIMEOUT = timedelta(seconds=25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect, and how long anything may take."""

    dsn: str = field(repr=False)
    connect_timeout: timedelta
    statement_timeout: timedelta
    greet: "Callable[[Connection], Awaitable[None]] | None" = None
    """Called with every new connection before anybody uses it: where there are several hosts, another one may answer
    each time. Raises DatabaseError to refuse the server."""


async def connect(
    target: Target, *, purpose: str, settings: Mapping[str, str] | None = None, no_right: str = GRANT
) -> Connection:
    """Open one connection.

    `purpose` shows in pg_stat_activity as `paidwatch PURPOSE`; `no_right` is what to do where the role may not connect.
    Raises Unreachable, Rejected or Unfit.
    """
    with translated(no_right=no_right):
        connection = await asyncpg.connect(
            target.dsn,
            timeout=target.connect_timeout.total_seconds(),
            command_timeout=target.statement_timeout.total_seconds(),
            server_settings=server_settings(purpose, target.statement_timeout) | dict(settings or {}),
        )
        try:
            await welcome(target, connection)
        except BaseException:
            connection.terminate()
            raise
    return connection


async def welcome(target: Target, connection: Connection) -> None:
    """Make a new connection ready for use. Raises DatabaseError if its server is not the one to be used."""
    watch_socket(connection)
    if target.greet is not None:
        await target.greet(connection)


def server_settings(purpose: str, statement_timeout: timedelta) -> dict[str, str]:
    """Return what each session asks of the server: to notice our death within half a minute, and UTC."""
    return {
        "application_name": f"paidwatch {purpose}",
        "timezone": "UTC",
        # Whatever the database's default is: each statement must see what its predecessor waited for.
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(milliseconds(statement_timeout)),
        "idle_in_transaction_session_timeout": str(milliseconds(statement_timeout)),
        "tcp_keepalives_idle": str(_IDLE),
        "tcp_keepalives_interval": str(_INTERVAL),
        "tcp_keepalives_count": str(_COUNT),
        "tcp_user_timeout": str(milliseconds(_USER_TIMEOUT)),
    }


def milliseconds(span: timedelta) -> int:
    """Return a span in whole milliseconds, at least one: to PostgreSQL 0 means no limit."""
    return max(round(span.total_seconds() * 1000), 1)


def watch_socket(connection: Any) -> None:  # noqa: ANN401  asyncpg hides its transport
    """Let the kernel notice a dead server: without this a half-open connection looks idle for ever."""
    transport = cast("asyncio.Transport | None", getattr(connection, "_transport", None))
    raw = transport.get_extra_info("socket") if transport else None
    if raw is None or raw.family == socket.AF_UNIX:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds(_USER_TIMEOUT))


@contextmanager
def translated(*, no_right: str = GRANT) -> "Generator[None]":
    """Turn what asyncpg and the operating system raise into the project's errors; nothing of the DSN is repeated.

    `no_right` is what to do about a missing right.
    """
    try:
        yield
    except DatabaseError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise explain(error, no_right=no_right) from error
