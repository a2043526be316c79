"""Connections: made so that each side notices the other's death, and failing with a sentence and a remedy."""

import socket
import ssl
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from paidwatch.errors import DatabaseError, NotInstalled, Rejected, Unfit, Unreachable, Unreadable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

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


async def connect(target: Target, *, purpose: str, settings: Mapping[str, str] | None = None) -> Connection:
    """Open one connection.

    `purpose` shows in pg_stat_activity as `paidwatch PURPOSE`. Raises Unreachable, Rejected or Unfit.
    """
    with translated():
        connection = await asyncpg.connect(
            target.dsn,
            timeout=target.connect_timeout.total_seconds(),
            command_timeout=target.statement_timeout.total_seconds(),
            server_settings=server_settings(purpose, target.statement_timeout) | dict(settings or {}),
        )
    watch_socket(connection)
    return cast("Connection", connection)


def server_settings(purpose: str, statement_timeout: timedelta) -> dict[str, str]:
    """Return what each session asks of the server: to notice our death within half a minute, and UTC."""
    return {
        "application_name": f"paidwatch {purpose}",
        "timezone": "UTC",
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
def translated() -> "Iterator[None]":
    """Turn what asyncpg and the operating system raise into the project's errors; nothing of the DSN is repeated."""
    try:
        yield
    except DatabaseError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise explain(error) from error


def explain(error: Exception) -> DatabaseError:
    """Say what is wrong with the database and what to do next."""
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return Rejected(
                f"the database refused the login: {error}",
                remedy="Check user and password in [database] dsn, and the server's pg_hba.conf.",
            )
        case asyncpg.InvalidCatalogNameError():
            return Rejected(f"{error}", remedy="Correct the database name at the end of [database] dsn.")
        case asyncpg.InvalidSchemaNameError() | asyncpg.UndefinedTableError() | asyncpg.UndefinedFunctionError():
            if "paidwatch." in str(error) or 'schema "paidwatch"' in str(error):
                return NotInstalled("paidwatch is not installed in this database", remedy="Run: paidwatch install")
            return Unfit(f"{error}", remedy=_hint(error, "Correct the names in the configuration; see paidwatch doctor."))
        case asyncpg.InsufficientPrivilegeError():
            return Rejected(
                f"the role lacks a right: {error}",
                remedy="Set [database] runtime_role and run paidwatch install as the owner of the tables; it grants what is needed.",
            )
        case asyncpg.TooManyConnectionsError():
            return Unreachable(f"the server has no free connection: {error}", remedy="Raise max_connections; paidwatch needs 8.")
        case asyncpg.CannotConnectNowError() | asyncpg.AdminShutdownError() | asyncpg.CrashShutdownError():
            return Unreachable(f"the server is starting or stopping: {error}", remedy="It is tried again by itself.")
        case asyncpg.ReadOnlySQLTransactionError() | asyncpg.TargetServerAttributeNotMatched():
            return Unfit(
                "the server is a standby (read-only)",
                remedy="Name all hosts in [database] dsn and add ?target_session_attrs=read-write.",
            )
        case ssl.SSLError():
            return Rejected(f"TLS failed: {error.reason or 'handshake'}", remedy="Check sslmode and the certificates in [database] dsn.")
        case TimeoutError():
            return Unreachable("the database did not answer in time", remedy="Check host, port and firewall; see [database] connect_timeout.")
        case asyncpg.QueryCanceledError() | asyncpg.LockNotAvailableError():
            return Unreachable(f"the server gave up on a statement: {error}", remedy="See [database] statement_timeout and the server's load.")
        case OSError():
            return Unreachable(f"cannot connect to the database: {_os_reason(error)}", remedy="Is it running, and are host and port right?")
        case asyncpg.PostgresConnectionError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return Unreachable(f"the connection to the database was lost: {error}", remedy="It is tried again by itself.")
        case asyncpg.DataError() | asyncpg.RaiseError() | asyncpg.IntegrityConstraintViolationError():
            return Unreadable(f"the database refused a value: {error}", remedy=_hint(error, "See paidwatch doctor."))
        case asyncpg.PostgresError():
            return Unfit(f"the database answered with an error: {error}", remedy=_hint(error, "See the server's log."))
        case _:
            return DatabaseError(f"the database could not be asked: {type(error).__name__}")


def _hint(error: asyncpg.PostgresError, otherwise: str) -> str:
    return cast("str | None", getattr(error, "hint", None)) or otherwise


def _os_reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved"
    return error.strerror or str(error)
