"""The one error tree.

PaidwatchError
├── ConfigError            the configuration cannot be used            exit 78
├── DatabaseError          the database could not be asked             exit 2
│   ├── Unreachable        no connection, or it was lost
│   ├── Rejected           wrong password, no such database, no rights
│   ├── Unreadable         one row's data cannot be read
│   └── Unfit              it answers, but cannot serve: a standby, a pooler
│       └── NotInstalled   the installation is absent, too old, too new, or of another configuration
├── Refused                a guard or a rule says no                   exit 1
└── DeliveryError          a channel did not take a message

Every error carries what is wrong and what to do next, so a command prints it without a traceback.
"""

from datetime import timedelta
from enum import StrEnum


class PaidwatchError(Exception):
    """Something went wrong that a person can be told in one sentence, with its remedy."""

    exit_code = 2

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """Keep the sentence and what to type next; neither may contain a secret."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigError(PaidwatchError):
    """The configuration is missing, unreadable or wrong."""

    exit_code = 78


class DatabaseError(PaidwatchError):
    """The database could not be asked, so nothing may be concluded from it."""


class Unreachable(DatabaseError):
    """No connection could be made, or it was lost; trying again later may help."""


class Rejected(DatabaseError):
    """The server answers and refuses: password, database name, rights."""


class Unfit(DatabaseError):
    """The server answers and cannot serve: a standby, a pooler, a missing or altered installation."""


class NotInstalled(Unfit):
    """The installation is absent, or does not fit this program and its configuration."""


class Unreadable(DatabaseError):
    """A row of the application cannot be read as the configuration says; the others can."""


class Refused(PaidwatchError):
    """A guard or a rule says no; nothing was changed."""

    exit_code = 1


class Fault(StrEnum):
    """Whose fault a failed delivery is, which decides what happens next."""

    TRANSIENT = "transient"
    """Rate limit, 5xx, network, time-out: try again later."""
    MESSAGE = "message"
    """This message will never be taken: dead letter."""
    CHANNEL = "channel"
    """The channel itself is broken (revoked, archived, gone): stop, and say so elsewhere."""


class DeliveryError(PaidwatchError):
    """A channel did not take a message.

    `code` is the service's status or error word, `retry_after` the service's own wish. The message names no URL and
    no credential: exception texts of HTTP clients contain both.
    """

    def __init__(self, message: str, *, fault: Fault, code: str = "", retry_after: timedelta | None = None) -> None:
        """Keep whose fault it is and how long the service wants us to wait."""
        super().__init__(message)
        self.fault = fault
        self.code = code
        self.retry_after = retry_after
