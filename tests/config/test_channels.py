"""What each kind of channel takes, and what it refuses before anything is sent."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from paidwatch.channels.configured import settings_of
from paidwatch.channels.settings import AppriseSettings, DiscordSettings, SlackSettings
from paidwatch.channels.webhook import read_key
from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.config.credentials import key_of
from paidwatch.errors import ConfigError

HOOK = 'url = "https://chat.example.org/x"'


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    return load(file, {"database.dsn": "postgresql://x"}, environ=environ or {})


def refused(tmp_path: Path, kind: str, *lines: str) -> tuple[int | None, str, str]:
    """The one problem of a channel: the line counted from its `type`, the key below `channels.it`, the sentence."""
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, "\n".join(["[channels.it]", f'type = "{kind}"', *lines]))
    (problem,) = caught.value.problems
    assert problem.remedy or problem.what.startswith("must be")
    assert problem.origin.line is not None
    return problem.origin.line - 2, problem.key.removeprefix("channels.it").removeprefix("."), problem.what


@pytest.mark.parametrize(
    ("kind", "lines", "found"),
    [
        ("slack", (), (-1, "", "has neither url nor token")),
        ("slack", ('channel = "C1"',), (-1, "", "has neither url nor token")),
        ("slack", ('url = ""', 'token = ""'), (-1, "", "has neither url nor token")),
        ("slack", (HOOK, 'token = "xoxb-1"', 'channel = "C1"'), (2, "token", "and url exclude each other")),
        ("slack", (HOOK, 'token = "xoxb-1"'), (2, "token", "and url exclude each other")),
        ("slack", (HOOK, 'channel = "C1"'), (2, "channel", "and url exclude each other")),
        ("slack", ('token = "xoxb-1"',), (-1, "channel", "is missing beside token")),
        ("slack", ('token = "xoxb-1"', 'channel = ""'), (2, "channel", "is missing beside token")),
        ("slack", ('token = "secret"', 'channel = "C1"'), (1, "token", "is not the token of a bot")),
        ("slack", ('token = "xapp-1-A"', 'channel = "C1"'), (1, "token", "is not the token of a bot")),
        ("slack", ('token = "xoxb-1 2"', 'channel = "C1"'), (1, "token", "is not the token of a bot")),
        ("slack", ('token = "xoxb-1"', 'channel = "a b"'), (2, "channel", "is not a channel of Slack")),
        ("slack", (HOOK, 'api_url = ""'), (2, "api_url", "is not an http or https address")),
        ("slack", ('url = "chat.example.org"',), (1, "url", "is not an http or https address")),
        ("slack", ('url = "https://[::1/x"',), (1, "url", "is not an address")),
        ("discord", (), (-1, "url", "is missing")),
        ("discord", (HOOK, 'thread_id = "7"', "forum = true"), (3, "forum", "and thread_id exclude each other")),
        ("discord", (HOOK, 'thread_id = "abc"'), (2, "thread_id", "is not the id of a thread")),
        ("discord", (HOOK, 'forum = "perhaps"'), (2, "forum", "must be true or false")),
        ("webhook", (HOOK, 'secret = "abcde"'), (2, "secret", "is not a key in base64")),
        ("webhook", (HOOK, 'secret = "whsec_"'), (2, "secret", "is not a key in base64")),
        ("webhook", (HOOK, 'secret = "whsec_not base64!"'), (2, "secret", "is not a key in base64")),
        ("webhook", (HOOK, 'secrets = ["c2Vjb25k",', '"päß"]'), (3, "secrets[1]", "is not a key in base64")),
        ("apprise", (), (-1, "urls", "is missing")),
        ("apprise", ("urls = []",), (1, "urls", "must not be empty")),
        ("apprise", ('urls = "ntfy://x"',), (1, "urls", "must be a list")),
        ("apprise", ('urls = ["ntfy://x",', '"no address"]'), (2, "urls[1]", "is not an address for Apprise")),
        ("apprise", ('urls = ["tgram:/x"]',), (1, "urls[0]", "is not an address for Apprise")),
        ("apprise", ('urls = ["ntfy://a b"]',), (1, "urls[0]", "is not an address for Apprise")),
    ],
)
def test_what_is_refused(tmp_path: Path, kind: str, lines: tuple[str, ...], found: tuple[int | None, str, str]) -> None:
    assert refused(tmp_path, kind, *lines) == found


def test_slack_by_webhook_and_by_bot(tmp_path: Path) -> None:
    text = f"""
[channels.hook]
type = "slack"
{HOOK}
[channels.bot]
type = "slack"
token = "xoxe.xoxb-1-canary"
channel = "#payments"
api_url = "https://slack-gov.com/api/"
"""
    channels = read(tmp_path, text).channels
    hook, bot = settings_of(channels["hook"]), settings_of(channels["bot"])

    assert isinstance(hook, SlackSettings)
    assert isinstance(bot, SlackSettings)
    assert (hook.url.get_secret_value(), hook.token.get_secret_value()) == ("https://chat.example.org/x", "")
    assert (bot.url.get_secret_value(), bot.token.get_secret_value()) == ("", "xoxe.xoxb-1-canary")
    assert (bot.channel, bot.api_url) == ("#payments", "https://slack-gov.com/api")
    assert "canary" not in repr(bot)


def test_a_forum_and_a_thread(tmp_path: Path) -> None:
    text = f"""
[channels.forum]
type = "discord"
{HOOK}
forum = true
[channels.thread]
type = "discord"
{HOOK}
thread_id = "7"
"""
    channels = read(tmp_path, text).channels
    forum, thread = settings_of(channels["forum"]), settings_of(channels["thread"])

    assert isinstance(forum, DiscordSettings)
    assert isinstance(thread, DiscordSettings)
    assert (forum.forum, forum.thread_id, thread.forum, thread.thread_id) == (True, "", False, "7")


def test_credentials_and_variables_reach_the_new_secrets(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "paidwatch_channels.bot.token").write_text("xoxb-canary-1\n")
    (credentials / "channels.other.urls").write_text('["mailto://canary-2?to=a,b", "ntfy://canary-3"]\n')
    (credentials / "alerts.heartbeat_url").write_text("https://beat.example.org/canary-4\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "PAIDWATCH_CHANNELS__BOT__TYPE": "slack",
        "PAIDWATCH_CHANNELS__BOT__CHANNEL": "C1",
        "PAIDWATCH_CHANNELS__OTHER__TYPE": "apprise",
        "PAIDWATCH_CHANNELS__MORE__TYPE": "apprise",
        "PAIDWATCH_CHANNELS__MORE__URLS": "ntfy://canary-5, ntfy://canary-6",
    }
    settings = read(tmp_path, "", environ)
    bot, other, more = (settings_of(settings.channels[name]) for name in ("bot", "other", "more"))

    assert isinstance(bot, SlackSettings)
    assert isinstance(other, AppriseSettings)
    assert isinstance(more, AppriseSettings)
    assert bot.token.get_secret_value() == "xoxb-canary-1"
    assert [url.get_secret_value() for url in other.urls] == ["mailto://canary-2?to=a,b", "ntfy://canary-3"]
    assert [url.get_secret_value() for url in more.urls] == ["ntfy://canary-5", "ntfy://canary-6"]
    assert settings.alerts.heartbeat_url.get_secret_value() == "https://beat.example.org/canary-4"
    assert sum("canary" in secret for secret in settings.secrets()) == 6
    assert "canary" not in f"{settings.shown()} {settings!r} {settings.model_dump_json()} {other!r}"
    assert 'urls = ["********", "********"]  # credential channels.other.urls' in settings.shown().splitlines()


def test_an_apprise_address_cut_at_a_comma_is_refused_with_the_way_out(tmp_path: Path) -> None:
    environ = {"PAIDWATCH_CHANNELS__O__TYPE": "apprise", "PAIDWATCH_CHANNELS__O__URLS": "mailto://x?to=a,b"}
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, "", environ)
    assert [str(it) for it in caught.value.problems] == [
        "environment PAIDWATCH_CHANNELS__O__URLS: channels.o.urls[1] is not an address for Apprise"
    ]
    assert "JSON" in caught.value.remedy


@pytest.mark.parametrize(
    ("lines", "path", "first", "line"),
    [
        (["[channels.ops]", 'type = "slack"', HOOK, "", "[channels.ops]", 'type = "email"'], "channels.ops", 1, 5),
        (['channels.ops.type = "slack"', "[ channels.'ops' ]  # again"], "channels.ops", 1, 2),
        (["[grace]", 'default = "1m"', "[log]", "[grace]"], "grace", 1, 4),
    ],
)
def test_a_name_used_twice_is_told_where_it_stands_both_times(
    tmp_path: Path, lines: list[str], path: str, first: int, line: int
) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, "\n".join(lines))
    (problem,) = caught.value.problems
    assert (problem.key, problem.origin.line) == (path, line)
    assert problem.what == f"stands here a second time, after line {first}"
    assert "another name" in problem.remedy


@pytest.mark.parametrize("text", ["", "whsec_", "YQ==", "YQ", "whsec_YWI", " YWJj\n", "a", "päß", "YWJj!", "-_-_"])
def test_a_key_is_refused_here_if_and_only_if_the_channel_could_not_use_it(text: str) -> None:
    try:
        expected = read_key(SecretStr(text))
    except ConfigError:
        expected = b""
    assert key_of(SecretStr(text)) == expected
