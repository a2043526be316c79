"""The application's success page: where customers are sent, and what its script may ask."""

from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, SecretStr, field_validator

from paidwatch.config.credentials import NO_SECRET
from paidwatch.config.section import Section
from paidwatch.config.values import Url, check_no_login, check_url
from paidwatch.config.wrong import Wrong

SHORTEST_KEY: Final = 32
_OURS: Final = frozenset({"session_id", "sig"})


def _check_page(text: str) -> str:
    if not text:
        return text
    check_no_login(text, "every customer")
    taken = sorted(_OURS & {name for name, _value in parse_qsl(urlsplit(text).query, keep_blank_values=True)})
    if taken:
        what = f"contains {' and '.join(taken)} already"
        raise Wrong(what, "leave it out: paidwatch adds it")
    return text


def _check_origin(text: str) -> str:
    if text in {"*", "null"}:
        what = "would let every page of the internet ask"
        raise Wrong(what, "name each origin, like https://shop.example.org")
    parts = urlsplit(check_url(text))
    bare = f"{parts.scheme}://{parts.netloc}"
    if text != bare or "@" in parts.netloc or text != text.lower():
        what = "is not an origin"
        raise Wrong(what, "write it as browsers do: https://shop.example.org, in small letters, without path and slash")
    return text


Page = Annotated[Url, AfterValidator(_check_page)]
Origin = Annotated[str, AfterValidator(_check_origin)]


class SuccessPage(Section):
    """The page of the application to which `/payment/return` sends customers."""

    url: Page = ""
    """Address of the page; paidwatch adds `session_id` to its query. Empty: every return leads to a neutral page."""
    unknown_url: Page = ""
    """Where those are sent of whose payment nothing is known. Empty: a plain page of paidwatch's own."""
    key: SecretStr = NO_SECRET
    """Signs ids that can be guessed, such as row ids and order ids; the application knows it too. At least 32
    characters; empty: such ids are never told about."""
    origins: tuple[Origin, ...] = ()
    """Origins whose scripts may ask for the state; left out, the one of `url`."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < SHORTEST_KEY:
            what = f"is shorter than {SHORTEST_KEY} characters"
            raise Wrong(what, "make one with: openssl rand -hex 32")
        return key

    def allowed(self) -> frozenset[str]:
        """Return the origins whose scripts may ask."""
        if self.origins or not self.url:
            return frozenset(self.origins)
        parts = urlsplit(self.url)
        host = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")
        return frozenset({f"{parts.scheme}://{host}"})
