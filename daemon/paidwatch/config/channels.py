"""The channels that carry messages to people, one model per `type`."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from paidwatch.config.credentials import NO_SECRET, AppriseUrls, BotToken, SigningKey, SlackChannel
from paidwatch.config.section import Section
from paidwatch.config.values import (
    Address,
    Count,
    Host,
    Mailbox,
    Mailboxes,
    OptionalSecretUrl,
    SecretUrl,
    Span,
    is_loopback,
)
from paidwatch.config.wrong import Wrong


def _check_thread(text: str) -> str:
    if text and not (text.isascii() and text.isdigit()):
        what = "is not the id of a thread"
        raise Wrong(what, 'write its digits in quotes, like "1234567890"')
    return text


ThreadId = Annotated[str, AfterValidator(_check_thread)]
"""A thread of Discord, or ""."""
_SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _port(validated: dict[str, Any]) -> int:
    return _SMTP_PORTS.get(validated.get("tls", "starttls"), 587)


class Slack(Section):
    """Slack: by an incoming webhook, or by a bot, which can also edit what it sent."""

    type: Literal["slack"]
    """Kind of channel."""
    url: OptionalSecretUrl = NO_SECRET
    """Address of the incoming webhook; it is the credential."""
    token: BotToken = NO_SECRET
    """Token of a bot that may `chat:write`."""
    channel: SlackChannel = ""
    """Id or name of the channel that the bot writes to; the bot must be a member."""
    api_url: Address = "https://slack.com/api"
    """Address of Slack's Web API, for the bot; another one in Slack's clouds for governments."""
    pace: Span | None = None
    """Least time between two messages, where the service's documented rate is not to be used."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        form = "give url of an incoming webhook, or token and channel of a bot"
        if self.url.get_secret_value():
            for name, beside in (("token", self.token.get_secret_value()), ("channel", self.channel)):
                if beside:
                    what = "and url exclude each other"
                    raise Wrong(what, form, below=(name,))
        elif not self.token.get_secret_value():
            what = "has neither url nor token"
            raise Wrong(what, form)
        elif not self.channel:
            what = "is missing beside token"
            raise Wrong(what, 'write the id of the channel, like "C0123456789"', below=("channel",))
        return self


class Discord(Section):
    """A Discord webhook."""

    type: Literal["discord"]
    """Kind of channel."""
    url: SecretUrl
    """Address of the webhook; it is the credential."""
    thread_id: ThreadId = ""
    """Thread to write to; empty: the webhook's own channel."""
    forum: bool = False
    """The webhook belongs to a forum: every alert becomes a thread of its own."""
    pace: Span | None = None
    """Least time between two messages, where the service's documented rate is not to be used."""

    @field_validator("forum")
    @classmethod
    def _new_threads_or_one(cls, forum: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic calls it
        if forum and info.data.get("thread_id"):
            what = "and thread_id exclude each other"
            raise Wrong(what, "in a forum every alert gets a thread of its own: leave thread_id out, or forum")
        return forum


class Email(Section):
    """E-mail through an SMTP server."""

    type: Literal["email"]
    """Kind of channel."""
    host: Host
    """Name of the SMTP server."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls` and `tls` are mandatory encryption; `none` is for a server on this machine only."""
    port: Count = Field(default_factory=_port, ge=1, le=65535)
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
    secret: SigningKey = NO_SECRET
    """Key of the signature in base64, with or without `whsec_`; empty: unsigned."""
    secrets: tuple[SigningKey, ...] = ()
    """Further keys that sign as well, while keys are changed."""
    pace: Span | None = None
    """Least time between two messages."""

    @property
    def keys(self) -> tuple[SecretStr, ...]:
        """Every key that signs; none leaves the messages unsigned."""
        return tuple(key for key in (self.secret, *self.secrets) if key.get_secret_value())


class Apprise(Section):
    """Whatever the package Apprise reaches. What was sent cannot be edited."""

    type: Literal["apprise"]
    """Kind of channel."""
    urls: AppriseUrls
    """Addresses in Apprise's own form; each is a credential."""
    pace: Span | None = None
    """Least time between two messages."""


Channel = Annotated[Slack | Discord | Email | Webhook | Apprise, Discriminator("type")]
