"""E-mail through an SMTP server.

The Message-ID is made from the message's key, so a message that is sent again after a crash is recognised as the same
one; `References` holds a name made from the story, the same in all its messages, and the story's first message, and
the subject stays that of the first message: mail programs show one conversation. Encryption is mandatory as
configured. A recipient that was served is not served again when another one has to be retried.
"""

import ssl
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from email.message import EmailMessage
from typing import Final

import aiosmtplib
import anyio

from paidwatch.channels.http import Limits
from paidwatch.channels.letter import compose
from paidwatch.channels.settings import MailSettings, Tls
from paidwatch.config.values import is_loopback
from paidwatch.errors import ConfigError, DeliveryError, Fault
from paidwatch.ports import Message, Receipt

PACE: Final = timedelta(milliseconds=250)

_REMEMBERED: Final = 1000
"""Messages of which some recipients were served and others have to be retried."""
_FAREWELL: Final = timedelta(seconds=2)
_PERMANENT: Final = range(500, 600)


class Mail:
    """One set of recipients behind one SMTP server."""

    kind = "email"
    parallel = 2

    def __init__(self, name: str, settings: MailSettings, *, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        """Keep what is needed. `tls` is for servers whose certificate the system does not know.

        Raises ConfigError for clear text to another machine.
        """
        if settings.tls is Tls.NONE and not is_loopback(settings.host):
            raise ConfigError(
                f"channel {name} would send e-mail in clear text over the network", remedy='set tls = "starttls"'
            )
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._settings = settings
        self._limits = limits
        self._tls = tls
        self._served: OrderedDict[str, frozenset[str]] = OrderedDict()

    async def send(self, message: Message) -> Receipt:
        """Send to every recipient that has not been served yet.

        Raises DeliveryError: transient while any recipient may still take it, otherwise by what was refused.
        """
        letter = compose(message, sender=self._settings.sender, recipients=self._settings.recipients)
        served = self._served.get(message.key, frozenset())
        missing = [recipient for recipient in self._settings.recipients if recipient not in served]
        refused = await self._deliver(letter.mail, missing)
        passing = [code for code in refused.values() if code not in _PERMANENT]
        if passing:
            self._remember(message.key, served | (set(missing) - set(refused)))
            raise DeliveryError(
                f"{len(passing)} of {len(missing)} recipients were put off by the mail server",
                fault=Fault.TRANSIENT,
                code=str(passing[0]),
            )
        self._served.pop(message.key, None)
        if len(refused) == len(self._settings.recipients):
            raise DeliveryError(
                "the mail server refuses every recipient", fault=Fault.CHANNEL, code=str(next(iter(refused.values())))
            )
        note = f"250, {len(refused)} of {len(self._settings.recipients)} recipients refused" if refused else "250"
        return Receipt(reference=letter.reference, code=note, size=letter.size)

    async def aclose(self) -> None:
        """Nothing is held: every message has a connection of its own."""

    async def _deliver(self, mail: EmailMessage, recipients: Sequence[str]) -> dict[str, int]:
        """Return the recipients that were refused, each with its code; a failure of the whole is a DeliveryError.

        What was taken stays taken, whatever happens during the goodbye; that has a time of its own.
        """
        farewell = min(_FAREWELL, self._limits.total / 5)
        outcome: dict[str, int] | DeliveryError
        outcome = DeliveryError("the mail server did not answer in time", fault=Fault.TRANSIENT, code="timeout")
        client = self._client()
        try:
            with anyio.move_on_after((self._limits.total - farewell).total_seconds()):
                outcome = await self._attempt(client, mail, recipients)
            if isinstance(outcome, dict):
                with anyio.move_on_after(farewell.total_seconds()):
                    await _part(client)
        finally:
            client.close()
        if isinstance(outcome, dict):
            return outcome
        raise outcome

    async def _attempt(
        self, client: aiosmtplib.SMTP, mail: EmailMessage, recipients: Sequence[str]
    ) -> dict[str, int] | DeliveryError:
        """Connect and send. Exceptions end here: they hold what servers and libraries say."""
        try:
            await client.connect(timeout=self._limits.connect.total_seconds())
            refused, _ = await client.send_message(mail, sender=self._settings.sender, recipients=list(recipients))
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: one.code for one in error.recipients}
        except (aiosmtplib.SMTPException, OSError, ValueError, RuntimeError) as error:
            return _failure(error)
        return {recipient: answer.code for recipient, answer in refused.items()}

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=settings.password.get_secret_value() if settings.username else None,
            use_tls=settings.tls is Tls.TLS,
            start_tls=settings.tls is Tls.STARTTLS,
            tls_context=self._tls,
            timeout=self._limits.total.total_seconds(),
            local_hostname=_own_name(settings.sender),
        )

    def _remember(self, key: str, served: frozenset[str]) -> None:
        """Note who was served; the oldest note goes when there are too many."""
        self._served[key] = served
        self._served.move_to_end(key)
        while len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)


async def _part(client: aiosmtplib.SMTP) -> None:
    """End the session politely; nothing depends on it."""
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        return


def _own_name(sender: str) -> str:
    """Return the name to greet with: that of the sender's domain, not this machine's."""
    domain = sender.rpartition("@")[2]
    return domain if domain.isascii() and domain else "localhost"


_ANSWERS: Final[tuple[tuple[type[aiosmtplib.SMTPResponseException], str, Fault], ...]] = (
    (aiosmtplib.SMTPAuthenticationError, "the mail server does not accept the login", Fault.CHANNEL),
    (aiosmtplib.SMTPSenderRefused, "the mail server does not accept the sender", Fault.CHANNEL),
    (aiosmtplib.SMTPDataError, "the mail server does not accept the message", Fault.MESSAGE),
)
"""What a refusal with 5xx means; anything else passes: 4xx, and what is no answer at all."""
_ANY_ANSWER: Final = ("the mail server does not serve us", Fault.CHANNEL)

_TROUBLES: Final[tuple[tuple[tuple[type[Exception], ...], str, Fault, str], ...]] = (
    ((TimeoutError,), "the mail server did not answer in time", Fault.TRANSIENT, "timeout"),
    ((ssl.SSLError,), "the mail server's certificate was not accepted", Fault.CHANNEL, "tls"),
    ((OSError,), "the connection to the mail server failed", Fault.TRANSIENT, "network"),
    (
        (aiosmtplib.SMTPNotSupported, ValueError),
        "an address cannot be used with this mail server",
        Fault.CHANNEL,
        "address",
    ),
)
"""What trouble without a refusal means; the first that fits."""
_ANY_TROUBLE: Final = (
    "the mail server does not offer the encryption or the login that is configured",
    Fault.CHANNEL,
    "not_offered",
)


def _failure(error: Exception) -> DeliveryError:
    """Put a library's exception into constant words; a server's own text may repeat what was sent to it."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        said, permanent = next((row[1:] for row in _ANSWERS if isinstance(error, row[0])), _ANY_ANSWER)
        fault = permanent if error.code in _PERMANENT else Fault.TRANSIENT
        return DeliveryError(f"{said} ({error.code})", fault=fault, code=str(error.code))
    seen = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    said, fault, code = next((row[1:] for row in _TROUBLES if isinstance(seen, row[0])), _ANY_TROUBLE)
    return DeliveryError(said, fault=fault, code=code)
