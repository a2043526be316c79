"""What each kind of channel needs to know. Addresses and keys are secrets: no repr shows them."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from pydantic import SecretStr


class Tls(StrEnum):
    """How an SMTP connection is encrypted; there is no "if the server likes"."""

    STARTTLS = "starttls"
    """Mandatory: a server that does not offer it gets nothing."""
    TLS = "tls"
    NONE = "none"
    """Clear text, to this machine only."""


def _no_secret() -> SecretStr:
    return SecretStr("")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings:
    """Slack: by an incoming webhook, or by a bot token and a channel."""

    url: SecretStr = field(default_factory=_no_secret)
    """Address of the incoming webhook, which is the credential; empty where there is a token."""
    token: SecretStr = field(default_factory=_no_secret)
    """Bot token; what is sent with it can be edited and answered in a thread."""
    channel: str = ""
    """Id or name of the channel that the bot writes to."""
    api_url: str = "https://slack.com/api"
    """Where the methods of the Web API are, without a slash at the end."""
    pace: timedelta | None = None
    """Least time between two requests, where the service's documented rate is not to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscordSettings:
    """A Discord webhook."""

    url: SecretStr
    """The address is the credential."""
    thread_id: str = ""
    """Thread to write to; empty: the webhook's own channel."""
    forum: bool = False
    """The channel is a forum: every story becomes a thread of its own."""
    pace: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """E-mail through an SMTP server."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    tls: Tls = Tls.STARTTLS
    username: str = ""
    """Empty: no login."""
    password: SecretStr = field(default_factory=_no_secret)
    pace: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Any receiver of JSON, signed after the Standard Webhooks convention where there is a key."""

    url: SecretStr
    secrets: tuple[SecretStr, ...] = ()
    """Every key signs, so that keys can be changed while both sides run."""
    pace: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseSettings:
    """Whatever Apprise reaches."""

    urls: tuple[SecretStr, ...]
    """Apprise's own addresses; each one is a credential."""
    pace: timedelta | None = None


Settings = SlackSettings | DiscordSettings | MailSettings | WebhookSettings | AppriseSettings
