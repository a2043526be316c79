"""The channels that carry messages to people, one model per `type`."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SecretStr, ValidationInfo, field_validator

from paidwatch.config.section import Section
from paidwatch.config.sections import NO_SECRET
from paidwatch.config.values import Host, Mailbox, Mailboxes, SecretUrl, Span, is_loopback
from paidwatch.config.wrong import Wrong

_SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _port(validated: dict[str, Any]) -> int:
    return _SMTP_PORTS.get(validated.get("tls", "starttls"), 587)


class Slack(Section):
    """A Slack incoming webhook."""

    type: Literal["slack"]
    """Kind of channel."""
    url: SecretUrl
    """Address of the incoming webhook; it is the credential."""
    pace: Span | None = None
    """Least time between two messages, where the service's documented rate is not to be used."""


class Discord(Section):
    """A Discord webhook."""

    type: Literal["discord"]
    """Kind of channel."""
    url: SecretUrl
    """Address of the webhook; it is the credential."""
    thread_id: Annotated[str, Field(pattern=r"^\d*$")] = ""
    """Thread to write to; empty: the webhook's own channel."""
    pace: Span | None = None
    """Least time between two messages, where the service's documented rate is not to be used."""


class Email(Section):
    """E-mail through an SMTP server."""

    type: Literal["email"]
    """Kind of channel."""
    host: Host
    """Name of the SMTP server."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls` and `tls` are mandatory encryption; `none` is for a server on this machine only."""
    port: int = Field(default_factory=_port, ge=1, le=65535)
    """Port; by default 587 for starttls, 465 for tls, 25 for none."""
    username: str = ""
    """Name to log in with; empty: no login."""
    password: SecretStr = NO_SECRET
    """Password to log in with."""
    sender: Mailbox
    """Address in From."""
    recipients: Mailboxes
    """Addresses that receive every message."""
    pace: Span | None = None
    """Least time between two messages, where the usual rate is not to be used."""

    @field_validator("tls")
    @classmethod
    def _clear_text_stays_here(cls, tls: str, info: ValidationInfo) -> str:
        if tls == "none" and "host" in info.data and not is_loopback(info.data["host"]):
            what = '"none" would send in clear text over the network'
            raise Wrong(what, "write starttls or tls; none is for a server on this machine only")
        return tls

    @field_validator("password")
    @classmethod
    def _both_or_neither(cls, password: SecretStr, info: ValidationInfo) -> SecretStr:
        if "username" in info.data and bool(info.data["username"]) != bool(password.get_secret_value()):
            what = "and username belong together, and one of them is missing"
            raise Wrong(what, "give both, or neither", other="username")
        return password


class Webhook(Section):
    """A receiver of signed JSON, after the Standard Webhooks convention."""

    type: Literal["webhook"]
    """Kind of channel."""
    url: SecretUrl
    """Address that receives the messages; it may be a credential."""
    secret: SecretStr = NO_SECRET
    """Key of the signature, with or without `whsec_`; empty: unsigned."""
    secrets: tuple[SecretStr, ...] = ()
    """Further keys that sign as well, while keys are changed."""
    pace: Span | None = None
    """Least time between two messages."""

    @property
    def keys(self) -> tuple[SecretStr, ...]:
        """Every key that signs; none leaves the messages unsigned."""
        return tuple(key for key in (self.secret, *self.secrets) if key.get_secret_value())


Channel = Annotated[Slack | Discord | Email | Webhook, Discriminator("type")]
