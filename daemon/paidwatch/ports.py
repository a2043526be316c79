"""What the inside expects of the outside, as small protocols."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from paidwatch.core.answer import Answer, Unanswered
from paidwatch.core.model import Notice


class Clock(Protocol):
    """Time as the flow sees it; a fake one serves tests that use fakes only."""

    def now(self) -> datetime:
        """Return the present, aware UTC."""
        ...

    def monotonic(self) -> timedelta:
        """Return a reading that only grows."""
        ...

    async def sleep(self, span: timedelta) -> None:
        """Sleep for `span`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell one channel.

    `key` is the same on every attempt of the same message (it becomes the e-mail's Message-ID, the webhook's id), and
    differs between the messages of one story. `thread` is the same for the whole story of one alert. `earlier` is the
    reference this channel gave when it took the story's first message, empty if it never took one.
    """

    notice: Notice
    key: str
    thread: str
    earlier: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A channel took a message: what to keep for later edits, and what the log says about it."""

    reference: Mapping[str, str]
    """Names the message by `message_id` or `ts`. Where it holds no `subject` besides, the story's next message changes
    this one instead of adding another; the column delivery.edits goes by that."""
    code: str
    size: int
    """Bytes of the request's body or of the e-mail."""
    pause: timedelta | None = None
    """How long the service wants no further request, although it took this one; None: it did not say."""


class Transport(Protocol):
    """One receiver of messages, for example one Slack webhook."""

    name: str
    """The `[channels.NAME]` of the configuration."""
    kind: str
    """slack, discord, email, webhook, …"""
    pace: timedelta
    """Least time between the starts of two requests; the service's documented rate."""
    parallel: int
    """How many requests may be under way at once."""

    async def send(self, message: Message) -> Receipt:
        """Deliver `message`, editing or threading after `message.earlier` where the service can.

        Raises DeliveryError, and nothing else, when the service did not take it. Ends within 15 seconds.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One activation as the application is asked for it; the same in every retry."""

    activation_id: int
    user_id: str
    plan_id: str
    days: int
    """Whole days from now to the paid-until that was planned."""
    reason: str
    """Carries the mark by which the application's event is recognised."""
    payment_id: str
    """Of the row; where there is none, the provider's id."""
    reference: str
    """The provider's id of the payment, or the payment's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; it holds nothing of what was sent."""

    code: str
    """A status code, or a word for why there is no answer."""
    said: str
    """The same in constant words."""
    reached: bool = True
    """False: nothing was asked, because there was no connection."""
    retry_after: timedelta | None = None
    """The application's own wish."""


class Application(Protocol):
    """The application's own way to activate a subscription, over HTTP."""

    timeout: timedelta
    """The longest that an answer is waited for."""
    retry_after: timedelta
    """The pause before it is asked again."""
    most_calls: int
    """How often it is asked for one activation."""

    async def activate(self, ask: Ask) -> Reply:
        """Ask for one activation; never raises, and ends within `timeout`."""
        ...


class ProviderApi(Protocol):
    """A payment provider that can be asked about one payment."""

    @property
    def name(self) -> str:
        """The NAME of its section."""
        ...

    @property
    def methods(self) -> frozenset[str]:
        """The payment methods that come through it, in small letters."""
        ...

    async def ask(self, reference: str) -> Answer | Unanswered:
        """Ask about one payment by the provider's id of it; never raises, and ends within 5 seconds."""
        ...
