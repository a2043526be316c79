"""Every kind of channel that a configuration may name becomes settings, and the settings a transport."""

from datetime import timedelta
from typing import Any, get_args

import aiohttp
import pytest
from pydantic import TypeAdapter

from paidwatch.channels.configured import settings_of
from paidwatch.channels.settings import Settings
from paidwatch.channels.slack import Slack
from paidwatch.channels.slack_bot import SlackBot
from paidwatch.config.channels import Channel
from tests.channels.conftest import CANARY, KEY, built

ADAPTER: TypeAdapter[Any] = TypeAdapter(Channel)
MAIL: dict[str, object] = {
    "type": "email",
    "host": "mail.example.org",
    "sender": "paidwatch@example.org",
    "recipients": ["ops@example.org"],
}
SECTIONS: list[dict[str, object]] = [
    {"type": "slack", "url": f"https://hooks.example.org/{CANARY}"},
    {"type": "slack", "token": f"xoxb-{CANARY}", "channel": "C0123456789"},
    {"type": "discord", "url": f"https://chat.example.org/{CANARY}", "thread_id": "77"},
    {"type": "discord", "url": f"https://chat.example.org/{CANARY}", "forum": True},
    MAIL | {"username": "watcher", "password": CANARY},
    MAIL | {"tls": "tls", "pace": "3s"},
    {"type": "webhook", "url": "https://hook.example.org/", "secret": KEY, "secrets": [KEY]},
    {"type": "webhook", "url": "https://hook.example.org/"},
    {"type": "apprise", "urls": [f"json://hook.example.org/{CANARY}"]},
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["type"])
async def test_a_section_becomes_a_transport(section: dict[str, object], session: aiohttp.ClientSession) -> None:
    made = settings_of(ADAPTER.validate_python(section))
    if section["type"] == "apprise":
        pytest.importorskip("apprise")
    transport = await built(made, session=session)

    assert transport.name == "ops"
    assert transport.kind == section["type"]
    assert CANARY not in repr(made)


def test_no_kind_of_channel_is_forgotten() -> None:
    kinds = {settings_of(ADAPTER.validate_python(section)).__class__ for section in SECTIONS}

    assert kinds == set(get_args(Settings))


def test_what_the_configuration_says_arrives() -> None:
    bot = settings_of(ADAPTER.validate_python(SECTIONS[1]))
    forum = settings_of(ADAPTER.validate_python(SECTIONS[3]))
    mail = settings_of(ADAPTER.validate_python(SECTIONS[4] | {"pace": "3s"}))
    hook = settings_of(ADAPTER.validate_python(SECTIONS[6]))

    assert (mail.port, mail.tls, mail.username) == (587, "starttls", "watcher")  # type: ignore[union-attr]
    assert mail.password.get_secret_value() == CANARY  # type: ignore[union-attr]
    assert mail.pace == timedelta(seconds=3)
    assert [key.get_secret_value() for key in hook.secrets] == [KEY, KEY]  # type: ignore[union-attr]
    assert bot.token.get_secret_value() == f"xoxb-{CANARY}"  # type: ignore[union-attr]
    assert (bot.channel, bot.api_url) == ("C0123456789", "https://slack.com/api")  # type: ignore[union-attr]
    assert forum.forum is True  # type: ignore[union-attr]


@pytest.mark.parametrize(("place", "kind"), [(0, Slack), (1, SlackBot)])
async def test_a_token_makes_a_bot(place: int, kind: type, session: aiohttp.ClientSession) -> None:
    assert isinstance(await built(settings_of(ADAPTER.validate_python(SECTIONS[place])), session=session), kind)
