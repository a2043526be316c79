"""From a `[channels.NAME]` of the configuration to the settings of a channel."""

from typing import assert_never

from paidwatch.channels.settings import (
    DiscordSettings,
    MailSettings,
    Settings,
    SlackSettings,
    Tls,
    WebhookSettings,
)
from paidwatch.config.channels import Channel, Discord, Email, Slack, Webhook


def settings_of(section: Channel) -> Settings:
    """Return the settings that a section of the configuration stands for."""
    match section:
        case Slack():
            return SlackSettings(url=section.url, pace=section.pace)
        case Discord():
            return DiscordSettings(url=section.url, thread_id=section.thread_id, pace=section.pace)
        case Email():
            return MailSettings(
                host=section.host,
                port=section.port,
                sender=section.sender,
                recipients=section.recipients,
                tls=Tls(section.tls),
                username=section.username,
                password=section.password,
                pace=section.pace,
            )
        case Webhook():
            keys = (section.secret, *section.secrets)
            return WebhookSettings(
                url=section.url, secrets=tuple(key for key in keys if key.get_secret_value()), pace=section.pace
            )
        case _ as unreachable:
            assert_never(unreachable)
