"""What channels prove themselves with: tokens, signing keys, addresses that are credentials. No check repeats one."""

import base64
import re
from typing import Annotated, Final

from pydantic import AfterValidator, SecretStr

from paidwatch.config.values import check_some
from paidwatch.config.wrong import Wrong

NO_SECRET: Final = SecretStr("")

_TOKEN: Final = re.compile(r"xox[a-z0-9.-]+-[\w.-]+", re.ASCII)
_KEY_PREFIX: Final = "whsec_"
_APPRISE_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if text and not _TOKEN.fullmatch(text):
        what = "is not the token of a bot"
        raise Wrong(what, 'a bot\'s token begins with "xoxb-"; see "OAuth & Permissions" of the Slack app')
    return token


def _check_channel(text: str) -> str:
    if not text.isprintable() or any(sign in text for sign in " ,/<>"):
        what = "is not a channel of Slack"
        raise Wrong(what, 'write its id, like "C0123456789", or its name')
    return text


def key_of(secret: SecretStr) -> bytes:
    """Return the bytes of a key in base64, which may follow `whsec_` and lack its padding; empty if it is none."""
    text = secret.get_secret_value().strip().removeprefix(_KEY_PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def _check_key(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value() and not key_of(secret):
        what = "is not a key in base64"
        raise Wrong(what, "make one with `openssl rand -base64 32`; it may follow whsec_")
    return secret


def _check_apprise_url(url: SecretStr) -> SecretStr:
    if not _APPRISE_URL.fullmatch(url.get_secret_value()):
        what = "is not an address for Apprise"
        raise Wrong(what, 'write it like "service://…"; in a variable or credential, addresses with commas as JSON')
    return url


BotToken = Annotated[SecretStr, AfterValidator(_check_token)]
"""A token of Slack, or ""."""
SlackChannel = Annotated[str, AfterValidator(_check_channel)]
"""A channel of Slack, or ""."""
SigningKey = Annotated[SecretStr, AfterValidator(_check_key)]
"""A key in base64, or ""."""
AppriseUrls = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_check_apprise_url)], ...], AfterValidator(check_some)
]
"""At least one address for Apprise."""
