"""What the database or the network said, as a sentence with a remedy; nothing of the DSN is repeated."""

import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

import asyncpg

from paidwatch.errors import DatabaseError, NotInstalled, Rejected, Unfit, Unreachable, Unreadable

BY_ITSELF: Final = "It is tried again by itself."
STANDBY: Final = "Name all hosts in [database] dsn and add ?target_session_attrs=read-write."
GRANT: Final = (
    "Set [database] runtime_role and run paidwatch install as the owner of the tables; it grants what is needed."
)
INSTALL: Final = "Run, as the owner of the tables: paidwatch --dsn 'postgresql://OWNER@HOST/DATABASE' install"
UNINSTALL: Final = "Run it as the owner of the tables: paidwatch --dsn 'postgresql://OWNER@HOST/DATABASE' uninstall"
"""The daemon's role, which the configuration names, can do neither."""


def explain(error: Exception, *, no_right: str = GRANT) -> DatabaseError:
    """Say what is wrong with the database and what to do next; `no_right` is what to do about a missing right."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return Rejected(f"the role lacks a right: {error}", remedy=no_right)
    for kinds, say in _SENTENCES:
        if isinstance(error, kinds):
            return say(error)
    return DatabaseError(f"the database could not be asked: {type(error).__name__}")


def _login(error: Exception) -> DatabaseError:
    return Rejected(
        f"the database refused the login: {error}",
        remedy="Check user and password in [database] dsn, and the server's pg_hba.conf.",
    )


def _no_database(error: Exception) -> DatabaseError:
    return Rejected(f"{error}", remedy="Correct the database name at the end of [database] dsn.")


def _unknown_name(error: Exception) -> DatabaseError:
    if "paidwatch." in str(error) or 'schema "paidwatch"' in str(error):
        return NotInstalled("paidwatch is not installed in this database", remedy=INSTALL)
    return Unfit(f"{error}", remedy=_hint(error, "Correct the names in the configuration; see paidwatch doctor."))


def _full(error: Exception) -> DatabaseError:
    return Unreachable(
        f"the server has no free connection: {error}", remedy="Raise max_connections; paidwatch needs 9."
    )


def _moving(error: Exception) -> DatabaseError:
    return Unreachable(f"the server is starting or stopping: {error}", remedy=BY_ITSELF)


def _standby(_error: Exception) -> DatabaseError:
    return Unfit("the server is a standby (read-only)", remedy=STANDBY)


def _tls(error: Exception) -> DatabaseError:
    reason = getattr(error, "reason", None) or "handshake"
    return Rejected(f"TLS failed: {reason}", remedy="Check sslmode and the certificates in [database] dsn.")


def _silent(_error: Exception) -> DatabaseError:
    return Unreachable(
        "the database did not answer in time", remedy="Check host, port and firewall; see [database] connect_timeout."
    )


def _gave_up(error: Exception) -> DatabaseError:
    return Unreachable(
        f"the server gave up on a statement: {error}", remedy="See [database] statement_timeout and the server's load."
    )


def _network(error: Exception) -> DatabaseError:
    reason = "the host name cannot be resolved" if isinstance(error, socket.gaierror) else _os_reason(error)
    return Unreachable(
        f"cannot connect to the database: {reason}", remedy="Is it running, and are host and port right?"
    )


def _address(error: Exception) -> DatabaseError:
    return Rejected(
        f"the address of the database cannot be used: {error}",
        remedy="Correct [database] dsn, or the libpq environment: PGHOST, PGPORT, PGSSLMODE, …",
    )


def _lost(error: Exception) -> DatabaseError:
    return Unreachable(f"the connection to the database was lost: {error}", remedy=BY_ITSELF)


def _value(error: Exception) -> DatabaseError:
    return Unreadable(f"the database refused a value: {error}", remedy=_hint(error, "See paidwatch doctor."))


def _other(error: Exception) -> DatabaseError:
    return Unfit(f"the database answered with an error: {error}", remedy=_hint(error, "See the server's log."))


def _hint(error: Exception, otherwise: str) -> str:
    return cast("str | None", getattr(error, "hint", None)) or otherwise


def _os_reason(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)


_SENTENCES: Final[tuple[tuple[tuple[type[Exception], ...], Callable[[Exception], DatabaseError]], ...]] = (
    ((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError), _login),
    ((asyncpg.InvalidCatalogNameError,), _no_database),
    (
        (
            asyncpg.InvalidSchemaNameError,
            asyncpg.UndefinedTableError,
            asyncpg.UndefinedFunctionError,
            asyncpg.UndefinedColumnError,
            asyncpg.UndefinedObjectError,
        ),
        _unknown_name,
    ),
    ((asyncpg.TooManyConnectionsError,), _full),
    ((asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError), _moving),
    ((asyncpg.ReadOnlySQLTransactionError, asyncpg.TargetServerAttributeNotMatched), _standby),
    ((ssl.SSLError,), _tls),
    ((TimeoutError,), _silent),
    ((asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError), _gave_up),
    ((OSError,), _network),
    ((asyncpg.ClientConfigurationError,), _address),
    ((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError), _lost),
    ((asyncpg.DataError, asyncpg.RaiseError, asyncpg.IntegrityConstraintViolationError), _value),
    ((asyncpg.PostgresError,), _other),
)
"""The first match counts, so the special stand before the general."""
