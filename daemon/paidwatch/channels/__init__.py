"""The people's tools: one module per kind of receiver, one way to make a transport of any of them."""

import ssl
from typing import assert_never

import aiohttp

from paidwatch.channels.apprise import Apprise
from paidwatch.channels.discord import Discord
from paidwatch.channels.http import Limits
from paidwatch.channels.mail import Mail
from paidwatch.channels.settings import (
    AppriseSettings,
    DiscordSettings,
    MailSettings,
    Settings,
    SlackSettings,
    WebhookSettings,
)
from paidwatch.channels.slack import Slack
from paidwatch.channels.slack_bot import SlackBot
from paidwatch.channels.webhook import Webhook
from paidwatch.clock import SystemClock
from paidwatch.ports import Clock, Transport


def build(
    name: str,
    settings: Settings,
    *,
    session: aiohttp.ClientSession,
    clock: Clock | None = None,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
) -> Transport:
    """Return the transport for `[channels.NAME]`.

    `session` comes from `http.open_session` and belongs to the caller; `tls` is what e-mail trusts, by default the
    system. Raises ConfigError for settings that can never work.
    """
    clock = clock or SystemClock()
    limits = limits or Limits()
    match settings:
        case SlackSettings():
            way = SlackBot if settings.token.get_secret_value() else Slack
            return way(name, settings, session=session, clock=clock, limits=limits)
        case DiscordSettings():
            return Discord(name, settings, session=session, clock=clock, limits=limits)
        case MailSettings():
            return Mail(name, settings, limits=limits, tls=tls)
        case WebhookSettings():
            return Webhook(name, settings, session=session, clock=clock, limits=limits)
        case AppriseSettings():
            return Apprise(name, settings, limits=limits)
        case _ as unreachable:
            assert_never(unreachable)
