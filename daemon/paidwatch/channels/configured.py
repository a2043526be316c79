"""From a `[channels.NAME]` of the configuration to the settings of a channel."""

from typing import assert_never

from paidwatch.channels.settings import (
    AppriseSettings,
    DiscordSettings,
    MailSettings,
    Settings,
    SlackSettings,
    Tls,
    WebhookSettings,
)
from paidwatch.config.channels import Apprise, Channel, Discord, Email, Slack, Webhook


def settings_of(section: Channel) -> Settings:
    """Return the settings that a section of the configuration stands for."""
    match section:
        case Slack():
            return SlackSettings(
                url=section.url,
                token=section.token,
                channel=section.channel,
                api_url=section.api_url.rstrip("/"),
                pace=section.pace,
            )
        case Discord():
            return DiscordSettings(url=section.url, thread_id=section.thread_id, forum=section.forum, pace=section.pace)
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
            return WebhookSettings(url=section.url, secrets=section.keys, pace=section.pace)
        case Apprise():
            return AppriseSettings(urls=section.urls, pace=section.pace)
        case _ as unreachable:
            assert_never(unreachable)
